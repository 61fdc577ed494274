"""The worker as a program: ``novadex worker``, or ``python -m novadex.worker``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import uvloop

from novadex.analytics.projection import TradeProjection
from novadex.api.serving import closing_in_time, listen, run_together, serve, stop_on_signals
from novadex.instance import find_endpoints
from novadex.monitoring.jobs import Job, run_jobs
from novadex.monitoring.logs import configure_logs
from novadex.monitoring.monitor import Monitor
from novadex.settings import Settings, load_settings
from novadex.storage.connection import DatabaseConnection
from novadex.worker.app import create_app
from novadex.worker.housekeeping import delete_old_figures, delete_old_idempotency_keys, make_partitions

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path

HOST = "127.0.0.1"
HOUSEKEEPING_INTERVAL_S = 3600.0
HOUSEKEEPING_DEADLINE_S = 300.0
RETRY_S = 10.0
RESTART_S = 1.0
"""Pause before a projection that ended begins again."""


def main(data_dir: Path | None = None) -> None:
    """Work until SIGTERM or SIGINT. Servers that are away do not end it: it goes on when they are back."""
    settings = load_settings()
    configure_logs("worker", settings.log_level)
    uvloop.run(_run(settings, data_dir))


async def _run(settings: Settings, data_dir: Path | None) -> None:
    stop = stop_on_signals()
    endpoints = find_endpoints(settings, data_dir, "worker")
    with listen(HOST, settings.worker_port, "NOVADEX_WORKER_PORT") as listener:
        async with (
            closing_in_time(DatabaseConnection(endpoints, settings)) as database,
            Monitor("worker", database, endpoints, data_dir) as monitor,
        ):
            jobs = [*monitor.jobs, *worker_jobs(database, stop)]
            await run_together(stop, serve(create_app(monitor), listener, stop), run_jobs(jobs, stop))


def worker_jobs(database: DatabaseConnection, stop: asyncio.Event) -> list[Job]:
    """What the worker does: the projection, without end, and the housekeeping at the start and every hour."""
    projection = TradeProjection(database.main, database.analytics, database.settings)
    housekeeping = {
        "partitions_main": partial(make_partitions, database.main),
        "partitions_analytics": partial(make_partitions, database.analytics),
        "old_idempotency_keys": partial(delete_old_idempotency_keys, database.main),
        "old_figures": partial(delete_old_figures, database.analytics),
    }
    return [
        Job("trade_projection", partial(projection.run, stop), interval_s=RESTART_S, deadline_s=None),
        *(
            Job(
                name,
                work,
                interval_s=HOUSEKEEPING_INTERVAL_S,
                deadline_s=HOUSEKEEPING_DEADLINE_S,
                retry_s=RETRY_S,
            )
            for name, work in housekeeping.items()
        ),
    ]
