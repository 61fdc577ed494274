"""The list of erased users outside the database: a restore of the database does not bring it back to an older state.

One JSON object a line, and a line counts when its newline is on the disk:

    {"user_id":"019b...","erased_at":"2026-01-01T00:00:00Z"}
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from novadex.errors import ConfigurationError, TimeoutExceededError
from novadex.keys.master_key_file import sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from novadex.settings import Settings

FILE_NAME = "erasures.jsonl"
LOCK_WAIT_S_MAX = 10.0
TAIL_BYTES_MAX = 4096
"""No line is longer."""


class ErasureLine(msgspec.Struct, frozen=True):
    """One erasure."""

    user_id: UUID
    erased_at: datetime


@dataclass(frozen=True, slots=True)
class ErasureList:
    """What the file says."""

    lines: tuple[ErasureLine, ...]
    damaged: tuple[int, ...]
    """Numbers of lines that cannot be read: somebody has to look who they were."""


def erasure_path(settings: Settings, data_dir: Path | None) -> Path:
    """Where the list is.

    Raises ``ConfigurationError`` where there is no place for it.
    """
    if settings.erasure_file is not None:
        return settings.erasure_file.expanduser().absolute()
    if data_dir is None:
        raise ConfigurationError(
            "There is no place for the list of erased users.", hint="Set NOVADEX_ERASURE_FILE or NOVADEX_DATA_DIR."
        )
    return data_dir / FILE_NAME


def read_erasures(path: Path) -> ErasureList:
    """All lines that count; empty where there is no file. What stands behind the last newline was cut off by a
    crash before it was acknowledged, unless it is whole."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            _refuse_of_others(path, descriptor)
            content = file.read()
    except FileNotFoundError:
        return ErasureList((), ())
    except OSError as error:
        raise _unusable(path, error) from None
    *whole, tail = content.split(b"\n")
    lines: list[ErasureLine] = []
    damaged: list[int] = []
    for number, text in enumerate(whole, start=1):
        line = _decode(text)
        if line is not None:
            lines.append(line)
        elif text.strip():
            damaged.append(number)
    last = _decode(tail)
    return ErasureList((*lines, last) if last else tuple(lines), tuple(damaged))


def append_erasures(path: Path, erasures: Iterable[ErasureLine]) -> None:
    """Add lines. When this returns they are on the disk. It waits for the disk: call it off the event loop."""
    new = b"".join(msgspec.json.encode(erasure) + b"\n" for erasure in erasures)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            _refuse_of_others(path, descriptor)
            with _locked(descriptor, path):
                _mend_tail(descriptor)
                _write(descriptor, new)
                os.fsync(descriptor)
            sync_folder(path.parent)  # the name, too: another process may have made the file a moment ago
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _unusable(path, error) from None


def _refuse_of_others(path: Path, descriptor: int) -> None:
    found = os.fstat(descriptor)
    if found.st_uid != os.geteuid():
        raise ConfigurationError(
            f"The list of erased users in {path} belongs to user {found.st_uid}, and this is user {os.geteuid()}.",
            hint="Run the program as that user; or see that it names nobody who was not erased, and give it to this"
            " user (chown).",
        )
    if found.st_mode & 0o022:
        raise ConfigurationError(
            f"Others may write to the list of erased users in {path}: its mode is {stat.S_IMODE(found.st_mode):04o}.",
            hint=f"Close it (chmod 600 {path}), and see that it names nobody who was not erased.",
        )


def _mend_tail(descriptor: int) -> None:
    """End what has no newline: a whole line is kept, a piece of one, which nobody acknowledged, is cut off."""
    while size := os.fstat(descriptor).st_size:
        start = max(0, size - TAIL_BYTES_MAX)
        tail = os.pread(descriptor, size - start, start).rpartition(b"\n")[2]
        if not tail:
            return
        if _decode(tail) is not None:
            _write(descriptor, b"\n")
            return
        os.ftruncate(descriptor, size - len(tail))


def _write(descriptor: int, content: bytes) -> None:
    written = 0
    while written < len(content):
        written += os.write(descriptor, content[written:])


def _decode(text: bytes) -> ErasureLine | None:
    try:
        return msgspec.json.decode(text, type=ErasureLine)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


@contextmanager
def _locked(descriptor: int, path: Path) -> Iterator[None]:
    end = time.monotonic() + LOCK_WAIT_S_MAX
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > end:
                raise TimeoutExceededError(
                    f"Another process has held {path} for {LOCK_WAIT_S_MAX:.0f} s.",
                    hint="Look for a novadex process that hangs.",
                ) from None
            time.sleep(0.005)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _unusable(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"The list of erased users in {path} cannot be used: {error.strerror or error}.",
        hint="Make its folder writable for this user and room on its disk, or set NOVADEX_ERASURE_FILE."
        " Without the list nobody is erased.",
    )
