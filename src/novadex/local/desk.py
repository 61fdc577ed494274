"""What the keepers of one supervisor share: the state that is written down, and the flag that says stop."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue

from novadex.instance import SERVICES, SIMULATOR, Instance, Process, Service, ServiceName, write_instance
from novadex.local.announcer import Announcer


@dataclass(frozen=True, slots=True)
class Usable:
    """A service can be used from now on."""

    name: ServiceName


@dataclass(frozen=True, slots=True)
class Failed:
    """A service cannot be brought up."""

    name: ServiceName
    error: Exception


@dataclass(frozen=True, slots=True)
class StopAsked:
    """A signal asked the supervisor to stop."""

    number: int


Message = Usable | Failed | StopAsked


@dataclass(slots=True)
class Desk:
    """Shared by the keepers' threads and the supervisor."""

    data_dir: Path
    instance: Instance
    announcer: Announcer
    inbox: SimpleQueue[Message] = field(default_factory=SimpleQueue)
    """A SimpleQueue may be written to from a signal handler."""
    stopping: threading.Event = field(default_factory=threading.Event)
    hurry: threading.Event = field(default_factory=threading.Event)
    """Set by a second Ctrl-C: shorten every wait of the stop."""
    usable: dict[ServiceName, threading.Event] = field(
        default_factory=lambda: {name: threading.Event() for name in (*SERVICES, SIMULATOR)}
    )
    start_lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while a process is started, so that none is once ``stopping`` is set."""
    program_restarts: list[threading.Event] = field(default_factory=list)
    _state_lock: threading.Lock = field(default_factory=threading.Lock)

    def restart_programs(self) -> None:
        """Have the programs look up the servers' addresses again."""
        for event in self.program_restarts:
            event.set()

    def say(self, text: str) -> None:
        self.announcer.event(text)

    def record(
        self,
        name: ServiceName,
        status: str,
        *,
        process: Process | None = None,
        port: int | None = None,
        url: str | None = None,
        detail: str | None = None,
    ) -> None:
        """Write down how the service is; what is not given stays, but for the detail and a stopped process."""
        with self._state_lock:
            service = self.instance.services.setdefault(name, Service())
            before = (service.status, service.process, service.port, service.url, service.detail)
            service.status, service.detail = status, detail
            service.process = process or (None if status in ("stopped", "failed") else service.process)
            service.port, service.url = port or service.port, url or service.url
            if before != (service.status, service.process, service.port, service.url, service.detail):
                self._write()

    def write(self) -> None:
        with self._state_lock:
            self._write()

    def _write(self) -> None:
        try:
            write_instance(self.data_dir, self.instance)
        except OSError as error:
            self.say(f"The state could not be written to {self.data_dir}: {error.strerror or error}")
        self.announcer.changed(self.instance.services)
