"""What every command shares: its options, its output, its exit codes."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from novadex.errors import NovaDexError, UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator
    from datetime import datetime

    from novadex.roles.actor import Actor
    from novadex.storage.connection import DatabaseConnection

T = TypeVar("T")

ORIGIN_LENGTH_MAX = 200
DONE, FAILED, WRONG_USAGE, FOUND_A_DIFFERENCE = 0, 1, 2, 3
ENDED_BY_SIGNAL = 128
"""And the signal's number, as a shell has it."""

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="FOLDER",
        help="Folder of the local instance. Default: NOVADEX_DATA_DIR, else the default folder, else the URLs"
        " in the environment.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def new_app(summary: str) -> typer.Typer:
    return typer.Typer(
        help=summary,
        rich_markup_mode=None,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def say(message: str) -> None:
    """Words for a person: always on standard error, so that standard output stays clean."""
    print(message, file=sys.stderr, flush=True)


def print_json(document: Any) -> None:
    """The one JSON document of a command, on standard output."""
    import msgspec

    sys.stdout.write(msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n")
    sys.stdout.flush()


def report_error(error: NovaDexError, *, as_json: bool) -> int:
    """Print the error and return the exit code."""
    say(f"novadex: {error.message} [{error.code}]" + (f"\n  {error.hint}" if error.hint else ""))
    if as_json:
        print_json({"error": error.as_dict()})
    return WRONG_USAGE if isinstance(error, UsageError) else FAILED


def run_async(main: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine on uvloop. What is logged meanwhile goes to standard error."""
    import uvloop

    from novadex.monitoring.logs import configure_logs

    configure_logs("cli", "error")
    return uvloop.run(main)


def on_instance(data_dir: Path | None, work: Callable[[DatabaseConnection, Actor], Awaitable[T]]) -> T:
    """Do the work of a command over the databases of the instance, as the command line."""
    from novadex.storage.connection import DatabaseConnection

    async def run() -> T:
        async with DatabaseConnection.connect(data_dir=data_dir) as db:
            return await work(db, command_line())

    return run_async(run())


def stop_by_sigterm_too() -> None:
    """Let SIGTERM stop the work of the running command as Ctrl-C does, with the same exit code."""
    import asyncio
    import signal

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, signal.raise_signal, signal.SIGINT)


def command_line() -> Actor:
    """The command line as it acts, with who runs it and where."""
    import getpass
    import os
    import socket

    from novadex.roles.actor import Actor

    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # the system has no name for this user
        user = str(os.getuid())
    return Actor.program("cli", origin=f"{user}@{socket.gethostname()}"[:ORIGIN_LENGTH_MAX])


def moment_of(text: str | None, option: str) -> datetime | None:
    """A time of ISO 8601; without a zone it is UTC."""
    from datetime import UTC, datetime

    from novadex.errors import ValidationError

    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValidationError(
            f"{option} is not a time: {text[:80]!r}.",
            field=option,
            hint="Write it in ISO 8601, such as 2024-08-08 or 2024-08-08T23:54:00Z.",
        ) from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


@contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on a terminal, with rate and time left; nothing elsewhere. Yields ``show(what, done, total)``."""
    if not sys.stderr.isatty():
        yield lambda _what, _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task("", total=None, rate="")

        def show(what: str, done: int, total: int) -> None:
            speed = bar.tasks[0].speed
            bar.update(
                task, description=what, completed=done, total=total or None, rate=f"{speed:,.0f}/s" if speed else ""
            )

        yield show
