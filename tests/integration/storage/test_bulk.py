"""Large results and COPY: in pieces, with bounded memory, whole or not at all."""

from __future__ import annotations

import asyncio
import tracemalloc

import pytest
from psycopg import errors

from novadex.storage.connection import DatabaseConnection
from tests.waiting import until

COPY_IN = "COPY assets (symbol, name, decimals) FROM STDIN"
ROWS = 60_000
WIDE = "SELECT n, repeat('x', 500) AS filler FROM generate_series(1, $1::integer) AS n"


def all_returned(db: DatabaseConnection) -> bool:
    state = db.main.pool_state()
    return state["pool_available"] == state["pool_size"]


async def test_a_stream_gives_every_row_in_order(db: DatabaseConnection) -> None:
    numbers = [row.n async for row in db.main.stream("SELECT n FROM generate_series(1, $1) AS n", [2_500])]
    assert numbers == list(range(1, 2_501))


async def test_a_stream_holds_only_a_batch(db: DatabaseConnection) -> None:
    """30 MB pass through a few."""
    await db.main.value("SELECT 1")
    tracemalloc.start()
    try:
        count = 0
        async for row in db.main.stream(WIDE, [ROWS], batch_rows=1_000):
            count += len(row.filler) == 500
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == ROWS
    assert peak_bytes < 8_000_000


async def test_a_stream_of_a_query_that_fails_says_so(db: DatabaseConnection) -> None:
    with pytest.raises(errors.DivisionByZero):
        async for _ in db.main.stream("SELECT 1 / (500 - n) FROM generate_series(1, 1000) AS n", batch_rows=100):
            pass
    await until(lambda: all_returned(db))


async def test_a_stream_that_is_left_early_gives_its_connection_back(db: DatabaseConnection) -> None:
    for _ in range(3 * db.settings.pool_size_max):
        async for row in db.main.stream(WIDE, [5_000], batch_rows=100):
            if row.n == 150:
                break
    await until(lambda: all_returned(db))


async def test_streams_of_one_transaction_can_run_inside_each_other(db: DatabaseConnection) -> None:
    pairs = []
    async with db.transaction() as session:
        async for outer in session.stream("SELECT n FROM generate_series(1, 3) AS n", batch_rows=1):
            async for inner in session.stream("SELECT n FROM generate_series(1, 2) AS n", batch_rows=1):
                pairs.append((outer.n, inner.n))  # noqa: PERF401 - the loops are the test
    assert pairs == [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2)]


async def test_streams_at_once_do_not_mix(db: DatabaseConnection) -> None:
    async def numbers(start: int) -> list[int]:
        statement = "SELECT n FROM generate_series($1::integer, $1 + 999) AS n"
        return [row.n async for row in db.main.stream(statement, [start], batch_rows=10)]

    starts = range(0, 20_000, 1_000)
    assert await asyncio.gather(*map(numbers, starts)) == [list(range(start, start + 1_000)) for start in starts]


async def test_a_stream_cannot_write(db: DatabaseConnection) -> None:
    with pytest.raises((errors.ReadOnlySqlTransaction, errors.SyntaxError)):
        async for _ in db.main.stream("INSERT INTO users (id) VALUES (gen_random_uuid()) RETURNING id"):
            pass


async def test_rows_are_copied_in(db: DatabaseConnection) -> None:
    async with db.main.copy_in(COPY_IN) as copy:
        for number in range(1_000):
            await copy.write_row((f"A{number}", "tab\there, line\nhere, \\N", 8))
    assert await db.main.value("SELECT count(*) FROM assets WHERE name = E'tab\\there, line\\nhere, \\\\N'") == 1_000


async def test_bytes_are_copied_in(db: DatabaseConnection) -> None:
    async with db.main.copy_in(COPY_IN) as copy:
        await copy.write(b"BTC\tBitcoin\t8\nETH\tEther\t18\n")
    assert await db.main.value("SELECT string_agg(name, ',' ORDER BY symbol) FROM assets") == "Bitcoin,Ether"


async def test_a_copy_that_is_broken_off_leaves_nothing(db: DatabaseConnection) -> None:
    with pytest.raises(RuntimeError, match="the source failed"):
        async with db.main.copy_in(COPY_IN) as copy:
            for number in range(10_000):
                await copy.write_row((f"A{number}", "x", 8))
            raise RuntimeError("the source failed")
    assert await db.main.value("SELECT count(*) FROM assets") == 0
    await until(lambda: all_returned(db))


async def test_a_bad_row_refuses_the_whole_copy(db: DatabaseConnection) -> None:
    with pytest.raises(errors.CheckViolation):
        async with db.main.copy_in(COPY_IN) as copy:
            await copy.write_row(("BTC", "Bitcoin", 8))
            await copy.write_row(("ETH", "Ether", 19))
    assert await db.main.value("SELECT count(*) FROM assets") == 0


async def test_a_cancelled_copy_leaves_nothing(db: DatabaseConnection) -> None:
    writing = asyncio.Event()

    async def copy_for_ever() -> None:
        async with db.main.copy_in(COPY_IN) as copy:
            number = 0
            while True:
                await copy.write_row((f"A{number}", "x" * 100, 8))
                number += 1
                if number == 1_000:
                    writing.set()
                await asyncio.sleep(0)

    task = asyncio.create_task(copy_for_ever())
    await writing.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await db.main.value("SELECT count(*) FROM assets") == 0
    await until(lambda: all_returned(db))


async def test_copies_inside_a_transaction_share_its_fate(db: DatabaseConnection) -> None:
    with pytest.raises(RuntimeError):
        async with db.transaction() as session:
            async with session.copy_in(COPY_IN) as copy:
                await copy.write_row(("BTC", "Bitcoin", 8))
            assert await session.value("SELECT count(*) FROM assets") == 1
            raise RuntimeError
    assert await db.main.value("SELECT count(*) FROM assets") == 0


async def test_rows_are_copied_out(db: DatabaseConnection) -> None:
    statement = "COPY (SELECT n, n * 2 FROM generate_series(1, 50000) AS n) TO STDOUT (FORMAT csv)"
    content = b"".join([piece async for piece in db.main.copy_out(statement)])
    assert content.splitlines() == [b"%d,%d" % (n, 2 * n) for n in range(1, 50_001)]


async def test_copying_out_holds_only_a_piece(db: DatabaseConnection) -> None:
    await db.main.value("SELECT 1")
    tracemalloc.start()
    try:
        size = 0
        async for piece in db.main.copy_out(
            "COPY (SELECT repeat('x', 500) FROM generate_series(1, 100000)) TO STDOUT"
        ):
            size += len(piece)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size == 100_000 * 501
    assert peak_bytes < 8_000_000


async def test_copying_out_that_is_left_early_gives_its_connection_back(db: DatabaseConnection) -> None:
    for _ in range(2 * db.settings.pool_size_max):
        async for _piece in db.main.copy_out(
            "COPY (SELECT repeat('x', 500) FROM generate_series(1, 5000)) TO STDOUT"
        ):
            break
    await until(lambda: all_returned(db))
    assert await db.main.value("SELECT 1") == 1
