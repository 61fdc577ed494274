"""Keeps one service running: starts it, waits until it serves, watches it, and starts it again.

A keeper is a thread. It never gives a service up once that has served; while it has not, a few failures in
a row fail the whole `up`, because then something is wrong that trying again will not mend.
"""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import psutil

from novadex.errors import TimeoutExceededError, UnavailableError
from novadex.instance import Process
from novadex.local import ports, processes
from novadex.local.desk import Desk, Failed, Usable
from novadex.local.logs import tail
from novadex.local.service import LocalService, Place

ATTEMPTS_MAX = 3
"""Starts in a row that may fail before the service has served for the first time."""
PORT_CHANGES_MAX = 20
BACK_OFF_S = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Wait before the first, second, ... restart in a row; the last holds for all that follow."""
STEADY_S = 3.0
"""A service that has served this long starts its back-off from the beginning when it dies."""
LOOK_S = 0.05
WATCH_S = 0.2
"""How often a service that serves is looked at: an instance that idles should cost next to nothing."""
CHECK_S = 2.0
STUCK_S_MAX = 30.0
"""A program that has not answered for this long is ended and started again."""
TOOL_S_MAX = 180.0


class StoppingError(Exception):
    """The supervisor stops: the keeper leaves what it was doing."""


class DiedError(Exception):
    """The process ended, or did not come to serve in time."""


@dataclass(slots=True)
class Keeper:
    """One service and its process."""

    service: LocalService
    place: Place
    desk: Desk
    uids: Collection[int]
    process: subprocess.Popen[bytes] | None = None
    tool: subprocess.Popen[bytes] | None = None
    restart_asked: threading.Event = field(default_factory=threading.Event)
    _log_start: int = 0

    def __post_init__(self) -> None:
        if self.service.is_program:
            self.desk.program_restarts.append(self.restart_asked)

    @property
    def mark(self) -> str:
        return processes.mark_of(self.service.name, self.place.instance_id)

    def run(self) -> None:
        """The thread: ends when the supervisor stops, or when the service cannot be brought up."""
        try:
            self._await_needs()
            self._bring_up()
            self._keep()
        except StoppingError:
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the supervisor must hear of it and stop
            self.desk.inbox.put(Failed(self.service.name, error))

    # The way up ------------------------------------------------------------------------------------------

    def _await_needs(self) -> None:
        for name in self.service.needs:
            while not self.desk.usable[name].wait(LOOK_S):
                self._check_stopping()

    def _bring_up(self) -> None:
        for attempts_left in reversed(range(ATTEMPTS_MAX)):
            problem = self._try_to_bring_up()
            if problem is None:
                break
            self._check_stopping()
            if not attempts_left:
                raise problem
            # It may have been killed just now: it gets another chance.
            self.desk.say(f"{problem.message} Trying again.")
        self.desk.record(self.service.name, "healthy")
        self.desk.usable[self.service.name].set()
        self.desk.inbox.put(Usable(self.service.name))

    def _try_to_bring_up(self) -> UnavailableError | None:
        """Start it where it does not run, and set it up; returns what kept it from that and may not next time."""
        if self.process is None or self.process.poll() is not None:
            try:
                self._start()
            except DiedError as error:
                return UnavailableError(f"{self.service.name} {error}.", hint=self._last_words())
        try:
            self.service.set_up()
        except TimeoutExceededError:
            raise
        except UnavailableError as error:
            return error
        return None

    def _start(self) -> None:
        """Start it and wait until it serves, on another port where somebody was faster."""
        for _ in range(PORT_CHANGES_MAX):
            if self.process is not None:
                processes.kill_marked([self.mark], self.uids)
            self.service.prepare(self._run_tool)
            self.desk.record(self.service.name, "starting", port=self.service.port, url=self.service.url())
            process = self._launch(self.service.command())
            try:
                self._await_ready(process)
            except DiedError:
                self._end(process)
                if ports.is_free(self.service.port, self.service.host):
                    raise
                self._change_port()
            else:
                return
        raise DiedError(f"lost {PORT_CHANGES_MAX} ports to other programs")

    def _launch(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        log = self.place.log(self.service.name)
        self._log_start = log.stat().st_size if log.exists() else 0
        with self.desk.start_lock:
            self._check_stopping()
            process = processes.spawn(
                command,
                environment=self.service.environment(),
                folder=self.service.folder,
                log=log,
                user=self.service.user,
            )
            self.process = process
        with suppress(psutil.Error):
            self.desk.record(self.service.name, "starting", process=Process.of(process.pid))
        return process

    def _await_ready(self, process: subprocess.Popen[bytes]) -> None:
        begun = time.monotonic()
        said = False
        while True:
            self._check_stopping()
            code = process.poll()
            if code is not None:
                raise DiedError(_ending(code))
            if self.service.ready(process.pid):
                return
            waited = time.monotonic() - begun
            if waited > self.service.start_s_max:
                raise DiedError(f"did not come to serve within {self.service.start_s_max:.0f} s")
            if waited > 10 and not said:
                said = True
                self.desk.say(f"{self.service.name} takes long to start: {self.service.complaint() or 'not ready'}")
            self.desk.stopping.wait(LOOK_S / 2)

    def _change_port(self) -> None:
        taken = {entry.port for entry in self.desk.instance.services.values() if entry.port}
        old = self.service.port
        self.service.port = ports.choose(
            self.service.name, wanted=(self.service.default_port,), taken=taken, host=self.service.host
        )
        self.desk.say(f"{self.service.name}: port {old} was taken meanwhile, using {self.service.port}")

    def _run_tool(self, command: Sequence[str]) -> None:
        """Run a program of the server to its end."""
        log = self.place.log(self.service.name)
        self._log_start = log.stat().st_size if log.exists() else 0
        with self.desk.start_lock:
            self._check_stopping()
            self.tool = processes.spawn(
                command,
                environment=self.service.environment(),
                folder=self.service.folder,
                log=log,
                user=self.service.user,
            )
        try:
            code = self.tool.wait(TOOL_S_MAX)
        except subprocess.TimeoutExpired:
            self._end(self.tool)
            raise DiedError(f"was not made within {TOOL_S_MAX:.0f} s") from None
        finally:
            self.tool = None
        self._check_stopping()
        if code != 0:
            raise DiedError(f"could not be made: {_ending(code)}")

    # Watching --------------------------------------------------------------------------------------------

    def _keep(self) -> None:
        failures = 0
        while True:
            begun = time.monotonic()
            try:
                reason = self._watch()
            except StoppingError:
                raise
            except Exception as error:  # noqa: BLE001 - a fault of ours must not end servers that serve
                reason = f"cannot be watched ({error})"
            served_s = time.monotonic() - begun
            failures = 1 if served_s > STEADY_S else failures + 1
            failures = self._start_again(reason, failures)

    def _watch(self) -> str:
        """Returns when the process has to be started again, with the reason."""
        process = self.process
        assert process is not None  # noqa: S101 - for the type checker
        checked = answered = time.monotonic()
        while not self.desk.stopping.wait(WATCH_S):
            code = process.poll()
            if code is not None:
                return _ending(code)
            if self.restart_asked.is_set():
                self.restart_asked.clear()
                self.halt()
                return "has to learn the new address of a server"
            now = time.monotonic()
            if now - checked < CHECK_S:
                continue
            checked = now
            complaint = self.service.complaint()
            if process.poll() is not None:
                continue
            if complaint is None:
                answered = now
                self.desk.record(self.service.name, "healthy")
                continue
            self.desk.record(self.service.name, "unhealthy", detail=complaint)
            if self.service.is_program and now - answered > STUCK_S_MAX:
                self._end(process)
                return f"has not answered for {STUCK_S_MAX:.0f} s and was ended"
        raise StoppingError

    def _start_again(self, reason: str, failures: int) -> int:
        """Start until it serves again; returns the failures in a row so far."""
        while True:
            pause_s = BACK_OFF_S[min(failures, len(BACK_OFF_S)) - 1]
            later = f" in {pause_s:g} s" if pause_s else ""
            self.desk.say(f"{self.service.name} {reason}; starting it again{later}")
            self.desk.record(self.service.name, "unhealthy", detail=f"{reason}; it is started again")
            if self.desk.stopping.wait(pause_s):
                raise StoppingError
            port = self.service.port
            try:
                self._start()
            except StoppingError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, it is tried again
                self._check_stopping()
                failures += 1
                reason = f"did not start ({error})"
                if failures == len(BACK_OFF_S):
                    self.desk.say(self._last_words())
                continue
            self.desk.record(self.service.name, "healthy")
            self.desk.say(f"{self.service.name} serves again")
            if self.service.port != port and not self.service.is_program:
                self.desk.restart_programs()
            return failures

    # The way down ----------------------------------------------------------------------------------------

    def halt(self) -> None:
        """Stop the process in good order, harder where it does not stop; nothing of it is left after this.

        Called by the supervisor after it has set ``stopping`` and waited for a start under way.
        """
        try:
            self._halt()
        except UnavailableError as error:
            self.desk.say(str(error))

    def _halt(self) -> None:
        tool = self.tool
        if tool is not None:
            self._end(tool)
        process = self.process
        if process is None:
            return
        for step in self.service.stop_steps:
            if process.poll() is not None:
                break
            with suppress(ProcessLookupError):
                process.send_signal(step.number)
            seconds = min(step.seconds_max, 2.0) if self.desk.hurry.is_set() else step.seconds_max
            end = time.monotonic() + seconds
            while process.poll() is None and time.monotonic() < end:
                if self.desk.hurry.is_set():
                    end = min(end, time.monotonic() + 2.0)
                time.sleep(0.01)
            if process.poll() is None:
                self.desk.say(f"{self.service.name} has not stopped within {seconds:.0f} s; stopping it harder")
        self._end(process)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None:
            processes.signal_group(process.pid, signal.SIGKILL)
            with suppress(ProcessLookupError):
                process.kill()
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
        processes.kill_marked([self.mark], self.uids)

    def _check_stopping(self) -> None:
        if self.desk.stopping.is_set():
            raise StoppingError

    def _last_words(self) -> str:
        log = self.place.log(self.service.name)
        lines = tail(log, since=self._log_start)
        if not lines:
            return f"It wrote nothing to {log}."
        return f"The last lines of {log}:\n" + "\n".join(f"    {line}" for line in lines)


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
