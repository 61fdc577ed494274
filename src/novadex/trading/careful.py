"""Batches that are written fast where all is well, then carefully: what writers of trades and of orders share."""

from __future__ import annotations

import asyncio
import random
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import psycopg
from psycopg import errors

from novadex.errors import NovaDexError
from novadex.storage.failures import ROLLED_BACK, connection_lost, translate
from novadex.storage.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from novadex.storage.database import Database

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

GIVE_UP_AFTER_S = 8.0
"""How long a batch is tried again while the server is away: long enough for a restart."""
PAUSE_S = 0.05


class FastThenCareful(ABC, Generic[Item, Outcome]):
    """Writes batches on a connection of its own, which it opens when it needs it.

    Whatever the fast way meets leads to the careful way, which must be safe to take at any time and again:
    after a lost connection nobody knows whether the batch was committed.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: psycopg.AsyncConnection[Any] | None = None

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                await connection.close()

    @abstractmethod
    async def _fast(self, batch: list[Item]) -> list[Outcome | Exception]:
        """Raises whatever goes wrong."""

    @abstractmethod
    async def _careful(self, batch: list[Item]) -> list[Outcome | Exception]:
        """Every item gets its own outcome. Raises only where the server cannot be used."""

    @abstractmethod
    def _unwritten(self, error: Exception, item: Item) -> Exception:
        """The error of one item of a batch that could not be written."""

    async def _session(self) -> Session:
        if self._connection is None or self._connection.closed:
            self._connection = await self._database.dedicated()
        return Session(self._connection, self._database.name)

    async def _carry_out(self, batch: list[Item], *, fast: bool = True) -> list[Outcome | Exception]:
        """One outcome for each item, in order."""
        give_up_at = time.monotonic() + GIVE_UP_AFTER_S
        pause_s = PAUSE_S
        while True:
            try:
                return await (self._fast(batch) if fast else self._careful(batch))
            except (NovaDexError, psycopg.Error) as error:
                if isinstance(error, psycopg.Error) and connection_lost(error):
                    await self.close()
                if isinstance(error, (errors.IntegrityError, errors.DataError)) and fast:
                    pass  # the careful way finds out which item it is
                elif not worth_another_try(error) or time.monotonic() + pause_s > give_up_at:
                    return [self._unwritten(error, item) for item in batch]
                else:
                    await asyncio.sleep(random.uniform(pause_s / 2, pause_s))  # noqa: S311 - no secret
                    pause_s *= 2
            fast = False


def worth_another_try(error: Exception) -> bool:
    if isinstance(error, NovaDexError):
        return error.retryable
    return isinstance(error, ROLLED_BACK) or connection_lost(error)


def unwritten(error: Exception, database: str, **details: Any) -> Exception:
    """An error of the server as one of NovaDex, with what to retry with."""
    known = error if isinstance(error, NovaDexError) else translate(error, database)
    if known is None:
        return error
    return type(known)(known.message, hint=known.hint, **{**known.details, **details})


def months(moments: Iterable[datetime]) -> list[datetime]:
    """One moment of each month."""
    return list({(moment.year, moment.month): moment for moment in moments}.values())


def is_missing_partition(error: Exception) -> bool:
    return isinstance(error, errors.CheckViolation) and error.diag.constraint_name is None
