"""``novadex simulate`` as a program: who may begin, how it ends, what is refused."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from tests.conftest import DatabasePair
from tests.integration.cli.command import Command
from tests.waiting import until

ENDLESS = ("simulate", "--markets=1", "--users=6", "--rate=50", "--duration=0", "--json")
FAST = ("simulate", "--markets=1", "--users=6", "--rate=5", "--duration=20s", "--simulated-time", "--seed=3")


@contextmanager
def at_work(novadex: Command) -> Iterator[subprocess.Popen[str]]:
    process = novadex.start(*ENDLESS)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def placed(fresh_databases: DatabasePair) -> Iterator[Callable[[], bool]]:
    """Whether there is an order."""
    with psycopg.connect(fresh_databases.main_url(None), autocommit=True) as superuser:
        yield lambda: superuser.execute("SELECT count(*) > 0 FROM orders").fetchone() == (True,)


async def test_a_second_simulation_is_refused_until_the_first_one_is_killed(novadex, fresh_databases, placed):
    with at_work(novadex) as first:
        await until(placed, within_s=30)
        error = novadex.json(*FAST, code=2)["error"]
        assert error["code"] == "CONFLICT"
        assert "BTC/USDT-SIM" in error["message"]
        assert "--first-market" in error["hint"]
        novadex.run(*FAST, "--first-market=2")
        first.send_signal(signal.SIGKILL)
        first.wait(timeout=10)
    with psycopg.connect(fresh_databases.main_url(None), autocommit=True) as superuser:
        held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 1936289141"
        await until(lambda: superuser.execute(held).fetchone() == (0,))
    novadex.run(*FAST, "--seed=4")
