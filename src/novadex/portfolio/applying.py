"""Trades into positions, lots and closings. For one that arrives late, its hour and all later ones are redone."""

from __future__ import annotations

import logging
from contextlib import aclosing
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import psycopg

from novadex.errors import IntegrityFaultError
from novadex.portfolio.lots import BEFORE_ALL, Ledger, LotTrade, OpenLot, Standing, amount_of, units_of
from novadex.storage.queries import load_queries

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Sequence
    from datetime import datetime

    from novadex.analytics.position import Position
    from novadex.storage.rows import Row
    from novadex.storage.session import Session

SQL = load_queries(Path(__file__).with_name("projection.sql"))
CHUNK_TRADES = 5_000
"""Trades in memory at once, where many are put in again."""

Place = tuple[UUID, int]
"""A user and a market."""

log = logging.getLogger(__name__)


def lot_trade(row: Row) -> LotTrade:
    return LotTrade(
        row.user_id,
        row.market_id,
        row.id,
        row.executed_at,
        row.sequence,
        row.side,
        row.base_amount,
        row.quote_amount,
        row.undone,
        row.undoes,
    )


async def apply_trades(session: Session, trades: Sequence[LotTrade], end: Position) -> None:
    """Apply a batch, which is in the order of lots and ends at this position of the log.

    Where a stored position cannot take its trades, which no record can cause, it is derived anew from all of them.
    """
    if not trades:
        return
    try:
        async with session.transaction():
            await _apply(session, trades, end)
    except (psycopg.IntegrityError, IntegrityFaultError) as error:
        log.warning("Positions did not take the trades that follow on them, and are derived anew: %s", error)
        await refold(session, dict.fromkeys((_place(trade) for trade in trades), BEFORE_ALL), end)


async def _apply(session: Session, trades: Sequence[LotTrade], end: Position) -> None:
    by_place = {place: list(of_place) for place, of_place in groupby(trades, _place)}
    standings = await _standings(session, list(by_place))
    late: dict[Place, datetime] = {}
    for place, of_place in by_place.items():
        standing = standings.get(place)
        undoing = any(trade.undoes for trade in of_place)
        if undoing or (standing is not None and min(trade.key for trade in of_place) < standing.last):
            late[place] = min(trade.hour for trade in of_place)
    await fold(session, [trade for trade in trades if _place(trade) not in late])
    await refold(session, late, end)


async def refold(session: Session, since: dict[Place, datetime], end: Position) -> None:
    """Take positions back to the beginning of an hour, and put all trades in that follow, up to a position."""
    if not since:
        return
    keys = [*_columns(since), list(since.values())]
    await session.execute(SQL.take_back_lots, keys)
    await session.execute(SQL.take_back_closings, keys)
    await session.execute(SQL.take_back_positions, keys)
    parameters = [*keys, str(end.xid), end.id]
    rows = cast("AsyncGenerator[Row]", session.stream(SQL.trades_since, parameters, CHUNK_TRADES))
    await _fold_all(session, rows)


async def fold_users(session: Session, users: Sequence[UUID], end: Position) -> None:
    """Put all trades of users in, of whom nothing is stored."""
    parameters = [list(users), str(end.xid), end.id]
    await _fold_all(
        session, cast("AsyncGenerator[Row]", session.stream(SQL.trades_of_users, parameters, CHUNK_TRADES))
    )


async def _fold_all(session: Session, rows: AsyncGenerator[Row]) -> None:
    chunk: list[LotTrade] = []
    async with aclosing(rows):
        async for row in rows:
            chunk.append(lot_trade(row))
            if len(chunk) >= CHUNK_TRADES:
                await fold(session, chunk)
                chunk.clear()
    await fold(session, chunk)


async def fold(session: Session, trades: Sequence[LotTrade]) -> None:
    """Trades that follow on what is stored, in the order of lots."""
    if not trades:
        return
    by_place = {place: list(of_place) for place, of_place in groupby(trades, _place)}
    ledgers = await _load(session, by_place)
    for place, of_place in by_place.items():
        ledgers[place].add_all(of_place)
    await _write(session, ledgers)


async def _load(session: Session, by_place: dict[Place, list[LotTrade]]) -> dict[Place, Ledger]:
    standings = await _standings(session, list(by_place))
    ledgers = {place: Ledger(standings.get(place, Standing())) for place in by_place}
    needed = {place: _closes_at_most(ledgers[place].standing, of_place) for place, of_place in by_place.items()}
    closing = {place: amount_of(units) for place, units in needed.items() if units}
    if closing:
        for row in await session.query(SQL.oldest_lots, [*_columns(closing), list(closing.values())]):
            ledgers[row.user_id, row.market_id].lots.append(open_lot(row))
    return ledgers


def _closes_at_most(standing: Standing, trades: Iterable[LotTrade]) -> int:
    """How much of what is held these trades can close."""
    against = "sell" if standing.quantity > 0 else "buy"
    traded = sum(units_of(trade.base_amount) for trade in trades if trade.side == against)
    return min(abs(standing.quantity), traded)


def open_lot(row: Row) -> OpenLot:
    return OpenLot(
        row.trade_id,
        row.opened_at,
        row.sequence,
        units_of(row.opened_quantity),
        units_of(row.opened_cost),
        units_of(row.quantity),
        units_of(row.cost),
    )


async def _standings(session: Session, places: Sequence[Place]) -> dict[Place, Standing]:
    rows = await session.query(SQL.standings, _columns(places))
    return {(row.user_id, row.market_id): standing_of(row) for row in rows}


def standing_of(row: Row) -> Standing:
    return Standing(
        units_of(row.quantity),
        units_of(row.cost),
        units_of(row.realized),
        units_of(row.fifo_cost),
        units_of(row.fifo_realized),
        row.trades,
        (row.last_executed_at, row.last_sequence, row.last_id),
    )


async def _write(session: Session, ledgers: dict[Place, Ledger]) -> None:
    positions = [
        (*place, hour, *_amounts(s.quantity, s.cost, s.realized, s.fifo_cost, s.fifo_realized), s.trades, *s.last)
        for place, ledger in ledgers.items()
        for hour, s in ledger.hours.items()
    ]
    lots = [
        (
            *place,
            lot.trade_id,
            lot.opened_at,
            lot.sequence,
            *_amounts(lot.opened_quantity, lot.opened_cost, lot.quantity, lot.cost),
        )
        for place, ledger in ledgers.items()
        for lot in ledger.touched.values()
    ]
    closings = [
        (
            *place,
            c.trade.executed_at,
            c.trade.sequence,
            c.trade.id,
            c.lot_id,
            *_amounts(c.quantity, c.cost, c.proceeds),
        )
        for place, ledger in ledgers.items()
        for c in ledger.closings
    ]
    for query, rows in ((SQL.write_positions, positions), (SQL.write_lots, lots), (SQL.write_closings, closings)):
        if rows:
            await session.execute(query, [list(column) for column in zip(*rows, strict=True)])


def _amounts(*units: int) -> Any:
    return (amount_of(number) for number in units)


def _place(trade: LotTrade) -> Place:
    return trade.user_id, trade.market_id


def _columns(places: Iterable[Place]) -> list[Any]:
    pairs = list(places)
    return [[user_id for user_id, _ in pairs], [market_id for _, market_id in pairs]]
