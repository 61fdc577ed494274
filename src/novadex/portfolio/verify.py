"""Compares everything that is derived of users with what their records say, while the projection goes on.

Users are compared page by page, each page in one snapshot of the database, which has the position that the derived
rows belong to. Sums are compared by the database; trades are read in the order of lots and put in again, 5,000 at a
time: memory holds those, and the open lots of one user in one market.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from novadex.analytics.limits import allow_long_work
from novadex.analytics.position import ProjectionState
from novadex.analytics.verify import Difference, VerifyReport
from novadex.errors import UnavailableError
from novadex.money import plain
from novadex.portfolio.applying import CHUNK_TRADES, lot_trade, standing_of
from novadex.portfolio.lots import Ledger, LotTrade, Standing, amount_of
from novadex.portfolio.projection import NOBODY, PortfolioProjection
from novadex.storage.queries import load_queries

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from novadex.storage.database import Database
    from novadex.storage.rows import Row
    from novadex.storage.session import Session

SQL = load_queries(Path(__file__).with_name("verify.sql"))
PROJECTION = PortfolioProjection.queries
USERS_OF_A_PAGE = 100
OF_NOBODY_MAX = 1_000
TABLES = ("portfolio_holdings", "portfolio_flows", "portfolio_positions", "portfolio_lots", "portfolio_closings")

Found = Callable[[Difference], None]
Values = dict[str, str | None]


async def verify_portfolios(
    main: Database, found: Found, progress: Callable[[int], None] | None = None
) -> VerifyReport:
    """Recompute from the records and compare; ``found`` is called with every difference, ``progress`` with how many
    users are done.

    Raises ``UnavailableError`` where nothing was derived yet, or is about to be derived anew.
    """
    started = time.monotonic()
    verification = Verification(found)
    after, users = NOBODY, 0
    while True:
        async with main.transaction("repeatable read", read_only=True) as session:
            await allow_long_work(session)
            state = await _state(session)
            page = await session.query(PROJECTION.users_behind, [after, USERS_OF_A_PAGE])
            await verification.users(session, [row.id for row in page if row.has_portfolio], state)
            if len(page) < USERS_OF_A_PAGE:
                await verification.nobody(session)
        users += len(page)
        if progress is not None:
            progress(users)
        if len(page) < USERS_OF_A_PAGE:
            break
        after = page[-1].id
    return VerifyReport(verification.compared, verification.differences, state.watermark, time.monotonic() - started)


async def verify_page(
    main: Database, after: UUID, found: Found, *, profits: bool
) -> tuple[dict[str, int], UUID | None]:
    """Compare the sums, or the ``profits``, of the next users behind ``after`` (``NOBODY``: the first ones). Returns
    how many rows were compared, by table, and the last of the users, None where these were all.

    Raises ``UnavailableError`` as ``verify_portfolios`` does.
    """
    verification = Verification(found)
    async with main.transaction("repeatable read", read_only=True) as session:
        await allow_long_work(session)
        state = await _state(session)
        page = await session.query(PROJECTION.users_behind, [after, USERS_OF_A_PAGE])
        users = [row.id for row in page if row.has_portfolio]
        await (verification.profits if profits else verification.sums)(session, users, state)
        if len(page) < USERS_OF_A_PAGE and not profits:
            await verification.nobody(session)
    return verification.compared, page[-1].id if len(page) == USERS_OF_A_PAGE else None


async def _state(session: Session) -> ProjectionState:
    row = await session.one(PROJECTION.state)
    if row is None or row.rebuilt_to is not None:
        raise UnavailableError(
            "Portfolios are about to be derived anew." if row else "The projection of portfolios has not begun.",
            hint="Is the worker running? novadex portfolio rebuild goes on with it.",
        )
    return ProjectionState.of(row)


@dataclass(slots=True)
class Verification:
    """What was compared so far."""

    found: Found
    compared: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TABLES, 0))
    differences: int = 0

    async def users(self, session: Session, users: list[UUID], state: ProjectionState) -> None:
        """Everything of these users."""
        await self.sums(session, users, state)
        await self.profits(session, users, state)

    async def sums(self, session: Session, users: list[UUID], state: ProjectionState) -> None:
        """What they hold and what was moved in each hour."""
        end = [str(state.position.xid), state.position.id]
        (counted,) = await session.query(SQL.counted, [users])
        for table, rows in counted.items():
            self.compared[table] += rows
        for row in await session.query(SQL.sums, [users, *end]):
            key = {
                name: row[name] for name in ("user_id", "hour", "asset", "market", "kind") if row[name] is not None
            }
            self.differs(row.what, key, _amount(row.stored), _amount(row.recomputed))

    async def profits(self, session: Session, users: list[UUID], state: ProjectionState) -> None:
        """Their positions, lots and closings."""
        end = [str(state.position.xid), state.position.id]
        for place in await session.query(SQL.markets_of_users, [users, *end]):
            await MarketComparison(self, session, place, end).run()

    async def nobody(self, session: Session) -> None:
        """What is derived of users who are not there."""
        for row in await session.query(SQL.of_nobody, [OF_NOBODY_MAX]):
            self.differs(row.what, {"user_id": row.user_id}, {"rows": str(row.rows)}, None)

    def differs(self, what: str, key: dict[str, str], stored: Values | None, recomputed: Values | None) -> None:
        self.differences += 1
        if stored is not None and recomputed is not None:
            names = [name for name in recomputed if stored.get(name) != recomputed[name]]
            stored, recomputed = ({name: values.get(name) for name in names} for values in (stored, recomputed))
        self.found(Difference(what, key, stored, recomputed))


class MarketComparison:
    """One user in one market: the trades once more, beside what is stored."""

    def __init__(self, verification: Verification, session: Session, place: Row, end: list[Any]) -> None:
        self._of = verification
        self._session = session
        self._place = [place.user_id, place.market_id]
        self._key = {"user_id": str(place.user_id), "market": place.symbol}
        self._end = end
        self._ledger = Ledger()
        self._made: dict[str, int] = dict.fromkeys(TABLES[2:], 0)

    async def run(self) -> None:
        parameters = [*self._place, *self._end]
        rows = cast("AsyncGenerator[Row]", self._session.stream(SQL.trades, parameters, CHUNK_TRADES))
        chunk: list[LotTrade] = []
        async with aclosing(rows):
            async for row in rows:
                chunk.append(lot_trade(row))
                if len(chunk) >= CHUNK_TRADES:
                    await self._compare(chunk, last=False)
                    chunk.clear()
        await self._compare(chunk, last=True)
        # What is stored and follows from no trade shows in the counts.
        (counts,) = await self._session.query(SQL.counts, self._place)
        for table, made in self._made.items():
            self._of.compared[table] += max(made, counts[table])
            if made != counts[table]:
                self._of.differs(table, self._key, {"rows": str(counts[table])}, {"rows": str(made)})

    async def _compare(self, trades: list[LotTrade], *, last: bool) -> None:
        ledger = self._ledger
        if trades:
            ledger.add_all(trades)
            await self._closings(trades)
        await self._lots([lot.trade_id for lot in ledger.touched.values() if last or not lot.quantity])
        hours = sorted(ledger.hours)
        await self._hours(hours if last else hours[:-1])

    async def _closings(self, trades: list[LotTrade]) -> None:
        made = {(c.trade.id, c.lot_id): _values(c, "quantity", "cost", "proceeds") for c in self._ledger.closings}
        first, final = ((t.executed_at, t.sequence, t.id) for t in (trades[0], trades[-1]))
        rows = await self._session.query(SQL.closings, [*self._place, *_just_before(first), *final])
        stored = {(row.trade_id, row.lot_id): _texts(row, "quantity", "cost", "proceeds") for row in rows}
        self._ledger.closings.clear()
        self._differ("portfolio_closings", ("trade_id", "lot_id"), stored, made)

    async def _lots(self, ids: list[UUID]) -> None:
        if not ids:
            return
        names = ("opened_quantity", "opened_cost", "quantity", "cost")
        lots = [self._ledger.touched.pop(id) for id in ids]
        made = {(lot.trade_id,): {"opened_at": _time(lot.opened_at), **_values(lot, *names)} for lot in lots}
        rows = await self._session.query(SQL.lots, [*self._place, ids])
        stored = {(row.trade_id,): {"opened_at": _time(row.opened_at), **_texts(row, *names)} for row in rows}
        self._differ("portfolio_lots", ("trade_id",), stored, made)

    async def _hours(self, hours: list[datetime]) -> None:
        if not hours:
            return
        made = {(_time(hour),): _standing(self._ledger.hours.pop(hour)) for hour in hours}
        rows = await self._session.query(SQL.positions, [*self._place, hours[0], hours[-1]])
        stored = {(_time(row.hour),): _standing(standing_of(row)) for row in rows}
        self._differ("portfolio_positions", ("hour",), stored, made)

    def _differ(
        self, what: str, names: tuple[str, ...], stored: Mapping[Any, Values], made: Mapping[Any, Values]
    ) -> None:
        self._made[what] += len(made)
        for key, values in made.items():
            if key not in stored:
                self._of.differs(what, self._named(names, key), None, values)
            elif stored[key] != values:
                self._of.differs(what, self._named(names, key), stored[key], values)
        for key, values in stored.items():
            if key not in made:
                self._of.differs(what, self._named(names, key), values, None)

    def _named(self, names: tuple[str, ...], key: Iterable[Any]) -> dict[str, str]:
        return {**self._key, **{name: str(value) for name, value in zip(names, key, strict=True)}}


def _just_before(key: tuple[datetime, int, UUID]) -> tuple[datetime, int, UUID]:
    moment, sequence, id = key
    return moment, sequence, UUID(int=id.int - 1)


def _amount(text: str | None) -> Values | None:
    return None if text is None else {"amount": text}


def _values(item: Any, *names: str) -> Values:
    return {name: plain(amount_of(getattr(item, name))) for name in names}


def _texts(row: Row, *names: str) -> Values:
    return {name: plain(cast("Decimal", row[name])) for name in names}


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()


def _standing(standing: Standing) -> Values:
    moment, sequence, id = standing.last
    return {
        **_values(standing, "quantity", "cost", "realized", "fifo_cost", "fifo_realized"),
        "trades": str(standing.trades),
        "last": f"{_time(moment)} {sequence} {id}",
    }
