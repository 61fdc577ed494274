"""Work that callers at the same moment share."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


class SingleFlight:
    """At most one run of ``work`` at a time; a caller who gives up does not end it for the others."""

    def __init__(self, work: Callable[[], Coroutine[object, object, None]]) -> None:
        self._work = work
        self._task: asyncio.Task[None] | None = None

    async def join(self) -> None:
        """Wait for the run under way, or for a new one. Its error is raised."""
        task = self._under_way()
        if task is None:
            task = self._task = asyncio.create_task(self._work(), name="novadex keys")
            task.add_done_callback(_note)
        await asyncio.shield(task)

    async def join_new(self, enough: Callable[[], bool] = lambda: False) -> None:
        """Wait for a run that began after this call: one under way may have looked too early, unless after it there
        is ``enough``."""
        task = self._under_way()
        if task is not None:
            await asyncio.wait({task})
            if enough():
                return
        await self.join()

    async def close(self) -> None:
        task = self._under_way()
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    def _under_way(self) -> asyncio.Task[None] | None:
        task = self._task
        if task is None or task.done() or task.get_loop() is not asyncio.get_running_loop():
            return None
        return task


def _note(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()  # seen, also where every caller has given up
