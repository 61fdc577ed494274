"""Live sessions and keys are found among many that ended, and an erasure finds all, by an index."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest

from novadex.api_keys.store import QUERIES as API_KEYS
from novadex.keys.erasures import SQL as ERASURES
from novadex.sessions.service import QUERIES as SESSIONS
from tests.conftest import DatabasePair

SOMEBODY = UUID(int=7)
FILL = """
ALTER TABLE users DISABLE TRIGGER USER;
ALTER TABLE user_sessions DISABLE TRIGGER USER;
ALTER TABLE api_keys DISABLE TRIGGER USER;
INSERT INTO users (id) SELECT lpad(to_hex(n), 32, '0')::uuid FROM generate_series(1, 1000) n;
INSERT INTO user_sessions (id, user_id, family_id, token_hash, device, idle_expires_at, expires_at, revoked_at,
    revoked_reason)
SELECT gen_random_uuid(), u.id, u.id, sha256((u.id::text || n)::bytea), 'd', now() + interval '1 h',
    now() + interval '1 h', CASE WHEN n > 2 THEN now() END, CASE WHEN n > 2 THEN 'rotated' END
FROM users u, generate_series(1, 60) n;
INSERT INTO api_keys (id, user_id, name, key_hash, key_start, permissions, expires_at, revoked_at, revoked_reason)
SELECT gen_random_uuid(), u.id, 'k', sha256((u.id::text || n)::bytea), 'ndk_', ARRAY['trades.read_own'],
    now() + interval '1 h', CASE WHEN n > 2 THEN now() END, CASE WHEN n > 2 THEN 'revoked' END
FROM users u, generate_series(1, 60) n;
ANALYZE users, user_sessions, api_keys;
"""
PLANS: dict[str, tuple[Any, list[Any], str]] = {
    "list": (SESSIONS.live_of_user, [SOMEBODY, 100], "user_sessions_live_idx"),
    "surplus": (SESSIONS.end_surplus, [SOMEBODY, 10], "user_sessions_live_idx"),
    "revoke all": (SESSIONS.revoke_of_user, [SOMEBODY, None, "x"], "user_sessions_live_idx"),
    "everybody": (SESSIONS.lock_users_signed_in, [SOMEBODY, 100], "user_sessions_live_idx"),
    "count keys": (API_KEYS.live_count, [SOMEBODY], "api_keys_live_idx"),
    "erase sessions": (ERASURES.empty_sessions, [SOMEBODY], "user_sessions_user_idx"),
    "erase keys": (ERASURES.empty_api_keys, [SOMEBODY], "api_keys_user_idx"),
}


@pytest.fixture(scope="module")
def many(make_databases: Callable[[], DatabasePair]) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(make_databases().main_url(None), cursor_factory=psycopg.RawCursor) as connection:
        connection.execute(FILL)
        yield connection


@pytest.mark.parametrize("what", PLANS)
def test_what_is_live_is_found_among_many_that_ended(many: psycopg.Connection[Any], what: str):
    query, parameters, index = PLANS[what]
    plan = "\n".join(line for (line,) in many.execute(f"EXPLAIN {query.sql}".encode(), parameters))
    assert index in plan
    assert "Seq Scan on user_sessions" not in plan
    assert "Seq Scan on api_keys" not in plan
