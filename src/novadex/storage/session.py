"""One connection in use: the calls that a transaction and a database share."""

from __future__ import annotations

import itertools
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, LiteralString, TypeVar

from psycopg import AsyncRawCursor, AsyncRawServerCursor, IsolationLevel, ProgrammingError
from psycopg.rows import args_row, class_row, scalar_row

from novadex import metrics
from novadex.storage.queries import Query
from novadex.storage.rows import Row, row_factory

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from psycopg import AsyncConnection, AsyncCopy

T = TypeVar("T")
Statement = LiteralString | Query
"""Literal SQL with ``$1`` parameters, or a named query: nothing else type-checks."""

STREAM_BATCH_ROWS = 1_000
_stream_numbers = itertools.count(1)


def name_of(statement: Statement) -> str:
    return statement.name if isinstance(statement, Query) else "literal"


def sql_of(statement: Statement) -> LiteralString:
    return statement.sql if isinstance(statement, Query) else statement


class Session:
    """A connection inside a transaction; ``Database.transaction`` makes it.

    Every call takes literal SQL with ``$1`` parameters, or a ``Query`` of a ``.sql`` file.
    """

    def __init__(self, connection: AsyncConnection[Any], database: str) -> None:
        self.connection = connection
        self.database = database

    async def query(self, statement: Statement, parameters: Sequence[Any] = ()) -> list[Row]:
        """All rows, as mappings with attribute access. A statement without a result gives none."""
        return await self._fetch(statement, parameters, row_factory)

    async def one(self, statement: Statement, parameters: Sequence[Any] = ()) -> Row | None:
        """The first row, or None."""
        rows = await self.query(statement, parameters)
        return rows[0] if rows else None

    async def value(self, statement: Statement, parameters: Sequence[Any] = ()) -> Any:
        """The first column of the first row, or None."""
        rows = await self._fetch(statement, parameters, scalar_row)
        return rows[0] if rows else None

    async def records(self, kind: type[T], statement: Statement, parameters: Sequence[Any] = ()) -> list[T]:
        """All rows as objects of a class, by column name."""
        return await self._fetch(statement, parameters, class_row(kind))

    async def made(self, make: Callable[..., T], statement: Statement, parameters: Sequence[Any] = ()) -> list[T]:
        """All rows through a function that takes the columns in order."""
        return await self._fetch(statement, parameters, args_row(make))

    async def execute(self, statement: Statement, parameters: Sequence[Any] = ()) -> int:
        """Run it; returns how many rows it changed or read (-1 in a pipeline, where the answer comes later)."""
        async with self._timed(statement):
            cursor = AsyncRawCursor(self.connection)
            async with cursor:
                await cursor.execute(sql_of(statement), parameters)
                return cursor.rowcount

    async def stream(
        self, statement: Statement, parameters: Sequence[Any] = (), batch_rows: int = STREAM_BATCH_ROWS
    ) -> AsyncIterator[Row]:
        """Row by row through a server-side cursor: memory holds ``batch_rows`` at most."""
        name = f"novadex_stream_{next(_stream_numbers)}"
        async with AsyncRawServerCursor(self.connection, name, row_factory=row_factory) as cursor:
            cursor.itersize = batch_rows
            async with self._timed(statement):
                await cursor.execute(sql_of(statement), parameters)
            async for row in cursor:
                yield row

    @asynccontextmanager
    async def copy_in(self, statement: Statement) -> AsyncIterator[AsyncCopy]:
        """``COPY ... FROM STDIN``: ``write`` bytes or ``write_row`` sequences to what it yields."""
        async with (
            self._timed(statement),
            AsyncRawCursor(self.connection) as cursor,
            cursor.copy(sql_of(statement)) as copy,
        ):
            yield copy

    async def copy_out(self, statement: Statement, parameters: Sequence[Any] = ()) -> AsyncIterator[bytes]:
        """``COPY ... TO STDOUT``: the data in pieces, as they come."""
        async with (
            AsyncRawCursor(self.connection) as cursor,
            cursor.copy(sql_of(statement), parameters) as copy,
        ):
            async for piece in copy:
                yield bytes(piece)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Session]:
        """A part that can be undone by itself (a savepoint)."""
        async with self.connection.transaction():
            yield self

    @asynccontextmanager
    async def pipeline(self) -> AsyncIterator[Session]:
        """Send what follows without waiting for each answer; errors come at the end of the block."""
        async with self.connection.pipeline():
            yield self

    async def _fetch(self, statement: Statement, parameters: Sequence[Any], factory: Any) -> list[Any]:
        async with self._timed(statement):
            cursor = AsyncRawCursor(self.connection, row_factory=factory)
            async with cursor:
                await cursor.execute(sql_of(statement), parameters)
                try:
                    return await cursor.fetchall()
                except ProgrammingError:
                    # Only now, for in a pipeline nothing is known before it is fetched.
                    if cursor.description is None:
                        return []
                    raise

    @asynccontextmanager
    async def _timed(self, statement: Statement) -> AsyncIterator[None]:
        started = time.perf_counter()
        try:
            yield
        except Exception as error:
            code = getattr(error, "sqlstate", None) or type(error).__name__
            metrics.query_errors.labels(self.database, code).inc()
            raise
        finally:
            metrics.query_seconds.labels(self.database, name_of(statement)).observe(time.perf_counter() - started)


ISOLATION_LEVELS = {
    "read committed": IsolationLevel.READ_COMMITTED,
    "repeatable read": IsolationLevel.REPEATABLE_READ,
    "serializable": IsolationLevel.SERIALIZABLE,
}
