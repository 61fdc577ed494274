"""The watermark is true, and what was committed can be waited for."""

import psycopg
import pytest

from novadex.analytics.catch_up import catch_up
from novadex.analytics.projection import TradeProjection
from novadex.errors import TimeoutExceededError
from tests.integration.analytics.records import (
    WAIT_S_MAX,
    copy_trades,
    drain,
    expected_figures,
    state_of,
    stored_figures,
)


@pytest.mark.parametrize("others_commit", [False, True])
async def test_the_watermark_waits_for_transactions_that_had_begun_to_write(
    others_commit, projection, worker_db, main_url, venue
):
    with psycopg.connect(main_url("owner")) as slow:
        await drain(projection)
        copy_trades(slow, [venue.trade()])
        begun = slow.execute("SELECT clock_timestamp()").fetchall()[0][0]
        if others_commit:
            venue.record(venue.trade())
        for _ in range(3):
            await drain(projection)
        assert (await state_of(worker_db)).watermark < begun
        slow.commit()
    await drain(projection)
    assert (await state_of(worker_db)).watermark > begun
    assert projection.lag_s is not None
    assert projection.lag_s < WAIT_S_MAX


async def test_catching_up_has_what_was_committed_and_works_without_a_projector(projection, worker_db, venue):
    trades = venue.record(*venue.random_trades(25, seed=14))
    state = await catch_up(projection)
    assert state.applied == 25
    assert await stored_figures(worker_db) == expected_figures(trades)


async def test_catching_up_tells_how_much_waits(fresh_databases, venue, monkeypatch):
    monkeypatch.setattr("novadex.analytics.catch_up.PROGRESS_INTERVAL_S", 0.0)
    venue.record(*venue.random_trades(25, seed=15))
    told = []
    async with fresh_databases.connection("worker", projection_batch_max=10) as db:
        await catch_up(TradeProjection(db.main, db.analytics, db.settings), progress=told.append)
    waiting = [now.waiting for now in told]
    assert waiting[0] == 25
    assert waiting == sorted(waiting, reverse=True)


async def test_catching_up_gives_up_on_an_open_transaction_with_a_reason(projection, main_url, venue):
    with psycopg.connect(main_url("owner")) as slow:
        copy_trades(slow, [venue.trade()])
        await catch_up(projection, stalled_s_max=0.3)  # nothing is committed behind it
        venue.record(venue.trade())
        with pytest.raises(TimeoutExceededError) as caught:
            await catch_up(projection, stalled_s_max=0.3)
    assert "pg_stat_activity" in str(caught.value)
