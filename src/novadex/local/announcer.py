"""Passes what happens on to a display, without waiting for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, Full, Queue
from typing import Protocol

import msgspec

from novadex.instance import Service

WAITING_MAX = 1000
CLOSE_S_MAX = 2.0


class Display(Protocol):
    """Where the supervisor's words go: a terminal, a log, the command that waits for it."""

    def event(self, text: str) -> None: ...
    def changed(self, services: dict[str, Service]) -> None: ...
    def up(self, services: dict[str, Service]) -> None:
        """Everything is up, for the first time."""
        ...


class Announcer:
    """A display that never blocks: a terminal stopped by Ctrl-S, a full pipe or a hanging disk under the log
    must not keep those who watch the servers from their work. What it cannot take any more is left out."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._waiting: Queue[Callable[[], None] | None] = Queue(WAITING_MAX)
        self._thread = threading.Thread(target=self._pass_on, name="announcer", daemon=True)
        self._thread.start()

    def event(self, text: str) -> None:
        self._put(lambda: self._display.event(text))

    def changed(self, services: dict[str, Service]) -> None:
        now = _as_they_are(services)
        self._put(lambda: self._display.changed(now))

    def up(self, services: dict[str, Service]) -> None:
        now = _as_they_are(services)
        self._put(lambda: self._display.up(now))

    def close(self) -> None:
        """Pass on what waits, as far as the display takes it in a short time."""
        while True:
            try:
                self._waiting.put_nowait(None)
                break
            except Full:
                with suppress(Empty):
                    self._waiting.get_nowait()
        self._thread.join(CLOSE_S_MAX)

    def _put(self, announce: Callable[[], None]) -> None:
        with suppress(Full):
            self._waiting.put_nowait(announce)

    def _pass_on(self) -> None:
        while (announce := self._waiting.get()) is not None:
            with suppress(OSError):  # the terminal is gone, or the log's disk full: the servers go on
                announce()


def _as_they_are(services: dict[str, Service]) -> dict[str, Service]:
    return {name: msgspec.structs.replace(service) for name, service in services.items()}
