"""The programs of NovaDex itself that run beside the servers: the API and the worker."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from novadex.instance import SIMULATOR, ServiceName
from novadex.local import processes
from novadex.local.service import Place, RunTool, StopStep
from novadex.local.users import ServerUser

LIVENESS_PATH = "/api/health/live"


@dataclass(frozen=True, slots=True)
class ProgramSpec:
    """How a program is started; it is told its port by ``port_variable``."""

    name: ServiceName
    command: tuple[str, ...]
    port_variable: str
    host_variable: str | None = None


API = ProgramSpec("api", (sys.executable, "-m", "novadex.api"), "NOVADEX_API_PORT", "NOVADEX_API_HOST")
WORKER = ProgramSpec("worker", (sys.executable, "-m", "novadex.worker"), "NOVADEX_WORKER_PORT")


class ProgramService:
    """The API or the worker, which answer over HTTP."""

    needs: Sequence[ServiceName] = ("main", "analytics", "cache", "sessions")
    is_program = True
    start_s_max = 60.0
    stop_steps: Sequence[StopStep] = (StopStep(signal.SIGTERM, 10.0),)
    user: ServerUser | None = None  # the supervisor's: an unprivileged user may not reach this Python

    def __init__(self, spec: ProgramSpec, place: Place, port: int, host: str = "127.0.0.1") -> None:
        self.name: ServiceName = spec.name
        self.host = host
        self.port = self.default_port = port
        self._spec = spec
        self._place = place
        self._mark = processes.mark_of(spec.name, place.instance_id)

    @property
    def folder(self) -> Path:
        return Path.cwd()  # where .env is read from

    def url(self) -> str:
        host = self._reachable_host()
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    def prepare(self, run_tool: RunTool) -> None:
        """Nothing: a program has no files of its own."""

    def command(self) -> list[str]:
        return list(self._spec.command)

    def environment(self) -> dict[str, str]:
        own = {**shared_environment(self._place, self._mark), self._spec.port_variable: str(self.port)}
        if self._spec.host_variable:
            own[self._spec.host_variable] = self.host
        return {**os.environ, **own}

    def ready(self, pid: int) -> bool:
        # Another instance's API could answer on a port that ours failed to get.
        return self.complaint() is None and processes.listens(pid, self.port)

    def complaint(self) -> str | None:
        connection = HTTPConnection(self._reachable_host(), self.port, timeout=2)
        try:
            connection.request("GET", LIVENESS_PATH)
            answer = connection.getresponse()
            answer.read()
        except (OSError, HTTPException) as error:
            return f"it does not answer: {error}"
        finally:
            connection.close()
        return None if answer.status == 200 else f"{LIVENESS_PATH} answers {answer.status}"

    def set_up(self) -> None:
        """Nothing more once it answers."""

    def _reachable_host(self) -> str:
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)


class SimulatorService:
    """What trades in a demonstration. It serves nobody: it is well while it runs."""

    name: ServiceName = SIMULATOR
    host = "127.0.0.1"
    port = default_port = 0
    needs: Sequence[ServiceName] = ("main", "analytics", "cache", "sessions", "worker")
    is_program = True
    start_s_max = 60.0
    stop_steps: Sequence[StopStep] = (StopStep(signal.SIGTERM, 10.0),)
    user: ServerUser | None = None

    def __init__(self, place: Place) -> None:
        self._place = place
        self._mark = processes.mark_of(self.name, place.instance_id)

    @property
    def folder(self) -> Path:
        return Path.cwd()

    def url(self) -> str:
        return ""

    def prepare(self, run_tool: RunTool) -> None:
        """Nothing."""

    def command(self) -> list[str]:
        return [sys.executable, "-m", "novadex.simulator"]

    def environment(self) -> dict[str, str]:
        return {**os.environ, **shared_environment(self._place, self._mark)}

    def ready(self, pid: int) -> bool:
        del pid
        return True

    def complaint(self) -> str | None:
        return None

    def set_up(self) -> None:
        """Nothing."""


def shared_environment(place: Place, mark: str) -> dict[str, str]:
    """What every program is told."""
    return {
        "NOVADEX_DATA_DIR": str(place.data_dir),
        processes.MARK_VARIABLE: mark,
        "PYTHONUNBUFFERED": "1",
        "PYTHONSAFEPATH": "1",  # a redis.py in the current folder is not our redis
    }
