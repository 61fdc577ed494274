"""The command line: ``novadex COMMAND``. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 found a difference.

Each module of this folder is a group of commands. They import what they need inside the command, so that
``novadex --help`` stays fast.
"""

from __future__ import annotations

import sys

from novadex.cli.manners import new_app, report_error
from novadex.errors import NovaDexError


def build_app():
    """All commands."""
    from novadex.cli import analytics, candles, importing, local, markets, programs

    app = new_app("NovaDex: the data backend of a trading venue.")
    for module in (local, importing, candles, analytics, markets, programs):
        module.register(app)
    return app


def main() -> None:
    """The entry point of ``novadex``."""
    try:
        build_app()(prog_name="novadex")
    except NovaDexError as error:
        sys.exit(report_error(error, as_json="--json" in sys.argv))
    except KeyboardInterrupt:
        sys.exit(130)
