"""Where the servers are: the state file of a local instance, and the URLs that follow from it.

An instance is a data folder with ``instance.json`` in it, written by the supervisor (``novadex.local``)
and read by everything else. The file holds passwords, so only its owner can read it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import msgspec
import psutil
from pydantic import SecretStr

from novadex.errors import ConfigurationError, UnavailableError
from novadex.settings import Settings, split_urls

Role = Literal["owner", "app", "worker", "readonly", "backup", "user"]
ServiceName = Literal["main", "analytics", "cache", "sessions", "api", "worker", "simulator"]
SERVICES: tuple[ServiceName, ...] = ("main", "analytics", "cache", "sessions", "api", "worker")
"""Of every instance; a demonstration has the simulator beside them."""
SIMULATOR: ServiceName = "simulator"
SERVERS: tuple[ServiceName, ...] = ("main", "analytics", "cache", "sessions")
DATABASES: dict[str, str] = {"main": "novadex_db", "analytics": "novadex_analytics"}
STATE_FILE = "instance.json"
STATE_FORMAT = 1


class Process(msgspec.Struct, frozen=True):
    """A process that cannot be mistaken for a later one with the same id."""

    pid: int
    started: float
    """When it started, in seconds since the machine did: a clock that is set does not change it."""

    def alive(self) -> bool:
        try:
            process = psutil.Process(self.pid)
            same = abs(_started(process) - self.started) < 1.5  # the machine's start is known to the second
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False

    @classmethod
    def of(cls, pid: int) -> Process:
        return cls(pid, _started(psutil.Process(pid)))


def _started(process: psutil.Process) -> float:
    return process.create_time() - psutil.boot_time()


class Service(msgspec.Struct):
    """One server or program of the instance."""

    status: str = "stopped"
    """``stopped``, ``starting``, ``healthy``, ``unhealthy``, ``failed`` or ``external``."""
    process: Process | None = None
    port: int | None = None
    url: str | None = None
    """With the owner's credentials; the app's are in ``passwords``. For an external server: as it was set."""
    owner_url: str | None = None
    """Of an external database: DATABASE_OWNER_URL where it was set."""
    detail: str | None = None
    """What is wrong, in a sentence."""

    def __repr__(self) -> str:
        return f"Service({self.status!r}, {self.process}, port={self.port})"  # the URLs carry passwords


class Instance(msgspec.Struct):
    """What ``instance.json`` holds."""

    instance_id: str
    home: str
    """Folder of the servers' own files: the data folder, or one that the server user can reach."""
    postgres_major: int
    format: int = STATE_FORMAT
    data_dir: str | None = None
    """The folder of this file when it was last opened: where it differs, the folder was moved or copied."""
    server_user: str | None = None
    """As root: the user that the servers run as and their files belong to."""
    master_keys_made: bool = False
    """Whether the file of the master keys was made: one that is missing since then was lost."""
    supervisor: Process | None = None
    services: dict[str, Service] = msgspec.field(default_factory=dict)
    passwords: dict[str, str] = msgspec.field(default_factory=dict)
    """By role (``owner``, ``app``, ``worker``, ``readonly``, ``backup``, ``user``, ``superuser``, ``cache``,
    ``sessions``)."""

    def __repr__(self) -> str:
        return f"Instance({self.instance_id!r}, home={self.home!r}, services={self.services})"  # no passwords

    def running(self) -> bool:
        return self.supervisor is not None and self.supervisor.alive()

    def stopped(self) -> bool:
        """Whether a server of its own is not there to be used: nothing runs, and nobody is starting it."""
        embedded = [entry for name, entry in self.services.items() if name in SERVERS and entry.status != "external"]
        return not self.running() and (not self.services or any(entry.process is None for entry in embedded))

    def database_url(self, service: Literal["main", "analytics"], role: Role) -> str | None:
        entry = self.services.get(service)
        if entry is None:
            return None
        if entry.status == "external":
            return (entry.owner_url if role == "owner" else None) or entry.url
        if entry.port is None:
            return None
        return postgres_url(f"novadex_{role}", self.passwords[role], entry.port, DATABASES[service])

    def redis_url(self, service: Literal["cache", "sessions"]) -> str | None:
        entry = self.services.get(service)
        return entry.url if entry else None


def postgres_url(user: str, password: str, port: int, database: str) -> str:
    return f"postgresql://{quote(user)}:{quote(password, safe='')}@127.0.0.1:{port}/{database}"


def default_data_dir() -> Path:
    """``/var/lib/novadex`` as root, else ``$XDG_DATA_HOME/novadex`` or ``~/.local/share/novadex``."""
    if os.geteuid() == 0:
        return Path("/var/lib/novadex")
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return (Path(base) / "novadex").expanduser()


def data_dir_of(settings: Settings, data_dir: Path | None = None) -> Path:
    """The data folder by ``--data-dir``, else ``NOVADEX_DATA_DIR``, else the default one."""
    return (data_dir or settings.data_dir or default_data_dir()).expanduser().absolute()


def read_instance(data_dir: Path) -> Instance | None:
    """The instance of this folder, or None where there is none."""
    path = data_dir / STATE_FILE
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except PermissionError:
        raise ConfigurationError(
            f"{path} belongs to another user.",
            hint="Run the command as that user, or name another --data-dir.",
        ) from None
    try:
        instance = msgspec.json.decode(content, type=Instance)
    except msgspec.MsgspecError as error:
        raise ConfigurationError(
            f"{path} cannot be read: {error}.", hint="Restore the file, or start with another --data-dir."
        ) from None
    if instance.format != STATE_FORMAT:
        raise ConfigurationError(
            f"{path} has format {instance.format}, this version reads format {STATE_FORMAT}.",
            hint="Use the version of NovaDex that made the folder.",
        )
    return instance


def write_instance(data_dir: Path, instance: Instance) -> None:
    """Replace ``instance.json`` in one step, readable by its owner only."""
    path = data_dir / STATE_FILE
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(instance), indent=2))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The URLs that a process uses. They carry passwords: ``repr`` leaves them out."""

    main: str = field(repr=False)
    analytics: str = field(repr=False)
    cache: str = field(repr=False)
    sessions: str = field(repr=False)
    replicas: tuple[str, ...] = field(default=(), repr=False)
    listen: str = field(default="", repr=False)
    """Main without a PgBouncer before it, for listening; empty: ``main``."""
    data_dir: Path | None = None
    """Where what must not be in the database is kept: master keys, anchors of the audit log, the list of erasures."""


def find_endpoints(
    settings: Settings, data_dir: Path | None = None, role: Role = "app", *, databases_only: bool = False
) -> Endpoints:
    """The servers of the instance: by ``data_dir``, else NOVADEX_DATA_DIR, else the default folder where
    an instance runs in it, else the URLs of the settings.

    ``databases_only``: the cache and the sessions may be missing; their URLs are then empty.
    Raises ``ConfigurationError`` where a server is found in none of these, ``UnavailableError`` where the
    instance is stopped.
    """
    named = data_dir or settings.data_dir
    folder = data_dir_of(settings, data_dir)
    instance = read_instance(folder)
    if instance is not None and not (named or instance.running()):
        instance = None
    if named and instance is None:
        raise ConfigurationError(
            f"There is no NovaDex instance in {folder}.", hint=f"Start one: novadex up --data-dir {folder}"
        )
    if instance is not None and instance.stopped():
        raise UnavailableError(
            f"The NovaDex instance in {folder} is stopped.", hint=f"Start it: novadex up --data-dir {folder}"
        )
    owner = role == "owner"
    found = {
        "DATABASE_URL": (instance and instance.database_url("main", role))
        or _url(settings.database_owner_url if owner else None)
        or _url(settings.database_url),
        "ANALYTICS_DATABASE_URL": (instance and instance.database_url("analytics", role))
        or _url(settings.analytics_database_owner_url if owner else None)
        or _url(settings.analytics_database_url),
        "REDIS_URL": (instance and instance.redis_url("cache")) or _url(settings.redis_url),
        "REDIS_SESSION_URL": (instance and instance.redis_url("sessions")) or _url(settings.redis_session_url),
    }
    needed = ("DATABASE_URL", "ANALYTICS_DATABASE_URL") if databases_only else tuple(found)
    missing = [name for name in needed if not found[name]]
    if missing:
        raise ConfigurationError(
            f"No NovaDex instance runs in {folder}, and these are not set: {', '.join(missing)}.",
            hint="Start a local instance (novadex up), or set the URLs of your servers.",
        )
    main, analytics, cache, sessions = (url or "" for url in found.values())
    listen = main if instance is not None and instance.services["main"].status != "external" else ""
    return Endpoints(
        main,
        analytics,
        cache,
        sessions,
        tuple(split_urls(settings.database_replica_urls)),
        listen or _url(settings.database_listen_url) or "",
        folder,
    )


def _url(value: SecretStr | None) -> str | None:
    return value.get_secret_value() if value is not None else None
