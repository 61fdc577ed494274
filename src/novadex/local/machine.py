"""What this machine has: memory that this process may use, and free disk."""

from __future__ import annotations

import shutil
from pathlib import Path

import psutil

MIB = 1024 * 1024
_CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def memory_bytes() -> int:
    """The machine's memory, or the container's limit where that is lower."""
    limits = [psutil.virtual_memory().total]
    for path in _CGROUP_LIMITS:
        try:
            limits.append(int(path.read_text()))
        except (OSError, ValueError):
            continue  # no such limit, or "max"
    return min(limits)


def share_mib(parts: int, *, least: int, most: int) -> int:
    """One of ``parts`` equal parts of the memory, in MiB, within bounds."""
    return max(least, min(most, memory_bytes() // parts // MIB))


def free_disk_mib(folder: Path) -> int:
    return shutil.disk_usage(folder).free // MIB


def shared_memory_mib() -> int | None:
    """Free space for POSIX shared memory; containers often have 64 MiB. None where there is no such folder."""
    try:
        return free_disk_mib(Path("/dev/shm"))  # noqa: S108
    except OSError:
        return None
