"""The supervisor: brings every service up, keeps it up, and leaves no process behind when it stops."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty
from types import FrameType

from pydantic import SecretStr

from novadex.errors import NovaDexError, UnavailableError
from novadex.instance import SERVERS, SERVICES, Instance, Process, Service, ServiceName
from novadex.local import ports, processes
from novadex.local.announcer import Announcer, Display
from novadex.local.binaries import Binaries, packaged, runtime_copy
from novadex.local.desk import Desk, Failed, StopAsked, Usable
from novadex.local.external import ExternalServer
from novadex.local.folder import LOG_FILE, FolderLock, open_instance
from novadex.local.keeper import Keeper
from novadex.local.key_file import keep_master_keys
from novadex.local.logs import turn_over
from novadex.local.postgres import PostgresService
from novadex.local.programs import API, WORKER, ProgramService, SimulatorService
from novadex.local.service import LocalService, Place
from novadex.local.valkey import ValkeyService
from novadex.local.watcher import Watcher
from novadex.settings import Settings

HOUSEKEEPING_S = 30.0
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ORPHAN_STOP_S_MAX = 30.0
THREAD_END_S_MAX = 10.0
_PHASES: tuple[tuple[ServiceName, ...], ...] = (
    ("simulator",),
    ("api", "worker"),
    ("cache", "sessions"),
    ("main", "analytics"),
)
"""The order of a stop: those who use before those who are used."""


@dataclass(slots=True)
class Supervisor:
    """Runs one instance, from the first start to the last stop."""

    data_dir: Path
    settings: Settings
    display: Display
    lock: FolderLock
    demo: bool = False
    """With simulated trading."""

    def run(self) -> None:
        """Bring everything up, say so, and keep it up until a signal asks to stop.

        Raises ``NovaDexError`` where it does not come up; nothing is left running then.
        """
        self.lock.sign()
        binaries = packaged()
        instance, place = open_instance(self.data_dir, self.settings.server_user, binaries.postgres_major)
        with closing(Announcer(self.display)) as announcer:
            desk = Desk(self.data_dir, instance, announcer)
            with _signals_to(desk):
                self._run(desk, place, binaries)

    def _run(self, desk: Desk, place: Place, binaries: Binaries) -> None:
        end_orphans(desk.instance, desk.say)
        keep_master_keys(self.data_dir, desk.instance, self.settings, desk.say)
        external = _external_servers(self.settings)
        if os.geteuid() == 0 and len(external) < len(SERVERS):
            binaries = runtime_copy(binaries)
        keepers = self._keepers(desk, place, binaries, external)
        watchers = [Watcher(server, desk) for server in external]
        self._begin(desk, keepers, external)
        runs: dict[str, Callable[[], None]] = {keeper.service.name: keeper.run for keeper in keepers}
        runs |= {watcher.server.name: watcher.run for watcher in watchers}
        threads = [threading.Thread(target=run, name=name, daemon=True) for name, run in runs.items()]
        try:
            for thread in threads:
                thread.start()
            self._serve(desk, place, set(runs))
        finally:
            self._stop(desk, keepers, threads)

    def _keepers(
        self, desk: Desk, place: Place, binaries: Binaries, external: Sequence[ExternalServer]
    ) -> list[Keeper]:
        not_ours = {server.name for server in external}
        services: list[LocalService] = [
            PostgresService("main", place, binaries),
            PostgresService("analytics", place, binaries),
            ValkeyService("cache", place, binaries),
            ValkeyService("sessions", place, binaries),
        ]
        services = [service for service in services if service.name not in not_ours]
        services.append(ProgramService(API, place, self.settings.api_port, self.settings.api_host))
        services.append(ProgramService(WORKER, place, self.settings.worker_port))
        if self.demo:
            services.append(SimulatorService(place))
        _assign_ports([service for service in services if service.default_port], desk.instance)
        uids = {os.geteuid(), place.user.uid} if place.user else {os.geteuid()}
        return [Keeper(service, place, desk, uids) for service in services]

    def _begin(self, desk: Desk, keepers: Sequence[Keeper], external: Sequence[ExternalServer]) -> None:
        instance = desk.instance
        instance.supervisor = Process.of(os.getpid())
        instance.services = {name: Service() for name in SERVICES}
        for keeper in keepers:
            service = keeper.service
            instance.services[service.name] = Service(
                "starting", port=service.port or None, url=service.url() or None
            )
        for server in external:
            instance.services[server.name] = Service("external", url=server.url, owner_url=server.owner_url)
        desk.write()

    def _serve(self, desk: Desk, place: Place, awaited: set[str]) -> None:
        housekeeping = 0.0
        waiting = set(awaited)
        while True:
            if time.monotonic() - housekeeping > HOUSEKEEPING_S:
                housekeeping = time.monotonic()
                _turn_logs_over(desk, place)
            try:
                message = desk.inbox.get(timeout=HOUSEKEEPING_S)
            except Empty:
                continue
            match message:
                case StopAsked():
                    return
                case Failed(name, error):
                    failure = _as_novadex_error(name, error)
                    desk.record(name, "failed", detail=failure.message)
                    raise failure from error
                case Usable(name):
                    waiting.discard(name)
                    if not waiting:
                        desk.announcer.up(desk.instance.services)

    def _stop(self, desk: Desk, keepers: Sequence[Keeper], threads: Sequence[threading.Thread]) -> None:
        desk.stopping.set()
        with desk.start_lock:
            pass  # a start under way has ended, and no other will begin
        for phase in _PHASES:
            halts = [
                threading.Thread(target=keeper.halt, daemon=True)
                for keeper in keepers
                if keeper.service.name in phase
            ]
            for halt in halts:
                halt.start()
            while any(halt.is_alive() for halt in halts):
                _heed(desk)
        end = time.monotonic() + THREAD_END_S_MAX
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        instance = desk.instance
        instance.supervisor = None
        for service in instance.services.values():
            service.process = None
            if service.status not in ("external", "failed"):
                service.status, service.detail = "stopped", None
        desk.write()


def end_orphans(instance: Instance, say: Callable[[str], None]) -> int:
    """Stop what a killed supervisor left running; returns how many processes there were."""
    uids = {os.geteuid()}
    home = Path(instance.home)
    for folder in ("main", "cache"):
        if (home / folder).exists():
            uids.add((home / folder).stat().st_uid)
    count = 0
    for phase in _PHASES:
        marks = [processes.mark_of(name, instance.instance_id) for name in phase]
        number = signal.SIGINT if "main" in phase else signal.SIGTERM
        count += processes.stop_marked(marks, uids, number, ORPHAN_STOP_S_MAX)
    if count:
        say(f"Stopped {count} processes that a killed supervisor had left running.")
    return count


def _external_servers(settings: Settings) -> list[ExternalServer]:
    found: tuple[tuple[ServiceName, str, SecretStr | None, SecretStr | None], ...] = (
        ("main", "DATABASE_URL", settings.database_url, settings.database_owner_url),
        (
            "analytics",
            "ANALYTICS_DATABASE_URL",
            settings.analytics_database_url,
            settings.analytics_database_owner_url,
        ),
        ("cache", "REDIS_URL", settings.redis_url, None),
        ("sessions", "REDIS_SESSION_URL", settings.redis_session_url, None),
    )
    servers: list[ExternalServer] = []
    for name, variable, url, owner_url in found:
        if url is not None:
            owner = owner_url.get_secret_value() if owner_url else None
            servers.append(ExternalServer(name, variable, url.get_secret_value(), owner))
    return servers


def _assign_ports(services: Sequence[LocalService], instance: Instance) -> None:
    last = {name: entry.port for name, entry in instance.services.items()}
    chosen = ports.choose_all(
        {service.name: (last.get(service.name), service.default_port) for service in services},
        {service.name: service.host for service in services},
    )
    for service in services:
        service.port = chosen[service.name]


def _as_novadex_error(name: ServiceName, error: Exception) -> NovaDexError:
    if isinstance(error, NovaDexError):
        return error
    if isinstance(error, OSError):
        return UnavailableError(
            f"{name} could not be started: {error}.",
            hint="Is the disk full, or the folder not writable?",
        )
    return UnavailableError(f"{name} could not be started: {type(error).__name__}: {error}.")


def _turn_logs_over(desk: Desk, place: Place) -> None:
    for log in (place.data_dir / LOG_FILE, *(place.home / "logs").glob("*.log")):
        try:
            turn_over(log)
        except OSError as error:
            desk.say(f"The log {log} could not be turned over: {error.strerror or error}")


def _heed(desk: Desk) -> None:
    """Wait a little; a signal that comes during the stop makes it harder."""
    try:
        if isinstance(desk.inbox.get(timeout=0.02), StopAsked) and not desk.hurry.is_set():
            desk.say("Stopping at once")
            desk.hurry.set()
    except Empty:
        pass


@contextmanager
def _signals_to(desk: Desk) -> Generator[None]:
    """While in it, the signals that end a program become messages to the supervisor."""

    def pass_on(number: int, _: FrameType | None) -> None:
        desk.inbox.put(StopAsked(number))

    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if number != signal.SIGHUP or handler != signal.SIG_IGN:  # nohup is respected
            signal.signal(number, pass_on)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
