"""Unread counts, cached in each process and in the cache server; a trigger announces every change at its commit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from novadex.cache.cache import Cache, Caches, Loaded
from novadex.storage.queries import load_queries

if TYPE_CHECKING:
    from novadex.storage.connection import DatabaseConnection

QUERIES = load_queries(Path(__file__).with_name("queries.sql"))
UNREAD_MAX = 1_000
"""Counting ends here: whoever has more has "1000+"."""


class UnreadCounts:
    """``db.companion(UnreadCounts)`` gives the one of a connection."""

    def __init__(self, db: DatabaseConnection) -> None:
        self._db = db
        self._caches = db.companion(Caches)
        self.cache: Cache[int] = Cache(self._caches, "unread", load=self._load, decode=_decode)

    async def of(self, user_id: str) -> int:
        """How many notifications a user has not read, up to ``UNREAD_MAX``."""
        return await self.cache.get(user_id) or 0

    async def heard(self) -> None:
        """After a commit: this process serves nothing older from now on."""
        await self._caches.feed.confirm()

    async def close(self) -> None:
        """Nothing of its own to close."""

    async def _load(self, key: str) -> Loaded:
        [row] = await self._db.main.query(QUERIES.unread, (key, UNREAD_MAX))
        return Loaded(msgspec.msgpack.encode(row.unread), row.mark)


def _decode(document: bytes) -> int:
    return msgspec.msgpack.decode(document, type=int)
