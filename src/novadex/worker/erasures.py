"""The worker applies the list of erased users again whenever the database may have been taken back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from novadex.audit.acts import record_act
from novadex.keys.erasures import (
    NAMED_MAX,
    REAPPLYING,
    Life,
    Reapplied,
    list_missing,
    look_at,
    reapply_erasures,
    refuse_damaged,
)
from novadex.roles.actor import act_as

if TYPE_CHECKING:
    from collections.abc import Callable

    from novadex.storage.connection import DatabaseConnection

WHOLE_INTERVAL_S = 3600.0
"""How often it is done without a reason: a restore may have been noticed by nothing else."""


class ErasureKeeper:
    """Applies the list at the start, after every restore, and every hour; lists what was erased on other machines."""

    def __init__(self, db: DatabaseConnection, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._db = db
        self._clock = clock
        self._life: Life | None = None
        self._erasures = -1
        self._applied_at = 0.0

    async def keep(self) -> bool:
        """One look; returns whether the list was applied. Raises ``IntegrityFaultError`` where it was, and has lines
        that cannot be read; the next look is one like any other."""
        life, erasures = await look_at(self._db)
        # Erasures never become fewer: a restore took some back, whether it raised the epoch or not.
        as_before = life == self._life and erasures >= self._erasures
        if as_before and self._clock() - self._applied_at < WHOLE_INTERVAL_S:
            if erasures != self._erasures:
                await list_missing(self._db)
                self._erasures = erasures
            return False
        began = self._clock()
        report = await reapply_erasures(self._db)
        if report.erased_again:
            await self._write_down(report)
        self._life, self._erasures, self._applied_at = life, erasures, began
        refuse_damaged(self._db, report)
        return True

    async def _write_down(self, report: Reapplied) -> None:
        """Each user's change is in the audit log by itself; this says why."""
        users = [str(user_id) for user_id in report.erased_again[:NAMED_MAX]]
        async with self._db.main.transaction() as session:
            await act_as(session, REAPPLYING)
            detail = {"count": len(report.erased_again), "users": users}
            await record_act(session, REAPPLYING, "erasures.reapplied", "erasures", detail)
