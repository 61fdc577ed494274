"""What the server undid is done again; what may have been done is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import psycopg
import pytest

from novadex import metrics
from novadex.errors import UnavailableError
from novadex.settings import load_settings
from novadex.storage import database as database_module
from novadex.storage.connection import DatabaseConnection
from novadex.storage.database import Database
from novadex.storage.session import Session
from tests.conftest import DatabasePair
from tests.proxy import Proxy
from tests.servers import PostgresServer
from tests.waiting import until

ADD = "INSERT INTO assets (symbol, name, decimals) VALUES ($1, $1, 8)"
COUNT = "SELECT count(*) FROM assets"


def retries(code: str) -> float:
    return metrics.REGISTRY.get_sample_value("novadex_query_retries_total", {"database": "main", "code": code}) or 0.0


class Meeting:
    """Lets two tasks wait for each other, the first time they come."""

    def __init__(self) -> None:
        self._barrier = asyncio.Barrier(2)
        self._met: set[str] = set()

    async def wait(self, name: str) -> None:
        if name not in self._met:
            self._met.add(name)
            await self._barrier.wait()


async def halt_if_another_trades(session: Session, who: str, meeting: Meeting) -> bool:
    """Halt a market if another one stays active; the two look before either writes: the textbook's write skew."""
    others = await session.value("SELECT count(*) FROM markets WHERE status = 'active' AND symbol <> $1", [who])
    await meeting.wait(who)
    if not others:
        return False
    await session.execute("UPDATE markets SET status = 'halted' WHERE symbol = $1", [who])
    return True


@pytest.fixture
async def two_markets(db: DatabaseConnection) -> tuple[str, str]:
    await db.main.execute(
        "INSERT INTO assets (symbol, name, decimals) SELECT s, s, 8 FROM unnest($1::text[]) AS s", [["A", "B"]]
    )
    for symbol, base, quote in (("A/B", "A", "B"), ("B/A", "B", "A")):
        await db.main.execute(
            "INSERT INTO markets (symbol, base_asset_id, quote_asset_id, base_decimals, quote_decimals)"
            " SELECT $1, base.id, quote.id, 8, 8 FROM assets base, assets quote"
            " WHERE base.symbol = $2 AND quote.symbol = $3",
            [symbol, base, quote],
        )
    return ("A/B", "B/A")


async def test_write_skew_is_found_and_the_loser_runs_again(
    db: DatabaseConnection, two_markets: tuple[str, str]
) -> None:
    before = retries("40001")
    meeting = Meeting()
    left = await asyncio.gather(*(db.main.run(halt_if_another_trades, symbol, meeting) for symbol in two_markets))
    assert sorted(left) == [False, True]
    assert await db.main.value("SELECT count(*) FROM markets WHERE status = 'active'") == 1
    assert retries("40001") == before + 1


async def test_the_same_scenario_goes_wrong_without_it(db: DatabaseConnection, two_markets: tuple[str, str]) -> None:
    """So that the test above is known to test something."""
    meeting = Meeting()

    async def carelessly(symbol: str) -> bool:
        async with db.transaction("repeatable read") as session:
            return await halt_if_another_trades(session, symbol, meeting)

    assert await asyncio.gather(*map(carelessly, two_markets)) == [True, True]


async def test_a_deadlock_is_resolved_by_running_one_again(
    db: DatabaseConnection, two_markets: tuple[str, str]
) -> None:
    before = retries("40P01") + retries("40001")
    meeting = Meeting()

    async def halt_both(session: Session, first: str, second: str) -> None:
        await session.execute("SELECT FROM markets WHERE symbol = $1 FOR UPDATE", [first])
        await meeting.wait(first)
        await session.execute("SELECT FROM markets WHERE symbol = $1 FOR UPDATE", [second])

    first, second = two_markets
    await asyncio.gather(db.main.run(halt_both, first, second), db.main.run(halt_both, second, first))
    assert retries("40P01") + retries("40001") > before


async def test_counters_that_collide_lose_no_count(db: DatabaseConnection) -> None:
    """More at once than attempts would allow without their spreading out."""
    await db.main.execute("INSERT INTO users (id) VALUES (gen_random_uuid())")

    async def count(session: Session) -> None:
        version = await session.value("SELECT version FROM users")
        # The trigger of users raises it.
        await session.execute("UPDATE users SET status = status WHERE version = $1", [version])

    results = await asyncio.gather(*(db.main.run(count) for _ in range(6)), return_exceptions=True)
    done = [result for result in results if result is None]
    assert {type(result) for result in results if result is not None} <= {UnavailableError}
    assert await db.main.value("SELECT version FROM users") == 1 + len(done)
    assert len(done) >= 2


async def test_attempts_end(db: DatabaseConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "BACKOFF_S", 0.001)
    calls = 0

    async def always_undone(session: Session) -> None:
        nonlocal calls
        calls += 1
        await session.execute("DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END $$")

    with pytest.raises(UnavailableError, match="undid this on main 5 times: again") as caught:
        await db.main.run(always_undone)
    assert calls == database_module.ATTEMPTS_MAX
    assert caught.value.retryable


async def test_one_statement_that_the_server_undid_runs_again(
    db: DatabaseConnection, owner_db: DatabaseConnection
) -> None:
    await owner_db.main.execute("CREATE SEQUENCE attempts; GRANT ALL ON SEQUENCE attempts TO novadex_app")
    await owner_db.main.execute("""
        CREATE FUNCTION undone_twice() RETURNS bigint LANGUAGE plpgsql AS $$
        BEGIN
            IF nextval('attempts') < 3 THEN
                RAISE EXCEPTION 'again' USING ERRCODE = 'serialization_failure';
            END IF;
            RETURN currval('attempts');
        END $$
    """)
    assert await db.main.value("SELECT undone_twice()") == 3


# Lost connections ------------------------------------------------------------------------------------------


@pytest.fixture
async def linked(
    fresh_databases: DatabasePair, proxy: Callable[[str], Awaitable[Proxy]]
) -> AsyncIterator[tuple[Database, Proxy]]:
    """A database behind a network that can be cut."""
    link = await proxy(fresh_databases.main_url("app"))
    database = Database("main", link.url, load_settings(pool_wait_s_max=5))
    yield database, link
    await database.close()


async def backend_of(superuser: psycopg.Connection[Any], marker: str) -> int:
    """The process that runs a statement with this word in it."""
    found: list[int] = []

    def look() -> bool:
        rows = superuser.execute(
            "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND query LIKE %s AND pid <> pg_backend_pid()",
            (f"%{marker}%",),
        ).fetchall()
        found.extend(row[0] for row in rows)
        return bool(found)

    await until(look)
    return found[0]


async def test_a_read_that_lost_its_connection_runs_again(
    linked: tuple[Database, Proxy], postgres: PostgresServer
) -> None:
    database, link = linked
    task = asyncio.create_task(database.value("SELECT 'lost_read' FROM pg_sleep(0.5)", read_only=True))
    with postgres.superuser() as superuser:
        await backend_of(superuser, "lost_read")
    link.cut()
    assert await task == "lost_read"


async def test_a_read_whose_server_process_was_killed_runs_again(
    db: DatabaseConnection, postgres: PostgresServer
) -> None:
    task = asyncio.create_task(db.main.value("SELECT 'killed_read' FROM pg_sleep(0.5)", read_only=True))
    with postgres.superuser() as superuser:
        pid = await backend_of(superuser, "killed_read")
        superuser.execute("SELECT pg_terminate_backend(%s)", (pid,))
    assert await task == "killed_read"


async def test_a_write_that_lost_its_connection_does_not_run_again(
    linked: tuple[Database, Proxy], db: DatabaseConnection, postgres: PostgresServer
) -> None:
    """The server carries it out all the same: a second one would count twice."""
    database, link = linked
    task = asyncio.create_task(
        database.execute("INSERT INTO assets (symbol, name, decimals) SELECT 'A', 'lost_write', 8 FROM pg_sleep(0.5)")
    )
    with postgres.superuser() as superuser:
        await backend_of(superuser, "lost_write")
    link.cut()
    with pytest.raises(UnavailableError, match="connection to main was lost") as caught:
        await task
    assert "may or may not have been carried out" in str(caught.value)
    with postgres.superuser() as superuser:
        running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'INSERT%lost_write%' AND state = 'active'"
        await until(lambda: superuser.execute(running).fetchone() == (0,))
    assert await db.main.value(COUNT) in {0, 1}
    assert await database.value("SELECT 1") == 1


async def test_work_that_lost_its_connection_before_the_commit_runs_again(linked: tuple[Database, Proxy]) -> None:
    database, link = linked
    calls = 0

    async def write(session: Session) -> int:
        nonlocal calls
        calls += 1
        await session.execute(ADD, ["BTC"])
        if calls == 1:
            link.cut()
        return await session.value(COUNT)

    assert await database.run(write) == 1
    assert calls == 2
    assert await database.value(COUNT) == 1


async def test_work_that_lost_its_connection_at_the_commit_does_not_run_again(
    linked: tuple[Database, Proxy],
) -> None:
    """Whether the commit arrived is not known."""
    database, link = linked
    calls = 0

    async def write(session: Session) -> None:
        nonlocal calls
        calls += 1
        await session.execute(ADD, [f"A{calls}"])
        link.cut()

    with pytest.raises(UnavailableError, match="was lost"):
        await database.run(write)
    assert calls == 1
    assert await database.value(COUNT) in {0, 1}


async def test_an_error_of_the_work_itself_is_not_retried(db: DatabaseConnection) -> None:
    calls = 0

    async def refuse(session: Session) -> None:
        nonlocal calls
        calls += 1
        await session.execute(ADD, ["not a symbol"])

    with pytest.raises(psycopg.errors.CheckViolation):
        await db.main.run(refuse)
    assert calls == 1


async def test_connections_that_died_in_the_pool_are_replaced_unseen(
    db: DatabaseConnection, postgres: PostgresServer, fresh_databases: DatabasePair
) -> None:
    await asyncio.gather(*(db.query("SELECT pg_sleep(0.05)") for _ in range(4)))
    with postgres.superuser() as superuser:
        terminated = superuser.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = %s",
            (fresh_databases.main,),
        ).fetchone()
    assert terminated is not None
    assert terminated[0] >= 2
    assert await db.main.execute(ADD, ["BTC"]) == 1


async def test_a_restarted_server_is_used_again(make_postgres: Callable[..., PostgresServer]) -> None:
    server = make_postgres()
    database = Database("main", server.url(), load_settings(pool_wait_s_max=1))
    try:
        assert await database.value("SELECT 1") == 1
        server.kill()
        with pytest.raises(UnavailableError, match="main"):
            await database.value("SELECT 1")
        server.start()
        assert await database.value("SELECT 2") == 2
        server.restart()
        assert await database.value("SELECT 3") == 3
    finally:
        await database.close()
        server.stop()


async def test_a_read_waits_out_a_short_restart(make_postgres: Callable[..., PostgresServer]) -> None:
    server = make_postgres()
    database = Database("main", server.url(), load_settings(pool_wait_s_max=20))
    try:
        assert await database.value("SELECT 1") == 1
        server.kill()
        reads = [asyncio.create_task(database.value("SELECT 2", read_only=True)) for _ in range(5)]
        await until(lambda: database.pool_state().get("connections_errors", 0) > 0)
        server.start()
        assert await asyncio.gather(*reads) == [2] * 5
    finally:
        await database.close()
        server.stop()
