"""Who does what in a simulated market, and when: an endless stream of commands that follows from the plan alone.

Market makers quote around a price that walks at random; others take, wait, place stops and change their minds; the
venue reports what its engine makes of it. Nothing that a service answers changes the stream: so the same plan is the
same commands in the same order with the same ids, however fast they are sent.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from novadex.ids import id_of_source, milliseconds_of
from novadex.simulator.records import Command, CommandKind, Plan
from novadex.simulator.venue import Execution, Side, SimulatedOrder, Venue
from novadex.trading.markets import split_market

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from uuid import UUID

SOURCE = "simulator"
SUFFIX = "-SIM"
"""Simulated markets have names of their own: nothing is mixed with what was imported."""
RESTING_MAX = 300
SIDE_MIN = 12
"""Makers quote first where fewer orders rest on a side."""
STOPS_MAX = 40
RECENT_MATCHES = 50
GTT_DAYS = 365
"""A good-till-time order is good for so long after the simulation; its venue ends it sooner."""
MAKERS_SHARE = 5
"""Each fifth user quotes."""
_USERS_FROM_MS = 1_735_689_600_000
"""The time in the users' ids: the beginning of 2025."""


class MarketSpec(NamedTuple):
    """A market to simulate."""

    symbol: str
    price: str
    tick_size: str
    lot_size: str
    lots: int
    """Of a usual order."""


MARKETS = (
    MarketSpec("BTC/USDT", "61840", "0.01", "0.00001", 2_000),
    MarketSpec("ETH/USDT", "2640", "0.01", "0.0001", 5_000),
    MarketSpec("SOL/USDC", "154", "0.01", "0.001", 8_000),
    MarketSpec("BNB/USDT", "510", "0.01", "0.001", 3_000),
    MarketSpec("XRP/USDT", "0.59", "0.0001", "0.1", 9_000),
    MarketSpec("DOGE/USDT", "0.105", "0.00001", "1", 9_000),
    MarketSpec("AVAX/USDC", "23.5", "0.001", "0.01", 4_000),
    MarketSpec("LINK/USDC", "10.4", "0.001", "0.01", 4_000),
)


def market_spec(number: int) -> MarketSpec:
    """The market of a number: the well-known ones first, then made-up ones.

    >>> market_spec(0).symbol, market_spec(8).symbol
    ('BTC/USDT-SIM', 'COIN9/USDT-SIM')
    """
    spec = MARKETS[number] if number < len(MARKETS) else MarketSpec(f"COIN{number + 1}/USDT", "1", "0.0001", "1", 900)
    return spec._replace(symbol=spec.symbol + SUFFIX)


def user_id(seed: int, number: int) -> UUID:
    """Users are the same in all simulations of a seed, whenever they start."""
    return id_of_source(_USERS_FROM_MS, SOURCE, f"user {seed}", str(number))


def user_ids(plan: Plan) -> list[UUID]:
    """The users of a plan; each fifth is a market maker."""
    return [user_id(plan.seed, number) for number in range(plan.users)]


def is_maker(number: int) -> bool:
    return number % MAKERS_SHARE == 0


class _Match(NamedTuple):
    id: UUID
    lots: int
    orders: tuple[SimulatedOrder, ...]


class MarketFlow:
    """The commands of one market of a plan; ``commands()`` has no end."""

    def __init__(self, plan: Plan, number: int) -> None:
        self.spec = market_spec(number)
        self._plan = plan
        self._random = random.Random(f"{plan.seed} {number} {plan.markets} {plan.users} {plan.rate}")  # noqa: S311 - no secret
        self._venue = Venue()
        self._users = user_ids(plan)
        self._makers = [user for user in range(plan.users) if is_maker(user)]
        self._others = [user for user in range(plan.users) if not is_maker(user)]
        self._start_ms = milliseconds_of(plan.start)
        self._good_till = plan.start + timedelta(seconds=plan.duration_s, days=GTT_DAYS)
        self._now_ms = float(self._start_ms)
        self._rate_per_ms = plan.rate / plan.markets / 1000
        self._emitted = 0
        self._out: deque[Command] = deque()
        self._tick, self._lot = Decimal(self.spec.tick_size), Decimal(self.spec.lot_size)
        self._fair = float(int(Decimal(self.spec.price) / self._tick))
        self._step = max(1.0, self._fair * 0.00005)
        """How far the price walks in one action, in ticks; quotes stand so far apart."""
        self._recent: deque[_Match] = deque(maxlen=RECENT_MATCHES)
        self._ends: list[tuple[int, int, SimulatedOrder]] = []
        """When the venue ends good-till-time orders."""
        self._held: dict[int, int] = {}
        """Lots that users hold by their executions."""
        self._actions: list[Callable[[], None]] = []
        self._weights: list[int] = []
        for weight, action in (
            (300, self._quote),
            (80, self._requote),
            (60, self._amend),
            (60, self._change_of_mind),
            (160, self._take_market),
            (60, self._take_immediate),
            (25, self._take_whole),
            (90, self._wait),
            (60, self._wait_for_a_time),
            (45, self._stop),
            (20, self._reduce),
            (10, self._swap),
            (12, self._transfer),
            (8, self._bust),
        ):
            self._actions.append(action)
            self._weights.append(weight)

    def commands(self) -> Iterator[Command]:
        """What happens, in order."""
        while True:
            if self._ends and self._ends[0][0] <= self._now_ms:
                self._end_of_time()
            elif self._venue.resting >= RESTING_MAX:
                self._requote()
            elif (thin := self._venue.thin(SIDE_MIN)) is not None:
                self._quote(thin)
            else:
                self._random.choices(self._actions, self._weights)[0]()
            self._fair = max(1000.0, self._fair + self._random.gauss(0.0, self._step))
            self._now_ms += self._random.expovariate(self._rate_per_ms) * max(1, len(self._out))
            while self._out:
                yield self._out.popleft()

    # What makers do

    def _quote(self, side: Side | None = None) -> None:
        maker = self._random.choice(self._makers)
        side = side or self._side()
        away = (1 + self._random.expovariate(0.25)) * self._step
        price = self._price(self._fair - away if side == "buy" else self._fair + away)
        best = self._venue.other(side).best()
        # Now and then a quote comes late: the price has moved, it would take, and the venue does not want it.
        if best is not None and self._venue.would_take(side, price) and self._chance(0.9):
            price = max(1, best - 1 if side == "buy" else best + 1)
        self._place(maker, side, "limit", price=price, post_only=True)

    def _requote(self) -> None:
        order = self._venue.own(self._side()).last() or self._venue.bids.last() or self._venue.asks.last()
        if order is not None:
            self._end(order, "cancel", "requoted")

    def _amend(self) -> None:
        order = self._some_resting()
        if order is None or order.amended or order.price is None:
            return self._quote()
        if self._random.random() < 0.5:
            further = int(self._random.expovariate(1.0) * self._step) + 1
            price = max(1, order.price - further if order.side == "buy" else order.price + further)
            self._venue.move(order, price=price)
            return self._emit("amend", id=order.id, price=price * self._tick)
        quantity = order.filled + max(1, int(order.remaining * self._random.uniform(0.3, 1.6)))
        if quantity == order.quantity:
            quantity += 1
        self._venue.move(order, quantity=quantity)
        return self._emit("amend", id=order.id, quantity=quantity * self._lot)

    def _change_of_mind(self) -> None:
        order = self._random.choice(self._venue.stops) if self._venue.stops and self._chance(0.2) else None
        order = order or self._some_resting()
        if order is not None:
            self._end(order, "cancel", None)

    # What others do

    def _take_market(self) -> None:
        self._place(self._other(), self._taking_side(), "market", time_in_force="ioc")

    def _take_immediate(self) -> None:
        side = self._taking_side()
        self._place(self._other(), side, "limit", price=self._beyond(side), time_in_force="ioc")

    def _take_whole(self) -> None:
        side = self._taking_side()
        self._place(self._other(), side, "limit", price=self._beyond(side), time_in_force="fok")

    def _wait(self) -> None:
        side = self._side()
        away = self._random.gauss(2.0, 3.0) * self._step
        price = self._price(self._fair - away if side == "buy" else self._fair + away)
        self._place(self._other(), side, "limit", price=price)

    def _wait_for_a_time(self) -> None:
        side = self._side()
        away = (1 + self._random.expovariate(0.5)) * self._step
        price = self._price(self._fair - away if side == "buy" else self._fair + away)
        order = self._place(self._other(), side, "limit", price=price, time_in_force="gtt")
        if order.live:
            end_ms = int(self._now_ms + self._random.uniform(2_000, 120_000))
            heapq.heappush(self._ends, (end_ms, self._emitted, order))

    def _stop(self) -> None:
        if len(self._venue.stops) >= STOPS_MAX:
            return self._end(self._random.choice(self._venue.stops), "cancel", None)
        side = self._side()
        away = self._random.uniform(3, 25) * self._step
        stop = self._price(self._fair + away if side == "buy" else self._fair - away)
        if self._chance(0.5):
            self._place(self._other(), side, "stop", stop_price=stop)
        else:
            further = int(3 * self._step)
            price = max(1, stop + further if side == "buy" else stop - further)
            self._place(self._other(), side, "stop_limit", price=price, stop_price=stop)
        return None

    def _reduce(self) -> None:
        holders = [user for user, lots in self._held.items() if lots > 10 and not is_maker(user)]
        if not holders:
            return self._take_market()
        user = self._random.choice(holders)
        lots = max(1, self._held[user] // self._random.randint(2, 4))
        self._place(user, "sell", "market", time_in_force="ioc", lots=lots, reduce_only=True)
        return None

    def _swap(self) -> None:
        """A market order that a pool fills, not a maker."""
        order = self._new(self._other(), self._side(), "market", time_in_force="ioc")
        order.filled, order.live = order.quantity, False
        self._report(order, None, order.quantity, self._price(self._fair))

    def _transfer(self) -> None:
        """A deposit of what the market needs; now and then something is withdrawn."""
        base, quote = split_market(self.spec.symbol)
        asset, unit = (base, self._lot) if self._chance(0.4) else (quote, Decimal(10))
        lots = max(1, int(self._random.lognormvariate(5.0, 1.0)))
        self._emit(
            "withdrawal" if self._chance(0.25) else "deposit",
            user_id=self._users[self._other()],
            asset=asset,
            amount=lots * unit,
            id=self._next_id("transfer"),
        )

    # What the venue does

    def _end_of_time(self) -> None:
        *_, order = heapq.heappop(self._ends)
        if order.live:
            self._end(order, "expire", "the venue's session of the order is over")

    def _bust(self) -> None:
        if not self._recent:
            return self._quote()
        match = self._recent[self._random.randrange(len(self._recent))]
        self._recent.remove(match)
        for order in match.orders:
            # Its quantity does not come back: what lives loses it, what was filled is cancelled.
            order.filled -= match.lots
            order.quantity -= match.lots
            self._hold(order, -match.lots)
        return self._emit("bust", match_id=match.id, reason="clearly erroneous")

    def _place(
        self,
        user: int,
        side: Side,
        kind: str,
        *,
        price: int | None = None,
        stop_price: int | None = None,
        time_in_force: str = "gtc",
        post_only: bool = False,
        reduce_only: bool = False,
        lots: int | None = None,
    ) -> SimulatedOrder:
        order = self._new(
            user,
            side,
            kind,
            price=price,
            stop_price=stop_price,
            time_in_force=time_in_force,
            post_only=post_only,
            reduce_only=reduce_only,
            lots=lots,
        )
        if stop_price is not None:
            self._venue.stops.append(order)
        elif post_only and self._venue.would_take(side, price):
            order.live = False
            self._emit("reject", id=order.id, reason="post-only, and would take")
        elif time_in_force == "fok" and not self._venue.fills_whole(side, price or 0, order.quantity, user):
            order.live = False
            self._emit("cancel", id=order.id, reason="cannot be filled whole")
        else:
            self._execute(order)
        return order

    def _new(self, user: int, side: Side, kind: str, *, lots: int | None = None, **terms: Any) -> SimulatedOrder:
        quantity = lots or max(1, int(self.spec.lots * self._random.lognormvariate(0.0, 0.8)))
        order = SimulatedOrder(self._next_id("order"), user, side, kind, quantity=quantity, **terms)
        fields: dict[str, Any] = {
            "id": order.id,
            "user_id": self._users[user],
            "market": self.spec.symbol,
            "side": side,
            "type": kind,
            "quantity": quantity * self._lot,
            "time_in_force": order.time_in_force,
        }
        if order.price is not None:
            fields["price"] = order.price * self._tick
        if order.stop_price is not None:
            fields["stop_price"] = order.stop_price * self._tick
        if order.time_in_force == "gtt":
            fields["expires_at"] = self._good_till
        if order.post_only or order.reduce_only:
            fields |= {"post_only": order.post_only, "reduce_only": order.reduce_only}
        self._emit("place", **fields)
        return order

    def _execute(self, taker: SimulatedOrder) -> None:
        """Match an order and what its trades trigger."""
        waiting = deque([taker])
        while waiting:
            order = waiting.popleft()
            for found in self._venue.match(order):
                if not isinstance(found, Execution):
                    self._emit("cancel", id=found.id, reason="would trade with its own user")
                    continue
                self._report(order, found.maker, found.lots, found.price)
                while (stop := self._venue.reached(found.price)) is not None:
                    self._emit("trigger", id=stop.id, reason="a trade reached it")
                    waiting.append(stop)
            if order.live and order.price is not None and order.time_in_force in {"gtc", "gtt"}:
                self._venue.rest(order)
            elif order.live:
                order.live = False
                self._emit("cancel", id=order.id, reason="nothing more to take")

    def _report(self, taker: SimulatedOrder, maker: SimulatedOrder | None, lots: int, price: int) -> None:
        match_id = self._next_id("match")
        orders = (taker,) if maker is None else (taker, maker)
        for order in orders:
            self._hold(order, lots)
        self._emit(
            "fill",
            market=self.spec.symbol,
            id=match_id,
            price=price * self._tick,
            base_amount=lots * self._lot,
            taker_order_id=taker.id,
            **({"maker_order_id": maker.id} if maker is not None else {}),
            source=SOURCE,
            source_match_id=f"{self._plan.seed}-{self._start_ms}-{self._emitted}",
        )
        self._recent.append(_Match(match_id, lots, orders))

    def _end(self, order: SimulatedOrder, kind: CommandKind, reason: str | None) -> None:
        self._venue.end(order)
        self._emit(kind, id=order.id, reason=reason)

    # Small matters

    def _emit(self, kind: CommandKind, **fields: Any) -> None:
        self._out.append(Command(self._tell_ms(), kind, fields, follows=bool(self._out)))
        self._emitted += 1
        self._now_ms += 1.0

    def _tell_ms(self) -> int:
        return int(self._now_ms)

    def _next_id(self, what: str) -> UUID:
        """Of what the next command makes: its time, and what stands for chance. Later ids are higher."""
        name = f"{self._plan.seed} {self._start_ms} {what} {self._emitted}"
        return id_of_source(self._tell_ms(), SOURCE, self.spec.symbol, name)

    def _hold(self, order: SimulatedOrder, lots: int) -> None:
        self._held[order.user] = self._held.get(order.user, 0) + (lots if order.side == "buy" else -lots)

    def _side(self) -> Side:
        return "buy" if self._random.random() < 0.5 else "sell"

    def _taking_side(self) -> Side:
        """Whoever takes takes what is cheap by the price that walks: so the book follows it."""
        ask, bid = self._venue.asks.best(), self._venue.bids.best()
        if self._chance(0.6):
            if ask is not None and ask < self._fair:
                return "buy"
            if bid is not None and bid > self._fair:
                return "sell"
        return self._side()

    def _other(self) -> int:
        return self._random.choice(self._others)

    def _chance(self, share: float) -> bool:
        return self._random.random() < share

    def _price(self, ticks: float) -> int:
        return max(1, int(ticks))

    def _beyond(self, side: Side) -> int:
        """A limit that takes what stands near."""
        best = self._venue.other(side).best() or self._price(self._fair)
        further = int(self._random.uniform(0, 2) * self._step)
        return max(1, best + further if side == "buy" else best - further)

    def _some_resting(self) -> SimulatedOrder | None:
        side = self._venue.own(self._side())
        if not side.count:
            return None
        place = min(int(self._random.expovariate(0.2)), side.count - 1)
        return next(order for number, order in enumerate(side) if number == place)
