"""What the database roles may do is what the server lets them do, and none can become more than it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import errors

from tests.conftest import DatabasePair
from tests.integration.schema.attacks import SETUP_MAIN, USER
from tests.integration.schema.test_roles import COLUMN_RIGHTS, RIGHTS, ROLES

ATTEMPTS = {
    # Becoming somebody else
    "become the owner": "SET ROLE novadex_owner",
    "become the superuser": "SET ROLE postgres",
    "become another by session": "SET SESSION AUTHORIZATION novadex_owner",
    "make oneself a superuser": "ALTER ROLE CURRENT_USER SUPERUSER",
    "exempt oneself": "ALTER ROLE CURRENT_USER BYPASSRLS",
    "make a role": "CREATE ROLE intruder SUPERUSER",
    "join the owner": "GRANT novadex_owner TO CURRENT_USER",
    "change another's password": "ALTER ROLE novadex_owner PASSWORD 'x'",
    "take what is the owner's": "REASSIGN OWNED BY novadex_owner TO CURRENT_USER",
    "drop what is the owner's": "DROP OWNED BY novadex_owner",
    "own a table": "ALTER TABLE users OWNER TO CURRENT_USER",
    # The guards
    "turn row-level security off": "ALTER TABLE trades DISABLE ROW LEVEL SECURITY",
    "drop a policy": "DROP POLICY own_rows ON wallets",
    "add a policy": "CREATE POLICY mine ON wallets USING (true)",
    "protect anew": "SELECT protect_rows()",
    "turn triggers off": "ALTER TABLE audit_log DISABLE TRIGGER ALL",
    "turn all triggers off": "SET session_replication_role = replica",
    "drop a trigger": "DROP TRIGGER audit_log_append_only ON audit_log",
    "hang a trigger on users": "CREATE TRIGGER t AFTER INSERT ON users EXECUTE FUNCTION refuse_change()",
    "drop a constraint": "ALTER TABLE users DROP CONSTRAINT users_role_fkey",
    "replace a function": (
        "CREATE OR REPLACE FUNCTION public.current_user_id() RETURNS uuid LANGUAGE sql AS 'SELECT NULL::uuid'"
    ),
    "add a function": "CREATE FUNCTION public.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "add a table": "CREATE TABLE public.mine (id int)",
    "add a schema": "CREATE SCHEMA mine",
    "add an extension": "CREATE EXTENSION pg_stat_statements",
    "change the database": "ALTER DATABASE CURRENT SET row_security = off",
    "change the server": "ALTER SYSTEM SET fsync = off",
    # Records that say what happened
    "edit the audit log": "UPDATE audit_log SET actor = 'nobody'",
    "delete from the audit log": "DELETE FROM audit_log",
    "empty the audit log": "TRUNCATE audit_log",
    "edit a trade": "UPDATE trades SET price = 1",
    "delete a trade": "DELETE FROM trades",
    "forget an erasure": "DELETE FROM erasures",
    # Who may do what
    "add a role of users": "INSERT INTO roles (name, description) VALUES ('king', 'May all')",
    "give a permission": "INSERT INTO role_permissions (role, permission) VALUES ('user', 'users.change_role')",
    "change a permission": "UPDATE role_permissions SET role = 'user'",
    "take a permission": "DELETE FROM role_permissions",
    "add a permission": "INSERT INTO permissions (name, description) VALUES ('all.do', 'All')",
    # What never changes
    "take another's id": f"UPDATE users SET id = '{USER}'",
    "back-date a user": "UPDATE users SET created_at = now()",
    "set a version": "UPDATE users SET version = 1",
    "give a wallet away": f"UPDATE wallets SET user_id = '{USER}'",
    "change a wallet's address": "UPDATE wallets SET address = 'x'",
    "give a session away": f"UPDATE user_sessions SET user_id = '{USER}'",
    "put one's own token on a session": "UPDATE user_sessions SET token_hash = sha256('x')",
    "make a session last": "UPDATE user_sessions SET expires_at = 'infinity'",
    "put one's own key on an API key": "UPDATE api_keys SET key_hash = sha256('x')",
    "let an API key do more": "UPDATE api_keys SET permissions = ARRAY['users.change_role']",
    "delete a user": "DELETE FROM users",
    # The machine
    "read a file": "SELECT pg_read_file('/etc/passwd')",
    "run a program": "COPY (SELECT 1) TO PROGRAM 'id'",
    "write a file": "COPY (SELECT 1) TO '/tmp/novadex-escalation'",
    "load a file": "CREATE TEMPORARY TABLE mine (t text); COPY mine FROM '/etc/passwd'",
    "import a file": "SELECT lo_import('/etc/passwd')",
    "read password hashes": "SELECT rolpassword FROM pg_authid",
    "end others' connections": (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE usename = 'postgres' AND pid <> pg_backend_pid()"
    ),
}


@pytest.fixture(scope="module")
def pair(make_databases: Callable[[], DatabasePair]) -> Iterator[DatabasePair]:
    pair = make_databases()
    with psycopg.connect(pair.main_url("owner"), autocommit=True) as owner:
        owner.execute(SETUP_MAIN.encode())
    yield pair
    pair.server.drop_database(pair.main)
    pair.server.drop_database(pair.analytics)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_no_role_can_become_more_than_it_is(pair: DatabasePair, role: Any, attempt: str) -> None:
    statement = ATTEMPTS[attempt].replace("DATABASE CURRENT", f"DATABASE {pair.main}")
    with (
        psycopg.connect(pair.main_url(None)),  # a superuser's connection, to be ended
        psycopg.connect(pair.main_url(role), autocommit=True) as connection,
        pytest.raises((errors.InsufficientPrivilege, errors.DependentObjectsStillExist)) as caught,
    ):
        connection.execute(statement.encode())
    assert isinstance(caught.value, errors.InsufficientPrivilege), attempt


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("what", ["SELECT ON user_keys TO PUBLIC", "ALL ON users TO CURRENT_USER"])
def test_no_role_can_grant_anything(pair: DatabasePair, role: Any, what: str) -> None:
    table = what.split(" ON ")[1].split(" ", 1)[0]

    def rights() -> Any:
        with psycopg.connect(pair.main_url("owner")) as owner:
            return owner.execute("SELECT relacl FROM pg_class WHERE relname = %s", (table,)).fetchone()

    before = rights()
    with psycopg.connect(pair.main_url(role), autocommit=True) as connection:
        # Where a role has some right of its own, the server warns that nothing was granted.
        told: list[str | None] = []
        connection.add_notice_handler(lambda diagnostic: told.append(diagnostic.sqlstate))
        try:
            connection.execute(f"GRANT {what}".encode())
        except errors.InsufficientPrivilege:
            told.append("01007")
    assert told == ["01007"]
    assert rights() == before


@pytest.mark.parametrize("role", ROLES)
def test_no_role_is_a_member_of_another_or_more_than_a_login(pair: DatabasePair, role: str) -> None:
    with psycopg.connect(pair.main_url(None)) as superuser:
        row = superuser.execute(
            "SELECT rolsuper, rolcreaterole, rolcreatedb, rolbypassrls,"
            " (SELECT count(*) FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid"
            " WHERE m.member = o.oid AND r.rolname LIKE 'novadex%%') FROM pg_roles o WHERE rolname = %s",
            (f"novadex_{role}",),
        ).fetchone()
    assert row == (False, False, False, role in ("app", "worker", "backup"), 0)


@pytest.mark.parametrize("role", ROLES)
def test_every_verb_on_every_table_is_allowed_or_refused_as_the_matrix_says(pair: DatabasePair, role: Any) -> None:
    """Not what the catalog says, but what the server does."""
    found: dict[str, str] = {}
    with psycopg.connect(pair.main_url("owner")) as owner:
        columns = dict(
            owner.execute(
                "SELECT c.relname, array_agg(attname ORDER BY attnum) FROM pg_class c JOIN pg_attribute a"
                " ON a.attrelid = c.oid WHERE relnamespace = 'public'::regnamespace AND attnum > 0"
                " AND NOT attisdropped AND attidentity = '' AND attgenerated = '' GROUP BY c.relname"
            ).fetchall()
        )
    with psycopg.connect(pair.main_url(role), autocommit=True) as connection:

        def allowed(statement: str) -> bool:
            try:
                with connection.transaction(force_rollback=True):
                    connection.execute(statement.encode())
            except errors.InsufficientPrivilege:
                return False
            except psycopg.Error:
                return True  # something else is in the way, after the rights were looked at
            return True

        def letter(whole: str, one: str, table: str, sign: str) -> str:
            if allowed(whole):
                return sign
            return sign.lower() if any(allowed(one.format(column)) for column in columns[table]) else ""

        for table in RIGHTS["main"]:
            every = ", ".join(f"{column} = NULL" for column in columns[table])
            values = ", ".join("NULL" for _ in columns[table])
            found[table] = (
                letter(f"SELECT * FROM {table} LIMIT 0", f"SELECT {{}} FROM {table} LIMIT 0", table, "S")
                + letter(
                    f"INSERT INTO {table} ({', '.join(columns[table])}) VALUES ({values})",
                    f"INSERT INTO {table} ({{}}) VALUES (NULL)",
                    table,
                    "I",
                )
                + letter(
                    f"UPDATE {table} SET {every} WHERE false",
                    f"UPDATE {table} SET {{}} = NULL WHERE false",
                    table,
                    "U",
                )
                + ("D" if allowed(f"DELETE FROM {table} WHERE false") else "")
            )
    expected = {table: rights.get(role, "") for table, rights in RIGHTS["main"].items()}
    for table, letters in expected.items():
        for sign, verb in (("s", "SELECT"), ("i", "INSERT"), ("u", "UPDATE")):
            if sign in letters and COLUMN_RIGHTS[table, role, verb] >= set(columns[table]):
                expected[table] = letters.replace(sign, sign.upper())
    assert found == expected
