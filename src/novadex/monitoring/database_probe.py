"""Looks at a PostgreSQL: it answers, takes writes, and has the schema that this version needs."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from psycopg import errors

from novadex.errors import ConfigurationError, UnavailableError
from novadex.monitoring.bounded import BoundedConnection
from novadex.storage.migrations import Database as DatabaseName
from novadex.storage.migrations import database_folder
from novadex.storage.queries import load_queries

if TYPE_CHECKING:
    from novadex.storage.rows import Row
    from novadex.storage.session import Session

QUERIES = load_queries(Path(__file__).with_name("queries.sql"))


@cache
def expected_step(database: DatabaseName) -> str:
    """The last schema step of this version.

    >>> expected_step("main") >= "0002"
    True
    """
    folder = database_folder() / "migrations" / database
    return max(path.stem for path in folder.glob("*.sql") if not path.stem.endswith(".rollback"))


class DatabaseProbe:
    """Through a connection of its own, so that a full pool does not look like a dead server."""

    def __init__(self, name: DatabaseName, connection: BoundedConnection) -> None:
        self.name: DatabaseName = name
        self.connection = connection

    async def look(self, deadline_s: float) -> str | None:
        try:
            row = await self.connection.run(_read_health, deadline_s)
        except (errors.UndefinedFunction, errors.InvalidSchemaName):
            raise ConfigurationError(f"The database {self.name} has no schema yet: run novadex migrate.") from None
        if row.read_only:
            raise UnavailableError(f"The database {self.name} takes no writes: it is a standby or set to read only.")
        wanted = expected_step(self.name)
        # Steps are numbered: a later one was made by a later version, which keeps what this one needs.
        if row.schema_step < wanted:
            raise ConfigurationError(
                f"The schema of {self.name} is at step {row.schema_step}, this version needs {wanted}:"
                " run novadex migrate."
            )
        return None

    async def close(self) -> None:
        await self.connection.close()


async def _read_health(session: Session) -> Row:
    return (await session.query(QUERIES.health))[0]
