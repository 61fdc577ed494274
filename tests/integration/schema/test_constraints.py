"""Every constraint is attacked, and refuses; the rows that the attacks begin with are accepted."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import errors

from tests.conftest import DatabasePair
from tests.integration.schema.attacks import ATTACKS, MAIN_ROWS, ROWS, SETUP, USER, Attack, insert

DATABASES = ("main", "analytics")
PARTITION_SUFFIX = re.compile(r"_\d{4}_\d{2}(?=_)")

CHANGES_REFUSED_BY_TRIGGER = [
    ("markets_keep_identity", "UPDATE markets SET symbol = 'SOL/EURC'"),
    ("markets_keep_identity", "UPDATE markets SET base_asset_id = 2, quote_asset_id = 1"),
    ("markets_keep_identity", "UPDATE markets SET quote_asset_id = 1, base_asset_id = 2"),
    ("trades_append_only", "UPDATE trades SET fee_amount = 0"),
    ("trades_append_only", "DELETE FROM trades"),
    ("trades_append_only", "UPDATE trades_2024_08 SET fee_amount = 0"),
    ("trades_append_only", "DELETE FROM trades_2024_08"),
    ("order_events_append_only", "UPDATE order_events SET reason = 'no'"),
    ("order_events_append_only", "DELETE FROM order_events"),
    ("order_events_append_only", "UPDATE order_events_2024_08 SET reason = 'no'"),
    ("order_events_append_only", "DELETE FROM order_events_2024_08"),
    ("audit_log_append_only", "UPDATE audit_log SET actor = 'nobody'"),
    ("audit_log_append_only", "DELETE FROM audit_log"),
]
CHANGES_REFUSED_BY_REFERENCES = [
    ("trades_user_fkey", "DELETE FROM users"),
    ("markets_base_asset_fkey", "DELETE FROM assets WHERE id = 1"),
    ("markets_base_asset_fkey", "UPDATE assets SET decimals = 8 WHERE id = 1"),
    ("trades_market_fkey", "DELETE FROM markets"),
]


@pytest.fixture(scope="module")
def attacked(make_databases: Callable[[], DatabasePair]) -> Iterator[dict[str, psycopg.Connection[Any]]]:
    """Both databases with what the valid rows refer to; each test undoes what it does."""
    pair = make_databases()
    connections = {
        "main": psycopg.connect(pair.main_url("owner"), autocommit=True),
        "analytics": psycopg.connect(pair.analytics_url("owner"), autocommit=True),
    }
    for name, connection in connections.items():
        connection.execute(SETUP[name].encode())
    yield connections
    for connection in connections.values():
        connection.close()


def refusal(connection: psycopg.Connection[Any], attack: Attack, row: dict[str, Any]) -> errors.IntegrityError:
    """What the database says to the attack."""
    with connection.transaction(force_rollback=True):
        if attack.before:
            connection.execute(attack.before.encode())
        if attack.twice:
            insert(connection, attack.table, row)
        with pytest.raises(errors.IntegrityError) as caught, connection.transaction():
            insert(connection, attack.table, {**row, **attack.changes})
    return caught.value


@pytest.mark.parametrize(("database", "table"), [(name, table) for name in DATABASES for table in ROWS[name]])
def test_the_valid_row_is_accepted(attacked: dict[str, psycopg.Connection[Any]], database: str, table: str) -> None:
    connection = attacked[database]
    with connection.transaction(force_rollback=True):
        if table == "recovery_epoch":
            connection.execute("DELETE FROM recovery_epoch")
        insert(connection, table, ROWS[database][table])


@pytest.mark.parametrize(
    ("database", "attack"),
    [pytest.param(name, attack, id=f"{attack}-{n}") for name in DATABASES for n, attack in enumerate(ATTACKS[name])],
)
def test_the_constraint_refuses(attacked: dict[str, psycopg.Connection[Any]], database: str, attack: Attack) -> None:
    error = refusal(attacked[database], attack, ROWS[database][attack.table])
    assert error.diag.constraint_name is not None
    assert PARTITION_SUFFIX.sub("", error.diag.constraint_name) == attack.constraint


@pytest.mark.parametrize("database", DATABASES)
def test_every_constraint_of_the_catalog_is_attacked(
    attacked: dict[str, psycopg.Connection[Any]], database: str
) -> None:
    """Also unique indexes that are no constraint. NOT NULL has a test of its own."""
    rows = (
        attacked[database]
        .execute("""
        SELECT conname FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace AND conparentid = 0 AND coninhcount = 0
            AND contype NOT IN ('n', 't') AND conname NOT LIKE '%yoyo%'
        UNION
        SELECT indexrelid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = indexrelid
        WHERE indisunique AND relnamespace = 'public'::regnamespace AND NOT relispartition
            AND relname NOT LIKE '%yoyo%'
    """)
        .fetchall()
    )
    names = {row[0] for row in rows}
    assert len(names) > 30
    assert names == {attack.constraint for attack in ATTACKS[database]}


@pytest.mark.parametrize("database", DATABASES)
def test_every_column_that_must_be_there_refuses_null(
    attacked: dict[str, psycopg.Connection[Any]], database: str
) -> None:
    connection = attacked[database]
    rows = connection.execute("""
        SELECT c.relname, attname, c.relkind = 'p' AND attname = 'id'
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
            AND c.relname NOT LIKE '%yoyo%' AND a.attnum > 0 AND a.attnotnull
    """).fetchall()
    assert {table for table, *_ in rows} == set(ROWS[database])
    for table, column, chooses_partition in rows:
        row = {**ROWS[database][table], column: None}
        with pytest.raises(errors.IntegrityError) as caught, connection.transaction():
            insert(connection, table, row)
        if chooses_partition:
            assert "no partition of relation" in str(caught.value)
        else:
            assert (type(caught.value), caught.value.diag.column_name) == (errors.NotNullViolation, column)


@pytest.mark.parametrize(("trigger", "change"), CHANGES_REFUSED_BY_TRIGGER)
def test_the_trigger_refuses(attacked: dict[str, psycopg.Connection[Any]], trigger: str, change: str) -> None:
    connection = attacked["main"]
    with connection.transaction(force_rollback=True):
        for table in ("trades", "order_events", "audit_log"):
            insert(connection, table, MAIN_ROWS[table])
        with pytest.raises(errors.IntegrityConstraintViolation, match=r"append-only|never change") as caught:
            connection.execute(change.encode())
    assert caught.value.diag.message_hint


def test_every_trigger_of_the_catalog_is_attacked(attacked: dict[str, psycopg.Connection[Any]]) -> None:
    rows = {
        row[0]
        for connection in attacked.values()
        for row in connection.execute("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgparentid = 0")
    }
    assert rows == {trigger for trigger, _ in CHANGES_REFUSED_BY_TRIGGER}


@pytest.mark.parametrize(("constraint", "change"), CHANGES_REFUSED_BY_REFERENCES)
def test_what_is_referred_to_stays(
    attacked: dict[str, psycopg.Connection[Any]], constraint: str, change: str
) -> None:
    connection = attacked["main"]
    with connection.transaction(force_rollback=True):
        insert(connection, "trades", MAIN_ROWS["trades"])
        connection.execute("DELETE FROM orders")
        with pytest.raises(errors.ForeignKeyViolation) as caught:
            connection.execute(change.encode())
    assert caught.value.diag.constraint_name is not None
    assert caught.value.diag.constraint_name.startswith(constraint)


def test_the_status_of_a_market_can_change(attacked: dict[str, psycopg.Connection[Any]]) -> None:
    connection = attacked["main"]
    with connection.transaction(force_rollback=True):
        assert connection.execute("UPDATE markets SET status = 'halted'").rowcount == 1


def test_a_system_account_has_a_name(attacked: dict[str, psycopg.Connection[Any]]) -> None:
    connection = attacked["main"]
    with connection.transaction(force_rollback=True):
        insert(connection, "users", {"id": MAIN_ROWS["users"]["id"], "kind": "system", "username": "source:binance"})
        row = connection.execute("SELECT count(*) FROM users WHERE id <> %s", (USER,)).fetchone()
    assert row == (1,)
