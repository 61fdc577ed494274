"""The plain SQL files and the numbered steps make the same schema, on every server version at hand."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from novadex.storage.migrations import migrate, pending, roll_back
from tests.servers import PostgresServer

ROOT = Path(__file__).parents[3]
PLAIN_SCHEMAS = {
    "main": ROOT / "database/init/01_schema.sql",
    "analytics": ROOT / "database/analytics/01_analytics_schema.sql",
}
Name = Literal["main", "analytics"]

by_database = pytest.mark.parametrize("database", ["main", "analytics"])
by_role = pytest.mark.parametrize("user", ["postgres", "novadex_owner"])


def dump(server: PostgresServer, database: str) -> str:
    """The schema as pg_dump writes it, without the bookkeeping of the migration tool."""
    text = server.run(
        "pg_dump",
        "--schema-only",
        "--exclude-table=*yoyo*",
        f"--dbname={server.url(database)}",
    )
    # Newer versions of pg_dump put a random word there.
    return re.sub(r"^\\(un)?restrict .*$", "", text, flags=re.MULTILINE)


def run_plain_schema(server: PostgresServer, url: str, database: Name) -> None:
    server.run("psql", "--no-psqlrc", "--quiet", f"--dbname={url}", f"--file={PLAIN_SCHEMAS[database]}")


@by_database
@by_role
def test_the_plain_schema_equals_the_sum_of_the_steps(
    server: PostgresServer, empty_database: Callable[[], str], database: Name, user: str
) -> None:
    plain, stepped = empty_database(), empty_database()
    run_plain_schema(server, server.url(plain, user), database)
    migrate(server.url(stepped, user), database)
    made = dump(server, stepped)
    assert made.count("CREATE TABLE") > 5
    assert dump(server, plain) == made


@by_database
@by_role
def test_the_way_back_leaves_nothing_and_the_way_forward_makes_the_same_again(
    server: PostgresServer, empty_database: Callable[[], str], database: Name, user: str
) -> None:
    name = empty_database()
    url = server.url(name, user)
    steps = migrate(url, database)
    made = dump(server, name)

    assert roll_back(url, database, count=len(steps)) == steps[::-1]
    left = dump(server, name)
    assert "CREATE" not in left
    assert "COMMENT ON COLUMN" not in left
    assert pending(url, database) == steps

    assert migrate(url, database) == steps
    assert dump(server, name) == made


@by_database
def test_a_database_made_by_psql_is_adopted(
    server: PostgresServer, empty_database: Callable[[], str], database: Name
) -> None:
    name = empty_database()
    url = server.url(name, "novadex_owner")
    run_plain_schema(server, url, database)
    before = dump(server, name)
    assert pending(url, database) == []
    assert migrate(url, database) == []
    assert dump(server, name) == before
    # From now on it is like one that was made by steps.
    assert roll_back(url, database) == [max(p.stem for p in _steps_folder(database))]


@by_database
def test_the_plain_schema_refuses_a_database_that_has_it(
    server: PostgresServer, empty_database: Callable[[], str], database: Name
) -> None:
    name = empty_database()
    url = server.url(name, "novadex_owner")
    run_plain_schema(server, url, database)
    before = dump(server, name)
    with pytest.raises(AssertionError, match="already exists"):
        run_plain_schema(server, url, database)
    assert dump(server, name) == before


@by_database
def test_every_step_has_a_way_back(database: Name) -> None:
    steps = {path.stem for path in _steps_folder(database)}
    ways_back = {
        path.name.removesuffix(".rollback.sql")
        for path in (ROOT / "database/migrations" / database).glob("*.rollback.sql")
    }
    assert steps == ways_back


def _steps_folder(database: Name) -> list[Path]:
    folder = ROOT / "database/migrations" / database
    return [path for path in folder.glob("*.sql") if not path.name.endswith(".rollback.sql")]
