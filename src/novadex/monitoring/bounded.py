"""One connection to a database that a hanging server cannot hold on to."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg

from novadex.errors import TimeoutExceededError
from novadex.storage.failures import translate
from novadex.storage.session import Session
from novadex.storage.watched import hang_up

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from psycopg import AsyncConnection

    from novadex.storage.database import Database

T = TypeVar("T")

FAREWELL_S_MAX = 1.0
"""How long an abandoned call may take to notice that its connection was hung up."""


class BoundedConnection:
    """A connection outside the pool. A call that is not done in time is abandoned: the socket is shut
    down on this side, so nothing waits for the server to confirm, and the next call connects anew.

    A server that is stopped or cut off keeps its connections open without answering. To cancel the call
    would mean to ask that server; hanging up does not.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self._connection: AsyncConnection[Any] | None = None
        self._turn = asyncio.Lock()

    async def run(self, work: Callable[[Session], Awaitable[T]], deadline_s: float) -> T:
        """``await work(session)`` in autocommit, one call at a time; after ``deadline_s``, in which
        waiting and connecting count, ``TimeoutExceededError``."""
        deadline = asyncio.get_running_loop().time() + deadline_s
        try:
            async with asyncio.timeout_at(deadline):
                await self._turn.acquire()
        except TimeoutError:
            raise self._too_late(deadline_s) from None
        try:
            return await self._run_until(deadline, work, deadline_s)
        finally:
            self._turn.release()

    async def close(self) -> None:
        """Close the connection; the next call opens a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _run_until(self, deadline: float, work: Callable[[Session], Awaitable[T]], deadline_s: float) -> T:
        task = asyncio.create_task(self._call(work), name=f"novadex {self.database.name} bounded call")
        try:
            await asyncio.wait({task}, timeout=max(0.0, deadline - asyncio.get_running_loop().time()))
        except asyncio.CancelledError:
            await self._abandon(task)
            raise
        if not task.done():
            await self._abandon(task)
            raise self._too_late(deadline_s)
        try:
            return task.result()
        except psycopg.Error as error:
            known = translate(error, self.database.name)
            if known is not None:
                raise known from error
            raise
        finally:
            if self._connection is not None and self._connection.broken:
                await self.close()

    async def _call(self, work: Callable[[Session], Awaitable[T]]) -> T:
        if self._connection is None:
            self._connection = await self.database.dedicated()
        return await work(Session(self._connection, self.database.name))

    async def _abandon(self, task: asyncio.Task[Any]) -> None:
        connection = self._connection
        if connection is None:
            task.cancel()  # it is still connecting
        else:
            hang_up(connection)
        await asyncio.wait({task}, timeout=FAREWELL_S_MAX)
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=FAREWELL_S_MAX)
        if task.done() and not task.cancelled():
            task.exception()  # what it failed with follows from hanging up
        await self.close()

    def _too_late(self, deadline_s: float) -> TimeoutExceededError:
        return TimeoutExceededError(
            f"The database {self.database.name} did not answer within {deadline_s:g} s.",
            hint="Does the server run, and is it overloaded or stopped? See novadex status.",
        )
