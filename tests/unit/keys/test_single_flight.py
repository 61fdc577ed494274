"""Work that is shared: one run at a time, and nobody's impatience ends it for the others."""

from __future__ import annotations

import asyncio

import pytest

from novadex.keys.single_flight import SingleFlight
from tests.waiting import until


class Work:
    def __init__(self) -> None:
        self.begun = 0
        self.gate = asyncio.Event()
        self.failure: Exception | None = None

    async def __call__(self) -> None:
        self.begun += 1
        await self.gate.wait()
        if self.failure:
            raise self.failure


async def test_callers_at_the_same_moment_share_a_run():
    work = Work()
    flight = SingleFlight(work)
    callers = [asyncio.create_task(flight.join()) for _ in range(10)]
    await until(lambda: work.begun)
    work.gate.set()
    await asyncio.gather(*callers)
    assert work.begun == 1
    await flight.join()
    assert work.begun == 2


async def test_who_needs_a_run_from_now_on_gets_one_and_shares_it():
    work = Work()
    flight = SingleFlight(work)
    early = asyncio.create_task(flight.join())
    await until(lambda: work.begun)
    late = [asyncio.create_task(flight.join_new()) for _ in range(5)]
    await asyncio.sleep(0)
    work.gate.set()
    await asyncio.gather(early, *late)
    assert work.begun == 2


async def test_an_error_reaches_all_and_a_caller_who_gives_up_ends_nothing():
    work = Work()
    flight = SingleFlight(work)
    callers = [asyncio.create_task(flight.join()) for _ in range(3)]
    await until(lambda: work.begun)
    callers[0].cancel()
    work.failure = ValueError("why")
    work.gate.set()
    for caller in callers[1:]:
        with pytest.raises(ValueError, match="why"):
            await caller
    with pytest.raises(asyncio.CancelledError):
        await callers[0]


async def test_closing_ends_the_run():
    work = Work()
    flight = SingleFlight(work)
    caller = asyncio.create_task(flight.join())
    await until(lambda: work.begun)
    await flight.close()
    with pytest.raises(asyncio.CancelledError):
        await caller
