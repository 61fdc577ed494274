"""A check keeps what it found, and says when that is too old."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from novadex.errors import TimeoutExceededError, UnavailableError
from novadex.monitoring import checks
from novadex.monitoring.checks import HealthCheck


@dataclass
class Found:
    """Finds what it is told to."""

    what: str | Exception | None = None
    hangs: bool = False

    async def look(self, deadline_s: float) -> str | None:  # noqa: ARG002 - what it finds takes no time
        if self.hangs:
            await asyncio.Event().wait()
        if isinstance(self.what, Exception):
            raise self.what
        return self.what

    async def close(self) -> None:
        """Nothing is open."""


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def check_of(probe: Found, clock: Clock | None = None) -> HealthCheck:
    return HealthCheck("main", probe, interval_s=2, deadline_s=0.05, clock=clock or Clock())


@pytest.mark.parametrize(
    ("found", "status", "error"),
    [
        (None, "healthy", None),
        ("half of it works", "degraded", "half of it works"),
        (UnavailableError("it is away", hint="look"), "unhealthy", "it is away"),
        (TimeoutExceededError("too late"), "unhealthy", "No answer from main within 0.05 s."),
        (KeyError("pass-word"), "unhealthy", "The check of main failed: KeyError."),
        (UnavailableError("no way to\npostgresql://me:secret@db/x"), "unhealthy", "no way to postgresql://***@db/x"),
        (UnavailableError("x" * 5000), "unhealthy", "x" * checks.ERROR_LENGTH_MAX),
    ],
)
async def test_what_a_probe_finds_is_what_is_shown(found: str | Exception | None, status: str, error: str | None):
    check = check_of(Found(found))
    await check.run()
    health = check.health()
    assert (health.status, health.error) == (status, error)
    assert health.latency_ms is not None
    assert health.checked_at is not None


async def test_a_probe_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checks, "DEADLINE_GRACE_S", 0.05)
    check = check_of(Found(hangs=True))
    async with asyncio.timeout(5):
        await check.run()
    assert check.health().status == "unhealthy"
    assert check.health().error == "No answer from main within 0.05 s."


async def test_before_the_first_check_nothing_is_healthy():
    check = check_of(Found())
    assert check.health().status == "unhealthy"
    assert check.age_s() is None


async def test_a_finding_that_is_too_old_is_not_trusted():
    clock = Clock()
    check = check_of(Found(), clock)
    await check.run()
    clock.now += check.stale_after_s
    assert check.health().status == "healthy"
    clock.now += 0.1
    health = check.health()
    assert health.status == "unhealthy"
    assert "old" in (health.error or "")
    assert check.age_s() == pytest.approx(check.stale_after_s + 0.1)
    await check.run()
    assert check.health().status == "healthy"
