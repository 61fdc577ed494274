"""``novadex simulate`` as a program: who may begin, how it ends, what is refused."""

from __future__ import annotations

import json
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


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_one_that_a_signal_ended_says_so_after_its_report(novadex, placed, number, code):
    with at_work(novadex) as process:
        await until(placed, within_s=30)
        process.send_signal(number)
        output, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (code, "")
    assert json.loads(output)["commands"]["place"] > 0


@pytest.mark.parametrize(
    ("options", "field", "hint"),
    [
        (("--duration=999999999d", "--simulated-time"), "duration", "60s"),
        (("--duration=999999999d",), "duration", "60s"),
        (("--duration=0", "--simulated-time"), "duration", "--duration"),
        (("--start=9999-12-31", "--simulated-time"), "start", "earlier"),
        (("--start=2030-01-01",), "start", "leave out the start"),
        (("--start=2020-01-01",), "start", "within the last year"),
        (("--rate=0",), "rate", "20 a second"),
        (("--rate=100000",), "rate", "more markets"),
        (("--users=1",), "users", "50"),
        (("--seed=-1",), "seed", "Any number"),
    ],
)
def test_what_is_refused_has_a_next_step(novadex, options, field, hint):
    error = novadex.json("simulate", *options, code=2)["error"]
    assert (error["code"], error["details"]["field"]) == ("INVALID_VALUE", field)
    assert hint in error["hint"]
