"""The worker's housekeeping: months ahead have partitions, old keys go."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from novadex.errors import NovaDexError
from novadex.storage.connection import DatabaseConnection
from novadex.worker import housekeeping
from novadex.worker.housekeeping import (
    MONTHS_AHEAD,
    QUERIES,
    delete_old_figures,
    delete_old_idempotency_keys,
    delete_old_nonces,
    delete_old_sessions,
    make_partitions,
)
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


SESSIONS = (
    "INSERT INTO user_sessions (id, user_id, family_id, token_hash, device, created_at, last_used_at,"
    " authenticated_at, idle_expires_at, expires_at, revoked_at, revoked_reason, replaced_by)"
    " SELECT gen_random_uuid(), %(user)s, gen_random_uuid(), sha256((%(device)s || n)::bytea), %(device)s,"
    " ended - interval '8 hours', ended - interval '8 hours', ended - interval '8 hours', ended - interval '7 hours',"
    " ended, CASE WHEN %(reason)s::text IS NOT NULL THEN ended - interval '7 hours' END, %(reason)s,"
    " CASE WHEN %(reason)s = 'rotated' THEN gen_random_uuid() END"
    " FROM (SELECT now() - %(age)s::interval AS ended, generate_series(1, %(count)s) AS n) AS sessions"
)


async def test_sessions_go_thirty_days_after_they_can_live_no_more(
    worker_db: DatabaseConnection,
    fresh_databases: DatabasePair,
    users: Callable[[int], list[UUID]],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(housekeeping, "DELETE_BATCH_ROWS", 100)
    url, [user] = fresh_databases.main_url("owner"), users(1)
    old = {"user": user, "age": "30 days 1 minute"}
    execute(url, SESSIONS, {**old, "device": "expired", "reason": None, "count": 120})
    execute(url, SESSIONS, {**old, "device": "revoked", "reason": "signed out", "count": 120})
    execute(url, SESSIONS, {**old, "device": "replaced", "reason": "rotated", "count": 10})
    young = {"user": user, "age": "29 days 23 hours"}
    execute(url, SESSIONS, {**young, "device": "not long ago", "reason": None, "count": 3})
    alive = {"user": user, "age": "-1 hour"}
    execute(url, SESSIONS, {**alive, "device": "alive", "reason": None, "count": 2})
    execute(url, SESSIONS, {**alive, "device": "replaced, its family alive", "reason": "rotated", "count": 1})
    assert await delete_old_sessions(worker_db.main) == 250
    left = "SELECT array_agg(DISTINCT device ORDER BY device) FROM user_sessions"
    assert value_of(url, left) == ["alive", "not long ago", "replaced, its family alive"]
    assert value_of(url, "SELECT count(*) FROM audit_log WHERE action = 'user_sessions.deleted'") == 250
    assert await delete_old_sessions(worker_db.main) == 0


async def test_a_session_that_somebody_holds_waits_for_the_next_time(
    worker_db: DatabaseConnection, fresh_databases: DatabasePair, users: Callable[[int], list[UUID]]
):
    url = fresh_databases.main_url("owner")
    old = {"user": users(1)[0], "age": "31 days", "device": "d", "reason": None, "count": 3}
    execute(url, SESSIONS, old)
    with psycopg.connect(url) as holder:
        holder.execute("SELECT FROM user_sessions LIMIT 1 FOR UPDATE")
        assert await delete_old_sessions(worker_db.main) == 2
    assert await delete_old_sessions(worker_db.main) == 1


async def test_nonces_that_ended_go_and_the_others_stay(worker_db: DatabaseConnection, fresh_databases: DatabasePair):
    url = fresh_databases.main_url("owner")
    insert = (
        "INSERT INTO sign_in_nonces (nonce_hash, created_at, expires_at)"
        " SELECT sha256((%s || n)::bytea), now() + %s::interval - interval '5 minutes', now() + %s::interval"
        " FROM generate_series(1, %s) n"
    )
    execute(url, insert, ("ended", "-1 second", "-1 second", 40))
    execute(url, insert, ("good", "4 minutes", "4 minutes", 7))
    assert await delete_old_nonces(worker_db.main) == 40
    assert value_of(url, "SELECT count(*) FROM sign_in_nonces WHERE expires_at > now()") == 7
    assert value_of(url, "SELECT count(*) FROM sign_in_nonces") == 7


async def test_old_sessions_and_nonces_are_found_by_index(
    owner_db: DatabaseConnection, fresh_databases: DatabasePair
):
    url, user = fresh_databases.main_url("owner"), uuid4()
    execute(url, "INSERT INTO users (id) VALUES (%s)", (user,))
    execute(url, SESSIONS, {"user": user, "age": "1 day", "device": "d", "reason": None, "count": 5_000})
    execute(
        url,
        "INSERT INTO sign_in_nonces (nonce_hash, expires_at)"
        " SELECT sha256(n::text::bytea), now() + interval '4 minutes' FROM generate_series(1, 5000) n",
    )
    execute(url, "ANALYZE user_sessions, sign_in_nonces")
    for query, days in ((QUERIES.delete_old_sessions, 30), (QUERIES.delete_old_nonces, 0)):
        rows = await owner_db.main.query("EXPLAIN " + query.sql, (days, 5_000))
        plan = "\n".join(row["QUERY PLAN"] for row in rows)
        assert "Seq Scan" not in plan, plan


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
