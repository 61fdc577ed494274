"""Four servers of a test's own that it may stop, kill and bring back, and programs that run over them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest

from novadex.api.app import create_app
from novadex.instance import Endpoints, Role
from novadex.monitoring.jobs import run_jobs
from novadex.monitoring.monitor import Monitor, Program
from novadex.settings import Settings
from novadex.storage.connection import DatabaseConnection
from novadex.storage.migrations import migrate
from tests.servers import PostgresServer, ValkeyServer, free_port, start_process

MAIN, ANALYTICS = "novadex_db", "novadex_analytics"
DATABASE_SERVERS = ("main", "analytics")
SERVERS = ("main", "analytics", "cache", "sessions")
WAIT_S_MAX = 30.0
FAST: dict[str, Any] = {"health_interval_s": 0.1, "health_deadline_s": 0.5, "metrics_interval_s": 0.2}


async def eventually(condition: Callable[[], Any], what: str, within_s: float = WAIT_S_MAX) -> Any:
    """The first true result of ``condition``, which is asked again and again."""
    deadline = time.monotonic() + within_s
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        await asyncio.sleep(0.02)
    return result


def eventually_now(condition: Callable[[], Any], what: str, within_s: float = WAIT_S_MAX) -> Any:
    """The same where no event loop runs."""
    deadline = time.monotonic() + within_s
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.02)
    return result


@dataclass
class Venue:
    """The servers, with both schemas."""

    main: PostgresServer
    analytics: PostgresServer
    cache: ValkeyServer
    sessions: ValkeyServer
    _paused: list[psutil.Process] = field(default_factory=list)

    def server(self, name: str) -> PostgresServer | ValkeyServer:
        return getattr(self, name)

    def endpoints(self, role: Role = "app") -> Endpoints:
        return Endpoints(
            self.main.url(MAIN, f"novadex_{role}"),
            self.analytics.url(ANALYTICS, f"novadex_{role}"),
            self.cache.url,
            self.sessions.url,
        )

    def environment(self, role: Role = "app", **more: str) -> dict[str, str]:
        """For a program: where the servers are, and checks that are quick."""
        endpoints = self.endpoints(role)
        return {
            "DATABASE_URL": endpoints.main,
            "ANALYTICS_DATABASE_URL": endpoints.analytics,
            "REDIS_URL": endpoints.cache,
            "REDIS_SESSION_URL": endpoints.sessions,
            **{f"NOVADEX_{name.upper()}": str(value) for name, value in FAST.items()},
            **more,
        }

    def pause(self, name: str) -> None:
        """Stop a server so that its connections stay open and nothing answers."""
        process = self.server(name).process
        assert process is not None
        parent = psutil.Process(process.pid)
        for each in (parent, *parent.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                each.suspend()
                self._paused.append(each)

    def resume(self) -> None:
        while self._paused:
            with suppress(psutil.NoSuchProcess):
                self._paused.pop().resume()

    def kill(self, name: str) -> None:
        server = self.server(name)
        assert server.process is not None
        children = psutil.Process(server.process.pid).children(recursive=True)
        server.kill()
        _, alive = psutil.wait_procs(children, timeout=WAIT_S_MAX)
        assert not alive

    def restore(self) -> None:
        """Every server runs again."""
        self.resume()
        for name in SERVERS:
            if self.server(name).process is None:
                self.server(name).start()


@pytest.fixture(scope="session")
def venue_servers(make_postgres: Callable[..., PostgresServer], make_valkey: Callable[[], ValkeyServer]) -> Venue:
    venue = Venue(make_postgres(), make_postgres(), make_valkey(), make_valkey())
    venue.main.make_database(MAIN, owner="novadex_owner")
    venue.analytics.make_database(ANALYTICS, owner="novadex_owner")
    migrate(venue.main.url(MAIN, "novadex_owner"), "main")
    migrate(venue.analytics.url(ANALYTICS, "novadex_owner"), "analytics")
    return venue


@pytest.fixture
def venue(venue_servers: Venue) -> Iterator[Venue]:
    """The servers; what a test did to them is undone."""
    yield venue_servers
    venue_servers.restore()


# In this process -------------------------------------------------------------------------------------------


@dataclass
class Watched:
    """A monitor at work, and a client of the API over it."""

    monitor: Monitor
    client: httpx.AsyncClient

    async def becomes(self, service: str, status: str) -> None:
        await eventually(
            lambda: self.monitor.checks[service].health().status == status and self.monitor.checks[service].age_s(),
            f"{service} is {status}, it is {self.monitor.checks[service].health()}",
        )

    async def get(self, path: str) -> httpx.Response:
        return await self.client.get(path)


@asynccontextmanager
async def watching(endpoints: Endpoints, program: Program = "api", **settings: Any) -> AsyncIterator[Watched]:
    """Run the monitor of a program."""
    stop = asyncio.Event()
    database = DatabaseConnection(endpoints, Settings(**{**FAST, **settings}))
    async with database, Monitor(program, database, endpoints) as monitor:
        jobs = asyncio.create_task(run_jobs(monitor.jobs, stop))
        transport = httpx.ASGITransport(create_app(monitor), raise_app_exceptions=False)
        try:
            async with httpx.AsyncClient(transport=transport, base_url="http://novadex") as client:
                yield Watched(monitor, client)
        finally:
            stop.set()
            await jobs


# In processes of their own ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class RunningProgram:
    """``python -m novadex.api`` or ``novadex.worker``."""

    def __init__(self, module: str, environment: dict[str, str], folder: Path, port: int) -> None:
        self.port = port
        self.log_file = folder / f"{module}-{port}.log"
        inherited = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
        self.process = start_process(
            [sys.executable, "-m", module], log=self.log_file, env={**inherited, **environment}, cwd=folder
        )

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def ask(self, path: str, method: str = "GET") -> Answer:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=5) as response:  # noqa: S310 - always http
                return Answer(response.status, dict(response.headers.items()), response.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, dict(error.headers.items()), error.read())

    def answers(self, path: str, status: int) -> bool:
        try:
            return self.ask(path).status == status
        except OSError:
            assert self.process.poll() is None, f"it ended: {self.log}"
            return False

    def wait_for(self, path: str, status: int = 200) -> None:
        eventually_now(lambda: self.answers(path, status), f"{path} answers {status}; its log: {self.log[-3000:]}")

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        return self.process.wait(WAIT_S_MAX)


@pytest.fixture
def start_program(tmp_path: Path) -> Iterator[Callable[..., RunningProgram]]:
    """``start_program("api", environment)``; what runs at the end is killed."""
    programs: list[RunningProgram] = []

    def start(name: str, environment: dict[str, str]) -> RunningProgram:
        port = free_port()
        variable = {"api": "NOVADEX_API_PORT", "worker": "NOVADEX_WORKER_PORT"}[name]
        # No instance of this machine is found, whatever runs here.
        environment = {"XDG_DATA_HOME": str(tmp_path), **environment, variable: str(port)}
        program = RunningProgram(f"novadex.{name}", environment, tmp_path, port)
        programs.append(program)
        return program

    yield start
    for program in programs:
        if program.process.poll() is None:
            program.process.kill()
        program.process.wait(WAIT_S_MAX)


def run_cli(*arguments: str, environment: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
    return subprocess.run(
        [sys.executable, "-m", "novadex.cli", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
        env={**inherited, "XDG_DATA_HOME": str(folder), **environment},
    )


# Records ---------------------------------------------------------------------------------------------------


def execute(url: str, statement: Any, parameters: Any = ()) -> None:
    with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
        connection.execute(statement, parameters)


def value_of(url: str, statement: Any, parameters: Any = ()) -> Any:
    with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
        row = connection.execute(statement, parameters).fetchone()
    return row[0] if row else None
