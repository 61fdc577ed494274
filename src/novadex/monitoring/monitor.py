"""Everything that watches one program: its checks, its metrics, its records."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from prometheus_client import disable_created_metrics, generate_latest

from novadex.metrics import REGISTRY
from novadex.monitoring import figures
from novadex.monitoring import recorder as recording
from novadex.monitoring.book_probe import BookProbe
from novadex.monitoring.bounded import BoundedConnection
from novadex.monitoring.cache_probe import CacheProbe
from novadex.monitoring.checks import HealthCheck, ServiceHealth, Status
from novadex.monitoring.collectors import (
    CacheCollector,
    FigureCollector,
    HealthCollector,
    PoolCollector,
    ProcessCollector,
    ProjectionCollector,
)
from novadex.monitoring.database_probe import DatabaseProbe
from novadex.monitoring.figures import FigureReader
from novadex.monitoring.jobs import Job
from novadex.monitoring.process import VERSION, MemoryHealth, instance_name, memory_health, uptime_s
from novadex.monitoring.projection_probe import ProjectionProbe
from novadex.monitoring.recorder import Recorder
from novadex.monitoring.worker_probe import WorkerProbe

if TYPE_CHECKING:
    from pathlib import Path

    from prometheus_client.registry import Collector

    from novadex.instance import Endpoints
    from novadex.monitoring.checks import Probe
    from novadex.storage.connection import DatabaseConnection

Program = Literal["api", "worker"]

NEEDED = "main"
"""The service without which nothing can be done: without it the program is unhealthy, without another degraded."""


@dataclass(frozen=True, slots=True)
class HealthReport:
    """The health of this program and of the services that it uses."""

    status: Status
    """``unhealthy`` where main is away, ``degraded`` where anything else is not healthy."""
    checked_at: str
    """When this report was put together, ISO 8601, UTC."""
    program: str
    version: str
    uptime_s: float
    services: dict[str, ServiceHealth]
    memory: MemoryHealth


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether this program can do its work now."""

    ready: bool
    error: str | None


class Monitor:
    """Watches the services of ``endpoints`` for one program. ``jobs`` do the looking; ``report``,
    ``readiness`` and ``metrics_text`` answer at once from what they found.

    As a context it shows its metrics in the registry of the process; the jobs run inside of it.
    """

    def __init__(
        self, program: Program, database: DatabaseConnection, endpoints: Endpoints, data_dir: Path | None = None
    ) -> None:
        settings = database.settings
        main, analytics = BoundedConnection(database.main), BoundedConnection(database.analytics)
        caches = [CacheProbe("cache", endpoints.cache), CacheProbe("sessions", endpoints.sessions)]
        projections = ProjectionProbe(main, analytics)
        # The worker looks at what it has done, not at whether it answers itself.
        worker = projections if program == "worker" else WorkerProbe(projections, settings, data_dir)
        probes: dict[str, Probe] = {
            "main": DatabaseProbe("main", main),
            "analytics": DatabaseProbe("analytics", analytics),
            "cache": caches[0],
            "sessions": caches[1],
            "worker": worker,
            "books": BookProbe(database),
        }
        self.program = program
        self.checks = {
            service: HealthCheck(
                service, probe, interval_s=settings.health_interval_s, deadline_s=settings.health_deadline_s
            )
            for service, probe in probes.items()
        }
        # Apart from the checks, so that a long read of figures does not look like a slow server.
        self.figures_connection = BoundedConnection(database.analytics)
        self.recorder = Recorder(self.figures_connection, instance_name(program), REGISTRY)
        self.figures = FigureReader(self.figures_connection)
        self._collectors: list[Collector] = [
            HealthCollector(list(self.checks.values())),
            PoolCollector([database.main, database.analytics]),
            CacheCollector(caches),
            ProjectionCollector(projections),
            ProcessCollector(program),
        ]
        self.jobs = [
            Job("health_check", check.run, interval_s=settings.health_interval_s, deadline_s=None)
            for check in self.checks.values()
        ]
        self.jobs.append(
            Job(
                "recorder",
                self.recorder.record,
                interval_s=settings.metrics_interval_s,
                deadline_s=recording.DEADLINE_S * 2,
            )
        )
        if program == "api":
            # One kind of program reads the figures of the platform: they are the same everywhere.
            self._collectors.append(FigureCollector(self.figures))
            self.jobs.append(
                Job(
                    "figures",
                    self.figures.read,
                    interval_s=settings.metrics_interval_s,
                    deadline_s=figures.DEADLINE_S * 2,
                    busy_share_max=figures.BUSY_SHARE_MAX,
                )
            )

    async def __aenter__(self) -> Monitor:
        disable_created_metrics()
        for collector in self._collectors:
            REGISTRY.register(collector)
        return self

    async def __aexit__(self, *_: object) -> None:
        for collector in self._collectors:
            REGISTRY.unregister(collector)
        for check in self.checks.values():
            await check.close()
        await self.figures_connection.close()

    def report(self) -> HealthReport:
        """The health of everything, from what was last found."""
        services = {service: check.health() for service, check in self.checks.items()}
        memory = memory_health()
        status: Status = "healthy"
        if any(found.status != "healthy" for found in (*services.values(), memory)):
            status = "degraded"
        if services[NEEDED].status == "unhealthy":
            status = "unhealthy"
        return HealthReport(
            status=status,
            checked_at=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            program=self.program,
            version=VERSION,
            uptime_s=uptime_s(),
            services=services,
            memory=memory,
        )

    def readiness(self) -> Readiness:
        """Whether main answers, takes writes and has the schema of this version."""
        main = self.checks[NEEDED].health()
        return Readiness(main.status != "unhealthy", main.error)

    def metrics_text(self) -> bytes:
        """All metrics in the text format of Prometheus."""
        return generate_latest(REGISTRY)
