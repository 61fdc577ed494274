"""Work that is done again and again while a program runs."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import psycopg
import structlog

from novadex import metrics
from novadex.errors import NovaDexError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

JITTER = 0.1
"""Pauses differ by up to this share, so that what started together does not stay together."""
REMINDER_S = 60.0
"""A job that keeps failing is logged when it begins to fail and then this often."""
STOP_S_MAX = 1.5
"""How long a job may go on after the stop before it is cancelled."""
CANCEL_S_MAX = 0.5
"""How long a cancelled job may take to end before it is cancelled again."""

log = structlog.get_logger("novadex.jobs")


class Job:
    """Runs ``work`` every ``interval_s``, each time for at most ``deadline_s``. A run that fails is logged
    and counted, and the next one comes after ``retry_s``: nothing but the end of the program ends a job.

    ``busy_share_max`` bounds how much of the time the work itself may take: work that gets slow gets rare.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], Awaitable[object]],
        *,
        interval_s: float,
        deadline_s: float | None,
        retry_s: float | None = None,
        busy_share_max: float = 1.0,
    ) -> None:
        self.name = name
        self.work = work
        self.interval_s = interval_s
        self.deadline_s = deadline_s
        self.retry_s = interval_s if retry_s is None else min(retry_s, interval_s)
        self.busy_share_max = busy_share_max
        self._failing_since: float | None = None
        self._reminded_at = 0.0
        metrics.job_failures.labels(name)
        metrics.job_seconds.labels(name)

    def __repr__(self) -> str:
        return f"Job({self.name!r})"

    async def run(self, stop: asyncio.Event) -> None:
        """Run until ``stop``."""
        while not stop.is_set():
            started = time.perf_counter()
            succeeded = await self.run_once()
            took_s = time.perf_counter() - started
            pause_s = max(self.interval_s if succeeded else self.retry_s, took_s * (1 / self.busy_share_max - 1))
            jitter = random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), pause_s * jitter)

    async def run_once(self) -> bool:
        """One run; returns whether it succeeded. Raises nothing but the cancellation."""
        started = time.perf_counter()
        try:
            async with asyncio.timeout(self.deadline_s):
                await self.work()
        except Exception as error:  # noqa: BLE001 - logged and counted; the next run may succeed
            metrics.job_failures.labels(self.name).inc()
            self._note_failure(error)
            return False
        else:
            metrics.job_last_success_timestamp_seconds.labels(self.name).set_to_current_time()
            self._note_success()
            return True
        finally:
            metrics.job_seconds.labels(self.name).observe(time.perf_counter() - started)

    def _note_failure(self, error: Exception) -> None:
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        elif now - self._reminded_at < REMINDER_S:
            return
        self._reminded_at = now
        failing_s = round(now - self._failing_since, 1)
        if isinstance(error, NovaDexError):
            log.warning("job failed", job=self.name, failing_s=failing_s, error=error.message, code=error.code)
        elif isinstance(error, psycopg.Error):
            reason = error.diag.message_primary or str(error)
            log.error("job failed", job=self.name, failing_s=failing_s, error=reason, code=error.sqlstate)
        elif isinstance(error, TimeoutError):
            log.warning("job failed", job=self.name, failing_s=failing_s, error=f"not done in {self.deadline_s} s")
        else:
            log.error("job failed", job=self.name, failing_s=failing_s, exc_info=error)

    def _note_success(self) -> None:
        if self._failing_since is not None:
            log.info("job works again", job=self.name, failed_s=round(time.monotonic() - self._failing_since, 1))
            self._failing_since = None


async def run_jobs(jobs: Sequence[Job], stop: asyncio.Event) -> None:
    """Run all jobs until ``stop``, which ends this call within a few seconds whatever the jobs wait for."""
    tasks = {asyncio.create_task(job.run(stop), name=f"novadex job {job.name}"): job for job in jobs}
    stopped = asyncio.create_task(stop.wait(), name="novadex stop")
    try:
        await asyncio.wait({stopped, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        stop.set()
    finally:
        stopped.cancel()
        await _end(tasks)
    for task in tasks:
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            raise error


async def _end(tasks: dict[asyncio.Task[None], Job]) -> None:
    if not tasks:
        return
    _, pending = await asyncio.wait(tasks, timeout=STOP_S_MAX)
    # A driver that asks its server to cancel gives up at the second time.
    for _ in range(2):
        for task in pending:
            task.cancel()
        if pending:
            _, pending = await asyncio.wait(pending, timeout=CANCEL_S_MAX)
    for task in pending:
        log.error("job does not end", job=tasks[task].name)
