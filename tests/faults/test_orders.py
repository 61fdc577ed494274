"""Processes that write orders of the same markets are killed, and their server's connections with them."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import DatabasePair, add_market, add_users
from tests.integration.orders.checks import violations

WAIT_S_MAX = 60
ROOT = Path(__file__).parents[2]


def start(pair: DatabasePair, seed: int, output: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.faults.order_writer", pair.main_url("app"), str(seed)]
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    with output.open("wb") as told, output.with_suffix(".errors").open("wb") as failed:
        return subprocess.Popen(command, stdout=told, stderr=failed, cwd=ROOT, env=os.environ | {"PYTHONPATH": path})


def acknowledged(output: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for line in output.read_text().splitlines(keepends=True):
        if line.endswith("\n"):
            what, id = line.split()
            found[what].add(id)
    return found


@pytest.mark.parametrize("seed", [1])
async def test_what_was_acknowledged_is_there_whole_and_once_after_kills(
    fresh_databases: DatabasePair, db: Any, tmp_path: Path, seed: int
) -> None:
    """Two processes at a time; killed in the middle of their transactions, or their connections are."""
    chance = random.Random(seed)  # noqa: S311 - a seed is the point
    for symbol in ("SOL/USDC", "ETH/USDC"):
        add_market(fresh_databases.main_url("owner"), symbol, 9, 6)
    add_users(fresh_databases.main_url("owner"), 5)
    outputs: list[Path] = []
    with psycopg.connect(fresh_databases.main_url(None), autocommit=True) as superuser:
        for round_ in range(2):
            pair = [tmp_path / f"{round_}-{n}" for n in range(2)]
            writers = [start(fresh_databases, seed * 100 + round_ * 10 + n, path) for n, path in enumerate(pair)]
            outputs += pair
            ends = time.monotonic() + WAIT_S_MAX
            while not all(len(acknowledged(path)["match"]) > 40 for path in pair):
                for writer in writers:
                    assert writer.poll() is None, [path.with_suffix(".errors").read_text() for path in pair]
                assert time.monotonic() < ends, "the writers do not get on"
                if chance.random() < 0.15:
                    # In the middle of a transaction, wherever it is: the writers go on, safely again.
                    superuser.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'novadex_app'"
                        " AND datname = %s AND query NOT LIKE 'SELECT id FROM users%%' LIMIT 1",
                        (fresh_databases.main,),
                    )
                await asyncio.sleep(chance.uniform(0.01, 0.1))  # the random moment, not a wait for something
            for writer in writers:
                os.kill(writer.pid, signal.SIGKILL)
                writer.wait(WAIT_S_MAX)
    told: dict[str, set[str]] = defaultdict(set)
    for output in outputs:
        for what, ids in acknowledged(output).items():
            told[what] |= ids
    assert await violations(db) == {}
    orders = {str(row.id) for row in await db.query("SELECT id FROM orders")}
    matches = {str(row.id): row.undone for row in await db.query("SELECT id, undone FROM matches")}
    assert told["order"] <= orders
    assert told["match"] <= matches.keys()
    assert all(matches[id] == "busted" for id in told["bust"])
    assert len(told["bust"]) > 5
