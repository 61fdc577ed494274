"""Hypothesis drives several clients at once against a simple model: nothing is over-filled, lost or doubled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from novadex import TradingService
from novadex.errors import UsageError
from novadex.ids import uuid7
from novadex.trading.orders.records import Match, Order
from tests.conftest import DatabasePair, add_market, add_users
from tests.integration.orders.checks import violations

MARKETS = ("SOL/USDC", "ETH/USDC")
CLIENTS = 3
LIVE = ("open", "partially_filled", "untriggered")


@dataclass
class Modelled:
    """An order as the model has it; amounts are small whole numbers."""

    id: UUID
    market: str
    side: str
    quantity: int
    status: str
    filled: int = 0
    fills: dict[UUID, int] = field(default_factory=dict)
    """Matches that stand, by what they filled."""


@dataclass
class Run:
    """What one run of the machine works on: clients are services with connections of their own."""

    pair: DatabasePair
    loop: asyncio.AbstractEventLoop
    services: list[TradingService]
    users: list[UUID]

    def do(self, *calls: Any) -> list[Any]:
        """Carry out calls at the same time."""

        async def together() -> list[Any]:
            return await asyncio.gather(*calls, return_exceptions=True)

        return self.loop.run_until_complete(together())


class Venue(RuleBasedStateMachine):
    """Each rule sends commands from several clients at once; what they answer is what the model follows."""

    make: ClassVar[list[Callable[[], Run]]] = []
    """How a run is made, where a test has put it."""

    @initialize()
    def begin(self) -> None:
        self.run = self.make[0]()
        self.orders: dict[UUID, Modelled] = {}
        self.matches: dict[UUID, tuple[Any, int, str | None]] = {}
        self.reports = 0
        self.block = 0

    def service(self, n: int) -> TradingService:
        return self.run.services[n % CLIENTS]

    def some(self, n: int) -> Modelled | None:
        return list(self.orders.values())[n % len(self.orders)] if self.orders else None

    @rule(
        orders=st.lists(
            st.tuples(st.integers(0, 3), st.sampled_from(MARKETS), st.booleans(), st.integers(1, 5), st.booleans()),
            min_size=1,
            max_size=6,
        )
    )
    def place(self, orders: list[tuple[int, str, bool, int, bool]]) -> None:
        calls, wanted = [], []
        for n, (user, market, buys, quantity, stop) in enumerate(orders):
            id, side = uuid7(), "buy" if buys else "sell"
            fields: Any = {
                "id": id,
                "user_id": self.run.users[user],
                "market": market,
                "side": side,
                "type": "stop" if stop else "limit",
                "quantity": quantity,
                **({"stop_price": 9} if stop else {"price": 5}),
            }
            # Every order is sent twice, by two clients: it is one order.
            calls += [self.service(n).place_order(fields), self.service(n + 1).place_order(fields)]
            wanted.append(Modelled(id, market, side, quantity, "untriggered" if stop else "open"))
        for outcome in self.run.do(*calls):
            assert isinstance(outcome, Order), outcome
        self.orders |= {order.id: order for order in wanted}

    @rule(
        fills=st.lists(
            st.tuples(st.integers(0, 99), st.integers(0, 99), st.integers(1, 4), st.booleans()), max_size=6
        )
    )
    def fill(self, fills: list[tuple[int, int, int, bool]]) -> None:
        self.block += 1
        calls, wanted = [], []
        for n, (first, second, amount, pool) in enumerate(fills):
            taker, maker = self.some(first), self.some(second)
            if taker is None or maker is None:
                return
            self.reports += 1
            report: Any = {
                "market": taker.market,
                "price": 5,
                "base_amount": amount,
                "taker_order_id": taker.id,
                **({} if pool else {"maker_order_id": maker.id}),
                "source": "venue",
                "source_match_id": str(self.reports),
                "chain": "evm:1",
                "block_number": self.block,
                "allow_self_trade": True,
            }
            calls += [self.service(n).record_fill(report), self.service(n + 1).record_fill(report)]
            wanted += [(taker, None if pool else maker, amount)] * 2
        done: dict[UUID, tuple[Modelled, Modelled | None, int]] = {}
        for outcome, report in zip(self.run.do(*calls), wanted, strict=True):
            assert isinstance(outcome, (Match, UsageError)), outcome
            if isinstance(outcome, Match):
                done[outcome.id] = report
        for id, (taker, maker, amount) in done.items():
            for order in (taker, maker):
                if order is not None:
                    order.filled += amount
                    order.fills[id] = amount
                    order.status = "filled" if order.filled == order.quantity else "partially_filled"
            self.matches[id] = ((taker, maker), self.block, None)

    @rule(
        steps=st.lists(
            st.tuples(
                st.integers(0, 99),
                st.sampled_from(("cancel", "amend", "reject", "trigger", "expire")),
                st.integers(1, 6),
            ),
            min_size=1,
            max_size=6,
        )
    )
    def change(self, steps: list[tuple[int, str, int]]) -> None:
        calls, touched = [], []
        for n, (number, step, quantity) in enumerate(steps):
            order = self.some(number)
            if order is None:
                return
            service = self.service(n)
            match step:
                case "cancel":
                    calls.append(service.cancel_order(order.id))
                case "amend":
                    calls.append(service.amend_order(order.id, quantity=quantity))
                case "reject":
                    calls.append(service.reject_order(order.id, reason="no"))
                case "trigger":
                    calls.append(service.trigger_order(order.id))
                case _:
                    calls.append(service.expire_order(order.id, reason="over"))
            touched.append(order)
        latest: dict[UUID, Order] = {}
        for outcome in self.run.do(*calls):
            assert isinstance(outcome, (Order, UsageError)), outcome
            if isinstance(outcome, Order) and outcome.version >= getattr(latest.get(outcome.id), "version", 0):
                latest[outcome.id] = outcome
        for order in touched:
            if (after := latest.get(order.id)) is not None:
                order.status, order.quantity = after.status, int(after.quantity)

    @rule(number=st.integers(0, 99), block=st.booleans())
    def undo(self, number: int, block: bool) -> None:
        if not self.matches:
            return
        id = list(self.matches)[number % len(self.matches)]
        _, height, undone = self.matches[id]
        if block:
            ids = [other for other, (_, of, how) in self.matches.items() if of == height and how is None]
            counts = self.run.do(*(self.service(n).revert_block("evm:1", height, reason="fork") for n in range(2)))
            assert all(isinstance(count, int) for count in counts), counts
        else:
            ids = [id] if undone is None else []
            for outcome in self.run.do(*(self.service(n).bust_trade(id, reason="typo") for n in range(2))):
                assert isinstance(outcome, Match) or undone == "reverted", outcome
        for one in ids:
            orders, of, _ = self.matches[one]
            self.matches[one] = (orders, of, "reverted" if block else "busted")
            for order in orders:
                if order is not None:
                    self.take_back(order, order.fills.pop(one), reinstate=block)

    @staticmethod
    def take_back(order: Modelled, amount: int, *, reinstate: bool) -> None:
        order.filled -= amount
        if order.status in {"filled", "partially_filled"}:
            left = "partially_filled" if order.filled else "open"
            if reinstate:
                order.status = left
            elif order.status == "filled":
                order.status = "cancelled"
            else:
                order.quantity -= amount
                order.status = left

    @rule(market=st.sampled_from(MARKETS), user=st.integers(0, 3))
    def cancel_all(self, market: str, user: int) -> None:
        counts = self.run.do(
            *(self.service(n).cancel_all_orders(user_id=self.run.users[user], market=market) for n in range(2))
        )
        assert all(isinstance(count, int) for count in counts), counts
        rows = self.run.do(self.service(0).list_orders(user_id=self.run.users[user], market=market, limit=1_000))[0]
        for order in rows.items:
            if self.orders[order.id].status in LIVE:
                self.orders[order.id].status = "cancelled"

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "run"):
            return
        db = self.service(0)._db
        [rows, broken] = self.run.do(
            db.query("SELECT id, status, quantity, filled_quantity FROM orders"), violations(db)
        )
        assert broken == {}
        assert {row.id: (row.status, row.quantity, row.filled_quantity) for row in rows} == {
            order.id: (order.status, Decimal(order.quantity), Decimal(order.filled)) for order in self.orders.values()
        }


@pytest.fixture
def runs(make_databases: Callable[[], DatabasePair]) -> Iterator[Callable[[], Run]]:
    made: list[Run] = []
    loop = asyncio.new_event_loop()

    def end(run: Run) -> None:
        for service in run.services:
            loop.run_until_complete(service.close())
            loop.run_until_complete(service._db.__aexit__(None, None, None))
        run.pair.server.drop_database(run.pair.main)
        run.pair.server.drop_database(run.pair.analytics)

    def make() -> Run:
        if made:
            end(made.pop())
        pair = make_databases()
        for symbol in MARKETS:
            add_market(pair.main_url("owner"), symbol, 9, 6)
        services = [TradingService(pair.connection("app")) for _ in range(CLIENTS)]
        made.append(Run(pair, loop, services, add_users(pair.main_url("owner"), 4)))
        return made[0]

    yield make
    if made:
        end(made.pop())
    loop.close()


def test_orders_follow_the_model_whatever_several_clients_do(runs: Callable[[], Run]) -> None:
    Venue.make[:] = [runs]
    run_state_machine_as_test(
        Venue,
        settings=settings(
            max_examples=12,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
            print_blob=True,
        ),
    )
