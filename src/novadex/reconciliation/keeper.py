"""What the worker does of it: a bounded part of every invariant, again and again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import structlog

from novadex.errors import UnavailableError
from novadex.monitoring.jobs import Job
from novadex.reconciliation import metrics

if TYPE_CHECKING:
    from collections.abc import Iterable

    from novadex.reconciliation.records import Check, Finding

INTERVAL_S = 10.0
"""Between the parts of an invariant that are looked at."""
LOOK_S = 0.25
"""How long it looks at parts before others have their turn."""
BUSY_SHARE_MAX = 0.05
DEADLINE_S = 300.0
TOLD_MAX = 20
"""Differences of one look at an invariant that are logged."""

log = structlog.get_logger("novadex.reconciliation")


class Watch:
    """One invariant, watched part by part: ``look()`` is a job."""

    def __init__(self, check: Check) -> None:
        self.check = check
        self._after: Any = None
        self._found = 0
        """In the present round."""
        self._before = 0
        """In the last one."""
        self._whole = True
        """Whether all of the present round could be compared so far."""
        metrics.differences.labels(check.name)
        metrics.checked.labels(check.name)

    async def look(self) -> bool:
        """Look at the next parts, for a moment; returns whether the round is complete. Where it cannot be asked now,
        it is asked again later, and a part that cannot be compared now in the next round: the metric of the last look
        says since when."""
        name = self.check.name
        end = time.monotonic() + LOOK_S
        while time.monotonic() < end:
            try:
                part = await self.check.slice(self._after, self._tell)
            except UnavailableError as error:
                self._cannot(error.message)
                return False
            self._after = part.after
            if part.skipped:
                self._cannot(part.skipped)
                self._whole = False
            metrics.checked.labels(name).inc(part.checked)
            if part.after is None:
                self._before, self._found = self._found, 0
                if self._whole:
                    metrics.last_checked.labels(name).set(time.time())
                self._whole = True
            metrics.differences.labels(name).set(max(self._before, self._found))
            if part.after is None:
                return True
        return False

    def _cannot(self, why: str) -> None:
        log.info("invariant cannot be asked now", invariant=self.check.name, error=why)

    def _tell(self, finding: Finding) -> None:
        self._found += 1
        if self._found <= TOLD_MAX:
            log.error(
                "invariant broken",
                invariant=finding.invariant,
                what=finding.what,
                key=finding.key,
                stored=finding.stored,
                expected=finding.expected,
            )


def watching_jobs(checks: Iterable[Check]) -> list[Job]:
    """Jobs that look at invariants part by part."""
    return [
        Job(
            f"reconcile_{check.name}",
            Watch(check).look,
            interval_s=INTERVAL_S,
            deadline_s=DEADLINE_S,
            busy_share_max=BUSY_SHARE_MAX,
        )
        for check in checks
    ]
