"""The data folder of an instance: opened under a lock, made where it is missing."""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from novadex.errors import ConfigurationError, UnavailableError
from novadex.instance import STATE_FILE, Instance, Process, read_instance, write_instance
from novadex.local.binaries import SYSTEM_FOLDER
from novadex.local.files import make_folder
from novadex.local.postgres import refuse_major
from novadex.local.service import Place
from novadex.local.users import ServerUser, reachable, server_user

INSTANCES = SYSTEM_FOLDER / "instances"
"""As root: the servers' files of those instances whose data folder the server user cannot reach."""
LOCK_FILE = "supervisor.lock"
LOG_FILE = "supervisor.log"
"""What a detached supervisor says."""
SECRETS = ("owner", "app", "worker", "readonly", "backup", "user", "superuser", "cache", "sessions")
SERVER_FOLDERS = ("main", "analytics", "cache", "sessions", "run")


@dataclass(slots=True)
class FolderLock:
    """The lock of a data folder, held by its supervisor for as long as it lives."""

    descriptor: int

    def sign(self) -> None:
        """Write this process into the lock, for a `down` that comes before anything else is written."""
        os.pwrite(self.descriptor, msgspec.json.encode(Process.of(os.getpid())), 0)


@contextmanager
def try_lock(data_dir: Path) -> Generator[FolderLock | None]:
    """The lock, or None where another process holds it."""
    path = data_dir / LOCK_FILE
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        os.ftruncate(descriptor, 0)  # the one who held it before has ended
        yield FolderLock(descriptor)
    finally:
        os.close(descriptor)


def lock_holder(data_dir: Path) -> Process | None:
    """The supervisor that signed the lock, if it lives."""
    try:
        process = msgspec.json.decode((data_dir / LOCK_FILE).read_bytes(), type=Process)
    except (OSError, msgspec.MsgspecError):
        return None
    return process if process.alive() else None


def make_data_dir(data_dir: Path) -> None:
    """Make the folder where it is missing: 0700 for a normal user, as root open for the server user to pass.

    Raises ``ConfigurationError`` where it cannot be made or belongs to another user.
    """
    try:
        _make(data_dir)
        found = data_dir.stat()
        if not stat.S_ISDIR(found.st_mode):
            raise NotADirectoryError(20, "it is not a folder")
    except OSError as error:
        raise ConfigurationError(
            f"The data folder {data_dir} cannot be used: {error.strerror or error}.",
            hint="Choose another with --data-dir or NOVADEX_DATA_DIR.",
        ) from None
    check_ours(data_dir)
    if not os.access(data_dir, os.W_OK | os.X_OK):
        raise ConfigurationError(
            f"The data folder {data_dir} is not writable.", hint=f"Allow it (chmod u+rwx {data_dir}), or use another."
        )


def check_ours(data_dir: Path) -> None:
    """Raises ``ConfigurationError`` where the folder belongs to another user: what stands in it could be a trap."""
    uid = data_dir.stat().st_uid
    if uid != os.geteuid():
        raise ConfigurationError(
            f"The data folder {data_dir} belongs to user {uid}, and this is user {os.geteuid()}.",
            hint="Run the command as that user, or choose another folder with --data-dir.",
        )


def _make(folder: Path) -> None:
    if folder.exists():
        return
    _make(folder.parent)
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755 if os.geteuid() == 0 else 0o700)


def open_instance(data_dir: Path, wanted_user: str | None, postgres_major: int) -> tuple[Instance, Place]:
    """The instance of the folder, made where there is none, with the folders of its servers.

    Raises ``ConfigurationError`` where another major version of PostgreSQL made it, where the folder holds
    something else, or where the server user cannot reach its files any more.
    """
    instance = read_instance(data_dir)
    user = server_user(wanted_user, instance.server_user if instance else None)
    try:
        if instance is None:
            _refuse_foreign(data_dir)
            instance = _new_instance(data_dir, user, postgres_major)
        elif instance.postgres_major != postgres_major:
            refuse_major(data_dir, instance.postgres_major, postgres_major)
        if missing := [name for name in SECRETS if name not in instance.passwords]:  # made by an earlier version
            instance.passwords |= {name: secrets.token_urlsafe(24) for name in missing}
            write_instance(data_dir, instance)
        _follow_move(data_dir, instance)
        home = Path(instance.home)
        _make_home(home, user)
        if user and not reachable(home, user):
            raise ConfigurationError(
                f"The user {user.name} cannot reach the servers' files in {home}.",
                hint="A folder above it was closed, or belongs to another user. Open it for passing (chmod o+x).",
            )
        for leftover in data_dir.glob("instance.*.tmp"):
            leftover.unlink(missing_ok=True)
    except OSError as error:
        raise UnavailableError(
            f"The instance in {data_dir} cannot be opened: {error}.",
            hint="Make room on the disk and the folder writable, or choose another with --data-dir.",
        ) from error
    return instance, Place(instance.instance_id, data_dir, home, user, instance.passwords)


def _refuse_foreign(data_dir: Path) -> None:
    for name in (*SERVER_FOLDERS, "logs"):
        if (data_dir / name).exists():
            raise ConfigurationError(
                f"{data_dir} holds a {name} that NovaDex did not make: there is no {STATE_FILE} beside it.",
                hint=f"If {STATE_FILE} was lost, restore it: it holds the servers' passwords."
                " Else choose another folder with --data-dir.",
            )


def _new_instance(data_dir: Path, user: ServerUser | None, postgres_major: int) -> Instance:
    instance_id = secrets.token_hex(8)
    home = data_dir.resolve()
    if user and not reachable(data_dir, user):
        home = INSTANCES / instance_id
    instance = Instance(
        instance_id,
        str(home),
        postgres_major,
        data_dir=str(data_dir.resolve()),
        server_user=user.name if user else None,
        passwords={name: secrets.token_urlsafe(24) for name in SECRETS},
    )
    write_instance(data_dir, instance)  # before any folder, so that a kill in between leaves no strangers
    return instance


def _follow_move(data_dir: Path, instance: Instance) -> None:
    """Where the folder was moved, its servers' files moved with it; a copy becomes an instance of its own."""
    here = str(data_dir.resolve())
    if instance.data_dir == here:
        return
    original = None
    if instance.data_dir:
        with suppress(OSError, ConfigurationError):
            original = read_instance(Path(instance.data_dir))
    copied = original is not None and original.instance_id == instance.instance_id
    if Path(instance.home).parent == INSTANCES:
        if copied:
            raise ConfigurationError(
                f"{data_dir} is a copy of {instance.data_dir}; the servers' files of both are in {instance.home}.",
                hint="Use the original, or start another instance in an empty folder.",
            )
    else:
        instance.home = here
    if copied:
        # Else the two would end each other's processes, which are known by the id.
        instance.instance_id = secrets.token_hex(8)
        instance.services, instance.supervisor = {}, None
    instance.data_dir = here
    write_instance(data_dir, instance)


def _make_home(home: Path, user: ServerUser | None) -> None:
    if home.parent == INSTANCES:
        for folder in (SYSTEM_FOLDER, INSTANCES, home):
            make_folder(folder, 0o755)
    make_folder(home / "logs", 0o700)
    make_folder(home / "run", 0o700, user.owner if user else None)
