"""``PortfolioService``: what users hold, what it cost and what it earned."""

from __future__ import annotations

import copy
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from novadex.audit.acts import record_look
from novadex.errors import ConflictError, NotFoundError, ValidationError
from novadex.ids import EPOCH, parse_id
from novadex.money import EXACT, PRICE_DECIMALS_MAX, parse_amount, plain, trimmed
from novadex.portfolio.access import SNAPSHOT_ANY, SNAPSHOT_OWN, owner_for
from novadex.portfolio.records import Closing, Holding, Lot, Position, Snapshot
from novadex.portfolio.snapshots import hour_of, snapshot_of, take, whole_milliseconds, write
from novadex.portfolio.valuation import prices_at, valuation_asset
from novadex.roles.actor import SERVICE, Actor, act_as
from novadex.storage.connection import DatabaseConnection
from novadex.storage.queries import load_queries
from novadex.trading.markets import Markets, check_limit
from novadex.trading.prepare import check_source, parse_moment
from novadex.trading.records import Page

if TYPE_CHECKING:
    from novadex.storage.rows import Row

SQL = load_queries(Path(__file__).with_name("queries.sql"))
FIRST_MOMENT, LAST_MOMENT = EPOCH, datetime(9999, 12, 31, tzinfo=UTC)
ZERO = Decimal(0)
CURSOR_SEPARATOR = "_"
SEQUENCE = re.compile(r"-?[0-9]{1,19}")
KIND_OF_COLUMN = {
    "deposits": ("deposit",),
    "withdrawals": ("withdrawal",),
    "traded": ("bought", "sold", "paid", "received"),
    "fees": ("fee",),
    "funding": ("funding",),
    "pools": ("pool_in", "pool_out", "pool_fee"),
}
R = TypeVar("R", Lot, Closing)
TAKEN = ("withdrawals", "fees")
"""Columns that say what went out."""


class PortfolioService:
    """Portfolios of an instance, a moment behind the records: the worker's projection makes them.

    ::

        portfolios = PortfolioService(database)
        holdings = await portfolios.holdings(user_id)

    Whoever has ``portfolio.read_own`` only sees their own, and may leave out ``user_id``.
    """

    def __init__(self, db: DatabaseConnection | None = None, *, actor: Actor = SERVICE) -> None:
        self._db = db or DatabaseConnection.get_instance()
        self._actor = actor
        self._markets = Markets(self._db, actor=actor)

    def acting_as(self, actor: Actor) -> PortfolioService:
        """This service on behalf of somebody."""
        service = copy.copy(self)
        service._actor = actor  # noqa: SLF001 - of the same class
        return service

    async def holdings(self, user_id: UUID | str | None = None) -> list[Holding]:
        """What a user holds, by asset, and where it came from; assets that were held once are listed with 0."""
        owner = await self._look("portfolio.holdings_read", user_id)
        sums: dict[str, dict[str, Decimal]] = defaultdict(dict)
        for row in await self._db.main.query(SQL.holdings, [owner], read_only=True):
            sums[row.asset][row.kind] = row.amount
        return [_holding(asset, by_kind) for asset, by_kind in sums.items()]

    async def positions(self, user_id: UUID | str | None = None) -> list[Position]:
        """What a user's trades come to, by market: quantity, cost, profits, fees, funding, at the prices of now."""
        owner = await self._look("portfolio.positions_read", user_id)
        async with self._db.main.transaction("repeatable read", read_only=True) as session:
            rows = await session.query(SQL.positions, [owner])
            sums = await session.query(SQL.sums_of_markets, [owner])
            prices = await prices_at(session, datetime.now(UTC))
        fees: dict[int, dict[str, Decimal]] = defaultdict(dict)
        funding: dict[int, dict[str, Decimal]] = defaultdict(dict)
        for row in sums:
            if row.kind == "fee":
                fees[row.market_id][row.asset] = row.amount.copy_negate()
            else:
                funding[row.market_id][row.asset] = row.amount
        found = []
        for row in rows:
            columns = dict(row)
            market_id = columns.pop("market_id")
            price = prices.of_market.get(market_id)
            unrealized = None
            if price is not None:
                unrealized = trimmed(EXACT.subtract(EXACT.multiply(row.quantity, price), row.cost))
            found.append(
                Position(
                    **columns,
                    price=price,
                    unrealized=unrealized,
                    fees=fees[market_id],
                    funding=funding[market_id],
                )
            )
        return found

    async def lots(
        self,
        user_id: UUID | str | None = None,
        *,
        market: str,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[Lot]:
        """A page of a user's open lots in a market, in the order in which they will be closed."""
        owner = await self._look("portfolio.lots_read", user_id)
        limit = check_limit(limit)
        market_id = (await self._markets.get(market)).id
        after = _read_cursor(cursor, ids=1)
        rows = await self._db.main.query(SQL.open_lots, [owner, market_id, *after, limit + 1], read_only=True)
        return _page_of(Lot, rows, limit, "opened_at", "sequence", "trade_id")

    async def closings(
        self,
        user_id: UUID | str | None = None,
        *,
        market: str,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[Closing]:
        """A page of what a user closed in a market, the newest first: which lot, by which trade, what it earned."""
        owner = await self._look("portfolio.closings_read", user_id)
        limit = check_limit(limit)
        market_id = (await self._markets.get(market)).id
        before = _read_cursor(cursor, ids=2)
        rows = await self._db.main.query(SQL.closings, [owner, market_id, *before, limit + 1], read_only=True)
        return _page_of(Closing, rows, limit, "closed_at", "sequence", "trade_id", "lot_id")

    async def pnl(
        self, user_id: UUID | str | None = None, *, at: datetime | str | None = None, asset: str | None = None
    ) -> Snapshot:
        """What a user has and earned at a moment (default: now), in an asset; nothing is written.

        Raises ``UnavailableError`` while portfolios are derived anew.
        """
        owner = await self._look("portfolio.pnl_read", user_id)
        moment = _moment(at)
        async with self._db.main.transaction() as session:
            valued_in = await valuation_asset(session, asset or self._db.settings.valuation_asset)
            taken = await take(session, [owner], moment, valued_in)
        return taken.snapshots[0]

    async def take_snapshot(
        self, user_id: UUID | str | None = None, *, at: datetime | str | None = None, asset: str | None = None
    ) -> Snapshot:
        """The same, written to ``portfolio_snapshots``; a moment is taken once, and what is there is given back.

        Needs ``portfolio.snapshot_own`` or ``portfolio.snapshot_any`` besides. Raises ``ValidationError`` for a
        moment that is not over, and where a full hour would not be valued as the worker values it.
        """
        owner = owner_for(self._actor, user_id, needed=True)
        self._actor.require_for(owner, SNAPSHOT_OWN, SNAPSHOT_ANY)
        await self._look("portfolio.snapshot_taken", owner)
        moment = _moment(at)
        if moment > datetime.now(UTC):
            raise ValidationError(
                f"at must not be in the future, got {moment.isoformat()}.",
                field="at",
                hint="What is not over cannot be kept.",
            )
        async with self._db.main.transaction() as session:
            await act_as(session, self._actor)
            usual = self._db.settings.valuation_asset
            valued_in = await valuation_asset(session, asset or usual)
            if moment == hour_of(moment) and valued_in != (hourly := await valuation_asset(session, usual)):
                raise ValidationError(
                    f"Snapshots of full hours are all in {hourly.symbol}, not in {valued_in.symbol}.",
                    field="asset",
                    hint="Take one of another moment, or read the value without keeping it.",
                )
            taken = await take(session, [owner], moment, valued_in)
            await write(session, taken, valued_in)
        (there,) = await self._snapshots(owner, moment, moment.replace(microsecond=moment.microsecond + 999), 1)
        return there

    async def snapshots(
        self,
        user_id: UUID | str | None = None,
        *,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[Snapshot]:
        """A page of a user's snapshots, the newest first, taken in [``start``, ``end``)."""
        owner = await self._look("portfolio.snapshots_read", user_id)
        limit = check_limit(limit)
        below = parse_moment(end) if end is not None else LAST_MOMENT
        if cursor is not None:
            below = min(below, parse_moment(cursor))
        above = parse_moment(start) if start is not None else FIRST_MOMENT
        found = await self._snapshots(owner, above, below, limit + 1)
        return Page(found[:limit], found[limit - 1].taken_at.isoformat() if len(found) > limit else None)

    async def record_price(
        self,
        market: str,
        price: Decimal | str | int,
        *,
        observed_at: datetime | str | None = None,
        source: str = "feed",
    ) -> None:
        """Record the price of a feed; needs ``prices.record``. The same again changes nothing, another price of the
        same feed and moment is a ``ConflictError``."""
        self._actor.require("prices.record")
        check_source(source)
        amount, _ = parse_amount(price, "price", decimals_max=PRICE_DECIMALS_MAX)
        if not amount:
            raise ValidationError("price must be above 0.", field="price")
        moment = parse_moment(observed_at) if observed_at is not None else datetime.now(UTC)
        market_id = (await self._markets.get(market)).id
        if not await self._db.main.execute(SQL.add_price, [market_id, moment, source, amount]):
            there = await self._db.main.value(SQL.price_of_feed, [market_id, moment, source], read_only=True)
            if there != amount:
                raise ConflictError(
                    f"The feed {source} said {plain(there)} for {market} at {moment.isoformat()},"
                    f" not {plain(amount)}.",
                    hint="Prices are never changed: record the next one.",
                )

    async def _snapshots(self, owner: UUID, above: datetime, below: datetime, limit: int) -> list[Snapshot]:
        rows = await self._db.main.query(SQL.snapshots_of_user, [owner, above, below, limit], read_only=True)
        return [snapshot_of(row) for row in rows]

    async def _look(self, action: str, user_id: UUID | str | None) -> UUID:
        """Whose portfolio it is; that staff looks at it is written down."""
        owner = owner_for(self._actor, user_id, needed=True)
        row = await self._db.main.one(SQL.user_exists, [owner], read_only=True)
        if row is None or not row.has_portfolio:
            raise NotFoundError(
                f"There is no portfolio of {owner}.",
                hint="Accounts of the system have none." if row else "Is it the id of a user of this instance?",
            )
        await record_look(self._db, self._actor, action, owner)
        return owner


def _page_of(kind: type[R], rows: Sequence[Row], limit: int, *key: str) -> Page[R]:
    """A page, whose cursor is the whole key of its last row: that row may be gone when the next page is asked for."""
    names = [field.name for field in fields(kind)]
    items = [kind(**{name: row[name] for name in names}) for row in rows[:limit]]
    if len(rows) <= limit:
        return Page(items, None)
    moment, *rest = (rows[limit - 1][name] for name in key)
    return Page(items, CURSOR_SEPARATOR.join([moment.astimezone(UTC).isoformat(), *map(str, rest)]))


def _read_cursor(cursor: str | None, *, ids: int) -> list[Any]:
    """The key behind which a page begins: moment, sequence and ids; nothing of the first page."""
    if cursor is None:
        return [None] * (2 + ids)
    parts = cursor.split(CURSOR_SEPARATOR)
    if len(parts) != 2 + ids or not SEQUENCE.fullmatch(parts[1]) or not -(1 << 63) <= int(parts[1]) < 1 << 63:
        raise ValidationError(f"cursor is not one of this list: {cursor[:40]!r}.", field="cursor")
    return [parse_moment(parts[0], "cursor"), int(parts[1]), *(parse_id(part, "cursor") for part in parts[2:])]


def _holding(asset: str, by_kind: dict[str, Decimal]) -> Holding:
    columns: dict[str, Any] = {}
    for column, kinds in KIND_OF_COLUMN.items():
        total = ZERO
        for kind in kinds:
            total = EXACT.add(total, by_kind.get(kind, ZERO))
        columns[column] = trimmed(EXACT.minus(total) if column in TAKEN else total)
    amount = ZERO
    for value in by_kind.values():
        amount = EXACT.add(amount, value)
    return Holding(asset, trimmed(amount), **columns)


def _moment(at: datetime | str | None) -> datetime:
    """A moment in whole milliseconds: prices and records are found by the time in their ids."""
    return whole_milliseconds(parse_moment(at) if at is not None else datetime.now(UTC))
