"""What the API key service gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key by which a program acts for a user; its secret is not in it."""

    id: UUID
    user_id: UUID
    name: str | None
    """What the user calls it; None where the caller may not see personal data of the user."""
    key_start: str
    """The first characters of the key, to tell keys apart."""
    permissions: list[str]
    """What it may do, as far as the role of its user may."""
    allowed_addresses: list[str] | None
    """Networks that it may be used from; an empty list: all. None where the caller may not see them."""
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None
    """To the minute, about."""
    replaced_by: UUID | None
    revoked_at: datetime | None
    revoked_reason: str | None


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A key that was just made. This is the only time that it is seen."""

    key: str = field(repr=False)
    api_key: ApiKey


@dataclass(frozen=True, slots=True)
class ApiKeyPage:
    """A page of keys. ``next`` is the cursor of the page after it, None at the end."""

    items: list[ApiKey]
    next: str | None
