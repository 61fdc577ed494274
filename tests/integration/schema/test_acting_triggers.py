"""What triggers do by themselves, so that plain SQL cannot leave it out."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.conftest import DatabasePair
from tests.integration.schema.attacks import ADDRESS, GONE, MAIN_ROWS, OTHER_ADDRESS, SETUP_MAIN, USER, insert

SESSION, KEY = MAIN_ROWS["user_sessions"], MAIN_ROWS["api_keys"]


@pytest.fixture
def main(fresh_databases: DatabasePair) -> Any:
    """The owner's connection, with a user, a wallet, a session and an API key."""
    with psycopg.connect(fresh_databases.main_url("owner"), autocommit=True) as connection:
        connection.execute(SETUP_MAIN.encode())
        connection.execute("DELETE FROM users WHERE id = %s", (GONE,))
        for table in ("wallets", "user_sessions", "api_keys", "user_keys"):
            insert(connection, table, MAIN_ROWS[table])
        connection.execute(
            "UPDATE user_sessions SET expires_at = now() + interval '8 hours',"
            " idle_expires_at = now() + interval '1 hour'"
        )
        yield connection


def value(connection: Any, statement: str) -> Any:
    return connection.execute(statement.encode()).fetchone()[0]


def heard(pair: DatabasePair, connection: Any, *statements: str) -> list[str]:
    """What a listener is told of by the statements: namespace and key."""
    with psycopg.connect(pair.main_url("app"), autocommit=True) as listener:
        listener.execute("SELECT listen_to_changes()")
        for statement in statements:
            connection.execute(statement.encode())
        connection.execute("SELECT announce('end', '.')")
        payloads = []
        for notification in listener.notifies(timeout=10):
            payloads.append(notification.payload)
            if notification.payload.startswith("end "):
                break
    return sorted(" ".join(p.split(" ")[::2]) for p in payloads[:-1])


def test_every_change_of_a_user_raises_the_version(main: Any) -> None:
    before = value(main, f"SELECT version FROM users WHERE id = '{USER}'")
    main.execute("UPDATE users SET preferences = '{}', version = 1")
    main.execute("UPDATE wallets SET address = %s", (OTHER_ADDRESS,))
    main.execute("DELETE FROM wallets")
    assert value(main, f"SELECT version FROM users WHERE id = '{USER}'") == before + 3


@pytest.mark.parametrize("status", ["deactivated", "erased"])
def test_a_user_who_is_not_active_any_more_has_no_sessions_and_keys(main: Any, status: str) -> None:
    with main.transaction():
        if status == "erased":
            main.execute("DELETE FROM wallets; DELETE FROM user_keys; INSERT INTO erasures SELECT id FROM users")
        main.execute(f"UPDATE users SET status = '{status}'".encode())
    assert value(main, "SELECT revoked_reason FROM user_sessions") == f"user {status}"
    assert value(main, "SELECT revoked_reason FROM api_keys") == f"user {status}"


def test_another_role_makes_the_sessions_renew_and_ends_none(main: Any) -> None:
    main.execute("UPDATE users SET role = 'auditor'")
    assert main.execute("SELECT must_renew, revoked_at FROM user_sessions").fetchone() == (True, None)


def test_a_deactivation_waits_for_a_session_that_is_being_made_and_ends_it(
    main: Any, fresh_databases: DatabasePair
) -> None:
    session = {**SESSION, "id": UUID(int=SESSION["id"].int + 9), "token_hash": b"v" * 32}
    with psycopg.connect(fresh_databases.main_url("app")) as app:
        insert(app, "user_sessions", session)
        with pytest.raises(psycopg.errors.LockNotAvailable):
            main.execute(
                f"SET lock_timeout = '100ms'; UPDATE users SET status = 'deactivated' WHERE id = '{USER}'".encode()
            )
    main.execute(f"UPDATE users SET status = 'deactivated' WHERE id = '{USER}'".encode())
    assert value(main, "SELECT count(*) FROM user_sessions WHERE revoked_at IS NULL") == 0


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (
            "UPDATE users SET preferences = '{\"theme\": \"dark\"}' WHERE username IS NULL AND status = 'active'",
            ["user {user}"],
        ),
        (
            "UPDATE users SET username = 'ann', email_ciphertext = 'x', email_index = '\\x0a' WHERE id = '{user}'",
            ["email 0a", "user {user}", "username ann"],
        ),
        ("INSERT INTO users (id, username) VALUES ('{other}', 'bob')", ["user {other}", "username bob"]),
        (
            f"UPDATE wallets SET address = '{OTHER_ADDRESS}'",
            ["user {user}", f"wallet evm:{ADDRESS}", f"wallet evm:{OTHER_ADDRESS}"],
        ),
        ("DELETE FROM wallets", ["user {user}", f"wallet evm:{ADDRESS}"]),
        ("DELETE FROM user_keys", ["user {user}"]),
        ("UPDATE user_sessions SET revoked_at = now(), revoked_reason = 'x'", ["session {session}"]),
        ("UPDATE user_sessions SET must_renew = true", ["session {session}"]),
        ("UPDATE user_sessions SET last_used_at = now(), idle_expires_at = idle_expires_at + interval '1 s'", []),
        ("UPDATE user_sessions SET idle_expires_at = now()", ["session {session}"]),
        ("DELETE FROM user_sessions", ["session {session}"]),
        ("UPDATE api_keys SET revoked_at = now(), revoked_reason = 'x'", ["api_key {key}"]),
        ("UPDATE api_keys SET last_used_at = now()", []),
        ("DELETE FROM api_keys", ["api_key {key}"]),
        ("DELETE FROM role_permissions WHERE role = 'user'", ["roles all"]),
        ("INSERT INTO roles VALUES ('janitor', 'Keeps the place clean')", ["roles all"]),
        (
            "UPDATE users SET status = 'deactivated' WHERE status = 'active'",
            ["api_key {key}", "session {session}", "user {user}"],
        ),
    ],
)
def test_changes_are_announced_at_commit(
    main: Any, fresh_databases: DatabasePair, statement: str, expected: list[str]
) -> None:
    names = {
        "user": USER,
        "other": UUID(int=USER.int + 7),
        "session": SESSION["token_hash"].hex(),
        "key": KEY["key_hash"].hex(),
    }
    for name, text in names.items():
        statement = statement.replace(f"{{{name}}}", str(text))
    assert heard(fresh_databases, main, statement) == [line.format(**names) for line in expected]


def test_what_is_rolled_back_is_not_announced(main: Any, fresh_databases: DatabasePair) -> None:
    assert heard(fresh_databases, main, "BEGIN", "DELETE FROM wallets", "ROLLBACK") == []


CHANNEL = "SELECT name FROM change_channel"


@pytest.mark.parametrize("role", ["user", "readonly"])
def test_who_does_not_cache_hears_of_no_change_and_announces_none(
    main: Any, fresh_databases: DatabasePair, role: Any
) -> None:
    """PostgreSQL lets everybody listen and notify: the name of the channel is the secret."""
    with psycopg.connect(fresh_databases.main_url(role), autocommit=True) as stranger:
        for statement in (CHANNEL, "SELECT listen_to_changes()", "SELECT announce('user', 'x')"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                stranger.execute(statement.encode())
        seen = stranger.execute("SELECT string_agg(query, ' ') FROM pg_stat_activity").fetchone()
        assert value(main, CHANNEL) not in str(seen)


def test_a_new_market_counts_its_events_from_the_start(main: Any) -> None:
    insert(main, "markets", MAIN_ROWS["markets"])
    assert value(main, "SELECT count(*) FROM markets m LEFT JOIN market_sequences s ON s.market_id = m.id"
                       " WHERE s.market_id IS NULL") == 0  # fmt: skip
    assert value(main, "SELECT sequence FROM market_sequences ORDER BY market_id DESC LIMIT 1") == 0
