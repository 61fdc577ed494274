"""Jobs go on whatever their work does, and end when told to."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from itertools import count

import psycopg
import pytest

from novadex.errors import UnavailableError
from novadex.metrics import REGISTRY
from novadex.monitoring import jobs
from novadex.monitoring.jobs import Job, run_jobs

BOUND_S = 10.0


def figure(name: str, job: str) -> float:
    return REGISTRY.get_sample_value(name, {"job": job}) or 0


async def run_until(job: Job, done: asyncio.Event) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(run_jobs([job], stop))
    try:
        async with asyncio.timeout(BOUND_S):
            await done.wait()
    finally:
        stop.set()
        await running


@pytest.mark.parametrize(
    "failure", [UnavailableError("away"), ValueError("a bug"), psycopg.errors.UniqueViolation("no"), TimeoutError()]
)
async def test_a_run_that_fails_is_counted_and_the_next_one_comes(failure: Exception):
    numbers, done = count(1), asyncio.Event()

    async def work() -> None:
        if next(numbers) < 4:
            raise failure
        done.set()

    name = f"fails_with_{type(failure).__name__}"
    await run_until(Job(name, work, interval_s=0.001, deadline_s=1), done)
    assert figure("novadex_job_failures_total", name) == 3
    assert figure("novadex_job_seconds_count", name) >= 4
    assert figure("novadex_job_last_success_timestamp_seconds", name) == pytest.approx(time.time(), abs=BOUND_S)


async def test_a_run_that_takes_too_long_is_ended():
    numbers, done = count(1), asyncio.Event()

    async def work() -> None:
        if next(numbers) == 1:
            await asyncio.Event().wait()
        done.set()

    await run_until(Job("hangs_once", work, interval_s=0.001, deadline_s=0.05), done)
    assert figure("novadex_job_failures_total", "hangs_once") == 1


async def test_after_a_failure_the_next_run_comes_sooner():
    numbers, done = count(1), asyncio.Event()

    async def work() -> None:
        if next(numbers) == 1:
            raise UnavailableError("away")
        done.set()

    await run_until(Job("retries", work, interval_s=3600, deadline_s=1, retry_s=0.001), done)


async def test_work_that_gets_slow_gets_rare(monkeypatch: pytest.MonkeyPatch):
    pauses: list[float] = []
    stop = asyncio.Event()

    async def note_pause(waiting, timeout: float) -> None:
        waiting.close()
        pauses.append(timeout)
        stop.set()

    async def work() -> None:
        time.sleep(0.05)  # noqa: ASYNC251 - what takes time here is the work itself

    monkeypatch.setattr(jobs.asyncio, "wait_for", note_pause)
    await Job("slow", work, interval_s=0.001, deadline_s=1, busy_share_max=0.02).run(stop)
    assert pauses[0] >= 0.05 * 49 * (1 - jobs.JITTER)


@pytest.mark.parametrize("cancellations_ignored", [0, 1])
async def test_the_stop_ends_work_that_hangs(monkeypatch: pytest.MonkeyPatch, cancellations_ignored: int):
    monkeypatch.setattr(jobs, "STOP_S_MAX", 0.1)
    monkeypatch.setattr(jobs, "CANCEL_S_MAX", 0.1)
    begun = asyncio.Event()

    async def work() -> None:
        begun.set()
        for _ in range(cancellations_ignored):
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        await asyncio.Event().wait()

    stop = asyncio.Event()
    running = asyncio.create_task(run_jobs([Job("stuck", work, interval_s=1, deadline_s=None)], stop))
    await begun.wait()
    stop.set()
    started = time.monotonic()
    async with asyncio.timeout(BOUND_S):
        await running
    assert time.monotonic() - started < 2


async def test_no_jobs_end_with_the_stop_too():
    stop = asyncio.Event()
    stop.set()
    async with asyncio.timeout(BOUND_S):
        await run_jobs([], stop)


async def test_a_failure_is_logged_when_it_begins_and_when_it_ends(capfd: pytest.CaptureFixture[str]):
    numbers, done = count(1), asyncio.Event()

    async def work() -> None:
        if next(numbers) < 50:
            raise UnavailableError("the server is away")
        done.set()

    await run_until(Job("noisy", work, interval_s=0.0001, deadline_s=1), done)
    out = "".join(capfd.readouterr())
    assert out.count("the server is away") == 1
    assert out.count("job works again") == 1
