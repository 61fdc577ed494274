"""``novadex book`` and ``novadex import book``: the levels of a market."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from novadex.cli.manners import (
    FOUND_A_DIFFERENCE,
    AsJson,
    DataDir,
    new_app,
    on_instance,
    print_json,
    say,
    stop_by_sigterm_too,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from novadex.book.importing import BookImportProgress, BookImportReport, OnError
    from novadex.book.records import Book
    from novadex.roles.actor import Actor
    from novadex.storage.connection import DatabaseConnection


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    group = new_app("The book of a market: what is bid and asked, best first.")
    group.info.no_args_is_help = False
    group.callback(invoke_without_command=True)(book)
    group.command("rebuild")(rebuild)
    group.command("own")(own)
    app.add_typer(group, name="book")


def book(
    context: typer.Context,
    market: Annotated[str | None, typer.Option(help="Market, such as BTC/USDT.")] = None,
    depth: Annotated[int, typer.Option(help="Levels of each side; 0: all.")] = 10,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """The book of a market: what is bid and asked, best first."""
    from novadex.book.service import BookService
    from novadex.errors import UsageError

    if context.invoked_subcommand is not None:
        return
    if market is None:
        raise UsageError("Whose book? No market is named.", hint="novadex book --market BTC/USDT")
    found = on_instance(data_dir, lambda db, _: BookService(db).get_book(market, depth))
    if as_json:
        print_json(found.as_dict())
    else:
        _print_table(found)


def rebuild(
    market: Annotated[str | None, typer.Option(help="Market, such as BTC/USDT.")] = None,
    every: Annotated[bool, typer.Option("--all", help="The books of all markets.")] = False,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Read a book, or all, anew from PostgreSQL into the cache server. It is not needed for correctness."""
    from novadex.book.service import BookService
    from novadex.errors import UsageError

    if (market is None) == (not every):
        raise UsageError("Which book?", hint="novadex book rebuild --market BTC/USDT, or --all")
    report = on_instance(data_dir, lambda db, _: BookService(db).rebuild(market))
    if as_json:
        print_json(report)
    else:
        books = "1 book" if report["books"] == 1 else f"{report['books']:,} books"
        print(f"{books} read anew in {report['seconds']} s, by {report['by']}")


def own(
    market: Annotated[str, typer.Option(help="Market, such as BTC/USDT.")],
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Forget the book that was imported into a market: it shows its own orders again."""
    from novadex.book.service import BookService

    forgotten = on_instance(data_dir, lambda db, _: BookService(db).show_own_orders(market))
    if as_json:
        print_json({"market": market, "snapshots_forgotten": forgotten})
    else:
        print(f"{market} shows its own orders; {forgotten} snapshots of another exchange's book are forgotten")


def import_book_command(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file; - is standard input.")],
    *,
    market: Annotated[str, typer.Option(help="The market whose book it is, such as BTC/USDT.")],
    create_market: Annotated[
        bool, typer.Option("--create-market", help="Add the market, and unknown assets with 18 decimals.")
    ] = False,
    source: Annotated[str, typer.Option(help="Whose book it is.")] = "binance",
    on_error: Annotated[
        str, typer.Option(metavar="stop|skip", help="At a bad line: stop, or skip it and name it.")
    ] = "stop",
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Replay an exchange's captured snapshot and differences into the book of a market.

    Binance's messages, spot and perpetual, one on each line, plain or gzip. After each difference the best bid and
    ask are compared with the exchange's own. Exit code 3 where they differ, or a difference is missing.
    """
    import asyncio

    from novadex.book.importing import import_book

    last: BookImportProgress | None = None
    with _bar() as show:

        def on_progress(now: BookImportProgress) -> None:
            nonlocal last
            last = now
            show(now)

        async def run(db: DatabaseConnection, _: Actor) -> BookImportReport:
            stop_by_sigterm_too()
            try:
                return await import_book(
                    db,
                    file,
                    market,
                    create_market=create_market,
                    source=source,
                    on_error=cast("OnError", on_error),
                    on_progress=on_progress,
                )
            except asyncio.CancelledError:
                say(_stopped(market, last))
                raise

        report = on_instance(data_dir, run)
    for line in report.bad_lines:
        say(f"skipped {line}")
    if report.own_orders:
        say(
            f"{market} has {report.own_orders:,} live orders; its book shows the imported one (see novadex book own)."
        )
    if as_json:
        print_json(asdict(report))
    else:
        print(_sentence(report))
    if not report.clean:
        raise typer.Exit(FOUND_A_DIFFERENCE)


def _stopped(market: str, last: BookImportProgress | None) -> str:
    if last is None or last.sequence is None:
        kept = "nothing is in"
    else:
        kept = f"the book of {market} is kept as it is after line {last.line}, at update {last.sequence}"
    return f"novadex: stopped; {kept}. The same command starts again from the beginning of the file."


def _sentence(report: BookImportReport) -> str:
    rate = f" ({report.updates / report.seconds:,.0f}/s)" if report.seconds else ""
    compared = (
        f"best bid and ask equal the exchange's at {report.checkpoints_equal:,} of {report.checkpoints:,} checkpoints"
        if report.checkpoints
        else "nothing to compare best bid and ask with, as no ticker of the exchange belongs to an update"
    )
    return (
        f"{report.market}: {report.updates:,} updates in {report.seconds:.1f} s{rate}; {compared};"
        f" {report.gaps} gaps, {report.crossed} times crossed; {report.bids:,} bids, {report.asks:,} asks."
    )


def _print_table(book: Book) -> None:
    crossed = "  crossed" if book.crossed else ""
    print(f"{book.market}  sequence {book.sequence}  checksum {book.checksum}{crossed}")
    if not book.bids and not book.asks:
        print("Nothing is bid or asked.")
        return
    levels = book.as_dict()
    bids, asks = levels["bids"], levels["asks"]
    widths = [max([len(row[i]) for side in (bids, asks) for row in side] + [8]) for i in (0, 1)]
    print(f"{'bid':>{widths[1]}} {'price':>{widths[0]}} | {'price':<{widths[0]}} {'ask':<{widths[1]}}".rstrip())
    for number in range(max(len(bids), len(asks))):
        bid, ask = (side[number] if number < len(side) else ["", ""] for side in (bids, asks))
        left = f"{bid[1]:>{widths[1]}} {bid[0]:>{widths[0]}}"
        print(f"{left} | {ask[0]:<{widths[0]}} {ask[1]:<{widths[1]}}".rstrip())


@contextmanager
def _bar() -> Iterator[Callable[[BookImportProgress], None]]:
    """A bar on a terminal, with rate and time left; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("Replaying"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[counts]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task("", total=None, counts="")

        def show(now: BookImportProgress) -> None:
            seconds: Any = bar.tasks[0].elapsed
            rate = f", {now.updates / seconds:,.0f}/s" if seconds else ""
            bar.update(task, completed=now.bytes_done, total=now.bytes_total, counts=f"{now.updates:,} updates{rate}")

        yield show
