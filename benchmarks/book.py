"""Books: events applied and published, how long after the commit, and reads while the book moves."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

from benchmarks.book_writer import Writer
from benchmarks.figures import Figure, quantile
from benchmarks.trades import add_records
from novadex import DatabaseConnection
from novadex.book.documents import decode_difference
from novadex.book.projection import BookProjection
from novadex.book.reader import BookReader
from novadex.book.service import BookService
from novadex.instance import find_endpoints
from novadex.settings import load_settings

EVENTS = 100_000
EVENTS_AT_ONCE = 1_000
EVENTS_WANTED = 20_000.0
WRITTEN_PER_S = 1.03 * EVENTS_WANTED
"""The writer's first and last transaction are no whole ones: what it reaches is a little less."""
DELAY_MS_WANTED, READ_MS_WANTED = 50.0, 2.0
DELAY_SECONDS, READ_SECONDS = 10.0, 15.0
MARKET = "BTC/USDT"
READS_PER_S, UPDATES_PER_S = 200, 1_000
DEPTH = 50
WARM_S = 2.0

Connect = Callable[[Any], DatabaseConnection]


async def drain(data_dir: Path, connect: Connect) -> list[Figure]:
    """How many events a projector applies and publishes, once so many wait."""
    async with connect("owner") as db:
        await add_records(db)
    settings = load_settings()
    endpoints = find_endpoints(settings, data_dir, "worker")
    writer = Writer(find_endpoints(settings, data_dir, "app").main, MARKET)
    writer.write(writer.prepare(EVENTS_AT_ONCE))
    async with DatabaseConnection(endpoints, settings) as db:
        projection = BookProjection(db)
        async with aclosing(projection.rounds()) as rounds:
            await anext(rounds)
            while not projection.drained:
                await anext(rounds)
            for _ in range(EVENTS // EVENTS_AT_ONCE):
                await asyncio.to_thread(writer.write, writer.prepare(EVENTS_AT_ONCE))
            began = time.perf_counter()
            await anext(rounds)
            while not projection.drained:
                await anext(rounds)
            took_s = time.perf_counter() - began
    return [
        Figure(
            "book: order events applied and published, one market",
            EVENTS / took_s,
            "/s",
            wanted=EVENTS_WANTED,
            note=f"{EVENTS:,} that waited, half placed, half cancelled; a difference for each 1,000",
        )
    ]


async def running(data_dir: Path, connect: Connect) -> list[Figure]:
    """Delays and reads while the worker runs."""
    async with connect("owner") as db:
        await add_records(db)
    settings = load_settings()
    endpoints = find_endpoints(settings, data_dir, "app")
    gc.collect()
    gc.freeze()  # as the programs do
    async with DatabaseConnection(endpoints, settings) as db:
        return [
            *await _reads(db, endpoints.main),
            await _delay(db, endpoints.main),
        ]


async def _delay(db: DatabaseConnection, url: str) -> Figure:
    """Milliseconds from each commit to its difference."""
    reader = db.companion(BookReader)
    keys = await reader.keys(await reader.market_id(MARKET))
    writing = asyncio.create_task(_write(url, WRITTEN_PER_S, DELAY_SECONDS))
    published: list[tuple[int, int]] = []
    last, client = "0-0", reader.client()

    async def take(block_ms: int | None) -> None:
        """The new differences, each with the moment at which the cache server took it, which is in its number."""
        nonlocal last
        for _, entries in _streams(await client.xread({keys.changes: last}, 1_000, block_ms)):
            for number, fields in entries:
                last = number.decode()
                published.append((decode_difference(fields[b"d"]).to_sequence, int(last.partition("-")[0])))

    while not writing.done():
        await take(50)
    report = await writing
    await asyncio.sleep(0.2)
    await take(None)
    published.sort()
    delays, at = [], 0
    warm_ms = report["committed"][0][1] + WARM_S * 1_000
    for sequence, committed_ms in report["committed"]:
        if committed_ms < warm_ms:
            continue
        while at < len(published) and published[at][0] < sequence:
            at += 1
        assert at < len(published), f"{sequence} was never published"
        delays.append(max(0, published[at][1] - committed_ms))
    return Figure(
        f"book: difference published after its commit, p99, at {report['written'] / report['seconds']:,.0f} events/s",
        quantile(delays, 0.99),
        "ms",
        wanted=DELAY_MS_WANTED,
        smaller_is_better=True,
        note=f"p50 {quantile(delays, 0.5):.0f} ms, worst {max(delays):.0f} ms; one market, the worker's own process",
    )


async def _reads(db: DatabaseConnection, url: str) -> list[Figure]:
    books = BookService(db)
    writing = asyncio.create_task(_write(url, UPDATES_PER_S, READ_SECONDS + WARM_S))
    await asyncio.sleep(WARM_S)
    reader = db.companion(BookReader)
    keys, bare = await reader.keys(await reader.market_id(MARKET)), reader.client()
    took_ms: dict[str, list[float]] = {"read": [], "get": []}

    async def read() -> None:
        began = time.perf_counter()
        book = await books.get_book(MARKET, DEPTH)
        took_ms["read"].append((time.perf_counter() - began) * 1_000)
        assert len(book.bids) == len(book.asks) == DEPTH

    async def get() -> None:
        began = time.perf_counter()
        await bare.get(keys.top)
        took_ms["get"].append((time.perf_counter() - began) * 1_000)

    began = time.perf_counter()
    running: set[asyncio.Task[None]] = set()
    for number in range(int(READS_PER_S * READ_SECONDS * 2)):
        await asyncio.sleep(max(0.0, began + number / READS_PER_S / 2 - time.perf_counter()))
        task = asyncio.create_task(get() if number % 2 else read())
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)
    report = await writing
    rate = report["written"] / report["seconds"]
    reads, gets = took_ms["read"], took_ms["get"]
    return [
        Figure(
            f"book: read {DEPTH} levels, p99, {READS_PER_S} reads/s, {rate:,.0f} updates/s",
            quantile(reads, 0.99),
            "ms",
            "bare GETs of the same, in turn, p99",
            quantile(gets, 0.99),
            wanted=READ_MS_WANTED,
            smaller_is_better=True,
            note=f"p50 {quantile(reads, 0.5):.2f} ms, worst {max(reads):.1f} ms; the GETs: p50"
            f" {quantile(gets, 0.5):.2f} ms, worst {max(gets):.1f} ms",
        )
    ]


async def _write(url: str, rate: float, seconds: float) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.book_writer", url, MARKET, str(rate), str(seconds)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0
    return json.loads(output)


def _streams(answer: Any) -> list[Any]:
    return list(answer.items()) if isinstance(answer, dict) else list(answer or ())
