"""A position of another life of the main database is recognised, and everything rebuilt."""

import logging

import pytest

from novadex.analytics import metrics
from novadex.analytics.projection import Outcome, TradeProjection
from tests.integration.analytics.records import (
    drain,
    expected_figures,
    state_of,
    stored_figures,
)


@pytest.mark.parametrize(
    ("database", "change", "reason"),
    [
        ("main", "UPDATE recovery_epoch SET epoch = epoch + 1", "epoch"),
        ("analytics", "UPDATE projections SET system_identifier = system_identifier - 1", "system"),
        ("analytics", "UPDATE projections SET timeline = timeline + 1", "timeline"),
        ("analytics", "UPDATE projections SET xid = '9000000000000'", "ahead"),
    ],
)
async def test_another_life_of_main_rebuilds_loudly(database, change, reason, *, worker_db, owner_db, venue, caplog):
    before = TradeProjection(worker_db.main, worker_db.analytics, worker_db.settings)
    trades = venue.record(*venue.random_trades(30, seed=12))
    await drain(before)
    assert (await state_of(worker_db)).watermark is not None
    await getattr(owner_db, database).execute(change)
    await owner_db.analytics.execute("DELETE FROM candles")
    counted = metrics.projection_rebuilds.labels("trades", reason)._value.get()
    with caplog.at_level(logging.ERROR):
        step = await TradeProjection(worker_db.main, worker_db.analytics, worker_db.settings).step()
    assert (step.outcome, step.applied) == (Outcome.APPLIED, 30)
    assert (await state_of(worker_db)).watermark is None, "moments of another life say nothing"
    assert "rebuilt from the records" in caplog.text
    assert metrics.projection_rebuilds.labels("trades", reason)._value.get() == counted + 1
    trades += venue.record(*venue.random_trades(5, seed=13))
    await drain(TradeProjection(worker_db.main, worker_db.analytics, worker_db.settings))
    assert await stored_figures(worker_db) == expected_figures(trades)
