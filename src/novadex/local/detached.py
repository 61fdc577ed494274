"""``novadex up --detach``: the supervisor as a process of its own, which says on a pipe how its start went."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import msgspec

from novadex import errors
from novadex.errors import NovaDexError, UnavailableError
from novadex.instance import Service
from novadex.local.commands import Say
from novadex.local.folder import LOG_FILE, make_data_dir
from novadex.local.logs import tail

END_S_MAX = 150.0


class Word(msgspec.Struct, tag_field="kind"):
    """One line that the supervisor says to the command that started it."""


class Event(Word, tag="event"):
    text: str


class Up(Word, tag="up"):
    """Everything is up."""


class AlreadyUp(Word, tag="already"):
    """Another supervisor runs in this folder."""


class NotUp(Word, tag="error"):
    error: str
    message: str
    hint: str | None = None


_Words = Event | Up | AlreadyUp | NotUp


def start(data_dir: Path, say: Say, *, demo: bool = False) -> bool:
    """Start a supervisor and wait until everything is up; False where another runs in this folder already.

    Raises the error of the start; nothing is left running then, nor after a Ctrl-C.
    """
    make_data_dir(data_dir)
    log = data_dir / LOG_FILE
    log_start = log.stat().st_size if log.exists() else 0
    reader, writer = os.pipe()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    try:
        supervisor = subprocess.Popen(
            [sys.executable, "-P", "-m", "novadex.local", str(data_dir), str(writer), *(["demo"] if demo else [])],
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            pass_fds=(writer,),
            start_new_session=True,
        )
    finally:
        os.close(descriptor)
        os.close(writer)
    with os.fdopen(reader, "rb") as pipe, _ending_it_when_interrupted(supervisor):
        for word in _words(pipe):
            match word:
                case Event(text):
                    say(text)
                case Up():
                    return True
                case AlreadyUp():
                    return False
                case NotUp(name, message, hint):
                    with suppress(subprocess.TimeoutExpired):
                        supervisor.wait(END_S_MAX)
                    raise _error(name, message, hint)
        code = supervisor.wait(END_S_MAX)
    lines = "\n".join(f"    {line}" for line in tail(log, since=log_start))
    raise UnavailableError(
        f"The supervisor ended before everything was up (exit code {code}).",
        hint=f"The last lines of {log}:\n{lines}\n  End what it left with: novadex down --data-dir {data_dir}",
    )


def _words(pipe: IO[bytes]) -> Iterator[_Words]:
    decoder = msgspec.json.Decoder(_Words)
    for line in pipe:
        yield decoder.decode(line)


@contextmanager
def _ending_it_when_interrupted(supervisor: subprocess.Popen[bytes]) -> Generator[None]:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        supervisor.terminate()
        with suppress(subprocess.TimeoutExpired):
            supervisor.wait(END_S_MAX)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _error(name: str, message: str, hint: str | None) -> NovaDexError:
    kind = getattr(errors, name, UnavailableError)
    return kind(message, hint=hint)


class PipeDisplay:
    """Says what happens to the waiting command, and to the log."""

    def __init__(self, descriptor: int) -> None:
        self._pipe: IO[bytes] | None = os.fdopen(descriptor, "wb", buffering=0)

    def event(self, text: str) -> None:
        self.log(text)
        self.word(Event(text))

    def changed(self, services: dict[str, Service]) -> None:
        """Not said: what matters comes as an event."""

    def up(self, services: dict[str, Service]) -> None:  # noqa: ARG002
        self.log("Everything is up")
        self.last_word(Up())

    def log(self, text: str) -> None:
        """Write to the log only."""
        with suppress(OSError):  # where the disk is full, the waiting command hears it all the same
            print(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {text}", file=sys.stderr, flush=True)

    def word(self, word: Event | Up | AlreadyUp | NotUp) -> None:
        """Say it to the waiting command, as long as it waits."""
        if self._pipe is not None:
            with suppress(BrokenPipeError):
                self._pipe.write(msgspec.json.encode(word) + b"\n")

    def last_word(self, word: Up | AlreadyUp | NotUp) -> None:
        self.word(word)
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
