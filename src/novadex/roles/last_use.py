"""When sessions and API keys were last used: noted in memory, written soon, many in one statement."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from uuid import UUID

import psycopg
import structlog

from novadex.errors import NovaDexError

WRITE_INTERVAL_S = 1.0
NOTED_MAX = 100_000
BATCH_ROWS = 1_000

log = structlog.get_logger("novadex.roles")


class LastUse:
    """Notes uses. A process that is killed loses those of the last second."""

    def __init__(self, of: str, write: Callable[[list[UUID], list[datetime]], Awaitable[object]]) -> None:
        self._of = of
        self._write = write
        self._noted: dict[UUID, float] = {}
        self._writer: asyncio.Task[None] | None = None

    def note(self, id: UUID, at: float) -> None:
        """It was used then, in seconds since 1970."""
        if len(self._noted) < NOTED_MAX or id in self._noted:
            self._noted[id] = at
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(
                self._write_soon(), name=f"novadex use of {self._of}"
            )

    async def close(self) -> None:
        """Write what was noted."""
        writer, self._writer = self._writer, None
        if writer is not None and not writer.done():
            writer.cancel()
            with suppress(asyncio.CancelledError):
                await writer
        with suppress(NovaDexError, psycopg.Error):
            await self._write_all()

    async def _write_soon(self) -> None:
        while self._noted:
            await asyncio.sleep(WRITE_INTERVAL_S)
            try:
                await self._write_all()
            except (NovaDexError, psycopg.Error) as error:
                log.warning("last uses could not be written", of=self._of, error=str(error).strip())

    async def _write_all(self) -> None:
        while self._noted:
            batch = dict(list(self._noted.items())[:BATCH_ROWS])
            await self._write(list(batch), [datetime.fromtimestamp(at, UTC) for at in batch.values()])
            for id, at in batch.items():
                if self._noted.get(id) == at:
                    del self._noted[id]
