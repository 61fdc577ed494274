"""A cache of usernames by user id, as one process has it, whose loads a test can hold back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import UUID

import psycopg

from novadex.cache.cache import Cache, Caches, Loaded
from novadex.storage.connection import DatabaseConnection
from tests.conftest import DatabasePair

NAME = "SELECT read_mark() AS mark, (SELECT username FROM users WHERE id = $1::text::uuid) AS name"


class CachingProcess:
    """What one process has: a connection, its feed, a cache."""

    def __init__(self, db: DatabaseConnection, **options: Any) -> None:
        self.db = db
        self.caches = db.companion(Caches)
        self.feed = self.caches.feed
        self.cache: Cache[str] = Cache(
            self.caches, "user", load=self._load, decode=lambda document: bytes(document).decode(), **options
        )
        self.counts = self.cache.counts
        self.loads = 0
        self.has_read = asyncio.Event()
        self.may_return = asyncio.Event()
        self.may_return.set()

    async def _load(self, key: str) -> Loaded:
        self.loads += 1
        [row] = await self.db.main.query(NAME, [key])
        self.has_read.set()
        await self.may_return.wait()
        return Loaded(row.name.encode() if row.name is not None else None, row.mark)

    async def read(self, key: str) -> str | None:
        return await self.cache.get(key)

    def forget(self) -> None:
        """As if the process had not read anything yet."""
        self.cache._l1.clear()


class Venue:
    """Users, and processes that read their names."""

    def __init__(self, databases: DatabasePair, cache_url: str, stack: AsyncExitStack) -> None:
        self.databases, self.cache_url, self._stack = databases, cache_url, stack

    async def process(
        self, *, cache: str | None = None, listen: str = "", settings: dict[str, Any] | None = None, **options: Any
    ) -> CachingProcess:
        """A process that has heard all changes until now."""
        url = self.cache_url if cache is None else cache
        db = self.databases.connection(cache=url, **(settings or {}))
        if listen:
            db = DatabaseConnection(
                self.databases.endpoints(cache=url).__class__(
                    self.databases.main_url(),
                    self.databases.analytics_url(),
                    url,
                    "",
                    listen=listen,
                    data_dir=self.databases.data_dir,
                ),
                db.settings,
            )
        await self._stack.enter_async_context(db)
        process = CachingProcess(db, **options)
        await process.feed.confirm()
        return process

    def rename(self, user: str, name: str) -> int:
        """A committed change by a program that tells nobody: it ends between commit and whatever comes after.
        Returns the transaction, for those who tell."""
        with psycopg.connect(self.databases.main_url("owner"), autocommit=True) as connection:
            row = connection.execute(
                "UPDATE users SET username = %s WHERE id = %s RETURNING pg_current_xact_id()::text::bigint",
                (name, UUID(user)),
            ).fetchone()
        assert row is not None
        return row[0]


@asynccontextmanager
async def open_venue(databases: DatabasePair, cache_url: str) -> AsyncIterator[Venue]:
    async with AsyncExitStack() as stack:
        yield Venue(databases, cache_url, stack)
