"""Schema steps: applied in order, under a lock, with bounds on waiting; each has a way back.

The steps are plain SQL in ``database/migrations/{main,analytics}``, run by yoyo. The lock is an advisory
lock of PostgreSQL, so that it ends with the process that held it, however that ends.
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote, urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict

from novadex.errors import ConfigurationError, TimeoutExceededError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

Database = Literal["main", "analytics"]

LOCK_WAIT_S_MAX = 60
"""How long one migration waits for another."""
LOCK_TIMEOUT_MS = 4_000
"""How long a step waits for a table's lock: a step that queues behind a reader queues all others behind it."""
STATEMENT_TIMEOUT_MS = 600_000
"""How long one statement of a step may run."""
OLDEST_POSTGRES, NEWEST_POSTGRES = 14, 18


def database_folder() -> Path:
    """The folder ``database/``: inside the installed package, or in the checkout."""
    package = Path(__file__).parents[1]
    installed = package / "database"
    return installed if installed.is_dir() else package.parents[1] / "database"


def migrate(url: str, database: Database) -> list[str]:
    """Apply the steps that are missing; returns their ids, in order.

    A schema that was made by the plain SQL file is recognised and only the steps after it are applied.
    Raises ``ConfigurationError`` where a step fails: it leaves nothing behind, and the steps before it stay.
    """
    with _migrating(url) as connection, _backend(url) as backend:
        steps = _steps(database)
        _adopt_plain_schema(connection, backend, steps)
        return _run(backend.apply_migrations, backend.to_apply(steps), "apply")


def roll_back(url: str, database: Database, count: int = 1) -> list[str]:
    """Take the last ``count`` steps back; returns their ids, in order."""
    with _migrating(url), _backend(url) as backend:
        steps = backend.to_rollback(_steps(database))
        return _run(backend.rollback_migrations, steps.__class__(list(steps)[:count]), "roll back")


def pending(url: str, database: Database) -> list[str]:
    """The ids of the steps that are not applied yet."""
    known = [step.id for step in _steps(database)]
    with _connect(url) as connection:
        current = _schema_step(connection)
    return known[known.index(current) + 1 :] if current in known else known


def _steps(database: Database) -> Any:
    from yoyo import read_migrations

    folder = database_folder() / "migrations" / database
    if not folder.is_dir():
        raise ConfigurationError(f"The folder {folder} with the schema's steps is missing.", hint="Install again.")
    return read_migrations(str(folder))


def _run(action: Any, steps: Any, verb: str) -> list[str]:
    names = [step.id for step in steps]
    try:
        action(steps)
    except psycopg.Error as error:
        raise ConfigurationError(
            f"Could not {verb} the schema steps {', '.join(names)}: {str(error).strip()}.",
            hint="Nothing of the failed step remains; correct the cause and run it again.",
        ) from error
    return names


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
        return psycopg.connect(url, autocommit=True, connect_timeout=10, application_name="novadex migrate")
    except psycopg.OperationalError as error:
        host = urlsplit(url)
        raise UnavailableError(
            f"No connection to PostgreSQL at {host.hostname}:{host.port or 5432}: {str(error).strip()}.",
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

    parts = conninfo_to_dict(url)
    uri = DatabaseURI(
        scheme="postgresql+psycopg",
        username=parts.pop("user", None),
        password=parts.pop("password", None),
        hostname=parts.pop("host", None),
        port=parts.pop("port", None),
        database=parts.pop("dbname", None) or unquote(urlsplit(url).path.lstrip("/")),
        args={
            **parts,
            "options": f"-c lock_timeout={LOCK_TIMEOUT_MS} -c statement_timeout={STATEMENT_TIMEOUT_MS}"
            " -c client_min_messages=warning",
        },
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        backend = PostgresqlPsycopgBackend(uri, "_yoyo_migration")
        try:
            backend.init_database()
            yield backend
        finally:
            backend.connection.close()


def _schema_step(connection: psycopg.Connection) -> str | None:
    row = connection.execute("SELECT to_regprocedure('public.schema_step()') IS NOT NULL").fetchone()
    if not row or not row[0]:
        return None
    step = connection.execute("SELECT public.schema_step()").fetchone()
    return step[0] if step else None


def _adopt_plain_schema(connection: psycopg.Connection, backend: Any, steps: Any) -> None:
    """Where the plain SQL file made the schema, note its steps as applied."""
    current = _schema_step(connection)
    if current is None or any(True for _ in backend.get_applied_migration_hashes()):
        return
    names = [step.id for step in steps]
    if current not in names:
        raise ConfigurationError(
            f"The schema is at step {current}, which this version does not know.",
            hint="Use the version of NovaDex that made it, or a later one.",
        )
    backend.mark_migrations(steps.__class__(list(steps)[: names.index(current) + 1]))
