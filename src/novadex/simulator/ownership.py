"""Who simulates a market: one simulation at a time, by advisory locks of a connection that is kept meanwhile.

So they are given back at the end, also where the process is killed.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import psycopg
import structlog

from novadex.errors import ConflictError, UnavailableError
from novadex.storage.database import Database
from novadex.storage.queries import load_queries
from novadex.storage.session import Session

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from novadex.storage.connection import DatabaseConnection

QUERIES = load_queries(Path(__file__).with_name("queries.sql"))
RETRY_S = 0.2

log = structlog.get_logger("novadex.simulator")


class MarketsTakenError(ConflictError):
    """Another simulation is at work in a market."""


class Ownership:
    """Markets that nobody else simulates."""

    def __init__(self, db: DatabaseConnection, market_ids: Sequence[int]) -> None:
        settings = db.settings.model_copy(update={"pgbouncer": False})
        self._database = Database("main", db.endpoints.listen or db.endpoints.main, settings)
        self._market_ids = list(market_ids)
        self._connection: psycopg.AsyncConnection[Any] | None = None

    @asynccontextmanager
    async def held(self) -> AsyncIterator[Ownership]:
        """Own them in the block. Raises ``MarketsTakenError`` where another simulation owns one of them."""
        await self._take()
        try:
            yield self
        finally:
            if self._connection is not None:
                await self._connection.close()

    async def keep(self) -> NoReturn:
        """Take them again whenever the connection was lost, as by a restart of the server."""
        while True:
            if self._connection is None:
                try:
                    await self._take()
                except UnavailableError:
                    await asyncio.sleep(RETRY_S)
            else:
                await self._until_lost(self._connection)

    def check(self) -> None:
        """Raise ``UnavailableError`` while they are not owned, and may be another's."""
        if self._connection is None:
            raise UnavailableError("The connection that owns the simulated markets is lost.", hint="Wait for it.")

    async def _take(self) -> None:
        connection = await self._database.dedicated()
        try:
            taken = await Session(connection, "main").query(QUERIES.taken, [self._market_ids])
        except BaseException as error:
            await connection.close()
            if isinstance(error, psycopg.Error):
                raise UnavailableError(f"No market can be owned: {str(error).strip()}.", hint="Try again.") from error
            raise
        if taken:
            await connection.close()
            raise MarketsTakenError(
                f"Another simulation is at work in {', '.join(row.symbol for row in taken)}.",
                hint="Stop the other one (novadex up --demo runs one), or choose other markets: --first-market.",
            )
        self._connection = connection

    async def _until_lost(self, connection: psycopg.AsyncConnection[Any]) -> None:
        try:
            async for _ in connection.notifies():
                continue
        except psycopg.Error as error:
            log.warning("the simulated markets are taken again", error=str(error).strip()[:300])
        self._connection = None
        await connection.close()
