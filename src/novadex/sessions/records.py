"""What the session service gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from novadex.roles.actor import Actor


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A session as its user sees it in a list of devices."""

    id: UUID
    user_id: UUID
    family_id: UUID
    """The sign-in that it descends from."""
    device: str | None = field(repr=False)
    address: str | None = field(repr=False)
    """Like ``device``, None too where the caller may not see personal data of the user."""
    method: str
    created_at: datetime
    last_used_at: datetime
    """To the minute, about."""
    authenticated_at: datetime
    idle_expires_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session that was just made. This is the only time that its token is seen."""

    token: str = field(repr=False)
    session: SessionRecord


@dataclass(frozen=True, slots=True)
class SessionView:
    """What a valid token stands for."""

    id: UUID
    user_id: UUID
    role: str
    family_id: UUID
    method: str
    authenticated_at: datetime
    expires_at: datetime
    actor: Actor
    """Who acts: hand it to ``acting_as`` of the services."""
