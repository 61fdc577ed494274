"""Starting processes, stopping them, and finding those that a killed supervisor left behind.

Every process of an instance carries a mark, made of the service's name and the instance's id: servers in
their command line, which everybody may read, and programs in their environment. So it is found even if
nobody had the time to write its number down, and nothing else is mistaken for it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from novadex.errors import ConfigurationError, UnavailableError
from novadex.local.users import ServerUser

MARK_VARIABLE = "NOVADEX_SERVICE_MARK"
_SERVER_PROGRAMS = ("postgres", "initdb", "valkey-server")
_POLL_S = 0.02


def mark_of(service: str, instance_id: str) -> str:
    return f"novadex-{service}-{instance_id}"


def spawn(
    command: Sequence[str], *, environment: Mapping[str, str], folder: Path, log: Path, user: ServerUser | None
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, so that a Ctrl-C at the terminal reaches the supervisor only."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    try:
        return subprocess.Popen(
            list(command),
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=0o077,
            user=user.uid if user else None,
            group=user.gid if user else None,
            extra_groups=user.groups if user else None,
        )
    except FileNotFoundError:
        raise ConfigurationError(
            f"{command[0]} is missing.", hint="Install NovaDex's dependencies again (make setup)."
        ) from None
    except OSError as error:
        raise UnavailableError(
            f"{command[0]} could not be started: {error.strerror or error}.",
            hint="Look at the limits of this user (ulimit -a) and at the file's permissions.",
        ) from error
    finally:
        os.close(descriptor)


def wait_until(condition: Callable[[], bool], seconds_max: float) -> bool:
    """Whether the condition held within the time."""
    end = time.monotonic() + seconds_max
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(_POLL_S)
    return True


def signal_group(pid: int, number: signal.Signals) -> None:
    """Signal the process and those it started that stayed in its group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def marked(marks: Collection[str], uids: Collection[int]) -> list[psutil.Process]:
    """The living processes of these users that carry one of the marks."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        with suppress(psutil.Error, OSError), process.oneshot():
            if process.uids().real in uids and process.status() != psutil.STATUS_ZOMBIE and _carries(process, marks):
                found.append(process)
    return found


def _carries(process: psutil.Process, marks: Collection[str]) -> bool:
    if process.name() in _SERVER_PROGRAMS:
        line = " ".join(process.cmdline())
        return any(mark in line for mark in marks)
    if process.uids().real != os.geteuid():
        return False
    return process.environ().get(MARK_VARIABLE) in marks


def command_line(pid: int) -> str:
    """How the process was called; empty where there is none, or only its remains."""
    try:
        return " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return ""


def kill_marked(marks: Collection[str], uids: Collection[int], seconds_max: float = 10.0) -> int:
    """Kill every process with one of the marks and wait until all are gone; returns how many there were.

    Raises ``UnavailableError`` where one does not go, which only a hanging disk can cause.
    """
    killed: set[int] = set()

    def gone() -> bool:
        left = marked(marks, uids)
        for process in left:
            killed.add(process.pid)
            with suppress(psutil.Error):
                process.kill()
        return not left

    if not wait_until(gone, seconds_max):
        raise UnavailableError(
            f"Processes {', '.join(map(str, sorted(killed)))} did not end within {seconds_max:.0f} s of SIGKILL.",
            hint="They wait for the disk; look at it, then try again.",
        )
    return len(killed)


def stop_marked(marks: Collection[str], uids: Collection[int], number: signal.Signals, seconds_max: float) -> int:
    """Stop what carries a mark in good order, then by force; returns how many processes there were."""
    found = marked(marks, uids)
    ids = {process.pid for process in found}
    for process in found:
        with suppress(psutil.Error):
            if process.ppid() not in ids:  # the server, not those that it started
                process.send_signal(number)
    if found:
        wait_until(lambda: not marked(marks, uids), seconds_max)
    kill_marked(marks, uids)
    return len(found)


def listens(pid: int, port: int) -> bool:
    """Whether the process, or one that it started, listens on the port; True where we may not know."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        return any(
            link.status == psutil.CONN_LISTEN and link.laddr.port == port
            for member in family
            for link in member.net_connections(kind="tcp")
        )
    except psutil.AccessDenied:
        return True
    except psutil.Error:
        return False
