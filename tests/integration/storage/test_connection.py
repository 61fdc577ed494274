"""``DatabaseConnection``: one for the process, across event loops, and no password anywhere it could be seen."""

from __future__ import annotations

import asyncio
import gc
import io
import logging
import resource
import select
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from novadex.errors import ConfigurationError, UnavailableError, UsageError
from novadex.instance import Endpoints, Instance, Process, Service, write_instance
from novadex.settings import load_settings
from novadex.storage.connection import DatabaseConnection
from novadex.storage.database import Database
from tests.conftest import DatabasePair
from tests.servers import PASSWORD, PostgresServer
from tests.waiting import until


@pytest.fixture
def environment(
    fresh_databases: DatabasePair, cache_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[DatabasePair]:
    """The servers of this test are those of the environment, and no local instance is found."""
    monkeypatch.setenv("DATABASE_URL", fresh_databases.main_url("app"))
    monkeypatch.setenv("ANALYTICS_DATABASE_URL", fresh_databases.analytics_url("app"))
    monkeypatch.setenv("REDIS_URL", cache_url)
    monkeypatch.setenv("REDIS_SESSION_URL", cache_url)
    monkeypatch.setattr("novadex.instance.default_data_dir", lambda: tmp_path / "none")
    yield fresh_databases
    monkeypatch.setattr(DatabaseConnection, "_instance", None)


@pytest.fixture
def run_in_loop() -> Callable[..., object]:
    """Runs a coroutine in an event loop of its own, in a thread, as ``asyncio.run`` does in a program."""

    def run(make: Callable[[], object]) -> object:
        outcome: list[object] = []

        def target() -> None:
            try:
                outcome.append(asyncio.run(make()))  # pyright: ignore[reportArgumentType]
            except Exception as error:  # noqa: BLE001 - handed to the test
                outcome.append(error)

        thread = threading.Thread(target=target)
        thread.start()
        thread.join(60)
        return outcome[0]

    return run


async def test_a_process_has_one_instance(environment: DatabasePair) -> None:
    db = DatabaseConnection.get_instance()
    assert DatabaseConnection.get_instance() is db
    assert await db.query("SELECT * FROM users WHERE id = $1", ["0191345f-9e7b-7000-8000-000000000001"]) == []
    assert await db.analytics_query("SELECT * FROM user_events") == []
    await db.close()
    again = DatabaseConnection.get_instance()
    assert again is not db
    assert await again.query("SELECT 1 AS one") == [{"one": 1}]
    await again.close()


async def test_a_closed_connection_opens_again_when_it_is_used(db: DatabaseConnection) -> None:
    assert await db.main.value("SELECT 1") == 1
    await db.close()
    assert await db.main.value("SELECT 1") == 1


def test_the_instance_goes_from_event_loop_to_event_loop(
    environment: DatabasePair, run_in_loop: Callable[..., object], postgres: PostgresServer
) -> None:
    """``asyncio.run`` twice in one program; nothing of the first loop is left open."""

    async def use() -> object:
        db = DatabaseConnection.get_instance()
        async with db.transaction() as session:
            await session.execute("INSERT INTO users (id) VALUES (gen_random_uuid())")
        await asyncio.gather(*(db.main.value("SELECT pg_sleep(0.01)") for _ in range(10)))
        return await db.main.value("SELECT count(*) FROM users")

    assert run_in_loop(use) == 1
    assert run_in_loop(use) == 2

    async def close() -> None:
        await DatabaseConnection.get_instance().close()

    run_in_loop(close)
    gc.collect()
    with postgres.superuser() as superuser:
        row = superuser.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = %s", (environment.main,)
        ).fetchone()
    assert row == (0,)


async def test_two_event_loops_at_once_are_refused(
    db: DatabaseConnection, run_in_loop: Callable[..., object]
) -> None:
    assert await db.main.value("SELECT 1") == 1
    error = await asyncio.to_thread(run_in_loop, lambda: db.main.value("SELECT 1"))
    assert isinstance(error, UsageError)
    assert "another event loop" in str(error)
    assert await db.main.value("SELECT 2") == 2


async def test_a_dedicated_connection_stands_beside_the_pool(db: DatabaseConnection) -> None:
    kept = await db.main.dedicated()
    try:
        assert db.main.pool_state() == {}
        assert await db.main.value("SELECT 1") == 1
        cursor = await kept.execute("SELECT current_setting('statement_timeout'), current_setting('lock_timeout')")
        assert await cursor.fetchone() == ("30s", "4s")
        await db.close()
        assert await (await kept.execute("SELECT 2")).fetchone() == (2,)
    finally:
        await kept.close()


async def test_a_connection_that_is_closed_while_somebody_waits_on_it_fails_them_at_once(
    db: DatabaseConnection,
) -> None:
    """Closed as libpq closes it, the one who waits reads memory that is free by then, and may end with it."""
    for _ in range(3):
        connection = await db.main.dedicated()
        waiting = asyncio.create_task(connection.execute("SELECT pg_sleep(60)"))
        await until(lambda: connection.info.transaction_status == psycopg.pq.TransactionStatus.ACTIVE)  # noqa: B023
        await connection.close()
        assert not connection.closed, "what libpq works with is there as long as somebody waits"
        with pytest.raises(psycopg.OperationalError):
            await asyncio.wait_for(waiting, 10)
        assert connection.closed


async def test_a_connection_that_is_closed_when_the_answer_is_there_already_is_closed_all_the_same(
    db: DatabaseConnection,
) -> None:
    connection = await db.main.dedicated()
    waiting = asyncio.create_task(connection.execute("SELECT 1 FROM pg_sleep(0.2)"))
    await until(lambda: connection.info.transaction_status == psycopg.pq.TransactionStatus.ACTIVE)
    readable, _, _ = select.select([connection.fileno()], [], [], 10)
    assert readable, "the answer has come"
    await connection.close()
    assert await (await asyncio.wait_for(waiting, 10)).fetchone() == (1,)
    assert connection.closed


async def test_a_connection_that_somebody_waits_on_is_closed_where_no_descriptor_is_left(
    db: DatabaseConnection,
) -> None:
    connection = await db.main.dedicated()
    waiting = asyncio.create_task(connection.execute("SELECT pg_sleep(60)"))
    await until(lambda: connection.info.transaction_status == psycopg.pq.TransactionStatus.ACTIVE)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (connection.fileno() + 1, hard)
    )  # all below it are in use, or it were lower
    try:
        await connection.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with pytest.raises(psycopg.OperationalError):
        await asyncio.wait_for(waiting, 10)
    assert connection.closed


async def test_the_servers_are_found_by_the_data_folder(
    fresh_databases: DatabasePair, cache_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = fresh_databases.server
    monkeypatch.setattr(
        "novadex.instance.DATABASES", {"main": fresh_databases.main, "analytics": fresh_databases.analytics}
    )
    roles = ("owner", "app", "worker", "readonly", "backup")
    instance = Instance(
        instance_id="test",
        home=str(tmp_path),
        postgres_major=18,
        supervisor=Process.of(1),
        services={
            "main": Service(port=server.port),
            "analytics": Service(port=server.port),
            "cache": Service(url=cache_url),
            "sessions": Service(url=cache_url),
        },
        passwords=dict.fromkeys(roles, PASSWORD),
    )
    write_instance(tmp_path, instance)
    for role in roles:
        async with DatabaseConnection.connect(data_dir=tmp_path, role=role) as db:
            assert await db.main.value("SELECT current_user::text") == f"novadex_{role}"


def test_without_any_server_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("novadex.instance.default_data_dir", lambda: tmp_path)
    with pytest.raises(ConfigurationError, match=r"novadex up") as caught:
        DatabaseConnection.connect()
    assert "DATABASE_URL" in str(caught.value)


# Passwords -------------------------------------------------------------------------------------------------


@pytest.fixture
def everything_logged() -> Iterator[io.StringIO]:
    """What all loggers write, in full detail."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)


def shown(error: BaseException) -> str:
    """The error with its whole story, as a log would have it."""
    text = "".join(traceback.format_exception(error)) + repr(error)
    if isinstance(error, (UnavailableError, ConfigurationError)):
        text += str(error.as_dict())
    return text


async def test_no_password_is_shown_when_all_is_well(
    db: DatabaseConnection, fresh_databases: DatabasePair, everything_logged: io.StringIO
) -> None:
    await db.query("SELECT 1")
    connection = await db.main.dedicated()
    session_shown = ""
    async with db.transaction() as session:
        session_shown = repr(session) + repr(session.connection)
    shown_places = [
        repr(db),
        str(db.main),
        repr(db.main),
        repr(vars(db)),
        repr(db.replicas),
        repr(db.settings),
        repr(fresh_databases.endpoints()),
        repr(connection),
        session_shown,
        str(db.main.pool_state()),
        everything_logged.getvalue(),
    ]
    await connection.close()
    for place in shown_places:
        assert PASSWORD not in place


@pytest.mark.parametrize("role", ["novadex_app", "nobody_of_that_name"])
async def test_a_wrong_password_is_reported_and_not_shown(
    fresh_databases: DatabasePair, everything_logged: io.StringIO, role: str
) -> None:
    secret = "wrong-secret-5d1e"
    url = fresh_databases.server.url(fresh_databases.main, role, secret)
    settings = load_settings(DATABASE_URL=url, pool_wait_s_max=0.5)
    async with DatabaseConnection(Endpoints(url, url, "", "", (url,)), settings) as db:
        calls = {
            "query": lambda: db.query("SELECT 1"),
            "read_query": lambda: db.read_query("SELECT 1"),
            "dedicated": db.main.dedicated,
        }
        for call in calls.values():
            with pytest.raises(
                UnavailableError, match=r"No connection to main: .*password authentication failed"
            ) as c:
                await call()
            assert secret not in shown(c.value)
        assert secret not in repr(db.settings) + str(db.settings.model_dump())
    assert "password authentication failed" in everything_logged.getvalue()
    assert secret not in everything_logged.getvalue()


async def test_a_lost_connection_shows_no_password(
    db: DatabaseConnection, postgres: PostgresServer, everything_logged: io.StringIO
) -> None:
    with pytest.raises(UnavailableError) as caught:
        async with db.transaction() as session:
            pid = await session.value("SELECT pg_backend_pid()")
            with postgres.superuser() as superuser:
                superuser.execute("SELECT pg_terminate_backend(%s)", (pid,))
            await session.execute("SELECT 1")
    assert PASSWORD not in shown(caught.value)
    assert PASSWORD not in everything_logged.getvalue()


async def test_a_url_that_libpq_cannot_read_shows_no_password(everything_logged: io.StringIO) -> None:
    """Settings refuse such a URL; it can still come from a file of an older version."""
    secret = "100%secret"
    database = Database("main", f"postgresql://app:{secret}@localhost/x", load_settings(pool_wait_s_max=0.5))
    try:
        for call in (lambda: database.query("SELECT 1"), database.dedicated):
            with pytest.raises((UnavailableError, ConfigurationError)) as caught:
                await call()
            assert secret not in shown(caught.value)
    finally:
        await database.close()
    assert secret not in everything_logged.getvalue()


async def test_errors_of_the_database_keep_their_own_class(db: DatabaseConnection) -> None:
    with pytest.raises(psycopg.errors.SyntaxError):
        await db.query("SELECT FROM WHERE")
