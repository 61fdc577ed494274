"""``DatabaseConnection``: the two databases and the replicas of an instance."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from psycopg.pq import TransactionStatus

from novadex.errors import ConfigurationError, TimeoutExceededError, UnavailableError
from novadex.ids import parse_id
from novadex.instance import Endpoints, Role, find_endpoints
from novadex.settings import Settings, load_settings
from novadex.storage.database import Database
from novadex.storage.replicas import Replicas

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path
    from uuid import UUID

    from novadex.storage.database import Isolation
    from novadex.storage.rows import Row
    from novadex.storage.session import Session, Statement


ACT_FOR_USER = (
    "SELECT set_config('novadex.user_id', $1, true), current_user = 'novadex_user' AND row_security_active('users')"
    " AS scoped"
)
ACT_FOR_NOBODY = "SELECT set_config('novadex.user_id', '', false)"


class Companion(Protocol):
    """What lives and ends with a connection."""

    async def close(self) -> None: ...


C = TypeVar("C", bound=Companion)


class DatabaseConnection:
    """Both databases of an instance, each with its pool.

    ``main`` and ``analytics`` are ``Database`` objects with all calls: one row, one value, records,
    streams, COPY, transactions, pipelines. ``query`` and ``analytics_query`` are the short way.
    """

    _instance: DatabaseConnection | None = None

    def __init__(self, endpoints: Endpoints, settings: Settings) -> None:
        self.settings = settings
        self.endpoints = endpoints
        self._companions: dict[Callable[..., Any], Companion] = {}
        self.main = Database("main", endpoints.main, settings)
        self.analytics = Database("analytics", endpoints.analytics, settings)
        self.replicas = Replicas(self.main, endpoints.replicas, settings)

    @classmethod
    def connect(
        cls, *, data_dir: Path | None = None, role: Role = "app", settings: Settings | None = None
    ) -> DatabaseConnection:
        """The databases of an instance, found by ``data_dir``, else as every command finds it."""
        settings = settings or load_settings()
        return cls(find_endpoints(settings, data_dir, role, databases_only=True), settings)

    @classmethod
    def get_instance(cls) -> DatabaseConnection:
        """The connection that this process shares, made at the first call."""
        if cls._instance is None:
            cls._instance = cls.connect()
        return cls._instance

    async def query(self, statement: Statement, parameters: Sequence[Any] = ()) -> list[Row]:
        """All rows from the main database."""
        return await self.main.query(statement, parameters)

    async def analytics_query(self, statement: Statement, parameters: Sequence[Any] = ()) -> list[Row]:
        """All rows from the analytics database."""
        return await self.analytics.query(statement, parameters)

    async def read_query(
        self, statement: Statement, parameters: Sequence[Any] = (), *, after: str | None = None
    ) -> list[Row]:
        """All rows of a statement that only reads, from a replica that is not behind, else from the primary.

        ``after`` is what ``write_position`` gave: the read sees that write.
        """
        database = await self.replicas.choose(after)
        if database is not self.main:
            try:
                return await database.query(statement, parameters, read_only=True)
            except TimeoutExceededError:
                raise  # the primary would need as long
            except UnavailableError:
                self.replicas.distrust(database)
        return await self.main.query(statement, parameters, read_only=True)

    async def write_position(self) -> str:
        """Where the log of the primary stands now; pass it to ``read_query`` to read your own writes."""
        return await self.main.value("SELECT pg_current_wal_insert_lsn()::text", read_only=True)

    def transaction(
        self, isolation: Isolation = "read committed", *, read_only: bool = False
    ) -> AbstractAsyncContextManager[Session]:
        """A transaction in the main database."""
        return self.main.transaction(isolation, read_only=read_only)

    @asynccontextmanager
    async def user_transaction(self, user_id: UUID | str) -> AsyncIterator[Session]:
        """A transaction that sees one user's rows and changes nothing, on a connection of the role ``user``
        (``connect(role="user")``). The server itself leaves out all other rows: row-level security.

        The user is set for this transaction only, so that nothing is left in a pooled connection. Do not let
        a user write the SQL: whoever can call ``set_config`` can be another user.
        """
        user = parse_id(user_id, "user_id")
        async with self.main.transaction(read_only=True) as session:
            [row] = await session.query(ACT_FOR_USER, [str(user)])
            if not row.scoped:
                raise ConfigurationError(
                    "This connection sees every user's rows: row-level security does not apply to its role.",
                    hint='Connect with role="user", or with the URL of novadex_user.',
                )
            yield session
            if session.connection.info.transaction_status is TransactionStatus.INTRANS:
                # What was set for the session would outlive the transaction, and act for this user in the next one.
                await session.execute(ACT_FOR_NOBODY)

    def companion(self, kind: Callable[[DatabaseConnection], C]) -> C:
        """What a process has once for each connection to an instance, such as its caches: made by ``kind(self)``
        at the first call, closed with this connection, the last made first."""
        found = self._companions.get(kind)
        if found is None:
            found = self._companions[kind] = kind(self)
        return cast("C", found)

    async def close(self) -> None:
        """Close all pools and what was made beside them."""
        while self._companions:
            await self._companions.pop(next(reversed(self._companions))).close()
        await self.replicas.close()
        await self.main.close()
        await self.analytics.close()
        if DatabaseConnection._instance is self:
            DatabaseConnection._instance = None

    async def __aenter__(self) -> DatabaseConnection:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
