"""``novadex reconcile``: is everything as the records say, and are these as they must be?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from novadex.cli.manners import (
    FOUND_A_DIFFERENCE,
    AsJson,
    DataDir,
    command_line,
    print_json,
    progress_bar,
    run_async,
    say,
)

if TYPE_CHECKING:
    from pathlib import Path

    from novadex.reconciliation.records import CheckReport, Finding, ReconcileReport

LISTED_MAX = 10_000
"""Findings that are named; all are counted."""


def register(app: typer.Typer) -> None:
    app.command()(reconcile)


def reconcile(
    repair: Annotated[bool, typer.Option("--repair", help="Derive anew what is derived and wrong.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="Only this invariant; may be given again.")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Ask every invariant of orders, fills, matches, figures, books and caches, while everything goes on. Exit code 3
    where something differs (after the repair, if asked for). Records are never changed: those are named and left."""
    findings: list[Finding] = []

    def found(finding: Finding) -> None:
        if len(findings) < LISTED_MAX:
            findings.append(finding)
        if not as_json:
            print(_sentence(finding))

    report = run_async(_reconcile(data_dir, repair, only or [], found))
    if as_json:
        print_json(
            {
                "checked_at": report.checked_at,
                "difference_count": report.differences,
                "asked": report.asked,
                "skipped": report.skipped,
                "checks": report.checks,
                "findings": findings,
            }
        )
    else:
        for check in report.checks:
            print(_line(check))
    if report.differences:
        raise typer.Exit(FOUND_A_DIFFERENCE)
    if not report.asked:
        say(f"novadex: NOTHING could be asked, so nothing is known: {', '.join(report.skipped)}.")
    elif report.skipped:
        say(f"novadex: not everything could be asked: {', '.join(report.skipped)}.")


async def _reconcile(data_dir: Path | None, repair: bool, only: list[str], found: Any) -> ReconcileReport:
    from novadex.reconciliation.service import Reconciler
    from novadex.storage.connection import DatabaseConnection

    async with (
        DatabaseConnection.connect(data_dir=data_dir) as db,
        DatabaseConnection.connect(data_dir=data_dir, role="worker") as worker,
    ):
        with progress_bar() as show:
            return await Reconciler(db, worker, actor=command_line()).run(
                repair=repair,
                only=only,
                found=found,
                progress=lambda name, checked: show(f"Comparing {name}", checked, 0),
            )


def _line(check: CheckReport) -> str:
    if check.skipped and not (check.checked or check.differences):
        return f"{check.name:<10} not asked: {check.skipped}"
    line = f"{check.name:<10} {check.differences:,} differences, {check.checked:,} compared"
    if check.repaired:
        line += "; derived anew" + ("" if check.left is None else f", {check.left:,} left")
    elif check.repaired is False:
        line += "; records are not repaired"
    if check.skipped:
        line += f"; not all could be asked: {check.skipped}"
    return line


def _sentence(finding: Finding) -> str:
    key = " ".join(f"{name}={value}" for name, value in finding.key.items())
    start = f"{finding.invariant}: {finding.what} {key}:"
    if finding.stored is None:
        return f"{start} is missing, expected {_values(finding.expected)}"
    if finding.expected is None:
        return f"{start} has {_values(finding.stored)}, and should not be there"
    return f"{start} has {_values(finding.stored)}, expected {_values(finding.expected)}"


def _values(values: dict[str, Any] | None) -> str:
    return " ".join(f"{name}={value}" for name, value in (values or {}).items())
