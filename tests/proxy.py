"""A TCP proxy between a client and a server, to cut, stall and slow their connections."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from urllib.parse import urlsplit, urlunsplit

PIECE_BYTES_MAX = 65_536


class Proxy:
    """Listens on a port of its own and forwards to the server of ``target_url``."""

    def __init__(self, target_url: str, tls: ssl.SSLContext | None = None) -> None:
        self._target = urlsplit(target_url)
        self._tls = tls
        """With it, clients must speak TLS; the server does not."""
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.port = 0
        self.delay_s = 0.0
        """Added to every piece of data, in both directions."""
        self.accepted = 0
        """Connections so far."""
        self.bytes_from_server = 0

    @property
    def url(self) -> str:
        """The target's URL, through the proxy."""
        credentials, separator, _ = self._target.netloc.rpartition("@")
        return urlunsplit(self._target._replace(netloc=f"{credentials}{separator}127.0.0.1:{self.port}"))

    async def accept(self) -> None:
        """Take connections, at the port that it had before."""
        if self._server is None:
            self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port, ssl=self._tls)
            self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Refuse new connections; those that exist go on."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def cut(self) -> None:
        """Reset every connection there is."""
        for writer in list(self._writers):
            writer.transport.abort()

    def stall(self) -> None:
        """Forward nothing, and close nothing: a network that swallows packets."""
        self._flowing.clear()

    def resume(self) -> None:
        self._flowing.set()

    async def close(self) -> None:
        await self.refuse()
        self.cut()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        writers = {writer}
        self._writers.add(writer)
        try:
            await self._flowing.wait()
            upstream_reader, upstream = await asyncio.open_connection(self._target.hostname, self._target.port)
            writers.add(upstream)
            self._writers.add(upstream)
            directions = [
                asyncio.ensure_future(self._forward(reader, upstream, from_server=False)),
                asyncio.ensure_future(self._forward(upstream_reader, writer, from_server=True)),
            ]
            try:
                await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for direction in directions:
                    direction.cancel()
                await asyncio.gather(*directions, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass  # the test is over, or the server is away: the client sees its connection end
        finally:
            for each in writers:
                self._writers.discard(each)
                each.close()
                with suppress(OSError):
                    await each.wait_closed()
            self._tasks.discard(task)

    async def _forward(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, from_server: bool
    ) -> None:
        while piece := await source.read(PIECE_BYTES_MAX):
            await self._flowing.wait()
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            if from_server:
                self.bytes_from_server += len(piece)
            target.write(piece)
            await target.drain()
