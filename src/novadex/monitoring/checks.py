"""Health checks: each service is looked at in the background, and what was last seen is kept.

Whoever asks for the health of a service gets the last finding at once and never waits for a server. A
finding that is too old says so: a check that no longer runs does not look healthy.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, Protocol

import psycopg
import structlog

from novadex.errors import NovaDexError, TimeoutExceededError
from novadex.monitoring.logs import mask_secrets

if TYPE_CHECKING:
    from collections.abc import Callable

Status = Literal["healthy", "degraded", "unhealthy"]

INTERVALS_TO_STALE = 3
STALE_S_MIN = 5.0
"""A finding is not too old before this, however short the interval is."""
ERROR_LENGTH_MAX = 500
DEADLINE_GRACE_S = 0.5
"""A probe bounds itself; one that does not is ended this much later."""

log = structlog.get_logger("novadex.health")


@dataclass(frozen=True, slots=True)
class ServiceHealth:
    """What a check found. ``degraded``: it answers, with something wrong."""

    status: Status
    latency_ms: float | None
    error: str | None
    checked_at: str | None
    """ISO 8601, UTC."""


class Probe(Protocol):
    """Looks at one service."""

    async def look(self, deadline_s: float) -> str | None:
        """None where all is well, a sentence where it answers with something wrong; raises ``NovaDexError``
        where it does not do its work."""
        ...

    async def close(self) -> None:
        """Close what it keeps open."""
        ...


class HealthCheck:
    """The check of one service and its last finding."""

    def __init__(
        self,
        service: str,
        probe: Probe,
        *,
        interval_s: float,
        deadline_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.service = service
        self.probe = probe
        self.deadline_s = deadline_s
        self.stale_after_s = max(STALE_S_MIN, INTERVALS_TO_STALE * interval_s + deadline_s)
        self._clock = clock
        self._checked: float | None = None
        self._last = ServiceHealth("unhealthy", None, "It has not been checked yet.", None)

    async def run(self) -> None:
        """Look at the service once and keep what was found."""
        started = time.perf_counter()
        status, error = await self._look()
        latency_ms = round((time.perf_counter() - started) * 1000, 3)
        if (status, error is None) != (self._last.status, self._last.error is None):
            was = self._last.status if self._checked is not None else None
            log.info("health", service=self.service, status=status, was=was, error=error)
        self._last = ServiceHealth(
            status, latency_ms, error, datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        )
        self._checked = self._clock()

    async def _look(self) -> tuple[Status, str | None]:
        try:
            async with asyncio.timeout(self.deadline_s + DEADLINE_GRACE_S):
                problem = await self.probe.look(self.deadline_s)
        except (TimeoutError, TimeoutExceededError):
            return "unhealthy", f"No answer from {self.service} within {self.deadline_s:g} s."
        except NovaDexError as error:
            return "unhealthy", _sentence(error.message)
        except psycopg.Error as error:
            return "unhealthy", _sentence(f"{self.service} refused: {error.diag.message_primary or error}.")
        except Exception as error:
            # What nobody foresaw is a finding too.
            finding = f"The check of {self.service} failed: {type(error).__name__}."
            if finding != self._last.error:
                log.exception("health check failed", service=self.service)
            return "unhealthy", finding
        return ("degraded", _sentence(problem)) if problem else ("healthy", None)

    def health(self) -> ServiceHealth:
        """What was last found; unhealthy where that is too old to be trusted."""
        age_s = self.age_s()
        if age_s is not None and age_s > self.stale_after_s:
            return ServiceHealth(
                "unhealthy",
                self._last.latency_ms,
                f"The last check of {self.service} is {age_s:.0f} s old.",
                self._last.checked_at,
            )
        return self._last

    def age_s(self) -> float | None:
        """Seconds since the last check; None before the first."""
        return None if self._checked is None else self._clock() - self._checked

    async def close(self) -> None:
        await self.probe.close()


def _sentence(text: str) -> str:
    """One line, bounded, without passwords."""
    return mask_secrets(" ".join(text.split()))[:ERROR_LENGTH_MAX]
