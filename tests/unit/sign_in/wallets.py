"""Wallets that sign as real ones do, by other libraries than the code under test: eth-account and cryptography."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from typing import Protocol

import base58
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from novadex.sign_in.message import Chain

# eth-account imports py-ecc, which raises the limit of recursion for the whole process to 100,000: nested JSON would
# then overflow the stack and end the interpreter, instead of raising.
LIMIT = sys.getrecursionlimit()
from eth_account import Account  # noqa: E402
from eth_account.messages import encode_defunct  # noqa: E402

sys.setrecursionlimit(LIMIT)

__all__ = ["Account", "EthereumWallet", "SolanaWallet", "Wallet", "encode_defunct", "wallet"]


class Wallet(Protocol):
    @property
    def chain(self) -> Chain: ...
    @property
    def address(self) -> str: ...
    def sign(self, text: str) -> str: ...


@dataclass(frozen=True, slots=True)
class EthereumWallet:
    key: bytes
    chain: Chain = "evm"

    @property
    def address(self) -> str:
        return Account.from_key(self.key).address

    def sign(self, text: str) -> str:
        return "0x" + Account.sign_message(encode_defunct(text=text), self.key).signature.hex().removeprefix("0x")


@dataclass(frozen=True, slots=True)
class SolanaWallet:
    key: bytes
    chain: Chain = "solana"

    @property
    def _private(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.key)

    @property
    def address(self) -> str:
        raw = self._private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return base58.b58encode(raw).decode()

    def sign_raw(self, text: str) -> bytes:
        return self._private.sign(text.encode())

    def sign(self, text: str) -> str:
        return base58.b58encode(self.sign_raw(text)).decode()


def wallet(chain: Chain, name: str = "alice") -> EthereumWallet | SolanaWallet:
    """The wallet of this name; the same name always has the same keys."""
    key = hashlib.sha256(name.encode()).digest()
    return EthereumWallet(key) if chain == "evm" else SolanaWallet(key)
