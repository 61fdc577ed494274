"""Anchors: what the end of the chain was, kept outside the database.

A superuser can rewrite the log and its whole chain so that both agree. What was written down elsewhere does not
agree then. The file is JSON Lines; every line is on disk before sealing goes on. Keep copies where whoever rules the
database cannot reach them.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from novadex.errors import ConfigurationError

if TYPE_CHECKING:
    from novadex.settings import Settings

FILE_NAME = "audit-anchors.jsonl"
LINE_BYTES_MAX = 65_536
"""No line is longer: what is longer was not written here."""


class Acknowledgement(msgspec.Struct, frozen=True):
    """Somebody says that they know of every restore and every rewritten table before this line."""

    why: str
    by: str
    at: str


class Anchor(msgspec.Struct, frozen=True, omit_defaults=True):
    """The chain as it was at a moment."""

    position: int
    chain_hash: str
    at: str
    """When, by the clock of the database server."""
    system: str
    """System identifier of the cluster."""
    epoch: int
    """Raised by every restore."""
    since: int = 0
    """Position of the line before: a line that is missing is noticed."""
    snapshot: str = ""
    """Transactions whose rows are all sealed, as ``pg_current_snapshot`` prints it; empty where that is not sure."""
    touched: tuple[int, ...] = ()
    """How many rows were changed that nobody may change, as the server's statistics count: see ``TOUCHED``."""
    files: tuple[int, ...] = ()
    """Object id and file number of each of ``TABLES``: emptying a table or writing it anew changes its file."""
    acknowledged: Acknowledgement | None = None
    """On a line that repeats the one before."""


TOUCHED: tuple[tuple[str, Literal["edit", "delete"]], ...] = (
    ("audit_log", "edit"),
    ("audit_log", "delete"),
    ("audit_chain", "edit"),
    ("audit_chain", "delete"),
    ("audit_pending", "edit"),
)
"""Which table and what each number of ``Anchor.touched`` counts."""
TABLES = ("audit_log", "audit_chain", "audit_pending")
"""Whose files ``Anchor.files`` tells."""


def anchor_path(settings: Settings, data_dir: Path | None) -> Path:
    """NOVADEX_AUDIT_ANCHOR_FILE, else in the data folder."""
    if settings.audit_anchor_file is not None:
        return settings.audit_anchor_file.expanduser()
    if data_dir is None:
        raise ConfigurationError(
            "There is no place for the anchors of the audit log.", hint="Set NOVADEX_AUDIT_ANCHOR_FILE."
        )
    return data_dir / FILE_NAME


def append_anchor(path: Path, anchor: Anchor) -> None:
    """Write a line, durably. A line that a crash cut off before is ended first: the file is only ever added to."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = not path.exists()
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            size = os.fstat(descriptor).st_size
            cut_off = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            content = (b"\n" if cut_off else b"") + msgspec.json.encode(anchor) + b"\n"
            while content:
                content = content[os.write(descriptor, content) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if new:
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except OSError as error:
        raise ConfigurationError(
            f"The anchor of the audit log cannot be written to {path}: {error.strerror or error}.",
            hint="Make room and the file writable, or set NOVADEX_AUDIT_ANCHOR_FILE.",
        ) from error


def last_anchor(path: Path) -> Anchor | None:
    """The last line that can be read, of the last 64 KiB; None where there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - LINE_BYTES_MAX))
            lines = file.read(LINE_BYTES_MAX).split(b"\n")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error) from error
    return next((anchor for line in reversed(lines) if (anchor := parse(line)) is not None), None)


def read_lines(path: Path, start: int = 0, end: int | None = None) -> Iterator[tuple[int, bytes]]:
    """The lines between two places of the file, each with its place. Nothing where there is no file."""
    try:
        with path.open("rb") as file:
            place = file.seek(start)
            while end is None or place < end:
                line = file.readline(LINE_BYTES_MAX)
                if not line:
                    return
                yield place, line.rstrip(b"\n")
                place += len(line)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unreadable(path, error) from error


def parse(line: bytes) -> Anchor | None:
    """The anchor of a line, None where it is none."""
    try:
        return msgspec.json.decode(line, type=Anchor)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def cut_off(line: bytes) -> bool:
    """Whether the line is the beginning of an anchor, as a crash in the middle of writing leaves it."""
    begin = b'{"position":'
    return (begin.startswith(line) or line.startswith(begin)) and not line.endswith(b"}")


def _unreadable(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"The anchors of the audit log cannot be read from {path}: {error.strerror or error}.",
        hint="Allow it, or set NOVADEX_AUDIT_ANCHOR_FILE.",
    )
