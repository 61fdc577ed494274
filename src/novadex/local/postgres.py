"""A PostgreSQL cluster of the instance: made, configured, started, its roles and its database."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Literal, LiteralString, cast

from novadex.errors import ConfigurationError, UnavailableError
from novadex.instance import DATABASES, STATE_FILE, ServiceName, postgres_url
from novadex.local import machine, ports, processes
from novadex.local.binaries import Binaries
from novadex.local.files import make_folder, write_private
from novadex.local.service import Place, RunTool, StopStep
from novadex.local.users import ServerUser

if TYPE_CHECKING:
    import psycopg

ROLES = ("owner", "app", "worker", "readonly", "backup", "user")
_FREE_DISK_MIB_NEW, _FREE_DISK_MIB = 400, 64
_READY_LINE = 7
_MEMORY_PARTS = {"main": 12, "analytics": 16}


class PostgresService:
    """One of the two clusters."""

    host = "127.0.0.1"
    needs: Sequence[ServiceName] = ()
    is_program = False
    start_s_max = 600.0  # recovery after a crash replays up to max_wal_size
    stop_steps: Sequence[StopStep] = (
        StopStep(signal.SIGINT, 45.0),  # fast: ends sessions, writes a checkpoint
        StopStep(signal.SIGQUIT, 5.0),  # immediate: the next start recovers
    )

    def __init__(self, name: Literal["main", "analytics"], place: Place, binaries: Binaries) -> None:
        self.name: Literal["main", "analytics"] = name
        self.default_port = ports.DEFAULT_PORTS[name]
        self.port = self.default_port
        self._place = place
        self._binaries = binaries
        self._mark = processes.mark_of(name, place.instance_id)
        self._cluster = place.home / name

    @property
    def user(self) -> ServerUser | None:
        return self._place.user

    @property
    def folder(self) -> Path:
        return self._place.home

    def url(self) -> str:
        return postgres_url("novadex_owner", self._place.passwords["owner"], self.port, DATABASES[self.name])

    def prepare(self, run_tool: RunTool) -> None:
        if not self._cluster.exists():
            self._make_cluster(run_tool)
        check_major(self._cluster, self._binaries.postgres_major)
        self._check_disk(_FREE_DISK_MIB)
        self._clear_stale_lock()
        owner = self.user.owner if self.user else None
        write_private(self._cluster / "novadex.conf", self._configuration(), owner)
        write_private(self._cluster / "pg_hba.conf", _HOST_ACCESS, owner)

    def command(self) -> list[str]:
        postgres = self._binaries.postgres("postgres")
        # The cluster's name stands in the title of every process of the server: it is the mark.
        return [postgres, "-D", str(self._cluster), "-c", f"cluster_name={self._mark}"]

    def environment(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}

    def ready(self, pid: int) -> bool:
        lines = self._lock_lines()
        return len(lines) > _READY_LINE and lines[0] == str(pid) and lines[_READY_LINE].strip() == "ready"

    def complaint(self) -> str | None:
        return ping(f"host=127.0.0.1 port={self.port} connect_timeout=2")

    def set_up(self) -> None:
        """Roles with their passwords, the database, the schema. Each can be done again.

        Raises ``UnavailableError`` where the server went away meanwhile.
        """
        import psycopg

        from novadex.storage.migrations import migrate

        try:
            with self._as_superuser() as connection:
                _set_roles(connection, self._place.passwords)
                _make_database(connection, self.name)
            migrate(self.url(), self.name)
        except (psycopg.OperationalError, ConfigurationError) as error:
            lost = error if isinstance(error, psycopg.OperationalError) else error.__cause__
            if not isinstance(lost, psycopg.OperationalError):
                raise
            raise UnavailableError(f"{self.name} was lost while it was set up: {str(lost).strip()}.") from error

    def _make_cluster(self, run_tool: RunTool) -> None:
        self._check_disk(_FREE_DISK_MIB_NEW)
        owner = self.user.owner if self.user else None
        # Made aside and put in place by a rename: what a kill leaves half made is never taken for a cluster.
        new = self._place.home / f"{self._mark}.new"
        shutil.rmtree(new, ignore_errors=True)
        make_folder(new, 0o700, owner)
        password = self._place.home / "run" / f"{self.name}.password"
        write_private(password, self._place.passwords["superuser"] + "\n", owner)
        sync = ["--sync-method=syncfs"] if sys.platform == "linux" else []
        try:
            run_tool(
                [
                    self._binaries.postgres("initdb"),
                    f"--pgdata={new}",
                    "--username=postgres",
                    f"--pwfile={password}",
                    "--auth=scram-sha-256",
                    "--encoding=UTF8",
                    "--locale=C",
                    "--locale-provider=builtin",
                    "--builtin-locale=C.UTF-8",
                    "--data-checksums",
                    "--no-instructions",
                    *sync,
                ]
            )
        finally:
            password.unlink(missing_ok=True)
        with (new / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write("\n# NovaDex writes novadex.conf at every start; settings below this line win over it.\n")
            file.write("include = 'novadex.conf'\n")
        new.rename(self._cluster)

    def _check_disk(self, least_mib: int) -> None:
        free_mib = machine.free_disk_mib(self._place.home)
        if free_mib < least_mib:
            raise UnavailableError(
                f"The disk of {self._place.home} is full: {free_mib} MiB are free, {self.name} needs {least_mib}.",
                hint="Make room, or choose a folder on another disk with --data-dir.",
            )

    def _lock_lines(self) -> list[str]:
        try:
            return (self._cluster / "postmaster.pid").read_text().splitlines()
        except (OSError, UnicodeDecodeError):
            return []

    def _clear_stale_lock(self) -> None:
        """Remove the lock of a killed server where its process number is in use: by another process by now, or
        by the dead server itself, which nobody has reaped. PostgreSQL would take either for a living server."""
        lines = self._lock_lines()
        if not lines or not lines[0].isdigit():
            return
        other = processes.command_line(int(lines[0]))
        if "postgres" in other and str(self._cluster) in other:
            raise ConfigurationError(
                f"Another PostgreSQL (process {lines[0]}) runs on {self._cluster}.",
                hint=f"It was not started by NovaDex. Stop it: pg_ctl stop -D {self._cluster}",
            )
        (self._cluster / "postmaster.pid").unlink(missing_ok=True)

    def _as_superuser(self) -> psycopg.Connection:
        import psycopg

        try:
            return psycopg.connect(
                host="127.0.0.1",
                port=self.port,
                user="postgres",
                dbname="postgres",
                password=self._place.passwords["superuser"],
                connect_timeout=10,
                autocommit=True,
                application_name="novadex supervisor",
                options="-c statement_timeout=60s -c lock_timeout=10s",
            )
        except psycopg.OperationalError as error:
            hint = None
            if "password authentication failed" in str(error):
                state = self._place.data_dir / STATE_FILE
                hint = f"The passwords in {state} are not those of this cluster. Restore the file."
            raise UnavailableError(
                f"No connection to {self.name} as its superuser: {str(error).strip()}.", hint=hint
            ) from None

    def _configuration(self) -> str:
        share = machine.share_mib
        parts = _MEMORY_PARTS[self.name]
        free_mib = machine.free_disk_mib(self._place.home)
        shared_memory = machine.shared_memory_mib()
        own: dict[str, object] = {
            "port": self.port,
            "shared_buffers": f"{share(parts, least=32, most=4096)}MB",
            "effective_cache_size": f"{share(parts // 4, least=96, most=32768)}MB",
            "work_mem": f"{share(parts * 64, least=4, most=32)}MB",
            "maintenance_work_mem": f"{share(parts * 4, least=32, most=1024)}MB",
            "max_wal_size": f"{max(256, min(4096, free_mib // 20))}MB",
            "min_wal_size": f"{max(80, min(512, free_mib // 40))}MB",
            # A replica or a backup that never comes back must not fill the disk.
            "max_slot_wal_keep_size": f"{max(512, min(16384, free_mib // 5))}MB",
        }
        if sys.platform == "linux":
            own["recovery_init_sync_method"] = "syncfs"
            own["client_connection_check_interval"] = "10s"
        if shared_memory is not None and shared_memory < 256:
            own["dynamic_shared_memory_type"] = "mmap"  # as in containers with 64 MiB of it
        template = files("novadex.local").joinpath("postgresql.conf").read_text(encoding="utf-8")
        return template + "".join(f"{name} = {_quoted(value)}\n" for name, value in own.items())


def _quoted(value: object) -> str:
    return f"'{value}'" if isinstance(value, str) else str(value)


_HOST_ACCESS = """# Written by NovaDex at every start: with a password, from this machine, and in no other way.
host  all          all             127.0.0.1/32  scram-sha-256
host  replication  novadex_backup  127.0.0.1/32  scram-sha-256
"""


def check_major(cluster: Path, major: int) -> None:
    """Raises ``ConfigurationError`` where another major version made the cluster."""
    try:
        found = (cluster / "PG_VERSION").read_text().strip()
    except FileNotFoundError:
        raise ConfigurationError(
            f"{cluster} is not a PostgreSQL data folder: it has no PG_VERSION.",
            hint="Restore it from a backup, or start with another --data-dir.",
        ) from None
    if found != str(major):
        refuse_major(cluster, found, major)


def refuse_major(folder: Path, found: str | int, major: int) -> None:
    raise ConfigurationError(
        f"The data in {folder} was made by PostgreSQL {found}; this version of NovaDex runs PostgreSQL {major}.",
        hint=f"Nothing was changed. Start the folder with the version of NovaDex that has PostgreSQL {found}, write"
        f" both databases out with pg_dump, and load them into a new instance (novadex up --data-dir NEW_FOLDER).",
    )


def ping(conninfo: str) -> str | None:
    """What is wrong with a PostgreSQL server, without logging in; None where it takes connections."""
    from psycopg import pq

    match pq.PGconn.ping(conninfo.encode()):
        case pq.Ping.OK:
            return None
        case pq.Ping.REJECT:
            return "it starts, stops or recovers, and takes no connections"
        case pq.Ping.NO_ATTEMPT:
            return "its URL cannot be used"
        case _:
            return "it does not answer"


def _set_roles(connection: psycopg.Connection, passwords: dict[str, str]) -> None:
    with connection.transaction():
        for role in ROLES:
            # The server gets a verifier and never sees the password, so that no log can hold it.
            verifier = connection.pgconn.encrypt_password(
                passwords[role].encode(), f"novadex_{role}".encode(), b"scram-sha-256"
            )
            connection.execute("SELECT set_config('novadex.verifier_' || %s, %s, true)", (role, verifier.decode()))
        connection.execute(_script("roles.sql"))


def _make_database(connection: psycopg.Connection, name: Literal["main", "analytics"]) -> None:
    found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASES[name],)).fetchone()
    if found is None:
        connection.execute(_script(f"{name}.sql"))


def _script(name: str) -> LiteralString:
    # A file of this package is as literal as a string in this file.
    return cast("LiteralString", files("novadex.local").joinpath(name).read_text(encoding="utf-8"))
