"""The simulator as a program: ``python -m novadex.simulator``, what ``novadex up --demo`` runs beside the others."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime

import structlog
import uvloop

from novadex.instance import find_endpoints
from novadex.monitoring.logs import configure_logs
from novadex.settings import Settings, load_settings
from novadex.simulator.ownership import MarketsTakenError
from novadex.simulator.records import Plan
from novadex.simulator.service import Simulator
from novadex.simulator.stopping import stop_on_signals
from novadex.storage.connection import DatabaseConnection

TAKEN_RETRY_S = 2.0

log = structlog.get_logger("novadex.simulator")


def main() -> None:
    """Simulate from now on, until SIGTERM or SIGINT. Servers that are away are waited for, and so are other
    simulations of its markets."""
    settings = load_settings()
    configure_logs("simulator", settings.log_level)
    uvloop.run(_run(settings))


async def _run(settings: Settings) -> None:
    stop = stop_on_signals()
    endpoints = find_endpoints(settings, None, "app")
    async with DatabaseConnection(endpoints, settings) as db:
        while not stop.is_set():
            try:
                report = await Simulator(db, Plan(datetime.now(UTC), 0)).run(stop)
            except MarketsTakenError as error:
                log.warning("the simulation waits for its markets", reason=error.message)
                await _pause(stop)
            else:
                log.info("simulation ended", commands=report.commands, refused=report.refused)


async def _pause(stop: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(TAKEN_RETRY_S):
            await stop.wait()
