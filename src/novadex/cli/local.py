"""The local instance: up, down, status."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from novadex.cli.manners import AsJson, DataDir, print_json, say

Detach = Annotated[
    bool, typer.Option("--detach", "-d", help="Return when everything is healthy, and leave it running.")
]

Demo = Annotated[
    bool, typer.Option("--demo", help="With a simulated venue: markets, users and trades, until it is stopped.")
]


def register(app: typer.Typer) -> None:
    app.command()(up)
    app.command()(down)
    app.command()(status)


def up(data_dir: DataDir = None, detach: Detach = False, demo: Demo = False) -> None:
    """Start the servers, the API and the worker, and keep them running."""
    from novadex.instance import data_dir_of
    from novadex.local import commands
    from novadex.local.status import report as report_of
    from novadex.local.status import where_urls
    from novadex.settings import load_settings

    settings = load_settings()
    folder = data_dir_of(settings, data_dir)
    begun = time.monotonic()
    if detach:
        from novadex.local import detached

        started = detached.start(folder, say, demo=demo)
        report = report_of(folder) if started else commands.await_up(folder, 60)
        if started:
            say(f"NovaDex is up after {time.monotonic() - begun:.1f} s.")
    else:
        from novadex.local.display import PlainDisplay, TerminalDisplay

        with TerminalDisplay(folder) if sys.stderr.isatty() else PlainDisplay(folder) as display:
            report = commands.run_in_foreground(folder, settings, display, demo=demo)
        if report is None:
            say("NovaDex is stopped.")
            return
    say("\n".join([report.summary(), "", *report.as_table(), "", where_urls(folder)]))


def down(data_dir: DataDir = None) -> None:
    """Stop everything of the instance."""
    from novadex.instance import data_dir_of
    from novadex.local import commands
    from novadex.settings import load_settings

    folder = data_dir_of(load_settings(), data_dir)
    if commands.stop(folder, say):
        say(f"NovaDex is stopped in {folder}.")
    else:
        say(f"Nothing of NovaDex was running in {folder}.")


def status(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show what runs, where, and what is wrong with it."""
    from novadex.instance import data_dir_of
    from novadex.local.status import report, where_urls
    from novadex.settings import load_settings

    folder = data_dir_of(load_settings(), data_dir)
    found = report(folder)
    if as_json:
        print_json(found.as_document())
        return
    lines = [found.summary()]
    if found.instance is not None:
        lines += ["", *found.as_table(), "", where_urls(folder)]
    print("\n".join(lines))
