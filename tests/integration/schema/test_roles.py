"""Who may do what: the whole matrix of roles, tables and verbs as data, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import errors

from tests.conftest import DatabasePair
from tests.integration.schema.attacks import GONE, MAIN_ROWS, ROWS, SETUP, insert
from tests.servers import PostgresServer

VERBS = {"S": "SELECT", "I": "INSERT", "U": "UPDATE", "D": "DELETE"}
NEVER = ("TRUNCATE", "REFERENCES", "TRIGGER")
"""What no role but the owner may do with any table."""

# S select, I insert, U update, D delete, u update of some columns, s select of some columns.
RIGHTS = {
    "main": {
        "recovery_epoch": {"app": "S", "worker": "S", "readonly": "S", "backup": "S"},
        "assets": {"app": "SI", "worker": "S", "readonly": "S", "backup": "S", "user": "S"},
        "markets": {"app": "SIu", "worker": "S", "readonly": "S", "backup": "S", "user": "S"},
        "users": {"app": "SIu", "worker": "su", "readonly": "s", "backup": "S", "user": "s"},
        "wallets": {"app": "SIuD", "worker": "SD", "readonly": "", "backup": "S", "user": "s"},
        "user_sessions": {"app": "SIu", "worker": "suD", "readonly": "", "backup": "S", "user": "s"},
        "roles": {"app": "S", "worker": "S", "readonly": "S", "backup": "S"},
        "permissions": {"app": "S", "worker": "S", "readonly": "S", "backup": "S"},
        "role_permissions": {"app": "S", "worker": "S", "readonly": "S", "backup": "S"},
        "master_keys": {"app": "SIu", "worker": "S", "readonly": "", "backup": "S"},
        "system_keys": {"app": "SIu", "worker": "s", "readonly": "", "backup": "S"},
        "user_keys": {"app": "SIuD", "worker": "sD", "readonly": "", "backup": "S"},
        "erasures": {"app": "SI", "worker": "SI", "readonly": "", "backup": "S"},
        "api_keys": {"app": "SIu", "worker": "su", "readonly": "", "backup": "S", "user": "s"},
        "sign_in_nonces": {"app": "SID", "worker": "SD", "readonly": "", "backup": "S"},
        "change_channel": {"app": "", "worker": "", "readonly": "", "backup": "S"},
        "venue": {"app": "Su", "worker": "S", "readonly": "S", "backup": "S", "user": "S"},
        "market_sequences": {"app": "Su", "worker": "Su", "readonly": "S", "backup": "S"},
        "fee_rates": {"app": "SIuD", "worker": "S", "readonly": "S", "backup": "S", "user": "S"},
        "user_fee_tiers": {"app": "SIuD", "worker": "S", "readonly": "", "backup": "S"},
        "order_transitions": {"app": "S", "worker": "S", "readonly": "S", "backup": "S", "user": "S"},
        "matches": {"app": "Siu", "worker": "S", "readonly": "S", "backup": "S"},
        "orders": {"app": "SI", "worker": "S", "readonly": "S", "backup": "S", "user": "S"},
        "order_events": {"app": "Si", "worker": "Si", "readonly": "S", "backup": "S", "user": "S"},
        "trades": {"app": "Si", "worker": "S", "readonly": "S", "backup": "S", "user": "S"},
        "idempotency_keys": {"app": "SI", "worker": "SD", "readonly": "", "backup": "S"},
        "pools": {"app": "SI", "worker": "S", "readonly": "S", "backup": "S", "user": "S"},
        "pool_snapshots": {"app": "SI", "worker": "S", "readonly": "S", "backup": "S", "user": "S"},
        "liquidity_positions": {"app": "SI", "worker": "S", "readonly": "S", "backup": "S", "user": "S"},
        "liquidity_events": {"app": "Si", "worker": "S", "readonly": "S", "backup": "S", "user": "S"},
        "transfers": {"app": "Si", "worker": "S", "readonly": "S", "backup": "S", "user": "S"},
        "prices": {"app": "SI", "worker": "S", "readonly": "S", "backup": "S", "user": "S"},
        "main_projections": {"app": "S", "worker": "SIU", "readonly": "S", "backup": "S"},
        "portfolio_holdings": {"app": "S", "worker": "SIUD", "readonly": "S", "backup": "S", "user": "S"},
        "portfolio_flows": {"app": "S", "worker": "SIUD", "readonly": "S", "backup": "S", "user": "S"},
        "portfolio_positions": {"app": "S", "worker": "SIUD", "readonly": "S", "backup": "S", "user": "S"},
        "portfolio_lots": {"app": "S", "worker": "SIUD", "readonly": "S", "backup": "S", "user": "S"},
        "portfolio_closings": {"app": "S", "worker": "SIUD", "readonly": "S", "backup": "S", "user": "S"},
        "portfolio_snapshots": {"app": "SI", "worker": "SIu", "readonly": "S", "backup": "S", "user": "S"},
        "notifications": {"app": "SIu", "worker": "SIuD", "readonly": "", "backup": "S", "user": "S"},
        "notification_kinds": {"app": "S", "worker": "S", "readonly": "S", "backup": "S"},
        "notification_templates": {"app": "SIuD", "worker": "S", "readonly": "S", "backup": "S"},
        "notification_preferences": {"app": "SIuD", "worker": "SD", "readonly": "", "backup": "S", "user": "S"},
        "notification_webhooks": {"app": "SIuD", "worker": "SD", "readonly": "", "backup": "S"},
        "notification_deliveries": {"app": "Siu", "worker": "Siu", "readonly": "", "backup": "S"},
        "notification_positions": {"app": "S", "worker": "SIU", "readonly": "S", "backup": "S"},
        "price_alerts": {"app": "SID", "worker": "SuD", "readonly": "", "backup": "S", "user": "S"},
        "price_alert_position": {"app": "S", "worker": "SU", "readonly": "S", "backup": "S"},
        "known_devices": {"app": "SD", "worker": "SIuD", "readonly": "", "backup": "S"},
        "new_sign_ins": {"app": "SD", "worker": "SuD", "readonly": "", "backup": "S"},
        "system_notices": {"app": "Si", "worker": "Su", "readonly": "", "backup": "S"},
        "audit_log": {"app": "Si", "worker": "Si", "readonly": "", "backup": "S"},
        "audit_chain": {"app": "S", "worker": "S", "readonly": "", "backup": "S"},
        "audit_pending": {"app": "S", "worker": "S", "readonly": "", "backup": "S"},
        "book_snapshots": {"app": "SID", "worker": "S", "readonly": "S", "backup": "S"},
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
SESSION_CHANGES = {
    "address",
    "device",
    "idle_expires_at",
    "last_used_at",
    "replaced_by",
    "revoked_at",
    "revoked_reason",
}
DELIVERY_CHANGES = {"status", "series", "attempts", "due_at", "lease", "last_error", "finished_at"}
COLUMN_RIGHTS = {
    ("audit_log", "app", "INSERT"): {"action", "actor", "detail", "subject"},
    ("audit_log", "worker", "INSERT"): {"action", "actor", "detail", "subject"},
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
        "reverses",
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
        "trade_id",
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
        "trade_id",
        "type",
        "version",
    },
    ("liquidity_events", "app", "INSERT"): {
        "actor",
        "base_amount",
        "base_fees",
        "executed_at",
        "id",
        "liquidity",
        "market_id",
        "position_id",
        "quote_amount",
        "quote_fees",
        "sequence",
        "source",
        "source_event_id",
        "type",
        "user_id",
        "version",
    },
    ("transfers", "app", "INSERT"): {
        "amount",
        "asset_id",
        "executed_at",
        "id",
        "kind",
        "market_id",
        "note",
        "reverses",
        "sequence",
        "source",
        "source_transfer_id",
        "user_id",
    },
    ("portfolio_snapshots", "worker", "UPDATE"): {
        "fees",
        "funding",
        "holdings",
        "log_id",
        "net_transfers",
        "pool_profit",
        "pool_value",
        "positions",
        "realized",
        "stale",
        "total_value",
        "unrealized",
        "xid",
    },
    ("markets", "app", "UPDATE"): {"status", "tick_size", "lot_size"},
    ("venue", "app", "UPDATE"): {"status"},
    ("market_sequences", "app", "UPDATE"): {"market_id"},
    ("market_sequences", "worker", "UPDATE"): {"market_id"},
    ("fee_rates", "app", "UPDATE"): {"maker_rate", "taker_rate"},
    ("user_fee_tiers", "app", "UPDATE"): {"tier"},
    ("matches", "app", "INSERT"): {
        "block_number",
        "chain",
        "executed_at",
        "id",
        "maker_trade_id",
        "market_id",
        "request_hash",
        "source",
        "source_match_id",
        "taker_trade_id",
    },
    ("matches", "app", "UPDATE"): {"undone", "undone_at", "undone_by", "undone_reason"},
    ("users", "app", "UPDATE"): {
        "email_ciphertext",
        "email_index",
        "personal_ciphertext",
        "preferences",
        "role",
        "status",
        "username",
    },
    ("users", "worker", "UPDATE"): {
        "email_ciphertext",
        "email_index",
        "personal_ciphertext",
        "preferences",
        "status",
        "username",
    },
    ("wallets", "app", "UPDATE"): {"is_primary"},
    ("user_sessions", "app", "UPDATE"): SESSION_CHANGES,
    ("user_sessions", "worker", "UPDATE"): SESSION_CHANGES,
    ("master_keys", "app", "UPDATE"): {"retired_at"},
    ("system_keys", "app", "UPDATE"): {"wrapped_key", "master_version"},
    ("user_keys", "app", "UPDATE"): {"wrapped_key", "master_version"},
    ("api_keys", "app", "UPDATE"): {
        "allowed_addresses",
        "expires_at",
        "last_used_at",
        "name",
        "replaced_by",
        "revoked_at",
        "revoked_reason",
    },
    ("api_keys", "worker", "UPDATE"): {"name", "allowed_addresses"},
    ("users", "worker", "SELECT"): {
        "created_at",
        "email_ciphertext",
        "id",
        "kind",
        "preferences",
        "role",
        "status",
        "updated_at",
        "username",
        "version",
    },
    ("user_sessions", "worker", "SELECT"): {
        "address",
        "created_at",
        "device",
        "expires_at",
        "family_id",
        "id",
        "idle_expires_at",
        "last_used_at",
        "method",
        "revoked_at",
        "revoked_reason",
        "user_id",
    },
    ("api_keys", "worker", "SELECT"): {
        "allowed_addresses",
        "created_at",
        "expires_at",
        "id",
        "name",
        "revoked_at",
        "revoked_reason",
        "user_id",
    },
    ("user_keys", "worker", "SELECT"): {"user_id", "wrapped_key", "master_version", "created_at"},
    ("system_keys", "worker", "SELECT"): {"name", "wrapped_key", "master_version", "created_at"},
    ("users", "user", "SELECT"): {
        "created_at",
        "id",
        "kind",
        "preferences",
        "role",
        "status",
        "updated_at",
        "username",
        "version",
    },
    ("wallets", "user", "SELECT"): {"address", "chain", "created_at", "id", "is_primary", "user_id"},
    ("user_sessions", "user", "SELECT"): {
        "address",
        "created_at",
        "device",
        "expires_at",
        "id",
        "idle_expires_at",
        "last_used_at",
        "revoked_at",
        "revoked_reason",
        "user_id",
    },
    ("api_keys", "user", "SELECT"): {
        "allowed_addresses",
        "created_at",
        "expires_at",
        "id",
        "key_start",
        "last_used_at",
        "name",
        "permissions",
        "revoked_at",
        "revoked_reason",
        "user_id",
    },
    ("notifications", "app", "UPDATE"): {"title", "body", "data", "read_at"},
    ("notifications", "worker", "UPDATE"): {"title", "body", "data", "read_at"},
    ("notification_templates", "app", "UPDATE"): {"subject", "body", "html"},
    ("notification_preferences", "app", "UPDATE"): {"enabled"},
    ("notification_webhooks", "app", "UPDATE"): {"url_ciphertext", "secret_ciphertext", "created_at"},
    ("notification_deliveries", "app", "INSERT"): {"notification_id", "channel", "due_at"},
    ("notification_deliveries", "worker", "INSERT"): {"notification_id", "channel", "due_at"},
    ("notification_deliveries", "app", "UPDATE"): DELIVERY_CHANGES,
    ("notification_deliveries", "worker", "UPDATE"): DELIVERY_CHANGES,
    ("price_alerts", "worker", "UPDATE"): {"status", "watched_from", "triggered_at"},
    ("known_devices", "worker", "UPDATE"): {"last_seen_at"},
    ("new_sign_ins", "worker", "UPDATE"): {"session_id"},
    ("system_notices", "app", "INSERT"): {"id", "role", "title", "body"},
    ("system_notices", "worker", "UPDATE"): {"reached", "finished_at"},
    ("users", "readonly", "SELECT"): {"id", "kind", "username", "role", "status", "created_at", "updated_at"},
}
SECRETS = {
    "api_keys": ("key_hash",),
    "user_keys": ("wrapped_key",),
    "system_keys": ("wrapped_key",),
    "sign_in_nonces": ("nonce_hash",),
    "users": ("email_ciphertext", "email_index", "preferences"),
    "user_sessions": ("token_hash", "device", "address"),
    "wallets": ("address",),
    "notifications": ("body",),
    "notification_webhooks": ("url_ciphertext", "secret_ciphertext"),
    "notification_preferences": ("enabled",),
    "price_alerts": ("price",),
    "known_devices": ("device_hash",),
    "audit_log": ("detail",),
    "idempotency_keys": ("key",),
}
ROLES = ("app", "worker", "readonly", "backup", "user")
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
    assert found == {table: rights.get(role, "") for table, rights in RIGHTS[database].items()}


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
    partly = {
        (table, role, VERBS[letter.upper()])
        for table, of_roles in RIGHTS["main"].items()
        for role, letters in of_roles.items()
        for letter in letters
        if letter.islower()
    }
    assert set(COLUMN_RIGHTS) == partly
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


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("api_keys", "key_hash"),
        ("user_sessions", "token_hash"),
        ("users", "email_index"),
        ("users", "personal_ciphertext"),
    ],
)
def test_the_worker_cannot_read_what_it_does_not_need(
    shared_databases: DatabasePair, table: str, column: str
) -> None:
    with (
        psycopg.connect(shared_databases.main_url("worker")) as connection,
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
        # What is looked at when it is committed.
        insert(app, "user_keys", {**MAIN_ROWS["user_keys"], "user_id": MAIN_ROWS["users"]["id"]})
        app.execute("UPDATE users SET status = 'erased' WHERE id = %s", (GONE,))


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
