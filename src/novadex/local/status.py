"""What runs in a data folder, as it is now and not as it was written down."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from novadex.instance import SERVICES, Instance, Process, Service, read_instance
from novadex.local.folder import lock_holder

COLUMNS = ("service", "status", "address", "pid", "detail")


@dataclass(frozen=True, slots=True)
class Report:
    """The state of one data folder."""

    data_dir: Path
    instance: Instance | None
    supervisor: Process | None

    @property
    def running(self) -> bool:
        return self.supervisor is not None

    def services(self) -> dict[str, Service]:
        """Every service, with the status that its process and its supervisor bear out."""
        known = self.instance.services if self.instance else {}
        names = [*SERVICES, *(name for name in known if name not in SERVICES)]
        return {name: _as_it_is(known.get(name) or Service(), self.running) for name in names}

    def all_up(self) -> bool:
        return self.running and all(s.status in ("healthy", "external") for s in self.services().values())

    def as_document(self) -> dict[str, Any]:
        """For ``status --json``. It carries passwords: ``instance.json`` can be read by its owner only."""
        return {
            "data_dir": str(self.data_dir),
            "home": self.instance.home if self.instance else None,
            "running": self.running,
            "supervisor": self.supervisor.pid if self.supervisor else None,
            "services": {
                name: {
                    "status": service.status,
                    "pid": service.process.pid if service.process else None,
                    "url": service.url if service.status not in ("stopped", "failed") else None,
                    "port": service.port,
                    "detail": service.detail,
                }
                for name, service in self.services().items()
            },
        }

    def as_table(self) -> list[str]:
        """Lines for a person, without passwords."""
        return table(self.services())

    def summary(self) -> str:
        if self.instance is None:
            return (
                f"There is no NovaDex instance in {self.data_dir}. Start one: novadex up --data-dir {self.data_dir}"
            )
        if self.supervisor:
            return f"NovaDex runs in {self.data_dir} (supervisor {self.supervisor.pid}{self._elsewhere()})."
        if any(service.process for service in self.services().values()):
            return (
                f"The supervisor of {self.data_dir} is gone. Start again with novadex up, or end with novadex down."
            )
        return f"NovaDex is stopped in {self.data_dir}{self._elsewhere()}."

    def _elsewhere(self) -> str:
        home = self.instance.home if self.instance else None
        return f", the servers' files are in {home}" if home and Path(home) != self.data_dir.resolve() else ""


def report(data_dir: Path) -> Report:
    """Raises ``ConfigurationError`` where the folder belongs to another user."""
    instance = read_instance(data_dir)
    supervisor = instance.supervisor if instance and instance.running() else lock_holder(data_dir)
    return Report(data_dir, instance, supervisor)


def where_urls(data_dir: Path) -> str:
    """How to get at what the table leaves out."""
    return f"URLs with passwords: novadex status --json --data-dir {data_dir}"


def _as_it_is(service: Service, supervised: bool) -> Service:
    status, detail, process = service.status, service.detail, service.process
    if process is not None and not process.alive():
        process = None
        if status in ("healthy", "starting", "unhealthy"):
            status = "unhealthy" if supervised else "stopped"
            detail = "its process died, and it is started again" if supervised else "its process died"
    elif process is not None and not supervised:
        status, detail = "unhealthy", "runs without a supervisor"
    elif process is None and not supervised and status not in ("external", "failed"):
        status = "stopped"
    return Service(status, process, service.port, service.url, service.owner_url, detail)


def table(services: dict[str, Service]) -> list[str]:
    """The services in columns."""
    rows = [COLUMNS, *(row(name, service) for name, service in services.items())]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def row(name: str, service: Service) -> tuple[str, ...]:
    address = "-"
    if service.status == "external":
        address = "as set in the environment"
    elif name == "api" and service.url:
        address = service.url
    elif service.port:
        address = f"127.0.0.1:{service.port}"
    pid = str(service.process.pid) if service.process else "-"
    return (
        name,
        service.status,
        address if service.status not in ("stopped", "failed") else "-",
        pid,
        service.detail or "",
    )
