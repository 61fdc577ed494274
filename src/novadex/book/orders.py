"""The orders that rest in a book (L3), and how events move them. Nothing here knows a server.

An order rests while it has a price, may wait (GTC or GTT), and is open or partially filled. Market orders, stops
that are not triggered, IOC and FOK never rest. Among orders of one price the one with the lower priority number comes
first: it is the sequence of the event that brought the order into the book, or by which it lost its place, as when
its price is changed or its quantity raised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from novadex.book.levels import Levels
from novadex.book.units import to_units

if TYPE_CHECKING:
    from collections.abc import Iterable

LIVE = frozenset({"open", "partially_filled"})


class GapError(Exception):
    """An event does not follow the one before it."""


class OrderChange(NamedTuple):
    """An event of an order, as far as the book is concerned."""

    market_id: int
    sequence: int
    """Of the market."""
    order_id: str
    type: str
    status: str
    """Of the order after it."""
    price: str | None
    remaining: str
    """Quantity less what is filled."""
    side: str | None
    """None where the order has left the book."""
    may_rest: bool
    """Whether an order of its kind ever rests; False where it has left the book."""


class RestingOrder(NamedTuple):
    """An order in the book."""

    side: str
    price: int
    lots: int
    priority: int


class OrderBook:
    """The orders and the levels of one market, as of ``sequence``."""

    __slots__ = ("changed", "levels", "orders", "sequence")

    def __init__(self, sequence: int, price_decimals: int, lot_decimals: int) -> None:
        self.sequence = sequence
        self.orders: dict[str, RestingOrder] = {}
        self.levels = Levels(price_decimals, lot_decimals)
        self.changed: set[str] = set()
        """Ids of orders that changed since ``take_changes``."""

    def put(self, order_id: str, order: RestingOrder) -> None:
        """An order as it rests from now on."""
        self._take_out(order_id)
        self.orders[order_id] = order
        self.levels.side(order.side).add(order.price, order.lots)
        self.changed.add(order_id)

    def apply(self, change: OrderChange) -> None:
        """Follow an event. ``GapError`` where one is missing before it, ``FinerValueError`` where its price has more
        decimals than this book counts in: then nothing is changed."""
        if change.sequence != self.sequence + 1:
            raise GapError(f"event {change.sequence} does not follow {self.sequence}")
        if change.may_rest and change.status in LIVE and change.price and change.side:
            price = to_units(change.price, self.levels.price_decimals)
            lots = to_units(change.remaining, self.levels.lot_decimals)
            before = self.orders.get(change.order_id)
            keeps_place = before is not None and (
                change.type != "amended" or (price == before.price and lots <= before.lots)
            )
            priority = before.priority if before is not None and keeps_place else change.sequence
            self.put(change.order_id, RestingOrder(change.side, price, lots, priority))
        else:
            self._take_out(change.order_id)
        self.sequence = change.sequence

    def _take_out(self, order_id: str) -> None:
        order = self.orders.pop(order_id, None)
        if order is not None:
            self.levels.side(order.side).add(order.price, -order.lots)
            self.changed.add(order_id)

    def take_changes(self) -> list[tuple[str, RestingOrder | None]]:
        """The orders that changed since the last call, None where one left the book."""
        changed, self.changed = self.changed, set()
        return [(order_id, self.orders.get(order_id)) for order_id in changed]


def in_priority(orders: Iterable[tuple[str, RestingOrder]]) -> list[tuple[str, RestingOrder]]:
    """Bids then asks, each best price first, those of one price by their priority."""
    return sorted(
        orders,
        key=lambda item: (
            item[1].side == "sell",
            item[1].price if item[1].side == "sell" else -item[1].price,
            item[1].priority,
        ),
    )
