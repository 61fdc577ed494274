"""Every change of what is audited stands in the log: by whom, of what, without secrets; from plain SQL too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from tests.conftest import DatabasePair
from tests.integration.schema.attacks import (
    ADDRESS,
    GONE,
    ID,
    MAIN_ROWS,
    OTHER_ADDRESS,
    SETUP_MAIN,
    SETUP_TRADES,
    USER,
    insert,
)

Connection = psycopg.Connection[Any]
REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Audited:
    """A table: what its row is called in the log, a change of it and what the log says of that. ``before`` makes room
    for the row. What the schema refuses leaves no trace."""

    table: str
    subject: str
    change: str
    said: dict[str, Any] | str
    deletion: str = ""
    before: str = ""
    creation: bool = True
    """Whether a new row is written down: where not, it is no act, but what is recorded all the time."""

    def __str__(self) -> str:
        return self.table


def after(**values: Any) -> dict[str, Any]:
    return {"after": values}


TABLES = [
    Audited(
        "users",
        f"user:{ID}",
        "status = 'deactivated'",
        after(status="deactivated"),
        before="DROP TRIGGER users_sealed_with_key ON users",
    ),
    Audited("wallets", f"wallet:{ID}", f"address = '{OTHER_ADDRESS}'", {"changed": ["address"]}),
    Audited("user_sessions", f"session:{ID}", "must_renew = true", after(must_renew=True)),
    Audited(
        "api_keys",
        f"api_key:{ID}",
        "revoked_at = now(), revoked_reason = 'lost'",
        after(revoked_reason="lost"),
    ),
    Audited("roles", "role:janitor", "description = 'Sweeps'", {"changed": ["description"]}),
    Audited("permissions", "permission:floors.clean", "description = 'Sweep'", {"changed": ["description"]}),
    Audited("role_permissions", "role:user", "permission = 'audit.verify'", after(permission="audit.verify")),
    Audited(
        "master_keys", "master_key:3", "retired_at = '2030-01-01Z'", after(retired_at="2030-01-01T00:00:00+00:00")
    ),
    Audited(
        "system_keys",
        "system_key:email_index",
        "wrapped_key = decode(repeat('00', 60), 'hex')",
        {"changed": ["wrapped_key"]},
    ),
    Audited(
        "user_keys", f"user:{USER}", "wrapped_key = decode(repeat('00', 60), 'hex')", {"changed": ["wrapped_key"]}
    ),
    Audited(
        "erasures",
        f"user:{GONE}",
        "erased_at = now()",
        REFUSED,
        REFUSED,
        before="DROP TRIGGER erasures_user_erased ON erasures",
    ),
    Audited(
        "recovery_epoch",
        "epoch:1",
        "reason = 'restored'",
        after(reason="restored"),
        before="DELETE FROM recovery_epoch",
    ),
    Audited(
        "notification_kinds",
        "notification_kind:floor_cleaned",
        "default_channels = '{email}'",
        after(default_channels=["email"]),
    ),
    Audited(
        "notification_templates",
        "notification_template:order_filled/email/de",
        "subject = 'Fertig'",
        after(subject="Fertig"),
    ),
    Audited(
        "notification_webhooks",
        f"user:{USER}",
        "url_ciphertext = decode(repeat('00', 40), 'hex')",
        {"changed": ["url_ciphertext"]},
    ),
    Audited("system_notices", f"system_notice:{ID}", "title = 'No maintenance'", after(title="No maintenance")),
    Audited("assets", "asset:ETH", "name = 'Ethereum'", after(name="Ethereum")),
    Audited(
        "markets",
        "market:USDC/SOL",
        "status = 'halted'",
        after(status="halted"),
        before=(
            "ALTER TABLE market_sequences DROP CONSTRAINT market_sequences_market_fkey;"
            " ALTER TABLE market_sequences DISABLE TRIGGER USER"
        ),
    ),
    Audited(
        "matches",
        f"match:{ID}",
        "undone = 'busted', undone_at = now(), undone_by = 'venue'",
        after(undone="busted"),
        REFUSED,
        before=SETUP_TRADES,
        creation=False,
    ),
    Audited("venue", "venue:true", "status = 'halted'", after(status="halted"), before="DELETE FROM venue"),
    Audited("fee_rates", "fee_rates:1", "taker_rate = 0.002", after(taker_rate=0.002)),
    Audited("user_fee_tiers", f"user:{USER}", "tier = 4", after(tier=4)),
    Audited("pools", "pool:0xother", "fee_ppm = 1", REFUSED, REFUSED),
]
NOT_AUDITED = {
    "audit_log": "it is the log",
    "audit_chain": "the log's own, append-only, and verified",
    "audit_pending": "the log's own, and verified",
    "trades": "records of trading: append-only, thousands a second; staff that adds to others' is an act",
    "orders": "records of trading, whose history is order_events",
    "order_events": "append-only, with actor and reason",
    "liquidity_positions": "records of trading",
    "portfolio_snapshots": "computed from records",
    "notifications": "made by programs, marked as read by their user",
    "idempotency_keys": "made with their trade, and gone in a week",
    "change_channel": "a random name, made with the schema; no service can change it",
    "sign_in_nonces": "live for minutes; the session that comes of one is audited",
    "liquidity_events": "records of trading: append-only, with actor",
    "pool_snapshots": "records of what pools did: append-only",
    "transfers": "records of what the venue reports: append-only",
    "prices": "records of a feed: append-only",
    "main_projections": "how far programs have read",
    "portfolio_holdings": "computed from records",
    "portfolio_flows": "computed from records",
    "portfolio_positions": "computed from records",
    "portfolio_lots": "computed from records",
    "portfolio_closings": "computed from records",
    "book_snapshots": "what another exchange reported",
    "market_sequences": "counts order_events, moved by triggers only",
    "order_transitions": "the state machine, which no service can change",
    "notification_preferences": "what users chose for themselves",
    "notification_deliveries": "attempts of programs",
    "notification_positions": "how far programs have read",
    "price_alerts": "what users chose for themselves",
    "price_alert_position": "how far programs have read",
    "known_devices": "made by programs from sessions, which are audited",
    "new_sign_ins": "made by programs from sessions, which are audited",
}
SECRETS = ("AAAA", "\\x", ADDRESS, OTHER_ADDRESS, "trader123", "c" * 16, "7777", "6b6b", "7474")


@pytest.fixture
def owner(fresh_databases: DatabasePair) -> Iterator[Connection]:
    """Plain SQL by the owner of the schema, on a few records."""
    with psycopg.connect(fresh_databases.main_url("owner"), autocommit=True) as connection:
        connection.execute(SETUP_MAIN.encode())
        yield connection


def entries(connection: Connection, table: str, since: int) -> list[tuple[str, str, str, dict[str, Any], str]]:
    return connection.execute(
        "SELECT actor, action, subject, detail, database_role FROM audit_log"
        " WHERE id > %s AND starts_with(action, %s) ORDER BY id",
        (since, f"{table}."),
    ).fetchall()


def newest(connection: Connection) -> int:
    row = connection.execute("SELECT coalesce(max(id), 0) FROM audit_log").fetchone()
    assert row is not None
    return row[0]


def test_every_table_is_audited_or_said_to_be_not(owner: Connection):
    """A new table is either in ``TABLES``, with both of its triggers, or in ``NOT_AUDITED`` with a reason."""
    tables = owner.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
        " AND NOT relispartition AND relname NOT LIKE '%yoyo%'"
    ).fetchall()
    assert {name for (name,) in tables} == {*NOT_AUDITED, *(audited.table for audited in TABLES)}
    found = owner.execute(
        "SELECT t.tgrelid::regclass::text, count(*) FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid"
        " WHERE p.proname = 'audit_change' AND t.tgparentid = 0 GROUP BY 1"
    ).fetchall()
    assert dict(found) == {audited.table: 2 for audited in TABLES}, "one for rows, one for TRUNCATE"


@pytest.mark.parametrize("audited", TABLES, ids=str)
def test_every_change_is_written_down(owner: Connection, audited: Audited):
    table = audited.table
    if audited.before:
        owner.execute(audited.before.encode())
    steps = (
        ("created", None, {}),
        ("updated", f"UPDATE {table} SET {audited.change}{own_row(audited)}", audited.said),
        ("deleted", f"DELETE FROM {table}{own_row(audited)}", audited.deletion or {}),
    )
    for action, statement, said in steps:
        since = newest(owner)
        try:
            if statement is None:
                insert(owner, table, MAIN_ROWS[table])
            else:
                owner.execute(statement.encode())
        except psycopg.errors.IntegrityConstraintViolation:
            assert said == REFUSED, (table, action)
            assert entries(owner, table, since) == []
            continue
        assert said != REFUSED, (table, action)
        if action == "created" and not audited.creation:
            assert entries(owner, table, since) == []
            continue
        [(by, what, subject, detail, role)] = entries(owner, table, since)
        assert (by, what, subject, role) == (
            "database:novadex_owner",
            f"{table}.{action}",
            audited.subject,
            "novadex_owner",
        )
        assert isinstance(said, dict)
        assert said.items() <= detail.items() or said.get("after", {}).items() <= detail["after"].items(), detail
        assert not [secret for secret in SECRETS if secret in str(detail)], detail


def own_row(audited: Audited) -> str:
    """The one row that was put in."""
    column, value = next(iter(MAIN_ROWS[audited.table].items()))
    more = " AND permission IN ('audit.read', 'audit.verify')" if audited.table == "role_permissions" else ""
    return f" WHERE {column} = '{value}'{more}"


@pytest.mark.parametrize("audited", TABLES, ids=str)
def test_an_emptied_table_is_written_down(owner: Connection, audited: Audited):
    since = newest(owner)
    try:
        with owner.transaction():
            owner.execute(f"TRUNCATE {audited.table} CASCADE".encode())
            rows = entries(owner, audited.table, since)
            raise psycopg.Rollback
    except psycopg.errors.IntegrityConstraintViolation:
        assert audited.table in {"erasures", "users", "assets", "markets", "matches", "roles", "permissions", "pools"}
    else:
        assert [row[:3] for row in rows] == [
            ("database:novadex_owner", f"{audited.table}.emptied", f"table:{audited.table}")
        ]


@pytest.mark.parametrize(
    ("role", "actor", "said"),
    [
        ("app", "user:somebody", None),
        ("worker", "user:somebody", None),
        ("owner", "database:novadex_owner", "user:somebody"),
        (None, "database:postgres", "user:somebody"),
    ],
)
def test_only_services_say_for_whom_they_act(
    owner: Connection, fresh_databases: DatabasePair, role: Any, actor: str, said: str | None
):
    since = newest(owner)
    with psycopg.connect(fresh_databases.main_url(role), autocommit=True) as connection:
        connection.execute("SET novadex.actor = 'user:somebody'")
        connection.execute("UPDATE users SET status = 'deactivated' WHERE id = %s", (USER,))
    [(by, _, _, detail, _)] = entries(owner, "users", since)
    assert (by, detail.get("said")) == (actor, said)
