"""The API as a program: ``novadex api``, or ``python -m novadex.api``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import uvloop

from novadex.api.app import create_app
from novadex.api.serving import closing_in_time, listen, run_together, serve, stop_on_signals
from novadex.instance import find_endpoints
from novadex.monitoring.jobs import run_jobs
from novadex.monitoring.logs import configure_logs
from novadex.monitoring.monitor import Monitor
from novadex.settings import Settings, load_settings
from novadex.storage.connection import DatabaseConnection

if TYPE_CHECKING:
    from pathlib import Path


def main(data_dir: Path | None = None) -> None:
    """Serve until SIGTERM or SIGINT. Servers that are away do not end it: its health says so."""
    settings = load_settings()
    configure_logs("api", settings.log_level)
    uvloop.run(_run(settings, data_dir))


async def _run(settings: Settings, data_dir: Path | None) -> None:
    stop = stop_on_signals()
    endpoints = find_endpoints(settings, data_dir, "app")
    with listen(settings.api_host, settings.api_port, "NOVADEX_API_PORT") as listener:
        async with (
            closing_in_time(DatabaseConnection(endpoints, settings)) as database,
            Monitor("api", database, endpoints, data_dir) as monitor,
        ):
            await run_together(stop, serve(create_app(monitor), listener, stop), run_jobs(monitor.jobs, stop))
