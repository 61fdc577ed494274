"""A local instance as a user sees it: the command line, its processes, its folder."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from novadex.local.status import report
from tests.forked import command_line

SERVERS = ("main", "analytics", "cache", "sessions")
SERVICES = (*SERVERS, "api", "worker")
RECOVERED_WITHIN_S = 45.0
STOPPED_WITHIN_S = 5.0


def wait_for(condition: Callable[[], Any], what: str, seconds_max: float = RECOVERED_WITHIN_S) -> Any:
    """The first true value of the condition."""
    end = time.monotonic() + seconds_max
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {seconds_max:.0f} s: {what}"
        time.sleep(0.02)
    return value


@dataclass
class Local:
    """One data folder; ``prefix`` runs the command line as somebody else."""

    data_dir: Path
    environment: dict[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()
    removed: bool = False

    def start(self, *arguments: str, **kwargs: Any) -> subprocess.Popen[str]:
        """Begin a command in a Python of its own; its working folder holds no ``.env``."""
        return self._start([*self.prefix, sys.executable, "-m", "novadex.cli"], *arguments, **kwargs)

    def _start(self, command: list[str], *arguments: str, **kwargs: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*command, *arguments, "--data-dir", str(self.data_dir)],
            env={**os.environ, **self.environment},
            cwd=self.data_dir.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **kwargs,
        )

    def run(self, *arguments: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, and expect its exit code."""
        process = self.start(*arguments) if self.prefix else self._start(command_line(), *arguments)
        try:
            output, errors = process.communicate(timeout=120)
        except BaseException:
            process.kill()
            process.communicate()
            raise
        assert code is None or process.returncode == code, f"{arguments}: {output}{errors}"
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    def up(self) -> str:
        return self.run("up", "--detach").stderr

    def down(self) -> str:
        return self.run("down").stderr

    def status(self) -> dict[str, Any]:
        """What ``novadex status --json`` prints, without the time that a command takes."""
        return report(self.data_dir).as_document()

    def state(self) -> dict[str, Any]:
        """``instance.json``, empty where there is none yet."""
        try:
            return json.loads((self.data_dir / "instance.json").read_text())
        except (FileNotFoundError, NotADirectoryError):
            return {}

    def running(self) -> bool:
        supervisor = self.state().get("supervisor")
        return supervisor is not None and lives(supervisor["pid"])

    def pids(self) -> dict[str, int]:
        """The processes that are written down, by service."""
        services = self.state().get("services", {})
        return {name: entry["process"]["pid"] for name, entry in services.items() if entry["process"]}

    def url(self, name: str) -> str:
        return self.status()["services"][name]["url"]

    def await_recovery(self, killed: dict[str, int]) -> dict[str, int]:
        """Wait until every service is healthy with another process than the one that was killed."""

        def recovered() -> dict[str, int] | None:
            services = self.state()["services"]
            pids = self.pids()
            new = all(pids.get(name) not in (None, pid) for name, pid in killed.items())
            return pids if new and all(s["status"] == "healthy" for s in services.values()) else None

        return wait_for(recovered, f"recovery of {', '.join(killed)}")

    def processes(self) -> list[psutil.Process]:
        """Every living process that belongs to this instance, found without what NovaDex wrote down."""
        state = self.state()
        marks = [str(self.data_dir), *([state["instance_id"]] if state else [])]
        found: list[psutil.Process] = []
        for process in psutil.process_iter():
            try:
                words = " ".join([*process.cmdline(), *process.environ().values()])
                living = process.status() != psutil.STATUS_ZOMBIE
            except psutil.Error:
                continue
            if living and process.pid != os.getpid() and any(mark in words for mark in marks):
                found.append(process)
        return found

    def wait_until_nothing_is_left(self) -> None:
        """A supervisor that says that it failed has this left to do."""
        wait_for(lambda: not self.processes(), "no process of the instance is left", STOPPED_WITHIN_S)

    def remove(self) -> None:
        """Stop what runs, see that nothing is left, and delete the files."""
        if self.removed:
            return
        self.removed = True
        home = self.state().get("home")
        try:
            self.run("down", code=None)
            left = self.processes()
            for process in left:
                process.kill()
            assert not left, f"left behind: {left}"
        finally:
            self.data_dir.unlink() if self.data_dir.is_file() else shutil.rmtree(self.data_dir, ignore_errors=True)
            if home:
                shutil.rmtree(home, ignore_errors=True)


def lives(pid: int) -> bool:
    """Whether the process is there, and is not the remains of one that nobody has reaped."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def is_root() -> bool:
    return os.geteuid() == 0


_STARTS_ITSELF = (
    "import subprocess, sys, novadex; subprocess.run([sys.executable, '-c', 'import novadex'], check=True)"
)


def as_normal_user() -> tuple[str, ...] | str:
    """What to put before a command so that root runs it as nobody; a reason where that is not possible.

    Where this Python is below a private home, nobody is given the right to read it, and no other.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return "setpriv is not installed"
    nobody = pwd.getpwnam("nobody")
    change = (setpriv, f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups")
    reading = (*change, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    for prefix in (change, reading):
        tried = subprocess.run(
            [*prefix, sys.executable, "-c", _STARTS_ITSELF],
            capture_output=True,
            check=False,
            cwd="/",
        )
        if tried.returncode == 0:
            return prefix
    return f"nobody cannot run {sys.executable}: {tried.stderr.decode()[-300:]}"
