"""Every wait has an end: statements, locks, idle transactions, the pool, and servers that have stopped answering."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, LiteralString

import psycopg
import pytest

from novadex import metrics
from novadex.errors import OverloadedError, TimeoutExceededError, UnavailableError
from novadex.instance import Endpoints
from novadex.settings import load_settings
from novadex.storage import database as database_module
from novadex.storage.connection import DatabaseConnection
from novadex.storage.database import Database
from tests.conftest import DatabasePair
from tests.proxy import Proxy
from tests.servers import PostgresServer
from tests.waiting import until

ADD = "INSERT INTO assets (symbol, name, decimals) VALUES ($1, $1, 8)"


@pytest.fixture
async def hasty(fresh_databases: DatabasePair) -> AsyncIterator[DatabaseConnection]:
    """A connection with short bounds."""
    async with fresh_databases.connection(
        "app",
        statement_timeout_ms=300,
        lock_timeout_ms=150,
        idle_in_transaction_timeout_ms=200,
        pool_size_max=2,
        pool_wait_s_max=0.3,
        connect_timeout_s=1,
    ) as connection:
        await connection.main.value("SELECT 1")
        yield connection


async def works(db: DatabaseConnection) -> bool:
    return await db.main.value("SELECT 1") == 1


async def test_a_long_statement_ends(hasty: DatabaseConnection) -> None:
    with pytest.raises(TimeoutExceededError, match="statement timeout") as caught:
        await hasty.query("SELECT pg_sleep(30)")
    assert caught.value.retryable
    assert "NOVADEX_STATEMENT_TIMEOUT_MS" in str(caught.value)
    assert await works(hasty)


async def test_a_long_copy_ends(hasty: DatabaseConnection) -> None:
    with pytest.raises(TimeoutExceededError, match="statement timeout"):
        async for _ in hasty.main.copy_out("COPY (SELECT pg_sleep(0.1) FROM generate_series(1, 100)) TO STDOUT"):
            pass
    assert await works(hasty)


async def test_a_wait_for_a_lock_ends(hasty: DatabaseConnection, owner_db: DatabaseConnection) -> None:
    async with owner_db.transaction() as other:
        await other.execute("LOCK TABLE assets IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(TimeoutExceededError, match="lock timeout") as caught:
            await hasty.query("SELECT * FROM assets")
        assert "NOVADEX_LOCK_TIMEOUT_MS" in str(caught.value)
    assert await works(hasty)


async def test_an_idle_transaction_ends(hasty: DatabaseConnection, postgres: PostgresServer) -> None:
    with pytest.raises(TimeoutExceededError, match="idle-in-transaction"):
        async with hasty.transaction() as session:
            pid = await session.value("SELECT pg_backend_pid()")
            await session.execute(ADD, ["BTC"])
            with postgres.superuser() as superuser:
                alive = "SELECT 1 FROM pg_stat_activity WHERE pid = %s"
                await until(lambda: superuser.execute(alive, (pid,)).fetchone() is None)
            await session.execute(ADD, ["ETH"])
    assert await hasty.main.value("SELECT count(*) FROM assets") == 0


async def test_a_long_transaction_ends(fresh_databases: DatabasePair) -> None:
    """One that is never idle for long, nor slow in any statement."""
    async with fresh_databases.connection("app", transaction_timeout_ms=400) as db:
        with pytest.raises(TimeoutExceededError, match="transaction timeout") as caught:
            async with db.transaction() as session:
                await session.execute(ADD, ["BTC"])
                await session.value("SELECT pg_sleep(0.2)")
                await session.value("SELECT pg_sleep(10)")
        assert "NOVADEX_TRANSACTION_TIMEOUT_MS" in str(caught.value)
        assert await db.main.value("SELECT count(*) FROM assets") == 0


async def test_a_transaction_that_is_ended_while_it_commits_nothing_says_so(hasty: DatabaseConnection) -> None:
    """The block did nothing wrong: only its commit finds out."""
    with pytest.raises(UnavailableError):
        async with hasty.transaction() as session:
            pid = await session.value("SELECT pg_backend_pid()")
            await session.execute(ADD, ["BTC"])
            await until(lambda: _gone(hasty, pid))
    assert await hasty.main.value("SELECT count(*) FROM assets") == 0


async def _gone(db: DatabaseConnection, pid: int) -> bool:
    return not await db.main.value("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", [pid])


async def test_a_full_pool_keeps_nobody_waiting_for_ever(fresh_databases: DatabasePair) -> None:
    async with fresh_databases.connection("app", pool_size_max=2, pool_wait_s_max=0.3) as db:
        async with db.transaction(), db.transaction():
            began = time.monotonic()
            with pytest.raises(UnavailableError, match="No connection to main became free in time") as caught:
                await db.query("SELECT 1")
            assert 0.25 < time.monotonic() - began < 3
            assert "NOVADEX_POOL_SIZE_MAX" in str(caught.value)
            assert not isinstance(caught.value, OverloadedError)
        assert await works(db)


async def test_a_pool_opens_no_more_connections_than_it_may(
    fresh_databases: DatabasePair, postgres: PostgresServer
) -> None:
    async with fresh_databases.connection("app", pool_size_max=3) as db:
        await asyncio.gather(*(db.query("SELECT pg_sleep(0.01)") for _ in range(60)))
        assert db.main.pool_state()["pool_size"] == 3
        with postgres.superuser() as superuser:
            row = superuser.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = %s", (fresh_databases.main,)
            ).fetchone()
        assert row == (3,)


async def test_a_queue_before_the_pool_has_an_end(
    fresh_databases: DatabasePair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "POOL_WAITING_MAX", 5)
    async with fresh_databases.connection("app", pool_size_max=1, pool_wait_s_max=5) as db:
        async with db.transaction():
            waiting = [asyncio.create_task(db.query("SELECT 1")) for _ in range(5)]
            await until(lambda: db.main.pool_state().get("requests_waiting") == 5)
            with pytest.raises(OverloadedError, match="Too many calls wait for a connection to main"):
                await db.query("SELECT 1")
        assert await asyncio.gather(*waiting) == [[{"?column?": 1}]] * 5


async def test_first_calls_at_once_share_one_pool(fresh_databases: DatabasePair) -> None:
    async with fresh_databases.connection("app", pool_size_max=4) as db:
        rows = await asyncio.gather(*(db.main.value("SELECT pg_backend_pid()") for _ in range(50)))
        assert 1 <= len(set(rows)) <= 4


async def test_a_cancelled_call_stops_on_the_server_and_keeps_its_connection(
    db: DatabaseConnection, postgres: PostgresServer
) -> None:
    task = asyncio.create_task(db.query("SELECT pg_sleep(30) AS cancelled_call"))
    running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%%cancelled_call' AND datname = %s"
    with postgres.superuser() as superuser:
        name = (await db.main.value("SELECT current_database()"),)
        await until(lambda: superuser.execute(running + " AND state = 'active'", name).fetchone() == (1,))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: superuser.execute(running + " AND state = 'active'", name).fetchone() == (0,))
    assert db.main.pool_state().get("returns_bad", 0) == 0
    assert await works(db)


async def test_a_server_that_is_not_there_is_reported_in_time(unused_url: str) -> None:
    async with DatabaseConnection(
        Endpoints(unused_url, unused_url, "", ""), load_settings(pool_wait_s_max=0.5, connect_timeout_s=1)
    ) as db:
        began = time.monotonic()
        with pytest.raises(UnavailableError, match="No connection to main: connection failed"):
            await db.query("SELECT 1")
        with pytest.raises(UnavailableError, match="No connection to main: connection failed"):
            await db.main.dedicated()
        assert time.monotonic() - began < 5


@pytest.fixture
def unused_url() -> str:
    return "postgresql://novadex_app:x@127.0.0.1:1/novadex_db"


# Servers that have stopped answering -----------------------------------------------------------------------


@pytest.fixture
async def stalling(
    fresh_databases: DatabasePair, proxy: Callable[[str], Awaitable[Proxy]], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Database, Proxy]]:
    """A database behind a network that can swallow everything, and short patience."""
    monkeypatch.setattr(database_module, "ANSWER_GRACE_S", 0.2)
    link = await proxy(fresh_databases.main_url("app"))
    settings = load_settings(statement_timeout_ms=300, pool_wait_s_max=3, connect_timeout_s=1, pool_size_max=2)
    database = Database("main", link.url, settings)
    await database.value("SELECT 1")
    yield database, link
    link.resume()
    await database.close()


async def test_a_statement_on_a_silent_network_ends(stalling: tuple[Database, Proxy]) -> None:
    database, link = stalling
    async with database.connection() as connection:
        link.stall()
        began = time.monotonic()
        with pytest.raises((psycopg.OperationalError, UnavailableError)):
            await connection.execute("SELECT 1")
        assert time.monotonic() - began < 6
    link.resume()
    assert await database.value("SELECT 2") == 2


async def test_a_call_on_a_silent_network_ends_and_the_next_one_works(stalling: tuple[Database, Proxy]) -> None:
    database, link = stalling
    link.stall()
    began = time.monotonic()
    with pytest.raises(UnavailableError):
        await database.query("SELECT 1", read_only=True)
    assert time.monotonic() - began < 10
    link.resume()
    assert await database.value("SELECT 2") == 2


@pytest.mark.parametrize("call", ["stream", "copy_out", "transaction"])
async def test_whatever_is_under_way_on_a_silent_network_ends(stalling: tuple[Database, Proxy], call: str) -> None:
    database, link = stalling
    wide: LiteralString = "SELECT repeat('x', 1000) AS x FROM generate_series(1, 20000)"

    async def use() -> None:
        if call == "stream":
            async for _ in database.stream(wide, batch_rows=10):
                link.stall()
        elif call == "copy_out":
            async for _ in database.copy_out(
                "COPY (SELECT repeat('x', 1000) FROM generate_series(1, 20000)) TO STDOUT"
            ):
                link.stall()
        else:
            async with database.transaction() as session:
                await session.execute(ADD, ["BTC"])
                link.stall()

    began = time.monotonic()
    with pytest.raises(UnavailableError):
        await use()
    assert time.monotonic() - began < 12
    link.resume()
    assert await database.value("SELECT 2") == 2


async def test_a_statement_that_may_run_long_is_not_hung_up(stalling: tuple[Database, Proxy]) -> None:
    """A server that answers is alive, however long the statement takes that was allowed to."""
    database, _ = stalling
    async with database.transaction() as session:
        await session.execute("SET LOCAL statement_timeout = '1h'")
        assert await session.value("SELECT 'done' FROM pg_sleep(1.5)") == "done"


async def test_a_frozen_server_is_given_up(
    make_postgres: Callable[..., PostgresServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its kernel still acknowledges every packet."""
    monkeypatch.setattr(database_module, "ANSWER_GRACE_S", 0.2)
    server = make_postgres()
    settings = load_settings(statement_timeout_ms=300, pool_wait_s_max=1, connect_timeout_s=1, pool_size_max=1)
    database = Database("main", server.url(), settings)
    assert server.process is not None
    try:
        pid = await database.value("SELECT pg_backend_pid()")
        frozen = [server.process.pid, pid]
        for each in frozen:
            os.kill(each, signal.SIGSTOP)
        try:
            began = time.monotonic()
            with pytest.raises(UnavailableError):
                await database.query("SELECT 1", read_only=True)
            assert time.monotonic() - began < 10
        finally:
            for each in frozen:
                os.kill(each, signal.SIGCONT)
        assert await database.value("SELECT 2", read_only=True) == 2
    finally:
        await database.close()
        server.stop()


# What is counted -------------------------------------------------------------------------------------------


def sample(name: str, **labels: str) -> float:
    return metrics.REGISTRY.get_sample_value(name, labels) or 0.0


async def test_queries_are_timed_and_failures_counted(db: DatabaseConnection, unique_query: Any) -> None:
    labels = {"database": "main", "query": unique_query.name}
    await db.query(unique_query)
    await db.query(unique_query)
    assert sample("novadex_query_seconds_count", **labels) == 2
    assert sample("novadex_query_seconds_sum", **labels) > 0
    before = sample("novadex_query_errors_total", database="main", code="42P01")
    with pytest.raises(psycopg.errors.UndefinedTable):
        await db.query("SELECT * FROM nothing_of_that_name")
    assert sample("novadex_query_errors_total", database="main", code="42P01") == before + 1


@pytest.fixture
def unique_query(request: pytest.FixtureRequest) -> Any:
    from novadex.storage.queries import Query

    return Query(f"query_of_{request.node.name}", "For this test only.", "SELECT 1")


async def test_a_pool_says_how_it_stands(db: DatabaseConnection) -> None:
    assert db.main.pool_state() == {}
    async with db.transaction():
        state = db.main.pool_state()
        assert state["pool_max"] == db.settings.pool_size_max
        assert 1 <= state["pool_size"] - state["pool_available"] <= state["pool_max"]
