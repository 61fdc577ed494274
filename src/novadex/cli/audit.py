"""``novadex audit``: who did what, and whether the record of it is whole."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from novadex.cli.manners import (
    FOUND_A_DIFFERENCE,
    AsJson,
    DataDir,
    moment_of,
    new_app,
    on_instance,
    print_json,
    progress_bar,
    say,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from novadex.audit.report import AuditReport
    from novadex.audit.service import AuditEntry, AuditService

T = TypeVar("T")
FOLLOW_INTERVAL_S = 0.5
LATE_IDS = 500
"""How many ids back ``tail --follow`` looks for entries of transactions that took long."""


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    group = new_app("Who did what, and whether the record of it is whole.")
    group.command("verify")(verify)
    group.command("tail")(tail)
    group.command("search")(search)
    group.command("export")(export)
    app.add_typer(group, name="audit")


def verify(
    acknowledge: Annotated[
        str | None,
        typer.Option(
            metavar="WHY", help="It was you who restored the database, or wrote a table of the log anew, and why."
        ),
    ] = None,
    anchors: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A copy of the anchors, on another machine: nothing is sealed, nor written."
        ),
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Seal what waits, then find and name what was edited, deleted, inserted, reordered, cut off or written anew.

    Exit code 3 where something was found.
    """
    with progress_bar() as show:
        report = _with_service(
            data_dir,
            lambda service: service.verify(
                lambda done, rows: show("Verifying", done, rows), acknowledge=acknowledge, anchors=anchors
            ),
        )
    if as_json:
        print_json(_as_document(report))
    else:
        _print_report(report)
    if not report.intact:
        raise typer.Exit(FOUND_A_DIFFERENCE)


def tail(
    *,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=1_000, help="How many.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes; Ctrl-C ends it.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document a line.")] = False,
    data_dir: DataDir = None,
) -> None:
    """The newest entries, the oldest of them first."""

    async def run(service: AuditService) -> None:
        import asyncio

        entries = (await service.search(limit=lines)).items[::-1]
        seen: set[int] = set()
        first = last = entries[0].id if entries else 1
        while True:
            for entry in entries:
                _print_entry(entry, as_json=as_json)
                last = max(last, entry.id)
                seen.add(entry.id)
            if not follow:
                return
            await asyncio.sleep(FOLLOW_INTERVAL_S)
            # Who began earlier may commit later: some ids are looked at again.
            behind = max(first, last - LATE_IDS) - 1
            seen = {id for id in seen if id > behind}
            entries = [entry for entry in await service.after(behind) if entry.id not in seen]

    _with_service(data_dir, run)


def search(
    *,
    actor: Annotated[str | None, typer.Option(metavar="NAME", help="user:ID, api_key:ID, program:NAME.")] = None,
    action: Annotated[str | None, typer.Option(metavar="NAME", help="Such as users.updated.")] = None,
    subject: Annotated[str | None, typer.Option(metavar="NAME", help="Such as user:ID or role:trader.")] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="From then on, inclusive.")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Until then, exclusive.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000)] = 100,
    cursor: Annotated[str | None, typer.Option(help="The next of the page before.")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Entries that agree with all that is given, the newest first."""
    begin, end = moment_of(since, "--since"), moment_of(until, "--until")
    page = _with_service(
        data_dir,
        lambda service: service.search(
            actor=actor, action=action, subject=subject, since=begin, until=end, limit=limit, cursor=cursor
        ),
    )
    if as_json:
        print_json(page)
        return
    for entry in page.items:
        _print_entry(entry, as_json=False)
    if page.next:
        say(f"More: --cursor {page.next}")


def export(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Default: standard output.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Every sealed entry with its link of the chain, one JSON document a line, for somebody else to verify."""

    async def run(service: AuditService) -> int:
        if output is None:
            return await _write(service.export(), sys.stdout.buffer)
        partial = output.with_name(output.name + ".partial")
        try:
            with partial.open("wb") as file:
                rows = await _write(service.export(), file)
                os.fsync(file.fileno())
            partial.replace(output)
        finally:
            partial.unlink(missing_ok=True)
        return rows

    rows = _with_service(data_dir, run)
    say(f"{rows:,} entries.")


async def _write(entries: AsyncIterator[dict[str, Any]], file: Any) -> int:
    import msgspec

    rows = 0
    async for entry in entries:
        file.write(msgspec.json.encode(entry) + b"\n")
        rows += 1
    file.flush()
    return rows


def _as_document(report: AuditReport) -> dict[str, Any]:
    return {
        "intact": report.intact,
        "rows": report.rows,
        "sealed_now": report.sealed_now,
        "anchors": report.anchors,
        "head": {"position": report.head_position, "hash": report.head_hash},
        "findings": report.findings,
        "more_findings": report.more_findings,
        "notes": report.notes,
    }


def _print_report(report: AuditReport) -> None:
    for finding in report.findings:
        print(f"{finding.kind:<11} {finding.explanation}")
    if report.more_findings:
        print(f"... and {report.more_findings:,} more")
    for note in report.notes:
        print(f"note        {note}")
    found = len(report.findings) + report.more_findings
    verdict = "intact" if report.intact else f"NOT INTACT: {found:,} found"
    print(f"{report.rows:,} rows, {report.anchors:,} anchors, {report.sealed_now:,} sealed now: {verdict}.")


def _print_entry(entry: AuditEntry, *, as_json: bool) -> None:
    import msgspec

    if as_json:
        print(msgspec.json.encode(entry).decode(), flush=True)
        return
    detail = msgspec.json.encode(entry.detail).decode() if entry.detail else ""
    when = f"{entry.occurred_at:%Y-%m-%dT%H:%M:%S.%f}"
    print("  ".join([when, entry.actor, entry.action, entry.subject, detail]).rstrip(), flush=True)


def _with_service(data_dir: Path | None, work: Callable[[AuditService], Awaitable[T]]) -> T:
    from novadex.audit.service import AuditService

    return on_instance(data_dir, lambda db, actor: work(AuditService(db, actor=actor)))
