"""One PostgreSQL database: a pool of connections, bounds on every wait, retries where they are safe."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeVar
from weakref import WeakSet

import psycopg
from psycopg_pool import AsyncConnectionPool

from novadex import metrics
from novadex.errors import ConfigurationError, NovaDexError, UnavailableError, UsageError
from novadex.settings import POSTGRES_SCHEMES, check_url
from novadex.storage.failures import ROLLED_BACK, connection_lost, refused_to_connect, translate
from novadex.storage.session import ISOLATION_LEVELS, STREAM_BATCH_ROWS, Session, Statement
from novadex.storage.watched import WatchedConnection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from psycopg import AsyncConnection, AsyncCopy

    from novadex.settings import Settings
    from novadex.storage.rows import Row

T = TypeVar("T")
P = ParamSpec("P")

ATTEMPTS_MAX = 5
BACKOFF_S = 0.02
POOL_WAITING_MAX = 10_000
TRANSACTION_TIMEOUT_SINCE = 170_000
ANSWER_GRACE_S = 5.0
"""How long after the statement timeout the server itself is doubted."""

Isolation = Literal["read committed", "repeatable read", "serializable"]


class Database:
    """One database. The pool opens with the first call and belongs to the running event loop."""

    def __init__(self, name: str, url: str, settings: Settings) -> None:
        self.name = name
        self.settings = settings
        self._url = url
        self._pool: AsyncConnectionPool[WatchedConnection] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connections: WeakSet[WatchedConnection] = WeakSet()
        self._refusal: str | None = None
        """Why the last attempt to connect failed."""

    def __repr__(self) -> str:
        return f"Database({self.name!r})"

    def _readable_url(self) -> str:
        try:
            check_url(self._url, POSTGRES_SCHEMES)
        except ValueError as error:
            raise ConfigurationError(f"The URL of {self.name} is wrong: {error}.") from None
        return self._url

    # Life of the pool

    async def _pool_of_loop(self) -> AsyncConnectionPool[WatchedConnection]:
        self._enter_loop()
        if self._pool is None:
            self._pool = AsyncConnectionPool(
                self._readable_url(),
                connection_class=self._connection_class(),
                kwargs=self.connection_arguments(),
                min_size=1,
                max_size=self.settings.pool_size_max,
                timeout=self.settings.pool_wait_s_max,
                max_waiting=POOL_WAITING_MAX,
                reconnect_timeout=self.settings.pool_wait_s_max,
                configure=self.configure,
                name=self.name,
                open=False,
            )
            await self._pool.open(wait=False)
        return self._pool

    def _enter_loop(self) -> None:
        """Note the running event loop. What belongs to one that has ended is closed: nothing can be awaited on it."""
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return
        if self._loop is not None and self._loop.is_running():
            raise UsageError(
                f"The connections to {self.name} belong to another event loop, which still runs.",
                hint="Make a DatabaseConnection for each event loop.",
            )
        self._loop, self._pool = loop, None
        for connection in self._connections:
            connection.pgconn.finish()
        self._connections.clear()

    def _connection_class(self) -> type[WatchedConnection]:
        """The class of this database's connections: it remembers why it could not connect, and whom it made."""
        database = self

        class Connection(WatchedConnection):
            patience_s = database.settings.statement_timeout_ms / 1000 + ANSWER_GRACE_S
            probe_s_max = database.settings.connect_timeout_s

            @classmethod
            async def connect(cls, conninfo: str = "", **arguments: Any) -> Any:
                try:
                    connection = await super().connect(conninfo, **arguments)
                except psycopg.Error as error:
                    database._refusal = str(error).strip()
                    raise
                database._refusal = None
                database._connections.add(connection)
                return connection

        return Connection

    async def close(self) -> None:
        """Close the pool; the next call opens a new one."""
        self._enter_loop()
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close(timeout=self.settings.pool_wait_s_max)

    def pool_state(self) -> dict[str, int]:
        """Counts of the pool: ``pool_size``, ``pool_available``, ``requests_waiting`` and what psycopg adds."""
        return self._pool.get_stats() if self._pool else {}

    def connection_arguments(self) -> dict[str, Any]:
        """What every connection is opened with."""
        return {
            "autocommit": True,
            "connect_timeout": self.settings.connect_timeout_s,
            "application_name": f"novadex {self.name}",
            "prepare_threshold": None if self.settings.pgbouncer else 2,
            "keepalives_idle": 30,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": self.settings.statement_timeout_ms + 10_000,
        }

    async def configure(self, connection: AsyncConnection[Any]) -> None:
        """Bound what the session may wait for, and make its commits durable. A PgBouncer keeps no session: there
        each transaction does it."""
        if not self.settings.pgbouncer:
            await self._set_up(connection, for_transaction=False)

    async def _set_up(self, connection: AsyncConnection[Any], *, for_transaction: bool) -> None:
        settings = self.settings
        limits = {
            "statement_timeout": settings.statement_timeout_ms,
            "lock_timeout": settings.lock_timeout_ms,
            "idle_in_transaction_session_timeout": settings.idle_in_transaction_timeout_ms,
        }
        if connection.info.server_version >= TRANSACTION_TIMEOUT_SINCE:
            limits["transaction_timeout"] = settings.transaction_timeout_ms
        # What is acknowledged must outlive a crash, a revocation above all, whatever the server or the role is set
        # to; what waits for replicas too stays as it is.
        await connection.execute(
            "SELECT set_config(name, value || 'ms', %(local)s)"
            " FROM unnest(%(names)s::text[], %(values)s::text[]) AS limits (name, value)"
            " UNION ALL"
            " SELECT set_config('synchronous_commit', CASE found WHEN 'off' THEN 'on' ELSE found END, %(local)s)"
            " FROM current_setting('synchronous_commit') AS found",
            {"local": for_transaction, "names": list(limits), "values": [str(value) for value in limits.values()]},
        )

    # Sessions

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection[Any]]:
        """A connection of the pool, in autocommit. Servers that do not answer raise ``UnavailableError``."""
        try:
            pool = await self._pool_of_loop()
            connection = await self._take(pool)
            try:
                async with connection:
                    yield connection
            finally:
                await pool.putconn(connection)
        except Exception as error:
            known = translate(error, self.name, self._refusal)
            if known is not None:
                raise known from error
            raise

    async def _take(self, pool: AsyncConnectionPool[WatchedConnection]) -> WatchedConnection:
        """A connection of the pool that was seen to work. After a restart of the server many stand there that
        do not: each is found out at once and replaced."""
        deadline = time.monotonic() + self.settings.pool_wait_s_max
        while True:
            connection = await pool.getconn(max(deadline - time.monotonic(), 0.0))
            try:
                with connection.answering_within(self.settings.connect_timeout_s):
                    await pool.check_connection(connection)
            except psycopg.OperationalError:
                await connection.close()
                await pool.putconn(connection)
            except BaseException:
                await pool.putconn(connection)
                raise
            else:
                return connection

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """A session in autocommit; behind a PgBouncer it is one transaction."""
        async with self.connection() as connection:
            if self.settings.pgbouncer:
                async with connection.transaction():
                    await self._set_up(connection, for_transaction=True)
                    yield Session(connection, self.name)
            else:
                yield Session(connection, self.name)

    @asynccontextmanager
    async def transaction(
        self, isolation: Isolation = "read committed", *, read_only: bool = False
    ) -> AsyncIterator[Session]:
        """A transaction: committed at the end of the block, undone by an exception. Nest with
        ``session.transaction()``. It is not retried: for that, see ``run``."""
        async with self.connection() as connection:
            await connection.set_isolation_level(ISOLATION_LEVELS[isolation])
            await connection.set_read_only(read_only or None)
            try:
                async with connection.transaction():
                    if self.settings.pgbouncer:
                        await self._set_up(connection, for_transaction=True)
                    yield Session(connection, self.name)
            finally:
                if not connection.closed:
                    await connection.set_isolation_level(None)
                    await connection.set_read_only(None)

    async def run(
        self,
        work: Callable[Concatenate[Session, P], Awaitable[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run ``work(session, ...)`` in a serializable transaction, again where the server undid it
        (serialization failure, deadlock) or where the connection was lost before the commit was sent.

        ``work`` must change nothing outside the transaction.
        """

        async def attempt(state: dict[str, bool]) -> T:
            async with self.transaction("serializable") as session:
                result = await work(session, *args, **kwargs)
                state["commit_sent"] = True
                return result

        return await self._retrying(attempt)

    async def _retrying(self, attempt: Callable[[dict[str, bool]], Awaitable[T]]) -> T:
        for number in range(1, ATTEMPTS_MAX + 1):
            state = {"commit_sent": False}
            try:
                return await attempt(state)
            except Exception as error:
                cause = error.__cause__ or error
                again = isinstance(cause, ROLLED_BACK) or (connection_lost(cause) and not state["commit_sent"])
                if not again or refused_to_connect(cause):
                    raise
                if number == ATTEMPTS_MAX:
                    if isinstance(error, NovaDexError):
                        raise
                    raise UnavailableError(
                        f"The server undid this on {self.name} {ATTEMPTS_MAX} times: {cause}.",
                        hint="Others work on the same rows. Try again later, or do less at once.",
                    ) from error
                code = getattr(cause, "sqlstate", None) or "connection_lost"
                metrics.query_retries.labels(self.name, code).inc()
                # Full jitter: those who collided do not meet again.
                await asyncio.sleep(random.uniform(0, BACKOFF_S * 2**number))  # noqa: S311 - no secret
        raise AssertionError("unreachable")

    async def _once(self, call: Callable[[Session], Awaitable[T]], *, read_only: bool = False) -> T:
        """One statement: run again where the server undid it; after a lost connection only if it only reads."""

        async def attempt(state: dict[str, bool]) -> T:
            state["commit_sent"] = not read_only
            async with self.session() as session:
                return await call(session)

        return await self._retrying(attempt)

    # One statement

    async def query(
        self, statement: Statement, parameters: Sequence[Any] = (), *, read_only: bool = False
    ) -> list[Row]:
        """All rows of one statement. ``read_only`` allows a retry after a lost connection."""
        return await self._once(lambda session: session.query(statement, parameters), read_only=read_only)

    async def one(
        self, statement: Statement, parameters: Sequence[Any] = (), *, read_only: bool = False
    ) -> Row | None:
        """The first row, or None."""
        return await self._once(lambda session: session.one(statement, parameters), read_only=read_only)

    async def value(self, statement: Statement, parameters: Sequence[Any] = (), *, read_only: bool = False) -> Any:
        """The first column of the first row, or None."""
        return await self._once(lambda session: session.value(statement, parameters), read_only=read_only)

    async def records(
        self, kind: type[T], statement: Statement, parameters: Sequence[Any] = (), *, read_only: bool = False
    ) -> list[T]:
        """All rows as objects of a class, by column name."""
        return await self._once(lambda session: session.records(kind, statement, parameters), read_only=read_only)

    async def made(
        self,
        make: Callable[..., T],
        statement: Statement,
        parameters: Sequence[Any] = (),
        *,
        read_only: bool = False,
    ) -> list[T]:
        """All rows through a function that takes the columns in order."""
        return await self._once(lambda session: session.made(make, statement, parameters), read_only=read_only)

    async def execute(self, statement: Statement, parameters: Sequence[Any] = ()) -> int:
        """Run it; returns how many rows it changed."""
        return await self._once(lambda session: session.execute(statement, parameters))

    async def stream(
        self, statement: Statement, parameters: Sequence[Any] = (), batch_rows: int = STREAM_BATCH_ROWS
    ) -> AsyncIterator[Row]:
        """Row by row with bounded memory."""
        async with self.transaction(read_only=True) as session:
            async for row in session.stream(statement, parameters, batch_rows):
                yield row

    @asynccontextmanager
    async def copy_in(self, statement: Statement) -> AsyncIterator[AsyncCopy]:
        """``COPY ... FROM STDIN`` as a transaction of its own: an exception in the block leaves nothing."""
        async with self.session() as session, session.copy_in(statement) as copy:
            yield copy

    async def copy_out(self, statement: Statement, parameters: Sequence[Any] = ()) -> AsyncIterator[bytes]:
        """``COPY ... TO STDOUT``, in pieces."""
        async with self.session() as session:
            async for piece in session.copy_out(statement, parameters):
                yield piece

    async def dedicated(self) -> AsyncConnection[Any]:
        """A connection outside the pool, for a program that keeps one; the caller closes it."""
        self._enter_loop()
        try:
            connection = await self._connection_class().connect(self._readable_url(), **self.connection_arguments())
        except psycopg.Error as error:
            raise UnavailableError(
                f"No connection to {self.name}: {str(error).strip()}.",
                hint="Is the server running? See novadex status.",
            ) from error
        try:
            await self.configure(connection)
        except BaseException as error:
            await connection.close()
            known = translate(error, self.name) if isinstance(error, psycopg.Error) else None
            if known is not None:
                raise known from error
            raise
        return connection
