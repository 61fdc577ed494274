"""Connections that do not wait for ever for a server that has stopped answering.

The server itself bounds statements, locks and idle transactions. A server that is frozen, or behind a network
that swallows packets, bounds nothing, and the operating system keeps such a connection for as long as packets
are acknowledged. So whoever has waited long is looked after from outside: a second connection is tried, and
where that gets no answer either, the first one is hung up.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakMethod

import psycopg
from psycopg import AsyncConnection, errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg.abc import PQGen

T = TypeVar("T")


def hang_up(connection: AsyncConnection[Any]) -> None:
    """End a connection without a word to the server: whoever waits on it fails at once."""
    with suppress(OSError, psycopg.Error):
        line = socket.socket(fileno=connection.fileno())  # no descriptor of its own: there may be none left
        try:
            line.shutdown(socket.SHUT_RDWR)
        finally:
            line.detach()


class WatchedConnection(AsyncConnection[Any]):
    """A connection whose server is looked after whenever it has not answered for ``patience_s``.

    A statement may run for longer than that where its own timeout allows it: only a server that does not
    answer a new connection within ``probe_s_max`` is given up.
    """

    patience_s: float = 35.0
    probe_s_max: int = 5
    _waiting_since: float | None = None
    _watch: asyncio.TimerHandle | None = None
    _probe: asyncio.Task[None] | None = None
    _closing = False

    async def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        loop = asyncio.get_running_loop()
        self._waiting_since = loop.time()
        if self._watch is None:
            # One timer for many waits: most are over before it would be worth arming another.
            self._watch = loop.call_later(self.patience_s, _look, WeakMethod(self._look))
        try:
            return await super().wait(gen, interval, timeout)
        finally:
            self._waiting_since = None
            if self._probe is not None:
                self._probe.cancel()
                self._probe = None
            if self._closing:
                await super().close()

    async def close(self) -> None:
        """Close it. While somebody waits on it, it is hung up, and closed when they have failed: libpq would go on in
        memory that is free by then, and may end the program."""
        if self._waiting_since is None:
            await super().close()
        else:
            self._closing = True
            hang_up(self)

    @contextmanager
    def answering_within(self, seconds: float) -> Iterator[None]:
        """What is called in the block fails where the server needs longer."""
        watch = asyncio.get_running_loop().call_later(seconds, hang_up, self)
        try:
            yield
        finally:
            watch.cancel()

    def _look(self) -> None:
        self._watch = None
        if self._waiting_since is None or self.closed:
            return
        loop = asyncio.get_running_loop()
        patience_left = self._waiting_since + self.patience_s - loop.time()
        if patience_left > 0:
            self._watch = loop.call_later(patience_left, _look, WeakMethod(self._look))
        elif self._probe is None:
            self._probe = loop.create_task(self._hang_up_on_silence(), name="novadex probe")

    async def _hang_up_on_silence(self) -> None:
        arguments = {**self.info.get_parameters(), "password": self.info.password}
        while True:
            try:
                probe = await AsyncConnection.connect(**{**arguments, "connect_timeout": self.probe_s_max})
            except errors.ConnectionTimeout:
                hang_up(self)
                return
            except psycopg.Error:
                pass  # it answers, though it takes no more connections; if it is gone, the socket says so
            else:
                await probe.close()
            await asyncio.sleep(self.patience_s)


def _look(method: WeakMethod[Any]) -> None:
    look = method()
    if look is not None:
        look()
