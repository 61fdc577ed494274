"""Committed trades become facts, candles and figures: each once, none lost, whatever happens meanwhile."""

import logging
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID, uuid4

import psycopg
import pytest

from novadex.analytics.log import SQL as LOG
from novadex.analytics.log import take_sample
from novadex.analytics.position import START
from novadex.analytics.projection import Outcome, TradeProjection
from novadex.ids import id_at
from novadex.instance import Endpoints
from novadex.settings import load_settings
from novadex.storage.connection import DatabaseConnection
from novadex.storage.migrations import migrate
from tests.conftest import DatabasePair, add_market, add_users
from tests.integration.analytics.records import (
    NOON,
    TradeRow,
    binance_trades,
    copy_trades,
    drain,
    expected_figures,
    matched,
    state_of,
    stored_figures,
)


async def test_real_trades_give_the_figures_of_the_definitions(projection, worker_db, venue, shared_data):
    trades = binance_trades(shared_data / "BTCUSDT-trades-2024-08-08.csv", venue.user, venue.market)
    venue.record(*trades)
    await drain(projection)
    assert await stored_figures(worker_db) == expected_figures(trades)
    assert (await state_of(worker_db)).applied == len(trades) == 9_757


@pytest.mark.parametrize("batch_rows", [1, 7, 1000])
async def test_the_size_of_batches_changes_nothing(batch_rows, fresh_databases, venue):
    trades = venue.random_trades(60, seed=batch_rows)
    for start in range(0, 60, 20):
        venue.record(*trades[start : start + 20])
    async with fresh_databases.connection("worker", projection_batch_max=batch_rows) as db:
        await drain(TradeProjection(db.main, db.analytics, db.settings))
        assert await stored_figures(db) == expected_figures(trades)


async def test_a_match_counts_once_in_the_market_and_for_each_of_its_users(projection, worker_db, venue, users):
    buyer, seller = users(2)
    pairs = [
        *matched(venue.trade(user=buyer, second=1, base_amount=Decimal(2)), seller, uuid4()),
        *matched(venue.trade(user=buyer, second=2, side="sell", base_amount=Decimal(3)), seller, uuid4()),
        # A swap against a pool, recorded as a maker: the only row of its execution.
        venue.trade(user=seller, second=3, side="sell", liquidity="maker", base_amount=Decimal(5)),
    ]
    venue.record(*pairs)
    await drain(projection)
    figures = await stored_figures(worker_db)
    assert figures == expected_figures(pairs)
    ((*_, base_volume, _, taker_bought, count),) = figures.candles.values()
    assert (base_volume, taker_bought, count) == (10, 2 + 5, 3)
    assert figures.days[buyer, "BTC/USDT", NOON.date()][0] == 2


async def test_fees_go_by_their_asset(projection, worker_db, venue, sol_market):
    base, quote, other = (
        (venue.market.base_asset_id, "BTC"),
        (venue.market.quote_asset_id, "USDT"),
        (sol_market.base_asset_id, "SOL"),
    )
    trades = [
        venue.trade(n, fee_amount=Decimal(amount), fee_asset=asset)
        for n, (asset, amount) in enumerate(
            [(base, "0.1"), (base, "-0.02"), (quote, "3"), (other, "0.5"), (other, "0.25"), (other, "0"), (None, "0")]
        )
    ]
    venue.record(*trades)
    await drain(projection)
    figures = await stored_figures(worker_db)
    assert figures == expected_figures(trades)
    day = figures.days[venue.user, "BTC/USDT", NOON.date()]
    assert day[7:9] == (Decimal("0.08"), 3)
    assert figures.other_fees == {(venue.user, "BTC/USDT", NOON.date(), "SOL"): Decimal("0.75")}


async def test_trades_of_one_moment_follow_the_sequence_then_the_id(projection, worker_db, venue):
    ids = sorted(id_at(NOON) for _ in range(4))
    at_once = [
        venue.trade(price=Decimal(1), sequence=7, id=ids[0]),
        venue.trade(price=Decimal(2), sequence=3, id=ids[3]),
        venue.trade(price=Decimal(3), sequence=9, id=ids[1]),
        venue.trade(price=Decimal(4), sequence=9, id=ids[2]),
    ]
    # Each in a transaction and a batch of its own: the order of arrival is none of theirs.
    for n in (2, 0, 3, 1):
        venue.record(at_once[n])
        await drain(projection)
    (candle,) = (await stored_figures(worker_db)).candles.values()
    assert (candle[0], candle[3]) == (2, 4), "open by the lowest sequence, close by the highest and then the id"


@pytest.mark.parametrize("together", [True, False])
async def test_a_trade_without_a_sequence_counts_as_sequence_zero(together, projection, worker_db, venue):
    trades = [
        venue.trade(0, price=Decimal(1), sequence=1),
        venue.trade(0, price=Decimal(2)),
        venue.trade(60, price=Decimal(3), sequence=-1),
        venue.trade(60, price=Decimal(4)),
    ]
    for batch in [trades] if together else [[t] for t in trades]:
        venue.record(*batch)
        await drain(projection)
    opened_closed = [
        (candle[0], candle[3]) for _, candle in sorted((await stored_figures(worker_db)).candles.items())
    ]
    assert opened_closed == [(2, 1), (3, 4)]


async def test_a_slow_transaction_is_not_skipped(projection, worker_db, main_url, venue):
    with psycopg.connect(main_url("owner")) as slow:
        early = venue.trade(1)
        copy_trades(slow, [early])
        late = venue.record(venue.trade(2))
        for _ in range(3):
            await projection.step(store_now=True)
        assert not (await stored_figures(worker_db)).facts, "what is committed behind an open transaction waits"
        slow.commit()
    await drain(projection)
    assert await stored_figures(worker_db) == expected_figures([early, *late])


async def test_what_was_rolled_back_leaves_no_trace(projection, worker_db, main_url, venue):
    with psycopg.connect(main_url("owner")) as undone:
        copy_trades(undone, [venue.trade(1)])
        kept = venue.record(venue.trade(2))
        undone.rollback()
    await drain(projection)
    assert await stored_figures(worker_db) == expected_figures(kept)


async def test_nothing_is_applied_twice_after_the_position_was_set_back(
    projection, worker_db, owner_db, venue, caplog
):
    first = venue.record(*venue.random_trades(30, seed=1))
    await drain(projection)
    await owner_db.analytics.execute("UPDATE projections SET xid = '0'")
    second = venue.record(*venue.random_trades(30, seed=2))
    with caplog.at_level(logging.WARNING):
        assert (await projection.step()).outcome is Outcome.NOT_OWNER
        await drain(projection)
    assert await stored_figures(worker_db) == expected_figures([*first, *second])
    assert "30 trades that are facts already" in caplog.text


async def test_days_and_minutes_are_those_of_utc(fresh_databases, venue):
    trades = [
        TradeRow(venue.user, venue.market, datetime(2024, 8, 8, 23, 59, 59, 999999, tzinfo=UTC)),
        TradeRow(venue.user, venue.market, datetime(2024, 8, 9, tzinfo=UTC)),
        TradeRow(venue.user, venue.market, datetime(2024, 2, 29, 18, 31, 30, tzinfo=UTC)),
        TradeRow(venue.user, venue.market, datetime(2024, 3, 31, 18, 30, tzinfo=UTC)),
    ]
    venue.record(*trades)
    zone = "?options=-c%20TimeZone%3DAsia/Kolkata"
    endpoints = Endpoints(
        fresh_databases.main_url("worker") + zone, fresh_databases.analytics_url("worker") + zone, "", ""
    )
    async with DatabaseConnection(endpoints, load_settings()) as db:
        assert await db.analytics.value("SHOW TimeZone") == "Asia/Kolkata"
        await drain(TradeProjection(db.main, db.analytics, db.settings))
        assert await stored_figures(db) == expected_figures(trades)


async def test_missing_partitions_are_made(projection, worker_db, venue):
    moments = [datetime(year, 6, 15, tzinfo=UTC) for year in (1999, 2017, 2023)]
    trades = venue.record(*(TradeRow(venue.user, venue.market, moment) for moment in moments))
    await drain(projection)
    assert await stored_figures(worker_db) == expected_figures(trades)
    assert await worker_db.analytics.value(
        "SELECT count(*) FROM pg_class WHERE relname SIMILAR TO 'trade_facts_(1999|2017|2023)_06'"
    ) == len(moments)


async def test_reading_the_log_walks_down_its_index_whatever_the_statistics_say(worker_db, main_url, venue):
    query = LOG.copy_rows.sql.removeprefix("COPY (").removesuffix(") TO STDOUT (FORMAT binary)")
    nothing_known = await _plans(worker_db, main_url, query)
    with psycopg.connect(main_url(None), autocommit=True) as admin:
        admin.execute("ANALYZE trades")
    for seed in range(4):
        venue.record(*venue.random_trades(500, seed=100 + seed))
    known_as_empty = await _plans(worker_db, main_url, query)
    with psycopg.connect(main_url(None), autocommit=True) as admin:
        admin.execute("ANALYZE trades")
    known = await _plans(worker_db, main_url, query)
    for plan in (*nothing_known, *known_as_empty, *known):
        assert "using trades_2024_08_xid_id_idx" in plan
        assert "Seq Scan on trades" not in plan
        assert "Sort  (" not in plan


async def _plans(db, main_url, query):
    """Of a look at the log, prepared as the projection does it, and of reading it."""
    async with db.main.transaction(read_only=True) as session:
        await take_sample(session, START)
        looked = await session.query("EXPLAIN " + LOG.sample.sql, ["0", UUID(int=0)])
        read = await session.connection.execute("EXPLAIN " + query, ("0", UUID(int=0), "9000000000000", 100))
        return "\n".join(row["QUERY PLAN"] for row in looked), "\n".join(row[0] for row in await read.fetchall())


async def test_ids_that_a_crash_of_main_gives_out_again_are_not_passed_over(make_postgres, make_databases):
    """A transaction that left nothing behind took an id; main crashes, and the next trade gets that id."""
    server = make_postgres(fsync="on", wal_writer_delay="10s")
    main = server.make_database("main_of_crash", owner="novadex_owner")
    analytics = make_databases()
    pair = DatabasePair(server, main, main)
    migrate(pair.main_url("owner"), "main")
    add_market(pair.main_url("owner"), "BTC/USDT", 18, 18)
    user = add_users(pair.main_url("owner"), 1)[0]
    async with pair.connection("worker") as of_main, analytics.connection("worker") as of_analytics:
        projection = TradeProjection(of_main.main, of_analytics.analytics, of_main.settings)
        await drain(projection)
        with psycopg.connect(pair.main_url("owner")) as undone:
            for _ in range(3):
                undone.execute("SELECT pg_current_xact_id()")
                undone.rollback()
        await projection.step(store_now=True)
        server.kill()
        server.start()
        with psycopg.connect(pair.main_url("owner"), autocommit=True) as connection:
            connection.execute(
                "INSERT INTO trades (id, user_id, market_id, base_decimals, quote_decimals, side, base_amount,"
                " quote_amount, price, executed_at) SELECT id, %s, 1, 18, 18, 'buy', 1, 100, 100,"
                " uuid_extract_timestamp(id) FROM (SELECT uuidv7() AS id OFFSET 0) AS made",
                (user,),
            )
            for _ in range(5):
                connection.execute("SELECT pg_current_xact_id()")
        await drain(projection)
        assert await of_analytics.analytics.value("SELECT count(*) FROM trade_facts") == 1
