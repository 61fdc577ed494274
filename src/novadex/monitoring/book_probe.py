"""Looks at the books by their leases in the cache server: a worker keeps them, or readers ask PostgreSQL."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from novadex.book.reader import BookReader
from novadex.errors import TimeoutExceededError

if TYPE_CHECKING:
    from novadex.storage.connection import DatabaseConnection


class BookProbe:
    """Whether every part of the books is kept by somebody who is not behind."""

    def __init__(self, database: DatabaseConnection) -> None:
        self._database = database

    async def look(self, deadline_s: float) -> str | None:
        reader = self._database.companion(BookReader)
        try:
            async with asyncio.timeout(deadline_s):
                leases = [await reader.lease_of(shard) for shard in range(self._database.settings.book_shards)]
        except TimeoutError:
            raise TimeoutExceededError(f"books did not answer within {deadline_s:g} s.") from None
        if None in leases:
            return "No worker keeps the books in the cache server: they are read from PostgreSQL."
        if any(lease and " " in lease for lease in leases):
            return "The books in the cache server are behind: they are read from PostgreSQL."
        return None

    async def close(self) -> None:
        """The connections belong to the program."""
