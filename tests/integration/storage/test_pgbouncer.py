"""Behind a PgBouncer in transaction mode: every bound holds, and no statement is missing."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from novadex.errors import TimeoutExceededError
from novadex.instance import Endpoints
from novadex.settings import load_settings
from novadex.storage.connection import DatabaseConnection
from novadex.storage.session import Session
from tests.conftest import DatabasePair
from tests.servers import (
    PASSWORD,
    PostgresServer,
    free_port,
    give_to_server_user,
    server_user,
    start_process,
)
from tests.waiting import until

SERVER_CONNECTIONS = 3
"""Fewer than clients: transactions of one client run on other server connections each time."""
ADD = "INSERT INTO assets (symbol, name, decimals) VALUES ($1, $1, 8)"


@pytest.fixture(scope="module")
def bouncer_port(postgres: PostgresServer, servers_folder: Path) -> Iterator[int]:
    """A PgBouncer before all databases of the test server."""
    program = shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        pytest.skip("Debian's package pgbouncer is not installed.")
    folder = servers_folder / "pgbouncer"
    folder.mkdir(mode=0o711)
    give_to_server_user(folder)
    port = free_port()
    users = folder / "users"
    users.write_text("".join(f'"novadex_{role}" "{PASSWORD}"\n' for role in ("app", "worker", "owner", "user")))
    configuration = folder / "pgbouncer.ini"
    configuration.write_text(
        f"[databases]\n* = host=127.0.0.1 port={postgres.port}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = plain\nauth_file = {users}\npool_mode = transaction\n"
        f"default_pool_size = {SERVER_CONNECTIONS}\nmax_client_conn = 200\nserver_idle_timeout = 1\n"
    )
    process = start_process([program, str(configuration)], log=folder / "log", **server_user())
    try:
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


@pytest.fixture
async def bounced(bouncer_port: int, fresh_databases: DatabasePair) -> AsyncIterator[DatabaseConnection]:
    def url(database: str) -> str:
        return f"postgresql://novadex_app:{PASSWORD}@127.0.0.1:{bouncer_port}/{database}"

    settings = load_settings(
        pgbouncer=True,
        statement_timeout_ms=300,
        lock_timeout_ms=150,
        idle_in_transaction_timeout_ms=400,
        pool_size_max=10,
        pool_wait_s_max=10,
    )
    endpoints = Endpoints(url(fresh_databases.main), url(fresh_databases.analytics), "", "")
    async with DatabaseConnection(endpoints, settings) as db:

        async def answers() -> bool:
            try:
                return await db.main.value("SELECT 1") == 1
            except psycopg.OperationalError:
                return False

        await until(answers)
        yield db


async def test_repeated_statements_never_miss_a_prepared_one(bounced: DatabaseConnection) -> None:
    async def use(number: int) -> int:
        for _ in range(10):
            assert await bounced.main.value("SELECT $1::integer + 1", [number]) == number + 1
            async with bounced.transaction() as session:
                assert await session.value("SELECT $1::integer + 1", [number]) == number + 1
        return number

    assert await asyncio.gather(*map(use, range(20))) == list(range(20))
    assert await bounced.main.value("SELECT count(*) FROM pg_prepared_statements") == 0


async def test_fewer_connections_reach_the_server_than_clients_have(
    bounced: DatabaseConnection, postgres: PostgresServer, fresh_databases: DatabasePair
) -> None:
    pids = await asyncio.gather(
        *(bounced.main.value("SELECT pg_backend_pid() FROM pg_sleep(0.02)") for _ in range(40))
    )
    assert bounced.main.pool_state()["pool_size"] > SERVER_CONNECTIONS
    assert 1 < len(set(pids)) <= SERVER_CONNECTIONS


async def test_a_long_statement_ends(bounced: DatabaseConnection) -> None:
    for _ in range(2 * SERVER_CONNECTIONS):
        with pytest.raises(TimeoutExceededError, match="statement timeout"):
            await bounced.query("SELECT pg_sleep(10)")
    with pytest.raises(TimeoutExceededError, match="statement timeout"):
        async with bounced.transaction() as session:
            await session.execute("SELECT pg_sleep(10)")


async def test_a_wait_for_a_lock_ends(bounced: DatabaseConnection, owner_db: DatabaseConnection) -> None:
    async with owner_db.transaction() as other:
        await other.execute("LOCK TABLE assets IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(TimeoutExceededError, match="lock timeout"):
            await bounced.query("SELECT * FROM assets")


async def test_an_idle_transaction_ends(bounced: DatabaseConnection, postgres: PostgresServer) -> None:
    with pytest.raises(TimeoutExceededError):
        async with bounced.transaction() as session:
            pid = await session.value("SELECT pg_backend_pid()")
            await session.execute(ADD, ["BTC"])
            with postgres.superuser() as superuser:
                alive = "SELECT 1 FROM pg_stat_activity WHERE pid = %s"
                await until(lambda: superuser.execute(alive, (pid,)).fetchone() is None)
            await session.execute(ADD, ["ETH"])
    assert await bounced.main.value("SELECT count(*) FROM assets") == 0


async def test_bounds_do_not_stick_to_the_servers_connections(
    bounced: DatabaseConnection, bouncer_port: int, fresh_databases: DatabasePair
) -> None:
    """Others share them."""
    await asyncio.gather(*(bounced.query("SELECT pg_sleep(0.01)") for _ in range(10)))
    url = f"postgresql://novadex_app:{PASSWORD}@127.0.0.1:{bouncer_port}/{fresh_databases.main}"
    async with await psycopg.AsyncConnection.connect(url, autocommit=True, prepare_threshold=None) as other:
        for _ in range(2 * SERVER_CONNECTIONS):
            cursor = await other.execute(
                "SELECT current_setting('statement_timeout'), current_setting('lock_timeout')"
            )
            assert await cursor.fetchone() == ("0", "0")


async def test_everything_else_works_as_without(bounced: DatabaseConnection) -> None:
    async with bounced.main.copy_in("COPY assets (symbol, name, decimals) FROM STDIN") as copy:
        for number in range(100):
            await copy.write_row((f"A{number}", "x", 8))
    assert len([row async for row in bounced.main.stream("SELECT * FROM assets", batch_rows=7)]) == 100
    pieces = [piece async for piece in bounced.main.copy_out("COPY assets (symbol) TO STDOUT")]
    assert len(b"".join(pieces).split()) == 100
    assert await bounced.main.execute("UPDATE markets SET status = 'halted'") == 0
    async with bounced.transaction("serializable") as session:
        assert await session.value("SELECT current_setting('transaction_isolation')") == "serializable"
        async with session.transaction() as inner:
            await inner.execute(ADD, ["BTC"])
    async with bounced.transaction() as session, session.pipeline() as pipeline:
        for number in range(10):
            await pipeline.execute(ADD, [f"B{number}"])
    assert await bounced.analytics.value("SELECT count(*) FROM user_events") == 0
    assert await bounced.main.value("SELECT count(*) FROM assets") == 111


async def test_work_is_retried_as_without(bounced: DatabaseConnection) -> None:
    await bounced.main.execute("INSERT INTO users (id) VALUES (gen_random_uuid())")

    async def count(session: Session) -> None:
        version = await session.value("SELECT version FROM users")
        # The trigger of users raises it.
        await session.execute("UPDATE users SET status = status WHERE version = $1", [version])

    results = await asyncio.gather(*(bounced.main.run(count) for _ in range(3)), return_exceptions=True)
    assert await bounced.main.value("SELECT version FROM users") == 1 + results.count(None)
    assert results.count(None) >= 2


async def test_a_program_that_keeps_a_connection_can_keep_one(bounced: DatabaseConnection) -> None:
    kept = await bounced.main.dedicated()
    try:
        assert kept.prepare_threshold is None
        for number in range(20):
            cursor = await kept.execute("SELECT %s::integer", (number,))
            assert await cursor.fetchone() == (number,)
    finally:
        await kept.close()


async def test_a_user_of_one_transaction_is_not_that_of_the_next(
    bounced: DatabaseConnection, bouncer_port: int, fresh_databases: DatabasePair, users: Callable[[int], list[UUID]]
) -> None:
    """Server connections go from client to client: the user is of the transaction, so nothing goes with them."""

    def url(database: str) -> str:
        return f"postgresql://novadex_user:{PASSWORD}@127.0.0.1:{bouncer_port}/{database}"

    settings = load_settings(pgbouncer=True, pool_size_max=10, pool_wait_s_max=10)
    endpoints = Endpoints(url(fresh_databases.main), url(fresh_databases.analytics), "", "")
    everybody = users(10)
    async with DatabaseConnection(endpoints, settings) as db:

        async def seen_by(user: UUID) -> list[UUID]:
            async with db.user_transaction(user) as session:
                rows = await session.query("SELECT id FROM users")
                await asyncio.sleep(0.001)
                assert await session.query("SELECT id FROM users") == rows
            assert await db.main.value("SELECT count(*) FROM users") == 0
            return [row.id for row in rows]

        wanted = everybody * 10
        assert await asyncio.gather(*map(seen_by, wanted)) == [[user] for user in wanted]
