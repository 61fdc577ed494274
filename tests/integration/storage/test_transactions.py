"""Transactions: whole or not at all, nested, with their isolation."""

from __future__ import annotations

import asyncio

import pytest
from psycopg import errors

from novadex.storage.connection import DatabaseConnection
from novadex.storage.session import Session
from tests.waiting import until

ADD = "INSERT INTO assets (symbol, name, decimals) VALUES ($1, $1, 8)"
COUNT = "SELECT count(*) FROM assets"


class OopsError(Exception):
    """What a test raises to undo."""


async def test_a_block_is_committed_at_its_end(db: DatabaseConnection) -> None:
    async with db.transaction() as session:
        await session.execute(ADD, ["BTC"])
        assert await db.main.value(COUNT) == 0
    assert await db.main.value(COUNT) == 1


async def test_an_exception_undoes_the_block(db: DatabaseConnection) -> None:
    with pytest.raises(OopsError):
        async with db.transaction() as session:
            await session.execute(ADD, ["BTC"])
            raise OopsError
    assert await db.main.value(COUNT) == 0


async def test_a_cancelled_block_is_undone(db: DatabaseConnection) -> None:
    written = asyncio.Event()

    async def write() -> None:
        async with db.transaction() as session:
            await session.execute(ADD, ["BTC"])
            written.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(write())
    await written.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await db.main.value(COUNT) == 0
    await until(lambda: db.main.pool_state()["pool_available"] == db.main.pool_state()["pool_size"])


async def test_a_nested_part_is_undone_by_itself(db: DatabaseConnection) -> None:
    async with db.transaction() as session:
        await session.execute(ADD, ["BTC"])
        with pytest.raises(OopsError):
            async with session.transaction() as inner:
                await inner.execute(ADD, ["ETH"])
                async with inner.transaction() as innermost:
                    await innermost.execute(ADD, ["SOL"])
                raise OopsError
        with pytest.raises(errors.UniqueViolation):
            async with session.transaction() as inner:
                await inner.execute(ADD, ["BTC"])
        async with session.transaction() as inner:
            await inner.execute(ADD, ["USDC"])
    rows = await db.query("SELECT symbol FROM assets ORDER BY symbol")
    assert [row.symbol for row in rows] == ["BTC", "USDC"]


async def test_an_outer_exception_undoes_what_nested_parts_did(db: DatabaseConnection) -> None:
    with pytest.raises(OopsError):
        async with db.transaction() as session:
            async with session.transaction() as inner:
                await inner.execute(ADD, ["BTC"])
            raise OopsError
    assert await db.main.value(COUNT) == 0


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
async def test_the_isolation_is_the_one_asked_for(db: DatabaseConnection, isolation: str) -> None:
    async with db.transaction(isolation) as session:  # pyright: ignore[reportArgumentType]
        assert await session.value("SELECT current_setting('transaction_isolation')") == isolation
    async with db.transaction() as session:
        assert await session.value("SELECT current_setting('transaction_isolation')") == "read committed"


async def test_a_transaction_that_only_reads_cannot_write(db: DatabaseConnection) -> None:
    with pytest.raises(errors.ReadOnlySqlTransaction):
        async with db.transaction(read_only=True) as session:
            await session.execute(ADD, ["BTC"])
    assert await db.main.execute(ADD, ["BTC"]) == 1


async def test_the_next_user_of_a_connection_has_defaults_after_a_failure(db: DatabaseConnection) -> None:
    for _ in range(3):
        with pytest.raises(OopsError):
            async with db.transaction("serializable", read_only=True):
                raise OopsError
    async with db.transaction() as session:
        assert await session.value("SELECT current_setting('transaction_isolation')") == "read committed"
        assert await session.value("SELECT current_setting('transaction_read_only')") == "off"


async def test_run_gives_what_the_work_returns(db: DatabaseConnection) -> None:
    async def add(session: Session, symbol: str, *, times: int) -> int:
        await session.execute(ADD, [symbol])
        assert await session.value("SELECT current_setting('transaction_isolation')") == "serializable"
        return times

    assert await db.main.run(add, "BTC", times=7) == 7
    assert await db.main.value(COUNT) == 1


async def test_run_undoes_the_work_that_fails(db: DatabaseConnection) -> None:
    calls = 0

    async def fail(session: Session) -> None:
        nonlocal calls
        calls += 1
        await session.execute(ADD, ["BTC"])
        raise OopsError

    with pytest.raises(OopsError):
        await db.main.run(fail)
    assert (calls, await db.main.value(COUNT)) == (1, 0)


async def test_a_pipeline_sends_ahead_and_its_errors_come_at_the_end(db: DatabaseConnection) -> None:
    async with db.transaction() as session, session.pipeline() as pipeline:
        for number in range(100):
            await pipeline.execute(ADD, [f"A{number}"])
        assert await pipeline.value(COUNT) == 100
    assert await db.main.value(COUNT) == 100

    with pytest.raises(errors.UniqueViolation):
        async with db.transaction() as session, session.pipeline() as pipeline:
            await pipeline.execute(ADD, ["B"])
            await pipeline.execute(ADD, ["A1"])
            await pipeline.execute(ADD, ["C"])
    assert await db.main.value(COUNT) == 100


async def test_a_read_in_a_broken_pipeline_names_the_first_error(db: DatabaseConnection) -> None:
    with pytest.raises(errors.UniqueViolation):
        async with db.transaction() as session, session.pipeline() as pipeline:
            await pipeline.execute(ADD, ["A"])
            await pipeline.execute(ADD, ["A"])
            await pipeline.value(COUNT)
    assert await db.main.value(COUNT) == 0
