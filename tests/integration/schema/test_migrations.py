"""Applying steps: under a lock, with bounds, leaving nothing half done."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from novadex.errors import ConfigurationError, TimeoutExceededError, UnavailableError
from novadex.storage import migrations
from novadex.storage.migrations import Database, migrate, pending, roll_back
from tests.conftest import DatabasePair
from tests.servers import PASSWORD, PostgresServer, free_port

both = pytest.mark.parametrize("database", ["main", "analytics"])


@pytest.fixture
def server(postgres: PostgresServer) -> PostgresServer:
    """What these tests are about does not depend on the server's version."""
    return postgres


@pytest.fixture
def steps_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of ``database/`` that a test adds steps of main to."""
    shutil.copytree(migrations.database_folder(), tmp_path / "database")
    monkeypatch.setattr(migrations, "database_folder", lambda: tmp_path / "database")
    return tmp_path / "database" / "migrations" / "main"


def set_schema_step(name: str) -> str:
    return f"CREATE OR REPLACE FUNCTION schema_step() RETURNS text LANGUAGE sql AS $$ SELECT '{name}' $$;"


def tables(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace")
        return {row[0] for row in rows}


@both
def test_migrating_again_changes_nothing(
    server: PostgresServer, empty_database: Callable[[], str], database: Database
) -> None:
    url = server.url(empty_database(), "novadex_owner")
    assert pending(url, database) == migrate(url, database)
    assert pending(url, database) == []
    assert migrate(url, database) == []


@both
def test_every_step_names_itself_in_the_schema(
    server: PostgresServer, empty_database: Callable[[], str], database: Database
) -> None:
    """What is applied is read from the schema, so a step that forgets its name would be applied twice."""
    url = server.url(empty_database(), "novadex_owner")
    steps = migrate(url, database)
    for number, step in reversed(list(enumerate(steps))):
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT schema_step()").fetchone() == (step,)
        assert roll_back(url, database) == [step]
        assert pending(url, database) == steps[number:]


@both
def test_a_migration_that_was_killed_before_it_was_marked_goes_on(
    server: PostgresServer, empty_database: Callable[[], str], database: Database
) -> None:
    url = server.url(empty_database(), "novadex_owner")
    steps = migrate(url, database)
    with psycopg.connect(url) as connection:
        connection.execute("DELETE FROM _yoyo_migration WHERE migration_id = %s", (steps[-1],))
    assert pending(url, database) == []
    assert migrate(url, database) == []
    assert roll_back(url, database) == [steps[-1]]
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO _yoyo_migration SELECT 'hash of ' || %s, %s, now()", (steps[-1], steps[-1]))
    assert migrate(url, database) == [steps[-1]]


def test_a_way_back_that_was_killed_before_it_was_unmarked_goes_on(
    server: PostgresServer, empty_database: Callable[[], str]
) -> None:
    url = server.url(empty_database(), "novadex_owner")
    steps = migrate(url, "main")
    with psycopg.connect(url) as connection:
        marks = connection.execute("SELECT * FROM _yoyo_migration WHERE migration_id = %s", (steps[-1],)).fetchall()
    roll_back(url, "main")
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO _yoyo_migration VALUES (%s, %s, %s)", marks[0])
    assert pending(url, "main") == [steps[-1]]
    assert migrate(url, "main") == [steps[-1]]
    assert "trades" in tables(url)


def test_a_lock_row_of_a_killed_process_keeps_nobody_waiting(
    server: PostgresServer, empty_database: Callable[[], str]
) -> None:
    url = server.url(empty_database(), "novadex_owner")
    with psycopg.connect(url) as connection:
        connection.execute(
            "CREATE TABLE yoyo_lock (locked integer PRIMARY KEY DEFAULT 1, ctime timestamp, pid integer)"
        )
        connection.execute("INSERT INTO yoyo_lock VALUES (1, now(), 1)")
    assert migrate(url, "main")


def test_a_failing_step_leaves_nothing_and_the_steps_before_it_stay(
    server: PostgresServer, empty_database: Callable[[], str], steps_folder: Path
) -> None:
    url = server.url(empty_database(), "novadex_owner")
    (steps_folder / "9000_good.sql").write_text(
        f"CREATE TABLE good (id bigint PRIMARY KEY);\n{set_schema_step('9000_good')}"
    )
    (steps_folder / "9000_good.rollback.sql").write_text("DROP TABLE good;")
    (steps_folder / "9001_bad.sql").write_text("CREATE TABLE half (id bigint PRIMARY KEY);\nSELECT 1 / 0;")
    with pytest.raises(ConfigurationError, match="schema step 9001_bad: division by zero"):
        migrate(url, "main")
    assert {"trades", "good"} <= tables(url)
    assert "half" not in tables(url)
    assert pending(url, "main") == ["9001_bad"]

    (steps_folder / "9001_bad.sql").write_text(
        f"CREATE TABLE whole (id bigint PRIMARY KEY);\n{set_schema_step('9001_bad')}"
    )
    assert migrate(url, "main") == ["9001_bad"]
    assert "whole" in tables(url)


def test_a_failing_way_back_leaves_the_step_as_it_was(
    server: PostgresServer, empty_database: Callable[[], str], steps_folder: Path
) -> None:
    url = server.url(empty_database(), "novadex_owner")
    (steps_folder / "9000_new.sql").write_text(
        f"CREATE TABLE new (id bigint PRIMARY KEY);\n{set_schema_step('9000_new')}"
    )
    (steps_folder / "9000_new.rollback.sql").write_text("DROP TABLE new;\nDROP TABLE nothing;")
    migrate(url, "main")
    with pytest.raises(
        ConfigurationError, match='roll back the schema step 9000_new: table "nothing" does not exist'
    ):
        roll_back(url, "main")
    assert "new" in tables(url)
    assert pending(url, "main") == []


def test_a_schema_of_a_later_version_is_refused(server: PostgresServer, empty_database: Callable[[], str]) -> None:
    url = server.url(empty_database(), "novadex_owner")
    migrate(url, "main")
    with psycopg.connect(url) as connection:
        connection.execute(set_schema_step("9999_of_tomorrow").encode())
    for call in (migrate, pending, roll_back):
        with pytest.raises(ConfigurationError, match="9999_of_tomorrow, which this version does not know"):
            call(url, "main")


async def test_of_two_migrations_at_once_one_waits_and_finds_nothing_to_do(
    server: PostgresServer, empty_database: Callable[[], str]
) -> None:
    url = server.url(empty_database(), "novadex_owner")
    wanted = pending(url, "main")
    done = await asyncio.gather(*(asyncio.to_thread(migrate, url, "main") for _ in range(4)))
    assert sorted(done, key=len) == [[], [], [], wanted]


def test_a_migration_waits_for_another_only_so_long(
    server: PostgresServer, empty_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "LOCK_WAIT_S_MAX", 1)
    url = server.url(empty_database(), "novadex_owner")
    with psycopg.connect(url) as other:
        other.execute("SELECT pg_advisory_lock(hashtextextended('novadex.migrations', 0))")
        with pytest.raises(TimeoutExceededError, match="Another migration"):
            migrate(url, "main")


def test_a_step_gives_up_on_a_busy_table_and_lets_others_pass(
    server: PostgresServer, empty_database: Callable[[], str], steps_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "LOCK_TIMEOUT_MS", 300)
    url = server.url(empty_database(), "novadex_owner")
    migrate(url, "main")
    (steps_folder / "9000_wider.sql").write_text("ALTER TABLE users ADD COLUMN nickname text;")
    with psycopg.connect(url) as reader:
        reader.execute("SELECT count(*) FROM users")
        with pytest.raises(TimeoutExceededError, match="9000_wider: canceling statement due to lock timeout"):
            migrate(url, "main")
    assert pending(url, "main") == ["9000_wider"]


def test_a_statement_of_a_step_may_run_only_so_long(
    server: PostgresServer, empty_database: Callable[[], str], steps_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.url(empty_database(), "novadex_owner")
    migrate(url, "main")
    monkeypatch.setattr(migrations, "STATEMENT_TIMEOUT_MS", 200)
    (steps_folder / "9000_slow.sql").write_text("SELECT pg_sleep(30);")
    with pytest.raises(TimeoutExceededError, match="9000_slow: canceling statement due to statement timeout"):
        migrate(url, "main")


def test_a_migration_that_loses_its_server_says_so_and_can_be_run_again(
    server: PostgresServer, empty_database: Callable[[], str], steps_folder: Path
) -> None:
    name = empty_database()
    url = server.url(name, "novadex_owner")
    migrate(url, "main")
    (steps_folder / "9000_slow.sql").write_text(f"SELECT pg_sleep(0.7);\n{set_schema_step('9000_slow')}")
    failure: list[BaseException] = []

    def attempt() -> None:
        try:
            migrate(url, "main")
        except UnavailableError as error:
            failure.append(error)

    thread = threading.Thread(target=attempt)
    with server.superuser() as superuser:
        thread.start()
        terminated: list[Any] = []
        while not terminated and thread.is_alive():
            terminated = superuser.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = %s AND query ~ '^SELECT pg_sleep'",
                (name,),
            ).fetchall()
    thread.join(30)
    assert terminated == [(True,)]
    assert "lost before the schema step 9000_slow was done" in str(failure[0])
    assert migrate(url, "main") == ["9000_slow"]


def test_backups_can_read_the_marks(server: PostgresServer, empty_database: Callable[[], str]) -> None:
    name = empty_database()
    migrate(server.url(name, "novadex_owner"), "main")
    with psycopg.connect(server.url(name, "novadex_backup")) as connection:
        for table in sorted(
            tables(server.url(name)) & {"_yoyo_log", "_yoyo_migration", "_yoyo_version", "yoyo_lock"}
        ):
            connection.execute(SQL("SELECT * FROM {}").format(Identifier(table)))


def test_names_are_found_without_the_network(
    server: PostgresServer, empty_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A laptop without a network, a container whose user has no name."""

    def no_answer(*_: Any) -> str:
        raise AssertionError("asked for a name")

    monkeypatch.setattr("socket.getfqdn", no_answer)
    monkeypatch.setattr("getpass.getuser", no_answer)
    assert migrate(server.url(empty_database(), "novadex_owner"), "main")


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://novadex_owner:{PASSWORD}%@localhost:5432/novadex_db",
        f"postgresql://novadex_owner:1?{PASSWORD}@localhost:5432/novadex_db",
        f"postgresql://novadex_owner:{PASSWORD}/@localhost:5432/novadex_db",
    ],
)
def test_an_unreadable_url_is_refused_without_quoting_it(url: str) -> None:
    with pytest.raises(ConfigurationError, match="percent-encoded") as caught:
        migrate(url, "main")
    assert PASSWORD not in repr(caught.value)


def test_a_wrong_password_is_refused_without_quoting_it(template_databases: DatabasePair) -> None:
    server = template_databases.server
    with pytest.raises(UnavailableError, match="password authentication failed") as caught:
        migrate(server.url("postgres", "novadex_owner", "wrong-secret"), "main")
    assert "wrong-secret" not in str(caught.value)


def test_an_absent_server_is_named_with_its_host_and_port() -> None:
    port = free_port()
    with pytest.raises(UnavailableError, match=f"127.0.0.1:{port}"):
        migrate(f"postgresql://novadex_owner:x@127.0.0.1:{port}/novadex_db", "main")


@pytest.mark.parametrize("version", [130_022, 190_001])
def test_an_unsupported_server_version_is_refused(version: int) -> None:
    class Connection:
        class info:  # noqa: N801 - as psycopg names it
            server_version = version

    with pytest.raises(ConfigurationError, match=f"PostgreSQL {version // 10_000}; NovaDex supports 14 to 18"):
        migrations._check_version(Connection())  # pyright: ignore[reportArgumentType]


def test_a_password_with_special_characters_works(server: PostgresServer, empty_database: Callable[[], str]) -> None:
    name = empty_database()
    with server.superuser() as superuser:
        superuser.execute("CREATE ROLE odd_one LOGIN SUPERUSER PASSWORD 'a/b@c:d%e f?g#h'")
    try:
        url = server.url(name, "odd_one", "a%2Fb%40c%3Ad%25e%20f%3Fg%23h")
        assert migrate(url, "main")
    finally:
        server.drop_database(name)
        with server.superuser() as superuser:
            superuser.execute("DROP ROLE odd_one")
