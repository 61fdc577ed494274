"""The command line: ``novadex COMMAND``. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 found a difference.

Each module of this folder is a group of commands. They import what they need inside the command, so that
``novadex --help`` stays fast.
"""

from __future__ import annotations

import io
import sys
from functools import lru_cache

import typer
import typer.main

from novadex.cli.manners import WRONG_USAGE, new_app, report_error, say
from novadex.errors import NovaDexError, UnavailableError, UsageError


def build_app():
    """All commands."""
    from novadex.cli import (
        analytics,
        api_keys,
        audit,
        book,
        cache,
        candles,
        importing,
        keys,
        liquidity,
        local,
        markets,
        notifications,
        orders,
        portfolio,
        programs,
        reconcile,
        roles,
        sessions,
        simulate,
        transfers,
        users,
    )

    app = new_app("NovaDex: the data backend of a trading venue.")
    for module in (
        local,
        importing,
        candles,
        book,
        analytics,
        markets,
        orders,
        users,
        sessions,
        api_keys,
        notifications,
        roles,
        keys,
        audit,
        cache,
        reconcile,
        simulate,
        portfolio,
        transfers,
        liquidity,
        programs,
    ):
        module.register(app)
    return app


@lru_cache(1)
def parser():
    """What reads the command line."""
    return typer.main.get_command(build_app())


def main() -> None:
    """The entry point of ``novadex``."""
    write_whole()
    try:
        # Not standalone: what the parser refuses is told as all other errors are.
        code = parser()(prog_name="novadex", standalone_mode=False)
    except NovaDexError as error:
        sys.exit(report_error(error, as_json="--json" in sys.argv))
    except typer.TyperException as error:
        sys.exit(_report_wrong_call(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        known = _of_a_server_or_a_disk(error)
        if known is None:
            raise
        sys.exit(report_error(known, as_json="--json" in sys.argv))
    sys.exit(code)


def _report_wrong_call(error: typer.TyperException) -> int:
    """What the parser refused. A group without a command is asked what there is: it shows its help."""
    message = error.format_message()
    if type(error).__name__ == "NoArgsIsHelpError":
        say(message)
        return WRONG_USAGE
    context: typer.Context | None = getattr(error, "ctx", None)
    command = context.command_path if context else "novadex"
    refused = UsageError(message if message.endswith((".", "?")) else f"{message}.", hint=f"See {command} --help.")
    return report_error(refused, as_json="--json" in sys.argv)


def write_whole() -> None:
    """Let standard output be buffered by lines where Python was told not to buffer it at all. Then it would forget
    what the system does not take at once: a pipe takes a part where the event loop's work comes between."""
    output = sys.stdout
    if isinstance(output, io.TextIOWrapper) and isinstance(output.buffer, io.RawIOBase):
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(output.buffer), encoding=output.encoding, errors=output.errors, line_buffering=True
        )


def _of_a_server_or_a_disk(error: Exception) -> NovaDexError | None:
    """What PostgreSQL refused, or the operating system: words for it instead of a stack trace."""
    if isinstance(error, OSError):
        return UnavailableError(f"{error}.", hint="Look at the disk, the folder and its permissions; then try again.")
    # By name: the help must not pay for the import of the driver.
    if type(error).__module__.partition(".")[0] == "psycopg":
        state = getattr(error, "sqlstate", None)
        return NovaDexError(
            f"PostgreSQL refused it: {str(error).strip()} [{state}].",
            hint="Is the schema of this version (novadex migrate), and has the role the right?",
        )
    return None
