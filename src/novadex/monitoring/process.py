"""What this process uses of the machine."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

import psutil

from novadex.monitoring.checks import Status

VERSION = version("novadex")
MEMORY_SHARE_MAX = 0.9
"""A process that uses more of what it may is degraded."""
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True, slots=True)
class MemoryHealth:
    """Memory of this process."""

    status: Status
    latency_ms: float
    error: str | None
    rss_bytes: int
    limit_bytes: int
    """What the process may use: the machine's memory, or less where a control group bounds it."""


@dataclass(frozen=True, slots=True)
class ProcessUse:
    """Figures of this process."""

    resident_bytes: int
    virtual_bytes: int
    cpu_s: float
    open_fds: int
    threads: int
    started_s: float
    """In seconds since 1970."""


@cache
def _process() -> psutil.Process:
    return psutil.Process()


@cache
def memory_limit_bytes() -> int:
    """The memory of the machine, or the limit of the control group where that is lower."""
    limit = psutil.virtual_memory().total
    for path in CGROUP_LIMITS:
        try:
            text = Path(path).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit():
            limit = min(limit, int(text))
    return limit


def memory_health() -> MemoryHealth:
    """Memory of this process now; asks no server."""
    started = time.perf_counter()
    rss_bytes = _process().memory_info().rss
    limit_bytes = memory_limit_bytes()
    error = None
    if rss_bytes > MEMORY_SHARE_MAX * limit_bytes:
        error = f"The process uses {rss_bytes} of {limit_bytes} bytes that it may."
    latency_ms = round((time.perf_counter() - started) * 1000, 3)
    return MemoryHealth("degraded" if error else "healthy", latency_ms, error, rss_bytes, limit_bytes)


def process_use() -> ProcessUse:
    """Figures of this process now."""
    process = _process()
    with process.oneshot():
        memory = process.memory_info()
        times = process.cpu_times()
        return ProcessUse(
            resident_bytes=memory.rss,
            virtual_bytes=memory.vms,
            cpu_s=times.user + times.system,
            open_fds=process.num_fds(),
            threads=process.num_threads(),
            started_s=process.create_time(),
        )


def uptime_s() -> float:
    """Seconds since this process started."""
    return round(time.time() - _process().create_time(), 3)


def instance_name(program: str) -> str:
    """What tells this process from others, such as ``api@host:4711``; at most 200 characters."""
    return f"{program}@{platform.node()[:150]}:{_process().pid}"
