"""``CacheService``: what the cache and session servers hold, taking it out, filling them again."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from novadex.audit.acts import record_act
from novadex.cache.cache import Cache, Caches
from novadex.cache.contents import count_keys, life_of, refuse_without_url, remove_keys
from novadex.cache.servers import CacheServer
from novadex.errors import ConfigurationError, NovaDexError, UnavailableError, ValidationError
from novadex.monitoring.cache_probe import CacheProbe
from novadex.roles.actor import SERVICE, Actor, act_as
from novadex.sessions.store import QUERIES, SessionStore
from novadex.settings import host_of
from novadex.storage.connection import DatabaseConnection
from novadex.users.store import UserStore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from novadex.storage.queries import Query

    Progress = Callable[[str, int, int], None]

LOOK_S_MAX = 5.0
"""How long a server, or the feed of changes, may take to answer."""
READERS = 32
SESSIONS_MAX, USERS_MAX = 100_000, 50_000
RECORDS_MAX = 10_000_000


@dataclass(frozen=True, slots=True)
class ServerStats:
    """What a server holds and says of itself; ``error`` where it could not be asked."""

    server: str
    address: str
    error: dict[str, Any] | None = None
    keys: dict[str, int] | None = None
    """By namespace; ``(others)`` are not of this instance."""
    all_keys_counted: bool = False
    memory_bytes: int = 0
    memory_bytes_max: int | None = None
    hits: int = 0
    misses: int = 0
    evicted_keys: int = 0
    uptime_s: int = 0
    warning: str | None = None


@dataclass(frozen=True, slots=True)
class Refilled:
    """What was read from PostgreSQL, and how much of it the server kept: it may be full, or have newer."""

    read: int
    kept: int
    seconds: float
    per_s: int


@dataclass(frozen=True, slots=True)
class RebuildReport:
    """By what was filled in."""

    sessions: Refilled
    users: Refilled


class CacheService:
    """The cache servers of an instance. Every call needs the permission ``cache.manage``; flushing and rebuilding
    are written to the audit log."""

    def __init__(self, db: DatabaseConnection | None = None, *, actor: Actor = SERVICE) -> None:
        self._db = db or DatabaseConnection.get_instance()
        self._actor = actor

    def acting_as(self, actor: Actor) -> CacheService:
        """This service on behalf of somebody."""
        return CacheService(self._db, actor=actor)

    async def stats(self) -> list[ServerStats]:
        """Keys by namespace, memory, hits and misses of both servers."""
        self._actor.require("cache.manage")
        life = await life_of(self._db)
        return [await self._look(name, url, life) for name, url in self._urls().items()]

    async def flush(self, *, sessions: bool = False) -> dict[str, int]:
        """Take out what this instance keeps in the cache server, with ``sessions`` in the session server too;
        returns how many keys, by server. Nobody is signed out. Raises ``UnavailableError``."""
        self._actor.require("cache.manage")
        urls = {name: url for name, url in self._urls().items() if sessions or name != "sessions"}
        for name, url in urls.items():
            refuse_without_url(name, url)
        await self._record("cache.flushed", {"servers": list(urls)})
        life = await life_of(self._db)
        return {name: await remove_keys(name, url, life) for name, url in urls.items()}

    async def rebuild(
        self,
        *,
        sessions_max: int = SESSIONS_MAX,
        users_max: int = USERS_MAX,
        progress: Progress = lambda _what, _done, _total: None,
    ) -> RebuildReport:
        """Fill the session server and the cache of users from PostgreSQL, those used last first.

        Raises ``ConfigurationError`` where nothing is cached, ``UnavailableError`` where a server does not answer.
        """
        self._actor.require("cache.manage")
        for field, limit in (("sessions_max", sessions_max), ("users_max", users_max)):
            if type(limit) is not int or not 0 <= limit <= RECORDS_MAX:
                raise ValidationError(f"{field} must be 0 to {RECORDS_MAX}, got {limit!r}.", field=field)
        caches = self._db.companion(Caches)
        await _wait_for_the_feed(caches)
        await self._record("cache.rebuilt", {"sessions_max": sessions_max, "users_max": users_max})
        sessions, users = self._db.companion(SessionStore).cache, self._db.companion(UserStore).users
        return RebuildReport(
            await self._fill(caches.servers["sessions"], sessions, QUERIES.recent_keys, sessions_max, progress),
            await self._fill(caches.servers["cache"], users, QUERIES.recent_users, users_max, progress),
        )

    def _urls(self) -> dict[str, str]:
        return {"cache": self._db.endpoints.cache, "sessions": self._db.endpoints.sessions}

    async def _record(self, action: str, detail: Mapping[str, Any]) -> None:
        """Before it is done: what was begun and not finished is in the log too."""
        async with self._db.transaction() as session:
            await act_as(session, self._actor)
            await record_act(session, self._actor, action, "cache", detail)

    async def _look(self, name: str, url: str, life: str) -> ServerStats:
        probe = CacheProbe(name, url)
        try:
            contents = await count_keys(name, url, life)
            warning = await probe.look(LOOK_S_MAX)
        except NovaDexError as error:
            return ServerStats(name, host_of(url), error.as_dict())
        finally:
            await probe.close()
        info = probe.info
        return ServerStats(
            name,
            host_of(url),
            keys=dict(contents.keys.most_common()),
            all_keys_counted=contents.whole,
            memory_bytes=info["used_memory"],
            memory_bytes_max=info.get("maxmemory", 0) or None,
            hits=info["keyspace_hits"],
            misses=info["keyspace_misses"],
            evicted_keys=info["evicted_keys"],
            uptime_s=info["uptime_in_seconds"],
            warning=warning,
        )

    async def _fill(
        self, server: CacheServer, cache: Cache[Any], query: Query, limit: int, progress: Progress
    ) -> Refilled:
        began = time.monotonic()
        keys = [row.key for row in await self._db.main.query(query, (limit,), read_only=True)]
        kept = await _refill(server, cache, keys, progress)
        seconds = time.monotonic() - began
        return Refilled(len(keys), kept, round(seconds, 2), round(len(keys) / seconds))


async def _wait_for_the_feed(caches: Caches) -> None:
    if not caches.feed.possible:
        raise ConfigurationError(
            "Behind a PgBouncer in transaction mode nothing is cached without DATABASE_LISTEN_URL.",
            hint="Set DATABASE_LISTEN_URL to main PostgreSQL without the PgBouncer.",
        )
    deadline = time.monotonic() + LOOK_S_MAX
    while not await caches.feed.confirm():
        if time.monotonic() > deadline:
            raise UnavailableError("Main does not tell of changes.", hint="Is it running? See novadex status.")
        await asyncio.sleep(0.1)


async def _refill(server: CacheServer, cache: Cache[Any], keys: Sequence[str], progress: Progress) -> int:
    """Returns how many the server kept."""
    waiting, done, kept = iter(keys), 0, 0

    async def read() -> None:
        nonlocal done, kept
        for key in waiting:
            stays = await cache.refill(key)  # not in one line with the sum: other readers add to it meanwhile
            kept += stays
            if not server.usable:
                raise UnavailableError(
                    f"The {server.name} server does not answer.", hint="Start it, then give the command again."
                )
            done += 1
            progress(f"Reading into {server.name}", done, len(keys))

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(READERS, len(keys))):
                group.create_task(read())
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return kept
