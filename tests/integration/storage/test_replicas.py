"""Read replicas: read from while they are close behind, never trusted beyond that, with read-your-writes."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from novadex import metrics
from novadex.errors import UnavailableError, ValidationError
from novadex.instance import Endpoints
from novadex.settings import load_settings
from novadex.storage.connection import DatabaseConnection
from novadex.storage.migrations import migrate
from tests.proxy import Proxy
from tests.servers import PostgresServer
from tests.waiting import until

UNUSED = "postgresql://novadex_readonly:x@127.0.0.1:1/main"
ADD = "INSERT INTO assets (symbol, name, decimals) VALUES ($1, 'of a replica test', 8)"
FIND = "SELECT name FROM assets WHERE symbol = $1"
WHERE_AM_I = "SELECT pg_is_in_recovery() AS replica"
LAG_MS_MAX = 600


@dataclass
class Streaming:
    """A primary and its streaming replica."""

    primary: PostgresServer
    replica: PostgresServer
    made: int = 0

    @property
    def replica_url(self) -> str:
        return self.replica.url("main", "novadex_readonly")

    def symbol(self) -> str:
        """A new one."""
        self.made += 1
        return f"R{self.made}"


@pytest.fixture(scope="module")
def streaming(make_postgres: Callable[..., PostgresServer], servers_folder: Path) -> Iterator[Streaming]:
    primary = make_postgres()
    primary.make_database("main", owner="novadex_owner")
    migrate(primary.url("main", "novadex_owner"), "main")
    replica = primary.make_replica(servers_folder / "replica", "replica_1")
    try:
        yield Streaming(primary, replica.start())
    finally:
        replica.stop()
        primary.stop()


@asynccontextmanager
async def connected(
    streaming: Streaming, *replicas: str, main: str | None = None, **settings: Any
) -> AsyncIterator[DatabaseConnection]:
    main = main or streaming.primary.url("main", "novadex_app")
    endpoints = Endpoints(main, main, "", "", replicas or (streaming.replica_url,))
    async with DatabaseConnection(endpoints, load_settings(replica_lag_ms_max=LAG_MS_MAX, **settings)) as db:
        yield db


@pytest.fixture
async def db(streaming: Streaming) -> AsyncIterator[DatabaseConnection]:
    async with connected(streaming) as db:
        yield db


async def on_replica(db: DatabaseConnection) -> bool:
    (row,) = await db.read_query(WHERE_AM_I)
    return row.replica


async def on_primary(db: DatabaseConnection) -> bool:
    return not await on_replica(db)


@pytest.fixture
def paused(streaming: Streaming) -> Iterator[psycopg.Connection[Any]]:
    """The replica receives and does not replay; ``pg_wal_replay_resume`` goes through the connection."""
    with streaming.replica.superuser() as replica:
        replica.execute("SELECT pg_wal_replay_pause()")
        try:
            yield replica
        finally:
            replica.execute("SELECT pg_wal_replay_resume()")


async def test_reads_go_to_the_replica_as_soon_as_it_is_known(db: DatabaseConnection) -> None:
    await until(lambda: on_replica(db))
    assert await db.main.value("SELECT pg_is_in_recovery()") is False
    assert [row.replica for row in await db.query(WHERE_AM_I)] == [False]


async def test_until_replicas_are_known_the_primary_serves_at_once(streaming: Streaming) -> None:
    async with connected(streaming, UNUSED, streaming.replica_url) as db:
        await db.main.value("SELECT 1")
        began = time.monotonic()
        assert await db.replicas.choose() is db.main
        assert time.monotonic() - began < 0.1
        assert await on_primary(db)


async def test_what_is_read_is_counted(db: DatabaseConnection) -> None:
    def reads(target: str) -> float:
        return metrics.REGISTRY.get_sample_value("novadex_replica_reads_total", {"target": target}) or 0.0

    await until(lambda: on_replica(db))
    replica, primary = reads("replica"), reads("primary")
    await db.read_query(WHERE_AM_I)
    assert (reads("replica"), reads("primary")) == (replica + 1, primary)
    lag_s = metrics.REGISTRY.get_sample_value("novadex_replica_lag_seconds", {"replica": "replica 1"})
    assert lag_s is not None
    assert 0 <= lag_s < LAG_MS_MAX / 1000


async def test_one_reads_ones_own_writes(db: DatabaseConnection, streaming: Streaming) -> None:
    await until(lambda: on_replica(db))
    for _ in range(40):
        symbol = streaming.symbol()
        await db.main.execute(ADD, [symbol])
        position = await db.write_position()
        assert len(await db.read_query(FIND, [symbol], after=position)) == 1


async def test_a_position_is_soon_reached_by_the_replica(db: DatabaseConnection, streaming: Streaming) -> None:
    await db.main.execute(ADD, [streaming.symbol()])
    position = await db.write_position()

    async def served_by_replica() -> bool:
        return await db.replicas.choose(position) is not db.main

    await until(served_by_replica)


async def test_a_replica_that_has_not_replayed_a_write_is_not_asked_for_it(
    db: DatabaseConnection, streaming: Streaming, paused: psycopg.Connection[Any]
) -> None:
    await until(lambda: on_replica(db))
    symbol = streaming.symbol()
    await db.main.execute(ADD, [symbol])
    position = await db.write_position()
    assert len(await db.read_query(FIND, [symbol], after=position)) == 1
    assert paused.execute("SELECT count(*) FROM pg_database").fetchone() is not None


async def test_a_replica_that_falls_behind_is_left_alone_until_it_has_caught_up(
    db: DatabaseConnection, streaming: Streaming, paused: psycopg.Connection[Any]
) -> None:
    await until(lambda: on_replica(db))
    symbol = streaming.symbol()
    await db.main.execute(ADD, [symbol])
    await until(lambda: on_primary(db), LAG_MS_MAX / 1000 + 2)
    assert len(await db.read_query(FIND, [symbol])) == 1
    paused.execute("SELECT pg_wal_replay_resume()")
    await until(lambda: on_replica(db))
    assert len(await db.read_query(FIND, [symbol])) == 1


async def test_no_read_is_older_than_the_bound(
    db: DatabaseConnection, streaming: Streaming, paused: psycopg.Connection[Any]
) -> None:
    """Writes go on while the replica stands still: what a read misses was written less than the bound ago."""
    await until(lambda: on_replica(db))
    written: dict[str, float] = {}
    deadline = time.monotonic() + 2 * LAG_MS_MAX / 1000
    while time.monotonic() < deadline:
        symbol = streaming.symbol()
        await db.main.execute(ADD, [symbol])
        written[symbol] = time.monotonic()
        asked = time.monotonic()
        rows = await db.read_query("SELECT symbol FROM assets WHERE name = 'of a replica test'")
        missing = set(written) - {row.symbol for row in rows}
        assert all(asked - written[symbol] <= LAG_MS_MAX / 1000 for symbol in missing)


async def test_an_idle_primary_does_not_make_its_replica_look_old(db: DatabaseConnection) -> None:
    await until(lambda: on_replica(db))
    deadline = time.monotonic() + 2 * LAG_MS_MAX / 1000
    while time.monotonic() < deadline:
        assert await on_replica(db)


async def test_a_replica_that_is_killed_is_replaced_by_the_primary(
    db: DatabaseConnection, streaming: Streaming
) -> None:
    await until(lambda: on_replica(db))
    streaming.replica.kill()
    try:
        began = time.monotonic()
        assert await on_primary(db)
        assert time.monotonic() - began < 4
        assert await db.replicas.choose() is db.main
    finally:
        streaming.replica.start()
    await until(lambda: on_replica(db), 20)


async def test_a_replica_that_freezes_is_left_alone(db: DatabaseConnection, streaming: Streaming) -> None:
    await until(lambda: on_replica(db))
    with streaming.replica.superuser() as replica:
        rows = replica.execute("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'novadex %'").fetchall()
    assert streaming.replica.process is not None
    frozen = [streaming.replica.process.pid, *(row[0] for row in rows)]
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    try:

        async def chooses_primary() -> bool:
            return await db.replicas.choose() is db.main

        await until(chooses_primary, LAG_MS_MAX / 1000 + 1)
        assert await on_primary(db)
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
    await until(lambda: on_replica(db), 20)


async def test_a_dead_replica_delays_no_other(streaming: Streaming) -> None:
    async with connected(streaming, UNUSED, streaming.replica_url, UNUSED) as db:
        await until(lambda: on_replica(db), 3)
        deadline = time.monotonic() + 3 * LAG_MS_MAX / 1000
        while time.monotonic() < deadline:
            assert await on_replica(db)


async def test_replicas_take_turns(streaming: Streaming) -> None:
    async with connected(streaming, streaming.replica_url, streaming.replica_url) as db:

        async def both_known() -> bool:
            return len({(await db.replicas.choose()).name for _ in range(4)}) == 2

        await until(both_known)
        names = [(await db.replicas.choose()).name for _ in range(6)]
        assert sorted(names) == ["replica 1"] * 3 + ["replica 2"] * 3


async def test_a_promoted_replica_is_no_replica_any_more(streaming: Streaming, servers_folder: Path) -> None:
    """It lives on by itself, and its data parts from the primary's."""
    promoted = streaming.primary.make_replica(servers_folder / "promoted", "replica_2").start()
    try:
        async with connected(streaming, promoted.url("main", "novadex_readonly")) as db:
            await until(lambda: on_replica(db))
            with promoted.superuser() as connection:
                connection.execute("SELECT pg_promote()")
            with promoted.superuser("main") as connection:
                connection.execute("INSERT INTO assets (symbol, name, decimals) VALUES ('FALSE', 'false', 8)")

            async def chooses_primary() -> bool:
                return await db.replicas.choose() is db.main

            await until(chooses_primary)
            assert await db.read_query(FIND, ["FALSE"]) == []
        await stays_away_from_the_old_log(streaming, promoted)
    finally:
        promoted.stop()
        with streaming.primary.superuser() as connection:
            connection.execute("SELECT pg_drop_replication_slot('replica_2')")


async def stays_away_from_the_old_log(streaming: Streaming, promoted: PostgresServer) -> None:
    """After a failover, a standby that still follows the old primary: its positions may even be higher."""
    with streaming.primary.superuser("main") as old_primary:
        old_primary.execute("CREATE TABLE written_meanwhile AS SELECT generate_series(1, 10000)")
    async with connected(streaming, main=promoted.url("main", "novadex_app")) as db:
        await db.read_query(WHERE_AM_I)
        await until(lambda: positions_known(db))
        assert await db.read_query(FIND, ["FALSE"]) == [{"name": "false"}]
        assert await db.replicas.choose() is db.main
    with streaming.primary.superuser("main") as old_primary:
        old_primary.execute("DROP TABLE written_meanwhile")


def positions_known(db: DatabaseConnection) -> bool:
    """Whether every server was asked a few times."""
    return len(db.replicas._primary_positions) >= 4


async def test_a_replica_of_another_primary_is_never_read_from(
    streaming: Streaming, make_postgres: Callable[..., PostgresServer]
) -> None:
    other = make_postgres()
    try:
        other.make_database("main", owner="novadex_owner")
        migrate(other.url("main", "novadex_owner"), "main")
        async with connected(streaming, main=other.url("main", "novadex_app")) as db:
            await db.read_query(WHERE_AM_I)
            await until(lambda: positions_known(db))
            assert await db.replicas.choose() is db.main
    finally:
        other.stop()


async def test_without_the_primary_no_replica_is_known_to_be_current(
    streaming: Streaming, proxy: Callable[[str], Awaitable[Proxy]]
) -> None:
    link = await proxy(streaming.primary.url("main", "novadex_app"))
    async with connected(streaming, main=link.url, pool_wait_s_max=1) as db:
        await until(lambda: on_replica(db))
        await link.refuse()
        link.cut()

        async def chooses_primary() -> bool:
            return await db.replicas.choose() is db.main

        await until(chooses_primary, LAG_MS_MAX / 1000 + 1)
        with pytest.raises(UnavailableError, match="main"):
            await db.read_query(WHERE_AM_I)
        await link.accept()
        await until(lambda: on_replica(db), 20)


async def test_first_reads_at_once_start_one_watch_of_each_server(streaming: Streaming) -> None:
    def watches() -> list[str]:
        return sorted(task.get_name() for task in asyncio.all_tasks() if "watch of" in task.get_name())

    before = watches()
    async with connected(streaming) as db:
        await asyncio.gather(*(db.read_query(WHERE_AM_I) for _ in range(20)))
        assert watches() == sorted([*before, "novadex watch of replica 1", "novadex watch of the primary"])
    assert watches() == before


async def test_a_read_that_takes_too_long_is_not_started_again_on_the_primary(streaming: Streaming) -> None:
    async with connected(streaming, statement_timeout_ms=300) as db:
        await until(lambda: on_replica(db))
        began = time.monotonic()
        with pytest.raises(UnavailableError, match="statement timeout"):
            await db.read_query("SELECT pg_sleep(10)")
        assert time.monotonic() - began < 0.6
        assert await on_replica(db)


@pytest.mark.parametrize("after", ["0", "x/y", "0/16B3748; DROP TABLE users", "0/1/2"])
async def test_a_position_that_is_none_is_refused(db: DatabaseConnection, after: str) -> None:
    with pytest.raises(ValidationError, match="write_position") as caught:
        await db.read_query(WHERE_AM_I, after=after)
    assert caught.value.field == "after"


async def test_without_replicas_the_primary_serves(streaming: Streaming) -> None:
    main = streaming.primary.url("main", "novadex_app")
    async with DatabaseConnection(Endpoints(main, main, "", ""), load_settings()) as db:
        assert await on_primary(db)
        assert [row.replica for row in await db.read_query(WHERE_AM_I, after=await db.write_position())] == [False]
