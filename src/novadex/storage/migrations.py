"""Schema steps: applied in order, under a lock, with bounds on waiting; each has a way back.

The steps are plain SQL in ``database/migrations/{main,analytics}``, run by yoyo. The lock is an advisory
lock of PostgreSQL, so that it ends with the process that held it, however that ends.
"""

from __future__ import annotations

import os
import socket
import uuid
import warnings
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import psycopg
from psycopg.conninfo import conninfo_to_dict

from novadex.errors import ConfigurationError, TimeoutExceededError, UnavailableError
from novadex.settings import POSTGRES_SCHEMES, check_url, host_of
from novadex.storage.failures import connection_lost
from novadex.storage.queries import load_queries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Database = Literal["main", "analytics"]

LOCK_WAIT_S_MAX = 60
"""How long one migration waits for another."""
LOCK_TIMEOUT_MS = 4_000
"""How long a step waits for a table's lock: a step that queues behind a reader queues all others behind it."""
STATEMENT_TIMEOUT_MS = 600_000
"""How long one statement of a step may run."""
OLDEST_POSTGRES, NEWEST_POSTGRES = 14, 18
QUERIES = load_queries(Path(__file__).with_suffix(".sql"))


def database_folder() -> Path:
    """The folder ``database/``: inside the installed package, or in the checkout."""
    package = Path(__file__).parents[1]
    installed = package / "database"
    return installed if installed.is_dir() else package.parents[1] / "database"


def migrate(url: str, database: Database) -> list[str]:
    """Apply the steps that are missing; returns their ids, in order.

    A schema that was made by the plain SQL file is recognised and only the steps after it are applied.
    Raises ``ConfigurationError`` where a step fails: it leaves nothing behind, and the steps before it stay;
    ``TimeoutExceededError`` where it waited too long for another session.
    """
    with _migrating(url) as connection, _backend(url) as backend:
        steps = _steps(database)
        _correct_marks(connection, backend, steps)
        done = _run(backend.apply_one, backend.to_apply(steps), "apply")
        connection.execute(QUERIES.let_backups_read_marks.sql)
        return done


def roll_back(url: str, database: Database, count: int = 1) -> list[str]:
    """Take the last ``count`` steps back; returns their ids, in order."""
    with _migrating(url) as connection, _backend(url) as backend:
        steps = _steps(database)
        _correct_marks(connection, backend, steps)
        return _run(backend.rollback_one, list(backend.to_rollback(steps))[:count], "roll back")


def pending(url: str, database: Database) -> list[str]:
    """The ids of the steps that are not applied yet."""
    with _connect(url) as connection:
        return [step.id for step in _split(connection, _steps(database))[1]]


def _steps(database: Database) -> Any:
    from yoyo import read_migrations

    folder = database_folder() / "migrations" / database
    if not folder.is_dir():
        raise ConfigurationError(f"The folder {folder} with the schema's steps is missing.", hint="Install again.")
    return read_migrations(str(folder))


def _run(action: Callable[[Any], None], steps: Iterable[Any], verb: str) -> list[str]:
    done: list[str] = []
    for step in steps:
        try:
            action(step)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled) as error:
            raise TimeoutExceededError(
                f"Could not {verb} the schema step {step.id}: {error.diag.message_primary}.",
                hint="Nothing of it remains. Look for long transactions in pg_stat_activity and run it again.",
            ) from error
        except psycopg.Error as error:
            if connection_lost(error):
                raise UnavailableError(
                    f"The connection was lost before the schema step {step.id} was done.",
                    hint="Run it again when the server is back: it goes on where it stopped.",
                ) from error
            raise ConfigurationError(
                f"Could not {verb} the schema step {step.id}: {error.diag.message_primary or str(error).strip()}.",
                hint="Nothing of it remains; correct the cause and run it again.",
            ) from error
        done.append(step.id)
    return done


@contextmanager
def _migrating(url: str) -> Iterator[psycopg.Connection]:
    """A connection that holds the lock of migrations."""
    with _connect(url) as connection:
        _check_version(connection)
        connection.execute("SELECT set_config('lock_timeout', %s, false)", (f"{LOCK_WAIT_S_MAX}s",))
        try:
            connection.execute("SELECT pg_advisory_lock(hashtextextended('novadex.migrations', 0))")
        except psycopg.errors.LockNotAvailable:
            raise TimeoutExceededError(
                f"Another migration of this database has held the lock for {LOCK_WAIT_S_MAX} s.",
                hint="Wait for it, or look for it in pg_stat_activity.",
            ) from None
        yield connection


def _connect(url: str) -> psycopg.Connection:
    try:
        check_url(url, POSTGRES_SCHEMES)
    except ValueError as error:
        raise ConfigurationError(f"The URL of the database is wrong: {error}.") from None
    try:
        return psycopg.connect(url, autocommit=True, connect_timeout=10, application_name="novadex migrate")
    except psycopg.OperationalError as error:
        raise UnavailableError(
            f"No connection to PostgreSQL at {host_of(url)}: {str(error).strip()}.",
            hint="Is the server running, and are user and password right?",
        ) from None


def _check_version(connection: psycopg.Connection) -> None:
    version = connection.info.server_version // 10_000
    if not OLDEST_POSTGRES <= version <= NEWEST_POSTGRES:
        raise ConfigurationError(
            f"The server is PostgreSQL {version}; NovaDex supports {OLDEST_POSTGRES} to {NEWEST_POSTGRES}.",
            hint="Use a supported version.",
        )


@contextmanager
def _backend(url: str) -> Iterator[Any]:
    from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
    from yoyo.connections import DatabaseURI

    class Backend(PostgresqlPsycopgBackend):
        def get_log_data(self, migration: Any = None, operation: str = "apply") -> dict[str, Any]:
            # yoyo asks the network for the host's full name, and fails for a user without a name.
            return {
                "id": str(uuid.uuid4()),
                "migration_id": migration.id if migration else None,
                "migration_hash": migration.hash if migration else None,
                "username": str(os.geteuid()),
                "hostname": socket.gethostname(),
                "created_at_utc": datetime.now(UTC).replace(tzinfo=None),
                "operation": operation,
            }

    parts = conninfo_to_dict(url)
    uri = DatabaseURI(
        scheme="postgresql+psycopg",
        username=parts.pop("user", None),
        password=parts.pop("password", None),
        hostname=parts.pop("host", None),
        port=parts.pop("port", None),
        database=parts.pop("dbname", None) or "",
        args={
            **parts,
            "options": f"-c lock_timeout={LOCK_TIMEOUT_MS} -c statement_timeout={STATEMENT_TIMEOUT_MS}"
            " -c client_min_messages=warning",
        },
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        backend = Backend(uri, "_yoyo_migration")
        try:
            backend.init_database()
            # Whoever holds the advisory lock is alone: a row in yoyo's own lock is of a process that was killed.
            backend.break_lock()
            yield backend
        finally:
            backend.connection.close()


def _schema_step(connection: psycopg.Connection) -> str | None:
    row = connection.execute("SELECT to_regprocedure('public.schema_step()') IS NOT NULL").fetchone()
    if not row or not row[0]:
        return None
    step = connection.execute("SELECT public.schema_step()").fetchone()
    return step[0] if step else None


def _split(connection: psycopg.Connection, steps: Any) -> tuple[list[Any], list[Any]]:
    """The steps that the schema contains, and those that it lacks."""
    current = _schema_step(connection)
    if current is None:
        return [], list(steps)
    names = [step.id for step in steps]
    if current not in names:
        raise ConfigurationError(
            f"The schema is at step {current}, which this version does not know.",
            hint="Use the version of NovaDex that made it, or a later one.",
        )
    made = names.index(current) + 1
    return list(steps)[:made], list(steps)[made:]


def _correct_marks(connection: psycopg.Connection, backend: Any, steps: Any) -> None:
    """Make yoyo's marks agree with the schema, which names its step in the transaction that made it.

    yoyo marks a step after that transaction: a process that is killed in between leaves it unmarked. And
    the plain SQL file marks nothing.
    """
    contained, lacking = _split(connection, steps)
    marked = set(backend.get_applied_migration_hashes())
    backend.mark_migrations(step for step in contained if step.hash not in marked)
    backend.unmark_migrations(step for step in lacking if step.hash in marked)
