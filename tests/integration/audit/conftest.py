"""A main database with rows in its audit log, and a superuser who has switched the triggers off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from novadex.audit.anchors import FILE_NAME
from tests.conftest import DatabasePair, add_users

Attacker = Callable[..., None]


@pytest.fixture
def write(fresh_databases: DatabasePair) -> Callable[[int], Any]:
    """``write(3)``: three users, and with each a row of the log."""
    return lambda count: add_users(fresh_databases.main_url("owner"), count)


@pytest.fixture
def anchors(fresh_databases: DatabasePair) -> Path:
    """The file of the anchors."""
    return fresh_databases.data_dir / FILE_NAME


@pytest.fixture
def attack(fresh_databases: DatabasePair) -> Attacker:
    """``attack("DELETE FROM audit_log")`` as superuser with triggers off, in the session or ``by="table"``.

    It returns when the session is gone: only then, or seconds later, does the server count what it changed.
    """

    def attack(*statements: str, by: str = "replica") -> None:
        tables = ("audit_log", "audit_chain", "audit_pending")
        with psycopg.connect(fresh_databases.main_url(None)) as connection:
            if by == "replica":
                connection.execute("SET session_replication_role = replica")
            else:
                connection.execute("".join(f"ALTER TABLE {name} DISABLE TRIGGER ALL;" for name in tables).encode())
            for statement in statements:
                connection.execute(statement.encode())
            if by != "replica":
                connection.execute("".join(f"ALTER TABLE {name} ENABLE TRIGGER ALL;" for name in tables).encode())
            session = connection.info.backend_pid
        fresh_databases.server.wait_gone(session)

    return attack
