"""The programs that a supervisor or a container runs, and the step before them: api, worker, migrate."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from novadex.cli.manners import AsJson, DataDir, print_json, say


class Databases(StrEnum):
    """What to migrate."""

    MAIN = "main"
    ANALYTICS = "analytics"
    ALL = "all"


Which = Annotated[Databases, typer.Option("--database", help="Which database to migrate.")]


def register(app: typer.Typer) -> None:
    app.command()(api)
    app.command()(worker)
    app.command()(migrate)


def api(data_dir: DataDir = None) -> None:
    """Serve the HTTP API in the foreground, over servers that run already."""
    from novadex.api.program import main

    main(data_dir)


def worker(data_dir: DataDir = None) -> None:
    """Work in the foreground: keep analytics up to date, make partitions, remove what is old."""
    from novadex.worker.program import main

    main(data_dir)


def migrate(data_dir: DataDir = None, database: Which = Databases.ALL, as_json: AsJson = False) -> None:
    """Bring the schemas to the step of this version; what is there already stays as it is."""
    from novadex.instance import find_endpoints
    from novadex.settings import load_settings
    from novadex.storage import migrations

    endpoints = find_endpoints(load_settings(), data_dir, "owner", databases_only=True)
    applied: dict[str, list[str]] = {}
    if database in (Databases.MAIN, Databases.ALL):
        applied["main"] = migrations.migrate(endpoints.main, "main")
    if database in (Databases.ANALYTICS, Databases.ALL):
        applied["analytics"] = migrations.migrate(endpoints.analytics, "analytics")
    for name, steps in applied.items():
        say(f"{name}: {'applied ' + ', '.join(steps) if steps else 'nothing to do'}")
    if as_json:
        print_json({"applied": applied})
