"""A book that follows a market: a snapshot, then the differences, each checked. For what streams books to clients."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from novadex.book import metrics
from novadex.book.documents import Difference, MarketKeys, decode_difference
from novadex.book.publisher import SERVER_GONE
from novadex.cache.servers import close_client, open_client

if TYPE_CHECKING:
    from novadex.book.levels import Levels, Row
    from novadex.book.reader import BookReader
    from novadex.storage.connection import DatabaseConnection

BLOCK_MS = 200
COMMAND_S_MAX = 5.0
DIFFERENCES_MAX = 100
"""Read at once."""
CHECK_INTERVAL_S = 0.5
"""How often it is asked whether anybody still publishes the market."""
FALLBACK_INTERVAL_S = 0.25
"""How often PostgreSQL is read while nobody does."""


class BookUpdate(NamedTuple):
    """What changed: a ``snapshot`` is the whole book, a ``difference`` the levels that changed, 0 where one is gone.

    A snapshot comes first, and again whenever differences do not follow what is known.
    """

    kind: Literal["snapshot", "difference"]
    from_sequence: int | None
    sequence: int
    checksum: int
    bids: list[Row]
    asks: list[Row]


class BookFollower:
    """``next`` waits for the next update; ``levels`` is the book after it. Made by ``BookService.follow``."""

    def __init__(self, db: DatabaseConnection, reader: BookReader, market: str, market_id: int) -> None:
        self.market = market
        self.levels: Levels | None = None
        self.sequence: int | None = None
        self.gaps = 0
        """Times that differences did not follow, or did not lead to what the publisher had."""
        self._market_id = market_id
        self._reader = reader
        self._url = db.endpoints.cache
        self._client: Any = None
        self._keys: MarketKeys | None = None
        self._epoch = ""
        self._last = ""
        """Id of the last difference that was read; empty: a snapshot is needed."""
        self._waiting: list[tuple[str, Difference]] = []
        self._checked_at = self._fallback_at = 0.0

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await close_client(client)

    async def next(self, within_s: float | None = None) -> BookUpdate | None:
        """The next update; None where there is none within so many seconds. While nobody publishes the market, its
        book is read from PostgreSQL a few times a second."""
        deadline = None if within_s is None else time.monotonic() + within_s
        while True:
            update = await self._step(deadline)
            if update is not None:
                return update
            if deadline is not None and time.monotonic() >= deadline:
                return None

    async def _step(self, deadline: float | None) -> BookUpdate | None:
        if not self._last:
            return await self._begin(deadline)
        if not self._waiting:
            if time.monotonic() - self._checked_at > CHECK_INTERVAL_S and not await self._is_published():
                self._last = ""
                return None
            self._waiting = await self._read(deadline)
        while self._waiting:
            self._last, difference = self._waiting.pop(0)
            if difference.epoch != self._epoch:
                self._last = ""  # somebody began anew
                return None
            if difference.to_sequence <= (self.sequence or 0) != difference.from_sequence:
                continue  # the snapshot had it already
            if difference.from_sequence != self.sequence or not self._apply(difference):
                self.gaps += 1
                metrics.book_gaps.labels("follower").inc()
                self._last = ""
                return None
            return BookUpdate(
                "difference",
                difference.from_sequence,
                difference.to_sequence,
                difference.checksum,
                difference.bids,
                difference.asks,
            )
        return None

    def _apply(self, difference: Difference) -> bool:
        levels = self.levels
        assert levels is not None  # noqa: S101 - a snapshot came first
        try:
            levels.set_rows(difference.bids, difference.asks)
        except ValueError:
            return False
        self.sequence = difference.to_sequence
        return levels.checksum() == difference.checksum

    async def _begin(self, deadline: float | None) -> BookUpdate | None:
        self._waiting = []
        self._keys = await self._reader.keys(self._market_id)
        found = await self._reader.published(self._market_id)
        if found is not None:
            self._epoch, self._last, self._checked_at = found.epoch, found.last_change, time.monotonic()
            return self._snapshot(found.sequence, found.levels)
        # Nobody publishes it: a look at PostgreSQL now and then.
        if (wait_s := self._fallback_at - time.monotonic()) > 0:
            if deadline is not None and deadline < self._fallback_at:
                await asyncio.sleep(max(0.0, deadline - time.monotonic()))
                return None
            await asyncio.sleep(wait_s)
        self._fallback_at = time.monotonic() + FALLBACK_INTERVAL_S
        recorded = await self._reader.recorded(self._market_id)
        if recorded.sequence == self.sequence:
            return None
        return self._snapshot(recorded.sequence, recorded.levels)

    def _snapshot(self, sequence: int, levels: Levels) -> BookUpdate:
        self.levels, self.sequence = levels, sequence
        return BookUpdate("snapshot", None, sequence, levels.checksum(), levels.bids.rows(), levels.asks.rows())

    async def _is_published(self) -> bool:
        self._checked_at = time.monotonic()
        return self._epoch.partition(".")[0] in await self._reader.leases(self._market_id)

    async def _read(self, deadline: float | None) -> list[tuple[str, Difference]]:
        assert self._keys is not None  # noqa: S101 - set by _begin
        if self._client is None:
            self._client = open_client(self._url, command_s_max=COMMAND_S_MAX, name="novadex-book-follower")
        block_ms = BLOCK_MS
        if deadline is not None:
            block_ms = min(BLOCK_MS, math.ceil((deadline - time.monotonic()) * 1_000))
        try:
            answer = await self._client.xread(
                {self._keys.changes: self._last},
                DIFFERENCES_MAX,
                block_ms if block_ms > 0 else None,  # 0 would wait for ever
            )
        except SERVER_GONE:
            self._last = ""
            return []
        return [
            (change_id.decode(), decode_difference(fields[b"d"]))
            for _, entries in _streams(answer)
            for change_id, fields in entries
        ]


def _streams(answer: Any) -> list[Any]:
    return list(answer.items()) if isinstance(answer, dict) else list(answer or ())
