"""The file of the master keys: readable by its owner only, replaced in one durable step.

    {"format": 1, "keys": [{"version": 1, "key": "BASE64", "created_at": "2026-01-01T00:00:00Z"}]}

Who loses this file loses the personal data in the database and in every backup: keep a copy elsewhere.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from novadex.errors import ConfigurationError, ConflictError, NotFoundError, TimeoutExceededError
from novadex.settings import MASTER_KEY_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FILE_NAME = "master_keys.json"
FILE_FORMAT = 1
FILE_BYTES_MAX = 1024 * 1024
LOCK_WAIT_S_MAX = 10.0


class KeyEntry(msgspec.Struct, frozen=True):
    """One version, as the file has it."""

    version: int
    key: bytes
    created_at: datetime

    def __repr__(self) -> str:
        return f"KeyEntry(version {self.version})"


class KeyFile(msgspec.Struct, frozen=True):
    """The whole file."""

    format: int
    keys: tuple[KeyEntry, ...]

    def __repr__(self) -> str:
        return f"KeyFile({self.keys})"


def read_key_file(path: Path) -> dict[int, bytes]:
    """The master keys by version.

    Raises ``ConfigurationError`` where the file is missing, open to others, or not what it should be.
    """
    return {entry.version: entry.key for entry in _read(path).keys}


def make_key_file(path: Path, randomness: Callable[[int], bytes] = secrets.token_bytes) -> bool:
    """Make the file with its first key, unless it is there; returns whether it was made."""
    with _locked(path):
        if path.exists():
            _read(path)
            return False
        _write(path, KeyFile(FILE_FORMAT, (_new_entry(1, randomness),)))
        return True


def add_key(path: Path, *, above: int = 0, randomness: Callable[[int], bytes] = secrets.token_bytes) -> int:
    """Add a key that is newer than all in the file, and than version ``above``; returns its version.

    When this returns the file is on the disk: only then may anything be wrapped with the key.
    """
    with _locked(path):
        found = _read(path)
        version = max(above, *(entry.version for entry in found.keys)) + 1
        _write(path, KeyFile(FILE_FORMAT, (*found.keys, _new_entry(version, randomness))))
        return version


def remove_key(path: Path, version: int) -> None:
    """Take a key out of the file; the newest stays."""
    with _locked(path):
        _write(path, _without(path, version))


def check_removal(path: Path, version: int) -> None:
    """Raise what ``remove_key`` would, and change nothing."""
    with _locked(path):
        _without(path, version)


def _without(path: Path, version: int) -> KeyFile:
    found = _read(path)
    versions = [entry.version for entry in found.keys]
    if version not in versions:
        raise NotFoundError(f"{path} has no master key {version}.", hint=f"It has {_list(versions)}.")
    if version == max(versions):
        raise ConflictError(f"Master key {version} is the newest.", hint="Rotate first: novadex keys rotate")
    return KeyFile(FILE_FORMAT, tuple(entry for entry in found.keys if entry.version != version))


def _read(path: Path) -> KeyFile:
    file = _decode(path, _content(path))
    versions = [entry.version for entry in file.keys]
    if file.format != FILE_FORMAT:
        _refuse(path, f"it has format {file.format}, this version reads format {FILE_FORMAT}")
    if not versions:
        _refuse(path, "it holds no key")
    if len(set(versions)) < len(versions) or min(versions) < 1:
        _refuse(path, f"its versions {_list(versions)} are not numbers from 1 up, each once")
    for entry in file.keys:
        if len(entry.key) != MASTER_KEY_BYTES:
            _refuse(path, f"the key of version {entry.version} has {len(entry.key)} bytes, not {MASTER_KEY_BYTES}")
    return file


def _content(path: Path) -> bytes:
    try:
        # Not blocking: where a pipe or a device was put in its place, nobody waits for it.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise ConfigurationError(
            f"There are no master keys: {path} is missing.",
            hint="Restore the file from its copy. For a new installation: novadex keys create",
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"The master keys in {path} cannot be read: {error.strerror}.",
            hint="Run the program as the user that the file belongs to.",
        ) from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            _refuse(path, "it is no file")
        if found.st_uid != os.geteuid():
            _refuse(path, f"it belongs to user {found.st_uid}, and this is user {os.geteuid()}")
        if found.st_mode & 0o077:
            raise ConfigurationError(
                f"The master keys in {path} are open to others: its mode is {stat.S_IMODE(found.st_mode):04o}.",
                hint=f"Close it (chmod 600 {path}). Others may have read the keys: consider novadex keys rotate.",
            )
        content = os.read(descriptor, FILE_BYTES_MAX + 1)
    finally:
        os.close(descriptor)
    if len(content) > FILE_BYTES_MAX:
        _refuse(path, f"it has more than {FILE_BYTES_MAX} bytes")
    return content


def _decode(path: Path, content: bytes) -> KeyFile:
    reason = "it is not UTF-8 text"
    with suppress(UnicodeDecodeError):
        try:
            return msgspec.json.decode(content, type=KeyFile)
        except msgspec.MsgspecError as error:
            reason = str(error)  # names the place, never a value
    return _refuse(path, reason)


def _new_entry(version: int, randomness: Callable[[int], bytes]) -> KeyEntry:
    return KeyEntry(version, randomness(MASTER_KEY_BYTES), datetime.now(UTC).replace(microsecond=0))


def _write(path: Path, content: KeyFile) -> None:
    """Replace the file: a reader sees the old keys or the new ones, also after a crash."""
    path = path.resolve()
    temporary = path.with_name(f".{path.name}.tmp")  # one writer at a time: the lock is held
    with suppress(FileNotFoundError):
        temporary.unlink()
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")
        file.flush()
        os.fsync(descriptor)
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make names in the folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One writer at a time, of all processes of this machine."""
    lock = path.with_name(f".{path.name}.lock")
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(
            f"The folder of the master keys, {path.parent}, cannot be used: {error.strerror}.",
            hint="Make it, writable for this user only (mkdir -m 700), or set NOVADEX_MASTER_KEY_FILE.",
        ) from None
    try:
        end = time.monotonic() + LOCK_WAIT_S_MAX
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise TimeoutExceededError(
                        f"Another process has held {lock} for {LOCK_WAIT_S_MAX:.0f} s.",
                        hint="Look for a novadex process that hangs.",
                    ) from None
                time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


def _list(versions: list[int]) -> str:
    return ", ".join(str(version) for version in sorted(versions))


def _refuse(path: Path, reason: str) -> KeyFile:
    raise ConfigurationError(
        f"The master keys in {path} cannot be used: {reason}.",
        hint="Restore the file from its copy: without it nobody can read the personal data.",
    )
