"""``DatabaseConnection``: the two databases and the replicas of an instance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from novadex.errors import TimeoutExceededError, UnavailableError
from novadex.instance import Endpoints, Role, find_endpoints
from novadex.settings import Settings, load_settings
from novadex.storage.database import Database
from novadex.storage.replicas import Replicas

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from novadex.storage.database import Isolation
    from novadex.storage.rows import Row
    from novadex.storage.session import Session, Statement


class DatabaseConnection:
    """Both databases of an instance, each with its pool.

    ``main`` and ``analytics`` are ``Database`` objects with all calls: one row, one value, records,
    streams, COPY, transactions, pipelines. ``query`` and ``analytics_query`` are the short way.
    """

    _instance: DatabaseConnection | None = None

    def __init__(self, endpoints: Endpoints, settings: Settings) -> None:
        self.settings = settings
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

    async def close(self) -> None:
        """Close all pools."""
        await self.replicas.close()
        await self.main.close()
        await self.analytics.close()
        if DatabaseConnection._instance is self:
            DatabaseConnection._instance = None

    async def __aenter__(self) -> DatabaseConnection:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
