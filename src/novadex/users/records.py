"""What the user service gives back."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

Kind = Literal["person", "program", "system"]
Status = Literal["active", "deactivated", "erased"]
Chain = Literal["evm", "solana"]


@dataclass(frozen=True, slots=True)
class Wallet:
    """An address of a user."""

    id: UUID
    chain: str
    address: str
    is_primary: bool


@dataclass(frozen=True, slots=True)
class User:
    """A user. Personal data is None where it is not there, and where the caller may not see it. It is shared with
    other callers: its mappings refuse changes, so copy them."""

    id: UUID
    kind: Kind
    username: str | None
    email: str | None = field(repr=False)
    role: str
    status: Status
    preferences: dict[str, Any] = field(repr=False)
    personal: dict[str, str] | None = field(repr=False)
    """What the user told of themselves, such as ``full_name``; stored encrypted."""
    wallets: tuple[Wallet, ...]
    """The primary one first."""
    version: int
    """Raised by every change."""
    created_at: datetime
    updated_at: datetime

    @property
    def wallet_address(self) -> str | None:
        """The address of the primary wallet."""
        return self.wallets[0].address if self.wallets else None

    def has_personal(self) -> bool:
        """Whether there is anything in it that ``without_personal`` takes out."""
        return self.email is not None or self.personal is not None or bool(self.preferences)

    def without_personal(self) -> User:
        """As staff sees it that may not see personal data."""
        return replace(self, email=None, personal=None, preferences={})


@dataclass(frozen=True, slots=True)
class UserPage:
    """A page of users. ``next`` is the cursor of the page after it, None at the end."""

    items: list[User]
    next: str | None
