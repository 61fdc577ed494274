"""``novadex analytics``: do the figures agree with the records, and make them anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from novadex.cli.manners import FOUND_A_DIFFERENCE, AsJson, DataDir, new_app, print_json, progress_bar, run_async, say

if TYPE_CHECKING:
    from pathlib import Path

    from novadex.analytics.rebuild import RebuildReport
    from novadex.analytics.verify import Difference, VerifyReport
    from novadex.storage.connection import DatabaseConnection

LISTED_MAX = 100_000
"""Differences that are named; all are counted."""


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    group = new_app("Compare the analytics with the records, or derive them anew.")
    app.add_typer(group, name="analytics")

    @group.command()
    def verify(as_json: AsJson = False, data_dir: DataDir = None) -> None:
        """Recompute everything from the records and name every difference. Exit code 3 where there is one.

        First waits until the projection has what was committed when the command was called. The projection
        goes on meanwhile.
        """
        found = run_async(_verify(data_dir, as_json=as_json))
        if found:
            raise typer.Exit(FOUND_A_DIFFERENCE)

    @group.command()
    def rebuild(as_json: AsJson = False, data_dir: DataDir = None) -> None:
        """Derive everything anew from the records. Readers see the old figures until the new ones are complete.

        First waits until the projection has what was committed when the command was called. Exit code 3 where
        trades had to be set aside.
        """
        report = run_async(_rebuild(data_dir))
        if as_json:
            print_json(report)
        else:
            rate = report.trades / report.seconds if report.seconds else 0
            print(f"Rebuilt from {report.trades:,} trades in {report.seconds:.1f} s ({rate:,.0f} trades/s).")
        if report.set_aside:
            say(f"novadex: {report.set_aside:,} trades could not be applied: see projection_rejects.")
            raise typer.Exit(FOUND_A_DIFFERENCE)


async def _verify(data_dir: Path | None, *, as_json: bool) -> int:
    from novadex.analytics.verify import verify_trades
    from novadex.cli.json_list import JsonList
    from novadex.storage.connection import DatabaseConnection

    with JsonList() as document:

        def found(difference: Difference) -> None:
            nonlocal named
            named += 1
            if named > LISTED_MAX:
                return
            if as_json:
                document.add(difference)
            else:
                print(sentence_of(difference))

        named = 0
        async with DatabaseConnection.connect(data_dir=data_dir, role="worker") as database:
            await _catch_up(database)
            with progress_bar() as show:
                report = await verify_trades(
                    database.main,
                    database.analytics,
                    found,
                    lambda now: show(f"Comparing {now.what}", now.months_done, now.months),
                )
        if as_json:
            print_report(document, report)
        else:
            compared = ", ".join(f"{rows:,} {what}" for what, rows in report.compared.items() if rows)
            print(f"{report.differences:,} differences; compared: {compared or 'nothing'}; {report.seconds:.1f} s.")
        return report.differences


def print_report(document: Any, report: VerifyReport) -> None:
    import msgspec

    head = {
        "difference_count": report.differences,
        "compared": report.compared,
        "watermark": report.watermark,
        "seconds": round(report.seconds, 3),
    }
    opened = msgspec.json.format(msgspec.json.encode(head), indent=2).removesuffix(b"\n}")
    document.print(before=opened + b',\n  "differences": ', after=b"\n}")


def sentence_of(difference: Difference) -> str:
    key = " ".join(difference.key.values())
    if difference.what == "projection_rejects":
        reason = difference.stored or {}
        return f"projection_rejects {key}: set aside [{reason.get('code')}] {reason.get('reason')}"
    if difference.stored is None:
        return f"{difference.what} {key}: is missing, the records say {_values(difference.recomputed)}"
    if difference.recomputed is None:
        return f"{difference.what} {key}: stored {_values(difference.stored)}, the records have nothing"
    return (
        f"{difference.what} {key}: stored {_values(difference.stored)},"
        f" the records say {_values(difference.recomputed)}"
    )


def _values(values: dict[str, str | None] | None) -> str:
    return " ".join(f"{name}={value}" for name, value in (values or {}).items() if value is not None)


async def _rebuild(data_dir: Path | None) -> RebuildReport:
    from novadex.analytics.rebuild import rebuild_trades
    from novadex.storage.connection import DatabaseConnection

    async with DatabaseConnection.connect(data_dir=data_dir, role="worker") as database:
        await _catch_up(database)
        with progress_bar() as show:
            return await rebuild_trades(
                database.main,
                database.analytics,
                database.settings,
                lambda now: show("Rebuilding", now.done, now.trades),
            )


async def _catch_up(database: DatabaseConnection) -> None:
    from novadex.analytics.catch_up import catch_up
    from novadex.analytics.projection import TradeProjection

    projection = TradeProjection(database.main, database.analytics, database.settings)
    with progress_bar() as show:
        most = 0

        def waiting(now: Any) -> None:
            nonlocal most
            most = max(most, now.waiting)
            show("Waiting for the projection", most - now.waiting, most)

        await catch_up(projection, progress=waiting)
