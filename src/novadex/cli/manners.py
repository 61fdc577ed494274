"""What every command shares: its options, its output, its exit codes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from novadex.errors import NovaDexError, UsageError

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")

DONE, FAILED, WRONG_USAGE, FOUND_A_DIFFERENCE = 0, 1, 2, 3

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
    """Run a command's coroutine on uvloop."""
    import uvloop

    return uvloop.run(main)
