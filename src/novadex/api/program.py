"""The API as a program: ``novadex api``, or ``python -m novadex.api``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import uvloop

from novadex.api.app import create_app
from novadex.api.serving import closing_in_time, listen, run_together, serve, stop_on_signals
from novadex.audit.configuration import record_settings
from novadex.instance import find_endpoints
from novadex.monitoring.jobs import Job, run_jobs
from novadex.monitoring.logs import configure_logs
from novadex.monitoring.monitor import Monitor
from novadex.reconciliation.keeper import watching_jobs
from novadex.reconciliation.service import checks_of_app
from novadex.settings import Settings, load_settings
from novadex.storage.connection import DatabaseConnection

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS_INTERVAL_S, SETTINGS_DEADLINE_S, SETTINGS_RETRY_S = 3600.0, 30.0, 10.0
"""How often the settings are compared with those in the audit log: once is enough, where main is there."""


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
            settings_job = Job(
                "settings",
                partial(record_settings, database, "api"),
                interval_s=SETTINGS_INTERVAL_S,
                deadline_s=SETTINGS_DEADLINE_S,
                retry_s=SETTINGS_RETRY_S,
            )
            await run_together(
                stop,
                serve(create_app(monitor, database), listener, stop),
                run_jobs([*monitor.jobs, settings_job, *watching_jobs(checks_of_app(database))], stop),
            )
