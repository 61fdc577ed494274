"""What names of hosts stand for, asked in threads of its own: a question to the resolver cannot be taken back."""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

LOOK_UPS_MAX = 64
"""At once, in one process: more than attempts, for a look-up can outlast the attempt that wanted it."""

Addresses = list[tuple[Any, ...]]


class NameLookUp:
    """Looks up names, each only once at a time: one whose servers are slow holds one thread, however many deliveries
    wait for it, and goes on holding it when they gave up."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(LOOK_UPS_MAX, thread_name_prefix="novadex-names")
        self._free = asyncio.Semaphore(LOOK_UPS_MAX)
        self._running: dict[str, asyncio.Future[Addresses]] = {}

    def close(self) -> None:
        """Let go of the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def look_up(self, host: str) -> Addresses:
        """As ``socket.getaddrinfo`` answers for TCP. Raises ``OSError`` and ``UnicodeError``."""
        if host not in self._running:
            await self._free.acquire()
            if host in self._running:
                self._free.release()
            else:
                self._begin(host)
        return await asyncio.shield(self._running[host])

    def _begin(self, host: str) -> None:
        def ended(look_up: asyncio.Future[Addresses]) -> None:
            del self._running[host]
            self._free.release()
            if not look_up.cancelled():
                look_up.exception()  # also where nobody waits for it any more

        running = asyncio.get_running_loop().run_in_executor(self._threads, _ask, host)
        self._running[host] = running
        running.add_done_callback(ended)


def _ask(host: str) -> Addresses:
    return list(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP))
