"""Listens on a port and serves an application until a program is told to stop."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import threading
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import structlog
import uvicorn

from novadex.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator

    from starlette.types import ASGIApp

    from novadex.storage.connection import DatabaseConnection

BACKLOG_MAX = 1_024
CONNECTIONS_MAX = 1_000
"""Further requests are answered with 503."""
KEEP_ALIVE_S = 30
SHUTDOWN_S_MAX = 2
CLOSE_S_MAX = 0.5
END_S_MAX = 5.0

log = structlog.get_logger("novadex.http")


class Server(uvicorn.Server):
    """Leaves the signals to the program, which has more to end than its server."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(host: str, port: int, variable: str) -> socket.socket:
    """A listening socket; ``variable`` is the setting that chooses the port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG_MAX)
    except OSError as error:
        raise ConfigurationError(
            f"Cannot listen on {host}:{port}: {error.strerror or error}.",
            hint=f"Choose a free port with {variable}, or end what uses this one.",
        ) from None


async def serve(app: ASGIApp, listener: socket.socket, stop: asyncio.Event) -> None:
    """Serve until ``stop``; requests under way get a moment to end."""
    server = Server(
        uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            # Else any client on this machine could say where it comes from: Access.address_of believes proxies alone
            # that are named in NOVADEX_TRUSTED_PROXIES.
            proxy_headers=False,
            limit_concurrency=CONNECTIONS_MAX,
            backlog=BACKLOG_MAX,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=SHUTDOWN_S_MAX,
        )
    )
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="novadex http server")
    host, port = listener.getsockname()[:2]
    log.info("listening", host=host, port=port)
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.set()
        stopped.cancel()
        server.should_exit = True
        await serving


def stop_on_signals() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set. The program then ends within ``END_S_MAX``, whatever hangs: a
    cancelled query waits for its server, and all work here may be cut off at any moment."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def end() -> None:
        stop.set()
        last_resort = threading.Timer(END_S_MAX, os._exit, [0])
        last_resort.daemon = True
        last_resort.start()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    return stop


@asynccontextmanager
async def closing_in_time(database: DatabaseConnection) -> AsyncIterator[DatabaseConnection]:
    """The databases of a program. At its end it does not wait for servers that do not answer."""
    try:
        yield database
    finally:
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S_MAX):
                await database.close()


async def run_together(stop: asyncio.Event, *parts: Coroutine[Any, Any, None]) -> None:
    """Run the parts of a program; the end of one, or its failure, ends all."""
    # What the program is made of is never garbage, and looking through it stops everything for 60 to 90 ms.
    gc.collect()
    gc.freeze()

    async def run(part: Coroutine[Any, Any, None]) -> None:
        try:
            await part
        finally:
            stop.set()

    for result in await asyncio.gather(*(run(part) for part in parts), return_exceptions=True):
        if result is not None:
            raise result
