"""Partitions by the time in the id: made on demand, one maker at a time, months in UTC."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import errors
from psycopg.rows import scalar_row

from tests.conftest import DatabasePair, MarketRow

ENSURE = "SELECT ensure_partitions(%s::regclass, %s, %s)"
PARENTS = {
    "main": ("trades", "order_events"),
    "analytics": ("trade_facts", "user_events", "page_views", "performance_metrics"),
}


@pytest.fixture
def app(fresh_databases: DatabasePair) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(fresh_databases.main_url("app"), autocommit=True) as connection:
        yield connection


def ensure(connection: psycopg.Connection[Any], first: str, last: str, parent: str = "trades") -> int:
    row = connection.execute(ENSURE, (parent, first, last)).fetchone()
    assert row is not None
    return row[0]


def partitions(connection: psycopg.Connection[Any], parent: str = "trades") -> set[str]:
    rows = connection.execute(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass", (parent,)
    )
    return {row[0] for row in rows}


def id_at(moment: datetime, tail: int = 0) -> UUID:
    """A UUIDv7 of a moment."""
    milliseconds = round(moment.timestamp() * 1000)
    return UUID(int=(milliseconds << 80) | (7 << 76) | (2 << 62) | tail)


def insert_trade(connection: psycopg.Connection[Any], user: UUID, market: MarketRow, moment: datetime) -> None:
    connection.execute(
        "INSERT INTO trades (id, user_id, market_id, base_decimals, quote_decimals, side, base_amount,"
        " quote_amount, price, executed_at) VALUES (%s, %s, %s, %s, %s, 'buy', 1, 2, 2, %s)",
        (id_at(moment), user, market.id, market.base_decimals, market.quote_decimals, moment),
    )


def test_months_of_a_range_are_made_once(app: psycopg.Connection[Any]) -> None:
    assert ensure(app, "2019-11-30 23:59:59.999+00", "2020-02-01+00") == 4
    assert ensure(app, "2019-11-01+00", "2020-02-29+00") == 0
    assert ensure(app, "2020-01-15+00", "2020-03-01+00") == 1
    assert partitions(app) >= {f"trades_{month}" for month in ("2019_11", "2019_12", "2020_01", "2020_02", "2020_03")}


@pytest.mark.parametrize("database", ["main", "analytics"])
def test_every_parent_can_have_months(fresh_databases: DatabasePair, database: str) -> None:
    with psycopg.connect(getattr(fresh_databases, f"{database}_url")("worker"), autocommit=True) as connection:
        for parent in PARENTS[database]:
            assert ensure(connection, "2018-05-05+00", "2018-05-05+00", parent) == 1
            assert f"{parent}_2018_05" in partitions(connection, parent)


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ("1969-12-31 23:59:59+00", "1970-01-02+00"),
        ("2020-02-01+00", "2020-01-31+00"),
        ("2020-01-01+00", "2999-01-01+00"),
        ("-infinity", "2020-01-01+00"),
        ("2020-01-01+00", "infinity"),
        ("infinity", "infinity"),
        (None, "2020-01-01+00"),
        ("2020-01-01+00", None),
    ],
)
def test_a_nonsense_range_is_refused(app: psycopg.Connection[Any], first: str, last: str) -> None:
    before = partitions(app)
    with pytest.raises(errors.InvalidParameterValue, match="1970 to a year ahead is possible"):
        ensure(app, first, last)
    assert partitions(app) == before


@pytest.mark.parametrize("parent", ["users", "pg_class", "trades_2026_11", None])
def test_only_partitioned_tables_have_partitions(app: psycopg.Connection[Any], parent: str) -> None:
    ensure(app, "2026-11-01+00", "2026-11-01+00")
    with pytest.raises(errors.InvalidParameterValue, match="not a partitioned table of NovaDex"):
        ensure(app, "2020-01-01+00", "2020-01-01+00", parent)


def test_a_row_falls_into_the_month_of_its_id(app: psycopg.Connection[Any], market: MarketRow, users: Any) -> None:
    (user,) = users(1)
    ensure(app, "2024-01-01+00", "2024-03-01+00")
    moments = {
        datetime(2024, 1, 1, tzinfo=UTC): "trades_2024_01",
        datetime(2024, 1, 31, 23, 59, 59, 999_000, tzinfo=UTC): "trades_2024_01",
        datetime(2024, 2, 1, tzinfo=UTC): "trades_2024_02",
        datetime(2024, 2, 29, 23, 59, 59, 999_000, tzinfo=UTC): "trades_2024_02",
        datetime(2024, 3, 1, tzinfo=UTC): "trades_2024_03",
        datetime(2024, 3, 31, 23, 59, 59, 999_000, tzinfo=UTC): "trades_2024_03",
    }
    for moment in moments:
        insert_trade(app, user, market, moment)
    rows = app.execute("SELECT executed_at, tableoid::regclass::text FROM trades ORDER BY id").fetchall()
    assert dict(rows) == moments


@pytest.mark.parametrize(
    "moment", [datetime(2023, 12, 31, 23, 59, 59, 999_000, UTC), datetime(2024, 4, 1, tzinfo=UTC)]
)
def test_a_row_of_a_month_that_was_not_made_is_refused(
    app: psycopg.Connection[Any], market: MarketRow, users: Any, moment: datetime
) -> None:
    (user,) = users(1)
    ensure(app, "2024-01-01+00", "2024-03-01+00")
    with pytest.raises(errors.CheckViolation, match='no partition of relation "trades" found'):
        insert_trade(app, user, market, moment)


@pytest.mark.parametrize("zone", ["America/New_York", "Pacific/Kiritimati", "Asia/Kolkata", "UTC"])
def test_months_are_utc_wherever_the_caller_is(
    app: psycopg.Connection[Any], market: MarketRow, users: Any, zone: str
) -> None:
    (user,) = users(1)
    app.execute("SELECT set_config('timezone', %s, false)", (zone,))
    assert ensure(app, "2021-02-01+00", "2021-03-31 23:59:59.999+00") == 2
    for moment in (
        datetime(2021, 2, 1, tzinfo=UTC),
        datetime(2021, 2, 28, 23, 59, 59, 999_000, tzinfo=UTC),
        datetime(2021, 3, 31, 23, 59, 59, 999_000, tzinfo=UTC),
    ):
        insert_trade(app, user, market, moment)
    assert ensure(app, "2021-04-01+00", "2021-04-01+00") == 1


def test_a_partition_has_what_its_parent_has(fresh_databases: DatabasePair, app: psycopg.Connection[Any]) -> None:
    """Indexes, constraints, triggers and comments."""
    ensure(app, "2020-01-01+00", "2020-01-01+00")
    counts = """
        SELECT (SELECT count(*) FROM pg_index WHERE indrelid = %(table)s::regclass),
            (SELECT count(*) FROM pg_constraint WHERE conrelid = %(table)s::regclass AND contype <> 'n'),
            (SELECT count(*) FROM pg_trigger WHERE tgrelid = %(table)s::regclass AND NOT tgisinternal),
            (SELECT count(*) FROM pg_description WHERE objoid = %(table)s::regclass AND objsubid > 0)
    """
    parent = app.execute(counts, {"table": "trades"}).fetchone()
    assert parent is not None
    assert min(parent) > 0
    assert app.execute(counts, {"table": "trades_2020_01"}).fetchone() == parent


async def test_makers_at_once_make_each_month_once(fresh_databases: DatabasePair) -> None:
    async def make(number: int) -> int:
        url = fresh_databases.main_url("app" if number % 2 else "worker")
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            cursor = connection.cursor(row_factory=scalar_row)
            await cursor.execute(ENSURE, ("trades", "2015-01-01+00", "2015-06-30+00"))
            return await cursor.fetchone() or 0

    made = await asyncio.gather(*(make(number) for number in range(8)))
    assert sum(made) == 6


def test_making_a_month_waits_for_no_reader_and_no_writer_of_trades(
    fresh_databases: DatabasePair, app: psycopg.Connection[Any], market: MarketRow, users: Any
) -> None:
    (user,) = users(1)
    with (
        psycopg.connect(fresh_databases.main_url("app")) as writer,
        psycopg.connect(fresh_databases.main_url("readonly")) as reader,
    ):
        insert_trade(writer, user, market, datetime.now(UTC).replace(microsecond=0))
        reader.execute("SELECT count(*) FROM trades").fetchone()
        app.execute("SET statement_timeout = '2s'")
        assert ensure(app, "2014-01-01+00", "2014-01-01+00") == 1
        writer.commit()


@pytest.mark.parametrize(
    "lock",
    [
        "LOCK TABLE trades IN SHARE UPDATE EXCLUSIVE MODE",
        "INSERT INTO users (id) VALUES ('0191345f-9e7b-7000-8000-000000000001')",
    ],
)
def test_making_a_month_gives_up_behind_a_long_transaction(
    fresh_databases: DatabasePair, app: psycopg.Connection[Any], lock: str
) -> None:
    """Another maker, or one who writes what trades refer to: the foreign keys of a partition need them to pause."""
    with psycopg.connect(fresh_databases.main_url("owner")) as other:
        other.execute(lock.encode())
        with pytest.raises(errors.LockNotAvailable):
            ensure(app, "2014-01-01+00", "2014-01-01+00")
    assert ensure(app, "2014-01-01+00", "2014-01-01+00") == 1


def test_a_range_of_time_reads_only_its_months(app: psycopg.Connection[Any]) -> None:
    """By constants, and by parameters of a generic plan."""
    ensure(app, "2024-01-01+00", "2024-06-30+00")
    app.execute("SET plan_cache_mode = force_generic_plan")
    app.execute(
        "PREPARE of_range (timestamptz, timestamptz) AS"
        " SELECT * FROM trades WHERE id >= uuid_at($1) AND id < uuid_at($2)"
    )
    for statement in (
        "SELECT * FROM trades WHERE id >= uuid_at('2024-02-10+00') AND id < uuid_at('2024-03-10+00')",
        "EXECUTE of_range ('2024-02-10+00', '2024-03-10+00')",
    ):
        rows = app.execute(f"EXPLAIN (ANALYZE, COSTS OFF) {statement}".encode()).fetchall()
        plan = "\n".join(row[0] for row in rows)
        assert "trades_2024_02" in plan
        assert "trades_2024_03" in plan
        for month in ("01", "04", "05", "06"):
            assert f"trades_2024_{month}" not in plan


@pytest.mark.parametrize("database", ["main", "analytics"])
def test_ids_and_times_turn_into_each_other(shared_databases: DatabasePair, database: str) -> None:
    moments = [
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(2024, 8, 8, 23, 54, 0, 123_000, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC),
    ]
    with psycopg.connect(getattr(shared_databases, f"{database}_url")("readonly")) as connection:
        for moment in moments:
            milliseconds = round(moment.timestamp() * 1000)
            row = connection.execute(
                "SELECT uuid_at(%(at)s), uuid_time_ms(uuid_at(%(at)s)), uuid_time_ms(%(id)s),"
                " uuid_at(%(at)s) <= %(id)s",
                {"at": moment, "id": id_at(moment)},
            ).fetchone()
            assert row == (UUID(int=milliseconds << 80), milliseconds, milliseconds, True)
