"""Both ways of signing, in each form that is accepted."""

from __future__ import annotations

import base64
from hashlib import sha512

import base58
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from novadex.errors import NotAuthenticatedError
from novadex.sign_in.message import CHAINS, Chain
from novadex.sign_in.signatures import check_signature
from novadex.users.addresses import keccak_256
from tests.unit.sign_in.wallets import SolanaWallet, wallet

TEXT = "a text"


def test_keccak_is_that_of_ethereum():
    """The hash of nothing, as the yellow paper gives it (appendix on empty code)."""
    assert keccak_256(b"").hex() == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"


@pytest.mark.parametrize("offset", [0, 27])
def test_the_last_byte_can_be_written_in_two_ways(offset: int):
    signature = bytes.fromhex(wallet("evm").sign(TEXT)[2:])
    written = "0x" + (signature[:64] + bytes([signature[64] - 27 + offset])).hex()
    check_signature("evm", wallet("evm").address, TEXT, written)
    check_signature("evm", wallet("evm").address, TEXT, "0x" + written[2:].upper())


def test_a_signature_of_solana_can_be_written_in_two_ways():
    holder = wallet("solana")
    assert isinstance(holder, SolanaWallet)
    raw = holder.sign_raw(TEXT)
    check_signature("solana", holder.address, TEXT, base58.b58encode(raw).decode())
    check_signature("solana", holder.address, TEXT, base64.b64encode(raw).decode())


@pytest.mark.parametrize("point", ["01" + "00" * 31, "00" * 32, "ec" + "ff" * 30 + "7f", "00" * 31 + "80"])
def test_a_key_of_small_order_signs_nothing(point: str):
    """R and the key of small order, s = 0: for such keys this passes for any text where nobody looks."""
    address = base58.b58encode(bytes.fromhex(point)).decode()
    for number in range(16):
        with pytest.raises(NotAuthenticatedError):
            check_signature(
                "solana", address, f"text {number}", base58.b58encode(bytes.fromhex(point) + bytes(32)).decode()
            )


def test_a_key_that_is_no_point_signs_nothing():
    address = base58.b58encode(b"\x02" + bytes(30) + b"\x01").decode()
    with pytest.raises(NotAuthenticatedError):
        check_signature("solana", address, TEXT, base58.b58encode(sha512(b"").digest()).decode())


@pytest.mark.parametrize("chain", CHAINS)
@given(text=st.text(max_size=300), other=st.text(max_size=300))
@settings(max_examples=60, deadline=None)
def test_a_signature_is_good_for_its_text_only(chain: Chain, text: str, other: str):
    signature = wallet(chain).sign(text)
    check_signature(chain, wallet(chain).address, text, signature)
    if other != text:
        with pytest.raises(NotAuthenticatedError):
            check_signature(chain, wallet(chain).address, other, signature)
    with pytest.raises(NotAuthenticatedError):
        check_signature(chain, wallet(chain, "bob").address, text, signature)
