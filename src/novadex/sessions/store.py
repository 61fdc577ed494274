"""Where sessions are looked up: this process, the session server, PostgreSQL; and where their use is noted."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from novadex.cache.cache import Cache, Caches, Loaded, single
from novadex.roles.last_use import LastUse
from novadex.storage.queries import load_queries

if TYPE_CHECKING:
    from novadex.sessions.records import SessionView
    from novadex.storage.connection import DatabaseConnection

ROTATED = "rotated"
TTL_S = 300.0
TOUCH_INTERVAL_S_MAX = 60.0
"""The use of a session is noted this often, at most; more often where the idle lifetime is short."""
TOUCH_SHARE = 0.1
ASK_AGAIN_S = 1.0
"""Whoever shows a token that expired, again and again, must not make a query each time."""

QUERIES = load_queries(Path(__file__).with_name("queries.sql"))


class CachedSession(msgspec.Struct):
    """A session as caches keep it, and what this process adds."""

    id: UUID
    user_id: UUID
    family_id: UUID
    method: str
    authenticated_at: datetime
    idle_expires_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    revoked_reason: str | None
    must_renew: bool
    role: str
    status: str
    good_until: float = 0.0
    """Seconds since 1970 until which it is valid if nothing changes; 0 where it is not."""
    touch_at: float = 0.0
    """When its use is to be noted again."""
    ask_again_at: float = 0.0
    """When PostgreSQL is asked again whether it was used elsewhere, where it seems to have expired."""
    view: SessionView | None = None
    rights: object | None = None
    """The permissions of all roles that the view was made of."""


class _Stored(msgspec.Struct):
    """The fields that travel."""

    id: UUID
    user_id: UUID
    family_id: UUID
    method: str
    authenticated_at: datetime
    idle_expires_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    revoked_reason: str | None
    must_renew: bool
    role: str
    status: str


_STORED = msgspec.msgpack.Decoder(_Stored)


class SessionStore:
    """``db.companion(SessionStore)`` gives the one of a connection."""

    def __init__(self, db: DatabaseConnection) -> None:
        self._db = db
        self._idle_s = db.settings.session_idle_s
        self._touch_interval_s = min(TOUCH_INTERVAL_S_MAX, self._idle_s * TOUCH_SHARE)
        self._last_use = LastUse(
            "sessions", lambda ids, moments: db.main.execute(QUERIES.touch, (ids, moments, self._idle_s))
        )
        self.cache: Cache[CachedSession] = Cache(
            db.companion(Caches),
            "session",
            load=self._load,
            decode=self._decode,
            server="sessions",
            ttl_s=TTL_S,
            negative_ttl_s=0,  # guesses must not fill the session server
        )

    def touch(self, session: CachedSession, now: float) -> None:
        """Note that a session was used; it is written soon, with others."""
        session.touch_at = now + self._touch_interval_s
        session.good_until = min(now + self._idle_s, session.expires_at.timestamp())
        self._last_use.note(session.id, now)

    async def close(self) -> None:
        """Write what was noted."""
        await self._last_use.close()

    async def _load(self, key: str) -> Loaded:
        return single(await self._db.main.query(QUERIES.session_by_key, (key,), read_only=True))

    def _decode(self, document: bytes) -> CachedSession:
        session = CachedSession(*msgspec.structs.astuple(_STORED.decode(document)))
        idle_until = session.idle_expires_at.timestamp()
        if session.revoked_at is None and not session.must_renew and session.status == "active":
            session.good_until = min(idle_until, session.expires_at.timestamp())
        session.touch_at = idle_until - self._idle_s + self._touch_interval_s  # after its last use that was written
        return session
