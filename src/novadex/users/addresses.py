"""Wallet addresses in the one form in which they are stored and compared.

====== ============================================================================================
evm    ``0x`` and 40 hex digits: Ethereum and its family. Stored with the capitals of EIP-55; one that
       mixes capitals must have exactly these; all small or all capital letters carry no checksum.
solana Base58 of 32 bytes. Stored as it is: there is one text for each key.
====== ============================================================================================
"""

from __future__ import annotations

import re

from novadex.errors import ValidationError

CHAINS = ("evm", "solana")
_EVM = re.compile(r"0x[0-9a-fA-F]{40}")
_SOLANA = re.compile(r"[1-9A-HJ-NP-Za-km-z]{32,44}")
_KEY_BYTES = 32


def chain_of(address: object) -> str:
    """The chain that an address is written like.

    >>> chain_of("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"), chain_of("11111111111111111111111111111111")
    ('evm', 'solana')
    """
    if isinstance(address, str):
        if address[:2] in ("0x", "0X"):
            return "evm"
        if _SOLANA.fullmatch(address):
            return "solana"
    raise ValidationError(
        f"wallet_address is of no chain that is known: {_shown(address)}.",
        field="wallet_address",
        hint="Write an Ethereum address (0x and 40 hex digits) or a Solana address (base58 of 32 bytes).",
    )


def normalise(chain: str, address: object) -> str:
    """The address as it is stored. Raises ``ValidationError``.

    >>> normalise("evm", "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed")
    '0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed'
    """
    if chain == "evm":
        return _evm(address)
    if chain == "solana":
        return _solana(address)
    raise ValidationError(
        f"There is no chain {str(chain)[:40]!r}.", field="chain", hint=f"Name one of: {', '.join(CHAINS)}."
    )


def _evm(address: object) -> str:
    """EIP-55: https://eips.ethereum.org/EIPS/eip-55."""
    if not isinstance(address, str) or not _EVM.fullmatch(address):
        raise ValidationError(
            f"wallet_address is no Ethereum address: {_shown(address)}.",
            field="wallet_address",
            hint="It is 0x and 40 hex digits.",
        )
    digits = address[2:]
    hashed = keccak_256(digits.lower().encode()).hex()
    checksummed = "0x" + "".join(
        digit.upper() if nibble >= "8" else digit for digit, nibble in zip(digits.lower(), hashed, strict=False)
    )
    if digits not in (digits.lower(), digits.upper()) and address != checksummed:
        raise ValidationError(
            f"wallet_address {address} has a wrong checksum: a digit is wrong.",
            field="wallet_address",
            hint="Copy it again. All in small letters it is taken without a checksum.",
        )
    return checksummed


def keccak_256(data: bytes) -> bytes:
    """The hash of Ethereum, which is not SHA3-256."""
    from Crypto.Hash import keccak

    return keccak.new(digest_bits=256, data=data).digest()


def _solana(address: object) -> str:
    import base58

    decoded = b""
    if isinstance(address, str) and _SOLANA.fullmatch(address):
        decoded = base58.b58decode(address)
    if len(decoded) != _KEY_BYTES or base58.b58encode(decoded).decode() != address:
        raise ValidationError(
            f"wallet_address is no Solana address: {_shown(address)}.",
            field="wallet_address",
            hint="It is base58 of 32 bytes.",
        )
    return str(address)


def _shown(address: object) -> str:
    return repr(address)[:100] if isinstance(address, str) else type(address).__name__
