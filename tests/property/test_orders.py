"""Hypothesis drives several clients at once against a simple model: nothing is over-filled, lost or doubled."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from psycopg import errors

from novadex import DatabaseConnection, TradingService
from novadex.book.orders import OrderBook
from novadex.book.store import read_news
from novadex.errors import UsageError
from novadex.ids import uuid7
from novadex.portfolio.projection import PortfolioProjection
from novadex.portfolio.records import Transfer
from novadex.portfolio.transfers import TransferService
from novadex.trading.orders.records import Match, Order
from tests.conftest import DatabasePair, MarketRow, add_market, add_users
from tests.integration.analytics.records import drain
from tests.integration.orders.checks import violations

MARKETS = ("SOL/USDC", "ETH/USDC")
CLIENTS = 3
LIVE = ("open", "partially_filled", "untriggered")
FILLS = ("match", "match", "match", "pool", "any")
"""Of two orders that fit, with a pool, or of any two, which is mostly refused."""
OVER = frozenset({"cancelled", "expired", "rejected"})
ILLEGAL_ONCE_OVER = (
    ("triggered", "open"),
    ("amended", "open"),
    ("cancelled", "cancelled"),
    ("expired", "expired"),
    ("filled", "filled"),
)
ILLEGAL_EVENT = """
    INSERT INTO order_events (
        id, order_id, version, market_id, market_sequence, type, status, quantity, filled_quantity, price, actor
    )
    SELECT uuidv7(), o.id, o.version + 1, o.market_id, s.sequence + 1, %(type)s, %(status)s, o.quantity,
        o.filled_quantity, o.price, 'plain SQL'
    FROM orders AS o JOIN market_sequences AS s USING (market_id) WHERE o.id = %(order)s
"""
HELD = "SELECT user_id, asset_id, sum(amount) AS held FROM portfolio_holdings GROUP BY user_id, asset_id"


@dataclass
class Modelled:
    """An order as the model has it; amounts are small whole numbers."""

    id: UUID
    user: UUID
    market: str
    side: str
    type: str
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
    worker: DatabaseConnection
    users: list[UUID]
    markets: dict[str, MarketRow]

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
        self.executed: dict[UUID, list[tuple[UUID, str, str, int]]] = {}
        """User, market, side and amount of both sides of a match."""
        self.transferred: Counter[UUID] = Counter()
        """USDC by user."""
        self.books = {name: OrderBook(0, 6, 9) for name in MARKETS}
        """As a projector has them, from the events alone."""
        self.reports = 0
        self.block = 0
        self.place([(n % 4, MARKETS[n // 2 % 2], n % 2 == 0, 5, False) for n in range(8)])

    def service(self, n: int) -> TradingService:
        return self.run.services[n % CLIENTS]

    def some(self, n: int) -> Modelled | None:
        return list(self.orders.values())[n % len(self.orders)] if self.orders else None

    def fillable(self, n: int, against: Modelled | None = None) -> Modelled | None:
        """An order that can be filled, against another one where that is given; any order where there is none."""
        found = [
            order
            for order in self.orders.values()
            if order.type == "limit"
            and order.status in {"open", "partially_filled"}
            and (against is None or (order.market == against.market and order.side != against.side))
        ]
        return found[n % len(found)] if found else self.some(n)

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
            kind, status = ("stop", "untriggered") if stop else ("limit", "open")
            wanted.append(Modelled(id, self.run.users[user], market, side, kind, quantity, status))
        for outcome in self.run.do(*calls):
            assert isinstance(outcome, Order), outcome
        self.orders |= {order.id: order for order in wanted}

    @rule(
        fills=st.lists(
            st.tuples(st.integers(0, 99), st.integers(0, 99), st.integers(1, 4), st.sampled_from(FILLS)),
            min_size=1,
            max_size=6,
        )
    )
    def fill(self, fills: list[tuple[int, int, int, str]]) -> None:
        self.block += 1
        calls, wanted = [], []
        for n, (first, second, amount, kind) in enumerate(fills):
            taker = self.some(first) if kind == "any" else self.fillable(first)
            maker = self.some(second) if kind == "any" else self.fillable(second, taker)
            if taker is None or maker is None:
                return
            pool = kind == "pool"
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
            self.executed[id] = [(o.user, o.market, o.side, amount) for o in (taker, maker) if o is not None]
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

    @rule(
        transfers=st.lists(
            st.tuples(st.integers(0, 3), st.sampled_from(("deposit", "withdrawal")), st.integers(1, 9)),
            min_size=1,
            max_size=4,
        )
    )
    def transfer(self, transfers: list[tuple[int, str, int]]) -> None:
        calls = []
        for n, (number, kind, amount) in enumerate(transfers):
            user = self.run.users[number]
            fields: Any = {"id": uuid7(), "user_id": user, "kind": kind, "asset": "USDC", "amount": amount}
            # Reported twice, by two clients: it is one transfer.
            calls += [TransferService(self.service(n + again)._db).record(fields) for again in range(2)]
            self.transferred[user] += amount if kind == "deposit" else -amount
        for outcome in self.run.do(*calls):
            assert isinstance(outcome, Transfer), outcome

    @rule(number=st.integers(0, 99), step=st.sampled_from(ILLEGAL_ONCE_OVER))
    def take_an_illegal_step_by_sql(self, number: int, step: tuple[str, str]) -> None:
        order = self.some(number)
        if order is None or order.status not in OVER:
            return
        with psycopg.connect(self.run.pair.main_url("owner"), autocommit=True) as connection:
            with pytest.raises((errors.IntegrityError, errors.RaiseException)):
                connection.execute(ILLEGAL_EVENT, {"order": order.id, "type": step[0], "status": step[1]})
            with pytest.raises((errors.IntegrityError, errors.RaiseException)):
                connection.execute("UPDATE orders SET status = %s WHERE id = %s", (step[1], order.id))

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
        for name, book in self.books.items():
            assert self.run.do(self.follow(book, self.run.markets[name].id)) == [None]
            assert {id: (order.side, order.lots) for id, order in book.orders.items()} == {
                str(order.id): (order.side, (order.quantity - order.filled) * 10**9)
                for order in self.orders.values()
                if order.market == name and order.type == "limit" and order.status in {"open", "partially_filled"}
            }

    async def follow(self, book: OrderBook, market_id: int) -> None:
        async with self.service(0)._db.main.transaction() as session:
            _, news = await read_news(session, {market_id: book.sequence}, 10_000)
            for change in (change for changes in news for change in changes):
                book.apply(change)

    def teardown(self) -> None:
        """At the end, what users hold is what was executed and stands, and what was transferred."""
        if not hasattr(self, "run"):
            return
        holdings: Counter[tuple[UUID, int]] = Counter()
        for id, sides in self.executed.items():
            for user, name, side, amount in sides if self.matches[id][2] is None else ():
                market, sign = self.run.markets[name], 1 if side == "buy" else -1
                holdings[user, market.base_asset_id] += sign * amount
                holdings[user, market.quote_asset_id] -= sign * amount * 5
        for user, amount in self.transferred.items():
            holdings[user, self.run.markets[MARKETS[0]].quote_asset_id] += amount
        worker = self.run.worker
        [done] = self.run.do(drain(PortfolioProjection(worker.main, worker.settings)))
        assert done is None, done
        [rows] = self.run.do(worker.query(HELD))
        assert {(row.user_id, row.asset_id): row.held for row in rows if row.held} == {
            key: Decimal(held) for key, held in holdings.items() if held
        }


@pytest.fixture
def runs(make_databases: Callable[[], DatabasePair]) -> Iterator[Callable[[], Run]]:
    made: list[Run] = []
    loop = asyncio.new_event_loop()

    def end(run: Run) -> None:
        for service in run.services:
            loop.run_until_complete(service.close())
            loop.run_until_complete(service._db.__aexit__(None, None, None))
        loop.run_until_complete(run.worker.__aexit__(None, None, None))
        run.pair.server.drop_database(run.pair.main)
        run.pair.server.drop_database(run.pair.analytics)

    def make() -> Run:
        if made:
            end(made.pop())
        pair = make_databases()
        markets = {symbol: add_market(pair.main_url("owner"), symbol, 9, 6) for symbol in MARKETS}
        services = [TradingService(pair.connection("app")) for _ in range(CLIENTS)]
        users = add_users(pair.main_url("owner"), 4)
        made.append(Run(pair, loop, services, pair.connection("worker"), users, markets))
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
