"""Who may do what: the whole matrix of roles, tables and verbs as data, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import errors

from tests.conftest import DatabasePair
from tests.integration.schema.attacks import MAIN_ROWS, ROWS, SETUP, insert
from tests.servers import PostgresServer

VERBS = {"S": "SELECT", "I": "INSERT", "U": "UPDATE", "D": "DELETE"}
NEVER = ("TRUNCATE", "REFERENCES", "TRIGGER")
"""What no role but the owner may do with any table."""

# S select, I insert, U update, D delete, u update of some columns, s select of some columns.
RIGHTS = {
    "main": {
        "recovery_epoch": {"app": "S", "worker": "S", "readonly": "S", "backup": "S"},
        "assets": {"app": "SI", "worker": "S", "readonly": "S", "backup": "S"},
        "markets": {"app": "SIu", "worker": "S", "readonly": "S", "backup": "S"},
        "users": {"app": "SIU", "worker": "S", "readonly": "s", "backup": "S"},
        "wallets": {"app": "SIUD", "worker": "S", "readonly": "", "backup": "S"},
        "user_sessions": {"app": "SIU", "worker": "SU", "readonly": "", "backup": "S"},
        "orders": {"app": "SIU", "worker": "SU", "readonly": "S", "backup": "S"},
        "order_events": {"app": "Si", "worker": "Si", "readonly": "S", "backup": "S"},
        "trades": {"app": "Si", "worker": "S", "readonly": "S", "backup": "S"},
        "idempotency_keys": {"app": "SI", "worker": "SD", "readonly": "", "backup": "S"},
        "liquidity_positions": {"app": "SIU", "worker": "S", "readonly": "S", "backup": "S"},
        "portfolio_snapshots": {"app": "SI", "worker": "SI", "readonly": "S", "backup": "S"},
        "notifications": {"app": "SIU", "worker": "SIU", "readonly": "", "backup": "S"},
        "audit_log": {"app": "SI", "worker": "SI", "readonly": "", "backup": "S"},
    },
    "analytics": {
        "trade_facts": {"app": "S", "worker": "SID", "readonly": "S", "backup": "S"},
        "candles": {"app": "S", "worker": "SIUD", "readonly": "S", "backup": "S"},
        "trading_analytics": {"app": "S", "worker": "SIUD", "readonly": "S", "backup": "S"},
        "trading_other_fees": {"app": "S", "worker": "SIUD", "readonly": "S", "backup": "S"},
        "projections": {"app": "S", "worker": "SIU", "readonly": "S", "backup": "S"},
        "projection_rejects": {"app": "S", "worker": "SID", "readonly": "S", "backup": "S"},
        "user_events": {"app": "SI", "worker": "SI", "readonly": "S", "backup": "S"},
        "page_views": {"app": "SI", "worker": "SI", "readonly": "S", "backup": "S"},
        "performance_metrics": {"app": "SI", "worker": "SID", "readonly": "S", "backup": "S"},
    },
}
COLUMN_RIGHTS = {
    ("trades", "app", "INSERT"): {
        "base_amount",
        "base_decimals",
        "executed_at",
        "fee_amount",
        "fee_asset_id",
        "id",
        "liquidity",
        "market_id",
        "match_id",
        "order_id",
        "price",
        "quote_amount",
        "quote_decimals",
        "sequence",
        "side",
        "source",
        "source_trade_id",
        "type",
        "user_id",
    },
    ("order_events", "app", "INSERT"): {
        "actor",
        "filled_quantity",
        "id",
        "market_id",
        "market_sequence",
        "occurred_at",
        "order_id",
        "price",
        "quantity",
        "reason",
        "status",
        "type",
        "version",
    },
    ("order_events", "worker", "INSERT"): {
        "actor",
        "filled_quantity",
        "id",
        "market_id",
        "market_sequence",
        "occurred_at",
        "order_id",
        "price",
        "quantity",
        "reason",
        "status",
        "type",
        "version",
    },
    ("markets", "app", "UPDATE"): {"status"},
    ("users", "readonly", "SELECT"): {"id", "kind", "username", "role", "status", "created_at", "updated_at"},
}
SECRETS = {
    "users": ("email_ciphertext", "email_index", "preferences"),
    "user_sessions": ("token_hash", "device", "address"),
    "wallets": ("address",),
    "notifications": ("body",),
    "audit_log": ("detail",),
    "idempotency_keys": ("key",),
}
ROLES = ("app", "worker", "readonly", "backup")
databases = pytest.mark.parametrize("database", ["main", "analytics"])


@pytest.fixture
def owner(shared_databases: DatabasePair) -> Iterator[dict[str, psycopg.Connection[Any]]]:
    """The owner's connections to both databases."""
    with (
        psycopg.connect(shared_databases.main_url("owner")) as main,
        psycopg.connect(shared_databases.analytics_url("owner")) as analytics,
    ):
        yield {"main": main, "analytics": analytics}


@databases
def test_the_matrix_names_every_table(owner: dict[str, psycopg.Connection[Any]], database: str) -> None:
    rows = owner[database].execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
        " AND NOT relispartition AND relname NOT LIKE '%yoyo%'"
    )
    assert {row[0] for row in rows} == set(RIGHTS[database])


@databases
@pytest.mark.parametrize("role", ROLES)
def test_each_role_has_exactly_these_rights(
    owner: dict[str, psycopg.Connection[Any]], database: str, role: str
) -> None:
    found: dict[str, str] = {}
    for table in RIGHTS[database]:
        row = (
            owner[database]
            .execute(
                "SELECT array_agg(has_table_privilege(%(role)s, %(table)s, verb) ORDER BY n),"
                " array_agg(has_any_column_privilege(%(role)s, %(table)s, verb) ORDER BY n)"
                " FROM unnest(%(verbs)s::text[]) WITH ORDINALITY AS verbs (verb, n) WHERE verb <> 'DELETE'",
                {"role": f"novadex_{role}", "table": table, "verbs": list(VERBS.values())},
            )
            .fetchone()
        )
        assert row is not None
        delete = (
            owner[database]
            .execute("SELECT has_table_privilege(%s, %s, 'DELETE')", (f"novadex_{role}", table))
            .fetchone()
        )
        letters = [
            letter if whole else letter.lower() if part else ""
            for letter, whole, part in zip("SIU", *row, strict=True)
        ]
        found[table] = "".join(letters) + ("D" if delete == (True,) else "")
    assert found == {table: rights[role] for table, rights in RIGHTS[database].items()}


@databases
def test_no_role_may_empty_a_table_or_hang_anything_on_it(
    owner: dict[str, psycopg.Connection[Any]], database: str
) -> None:
    rows = (
        owner[database]
        .execute(
            "SELECT role, c.relname, verb FROM pg_class c, unnest(%s::text[]) AS role, unnest(%s::text[]) AS verb"
            " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')"
            " AND has_table_privilege(role, c.oid, verb)",
            ([f"novadex_{role}" for role in ROLES], list(NEVER)),
        )
        .fetchall()
    )
    assert rows == []


@databases
def test_partitions_are_reached_through_their_parent_only(
    owner: dict[str, psycopg.Connection[Any]], database: str
) -> None:
    """A right on a partition itself would bypass what the parent allows."""
    rows = (
        owner[database]
        .execute(
            "SELECT role, c.relname FROM pg_class c, unnest(%s::text[]) AS role, unnest(%s::text[]) AS verb"
            " WHERE c.relnamespace = 'public'::regnamespace AND c.relispartition AND c.relkind = 'r'"
            " AND has_table_privilege(role, c.oid, verb) AND NOT (role = 'novadex_backup' AND verb = 'SELECT')",
            ([f"novadex_{role}" for role in ROLES], list(VERBS.values())),
        )
        .fetchall()
    )
    assert rows == []


@databases
def test_everybody_else_has_no_rights(owner: dict[str, psycopg.Connection[Any]], database: str) -> None:
    rows = (
        owner[database]
        .execute(
            "SELECT c.relname, grantee, privilege_type FROM pg_class c, aclexplode(c.relacl) WHERE grantee = 0"
            " AND c.relnamespace = 'public'::regnamespace"
        )
        .fetchall()
    )
    assert rows == []
    row = (
        owner[database]
        .execute(
            "SELECT bool_or(has_schema_privilege(role, 'public', 'CREATE')) FROM unnest(%s::text[]) AS role",
            ([f"novadex_{role}" for role in ROLES],),
        )
        .fetchone()
    )
    assert row == (False,)


def test_column_rights_are_exactly_these(owner: dict[str, psycopg.Connection[Any]]) -> None:
    for (table, role, verb), columns in COLUMN_RIGHTS.items():
        rows = owner["main"].execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0"
            " AND has_column_privilege(%s, attrelid, attnum, %s)",
            (table, f"novadex_{role}", verb),
        )
        assert {row[0] for row in rows} == columns


@pytest.mark.parametrize(("table", "column"), [(table, column) for table in SECRETS for column in SECRETS[table]])
def test_readonly_cannot_read_secrets(shared_databases: DatabasePair, table: str, column: str) -> None:
    with (
        psycopg.connect(shared_databases.main_url("readonly")) as connection,
        pytest.raises(errors.InsufficientPrivilege),
    ):
        connection.execute(f"SELECT {column} FROM {table}".encode())


def test_readonly_reads_who_users_are(shared_databases: DatabasePair) -> None:
    with psycopg.connect(shared_databases.main_url("readonly")) as connection:
        assert connection.execute("SELECT id, username, role FROM users").fetchall() == []
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute("SELECT * FROM users")


@pytest.mark.parametrize("role", ["readonly", "backup"])
@databases
def test_reading_roles_cannot_write(shared_databases: DatabasePair, database: str, role: str) -> None:
    url = getattr(shared_databases, f"{database}_url")(role)
    with psycopg.connect(url, autocommit=True) as connection:
        for table, values in ROWS[database].items():
            with pytest.raises(errors.InsufficientPrivilege):
                insert(connection, table, values)
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(f"DELETE FROM {table}".encode())


def test_the_app_writes_what_it_serves(fresh_databases: DatabasePair) -> None:
    with psycopg.connect(fresh_databases.main_url("owner"), autocommit=True) as owner:
        owner.execute(SETUP["main"].encode())
    with psycopg.connect(fresh_databases.main_url("app")) as app:
        for table, rights in RIGHTS["main"].items():
            if "I" in rights["app"]:
                insert(app, table, MAIN_ROWS[table])


@pytest.mark.parametrize("role", ["app", "worker"])
def test_writing_roles_make_partitions_and_no_tables(fresh_databases: DatabasePair, role: Any) -> None:
    with psycopg.connect(fresh_databases.main_url(role), autocommit=True) as connection:
        made = connection.execute("SELECT ensure_partitions('trades', '2020-01-01+00', '2020-01-31+00')").fetchone()
        assert made == (1,)
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute("CREATE TABLE mine (id bigint)")


@pytest.mark.parametrize("role", ["readonly", "backup"])
def test_reading_roles_make_no_partitions(fresh_databases: DatabasePair, role: Any) -> None:
    with (
        psycopg.connect(fresh_databases.main_url(role)) as connection,
        pytest.raises(errors.InsufficientPrivilege),
    ):
        connection.execute("SELECT ensure_partitions('trades', '2020-01-01+00', '2020-01-31+00')")


@databases
def test_backup_can_dump_everything(postgres: PostgresServer, fresh_databases: DatabasePair, database: str) -> None:
    """Also sequences, and partitions that were made later."""
    with psycopg.connect(getattr(fresh_databases, f"{database}_url")("owner"), autocommit=True) as owner:
        owner.execute(SETUP[database].encode())
    dump = postgres.run("pg_dump", f"--dbname={getattr(fresh_databases, f'{database}_url')('backup')}")
    for table in RIGHTS[database]:
        assert f"CREATE TABLE public.{table} " in dump
    assert "_2024_08" in dump
    assert "_yoyo_migration" in dump
