"""One owner at a time; killed at any moment, nothing is lost and nothing doubled."""

import asyncio
from random import Random

import psycopg
import pytest

from novadex.analytics import metrics
from novadex.analytics.catch_up import catch_up
from novadex.analytics.projection import Outcome, TradeProjection
from novadex.errors import NovaDexError
from novadex.instance import Endpoints
from novadex.settings import load_settings
from novadex.storage.connection import DatabaseConnection
from tests.integration.analytics.records import (
    WAIT_S_MAX,
    drain,
    eventually,
    expected_figures,
    made_final,
    state_of,
    stored_figures,
)


async def test_killed_in_the_middle_of_a_batch_it_loses_and_doubles_nothing(
    projection, worker_db, postgres, venue, fresh_databases
):
    first = venue.record(*venue.random_trades(30, seed=6))
    await drain(projection)
    second = venue.record(*venue.random_trades(30, seed=7))

    async def blocked():
        with postgres.superuser() as admin:
            row = admin.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'",
                (fresh_databases.analytics,),
            ).fetchone()
        pids.extend(row or ())
        return bool(row)

    pids = []
    with psycopg.connect(fresh_databases.analytics_url("owner")) as blocker:
        # Facts and candles are written when it comes to the users' figures, and waits there.
        blocker.execute("LOCK TABLE trading_analytics IN SHARE MODE")
        step = asyncio.create_task(projection.step())
        await eventually(blocked)
        with postgres.superuser() as admin:
            admin.execute("SELECT pg_terminate_backend(%s)", (pids[0],))
        with pytest.raises(NovaDexError):
            await step
    assert await stored_figures(worker_db) == expected_figures(first), "half a batch is no batch"
    await drain(projection)
    assert await stored_figures(worker_db) == expected_figures([*first, *second])


async def test_killed_at_random_moments_it_loses_and_doubles_nothing(fresh_databases, postgres, venue):
    random = Random(8)  # noqa: S311 - no secret
    trades = []
    async with fresh_databases.connection("worker", projection_batch_max=20, projection_poll_ms=1) as db:
        projection = TradeProjection(db.main, db.analytics, db.settings)
        stop = asyncio.Event()
        running = asyncio.create_task(projection.run(stop))
        kills = 0
        while kills < 6:
            trades += venue.record(*venue.random_trades(60, seed=kills))
            await asyncio.sleep(random.uniform(0, 0.03))
            with postgres.superuser() as admin:
                killed = admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                    (random.choice([fresh_databases.main, fresh_databases.analytics]),),
                ).fetchall()
            kills += bool(killed)

        async def applied():
            state = await projection.load_state()
            return state is not None and state.applied == len(trades)

        await eventually(applied)
        stop.set()
        await asyncio.wait_for(running, WAIT_S_MAX)
        assert await stored_figures(db) == expected_figures(trades)


async def test_two_projectors_apply_everything_once(fresh_databases, venue):
    trades = []
    stop = asyncio.Event()
    async with (
        fresh_databases.connection("worker", projection_batch_max=15, projection_poll_ms=1) as one,
        fresh_databases.connection("worker", projection_batch_max=15, projection_poll_ms=1) as two,
    ):
        running = [
            asyncio.create_task(TradeProjection(db.main, db.analytics, db.settings).run(stop)) for db in (one, two)
        ]
        for seed in range(20):
            trades += venue.record(*venue.random_trades(40, seed=seed))
            await asyncio.sleep(0)
        observer = TradeProjection(one.main, one.analytics, one.settings)
        await asyncio.wait_for(catch_up(observer), WAIT_S_MAX)
        stop.set()
        await asyncio.wait_for(asyncio.gather(*running), WAIT_S_MAX)
        assert await stored_figures(one) == expected_figures(trades)
        assert (await state_of(one)).applied == len(trades)


async def test_a_position_that_another_moved_is_not_applied_over(projection, worker_db, venue):
    other = TradeProjection(worker_db.main, worker_db.analytics, worker_db.settings)
    await drain(projection)
    await drain(other)
    trades = venue.record(*venue.random_trades(10, seed=9))
    await made_final(worker_db.main)
    assert (await other.step()).applied == 10
    step = await projection.step()
    assert (step.outcome, step.applied) == (Outcome.NOT_OWNER, 0)
    await drain(projection)
    assert await stored_figures(worker_db) == expected_figures(trades)


async def test_a_held_position_is_not_waited_for(projection, owner_db, venue):
    await drain(projection)
    venue.record(venue.trade())
    async with owner_db.analytics.transaction() as session:
        await session.query("SELECT FROM projections FOR UPDATE")
        step = await asyncio.wait_for(projection.step(), 2)
    assert step.outcome is Outcome.NOT_OWNER


async def test_it_stops_when_told_and_survives_lost_servers(fresh_databases, proxy, venue):
    main_link = await proxy(fresh_databases.main_url("worker"))
    analytics_link = await proxy(fresh_databases.analytics_url("worker"))
    settings = load_settings(projection_poll_ms=1, pool_wait_s_max=0.2)
    async with DatabaseConnection(Endpoints(main_link.url, analytics_link.url, "", ""), settings) as db:
        projection = TradeProjection(db.main, db.analytics, db.settings)
        stop = asyncio.Event()
        running = asyncio.create_task(projection.run(stop))
        trades = venue.record(*venue.random_trades(10, seed=10))
        async with fresh_databases.connection("worker") as observer:

            async def applied():
                return await observer.analytics.value("SELECT count(*) FROM trade_facts") == len(trades)

            await eventually(applied)
            for seed, link in enumerate([main_link, analytics_link], 11):
                await link.refuse()
                link.cut()
                trades += venue.record(*venue.random_trades(10, seed=seed))
                failures = _failures()

                async def failed(before=failures):
                    return _failures() > before

                await eventually(failed)
                assert not running.done()
                await link.accept()
                await eventually(applied)
            assert await stored_figures(observer) == expected_figures(trades)
        stop.set()
        await asyncio.wait_for(running, 5)


def _failures():
    return sum(sample.value for family in [*metrics.projection_failures.collect()] for sample in family.samples)
