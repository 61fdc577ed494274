"""However an import is interrupted, each trade is there once, and the counts say what was done."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

import psycopg
import pytest

from novadex.errors import UnavailableError
from novadex.settings import load_settings
from novadex.storage.connection import DatabaseConnection
from novadex.trading.importing import Progress, chunks, import_trades, loading, service, source_file
from tests.conftest import DatabasePair
from tests.integration.cli.command import Command
from tests.integration.importing import dumps
from tests.integration.importing.conftest import counts
from tests.integration.importing.dumps import MARKET, count, dumped, expected, recorded
from tests.proxy import Proxy
from tests.waiting import until

TRADES = dumped(3_000)

MakeProxy = Callable[[str], Awaitable[Proxy]]


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many transactions from a small file."""
    for name in ("ROWS_MIN", "ROWS_MAX"):
        monkeypatch.setattr(chunks, name, 100)
    monkeypatch.setattr(service, "ChunkSize", partial(chunks.ChunkSize, 100))
    monkeypatch.setattr(source_file, "PIECE_BYTES", 4_096)


def through(proxy: Proxy, databases: DatabasePair) -> DatabaseConnection:
    endpoints = replace(databases.endpoints("app"), main=proxy.url)
    return DatabaseConnection(endpoints, load_settings(pool_wait_s_max=2.0, connect_timeout_s=2))


@pytest.mark.usefixtures("small_chunks", "market")
async def test_connections_that_are_cut_at_any_moment_change_nothing(
    fresh_databases: DatabasePair, proxy: MakeProxy, file: Callable[[bytes], str]
):
    draw = random.Random(7)  # noqa: S311 - no secret
    path = file(dumps.binance(TRADES))
    link = await proxy(fresh_databases.main_url("app"))
    cuts = 0

    def cut() -> None:
        nonlocal cuts
        link.cut()
        cuts += 1

    def cut_soon(_: Progress) -> None:
        """While one of the next chunks is written."""
        if draw.random() < 0.5:
            asyncio.get_running_loop().call_later(draw.uniform(0, 0.02), cut)

    async with through(link, fresh_databases) as db:
        report = await import_trades(db, path, MARKET, on_progress=cut_soon)
    assert cuts > 5
    assert counts(report) == (3_000, 3_000, 0, 0)
    assert recorded(fresh_databases.main_url("readonly")) == expected(TRADES)


@pytest.mark.usefixtures("market")
async def test_a_commit_whose_answer_is_lost_is_counted_once(
    fresh_databases: DatabasePair, proxy: MakeProxy, file: Callable[[bytes], str]
):
    path = file(dumps.binance(TRADES[:200]))
    url = fresh_databases.main_url("readonly")
    link = await proxy(fresh_databases.main_url("app"))
    async with through(link, fresh_databases) as db:
        await db.main.value("SELECT 1")
        link.delay_s = 0.08
        importing = asyncio.ensure_future(import_trades(db, path, MARKET))
        await until(lambda: count(url) == 200)
        link.cut()  # the commit is done, its answer is on its way
        link.delay_s = 0
        assert counts(await importing) == (200, 200, 0, 0)
        assert counts(await import_trades(db, path, MARKET)) == (200, 0, 200, 0)


@pytest.mark.usefixtures("small_chunks", "market")
async def test_a_server_that_stays_away_ends_the_import_and_says_how_far_it_came(
    fresh_databases: DatabasePair, proxy: MakeProxy, file: Callable[[bytes], str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(loading, "RETRY_S_MAX", 0.5)
    path = file(dumps.binance(TRADES))
    url = fresh_databases.main_url("readonly")
    link = await proxy(fresh_databases.main_url("app"))
    seen: list[Progress] = []

    def lose_the_server(now: Progress) -> None:
        seen.append(now)
        if now.added >= 1_000:
            link.cut()

    async with through(link, fresh_databases) as db:
        importing = asyncio.ensure_future(import_trades(db, path, MARKET, on_progress=lose_the_server))
        await until(lambda: importing.done() or seen)
        await link.refuse()
        with pytest.raises(UnavailableError) as caught:
            await importing
        added = caught.value.details["added"]
        assert f"{added:,} were added" in caught.value.message
        assert "continues" in str(caught.value.hint)
        assert count(url) >= added >= 1_000
        await link.accept()
        report = await import_trades(db, path, MARKET)
    assert report.added + report.duplicates == 3_000
    assert recorded(url) == expected(TRADES)


@pytest.mark.usefixtures("small_chunks", "market")
async def test_an_import_that_is_cancelled_leaves_whole_chunks(
    db: DatabaseConnection, main_url: Callable[..., str], file: Callable[[bytes], str]
):
    path = file(dumps.binance(TRADES))
    seen: list[Progress] = []

    def cancel_soon(now: Progress) -> None:
        seen.append(now)
        if len(seen) == 4:
            importing.cancel()

    importing = asyncio.ensure_future(import_trades(db, path, MARKET, on_progress=cancel_soon))
    with pytest.raises(asyncio.CancelledError):
        await importing
    there = count(main_url("readonly"))
    assert 0 < there < 3_000
    assert counts(await import_trades(db, path, MARKET)) == (3_000, 3_000 - there, there, 0)


async def test_a_partition_that_is_gone_is_made_again(
    db: DatabaseConnection, market: Any, main_url: Callable[..., str], file: Callable[[bytes], str]
):
    await import_trades(db, file(dumps.binance(TRADES[:10])), MARKET)
    loader = loading.ChunkLoader(db.main, own_trades=False, stop=True)
    with psycopg.connect(main_url("owner")) as connection:
        lines = connection.execute(
            "SELECT id, user_id, market_id, 18, 18, type, side, liquidity, base_amount, quote_amount, price, 0, NULL,"
            " executed_at, sequence, NULL, NULL, source, source_trade_id FROM trades ORDER BY id"
        ).fetchall()
    as_copy = ["\t".join("\\N" if value is None else str(value) for value in line) + "\n" for line in lines]
    chunk = chunks.Chunk(as_copy, list(range(10)), as_copy, [], {(2024, 8)})
    assert (await loader.write(chunk)).duplicates == 10
    with psycopg.connect(main_url("owner"), autocommit=True) as connection:
        connection.execute("DROP TABLE trades_2024_08")
    assert (await loader.write(chunk)).added == 10
    await loader.close()


async def test_imports_of_the_same_trades_at_the_same_time_add_each_once(
    fresh_databases: DatabasePair, market: Any, file: Callable[..., str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(service, "ChunkSize", partial(chunks.ChunkSize, 300))
    backwards = file(dumps.binance(TRADES[::-1]), name="backwards.csv")
    files = [file(dumps.binance(TRADES)), backwards, file(dumps.ccxt_array(TRADES[500:2_500]), name="part.json")]
    async with contextlib.AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(fresh_databases.connection("app")) for _ in range(6)]
        reports = await asyncio.gather(
            *(import_trades(db, files[number % 3], MARKET, source="binance") for number, db in enumerate(connections))
        )
    assert sum(report.added for report in reports) == 3_000
    assert sum(report.rejected for report in reports) == 0
    assert [report.read for report in reports] == [3_000, 3_000, 2_000] * 2
    assert recorded(fresh_databases.main_url("readonly")) == expected(TRADES)


async def test_two_processes_that_import_one_file_add_each_trade_once(
    novadex: Command, main_url: Callable[..., str], file: Callable[[bytes], str]
):
    trades = dumped(12_000)
    path = file(dumps.binance(trades))
    command = ("import", "trades", path, "--market", MARKET, "--create-market", "--json", "--no-wait")
    processes = [novadex.start(*command) for _ in range(2)]
    printed = [await asyncio.to_thread(process.communicate, timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], printed
    assert sum(json.loads(output)["added"] for output, _ in printed) == 12_000
    assert recorded(main_url("readonly")) == expected(trades)


async def test_an_import_that_is_killed_at_any_moment_continues(
    novadex: Command, main_url: Callable[..., str], file: Callable[..., str]
):
    trades = dumped(24_000)
    path = file(dumps.PACKINGS["gzip"](dumps.binance(trades)), name="trades.gz")
    command = ("import", "trades", path, "--market", MARKET, "--create-market", "--json", "--no-wait")
    url = main_url("readonly")
    draw = random.Random(3)  # noqa: S311 - no secret
    kills = 0
    for _ in range(5):
        there = count(url)
        process = novadex.start(*command)
        more = there + draw.randint(0, 5_000)
        try:
            await until(lambda: process.poll() is not None or count(url) >= more, within_s=30)  # noqa: B023
            kills += process.poll() is None
        finally:
            process.kill()
            process.communicate()
    assert kills >= 3
    there = count(url)
    report = novadex.json(*command[:-2], "--no-wait")
    assert (report["read"], report["added"], report["duplicates"]) == (24_000, 24_000 - there, there)
    assert recorded(url) == expected(trades)
