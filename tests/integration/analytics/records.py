"""Trades for tests, written into main by COPY, and what must follow from them, worked out in plain Python."""

from __future__ import annotations

import asyncio
import csv
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal, localcontext
from random import Random
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg

from novadex.analytics.projector import Outcome, Projector
from novadex.ids import id_at, id_of_source, time_of_ms

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from novadex.storage.connection import DatabaseConnection
    from novadex.storage.database import Database
    from tests.conftest import MarketRow

STEPS_MAX = 10_000
WAIT_S_MAX = 20
NO_ID = UUID(int=0)
NOT_GIVEN = Decimal(-1)
NOON = datetime(2024, 8, 8, 12, 0, tzinfo=UTC)
COLUMNS = (
    "id, user_id, market_id, base_decimals, quote_decimals, side, liquidity, base_amount, quote_amount, price,"
    " fee_amount, fee_asset_id, executed_at, sequence, match_id, source, source_trade_id"
)


def wide_decimals() -> AbstractContextManager[Context]:
    """Arithmetic that does not round to 28 digits."""
    return localcontext(Context(prec=400))


@dataclass(frozen=True)
class TradeRow:
    """A row of trades. ``fee_asset`` is (id, symbol)."""

    user_id: UUID
    market: MarketRow
    executed_at: datetime
    side: str = "buy"
    liquidity: str = "taker"
    base_amount: Decimal = Decimal(1)
    price: Decimal = Decimal(100)
    fee_amount: Decimal = Decimal(0)
    fee_asset: tuple[int, str] | None = None
    sequence: int | None = None
    match_id: UUID | None = None
    source: str | None = None
    source_trade_id: str | None = None
    id: UUID = NO_ID
    quote_amount: Decimal = NOT_GIVEN

    def __post_init__(self) -> None:
        if not self.id.int:
            object.__setattr__(self, "id", id_at(self.executed_at))
        if self.quote_amount < 0:
            with wide_decimals():
                object.__setattr__(self, "quote_amount", self.base_amount * self.price)


def copy_trades(connection: psycopg.Connection[Any], trades: Iterable[TradeRow]) -> None:
    """Write trades in the connection's transaction; their partitions must be there."""
    with connection.cursor() as cursor, cursor.copy(f"COPY trades ({COLUMNS}) FROM STDIN") as copy:  # type: ignore[arg-type]
        for t in trades:
            copy.write_row(
                (
                    t.id,
                    t.user_id,
                    t.market.id,
                    t.market.base_decimals,
                    t.market.quote_decimals,
                    t.side,
                    t.liquidity,
                    t.base_amount,
                    t.quote_amount,
                    t.price,
                    t.fee_amount,
                    t.fee_asset[0] if t.fee_asset else None,
                    t.executed_at,
                    t.sequence,
                    t.match_id,
                    t.source,
                    t.source_trade_id,
                )
            )


def add_trades(url: str, *trades: TradeRow) -> list[TradeRow]:
    """Write trades in a transaction of their own."""
    make_partitions(url, *(t.executed_at for t in trades))
    with psycopg.connect(url) as connection:
        copy_trades(connection, trades)
    return list(trades)


def make_partitions(url: str, *moments: datetime) -> None:
    """Make the partitions of main that trades of these moments need."""
    with psycopg.connect(url, autocommit=True) as connection:
        for month in {moment.astimezone(UTC).date().replace(day=1) for moment in moments}:
            connection.execute("SELECT ensure_partitions('trades', %s, %s)", (month, month))


def matched(taker: TradeRow, maker_user: UUID, match_id: UUID) -> tuple[TradeRow, TradeRow]:
    """Both sides of a match."""
    other = "sell" if taker.side == "buy" else "buy"
    return (
        replace(taker, match_id=match_id),
        replace(
            taker, user_id=maker_user, side=other, liquidity="maker", match_id=match_id, id=id_at(taker.executed_at)
        ),
    )


def binance_trades(path: Path, user_id: UUID, market: MarketRow) -> list[TradeRow]:
    """The trades of a public dump."""
    with path.open(newline="") as file:
        return [
            TradeRow(
                user_id,
                market,
                time_of_ms(int(row["time"])),
                side="sell" if row["is_buyer_maker"] == "True" else "buy",
                base_amount=Decimal(row["qty"]),
                price=Decimal(row["price"]),
                sequence=int(row["id"]),
                source="binance",
                source_trade_id=row["id"],
                id=id_of_source(int(row["time"]), "binance", market.symbol, row["id"]),
            )
            for row in csv.DictReader(file)
        ]


@dataclass(frozen=True)
class Venue:
    """A market and a user of a test's main database."""

    url: str
    market: MarketRow
    user: UUID

    def trade(self, second: float = 0, *, user: UUID | None = None, **fields: Any) -> TradeRow:
        """A trade so many seconds after NOON."""
        return TradeRow(user or self.user, self.market, NOON + timedelta(seconds=second), **fields)

    def random_trades(self, count: int, seed: int) -> list[TradeRow]:
        """Trades within ten minutes, several in some moments."""
        random = Random(seed)  # noqa: S311 - no secret
        return [
            self.trade(
                random.randrange(600),
                side=random.choice(["buy", "sell"]),
                base_amount=Decimal(random.randrange(1, 10**6)) / 1000,
                price=Decimal(random.randrange(1, 10**4)) / 100,
                sequence=random.randrange(100),
            )
            for _ in range(count)
        ]

    def record(self, *trades: TradeRow) -> list[TradeRow]:
        """Write trades into main, in one transaction."""
        return add_trades(self.url, *trades)


FOREIGN_TRANSACTIONS = """
    SELECT array_agg(l.transactionid::text) AS xids
    FROM pg_locks AS l
    JOIN pg_stat_activity AS a USING (pid)
    WHERE l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted AND a.datname <> current_database()
"""


async def made_final(database: Database) -> None:
    """Wait for the transactions of other databases of the server that are under way: they hold back the horizon of
    this one too, as those do that make and drop the databases of other tests."""
    under_way = set((await database.value(FOREIGN_TRANSACTIONS)) or ())

    async def ended() -> bool:
        return under_way.isdisjoint((await database.value(FOREIGN_TRANSACTIONS)) or ())

    await eventually(ended)


async def drain(projection: Projector[Any]) -> None:
    """Apply all that is committed, until it is known up to when."""
    await made_final(projection.main)
    for _ in range(STEPS_MAX):
        step = await projection.step(store_now=True)
        if step.outcome is Outcome.CAUGHT_UP:
            state = await projection.load_state()
            if state is not None and state.watermark is not None:
                return
    raise AssertionError("the projection does not come to an end")


async def state_of(database: DatabaseConnection) -> Any:
    """The stored position and counts."""
    return await database.analytics.one(
        "SELECT *, xid::text::bigint AS xid_number FROM projections WHERE name = 'trades'"
    )


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(WAIT_S_MAX):
        while not await condition():  # noqa: ASYNC110 - servers tell nobody
            await asyncio.sleep(0.01)


# What follows from them ------------------------------------------------------------------------------------


@dataclass
class Figures:
    """The derived tables, by key; values as numbers and moments."""

    facts: dict[Any, Any] = field(default_factory=dict)
    candles: dict[Any, Any] = field(default_factory=dict)
    days: dict[Any, Any] = field(default_factory=dict)
    other_fees: dict[Any, Any] = field(default_factory=dict)


def expected_figures(trades: Iterable[TradeRow]) -> Figures:
    """What the derived tables must hold, by the definitions alone."""
    with wide_decimals():
        return _work_out(trades)


def _work_out(trades: Iterable[TradeRow]) -> Figures:
    figures = Figures()
    minutes: dict[Any, list[TradeRow]] = {}
    days: dict[Any, list[TradeRow]] = {}
    for t in trades:
        assert t.id not in figures.facts
        figures.facts[t.id] = (
            t.user_id,
            t.market.symbol,
            t.side,
            t.liquidity,
            t.base_amount,
            t.quote_amount,
            t.price,
            t.fee_amount,
            t.fee_asset[1] if t.fee_asset else None,
            t.executed_at,
            t.sequence,
            t.match_id,
            t.source,
        )
        moment = t.executed_at.astimezone(UTC)
        if t.liquidity == "taker" or t.match_id is None:
            minutes.setdefault((t.market.symbol, moment.replace(second=0, microsecond=0)), []).append(t)
        days.setdefault((t.user_id, t.market, moment.date()), []).append(t)
    for key, group in minutes.items():
        figures.candles[key] = _candle(group)
    for (user_id, market, day), group in days.items():
        figures.days[user_id, market.symbol, day] = _day(market, group)
        for t in group:
            if t.fee_amount and t.fee_asset and t.fee_asset[0] not in (market.base_asset_id, market.quote_asset_id):
                key = (user_id, market.symbol, day, t.fee_asset[1])
                figures.other_fees[key] = figures.other_fees.get(key, Decimal(0)) + t.fee_amount
    return figures


def _candle(group: list[TradeRow]) -> tuple[Any, ...]:
    ordered = sorted(group, key=lambda t: (t.executed_at, t.sequence or 0, t.id))
    return (
        ordered[0].price,
        max(t.price for t in group),
        min(t.price for t in group),
        ordered[-1].price,
        sum((t.base_amount for t in group), Decimal(0)),
        sum((t.quote_amount for t in group), Decimal(0)),
        sum((t.base_amount for t in group if (t.side == "buy") == (t.liquidity == "taker")), Decimal(0)),
        len(group),
    )


def _day(market: MarketRow, group: list[TradeRow]) -> tuple[Any, ...]:
    def fees(asset_id: int) -> Decimal:
        return sum((t.fee_amount for t in group if t.fee_asset and t.fee_asset[0] == asset_id), Decimal(0))

    return (
        len(group),
        sum(t.side == "buy" for t in group),
        sum(t.side == "sell" for t in group),
        sum(t.liquidity == "maker" for t in group),
        sum(t.liquidity == "taker" for t in group),
        sum((t.base_amount for t in group), Decimal(0)),
        sum((t.quote_amount for t in group), Decimal(0)),
        fees(market.base_asset_id),
        fees(market.quote_asset_id),
        min(t.executed_at for t in group),
        max(t.executed_at for t in group),
    )


async def stored_figures(database: DatabaseConnection) -> Figures:
    """What the derived tables hold."""
    facts = await database.analytics_query(
        "SELECT id, user_id, market, side, liquidity, base_amount, quote_amount, price, fee_amount, fee_asset,"
        " executed_at, sequence, match_id, source FROM trade_facts"
    )
    candles = await database.analytics_query(
        "SELECT market, start, open, high, low, close, base_volume, quote_volume, taker_buy_base_volume, trades"
        " FROM candles"
    )
    days = await database.analytics_query(
        "SELECT user_id, market, day, trades, buys, sells, maker_trades, taker_trades, base_volume, quote_volume,"
        " base_fees, quote_fees, first_trade_at, last_trade_at FROM trading_analytics"
    )
    fees = await database.analytics_query("SELECT user_id, market, day, asset, fees FROM trading_other_fees")
    return Figures(_by_key(facts, 1), _by_key(candles, 2), _by_key(days, 3), _by_key(fees, 4))


def _by_key(rows: list[Any], key_columns: int) -> dict[Any, Any]:
    table: dict[Any, Any] = {}
    for row in rows:
        values = tuple(row.values())
        key = values[0] if key_columns == 1 else values[:key_columns]
        assert key not in table, f"{key} stands there twice"
        rest = values[key_columns:]
        table[key] = rest[0] if len(rest) == 1 else rest
    return table
