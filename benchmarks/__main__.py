"""``make bench``: every number of the README, each with its peer in the same run.

``python -m benchmarks trades import`` runs some of them; the table goes to standard output, and with
``--write`` to ``docs/benchmarks.md``.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import uvloop

from benchmarks import caching, projection, startup, trades
from benchmarks.figures import Figure, table
from benchmarks.servers import instance
from novadex import DatabaseConnection
from novadex.instance import find_endpoints
from novadex.local.binaries import packaged
from novadex.settings import load_settings

RESULTS = Path(__file__).parents[1] / "docs" / "benchmarks.md"


def bench_trades() -> list[Figure]:
    with instance(programs=False) as data_dir:
        connect = partial(_connect, data_dir)

        async def prepare() -> None:
            async with connect("owner") as db:
                await trades.add_records(db)

        uvloop.run(prepare())
        return trades.run(data_dir, Path(packaged().postgres("pgbench")), connect)


def bench_orders() -> list[Figure]:
    from benchmarks import orders

    with instance(programs=False) as data_dir:
        connect = partial(_connect, data_dir)

        async def prepare() -> None:
            async with connect("owner") as db:
                await orders.add_records(db)

        uvloop.run(prepare())
        return orders.run(data_dir, Path(packaged().postgres("pgbench")), connect)


def bench_paging() -> list[Figure]:
    from benchmarks import paging

    with instance(programs=False) as data_dir:
        return uvloop.run(paging.run(partial(_connect, data_dir)))


def bench_import() -> list[Figure]:
    from benchmarks import importing

    with instance(programs=False) as data_dir:
        return importing.run(data_dir)


def bench_projection() -> list[Figure]:
    with instance(programs=False) as data_dir:
        drained = uvloop.run(projection.drain(partial(_connect, data_dir)))
    with instance(programs=True) as data_dir:
        return [drained, uvloop.run(projection.visible(partial(_connect, data_dir)))]


def bench_caching() -> list[Figure]:
    async def run(data_dir: Path) -> list[Figure]:
        async with DatabaseConnection(find_endpoints(load_settings(), data_dir, "app"), load_settings()) as db:
            return await caching.run(db)

    with instance(programs=False) as data_dir:
        return uvloop.run(run(data_dir))


def bench_audit() -> list[Figure]:
    from benchmarks import auditing

    async def run(data_dir: Path) -> list[Figure]:
        connect = partial(_connect, data_dir)
        async with connect("owner") as db:
            await trades.add_records(db)
        return [
            await auditing.cost(data_dir, Path(packaged().postgres("pgbench")), connect),
            *await auditing.verified(data_dir, connect),
        ]

    with instance(programs=False) as data_dir:
        return uvloop.run(run(data_dir))


def bench_book() -> list[Figure]:
    from benchmarks import book

    with instance(programs=False) as data_dir:
        drained = uvloop.run(book.drain(data_dir, partial(_connect, data_dir)))
    with instance(programs=True) as data_dir:
        return [*drained, *uvloop.run(book.running(data_dir, partial(_connect, data_dir)))]


BENCHMARKS: dict[str, Callable[[], list[Figure]]] = {
    "trades": bench_trades,
    "orders": bench_orders,
    "paging": bench_paging,
    "import": bench_import,
    "projection": bench_projection,
    "caching": bench_caching,
    "audit": bench_audit,
    "book": bench_book,
    "startup": startup.run,
}


def _connect(data_dir: Path, role: Any) -> DatabaseConnection:
    return DatabaseConnection.connect(data_dir=data_dir, role=role)


def machine() -> str:
    """What the numbers were measured on."""
    memory = psutil.virtual_memory().total / 2**30
    model = next(
        (line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")), platform.processor()
    )
    return (
        f"{os.cpu_count()} cores ({model}), {memory:.0f} GiB, {platform.system()} {platform.machine()},"
        f" Python {platform.python_version()}, PostgreSQL 18 with fsync and synchronous_commit on, everything on"
        " these cores"
    )


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; default: all")
    parser.add_argument("--write", action="store_true", help="write the table to docs/benchmarks.md")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - BENCHMARKS.keys()
    if unknown:
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}")
    figures: list[Figure] = []
    for name in arguments.names or BENCHMARKS:
        began = time.perf_counter()
        print(f"{name} ...", end=" ", file=sys.stderr, flush=True)
        figures += BENCHMARKS[name]()
        print(f"{time.perf_counter() - began:.0f} s", file=sys.stderr)
    text = f"Measured by `make bench` on {machine()}.\n\n{table(figures)}\n"
    print(text)
    if arguments.write:
        RESULTS.write_text(f"# Benchmarks\n\n{text}", encoding="utf-8")
    missed = [figure.what for figure in figures if figure.reached() is False]
    if missed:
        print(f"below what is wanted: {'; '.join(missed)}", file=sys.stderr)


if __name__ == "__main__":
    main()
