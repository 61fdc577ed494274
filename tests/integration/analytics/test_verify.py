"""Verify finds and names whatever differs from the records; rebuild repairs it."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import uuid4

import psycopg
import pytest

from novadex.analytics.limits import allow_long_work
from novadex.analytics.projection import TradeProjection
from novadex.analytics.rebuild import rebuild_trades
from novadex.analytics.verify import verify_trades
from novadex.errors import NovaDexError, TimeoutExceededError, UnavailableError
from tests.integration.analytics.records import (
    NOON,
    TradeRow,
    drain,
    eventually,
    expected_figures,
    matched,
    state_of,
    stored_figures,
)


@pytest.fixture
async def trades(venue, users, sol_market, projection):
    """Trades of three months with matches and fees of every kind, applied."""
    maker = users(1)[0]
    fee = (sol_market.base_asset_id, "SOL")
    trades = []
    for days in (0, 20, 45):
        moment = NOON + timedelta(days=days)
        for n in range(12):
            taker = TradeRow(
                venue.user,
                venue.market,
                # Over the end of a month, which lies within a bucket of ids.
                moment + timedelta(hours=n * 5),
                base_amount=Decimal(n + 1) / 8,
                price=Decimal(100 + n),
                fee_amount=Decimal("0.001"),
                fee_asset=fee,
            )
            trades += matched(taker, maker, uuid4())
    moment = datetime(2024, 8, 31, 22, 30, tzinfo=UTC)
    trades += [TradeRow(venue.user, venue.market, moment + timedelta(minutes=30 * n)) for n in range(6)]
    venue.record(*trades)
    await drain(projection)
    return trades


async def verify(db):
    found = []
    report = await verify_trades(db.main, db.analytics, found.append)
    assert report.differences == len(found)
    return report, found


async def rebuild(db):
    return await rebuild_trades(db.main, db.analytics, db.settings)


async def test_figures_that_agree_have_no_difference(worker_db, trades):
    report, found = await verify(worker_db)
    assert not found
    figures = expected_figures(trades)
    assert report.compared == {
        "trade_facts": len(trades),
        "candles": len(figures.candles),
        "trading_analytics": len(figures.days),
        "trading_other_fees": len(figures.other_fees),
        "projection_rejects": 0,
    }
    assert report.compared["trading_other_fees"] > 0


async def test_nothing_to_compare_is_no_difference(projection, worker_db, venue):
    await drain(projection)
    report, found = await verify(worker_db)
    assert not found
    assert set(report.compared.values()) == {0}


FACT = "(SELECT id FROM trade_facts ORDER BY id OFFSET 3 LIMIT 1)"
CORRUPTIONS = [
    (f"UPDATE trade_facts SET price = price + 1 WHERE id = {FACT}", "trade_facts", {"price"}),
    (
        f"UPDATE trade_facts SET fee_asset = NULL, sequence = 7 WHERE id = {FACT}",
        "trade_facts",
        {"fee_asset", "sequence"},
    ),
    (f"DELETE FROM trade_facts WHERE id = {FACT}", "trade_facts", "missing"),
    (
        """INSERT INTO trade_facts (id, user_id, market, type, side, liquidity, base_amount, quote_amount,
           price, fee_amount, executed_at) VALUES (uuid_at('2024-08-08 12:00:01+00'), uuid_at(now()),
           'BTC/USDT', 'spot', 'buy', 'taker', 1, 1, 1, 0, now())""",
        "trade_facts",
        "extra",
    ),
    (
        "UPDATE candles SET close = low, taker_buy_base_volume = 0 WHERE start = '2024-08-08 12:00+00'",
        "candles",
        {"taker_buy_base_volume"},
    ),
    (
        "UPDATE candles SET base_volume = base_volume + 0.000000000000000001 WHERE start = '2024-08-08 12:00+00'",
        "candles",
        {"base_volume"},
    ),
    ("UPDATE candles SET last_id = uuid_at(now()) WHERE start = '2024-08-08 12:00+00'", "candles", {"last_id"}),
    ("DELETE FROM candles WHERE start = '2024-08-08 12:00+00'", "candles", "missing"),
    ("UPDATE candles SET market = 'BTC/USDD' WHERE start = '2024-08-08 12:00+00'", "candles", "moved"),
    (
        """INSERT INTO candles SELECT 'ETH/USDT', '1999-01-01Z', 1, 1, 1, 1, 1, 1, 0, 1, '1999-01-01Z', 0,
           first_id, '1999-01-01Z', 0, last_id FROM candles LIMIT 1""",
        "candles",
        "extra",
    ),
    (
        """UPDATE trading_analytics SET trades = trades + 1, buys = buys + 1, taker_trades = taker_trades + 1
           WHERE (user_id, day) = (SELECT user_id, day FROM trading_analytics ORDER BY 1, 2 LIMIT 1)""",
        "trading_analytics",
        {"trades", "buys", "taker_trades"},
    ),
    (
        """DELETE FROM trading_analytics WHERE (user_id, day) = (SELECT user_id, day FROM trading_analytics
           ORDER BY 1, 2 LIMIT 1)""",
        "trading_analytics",
        "missing",
    ),
    (
        """UPDATE trading_other_fees SET fees = -fees WHERE (user_id, day) = (SELECT user_id, day FROM
           trading_other_fees ORDER BY 1, 2 LIMIT 1)""",
        "trading_other_fees",
        {"fees"},
    ),
    (
        "INSERT INTO trading_other_fees SELECT user_id, market, 'infinity', asset, 1 FROM trading_other_fees LIMIT 1",
        "trading_other_fees",
        "extra",
    ),
]


@pytest.mark.parametrize(("corruption", "what", "expected"), CORRUPTIONS)
async def test_a_corrupted_row_is_found_named_and_repaired(
    corruption, what, expected, *, worker_db, owner_db, trades
):
    good = await stored_figures(worker_db)
    assert await owner_db.analytics.execute(corruption) == 1
    _, found = await verify(worker_db)
    assert {difference.what for difference in found} == {what}
    if expected == "moved":
        assert sorted(d.stored is None for d in found) == [False, True]
    else:
        (difference,) = found
        if expected == "missing":
            assert difference.stored is None
            assert difference.recomputed
        elif expected == "extra":
            assert difference.recomputed is None
            assert difference.stored
        else:
            assert difference.stored is not None
            assert difference.recomputed is not None
            assert difference.stored.keys() == difference.recomputed.keys() == expected
        assert all(difference.key.values())
    report = await rebuild(worker_db)
    assert (report.applied, report.set_aside) == (len(trades), 0)
    assert await stored_figures(worker_db) == good
    assert not (await verify(worker_db))[1]


async def test_every_difference_is_named(worker_db, owner_db, trades):
    changed = await owner_db.analytics.execute("UPDATE trade_facts SET price = price * 2")
    removed = await owner_db.analytics.execute("DELETE FROM candles")
    _, found = await verify(worker_db)
    by_table = [difference.what for difference in found]
    assert by_table.count("trade_facts") == changed == len(trades)
    assert by_table.count("candles") == removed > 20
    assert len({tuple(difference.key.values()) for difference in found}) == len(found)


async def test_rows_that_were_set_aside_are_differences_until_rebuilt(projection, worker_db, owner_db, venue):
    await owner_db.analytics.execute("ALTER TABLE trade_facts ADD CONSTRAINT no_sevens CHECK (base_amount <> 7)")
    bad, *_ = venue.record(venue.trade(base_amount=Decimal(7)), venue.trade(60))
    await drain(projection)
    _, found = await verify(worker_db)
    reject = found[0]
    assert reject.what == "projection_rejects"
    assert reject.key == {"id": str(bad.id)}
    assert reject.stored is not None
    assert "no_sevens" in str(reject.stored["reason"])
    assert {difference.what for difference in found} == {
        "projection_rejects",
        "trade_facts",
        "candles",
        "trading_analytics",
    }
    assert (await rebuild(worker_db)).set_aside == 1, "the cause is still there"
    await owner_db.analytics.execute("ALTER TABLE trade_facts DROP CONSTRAINT no_sevens")
    assert (await rebuild(worker_db)).set_aside == 0
    assert not (await verify(worker_db))[1]


async def test_verify_compares_one_moment_while_the_projection_goes_on(fresh_databases, worker_db, venue, trades):
    stop = asyncio.Event()
    async with fresh_databases.connection("worker", projection_poll_ms=1) as db:
        running = asyncio.create_task(TradeProjection(db.main, db.analytics, db.settings).run(stop))
        for seed in range(8):
            venue.record(*venue.random_trades(50, seed))
            _, found = await verify(worker_db)
            assert not found
        stop.set()
        await asyncio.wait_for(running, 10)


async def test_verify_refuses_another_life_of_main(projection, worker_db, owner_db, venue):
    with pytest.raises(UnavailableError, match="not begun"):
        await verify(worker_db)
    await drain(projection)
    await owner_db.main.execute("UPDATE recovery_epoch SET epoch = epoch + 1")
    with pytest.raises(UnavailableError, match="another life"):
        await verify(worker_db)


async def test_a_rebuild_that_is_killed_changes_nothing_and_hides_nothing(
    projection, postgres, fresh_databases, worker_db, trades
):
    before, position = await stored_figures(worker_db), await state_of(worker_db)

    async def writing_rollups():
        with postgres.superuser() as admin:
            pids.extend(
                row[0]
                for row in admin.execute(
                    "SELECT pid FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'",
                    (fresh_databases.analytics,),
                )
            )
        return bool(pids)

    pids = []
    with psycopg.connect(fresh_databases.analytics_url("owner")) as blocker:
        # The old rows are deleted when it comes to the users' figures, and waits there.
        blocker.execute("LOCK TABLE trading_analytics IN SHARE MODE")
        rebuilding = asyncio.create_task(rebuild(worker_db))
        await eventually(writing_rollups)
        assert await stored_figures(worker_db) == before, "readers see the old figures"
        assert (await projection.step(store_now=True)).outcome.name == "NOT_OWNER", "the projector stands by"
        with postgres.superuser() as admin:
            admin.execute("SELECT pg_terminate_backend(%s)", (pids[0],))
        with pytest.raises(NovaDexError):
            await rebuilding
    assert await stored_figures(worker_db) == before
    assert await state_of(worker_db) == position
    await rebuild(worker_db)
    assert not (await verify(worker_db))[1]


async def test_a_rebuild_needs_no_partitions_no_position_and_keeps_the_watermark(
    projection, worker_db, owner_db, trades
):
    watermark = (await state_of(worker_db)).watermark
    await owner_db.analytics.execute("DROP TABLE trade_facts_2024_08")
    report = await rebuild(worker_db)
    assert report.trades == len(trades)
    assert (await state_of(worker_db)).watermark == watermark
    await owner_db.analytics.execute("DELETE FROM projections")
    await rebuild(worker_db)
    assert await stored_figures(worker_db) == expected_figures(trades)
    await drain(projection)
    assert not (await verify(worker_db))[1]


async def test_long_work_outlasts_the_bounds_of_requests(fresh_databases):
    tight = {"statement_timeout_ms": 200, "transaction_timeout_ms": 200, "idle_in_transaction_timeout_ms": 100}
    async with fresh_databases.connection("worker", **tight) as db:
        with pytest.raises(TimeoutExceededError):
            await db.analytics.value("SELECT pg_sleep(0.4)")
        async with db.analytics.transaction(read_only=True) as session:
            await allow_long_work(session)
            await session.value("SELECT pg_sleep(0.4)")
            await asyncio.sleep(0.2)
            assert await session.value("SHOW statement_timeout") == "1d"
        assert await db.analytics.value("SHOW statement_timeout") == "200ms"


async def test_progress_is_told(worker_db, trades):
    told, rebuilt = [], []
    await verify_trades(worker_db.main, worker_db.analytics, lambda _: None, told.append)
    assert {now.what for now in told} == {"trade_facts", "candles", "trading_analytics", "trading_other_fees"}
    assert {now.months for now in told} == {2}
    await rebuild_trades(worker_db.main, worker_db.analytics, worker_db.settings, rebuilt.append)
    assert rebuilt[-1].done == rebuilt[-1].trades == len(trades)
