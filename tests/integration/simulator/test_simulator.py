"""A simulation is the same for the same seed, adds nothing when it is repeated, and keeps every invariant."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from novadex.book.service import BookService
from novadex.errors import ConflictError, NovaDexError, ValidationError
from novadex.simulator.flow import user_id
from novadex.simulator.records import Command, Plan, SimulationReport
from novadex.simulator.service import Simulator
from novadex.storage.connection import DatabaseConnection
from novadex.trading.service import TradingService
from tests.integration.orders.checks import violations
from tests.integration.simulator.records import hashes
from tests.waiting import until

MINUTES = 2


def plan_of(start: datetime, *, minutes: int = MINUTES, seed: int = 7, **more: Any) -> Plan:
    sizes: dict[str, Any] = {"markets": 2, "users": 12, "rate": 8.0} | more
    return Plan(start, minutes * 60, seed=seed, **sizes)


@pytest.fixture
def start():
    return datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)


async def test_the_same_seed_leaves_the_same_records_and_a_second_time_nothing_more(start, db, make_databases):
    plan = plan_of(start)
    report = await Simulator(db, plan, simulated_time=True).run()
    assert not report.refused
    assert report.simulated_s == MINUTES * 60
    assert {"place", "fill", "cancel", "reject", "trigger", "amend", "expire", "bust"} <= set(report.commands)
    records = await hashes(db)
    assert not await violations(db)

    again = await Simulator(db, plan, simulated_time=True).run()
    assert await hashes(db) == records, "a second time adds nothing"
    assert again.commands == report.commands, "a second time reports the same"
    assert not again.refused

    async with make_databases().connection("app") as elsewhere:
        # Stopped in the middle, and then begun again.
        stop = asyncio.Event()
        middle = report.total // 3
        simulator = Simulator(elsewhere, plan, simulated_time=True)
        running = asyncio.create_task(simulator.run(stop, lambda now: stop.set() if now.commands > middle else None))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(60):
                await running
        assert await hashes(elsewhere) != records
        await Simulator(elsewhere, plan, simulated_time=True).run()
        assert await hashes(elsewhere) == records, "two runs of a seed are equal"

        other = plan_of(start, minutes=1, seed=8)
        await Simulator(elsewhere, other, simulated_time=True).run()
        assert not await violations(elsewhere)
        left = await elsewhere.main.value(
            "SELECT count(*) FROM orders WHERE status IN ('open', 'partially_filled', 'untriggered') AND id IN"
            " (SELECT order_id FROM order_events WHERE reason = 'requoted')"
        )
        assert left == 0
    assert await hashes(db) == records


async def test_in_real_time_commands_come_at_their_moment(db):
    plan = Plan(datetime.now(UTC), 1.5, markets=2, users=8, rate=60.0)
    report = await Simulator(db, plan).run()
    assert report.seconds >= 1.4, "it waits for the moments of its commands"
    assert report.total > 10
    assert not report.refused
    assert not await violations(db)


async def test_a_simulation_ahead_of_the_clock_or_too_long_ago_is_refused(db, start):
    for plan in (plan_of(start, minutes=120), plan_of(start - timedelta(days=366))):
        with pytest.raises(ValidationError):
            await Simulator(db, plan, simulated_time=True).run()
    with pytest.raises(ValidationError, match="duration"):
        await Simulator(db, Plan(start, 0), simulated_time=True).run()
    wrongs: list[dict[str, Any]] = [{"markets": 0}, {"users": 3}, {"rate": 0}, {"rate": 1e9}, {"seed": -1}]
    for wrong in wrongs:
        with pytest.raises(ValidationError):
            plan_of(start, **wrong)


# Others in its markets

SYMBOL = "BTC/USDT-SIM"


@contextlib.asynccontextmanager
async def simulating(db: DatabaseConnection, plan: Plan) -> AsyncIterator[None]:
    """A simulation that is at work; stopped at the end of the block."""
    stop, begun = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(Simulator(db, plan).run(stop, lambda now: begun.set() if now.commands else None))
    try:
        await until(lambda: begun.is_set() or running.done())
        if running.done():
            await running
        yield
    finally:
        stop.set()
        await running


def endless(**more: Any) -> Plan:
    return Plan(datetime.now(UTC), 0, **({"markets": 1, "users": 12, "rate": 100.0} | more))


async def cancelled(db: DatabaseConnection) -> int:
    return await db.main.value("SELECT count(*) FROM order_events WHERE reason = 'a new simulation begins'")


async def crossed(db: DatabaseConnection) -> bool:
    return (await BookService(db).get_book(SYMBOL, depth=0)).crossed


async def test_a_market_is_simulated_by_one_simulation_at_a_time(db, fresh_databases, start):
    async with fresh_databases.connection("app") as elsewhere, simulating(db, endless()):
        for other in (Simulator(elsewhere, plan_of(start), simulated_time=True), Simulator(elsewhere, endless())):
            with pytest.raises(ConflictError, match=f"{SYMBOL}.*--first-market"):
                await other.run()
        assert not await cancelled(elsewhere)
        beside = plan_of(start, minutes=1, seed=9, first_market=2)
        assert (await Simulator(elsewhere, beside, simulated_time=True).run()).commands["place"] > 0
    # The market is free again at the end.
    await Simulator(db, plan_of(start, minutes=1), simulated_time=True).run()
    assert not await crossed(db)


async def test_a_simulation_that_lost_its_connection_takes_its_markets_again(db, fresh_databases):
    held = "SELECT max(pid) FROM pg_locks WHERE locktype = 'advisory' AND classid = 1936289141 AND granted"
    async with fresh_databases.connection("app") as elsewhere, simulating(db, endless()):
        pid = await elsewhere.main.value(held)
        with psycopg.connect(fresh_databases.main_url(None), autocommit=True) as superuser:
            superuser.execute("SELECT pg_terminate_backend(%s)", (pid,))
        await until(lambda: elsewhere.main.value(f"SELECT ({held}) <> $1", [pid]))
        with pytest.raises(ConflictError, match=SYMBOL):
            await Simulator(elsewhere, endless()).run()


class StoppedAfter(Simulator):
    """A simulation that stops by itself after so many commands."""

    left: int
    stop: asyncio.Event

    async def run_until_stopped(self, commands: int) -> SimulationReport:
        self.left, self.stop = commands, asyncio.Event()
        return await self.run(self.stop)

    def done(self, number: int, command: Command, error: NovaDexError | None) -> None:
        super().done(number, command, error)
        self.left -= 1
        if self.left <= 0:
            self.stop.set()


@pytest.mark.parametrize("commands", [57, 133, 211, 350, 499])
async def test_a_simulation_that_was_stopped_leaves_no_crossed_book(db, start, commands):
    plan = plan_of(start, markets=1)
    await StoppedAfter(db, plan, simulated_time=True).run_until_stopped(commands)
    assert not await crossed(db)


async def test_a_stopped_simulation_cannot_go_on_once_another_has_begun(db, start):
    plan = plan_of(start, minutes=1, markets=1)
    await StoppedAfter(db, plan, simulated_time=True).run_until_stopped(200)
    await Simulator(db, plan_of(start, minutes=1, markets=1, seed=8), simulated_time=True).run()
    records = await hashes(db)
    with pytest.raises(ConflictError, match=f"another one has begun in {SYMBOL}"):
        await Simulator(db, plan, simulated_time=True).run()
    assert await hashes(db) == records
    assert not await crossed(db)


async def test_a_finished_simulation_may_be_repeated_after_another_and_adds_nothing(db, start):
    plan = plan_of(start, minutes=1, markets=1)
    report = await Simulator(db, plan, simulated_time=True).run()
    await Simulator(db, plan_of(start, minutes=1, markets=1, seed=8), simulated_time=True).run()
    records = await hashes(db)
    again = await Simulator(db, plan, simulated_time=True).run()
    assert (again.commands, again.refused) == (report.commands, {})
    assert await hashes(db) == records


async def test_what_others_left_goes_before_a_stopped_simulation_goes_on(db, start):
    plan = plan_of(start, minutes=1, markets=1)
    await StoppedAfter(db, plan, simulated_time=True).run_until_stopped(200)
    trading = TradingService(db)
    left = await trading.place_order(
        user_id=user_id(7, 1), market=SYMBOL, side="buy", type="limit", quantity="1", price="900000"
    )
    report = await Simulator(db, plan, simulated_time=True).run()
    assert (await trading.get_order(left.id)).status == "cancelled"
    assert not report.refused
    assert not await crossed(db)
    await trading.close()


async def test_the_same_seed_and_start_with_other_sizes_are_refused(db, start):
    await Simulator(db, plan_of(start, minutes=1, markets=1), simulated_time=True).run()
    records = await hashes(db)
    for other in (plan_of(start, minutes=1, markets=1, rate=9.0), plan_of(start, minutes=1, markets=1, users=13)):
        with pytest.raises(ConflictError, match="other sizes"):
            await Simulator(db, other, simulated_time=True).run()
    orders = await hashes(db)
    assert {name: orders[name] for name in ("events", "trades")} == {
        name: records[name] for name in ("events", "trades")
    }
