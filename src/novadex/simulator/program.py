"""The simulator as a program: ``python -m novadex.simulator``, what ``novadex up --demo`` runs beside the others."""

from __future__ import annotations

from datetime import UTC, datetime

import structlog
import uvloop

from novadex.instance import find_endpoints
from novadex.monitoring.logs import configure_logs
from novadex.settings import Settings, load_settings
from novadex.simulator.records import Plan
from novadex.simulator.service import Simulator
from novadex.simulator.stopping import stop_on_signals
from novadex.storage.connection import DatabaseConnection

log = structlog.get_logger("novadex.simulator")


def main() -> None:
    """Simulate from now on, until SIGTERM or SIGINT. Servers that are away are waited for."""
    settings = load_settings()
    configure_logs("simulator", settings.log_level)
    uvloop.run(_run(settings))


async def _run(settings: Settings) -> None:
    stop = stop_on_signals()
    endpoints = find_endpoints(settings, None, "app")
    async with DatabaseConnection(endpoints, settings) as db:
        report = await Simulator(db, Plan(datetime.now(UTC), 0)).run(stop)
    log.info("simulation ended", commands=report.commands, refused=report.refused)
