"""What ``novadex up``, ``down`` and ``status`` do, without the command line around it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from novadex.errors import UnavailableError
from novadex.instance import Process, read_instance, write_instance
from novadex.local.announcer import Display
from novadex.local.folder import check_ours, lock_holder, make_data_dir, try_lock
from novadex.local.processes import wait_until
from novadex.local.status import Report, report
from novadex.local.supervisor import Supervisor, end_orphans
from novadex.settings import Settings

BUSY_S_MAX = 90.0
"""How long to wait for another command that holds the folder, such as a `down`."""
STOP_S_MAX = 120.0
"""How long `down` waits for the supervisor to stop everything in good order."""
END_S_MAX = 10.0

Say = Callable[[str], None]


def run_in_foreground(
    data_dir: Path,
    settings: Settings,
    display: Display,
    *,
    demo: bool = False,
) -> Report | None:
    """Start everything, with ``demo`` simulated trading too, and stay until a signal asks to stop.

    Returns a report where another supervisor runs in this folder already, else None when all has stopped.
    """
    make_data_dir(data_dir)
    end = time.monotonic() + BUSY_S_MAX
    while True:
        with try_lock(data_dir) as lock:
            if lock is not None:
                _supervise(Supervisor(data_dir, settings, display, lock, demo))
                return None
        if lock_holder(data_dir) is not None:
            return report(data_dir)
        if time.monotonic() > end:
            raise UnavailableError(
                f"Another command has held {data_dir} for {BUSY_S_MAX:.0f} s.",
                hint="Look for a novadex process that hangs.",
            )
        time.sleep(0.1)  # a `down` at work, or a supervisor about to sign


def _supervise(supervisor: Supervisor) -> None:
    try:
        supervisor.run()
    except OSError as error:
        raise UnavailableError(
            f"The instance in {supervisor.data_dir} cannot be run: {error.strerror or error}.",
            hint="Is the disk full, or the folder not writable?",
        ) from error


def stop(data_dir: Path, say: Say) -> bool:
    """Stop everything of the folder's instance; returns whether anything ran.

    Raises ``UnavailableError`` where it does not stop within the time.
    """
    if read_instance(data_dir) is None and lock_holder(data_dir) is None:
        return False
    check_ours(data_dir)
    asked: Process | None = None
    begun = time.monotonic()
    while True:
        with try_lock(data_dir) as lock:
            if lock is not None:
                instance = read_instance(data_dir)
                found = end_orphans(instance, say) if instance else 0
                if instance and (found or instance.supervisor):
                    instance.supervisor = None
                    for service in instance.services.values():
                        service.process = None
                        if service.status != "external":
                            service.status, service.detail = "stopped", None
                    write_instance(data_dir, instance)
                if asked:  # it let go of the folder and has only to end
                    _await_end(asked)
                return bool(found or asked)
        holder = lock_holder(data_dir)
        if holder and holder != asked:
            os.kill(holder.pid, signal.SIGTERM)
            asked = holder
        waited = time.monotonic() - begun
        if waited > STOP_S_MAX + 10:
            raise UnavailableError(
                f"The supervisor of {data_dir} does not end.",
                hint="It waits for the disk; look at it, then try again.",
            )
        if waited > STOP_S_MAX and holder:
            say(f"The supervisor {holder.pid} has not stopped within {STOP_S_MAX:.0f} s; ending it by force.")
            os.kill(holder.pid, signal.SIGKILL)
        time.sleep(0.02)


def _await_end(process: Process) -> None:
    wait_until(lambda: not process.alive(), END_S_MAX)


def await_up(data_dir: Path, seconds_max: float) -> Report:
    """Wait until everything that another supervisor started is up.

    Raises ``UnavailableError`` where it is not within the time.
    """
    wait_until(lambda: not (found := report(data_dir)).running or found.all_up(), seconds_max)
    found = report(data_dir)
    if not found.all_up():
        lines = "\n".join(f"    {line}" for line in found.as_table())
        raise UnavailableError(
            f"Another supervisor was starting the instance in {data_dir}, and not everything is up.",
            hint=lines.lstrip(),
        )
    return found
