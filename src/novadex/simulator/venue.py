"""The venue of a simulated market: a small matching engine, by price and then by time. Nothing here knows a server.

Prices are whole ticks, quantities whole lots. The engine decides; the flow reports what it decided.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Iterator

Side = Literal["buy", "sell"]


@dataclass(slots=True)
class SimulatedOrder:
    """An order as the venue knows it."""

    id: UUID
    user: int
    side: Side
    type: str
    time_in_force: str
    quantity: int
    price: int | None = None
    stop_price: int | None = None
    post_only: bool = False
    reduce_only: bool = False
    filled: int = 0
    amended: bool = False
    """Once is enough: so a simulation that is repeated changes nothing back."""
    live: bool = True

    @property
    def remaining(self) -> int:
        return self.quantity - self.filled


class Execution(NamedTuple):
    """A fill that the engine decided."""

    maker: SimulatedOrder
    lots: int
    price: int


class BookSide:
    """The orders that rest on one side."""

    __slots__ = ("_levels", "_prices", "_sign", "count")

    def __init__(self, side: Side) -> None:
        self._sign = -1 if side == "buy" else 1
        """Prices are kept in the order of price * sign: the best comes first."""
        self._prices: list[int] = []
        self._levels: dict[int, dict[UUID, SimulatedOrder]] = {}
        self.count = 0

    def best(self) -> int | None:
        return self._prices[0] * self._sign if self._prices else None

    def first(self) -> SimulatedOrder | None:
        """Who is filled next."""
        return next(iter(self._levels[self._prices[0]].values())) if self._prices else None

    def last(self) -> SimulatedOrder | None:
        """Who is farthest from being filled."""
        return next(reversed(self._levels[self._prices[-1]].values())) if self._prices else None

    def add(self, order: SimulatedOrder) -> None:
        key = (order.price or 0) * self._sign
        if key not in self._levels:
            insort(self._prices, key)
            self._levels[key] = {}
        self._levels[key][order.id] = order
        self.count += 1

    def remove(self, order: SimulatedOrder) -> None:
        key = (order.price or 0) * self._sign
        level = self._levels.get(key)
        if level is None or level.pop(order.id, None) is None:
            return
        self.count -= 1
        if not level:
            del self._levels[key]
            del self._prices[bisect_left(self._prices, key)]

    def __iter__(self) -> Iterator[SimulatedOrder]:
        for key in self._prices:
            yield from self._levels[key].values()


class Venue:
    """One market's engine."""

    def __init__(self) -> None:
        self.bids, self.asks = BookSide("buy"), BookSide("sell")
        self.stops: list[SimulatedOrder] = []
        """Untriggered, in the order of their placing."""

    def own(self, side: Side) -> BookSide:
        return self.bids if side == "buy" else self.asks

    def other(self, side: Side) -> BookSide:
        return self.asks if side == "buy" else self.bids

    @property
    def resting(self) -> int:
        return self.bids.count + self.asks.count

    def thin(self, least: int) -> Side | None:
        """A side on which fewer orders rest."""
        if self.bids.count < least and self.bids.count <= self.asks.count:
            return "buy"
        return "sell" if self.asks.count < least else None

    def would_take(self, side: Side, price: int | None) -> bool:
        """Whether an order of this price would be filled at once."""
        best = self.other(side).best()
        return best is not None and (price is None or (price >= best if side == "buy" else price <= best))

    def match(self, taker: SimulatedOrder) -> Iterator[Execution | SimulatedOrder]:
        """Fill an order as far as it goes. Yields executions; a maker's order alone, where it is the taker's own: the
        older one is cancelled, nobody trades with themselves."""
        makers = self.other(taker.side)
        while taker.remaining and self.would_take(taker.side, taker.price):
            maker = makers.first()
            if maker is None or maker.price is None:
                return
            if maker.user == taker.user:
                self.end(maker)
                yield maker
                continue
            lots = min(taker.remaining, maker.remaining)
            taker.filled += lots
            maker.filled += lots
            if not maker.remaining:
                self.end(maker)
            if not taker.remaining:
                taker.live = False
            yield Execution(maker, lots, maker.price)

    def fills_whole(self, side: Side, price: int, lots: int, user: int) -> bool:
        """Whether the order that is next in turn fills so much alone: a fill-or-kill order is one execution."""
        maker = self.other(side).first()
        return maker is not None and maker.user != user and maker.remaining >= lots and self.would_take(side, price)

    def rest(self, order: SimulatedOrder) -> None:
        self.own(order.side).add(order)

    def end(self, order: SimulatedOrder) -> None:
        """It lives no more."""
        order.live = False
        self.own(order.side).remove(order)
        if order in self.stops:
            self.stops.remove(order)

    def move(self, order: SimulatedOrder, *, price: int | None = None, quantity: int | None = None) -> None:
        """Amend a resting order; a new price or more of it loses its place."""
        side = self.own(order.side)
        keeps_place = price is None and (quantity is None or quantity <= order.quantity)
        if not keeps_place:
            side.remove(order)
        order.price = price if price is not None else order.price
        order.quantity = quantity if quantity is not None else order.quantity
        order.amended = True
        if not keeps_place:
            side.add(order)

    def reached(self, price: int) -> SimulatedOrder | None:
        """A stop that a trade at this price triggers; it is taken out."""
        for order in self.stops:
            stop = order.stop_price or 0
            if (price >= stop) if order.side == "buy" else (price <= stop):
                self.stops.remove(order)
                return order
        return None
