"""The text that a wallet signs: EIP-4361 for Ethereum, and Sign In With Solana, which has the same form."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

Chain = Literal["evm", "solana"]
CHAINS: tuple[Chain, ...] = ("evm", "solana")
ACCOUNT_OF: dict[Chain, str] = {"evm": "Ethereum", "solana": "Solana"}
"""What the first line calls the account."""
METHOD_OF: dict[Chain, Literal["ethereum", "solana"]] = {"evm": "ethereum", "solana": "solana"}
"""How a session that began with such a signature names it."""
VERSION = "1"


@dataclass(frozen=True, slots=True)
class SignInMessage:
    """The fields of a message, as they stand in its text. Times stay text, so that rendering a message that
    was read gives the same bytes again; ``issued``, ``expires`` and ``begins`` are the moments."""

    chain: Chain
    domain: str
    address: str
    uri: str
    chain_id: str
    nonce: str
    issued_at: str
    expiration_time: str | None = None
    not_before: str | None = None
    statement: str | None = None
    request_id: str | None = None
    resources: tuple[str, ...] | None = None
    """None where the message has no list of resources; an empty list can be written too."""
    scheme: str | None = None
    """Before the domain, as EIP-4361 allows: ``https`` of ``https://novadex.example wants you to ...``."""

    def render(self) -> str:
        """The text to sign."""
        origin = f"{self.scheme}://{self.domain}" if self.scheme is not None else self.domain
        lines = [f"{origin} wants you to sign in with your {ACCOUNT_OF[self.chain]} account:", self.address, ""]
        if self.statement is not None:
            lines += [self.statement, ""]
        elif self.chain == "evm":
            lines.append("")  # EIP-4361 keeps the place of the statement, Solana's form does not
        lines += [
            f"URI: {self.uri}",
            f"Version: {VERSION}",
            f"Chain ID: {self.chain_id}",
            f"Nonce: {self.nonce}",
            f"Issued At: {self.issued_at}",
        ]
        if self.expiration_time is not None:
            lines.append(f"Expiration Time: {self.expiration_time}")
        if self.not_before is not None:
            lines.append(f"Not Before: {self.not_before}")
        if self.request_id is not None:
            lines.append(f"Request ID: {self.request_id}")
        if self.resources is not None:
            lines.append("Resources:")
            lines += [f"- {resource}" for resource in self.resources]
        return "\n".join(lines)

    @property
    def issued(self) -> datetime:
        return moment_of(self.issued_at)

    @property
    def expires(self) -> datetime | None:
        return None if self.expiration_time is None else moment_of(self.expiration_time)

    @property
    def begins(self) -> datetime | None:
        return None if self.not_before is None else moment_of(self.not_before)


def moment_of(text: str) -> datetime:
    """The moment of an RFC 3339 time that ``parsing`` accepted."""
    return datetime.fromisoformat(text)


def text_of(moment: datetime) -> str:
    """A moment as the messages that we make write it: UTC, to the millisecond.

    >>> text_of(datetime(2024, 8, 8, 23, 54, 15, 342999, tzinfo=UTC))
    '2024-08-08T23:54:15.342Z'
    """
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
