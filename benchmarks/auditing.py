"""The audit log: how fast it seals and verifies, and what audited changes cost the trades beside them."""

from __future__ import annotations

import asyncio
import re
import resource
import statistics
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from benchmarks.figures import Figure
from benchmarks.trades import SQL, Connect, run_callers
from novadex.audit.sealing import seal
from novadex.audit.verify import verify
from novadex.instance import find_endpoints
from novadex.settings import load_settings

ROWS = 1_000_000
VERIFY_S_WANTED = 60
CALLERS = 64
CHANGES_PER_S = 200
COST_WANTED = 0.9
REACHED_MIN = 0.97 * CHANGES_PER_S
"""Of all rounds together: pgbench makes changes at random moments, and of 1,600 a round 40 more are chance."""
ROUNDS, SECONDS = 15, 5.0
STEPS = 1_000
"""How often a million rows are sealed: anchors and their snapshots are as many as in life."""
SEALING_INTERVAL_S = 1.0


def add_rows(connection: psycopg.Connection) -> float:
    """A step's rows by plain SQL, through the trigger that hashes each; returns the seconds."""
    began = time.perf_counter()
    connection.execute(
        "INSERT INTO audit_log (actor, action, subject, detail)"
        " SELECT 'user:' || uuidv7(), 'users.updated', 'user:' || uuidv7(),"
        """ '{"after": {"role": "trader"}, "before": {"role": "user"}, "changed": ["role"]}'"""
        " FROM generate_series(1, %s)",
        (ROWS // STEPS,),
    )
    return time.perf_counter() - began


async def verified(data_dir: Path, connect: Connect) -> list[Figure]:
    """A million rows written and sealed in steps, then verified, nothing else running."""
    url = find_endpoints(load_settings(), data_dir, "owner").main
    written_s = sealed_s = 0.0
    sealed_rows = 0
    async with connect("worker") as db:
        with psycopg.connect(url, autocommit=True) as connection:
            for _ in range(STEPS):
                written_s += await asyncio.to_thread(add_rows, connection)
                began = time.perf_counter()
                sealed_rows += (await seal(db)).rows
                sealed_s += time.perf_counter() - began
        assert sealed_rows >= ROWS, sealed_rows
        before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.perf_counter()
        report = await verify(db)
        verified_s = time.perf_counter() - began
        grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) / 1024
    assert report.intact, report
    return [
        Figure(
            "audit verify, 1,000,000 rows",
            verified_s,
            "s",
            wanted=VERIFY_S_WANTED,
            smaller_is_better=True,
            note=f"{report.rows / verified_s:,.0f} rows/s; memory grows by {grown_mib:.0f} MiB at most",
        ),
        Figure(
            f"audit sealing, 1,000,000 rows, {ROWS // STEPS:,} at a time",
            sealed_rows / sealed_s,
            "rows/s",
            note=f"{STEPS:,} transactions with an anchor each; written by plain SQL, through the trigger:"
            f" {ROWS / written_s:,.0f} rows/s",
        ),
    ]


async def cost(data_dir: Path, pgbench: Path, connect: Connect) -> Figure:
    """Trades of 64 callers with and without 200 audited changes a second beside them, in turn; the order changes."""
    url = find_endpoints(load_settings(), data_dir, "app").main
    alone: list[float] = []
    beside: list[float] = []
    reached: list[float] = []
    async with connect("app") as db:
        await run_callers(db, CALLERS, 2.0, keys=False)  # warm-up
        for number in range(ROUNDS):
            for changes in (False, True) if number % 2 else (True, False):
                if changes:
                    async with _changes(pgbench, url, connect, reached):
                        beside.append((await run_callers(db, CALLERS, SECONDS, keys=False)).rate)
                else:
                    alone.append((await run_callers(db, CALLERS, SECONDS, keys=False)).rate)
    ratios = [with_changes / without for with_changes, without in zip(beside, alone, strict=True)]
    mean = statistics.fmean(reached)
    assert mean >= REACHED_MIN, (
        f"{mean:.0f} changes/s of {CHANGES_PER_S}: the machine was too busy; ratio {statistics.median(ratios):.2f}"
    )
    return Figure(
        f"create_trade, {CALLERS} callers, beside {CHANGES_PER_S} audited changes a second, sealed every second",
        statistics.median(beside),
        "trades/s",
        "the same alone, in turn",
        statistics.median(alone),
        statistics.median(ratios),
        COST_WANTED,
        f"{ROUNDS} rounds of {SECONDS:.0f} s, ratios {min(ratios):.2f} to {max(ratios):.2f}; reached"
        f" {mean:.0f} changes/s, {min(reached):.0f} to {max(reached):.0f}",
    )


@asynccontextmanager
async def _changes(pgbench: Path, url: str, connect: Connect, reached: list[float]) -> AsyncIterator[None]:
    """pgbench makes the changes at a fixed rate; they are sealed as the worker does it, here in this process."""
    parts = urlsplit(url)
    command = [str(pgbench), "-n", "-M", "prepared", "-c", "4", "-R", str(CHANGES_PER_S), "-T", str(int(SECONDS) + 3)]
    command += ["-f", str(SQL / "one_change.sql"), "-h", str(parts.hostname), "-p", str(parts.port)]
    process = subprocess.Popen(  # noqa: ASYNC220 - it is quick
        [*command, "-U", str(parts.username), parts.path.lstrip("/")],
        stdout=subprocess.PIPE,
        text=True,
        env={"PGPASSWORD": parts.password or ""},
    )
    async with connect("worker") as db:
        stop = asyncio.Event()

        async def keep_sealing() -> None:
            while not stop.is_set():
                await seal(db)
                await asyncio.sleep(SEALING_INTERVAL_S)

        sealing = asyncio.create_task(keep_sealing())
        await asyncio.sleep(1.0)  # until pgbench is at its rate
        try:
            yield
        finally:
            output = (await asyncio.to_thread(process.communicate))[0]
            stop.set()
            await sealing
    rate = re.search(r"tps = ([\d.]+)", output)
    assert rate is not None, output
    reached.append(float(rate[1]))
