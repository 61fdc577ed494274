"""Checks of what is derived from the records: figures of analytics, portfolios and books. What is wrong there is made
anew."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any
from uuid import UUID

from novadex.analytics.rebuild import rebuild_trades
from novadex.analytics.verify import RECORDS, Difference, Span, verify_trades
from novadex.book.orders import OrderBook, RestingOrder
from novadex.book.reader import BookReader
from novadex.book.service import BookService
from novadex.book.store import QUERIES as BOOKS
from novadex.book.store import read_news, read_orders
from novadex.book.units import to_text
from novadex.errors import UnavailableError
from novadex.ids import EPOCH, milliseconds_of, time_of
from novadex.money import PRICE_DECIMALS_MAX
from novadex.portfolio.projection import NOBODY, PortfolioProjection
from novadex.portfolio.verify import verify_page
from novadex.reconciliation.records import Finding, Slice, differing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from novadex.book.levels import Levels
    from novadex.book.orders import OrderChange
    from novadex.book.reader import BookLook, WholeBook
    from novadex.storage.connection import DatabaseConnection
    from novadex.storage.rows import Row

EVENTS_BEHIND_MAX = 20_000
"""A book that is farther behind is not compared now; its lag is another metric."""
DAY = timedelta(days=1)


class CandleCheck:
    """Facts, candles and the figures of users, day by day, as far as the projection has read."""

    name = "candles"
    invariant = "Facts, candles and figures in analytics equal their recompute from the executions."

    def __init__(self, db: DatabaseConnection) -> None:
        self._db = db

    async def slice(self, after: Any, found: Callable[[Finding], None]) -> Slice:
        start: datetime | None = after
        # Where no records are there should be nothing else: it belongs to the day before, or to the first one.
        day = start or await self._day_with_records(EPOCH)
        end = None if day is None else await self._day_with_records(day + DAY)
        report = await verify_trades(
            self._db.main,
            self._db.analytics,
            lambda difference: found(finding_of(self.name, difference)),
            span=Span(start, end),
        )
        return Slice(sum(report.compared.values()), end)

    async def _day_with_records(self, start: datetime) -> datetime | None:
        """The first day from this one on in which anything was executed."""
        id = await self._db.main.value(RECORDS.first_from, [UUID(int=milliseconds_of(start) << 80)], read_only=True)
        return _day_of(time_of(id)) if id is not None else None

    async def repair(self, findings: list[Finding]) -> bool:
        del findings
        await rebuild_trades(self._db.main, self._db.analytics, self._db.settings)
        return True


def finding_of(name: str, difference: Difference) -> Finding:
    """A difference of a verification."""
    return Finding(name, difference.what, difference.key, difference.stored, difference.recomputed)


def _day_of(moment: datetime) -> datetime:
    return datetime(moment.year, moment.month, moment.day, tzinfo=UTC)


class PortfolioCheck:
    """What users hold, or what they earned, a hundred users in each part, as far as the projection has read."""

    def __init__(self, db: DatabaseConnection, *, profits: bool) -> None:
        self._db = db
        self._profits = profits
        self.name = "pnl" if profits else "holdings"
        self.invariant = (
            "Positions, lots and profits, which follow trade by trade, equal those derived from all trades at once."
            if profits
            else "Holdings, in all and of each hour, are the sums of executions, transfers and pools."
        )

    async def slice(self, after: Any, found: Callable[[Finding], None]) -> Slice:
        compared, last = await verify_page(
            self._db.main,
            after or NOBODY,
            lambda difference: found(finding_of(self.name, difference)),
            profits=self._profits,
        )
        return Slice(sum(compared.values()), last)

    async def repair(self, findings: list[Finding]) -> bool:
        del findings
        await PortfolioProjection(self._db.main, self._db.settings).rebuild_whole()
        return True


class BookCheck:
    """The book of one market after the other. What is published is brought up to the events that came since, and
    compared with the orders then, so that it makes no difference how much traffic there is."""

    name = "book"
    invariant = "What is published of a market's book is its live orders: each of them, each level, the best levels."

    def __init__(self, db: DatabaseConnection) -> None:
        self._db = db
        self._reader = db.companion(BookReader)

    async def slice(self, after: Any, found: Callable[[Finding], None]) -> Slice:
        if not self._db.endpoints.cache:
            raise UnavailableError("There is no cache server.", hint="Set REDIS_URL.")
        markets = await self._db.main.query(BOOKS.next_market, [after or 0], read_only=True)
        if not markets:
            return Slice(0)
        (market,) = markets
        look = await self._reader.look(market.id)
        if look is None:
            raise UnavailableError("The cache server does not answer.", hint="Is it running? See novadex status.")
        # What nobody publishes nobody is given: readers ask PostgreSQL.
        return await self._compare(market, look, found) if look.believed else Slice(0, market.id)

    async def repair(self, findings: list[Finding]) -> bool:
        books = BookService(self._db)
        for symbol in sorted({finding.key["market"] for finding in findings}):
            await books.rebuild(symbol)
        return True

    async def _compare(self, market: Row, look: BookLook, found: Callable[[Finding], None]) -> Slice:
        def differs(what: str, key: dict[str, str], stored: Any, expected: Any) -> None:
            if stored is not None and expected is not None:
                stored, expected = differing(stored, expected)
            found(Finding(self.name, what, {"market": market.symbol, **key}, stored, expected))

        book = look.book
        if book is None or not look.whole:
            stored = {"whole": False}
            differs("book", {}, stored, {"whole": True})
        if book is None or book.source != "orders":
            return Slice(0, market.id)
        self._levels(book, look, differs)
        async with self._db.main.transaction("repeatable read", read_only=True) as session:
            now = await session.one(BOOKS.market, [market.id])
            if now is None or now.external:
                return Slice(0, market.id)
            if book.sequence > now.sequence:
                differs("book", {}, {"sequence": book.sequence}, {"sequence": now.sequence})
                return Slice(0, market.id)
            if now.sequence - book.sequence > EVENTS_BEHIND_MAX:
                behind = f"The book of {market.symbol} is {now.sequence - book.sequence:,} events behind."
                return Slice(0, market.id, behind)
            _, news = await read_news(session, {market.id: book.sequence}, EVENTS_BEHIND_MAX)
            truth = _texts(await read_orders(session, now))
        published = _texts(_brought_up(book, chain.from_iterable(news)))
        for id in sorted(published.keys() | truth.keys()):
            if published.get(id) != truth.get(id):
                differs("book orders", {"order_id": id}, published.get(id), truth.get(id))
        return Slice(len(truth) + len(book.levels.bids) + len(book.levels.asks), market.id)

    @staticmethod
    def _levels(book: WholeBook, look: BookLook, differs: Callable[..., None]) -> None:
        """The levels are the sums of the published orders, and the best of them are shown."""
        sums = _fine_book(book).levels
        for side, stored, expected in (
            ("buy", book.levels.bids.rows(), sums.bids.rows()),
            ("sell", book.levels.asks.rows(), sums.asks.rows()),
        ):
            stored_at, expected_at = dict(stored), dict(expected)
            for price in sorted(stored_at.keys() | expected_at.keys()):
                if stored_at.get(price) != expected_at.get(price):
                    values = [{"quantity": at[price]} if price in at else None for at in (stored_at, expected_at)]
                    differs("book levels", {"side": side, "price": price}, *values)
        top = look.top
        if top is None or (top.epoch, top.sequence) != (book.epoch, book.sequence):
            return  # it is of another moment than the rest
        stored_top = _top(top.bids, top.asks, top.checksum)
        expected_top = _top(sums.bids.rows(len(top.bids) or 1), sums.asks.rows(len(top.asks) or 1), sums.checksum())
        if stored_top != expected_top:
            differs("book top", {}, stored_top, expected_top)


def _top(bids: Iterable[Any], asks: Iterable[Any], checksum: int) -> dict[str, Any]:
    return {"bids": [tuple(row) for row in bids], "asks": [tuple(row) for row in asks], "checksum": checksum}


def _fine_book(book: WholeBook) -> OrderBook:
    """The published orders, with prices in the finest units there can be."""
    factor = 10 ** (PRICE_DECIMALS_MAX - book.levels.price_decimals)
    fine = OrderBook(book.sequence, PRICE_DECIMALS_MAX, book.levels.lot_decimals)
    for id, order in book.orders.items():
        if order.lots > 0:
            fine.put(id, RestingOrder(order.side, order.price * factor, order.lots, order.priority))
    return fine


def _brought_up(book: WholeBook, events: Iterable[OrderChange]) -> OrderBook:
    """The published book after the events that came since."""
    fine = _fine_book(book)
    for event in events:
        fine.apply(event)
    return fine


def _texts(book: OrderBook) -> dict[str, dict[str, Any]]:
    levels: Levels = book.levels
    return {
        id: {
            "side": order.side,
            "price": to_text(order.price, levels.price_decimals),
            "quantity": to_text(order.lots, levels.lot_decimals),
            "priority": order.priority,
        }
        for id, order in book.orders.items()
    }
