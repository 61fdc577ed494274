"""The logs of the servers: kept to a bounded size, and read at their end when something fails."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

SIZE_BYTES_MAX = 16 * 1024 * 1024
KEPT = 2
"""Older files kept beside the current one."""
LINES = 12
_TAIL_BYTES = 16 * 1024


def turn_over(log: Path) -> None:
    """Where the log has grown too big, keep its content as ``.1`` and empty it.

    The file stays the same, because servers and programs hold it open, and append.
    """
    try:
        if log.stat().st_size < SIZE_BYTES_MAX:
            return
    except FileNotFoundError:
        return
    for number in range(KEPT, 1, -1):
        older = log.with_name(f"{log.name}.{number - 1}")
        if older.exists():
            older.replace(log.with_name(f"{log.name}.{number}"))
    copy = log.with_name(f"{log.name}.1")
    shutil.copyfile(log, copy)
    copy.chmod(0o600)
    os.truncate(log, 0)


def tail(log: Path, *, since: int = 0, lines: int = LINES) -> list[str]:
    """The last lines, none of them from before byte ``since``."""
    try:
        with log.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(min(since, end), end - _TAIL_BYTES))
            text = file.read(_TAIL_BYTES).decode(errors="replace")
    except FileNotFoundError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip()][-lines:]
