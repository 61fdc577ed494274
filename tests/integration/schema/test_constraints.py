"""Every constraint is attacked, and refuses; the rows that the attacks begin with are accepted."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import errors

from tests.conftest import DatabasePair
from tests.integration.schema.attacks import (
    ADDRESS,
    ATTACKS,
    GONE,
    ID,
    INACTIVE,
    MAIN_ROWS,
    NOTIFICATION,
    ORDER,
    OTHER_ADDRESS,
    OTHER_ID,
    POOL,
    POSITION,
    ROWS,
    SETUP,
    TAKER_TRADE,
    TIME,
    TRANSFER,
    USER,
    Attack,
    insert,
)

DATABASES = ("main", "analytics")
PARTITION_SUFFIX = re.compile(r"_\d{4}_\d{2}(?=_)")

AT_COMMIT = "SET CONSTRAINTS ALL IMMEDIATE"

ORDER_COLUMNS = (
    "INSERT INTO orders (id, user_id, market_id, base_decimals, quote_decimals, side, type, quantity, price, status)"
)
ANOTHER_ORDER = f"{ORDER_COLUMNS} VALUES ('{UUID(int=ID.int + 400)}', '{USER}', 1, 9, 6, 'buy', 'limit', 1, 100,"
NEXT_ORDER = ANOTHER_ORDER.replace(str(UUID(int=ID.int + 400)), str(UUID(int=ID.int + 401)))
FURTHER_EVENT = (
    "INSERT INTO order_events (id, order_id, version, market_id, market_sequence, type, status, quantity,"
    " filled_quantity, price, actor) VALUES"
)
POSITION_COLUMNS = (
    "INSERT INTO liquidity_positions (id, user_id, market_id, pool_id, kind, tick_lower, tick_upper, liquidity,"
    f" base_amount, quote_amount) VALUES ('{OTHER_ID}', '{USER}', 1, '{POOL}', 'concentrated', -20, 20,"
)
LIQUIDITY_EVENT = (
    "INSERT INTO liquidity_events (id, position_id, user_id, market_id, executed_at, version, type, liquidity,"
    f" base_amount, quote_amount, base_fees) VALUES ('{OTHER_ID}', '{POSITION}', '{USER}', 1, '{TIME}',"
)
TRANSFER_COLUMNS = (
    "INSERT INTO transfers (id, user_id, executed_at, kind, asset_id, amount, reverses)"
    f" VALUES ('{OTHER_ID}', '{USER}', '{TIME}',"
)

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
    ("order_events_never_emptied", "TRUNCATE order_events"),
    ("orders_only_by_events", "UPDATE orders SET status = 'open'"),
    ("orders_only_by_events", f"UPDATE orders SET filled_quantity = 1 WHERE id = '{ORDER}'"),
    ("orders_only_by_events", "DELETE FROM orders"),
    ("orders_only_by_events", "TRUNCATE orders CASCADE"),
    ("orders_place", f"{ANOTHER_ORDER} 'open'); UPDATE markets SET status = 'halted'; {NEXT_ORDER} 'open')"),
    ("orders_place", f"UPDATE markets SET status = 'post_only'; {ANOTHER_ORDER} 'open')"),
    ("orders_place", f"UPDATE venue SET status = 'cancel_only'; {ANOTHER_ORDER} 'open')"),
    ("orders_place", f"UPDATE markets SET tick_size = 3; {ANOTHER_ORDER} 'open')"),
    ("orders_place", f"UPDATE markets SET lot_size = 0.7; {ANOTHER_ORDER} 'open')"),
    ("orders_place", f"{ANOTHER_ORDER} 'cancelled')"),
    ("orders_place", f"{ANOTHER_ORDER} 'untriggered')"),
    ("orders_place", f"UPDATE users SET status = 'deactivated' WHERE id = '{USER}'; {ANOTHER_ORDER} 'open')"),
    ("market_sequences_append_only", "DELETE FROM market_sequences"),
    ("market_sequences_append_only", "UPDATE market_sequences SET market_id = market_id"),
    ("market_sequences_never_emptied", "TRUNCATE market_sequences"),
    ("matches_keep", "UPDATE matches SET source_match_id = '2'"),
    ("matches_keep", "DELETE FROM matches"),
    (
        "matches_keep",
        (
            "UPDATE matches SET undone = 'busted', undone_at = now(), undone_by = 'venue';"
            " UPDATE matches SET undone = NULL, undone_at = NULL, undone_by = NULL"
        ),
    ),
    ("matches_never_emptied", "TRUNCATE matches"),
    (
        "matches_executed",
        (
            "INSERT INTO matches (id, market_id, taker_trade_id, request_hash, executed_at)"
            f" VALUES ('{OTHER_ID}', 1, '{TAKER_TRADE}', 'hhhhhhhhhhhhhhhh', '{TIME}')"
        ),
    ),
    (
        "matches_reversed",
        (
            "ALTER TABLE trades DISABLE TRIGGER trades_append_only; DELETE FROM trades WHERE reverses IS NOT NULL;"
            " UPDATE matches SET undone = 'busted', undone_at = now(), undone_by = 'venue'"
        ),
    ),
    (
        "trades_mirror",
        (
            "INSERT INTO trades (id, user_id, market_id, base_decimals, quote_decimals, side, base_amount,"
            f" quote_amount, price, executed_at, reverses) VALUES ('{OTHER_ID}', '{USER}', 1, 9, 6, 'buy', 1, 100,"
            f" 100, '{TIME}', '{ID}')"
        ),
    ),
    (
        "order_events_follow",
        f"{FURTHER_EVENT} ('{OTHER_ID}', '{ORDER}', 3, 1, 3, 'cancelled', 'cancelled', 1, 0, 100, 'x')",
    ),
    ("pools_append_only", "UPDATE pools SET fee_ppm = 1"),
    ("pools_append_only", "DELETE FROM pools"),
    ("liquidity_positions_open", f"{POSITION_COLUMNS} 0, 1, 100)"),
    ("liquidity_positions_open", f"{POSITION_COLUMNS} 7, 1, 100.0000001)"),
    ("liquidity_positions_open", f"{POSITION_COLUMNS} 7, 1, 100)".replace("-20, 20", "-5, 20")),
    ("liquidity_positions_open", f"{POSITION_COLUMNS} 7, 1, 100)".replace("-20, 20", "-20, 887280")),
    ("liquidity_positions_open", f"UPDATE users SET status = 'deactivated'; {POSITION_COLUMNS} 7, 1, 100)"),
    ("liquidity_positions_only_by_events", "UPDATE liquidity_positions SET liquidity = 8"),
    ("liquidity_positions_only_by_events", "DELETE FROM liquidity_positions"),
    ("liquidity_positions_only_by_events", "TRUNCATE liquidity_positions CASCADE"),
    ("liquidity_events_append_only", "UPDATE liquidity_events SET base_fees = 1"),
    ("liquidity_events_append_only", "DELETE FROM liquidity_events"),
    ("liquidity_events_never_emptied", "TRUNCATE liquidity_events"),
    ("liquidity_events_follow", f"{LIQUIDITY_EVENT} 4, 'collected', 7, 0, 0, 0)"),
    ("liquidity_events_follow", f"{LIQUIDITY_EVENT} 3, 'collected', 8, 0, 0, 0)"),
    ("liquidity_events_follow", f"{LIQUIDITY_EVENT} 3, 'increased', 6, 1, 1, 0)"),
    ("liquidity_events_follow", f"{LIQUIDITY_EVENT} 3, 'decreased', 8, 1, 1, 0)"),
    ("liquidity_events_follow", f"{LIQUIDITY_EVENT} 3, 'decreased', 6, 0.0000000001, 1, 0)"),
    ("liquidity_events_follow", f"{LIQUIDITY_EVENT} 3, 'collected', 7, 0, 0, 0)".replace(str(USER), str(INACTIVE))),
    ("pool_snapshots_append_only", "UPDATE pool_snapshots SET liquidity = 1"),
    ("pool_snapshots_append_only", "DELETE FROM pool_snapshots"),
    ("transfers_append_only", "UPDATE transfers SET amount = 1"),
    ("transfers_append_only", "DELETE FROM transfers"),
    ("transfers_never_emptied", "TRUNCATE transfers"),
    ("transfers_check", f"{TRANSFER_COLUMNS} 'deposit', 2, 0.0000001, NULL)"),
    ("transfers_check", f"{TRANSFER_COLUMNS} 'deposit', 2, -4, '{TRANSFER}')"),
    ("transfers_check", f"{TRANSFER_COLUMNS} 'withdrawal', 2, -5, '{TRANSFER}')"),
    ("transfers_check", f"{TRANSFER_COLUMNS} 'deposit', 1, -5, '{TRANSFER}')"),
    ("prices_append_only", "UPDATE prices SET price = 1"),
    ("prices_append_only", "DELETE FROM prices"),
    ("audit_log_append_only", "UPDATE audit_log SET actor = 'nobody'"),
    ("audit_log_append_only", "DELETE FROM audit_log"),
    ("audit_log_never_emptied", "TRUNCATE audit_log"),
    ("audit_chain_append_only", "UPDATE audit_chain SET audit_id = 1"),
    ("audit_chain_append_only", "DELETE FROM audit_chain"),
    ("audit_chain_never_emptied", "TRUNCATE audit_chain"),
    ("erasures_append_only", "UPDATE erasures SET erased_at = now()"),
    ("erasures_append_only", "DELETE FROM erasures"),
    (
        "users_raise_version",
        f"UPDATE users SET status = 'erased' WHERE id = '{USER}'; UPDATE users SET status = 'active'",
    ),
    (
        "wallets_active_user",
        f"INSERT INTO wallets (id, user_id, chain, address) VALUES ('{ID}', '{INACTIVE}', 'evm', '{ADDRESS}')",
    ),
    (
        "user_sessions_active_user",
        (
            "INSERT INTO user_sessions (id, user_id, family_id, token_hash, idle_expires_at, expires_at)"
            f" VALUES ('{ID}', '{INACTIVE}', '{ID}', sha256('x'), now(), now() + interval '1 hour')"
        ),
    ),
    (
        "api_keys_active_user",
        (
            "INSERT INTO api_keys (id, user_id, name, key_hash, key_start, permissions, expires_at)"
            f" VALUES ('{ID}', '{INACTIVE}', 'x', sha256('x'), 'ndk_', ARRAY['audit.read'], now() + interval '1 h')"
        ),
    ),
    (
        "user_keys_active_user",
        f"INSERT INTO user_keys VALUES ('{INACTIVE}', decode(repeat('00', 60), 'hex'), 1)",
    ),
    (
        "api_keys_permissions_exist",
        (
            "INSERT INTO api_keys (id, user_id, name, key_hash, key_start, permissions, expires_at)"
            f" VALUES ('{ID}', '{USER}', 'x', sha256('x'), 'ndk_', ARRAY['audit.burn'], now() + interval '1 hour')"
        ),
    ),
    (
        "wallets_keep_primary",
        (
            "INSERT INTO wallets (id, user_id, chain, address)"
            f" VALUES ('{ID}', '{USER}', 'evm', '{ADDRESS}'); {AT_COMMIT}"
        ),
    ),
    (
        "wallets_keep_primary",
        (
            "INSERT INTO wallets (id, user_id, chain, address, is_primary)"
            f" VALUES ('{ID}', '{USER}', 'evm', '{ADDRESS}', true),"
            f" ('{ORDER}', '{USER}', 'evm', '{OTHER_ADDRESS}', false); {AT_COMMIT};"
            f" DELETE FROM wallets WHERE id = '{ID}'"
        ),
    ),
    (
        "users_erased_whole",
        (
            "INSERT INTO wallets (id, user_id, chain, address, is_primary)"
            f" VALUES ('{ID}', '{USER}', 'evm', '{ADDRESS}', true);"
            f" UPDATE users SET status = 'erased' WHERE id = '{USER}';"
            f" INSERT INTO erasures (user_id) VALUES ('{USER}') ON CONFLICT DO NOTHING; {AT_COMMIT}"
        ),
    ),
    (
        "users_erased_whole",
        (
            f"INSERT INTO user_keys VALUES ('{USER}', decode(repeat('00', 60), 'hex'), 1);"
            f" UPDATE users SET status = 'erased' WHERE id = '{USER}';"
            f" INSERT INTO erasures (user_id) VALUES ('{USER}') ON CONFLICT DO NOTHING; {AT_COMMIT}"
        ),
    ),
    (
        "users_erased_whole",
        f"UPDATE users SET status = 'erased' WHERE id = '{INACTIVE}'; {AT_COMMIT}",
    ),
    (
        "user_sessions_stay_revoked",
        (
            "INSERT INTO user_sessions (id, user_id, family_id, token_hash, idle_expires_at, expires_at,"
            " revoked_at, revoked_reason)"
            f" VALUES ('{ID}', '{USER}', '{ID}', sha256('x'), now(), now() + interval '1 h', now(), '-');"
            " UPDATE user_sessions SET revoked_at = NULL, revoked_reason = NULL"
        ),
    ),
    (
        "api_keys_stay_revoked",
        (
            "INSERT INTO api_keys (id, user_id, name, key_hash, key_start, permissions, expires_at, revoked_at,"
            f" revoked_reason) VALUES ('{ID}', '{USER}', 'x', sha256('x'), 'ndk_', ARRAY['audit.read'],"
            " now() + interval '1 h', now(), 'x'); UPDATE api_keys SET revoked_at = NULL, revoked_reason = NULL"
        ),
    ),
    (
        "wallets_few",
        (
            "INSERT INTO wallets (id, user_id, chain, address)"
            f" SELECT gen_random_uuid(), '{USER}', 'evm', '0x' || lpad(n::text, 40, '0')"
            " FROM generate_series(1, 51) n"
        ),
    ),
    ("erasures_user_erased", f"INSERT INTO erasures (user_id) VALUES ('{USER}'); {AT_COMMIT}"),
    (
        "users_sealed_with_key",
        f"UPDATE users SET email_ciphertext = 'x', email_index = 'y' WHERE id = '{USER}'; {AT_COMMIT}",
    ),
    ("users_sealed_with_key", f"INSERT INTO users (id, personal_ciphertext) VALUES ('{ID}', 'x'); {AT_COMMIT}"),
    (
        "user_keys_kept",
        (
            f"INSERT INTO user_keys VALUES ('{USER}', decode(repeat('00', 60), 'hex'), 1);"
            f" UPDATE users SET personal_ciphertext = 'x' WHERE id = '{USER}'; {AT_COMMIT};"
            f" DELETE FROM user_keys WHERE user_id = '{USER}'"
        ),
    ),
    ("master_keys_stay_retired", "UPDATE master_keys SET retired_at = NULL WHERE version = 2"),
    ("master_keys_stay_retired", "UPDATE master_keys SET retired_at = now() + interval '1 day' WHERE version = 2"),
    (
        "notification_templates_check",
        "INSERT INTO notification_templates VALUES ('order_filled', 'email', 'de', '{market}', '{password}')",
    ),
    ("notification_templates_check", "UPDATE notification_templates SET subject = 'a { alone'"),
    ("notification_templates_keep_last", "DELETE FROM notification_templates"),
    (
        "notification_preferences_active_user",
        f"INSERT INTO notification_preferences VALUES ('{INACTIVE}', 'order_filled', 'email', true)",
    ),
    (
        "notification_webhooks_active_user",
        (
            "INSERT INTO notification_webhooks (user_id, url_ciphertext, secret_ciphertext)"
            f" SELECT '{INACTIVE}', sha256('x'), sha256('x')"
        ),
    ),
    (
        "price_alerts_active_user",
        (
            "INSERT INTO price_alerts (id, user_id, market_id, direction, price)"
            f" VALUES ('{ID}', '{INACTIVE}', 1, 'above', 1)"
        ),
    ),
    (
        "notification_deliveries_follow",
        (
            f"INSERT INTO notification_deliveries (notification_id, channel) VALUES ('{NOTIFICATION}', 'email');"
            " UPDATE notification_deliveries SET status = 'delivered', attempts = 1, finished_at = now()"
        ),
    ),
    (
        "users_erased_silent",
        (
            f"INSERT INTO price_alerts (id, user_id, market_id, direction, price) VALUES ('{ID}', '{USER}', 1,"
            f" 'above', 1); UPDATE users SET status = 'erased' WHERE id = '{USER}';"
            f" INSERT INTO erasures (user_id) VALUES ('{USER}') ON CONFLICT DO NOTHING; {AT_COMMIT}"
        ),
    ),
    (
        "users_erased_silent",
        (
            f"UPDATE notifications SET title = 'x'; UPDATE users SET status = 'erased' WHERE id = '{USER}';"
            f" INSERT INTO erasures (user_id) VALUES ('{USER}') ON CONFLICT DO NOTHING; {AT_COMMIT}"
        ),
    ),
    ("system_keys_master_in_use", "INSERT INTO system_keys VALUES ('x', decode(repeat('00', 60), 'hex'), 2)"),
    ("user_keys_master_in_use", f"INSERT INTO user_keys VALUES ('{USER}', decode(repeat('00', 60), 'hex'), 2)"),
]
AUDITED = (
    "api_keys",
    "assets",
    "erasures",
    "fee_rates",
    "markets",
    "master_keys",
    "notification_kinds",
    "notification_templates",
    "notification_webhooks",
    "permissions",
    "pools",
    "recovery_epoch",
    "role_permissions",
    "roles",
    "system_keys",
    "user_fee_tiers",
    "system_notices",
    "user_keys",
    "user_sessions",
    "users",
    "venue",
    "wallets",
)
TRIGGERS_THAT_ACT = {
    *(f"{table}_audit" for table in AUDITED),
    "matches_audit_emptied",
    *(f"{table}_audit_emptied" for table in AUDITED),
    "audit_log_queue",
    "markets_begin_sequence",
    "matches_audit",
    "api_keys_announce",
    "api_keys_announce_deletion",
    "notifications_announce_change",
    "notifications_announce_deletion",
    "notifications_announce_new",
    "role_permissions_announce",
    "roles_announce",
    "user_keys_announce",
    "user_sessions_announce",
    "user_sessions_announce_deletion",
    "user_sessions_note_sign_in",
    "users_announce",
    "users_sessions_follow",
    "wallets_announce",
    "wallets_raise_version",
}
"""They refuse nothing: what they do is shown in test_acting_triggers."""
WITH_ONE_ROW = ("recovery_epoch", "change_channel", "venue", "price_alert_position")
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
        if table in WITH_ONE_ROW:
            connection.execute(f"DELETE FROM {table}".encode())
        if table == "market_sequences":
            connection.execute("ALTER TABLE market_sequences DISABLE TRIGGER USER")
            connection.execute("DELETE FROM market_sequences")
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
        connection.execute("UPDATE users SET status = 'erased' WHERE id = %s", (GONE,))
        for table in (
            "trades",
            "order_events",
            "matches",
            "audit_log",
            "audit_chain",
            "erasures",
            "liquidity_events",
            "pool_snapshots",
            "prices",
        ):
            insert(connection, table, MAIN_ROWS[table])
        with pytest.raises((errors.IntegrityError, errors.SerializationFailure)) as caught:
            connection.execute(change.encode())
    if "append_only" in trigger or "keep" in trigger:
        assert caught.value.diag.message_hint
    if caught.value.diag.constraint_name:
        assert caught.value.diag.constraint_name == trigger


def test_every_trigger_of_the_catalog_is_attacked(attacked: dict[str, psycopg.Connection[Any]]) -> None:
    rows = {
        row[0]
        for connection in attacked.values()
        for row in connection.execute("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgparentid = 0")
    }
    assert rows == {trigger for trigger, _ in CHANGES_REFUSED_BY_TRIGGER} | TRIGGERS_THAT_ACT


@pytest.mark.parametrize(("constraint", "change"), CHANGES_REFUSED_BY_REFERENCES)
def test_what_is_referred_to_stays(
    attacked: dict[str, psycopg.Connection[Any]], constraint: str, change: str
) -> None:
    connection = attacked["main"]
    with connection.transaction(force_rollback=True):
        insert(connection, "trades", MAIN_ROWS["trades"])
        for table in ("order_events", "orders"):
            connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER; DELETE FROM {table}".encode())
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
        row = connection.execute("SELECT count(*) FROM users WHERE kind = 'system'").fetchone()
    assert row == (1,)
