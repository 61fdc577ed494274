"""Group commit: many callers wait, one transaction writes what they brought, each gets its own answer.

While a batch is being written the next one gathers, so the batch is as large as the load asks for and one
caller alone waits for nobody.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from novadex.errors import OverloadedError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Item = TypeVar("Item")
Result = TypeVar("Result")
ItemIn_contra = TypeVar("ItemIn_contra", contravariant=True)
ResultOut_co = TypeVar("ResultOut_co", covariant=True)


class Writer(Protocol[ItemIn_contra, ResultOut_co]):
    """What writes a batch; each writer of a committer has one of its own, with its own connection."""

    async def write(self, batch: Sequence[ItemIn_contra]) -> Sequence[ResultOut_co | Exception]:
        """One outcome for each item, in order, only after the commit."""
        ...

    async def close(self) -> None: ...


class GroupCommitter(Generic[Item, Result]):
    """Collects items and writes them in batches.

    ``queue_max`` items may wait; past that ``submit`` waits for room, at most ``wait_s_max`` seconds. A
    caller that is cancelled while its item waits takes it back; once it is being written, it is written.
    """

    def __init__(
        self,
        open_writer: Callable[[], Writer[Item, Result]],
        *,
        batch_max: int,
        queue_max: int,
        wait_s_max: float,
        writers: int = 2,
    ) -> None:
        self._open_writer = open_writer
        self._batch_max = batch_max
        self._queue_max = queue_max
        self._wait_s_max = wait_s_max
        self._writers = writers
        self._queue: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._idle: deque[asyncio.Future[None]] = deque()
        self._wants_room: deque[asyncio.Future[None]] = deque()
        self._tasks: list[asyncio.Task[None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = False

    def waiting(self) -> int:
        """How many items wait to be written."""
        return len(self._queue)

    async def submit(self, item: Item) -> Result:
        """Hand an item in and wait until it is committed; raises the item's own error."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._start(loop)
        if len(self._queue) >= self._queue_max:
            await self._wait_for_room(loop)
        if self._closing:
            raise UnavailableError("This service is closing and takes nothing more.", hint="Send it elsewhere.")
        future: asyncio.Future[Result] = loop.create_future()
        self._queue.append((item, future))
        _wake_one(self._idle)
        return await future

    async def close(self, timeout_s: float = 30.0) -> None:
        """Write what waits, at most for ``timeout_s``; what then still waits gets ``UnavailableError``."""
        self._closing = True
        if self._loop is asyncio.get_running_loop() and self._tasks:
            while self._idle:
                _wake_one(self._idle)
            _, late = await asyncio.wait(self._tasks, timeout=timeout_s)
            for task in late:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        for _, future in self._queue:
            if not future.done():
                future.set_exception(
                    UnavailableError("The service closed before this was written.", hint="Send it again.")
                )
        self._queue.clear()
        self._tasks = []

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._queue and self._loop is not None and not self._loop.is_closed():
            raise RuntimeError("a group committer belongs to one event loop, and another one still uses it")
        self._queue.clear()
        self._idle.clear()
        self._wants_room.clear()
        self._loop = loop
        self._tasks = [
            loop.create_task(self._write_batches(), name=f"novadex group commit {n}") for n in range(self._writers)
        ]

    async def _wait_for_room(self, loop: asyncio.AbstractEventLoop) -> None:
        deadline = loop.time() + self._wait_s_max
        while len(self._queue) >= self._queue_max and not self._closing:
            room: asyncio.Future[None] = loop.create_future()
            self._wants_room.append(room)
            try:
                async with asyncio.timeout_at(deadline):
                    await room
            except TimeoutError:
                raise OverloadedError(
                    f"{self._queue_max} writes wait already, and none was done within {self._wait_s_max:g} s.",
                    hint="Send less at once, or raise NOVADEX_GROUP_COMMIT_QUEUE_MAX.",
                ) from None

    async def _write_batches(self) -> None:
        loop = asyncio.get_running_loop()
        writer = self._open_writer()
        try:
            while True:
                while not self._queue:
                    if self._closing:
                        return
                    idle: asyncio.Future[None] = loop.create_future()
                    self._idle.append(idle)
                    await idle
                await self._write_batch(writer)
        finally:
            await writer.close()

    async def _write_batch(self, writer: Writer[Item, Result]) -> None:
        items: list[Item] = []
        futures: list[asyncio.Future[Result]] = []
        while self._queue and len(items) < self._batch_max:
            item, future = self._queue.popleft()
            if not future.done():  # else the caller was cancelled and took it back
                items.append(item)
                futures.append(future)
        for _ in range(min(len(self._wants_room), self._batch_max)):
            _wake_one(self._wants_room)
        if not items:
            return
        try:
            outcomes: Sequence[Result | Exception] = await writer.write(items)
        except asyncio.CancelledError:
            self._answer(futures, [UnavailableError("The service closed while this was being written.")] * len(items))
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to the callers
            outcomes = [error] * len(items)
        self._answer(futures, outcomes)

    @staticmethod
    def _answer(futures: list[asyncio.Future[Result]], outcomes: Sequence[Result | Exception]) -> None:
        for future, outcome in zip(futures, outcomes, strict=True):
            if future.done():
                continue
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)


def _wake_one(waiting: deque[asyncio.Future[None]]) -> None:
    while waiting:
        future = waiting.popleft()
        if not future.done():
            future.set_result(None)
            return
