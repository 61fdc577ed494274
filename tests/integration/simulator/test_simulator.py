"""A simulation is the same for the same seed, adds nothing when it is repeated, and keeps every invariant."""

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from novadex.errors import ValidationError
from novadex.simulator.records import Plan
from novadex.simulator.service import Simulator
from tests.integration.orders.checks import violations
from tests.integration.simulator.records import hashes

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
    assert again.total > 0

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
