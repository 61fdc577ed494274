"""Another exchange's book: replayed, read back, kept, whatever happens to the cache server meanwhile."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import signal
import subprocess
from contextlib import suppress
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest
import redis

from novadex.book import projection, service
from novadex.book.importing import import_book
from novadex.book.reader import BookReader
from novadex.book.service import BookService
from novadex.errors import ConflictError, NotFoundError, TimeoutExceededError, ValidationError
from novadex.trading.importing.records import ImportFailedError
from tests.captures import Exchange
from tests.forked import command_line
from tests.integration.book.test_projection import from_cache, shown
from tests.integration.cli.command import Command
from tests.waiting import until


def written(folder: Path, lines: list[str], *, packed: bool = False) -> str:
    file = folder / ("capture.jsonl.gz" if packed else "capture.jsonl")
    text = "\n".join(lines).encode() + b"\n"
    file.write_bytes(gzip.compress(text) if packed else text)
    return str(file)


def of_exchange(exchange: Exchange) -> tuple[list[list[str]], list[list[str]]]:
    bids, asks = (
        [[f"{price.normalize():f}", f"{quantity.normalize():f}"] for price, quantity in sorted(side.items())]
        for side in (exchange.sides["bids"], exchange.sides["asks"])
    )
    return bids[::-1], asks


@pytest.mark.parametrize("perpetual", [False, True])
async def test_a_capture_becomes_the_book_of_its_market(books, cache_url, tmp_path, perpetual):
    exchange = Exchange(3, perpetual=perpetual)
    file = written(tmp_path, exchange.lines(), packed=perpetual)
    report = await import_book(books._db, file, "BTC/USDT-PERP", create_market=True)
    assert (report.updates, report.checkpoints, report.checkpoints_equal) == (295, 295, 295)
    assert (report.gaps, report.crossed, report.skipped, report.republished) == (0, 0, 5, 0)
    assert report.read_back == 296
    assert (report.bids, report.asks) == tuple(len(side) for side in exchange.sides.values())
    book = await books.get_book("BTC/USDT-PERP", 0)
    assert shown(book) == of_exchange(exchange)
    assert (book.sequence, book.checksum, book.source) == (exchange.update_id, report.checksum, "external")
    with redis.Redis.from_url(cache_url) as server:
        server.flushall()
    assert await books.get_book("BTC/USDT-PERP", 0) == book
    assert await books.get_orders("BTC/USDT-PERP") == []


async def test_the_cache_server_is_flushed_and_killed_in_the_middle(elsewhere, tmp_path, monkeypatch):
    server, books = elsewhere
    monkeypatch.setattr("novadex.book.importing.LINES_AT_ONCE", 5)
    monkeypatch.setattr("novadex.book.importing.RETRY_S", 0.0)
    monkeypatch.setattr("novadex.cache.servers.BREAK_S", 0.0)
    exchange = Exchange(4)
    tells = 0

    def disturb(_) -> None:
        nonlocal tells
        tells += 1
        if tells in (20, 40, 60):
            server.flush()
        elif tells == 80:
            server.kill()
        elif tells == 100:
            server.start()

    monkeypatch.setattr("novadex.book.importing.PROGRESS_INTERVAL_S", 0.0)
    report = await import_book(
        books._db, written(tmp_path, exchange.lines()), "BTC/USDT", create_market=True, on_progress=disturb
    )
    assert tells > 100
    assert report.clean
    assert report.checkpoints_equal == 295
    assert report.republished >= 4
    assert 0 < report.read_back < 290  # how long the server was away is chance
    assert shown(await books.get_book("BTC/USDT", 0)) == of_exchange(exchange)


async def test_the_worker_keeps_an_imported_book_published(books, project, orders, market, tmp_path):
    orders.place("buy", 7, 1)
    await project()
    exchange = Exchange(5, updates=30)
    file = written(tmp_path, exchange.lines())
    report = await import_book(books._db, file, "BTC/USDT")
    assert report.own_orders == 1

    async def published() -> bool:
        whole = await from_cache(books, market)
        return whole is not None and whole.sequence == exchange.update_id

    await until(published)
    orders.place("buy", 8, 1)  # hidden, as long as the other book is there
    again = Exchange(6, updates=30, update_id=500)
    await import_book(books._db, written(tmp_path, again.lines()), "BTC/USDT")  # its ids are lower: another book
    exchange = again
    await until(published)
    assert shown(await books.get_book("BTC/USDT", 0)) == of_exchange(again)

    assert await books.show_own_orders("BTC/USDT") > 0

    async def own_again() -> bool:
        return shown(await books.get_book("BTC/USDT"))[0] == [["8", "1"], ["7", "1"]]

    await until(own_again)


async def test_own_orders_are_shown_as_soon_as_the_other_book_is_forgotten(  # noqa: PLR0917 - fixtures
    books, project, orders, market, tmp_path, monkeypatch
):
    orders.place("buy", 7, 1)
    await import_book(books._db, written(tmp_path, Exchange(5, updates=30).lines()), "BTC/USDT")
    monkeypatch.setattr(projection, "EXTERNAL_INTERVAL_S", 3_600.0)  # it does not look for itself
    await project()

    async def published() -> bool:
        return await from_cache(books, market) is not None

    await until(published)
    assert (await books.get_book("BTC/USDT")).source == "external"
    assert await books.show_own_orders("BTC/USDT") > 0
    for depth in (10, 0):
        assert shown(await books.get_book("BTC/USDT", depth))[0] == [["7", "1"]]
    orders.place("buy", 8, 1)

    async def followed() -> bool:
        whole = await from_cache(books, market)
        return whole is not None and whole.sequence == 2

    await until(followed)
    assert await books.show_own_orders("BTC/USDT") == 0


async def test_a_worker_that_does_not_get_to_show_own_orders_is_not_waited_for_without_end(  # noqa: PLR0917
    books, project, market, tmp_path, monkeypatch, cache_url
):
    await import_book(books._db, written(tmp_path, Exchange(5, updates=30).lines()), "BTC/USDT")
    monkeypatch.setattr(projection, "EXTERNAL_INTERVAL_S", 3_600.0)
    monkeypatch.setattr(service, "OWN_S_MAX", 0.5)
    await project()

    async def published() -> bool:
        return await from_cache(books, market) is not None

    await until(published)
    lease = (await books._db.companion(BookReader).keys(market.id)).lease
    with redis.Redis.from_url(cache_url) as server:
        server.set(lease, "somebody", px=60_000)
        with pytest.raises(ConflictError, match="import keeps the book of BTC/USDT"):
            await books.show_own_orders("BTC/USDT")
        server.delete(lease)

    async def busy(*_) -> None:
        """It has other things to do."""

    monkeypatch.setattr(projection.BookProjection, "_serve_requests", busy)
    with pytest.raises(TimeoutExceededError, match="is forgotten, but"):
        await books.show_own_orders("BTC/USDT")


async def test_another_exchanges_book_has_no_orders_wherever_it_is_read(books, orders, market, tmp_path, cache_url):
    orders.place("buy", 7, 1)
    await import_book(books._db, written(tmp_path, Exchange(5, updates=30).lines()), "BTC/USDT")
    with redis.Redis.from_url(cache_url) as server:
        server.flushall()
    assert await books.get_orders("BTC/USDT") == []
    await books.show_own_orders("BTC/USDT")
    assert len(await books.get_orders("BTC/USDT")) == 1


async def test_a_rebuild_leaves_books_to_their_imports(books, project, market, tmp_path, cache_url):
    await import_book(books._db, written(tmp_path, Exchange(5, updates=30).lines()), "BTC/USDT")
    await project()

    async def published() -> bool:
        return await from_cache(books, market) is not None

    await until(published)
    lease = (await books._db.companion(BookReader).keys(market.id)).lease
    with redis.Redis.from_url(cache_url) as server:
        server.set(lease, "somebody", px=60_000)
        with pytest.raises(ConflictError, match="import keeps the book of BTC/USDT"):
            await books.rebuild("BTC/USDT")
        assert (await books.rebuild())["books"] == 0
        server.delete(lease)
    assert (await books.rebuild("BTC/USDT"))["books"] == 1


async def test_bad_lines_are_named(books, market, tmp_path):
    lines = Exchange(1, updates=50).lines()
    bad = next(n for n, line in enumerate(lines) if "depthUpdate" in line and n > 60)
    lines.insert(bad, '{"e": "depthUpdate", "U": 1')
    file = written(tmp_path, lines)
    with pytest.raises(ImportFailedError, match=f"line {bad + 1}: it is no JSON"):
        await import_book(books._db, file, "BTC/USDT")
    assert (await books.get_book("BTC/USDT")).bids  # what comes before it is in
    report = await import_book(books._db, file, "BTC/USDT", on_error="skip")
    assert report.rejected == 1
    assert f"line {bad + 1}" in report.bad_lines[0]
    assert report.updates == 45

    with pytest.raises(ImportFailedError, match="no snapshot"):
        await import_book(books._db, written(tmp_path, lines[:3]), "BTC/USDT")
    with pytest.raises(NotFoundError):
        await import_book(books._db, file, "ETH/USDT")
    with pytest.raises(ValidationError, match="source must be"):
        await import_book(books._db, file, "ETH/USDT", create_market=True, source="A b")
    with pytest.raises(NotFoundError):
        await books.get_book("ETH/USDT")


async def test_a_line_that_is_too_long_is_skipped_and_what_comes_before_it_is_in(books, market, tmp_path):
    lines = Exchange(1, updates=50).lines()
    last = next(n for n, line in enumerate(lines) if "depthUpdate" in line and n > 60)
    file = written(tmp_path, [*lines[: last + 1], "x" * 30_000_000, *lines[last + 1 :]])
    with pytest.raises(ImportFailedError, match=rf"line {last + 2}: it is longer than .* up to line {last + 1}"):
        await import_book(books._db, file, "BTC/USDT")
    assert (await books.get_book("BTC/USDT")).sequence == json.loads(lines[last].partition(" ")[2])["data"]["u"]
    report = await import_book(books._db, file, "BTC/USDT", on_error="skip")
    assert (report.rejected, report.updates, report.clean) == (1, 45, True)
    assert f"line {last + 2}" in report.bad_lines[0]


async def test_of_a_file_that_was_cut_off_is_in_what_could_be_read(books, market, tmp_path):
    lines = Exchange(1, updates=600).lines()
    file = written(tmp_path, lines, packed=True)
    os.truncate(file, os.path.getsize(file) - 20)  # noqa: ASYNC240, PTH202
    with pytest.raises(ImportFailedError, match=r"ends too early.* up to line \d+") as caught:
        await import_book(books._db, file, "BTC/USDT", on_error="skip")
    assert "Fetch it again" in str(caught.value)
    found = await books.get_book("BTC/USDT", 0)
    line = int(re.findall(r"up to line (\d+)", str(caught.value))[0])
    whole = written(tmp_path, lines[:line])
    report = await import_book(books._db, whole, "BTC/USDT")
    assert report.updates > 100
    assert (report.sequence, report.checksum) == (found.sequence, found.checksum)


async def test_where_the_first_line_is_bad_nothing_is_said_to_be_in(books, market, tmp_path):
    with pytest.raises(ImportFailedError, match=r"line 1: .* Nothing is in"):
        await import_book(books._db, written(tmp_path, ["{", *Exchange(1).lines()]), "BTC/USDT")


async def test_numbers_out_of_range_are_named_and_skipped(books, market, tmp_path):
    lines = Exchange(1, updates=50).lines()
    bad = [
        "9" * 40 + " {}",
        '{"lastUpdateId": -5, "bids": [], "asks": []}',
        '{"lastUpdateId": 9223372036854775808, "bids": [], "asks": []}',
        '{"e": "depthUpdate", "U": 1, "u": 9223372036854775808, "b": [], "a": []}',
        '{"lastUpdateId": 7, "bids": [["0", "1"]], "asks": []}',
    ]
    for number in range(len(bad)):
        with pytest.raises(ImportFailedError, match="line 1: "):
            await import_book(books._db, written(tmp_path, bad[number:]), "BTC/USDT")
    report = await import_book(books._db, written(tmp_path, bad + lines), "BTC/USDT", on_error="skip")
    assert (report.rejected, report.updates, report.clean) == (5, 45, True)
    assert [line.partition(":")[0] for line in report.bad_lines] == [f"line {n + 1}" for n in range(5)]


async def test_an_import_stops_also_where_a_call_forgets_its_cancellation(books, market, tmp_path, monkeypatch):
    top = BookReader.top
    calls = 0

    async def forgetful(self, market_id):
        """As ``asyncio.wait_for`` of Python 3.11, whose inner call is done as it is cancelled."""
        nonlocal calls
        calls += 1
        if calls == 20:
            importing.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
        return await top(self, market_id)

    monkeypatch.setattr(BookReader, "top", forgetful)
    told = []
    file = written(tmp_path, Exchange(1, updates=600).lines())
    importing = asyncio.create_task(import_book(books._db, file, "BTC/USDT", on_progress=told.append))
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(importing, 30)
    assert calls == 20
    assert told[-1].updates == 19  # of the 20 one is the snapshot
    assert told[-1].sequence == (await books.get_book("BTC/USDT")).sequence


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_stops_the_import_and_says_where(fresh_databases, books, market, tmp_path, number):
    process = Command(fresh_databases, tmp_path).start(
        "import", "book", "-", "--market", "BTC/USDT", stdin=subprocess.PIPE
    )
    recorded = partial(books._db.companion(BookReader).recorded, market.id)
    try:
        assert process.stdin is not None
        assert process.stderr is not None
        await asyncio.to_thread(process.stdin.write, "\n".join(Exchange(1, updates=600).lines()))

        async def begun() -> bool:
            return (await recorded()).source == "external"

        await until(begun, 30)
        process.send_signal(number)  # while it waits for more
        assert await asyncio.to_thread(process.wait, 30) == 130
        errors = process.stderr.read()
    finally:
        process.kill()
        await asyncio.to_thread(process.communicate)
    assert "Traceback" not in errors
    line, update = re.findall(r"kept as it is after line (\d+), at update (\d+)\. The same command", errors)[0]
    assert int(line) > 0
    assert int(update) == (await recorded()).sequence


async def test_a_signal_stops_the_import_of_a_pipe_that_says_nothing(fresh_databases, books, market, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process = Command(fresh_databases, tmp_path).start("import", "book", str(pipe), "--market", "BTC/USDT")
    writing = await asyncio.to_thread(os.open, pipe, os.O_WRONLY)
    try:
        process.send_signal(signal.SIGINT)
        _, errors = await asyncio.to_thread(process.communicate, timeout=30)
    finally:
        os.close(writing)
        process.kill()
    assert process.returncode == 130, errors
    assert "nothing is in" in errors
    assert "Traceback" not in errors


async def test_one_import_into_a_market_at_a_time(books, market, tmp_path):
    file = written(tmp_path, Exchange(1, updates=50).lines())

    refused = []

    async def second(db) -> None:
        with pytest.raises(ConflictError):
            await import_book(db, file, "BTC/USDT")
        refused.append(True)

    tasks = []
    report = await import_book(
        books._db,
        file,
        "BTC/USDT",
        on_progress=lambda _: tasks.append(asyncio.ensure_future(second(books._db))) if not tasks else None,
    )
    await asyncio.gather(*tasks, return_exceptions=True)
    assert report.updates == 45


def test_by_the_command_line(fresh_databases, cache_url, tmp_path):
    exchange = Exchange(8, updates=60)
    lines = exchange.lines()
    environment = os.environ | {
        "DATABASE_URL": fresh_databases.main_url("app"),
        "ANALYTICS_DATABASE_URL": fresh_databases.analytics_url("app"),
        "REDIS_URL": cache_url,
        "REDIS_SESSION_URL": cache_url,
        "HOME": str(tmp_path),
    }

    def novadex(*arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [*command_line(), *arguments],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done.stdout

    arguments = ("--market", "BTC/USDT", "--create-market", "--json")
    report = json.loads(novadex("import", "book", written(tmp_path, lines), *arguments))
    assert (report["updates"], report["checkpoints"], report["checkpoints_equal"]) == (55, 55, 55)
    assert (report["gaps"], report["crossed"]) == (0, 0)
    book = json.loads(novadex("book", "--market", "BTC/USDT", "--depth", "3", "--json"))
    bids, asks = of_exchange(exchange)
    assert (book["market"], book["sequence"], book["bids"], book["asks"]) == (
        "BTC/USDT",
        exchange.update_id,
        bids[:3],
        asks[:3],
    )
    assert len(json.loads(novadex("book", "--market", "BTC/USDT", "--depth", "0", "--json"))["bids"]) == len(bids)
    table = novadex("book", "--market", "BTC/USDT")
    assert f"{bids[0][1]} " in table
    rebuilt = novadex("book", "rebuild", "--market", "BTC/USDT")
    assert rebuilt.startswith("1 book read anew")
    assert "no worker" in rebuilt
    many = {"lastUpdateId": 1, "bids": [[str(price), "1"] for price in range(1, 101)], "asks": []}
    assert "no ticker" in novadex("import", "book", written(tmp_path, [json.dumps(many)]), "--market", "BTC/USDT")
    assert len(novadex("book", "--market", "BTC/USDT", "--depth", "0").splitlines()) == 102

    del lines[next(n for n, line in enumerate(lines) if "depthUpdate" in line and n > 60)]
    report = json.loads(novadex("import", "book", written(tmp_path, lines), *arguments, code=3))
    assert report["gaps"] == 1
    assert "snapshots" in novadex("book", "own", "--market", "BTC/USDT")
    assert "Nothing is bid" in novadex("book", "--market", "BTC/USDT")
    novadex("book", code=2)
    novadex("book", "rebuild", code=2)
    novadex("book", "--market", "BTC/USDT", "--depth", "-1", code=2)


async def test_an_instance_without_a_cache_server_imports_and_reads(fresh_databases, tmp_path):
    exchange = Exchange(9, updates=30)
    async with fresh_databases.connection("app") as db:
        report = await import_book(db, written(tmp_path, exchange.lines()), "BTC/USDT", create_market=True)
        assert (report.checkpoints_equal, report.read_back) == (25, 0)
        assert shown(await BookService(db).get_book("BTC/USDT", 0)) == of_exchange(exchange)


async def test_finer_prices_and_quantities_that_the_asset_does_not_have(books, make_market, tmp_path):
    make_market("SOL/USDC", 3, 6)
    snapshot = {"lastUpdateId": 1, "bids": [["10.0", "1.0"]], "asks": [["11.0", "1"]]}
    finer = {"e": "depthUpdate", "U": 2, "u": 2, "b": [["10.00000001", "2.500"]], "a": []}
    wrong = {"e": "depthUpdate", "U": 3, "u": 3, "b": [["10", "0.0001"]], "a": []}
    lines = [json.dumps(message) for message in (snapshot, finer, wrong)]
    report = await import_book(books._db, written(tmp_path, lines[:2]), "SOL/USDC")
    assert report.updates == 1
    assert [level.price for level in (await books.get_book("SOL/USDC")).bids] == [Decimal("10.00000001"), 10]
    with pytest.raises(ImportFailedError, match=r"line 3: 0\.0001 has 4 decimals"):
        await import_book(books._db, written(tmp_path, lines), "SOL/USDC")
