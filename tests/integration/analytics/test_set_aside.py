"""A row that cannot be applied is set aside with its reason, and the rest goes on."""

from decimal import Decimal

import psycopg
import pytest

from novadex.analytics import metrics
from tests.integration.analytics.records import (
    drain,
    expected_figures,
    state_of,
    stored_figures,
)


async def test_a_bad_row_is_set_aside_and_the_rest_goes_on(projection, worker_db, owner_db, venue):
    await owner_db.analytics.execute("ALTER TABLE trade_facts ADD CONSTRAINT no_sevens CHECK (base_amount <> 7)")
    await owner_db.analytics.execute("ALTER TABLE candles ADD CONSTRAINT no_nines CHECK (high <> 999)")
    good = venue.random_trades(40, seed=3)
    bad = [
        venue.trade(3000, base_amount=Decimal(7), price=Decimal("0.10"), sequence=5),
        venue.trade(3600, price=Decimal(999)),
    ]
    venue.record(*good[:20], bad[0], *good[20:], bad[1])
    counted = metrics.projection_set_aside.labels("trades", "23514")._value.get()
    await drain(projection)
    assert await stored_figures(worker_db) == expected_figures(good)
    rejects = {row.row_id: row for row in await worker_db.analytics_query("SELECT * FROM projection_rejects")}
    assert rejects.keys() == {t.id for t in bad}
    reject = rejects[bad[0].id]
    assert (reject.projection, reject.code) == ("trades", "23514")
    assert "no_sevens" in reject.reason
    assert reject.content["base_amount"] == "7"
    assert Decimal(reject.content["price"]) == Decimal("0.10")
    assert reject.content["executed_at"] == "2024-08-08T12:50:00.000000Z"
    assert reject.content["sequence"] == "5"
    assert reject.content["user_id"] == str(venue.user)
    state = await state_of(worker_db)
    assert (state.applied, state.set_aside) == (40, 2)
    assert metrics.projection_set_aside.labels("trades", "23514")._value.get() == counted + 2


async def test_a_batch_of_bad_rows_only_is_set_aside_whole(projection, worker_db, owner_db, venue):
    await owner_db.analytics.execute("ALTER TABLE trading_analytics ADD CONSTRAINT none CHECK (trades < 0)")
    bad = venue.record(*venue.random_trades(17, seed=4))
    await drain(projection)
    assert not (await stored_figures(worker_db)).facts
    assert await worker_db.analytics.value("SELECT count(*) FROM projection_rejects") == len(bad)


@pytest.mark.parametrize(
    "fault",
    [
        "ALTER TABLE candles RENAME TO candles_gone",
        "REVOKE INSERT ON trading_analytics FROM novadex_worker",
        """CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
        CREATE TRIGGER fail BEFORE INSERT ON candles FOR EACH ROW EXECUTE FUNCTION fail()""",
    ],
)
async def test_a_fault_that_is_not_of_a_row_sets_nothing_aside(fault, projection, worker_db, analytics_url, venue):
    venue.record(*venue.random_trades(5, seed=5))
    with psycopg.connect(analytics_url("owner"), autocommit=True) as owner:
        owner.execute(fault)
    with pytest.raises(psycopg.Error):
        await drain(projection)
    assert await worker_db.analytics.value("SELECT count(*) FROM trade_facts") == 0
    assert await worker_db.analytics.value("SELECT count(*) FROM projection_rejects") == 0
    assert (await state_of(worker_db)).xid_number == 0
