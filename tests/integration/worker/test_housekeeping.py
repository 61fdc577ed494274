"""The worker's housekeeping: months ahead have partitions, old keys go."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from novadex.errors import NovaDexError
from novadex.storage.connection import DatabaseConnection
from novadex.worker import housekeeping
from novadex.worker.housekeeping import MONTHS_AHEAD, delete_old_figures, delete_old_idempotency_keys, make_partitions
from tests.conftest import DatabasePair
from tests.integration.monitoring.venue import execute, value_of

TABLES = {
    "main": ("trades", "order_events"),
    "analytics": ("trade_facts", "user_events", "page_views", "performance_metrics"),
}


def partition(table: str, months_ahead: int) -> str:
    now = datetime.now(UTC)
    years, month = divmod(now.month - 1 + months_ahead, 12)
    return f"{table}_{now.year + years}_{month + 1:02}"


def drop(url: str, name: str) -> None:
    execute(url, SQL("DROP TABLE {}").format(Identifier(name)))


def exists(url: str, name: str) -> bool:
    return value_of(url, "SELECT to_regclass(%s) IS NOT NULL", (name,))


@pytest.mark.parametrize("database", ["main", "analytics"])
async def test_every_table_gets_the_months_ahead(
    worker_db: DatabaseConnection, fresh_databases: DatabasePair, database: str
):
    url = fresh_databases.main_url("owner") if database == "main" else fresh_databases.analytics_url("owner")
    for table in TABLES[database]:
        drop(url, partition(table, 1))
        drop(url, partition(table, MONTHS_AHEAD))
    target = worker_db.main if database == "main" else worker_db.analytics
    assert await make_partitions(target) == 2 * len(TABLES[database])
    for table in TABLES[database]:
        for months in range(MONTHS_AHEAD + 1):
            assert exists(url, partition(table, months))
    assert await make_partitions(target) == 0, "the second time there is nothing to do"


async def test_a_locked_table_does_not_keep_the_others_waiting(fresh_databases: DatabasePair):
    url = fresh_databases.analytics_url("owner")
    drop(url, partition("trade_facts", MONTHS_AHEAD))
    drop(url, partition("user_events", MONTHS_AHEAD))
    async with fresh_databases.connection("worker", statement_timeout_ms=500) as worker:
        with psycopg.connect(url) as holder:
            holder.execute("LOCK TABLE trade_facts IN SHARE UPDATE EXCLUSIVE MODE")
            with pytest.raises(NovaDexError):
                await make_partitions(worker.analytics)
            assert exists(url, partition("user_events", MONTHS_AHEAD))
            assert not exists(url, partition("trade_facts", MONTHS_AHEAD))
        assert await make_partitions(worker.analytics) == 1


async def test_keys_past_their_seven_days_go_and_younger_ones_stay(
    worker_db: DatabaseConnection, fresh_databases: DatabasePair, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(housekeeping, "DELETE_BATCH_ROWS", 100)
    url = fresh_databases.main_url("owner")
    insert = (
        "INSERT INTO idempotency_keys (user_id, key, request_hash, trade_id, created_at)"
        " SELECT %s, %s || n, decode(repeat('00', 16), 'hex'), gen_random_uuid(), now() - %s::interval"
        " FROM generate_series(1, %s) n"
    )
    user = uuid4()
    execute(url, insert, (user, "old", "7 days 1 minute", 250))
    execute(url, insert, (user, "young", "6 days 23 hours", 50))
    assert await delete_old_idempotency_keys(worker_db.main) == 250
    assert value_of(url, "SELECT count(*) FROM idempotency_keys WHERE starts_with(key, 'young')") == 50
    assert value_of(url, "SELECT count(*) FROM idempotency_keys") == 50
    assert await delete_old_idempotency_keys(worker_db.main) == 0


async def test_figures_past_their_week_go_where_the_role_may_delete(
    worker_db: DatabaseConnection, fresh_databases: DatabasePair
):
    owner = fresh_databases.analytics_url("owner")
    partitions = "SELECT ensure_partitions('performance_metrics', now() - interval '8 days', now())"
    execute(owner, partitions)
    insert = (
        "INSERT INTO performance_metrics (id, recorded_at, instance, name, value)"
        " SELECT overlay(overlay(gen_random_uuid()::text PLACING '7' FROM 15 FOR 1)"
        " PLACING left(uuid_at(moment)::text, 13) FROM 1 FOR 13)::uuid, moment, 'api@test:1', 'novadex_up', 1"
        " FROM (SELECT now() - %s::interval AS moment, generate_series(1, %s)) AS moments"
    )
    execute(owner, insert, ("7 days 1 minute", 250))
    execute(owner, insert, ("6 days 23 hours", 50))
    count = "SELECT count(*) FROM performance_metrics"
    execute(owner, "REVOKE DELETE ON performance_metrics FROM novadex_worker")
    assert await delete_old_figures(worker_db.analytics) == 0
    assert value_of(owner, count) == 300
    execute(owner, "GRANT DELETE ON performance_metrics TO novadex_worker")
    assert await delete_old_figures(worker_db.analytics) == 250
    assert value_of(owner, count) == 50


async def test_one_run_deletes_a_bounded_number(
    worker_db: DatabaseConnection, fresh_databases: DatabasePair, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(housekeeping, "DELETE_BATCH_ROWS", 10)
    monkeypatch.setattr(housekeeping, "DELETE_BATCHES_MAX", 2)
    execute(
        fresh_databases.main_url("owner"),
        "INSERT INTO idempotency_keys (user_id, key, request_hash, trade_id, created_at)"
        " SELECT gen_random_uuid(), 'k' || n, decode(repeat('00', 16), 'hex'), gen_random_uuid(),"
        " now() - '8 days'::interval FROM generate_series(1, 25) n",
    )
    assert [await delete_old_idempotency_keys(worker_db.main) for _ in range(3)] == [20, 5, 0]
