"""``novadex import``: records from files."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from novadex.cli.manners import AsJson, DataDir, new_app, print_json, run_async, say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from novadex.liquidity.records import PoolImportReport
    from novadex.trading.importing import FormatName, ImportReport, OnError, Progress

ANALYTICS_WAIT_S_MAX = 30.0
Analytics = Literal["visible", "behind", "no worker", "unavailable", "not waited for"]
"""Whether the analytics show what was imported."""


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    from novadex.cli.book import import_book_command

    group = new_app("Load records from files.")
    app.add_typer(group, name="import")
    group.command("trades")(import_trades_command)
    group.command("book")(import_book_command)
    group.command("pool")(import_pool_command)


def import_trades_command(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file; - is standard input.")],
    *,
    market: Annotated[str, typer.Option(help="The market that the trades belong to, such as BTC/USDT.")],
    format_name: Annotated[
        str,
        typer.Option("--format", metavar="FORMAT", help="auto (by the file's content), binance, ccxt or novadex."),
    ] = "auto",
    source: Annotated[
        str | None,
        typer.Option(help="Whose trades they are, such as kraken. Default: binance, ccxt, by the format."),
    ] = None,
    create_market: Annotated[
        bool, typer.Option("--create-market", help="Add the market, and unknown assets with 18 decimals.")
    ] = False,
    on_error: Annotated[
        str,
        typer.Option(
            metavar="stop|skip",
            help="At a bad line: stop, or skip it and write it to FILE.rejects.csv.",
        ),
    ] = "stop",
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait at the end until the analytics show the trades.")
    ] = True,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Load trades, each exactly once: a second import adds nothing, one that was stopped continues.

    Formats: Binance's public dumps (CSV), ccxt's trade lists (JSON, or one trade on each line), NovaDex's own CSV;
    plain, gzip or zip. See docs/reference/imports.md.
    """
    options: dict[str, Any] = {
        "format": cast("FormatName", format_name),
        "source": source,
        "create_market": create_market,
        "on_error": cast("OnError", on_error),
    }
    report, analytics = run_async(_import(file, market, options, data_dir, wait=wait))
    if as_json:
        print_json(_document(report, analytics))
    else:
        print(_sentence(report))


def import_pool_command(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file: CSV of minutes, raw integer amounts.")],
    *,
    pool: Annotated[str, typer.Option(metavar="ADDRESS", help="Address of the pool.")],
    create_pool: Annotated[
        bool, typer.Option("--create-pool", help="Add the pool, of --market, --fee and --tick-spacing.")
    ] = False,
    market: Annotated[str | None, typer.Option(help="Market of a new pool, such as WETH/USDC.")] = None,
    fee: Annotated[str, typer.Option(help="Fee of a new pool, as a share of what is paid in.")] = "0.0005",
    tick_spacing: Annotated[int, typer.Option(help="Tick spacing of a new pool.")] = 10,
    base_is_token0: Annotated[
        bool,
        typer.Option("--base-is-token0/--base-is-token1", help="Which token of a new pool the base asset is."),
    ] = True,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Load what a Uniswap v3 pool did minute by minute, each minute exactly once, and say what it came to.

    Columns: timestamp, netAmount0, netAmount1, closeTick, openTick, lowestTick, highestTick, inAmount0, inAmount1,
    currentLiquidity. See docs/how-to/liquidity.md.
    """

    async def run() -> PoolImportReport:
        from novadex.liquidity.importing import ACTOR, import_pool
        from novadex.liquidity.pools import Pools
        from novadex.storage.connection import DatabaseConnection

        async with DatabaseConnection.connect(data_dir=data_dir) as db:
            if create_pool:
                await Pools(db, actor=ACTOR).add(
                    pool,
                    market=market or "",
                    kind="concentrated",
                    fee=fee,
                    tick_spacing=tick_spacing,
                    base_is_token0=base_is_token0,
                )
            return await import_pool(db, file, pool)

    report = run_async(run())
    if as_json:
        print_json(report)
    else:
        print(
            f"{report.pool}: {report.added:,} minutes added, {report.duplicates:,} were there already;"
            f" {report.active_minutes:,} of them with swaps, closing tick {report.close_tick}."
        )


async def _import(
    file: str, market: str, options: dict[str, Any], data_dir: Path | None, *, wait: bool
) -> tuple[ImportReport, Analytics]:
    import asyncio

    from novadex.storage.connection import DatabaseConnection
    from novadex.trading.importing import import_trades

    last: Progress | None = None
    async with DatabaseConnection.connect(data_dir=data_dir) as db:
        with _bar() as show:

            def on_progress(now: Progress) -> None:
                nonlocal last
                last = now
                show(now)

            try:
                report = await import_trades(db, file, market, **options, on_opened=say, on_progress=on_progress)
            except asyncio.CancelledError:
                added = last.added if last else 0
                say(f"novadex: stopped; {added:,} trades were added and stay. The same command again continues.")
                raise
    if report.rejects_file is not None:
        say(f"{report.rejected:,} lines were skipped: see {_path(report)}")
    if not wait:
        return report, "not waited for"
    return report, await _until_visible(data_dir)


async def _until_visible(data_dir: Path | None) -> Analytics:
    """The trades are committed whatever comes of this: analytics follow by themselves. Where no worker runs, this
    does its work, if its role may."""
    import psycopg

    from novadex.analytics.catch_up import catch_up
    from novadex.analytics.projection import TradeProjection
    from novadex.errors import TimeoutExceededError, UnavailableError
    from novadex.storage.connection import DatabaseConnection

    async with DatabaseConnection.connect(data_dir=data_dir, role="worker") as db:
        projection = TradeProjection(db.main, db.analytics, db.settings)
        try:
            await catch_up(
                projection,
                progress=lambda now: say(f"Waiting for the analytics: {now.waiting:,} trades to go."),
                wait_s_max=ANALYTICS_WAIT_S_MAX,
            )
        except TimeoutExceededError:
            say(f"After {ANALYTICS_WAIT_S_MAX:.0f} s the analytics are still behind; they go on by themselves.")
            return "behind"
        except psycopg.errors.InsufficientPrivilege:
            say("No worker runs: the analytics will show the trades when one does.")
            return "no worker"
        except (UnavailableError, psycopg.Error) as error:
            say(f"The trades are in, but the analytics cannot be asked: {error}")
            return "unavailable"
    return "visible"


def _document(report: ImportReport, analytics: Analytics) -> dict[str, Any]:
    return {
        "file": report.file,
        "market": report.market,
        "format": report.format,
        "source": report.source,
        "read": report.read,
        "added": report.added,
        "duplicates": report.duplicates,
        "rejected": report.rejected,
        "seconds": report.seconds,
        "rejects_file": _path(report),
        "analytics": analytics,
    }


def _path(report: ImportReport) -> str | None:
    from novadex.trading.importing.records import printable

    return None if report.rejects_file is None else printable(str(report.rejects_file))


def _sentence(report: ImportReport) -> str:
    if report.read == 0:
        return f"{report.market}: {report.file} holds no trades."
    rate = f" ({report.read / report.seconds:,.0f}/s)" if report.seconds > 0 else ""
    rejected = f", {report.rejected:,} rejected" if report.rejected else ""
    if report.added == 0 and not report.rejected:
        return f"{report.market}: nothing new; all {report.read:,} trades were there already, {report.seconds:.1f} s."
    return (
        f"{report.market}: {report.added:,} trades added, {report.duplicates:,} were there already{rejected};"
        f" {report.read:,} read in {report.seconds:.1f} s{rate}."
    )


@contextmanager
def _bar() -> Iterator[Callable[[Progress], None]]:
    """A bar on a terminal, with rate and time left; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    bar = Bar(
        TextColumn("Importing"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[counts]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task("", total=None, counts="")

        def show(now: Progress) -> None:
            seconds = bar.tasks[0].elapsed
            rate = f", {now.read / seconds:,.0f}/s" if seconds else ""
            bar.update(task, completed=now.bytes_done, total=now.bytes_total, counts=f"{now.read:,} trades{rate}")

        yield show
