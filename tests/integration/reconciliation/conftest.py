"""A venue that a simulation filled, with everything that is derived of it kept, and a superuser who can break it."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
import redis
from psycopg.types.json import Jsonb

from novadex.analytics.projection import TradeProjection
from novadex.portfolio.projection import PortfolioProjection
from novadex.reconciliation.records import Finding
from novadex.reconciliation.service import Reconciler
from novadex.simulator.records import Plan
from novadex.simulator.service import Simulator
from novadex.storage.connection import DatabaseConnection
from novadex.users.service import UserService
from tests.conftest import DatabasePair, DatabasePairs
from tests.integration.analytics.records import drain
from tests.integration.book.conftest import projecting
from tests.servers import ValkeyServer, valkey_binary
from tests.waiting import until


def plan_of(seconds: float, **more: Any) -> Plan:
    start = datetime.now(UTC) - timedelta(seconds=seconds, minutes=1)
    return Plan(start, seconds, **({"markets": 2, "users": 10, "rate": 10.0} | more))


class Kept(NamedTuple):
    """A venue with a minute of trading, whose books are being kept."""

    app: DatabaseConnection
    worker: DatabaseConnection

    @property
    def reconciler(self) -> Reconciler:
        return Reconciler(self.app, self.worker)


@pytest.fixture(scope="session")
async def traded(
    make_databases: Callable[[], DatabasePair], servers_folder: Path, binaries_folder: Path
) -> DatabasePairs:
    """Makes copies of databases with a minute of trading and what follows from it; the minute is traded once."""
    pair = make_databases()
    # Not by make_valkey, which ends, with all that asked for it, wherever the kind of server changes.
    valkey = ValkeyServer(servers_folder / "valkey-of-traded", valkey_binary(binaries_folder)).start()
    servers = {"cache": valkey.url, "sessions": valkey.url}
    async with pair.connection("app", **servers) as app, pair.connection("worker", **servers) as worker:
        await Simulator(app, plan_of(60), simulated_time=True).run()
        await drain(TradeProjection(worker.main, worker.analytics, worker.settings))
        await drain(PortfolioProjection(worker.main, worker.settings))
    valkey.stop()
    return DatabasePairs(pair, "traded_")


@pytest.fixture
def fresh_databases(traded: DatabasePairs) -> Iterator[DatabasePair]:
    """This test's own pair, with a minute of trading."""
    pair = traded.make()
    shutil.copytree(traded.template.data_dir, pair.data_dir, dirs_exist_ok=True)
    yield pair
    traded.drop(pair)


@pytest.fixture
async def kept(fresh_databases: DatabasePair, cache_url: str, sessions_url: str) -> AsyncIterator[Kept]:
    servers = {"cache": cache_url, "sessions": sessions_url}
    async with (
        fresh_databases.connection("app", **servers) as app,
        fresh_databases.connection("worker", **servers) as worker,
        projecting(fresh_databases, cache_url),
    ):
        users = UserService(app)
        traders = [row.id for row in await app.main.query("SELECT id FROM users WHERE kind = 'person'")]

        async def cached() -> bool:
            for trader in traders:
                await users.get_user(trader)
            return len(list(cache.scan_iter("*:user:*"))) == len(traders)

        with redis.Redis.from_url(cache_url) as cache:
            await until(cached)
        yield Kept(app, worker)


async def look(kept: Kept, *only: str, repair: bool = False) -> list[Finding]:
    """What a look at everything, or at some invariants, finds."""
    found: list[Finding] = []
    report = await kept.reconciler.run(found=found.append, only=only, repair=repair)
    assert not report.skipped, [check.skipped for check in report.checks]
    if repair:
        assert report.differences == 0, report
    return found


def sql(text: str) -> Any:
    """What tests compose; only literal text type-checks as a statement elsewhere."""
    return text


class Breaker:
    """A superuser without triggers, who changes rows and puts them back."""

    def __init__(self, url: str) -> None:
        self._url = url

    @contextmanager
    def broken(self, table: str, which: str, change: str) -> Iterator[dict[str, Any]]:
        """While in it, the row of a table that ``which`` (the end of a SELECT) finds is changed: ``change`` is what
        follows UPDATE table, or DELETE. Yields the row as it was."""
        with psycopg.connect(self._url, autocommit=True) as superuser:
            superuser.execute("SET session_replication_role = replica")
            found = superuser.execute(
                sql(f"SELECT to_jsonb(t), t.tableoid::regclass::text FROM {table} t {which} LIMIT 1")
            ).fetchone()
            assert found is not None, f"{table} has no row {which}"
            row, part = found
            key = "id" if "id" in row else "market_id"
            statement = f"DELETE FROM {part}" if change == "DELETE" else f"UPDATE {part} SET {change}"
            superuser.execute(sql(f"{statement} WHERE {key} = %s"), (row[key],))
            try:
                yield row
            finally:
                superuser.execute(sql(f"DELETE FROM {part} WHERE {key} = %s"), (row[key],))
                superuser.execute(
                    sql(f"INSERT INTO {part} SELECT (jsonb_populate_record(NULL::{part}, %s)).*"),
                    (Jsonb(row),),
                )


@pytest.fixture
def breaker(fresh_databases: DatabasePair) -> Breaker:
    return Breaker(fresh_databases.main_url(None))
