"""Books as PostgreSQL has them: the truth that everything else is compared with."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from novadex.book.levels import Levels
from novadex.book.orders import OrderBook, OrderChange, RestingOrder
from novadex.book.units import decimals_of, to_units
from novadex.storage.queries import load_queries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from novadex.book.records import Source
    from novadex.storage.rows import Row
    from novadex.storage.session import Session

QUERIES = load_queries(Path(__file__).with_name("queries.sql"))
ORDERS_AT_ONCE = 2_000
decode_rows = msgspec.json.Decoder(list[tuple[str, str]]).decode


class Pulse(NamedTuple):
    """How a shard of the markets stands; another one, and something is new in it."""

    events: int
    """Of all its markets together."""
    markets: int
    epoch: int
    """Of the database: raised where it was restored."""


@dataclass(frozen=True, slots=True)
class LevelsAt:
    """The levels of a market as of a sequence."""

    sequence: int
    levels: Levels
    source: Source


async def read_news(
    session: Session, known: dict[int, int], events_max: int, shard: int = 0, shards: int = 1
) -> tuple[Pulse, list[list[OrderChange]]]:
    """How a shard stands, and the next events behind the sequences of some markets, in order, those of a market
    together, at most so many of each."""
    values = [shard, shards, list(known), list(known.values()), events_max]
    rows = await session.made(_tuple, QUERIES.news, values)
    width = len(Pulse._fields)
    changes = [OrderChange(*row[width:]) for row in rows if row[width] is not None]
    return Pulse(*rows[0][:width]), [list(part) for _, part in groupby(changes, key=attrgetter("market_id"))]


async def read_orders(session: Session, market: Row) -> OrderBook:
    """The book of a market's own orders. The session must be one snapshot (repeatable read), and ``market`` read in
    it by ``QUERIES.market``: then the orders are those after exactly so many events."""
    book = OrderBook(market.sequence, market.price_decimals, market.base_decimals)
    for order_id, side, price, remaining, place in await session.made(_tuple, QUERIES.resting_orders, [market.id]):
        if len(book.orders) % ORDERS_AT_ONCE == 0:
            await asyncio.sleep(0)  # others of this process have their turn: a lease must be kept
        order = RestingOrder(
            side, to_units(price, market.price_decimals), to_units(remaining, market.base_decimals), place
        )
        book.put(order_id, order)
    book.take_changes()
    return book


async def read_levels(session: Session, market: Row) -> LevelsAt:
    """The levels of a market, its own or those of another exchange, under the same conditions."""
    if market.external:
        snapshot = await session.one(QUERIES.newest_snapshot, [market.id])
        if snapshot is not None:
            return _of_snapshot(snapshot, market.base_decimals)
    levels = Levels(market.price_decimals, market.base_decimals)
    for side, price, quantity in await session.made(_tuple, QUERIES.resting_levels, [market.id]):
        levels.side(side).set(to_units(price, market.price_decimals), to_units(quantity, market.base_decimals))
    return LevelsAt(market.sequence, levels, "orders")


def _of_snapshot(snapshot: Any, lot_decimals: int) -> LevelsAt:
    bids, asks = decode_rows(snapshot.bids), decode_rows(snapshot.asks)
    return LevelsAt(
        snapshot.sequence, Levels.of_rows(bids, asks, price_decimals_of(bids, asks), lot_decimals), "external"
    )


def price_decimals_of(*sides: Sequence[Sequence[str]]) -> int:
    """How many decimals the finest price has.

    >>> price_decimals_of([("99.50", "1")], [("100.25", "2")])
    2
    """
    return max((decimals_of(row[0]) for rows in sides for row in rows), default=0)


def _tuple(*columns: Any) -> tuple[Any, ...]:
    return columns
