"""``BookService``: the books of the markets, whoever keeps them."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, cast
from uuid import UUID

from novadex.book.documents import TOP_LEVELS
from novadex.book.follower import BookFollower
from novadex.book.levels import Row
from novadex.book.orders import in_priority
from novadex.book.projection import ALL, BookProjection
from novadex.book.reader import BookReader
from novadex.book.records import Book, BookOrder, Level
from novadex.book.store import QUERIES, LevelsAt
from novadex.book.units import to_text
from novadex.errors import ConflictError, TimeoutExceededError, ValidationError
from novadex.storage.connection import DatabaseConnection

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from novadex.book.documents import Top
    from novadex.book.reader import WholeBook

__all__ = ["Book", "BookOrder", "BookService", "Level"]

DEPTH_DEFAULT = 10
DEPTH_MAX = 1_000_000
REBUILD_S_MAX = 60.0
OWN_S_MAX = 15.0
LOOK_INTERVAL_S = 0.02


class BookService:
    """Reads books.

    ::

        books = BookService(database)
        book = await books.get_book("BTC/USDT", depth=50)
        best_bid = book.bids[0].price
    """

    def __init__(self, db: DatabaseConnection | None = None) -> None:
        self._db = db or DatabaseConnection.get_instance()
        self._reader = self._db.companion(BookReader)

    async def get_book(self, market: str, depth: int = DEPTH_DEFAULT) -> Book:
        """The best ``depth`` levels of each side, best first; 0: all of them.

        From the cache server while the books are kept there, else from PostgreSQL: then it is put there for others.
        The best 100 levels may be those that the cache server had for another caller, at most 10 ms before.
        A market has the book of its own orders, or, once one was imported, that of another exchange. Raises
        ``NotFoundError`` for an unknown market and ``ValidationError`` for a wrong depth.
        """
        if type(depth) is not int or not 0 <= depth <= DEPTH_MAX:
            raise ValidationError(
                f"depth must be 0 (all) to {DEPTH_MAX}, got {depth!r}.",
                field="depth",
                hint=f"0 is every level; leave it out for the best {DEPTH_DEFAULT} of each side.",
            )
        market_id = await self._reader.market_id(market)
        top = await self._reader.recent_top(market_id)
        if top is not None:
            if 0 < depth <= TOP_LEVELS:
                return _book(market, top, top.bids[:depth], top.asks[:depth])
            if (top.bid_levels, top.ask_levels) == (len(top.bids), len(top.asks)):
                return _book(market, top, top.bids, top.asks)
        whole = await self._reader.published(market_id) if top is not None else None
        found = whole or await self._reader.recorded(market_id)
        bids, asks = found.levels.bids, found.levels.asks
        return _book(market, found, bids.rows(depth or None), asks.rows(depth or None))

    async def get_orders(self, market: str) -> list[BookOrder]:
        """The orders in a market's book: bids then asks, each best price first, those of one price in the order in
        which they are filled. Another exchange's book has none."""
        market_id = await self._reader.market_id(market)
        whole = await self._reader.published(market_id, levels=False, orders=True)
        if whole is not None:
            orders, levels = whole.orders, whole.levels
        else:
            book = await self._reader.recorded_orders(market_id)
            orders, levels = book.orders, book.levels
        return [
            BookOrder(
                UUID(order_id),
                cast("Literal['buy', 'sell']", order.side),
                Decimal(to_text(order.price, levels.price_decimals)),
                Decimal(to_text(order.lots, levels.lot_decimals)),
                order.priority,
            )
            for order_id, order in in_priority(orders.items())
        ]

    async def follow(self, market: str) -> BookFollower:
        """A book that follows the market: a snapshot, then the differences. Close it."""
        return BookFollower(self._db, self._reader, market, await self._reader.market_id(market))

    async def rebuild(self, market: str | None = None) -> dict[str, Any]:
        """Read a book, or all, anew from PostgreSQL into the cache server. The worker does it; where none runs, this
        does it once. Books that an import keeps are left to it. Returns how many, in how many seconds, and by whom.

        Raises ``ConflictError`` for one market where an import is at work."""
        began = time.monotonic()
        shards = self._db.settings.book_shards
        wanted = [await self._reader.market_id(market)] if market else await self._all_ids()
        if market:
            await self._refuse_while_imported(market, wanted[0])
        imported = {market_id for market_id in wanted if await self._reader.imported(market_id)}
        before = {market_id: await self._epoch_of(market_id) for market_id in wanted}
        if market is None:
            # Markets without a published book have none to read anew: no order was ever placed there.
            before = {market_id: epoch for market_id, epoch in before.items() if epoch and market_id not in imported}
        asked = [
            await self._reader.ask_to_rebuild(shard, ALL if market is None else str(wanted[0]))
            for shard in (range(shards) if market is None else [wanted[0] % shards])
        ]
        by = "the worker"
        if all(asked):
            for market_id, epoch in before.items():
                await self._until_other(market_id, epoch)
        else:
            by = "this command: no worker keeps the books, so readers ask PostgreSQL"
            for shard in range(shards):
                await self._once(BookProjection(self._db, shard, shards))
        return {"books": len(before), "seconds": round(time.monotonic() - began, 3), "by": by}

    async def show_own_orders(self, market: str) -> int:
        """Forget the other exchange's book of a market, which then shows its own orders; returns how many snapshots
        went. A worker that keeps the books is waited for until it published the market anew.

        Raises ``ConflictError`` where an import is at work, and ``TimeoutExceededError`` where the worker does not
        get to it; it does so later."""
        market_id = await self._reader.market_id(market)
        await self._refuse_while_imported(market, market_id)
        forgotten = await self._db.main.execute(QUERIES.forget_snapshots, [market_id])
        await self._reader.ask_to_rebuild(market_id % self._db.settings.book_shards, str(market_id))
        deadline = time.monotonic() + OWN_S_MAX
        while await self._is_shown_external(market_id):
            if time.monotonic() > deadline:
                raise TimeoutExceededError(
                    f"The other exchange's book of {market} is forgotten, but the worker still publishes it after"
                    f" {OWN_S_MAX:.0f} s.",
                    hint="It shows the own orders as soon as it can; see its log.",
                    market=market,
                )
            await asyncio.sleep(LOOK_INTERVAL_S)
        return forgotten

    async def _refuse_while_imported(self, market: str, market_id: int) -> None:
        if await self._reader.imported(market_id):
            raise ConflictError(
                f"An import keeps the book of {market}.", hint="Wait for it, or end it.", market=market
            )

    async def _is_shown_external(self, market_id: int) -> bool:
        top = await self._reader.top(market_id)
        whole = await self._reader.published(market_id, levels=False)
        return any(found is not None and found.source == "external" for found in (top, whole))

    async def _once(self, projection: BookProjection) -> None:
        async with aclosing(projection.rounds()) as rounds:
            async for _ in rounds:
                if projection.drained:
                    return

    async def _until_other(self, market_id: int, epoch: str | None) -> None:
        deadline = time.monotonic() + REBUILD_S_MAX
        while await self._epoch_of(market_id) == epoch:
            if time.monotonic() > deadline:
                raise TimeoutExceededError(
                    f"The worker did not read the book anew within {REBUILD_S_MAX:.0f} s.", hint="See its log."
                )
            await asyncio.sleep(LOOK_INTERVAL_S)

    async def _epoch_of(self, market_id: int) -> str | None:
        found = await self._reader.published(market_id, levels=False)
        return found.epoch if found else None

    async def _all_ids(self) -> list[int]:
        return [row.id for row in await self._db.main.query(QUERIES.all_markets, read_only=True)]


def _book(market: str, at: WholeBook | LevelsAt | Top, bids: Sequence[Row], asks: Sequence[Row]) -> Book:
    checksum = at.levels.checksum() if isinstance(at, LevelsAt) else at.checksum
    return Book(market, at.sequence, checksum, _as_levels(bids), _as_levels(asks), at.source)


def _as_levels(rows: Sequence[Row]) -> list[Level]:
    """Of the best levels it is remembered: a book is read more often than it moves."""
    return list(_remembered(tuple(rows)) if len(rows) <= TOP_LEVELS else _made(rows))


def _made(rows: Iterable[Row]) -> Iterable[Level]:
    return (Level(Decimal(price), Decimal(quantity)) for price, quantity in rows)


@lru_cache(maxsize=128)
def _remembered(rows: tuple[Row, ...]) -> tuple[Level, ...]:
    return tuple(_made(rows))
