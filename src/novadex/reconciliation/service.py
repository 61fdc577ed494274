"""``Reconciler``: asks every invariant, names what is wrong, and makes what is derived anew."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from novadex.audit.acts import record_act
from novadex.errors import UnavailableError, ValidationError
from novadex.reconciliation.cached import CacheCheck
from novadex.reconciliation.derived import BookCheck, CandleCheck, PortfolioCheck
from novadex.reconciliation.orders import checks_of_orders
from novadex.reconciliation.records import Check, CheckReport, Finding, ReconcileReport
from novadex.roles.actor import SERVICE, Actor, act_as

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from novadex.storage.connection import DatabaseConnection

FINDINGS_KEPT_MAX = 10_000
"""Of one invariant, for its repair; all are told and counted."""


def checks_of_worker(db: DatabaseConnection) -> list[Check]:
    """What the worker may read and derive anew, the records first."""
    return [
        *checks_of_orders(db.main),
        CandleCheck(db),
        PortfolioCheck(db, profits=False),
        PortfolioCheck(db, profits=True),
        BookCheck(db),
    ]


def checks_of_app(db: DatabaseConnection) -> list[Check]:
    """What only the application may read: users, sessions and keys are not the worker's business."""
    return [CacheCheck(db)]


class Reconciler:
    """Looks at everything once.

    ::

        report = await Reconciler(database, database_as_worker).run()
        assert report.differences == 0

    ``db`` is the application's connection, ``worker`` the one of the role that derives. Traffic may go on meanwhile:
    each part is asked in one snapshot, and what is derived is compared as far as it has come.
    """

    def __init__(self, db: DatabaseConnection, worker: DatabaseConnection, *, actor: Actor = SERVICE) -> None:
        self._db = db
        self._actor = actor
        self.checks = [*checks_of_worker(worker), *checks_of_app(db)]

    async def run(
        self,
        *,
        repair: bool = False,
        only: Sequence[str] = (),
        found: Callable[[Finding], None] = lambda _: None,
        progress: Callable[[str, int], None] = lambda _name, _checked: None,
    ) -> ReconcileReport:
        """Ask all invariants, or ``only`` some; ``found`` is called with everything that is wrong. ``repair`` derives
        anew what is derived, and asks again; records are named and left."""
        report = ReconcileReport(checked_at=datetime.now(UTC))
        for check in self._chosen(only):
            findings: list[Finding] = []
            one = await self._ask(check, _telling(found, findings), progress)
            report.checks.append(one)
            if repair and one.differences and not one.skipped:
                await self._repair(check, one, findings)
        return report

    def _chosen(self, only: Iterable[str]) -> list[Check]:
        names = {check.name: check for check in self.checks}
        for name in only:
            if name not in names:
                raise ValidationError(
                    f"There is no invariant {name[:40]!r}.", field="only", hint=f"There are: {', '.join(names)}."
                )
        return [names[name] for name in dict.fromkeys(only)] or self.checks

    async def _ask(
        self, check: Check, found: Callable[[Finding], None], progress: Callable[[str, int], None]
    ) -> CheckReport:
        report = CheckReport(check.name, check.invariant)
        began = time.monotonic()

        def count(finding: Finding) -> None:
            report.differences += 1
            found(finding)

        after: Any = None
        try:
            while True:
                part = await check.slice(after, count)
                report.checked += part.checked
                report.skipped = report.skipped or part.skipped
                progress(check.name, report.checked)
                after = part.after
                if after is None:
                    break
        except UnavailableError as error:
            report.skipped = error.message
        report.seconds = round(time.monotonic() - began, 3)
        return report

    async def _repair(self, check: Check, report: CheckReport, findings: list[Finding]) -> None:
        report.repaired = await check.repair(findings)
        if not report.repaired:
            return
        async with self._db.main.transaction() as session:
            await act_as(session, self._actor)
            detail = {"invariant": check.name, "differences": report.differences}
            await record_act(session, self._actor, "reconciliation.repaired", "instance", detail)
        again = await self._ask(check, lambda _: None, lambda _name, _checked: None)
        if again.skipped:
            report.skipped = again.skipped
        else:
            report.left = again.differences


def _telling(found: Callable[[Finding], None], kept: list[Finding]) -> Callable[[Finding], None]:
    def tell(finding: Finding) -> None:
        if len(kept) < FINDINGS_KEPT_MAX:
            kept.append(finding)
        found(finding)

    return tell
