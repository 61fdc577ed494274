"""Addresses in their normal form: the vectors of EIP-55, and keys of Solana."""

from __future__ import annotations

import base58
import pytest
from hypothesis import given
from hypothesis import strategies as st

from novadex.errors import ValidationError
from novadex.users.addresses import chain_of, normalise
from tests.payloads import PAYLOADS

# https://eips.ethereum.org/EIPS/eip-55, "Test Cases"
EIP_55 = (
    "0x52908400098527886E0F7030069857D2E4169EE7",
    "0x8617E340B3D01FA5F11F306F4090FD50E238070D",
    "0xde709f2102306220921060314715629080e2fb77",
    "0x27b1fdb04752bbc536007a920d24acb045561c26",
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
    "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
    "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
)
MIXED = EIP_55[4:]
SOLANA = (
    "11111111111111111111111111111111",
    "So11111111111111111111111111111111111111112",
    "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA",
    "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v",
)


@pytest.mark.parametrize("address", EIP_55)
def test_ethereum_addresses_are_stored_with_the_checksum(address: str):
    assert chain_of(address) == "evm"
    for written in (address, address.lower(), "0x" + address[2:].upper()):
        assert normalise("evm", written) == address


@pytest.mark.parametrize("address", MIXED)
def test_each_letter_of_a_mixed_address_counts(address: str):
    for place, letter in enumerate(address[2:], 2):
        wrong = address[:place] + letter.swapcase() + address[place + 1 :]
        if wrong != address:
            with pytest.raises(ValidationError, match="wrong checksum") as refused:
                normalise("evm", wrong)
            assert refused.value.field == "wallet_address"


@given(st.binary(min_size=20, max_size=20))
def test_the_normal_form_is_its_own(key: bytes):
    address = normalise("evm", "0x" + key.hex())
    assert address.lower() == "0x" + key.hex()
    assert normalise("evm", address) == address


@pytest.mark.parametrize("address", SOLANA)
def test_solana_addresses_stay_as_they_are(address: str):
    assert chain_of(address) == "solana"
    assert normalise("solana", address) == address


@given(st.binary(min_size=32, max_size=32))
def test_every_key_of_32_bytes_is_a_solana_address(key: bytes):
    address = base58.b58encode(key).decode()
    assert normalise(chain_of(address), address) == address


@given(st.binary(min_size=22, max_size=34).filter(lambda key: len(key) != 32))
def test_no_other_length_is(key: bytes):
    with pytest.raises(ValidationError):
        normalise("solana", base58.b58encode(key).decode())


def test_another_spelling_of_the_same_key_is_refused():
    # One more leading zero byte, and a key one byte shorter: the same number.
    with pytest.raises(ValidationError):
        normalise("solana", "1" + base58.b58encode(b"\x01" * 32).decode())


REFUSED = [
    *PAYLOADS,
    "",
    "0x",
    "0x" + "0" * 39,
    "0x" + "0" * 41,
    "0X" + "0" * 40,
    "0" * 40,
    " 0x" + "0" * 40,
    "0x" + "0" * 40 + "\n",
    "0x" + "0" * 39 + "g",
    "0x" + "\uff11" * 40,  # digits, but not of ASCII
    "0x" + "\u0661" * 40,
    SOLANA[2] + "\n",
    SOLANA[2].replace("T", "0", 1),  # 0 O I l are not in the alphabet
    SOLANA[2].replace("T", "O", 1),
    SOLANA[2] + "1" * 10,
    "1" * 31,
    "1" * 33,
    "z" * 44,  # above 2^256
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed.eth",
    "vitalik.eth",
    None,
    0,
    10**5000,
    1.5,
    True,
    b"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    ["0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"],
    {},
]


@pytest.mark.parametrize("address", REFUSED, ids=lambda value: ascii(value)[:40] if isinstance(value, str) else "")
def test_what_is_no_address_is_refused_with_the_field(address: object):
    with pytest.raises(ValidationError) as refused:
        normalise(chain_of(address), address)
    assert refused.value.field == "wallet_address"
    assert len(str(refused.value)) < 400
    str(refused.value).encode()
    for chain in ("evm", "solana"):
        with pytest.raises(ValidationError):
            normalise(chain, address)


@pytest.mark.parametrize("chain", ["bitcoin", "EVM", "evm:1", "", "evm\x00", "' or 1=1--"])
def test_an_unknown_chain_is_refused(chain: str):
    with pytest.raises(ValidationError) as refused:
        normalise(chain, EIP_55[0])
    assert refused.value.field == "chain"
