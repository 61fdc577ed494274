"""A trigger that was dropped, gutted, switched off or joined by another is told, and whatever switches them off."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import msgspec
import psycopg
import pytest

from novadex.audit.guards import GUARDS_FILE, expected_guards, guards_of
from novadex.audit.report import AuditReport
from novadex.audit.verify import verify
from novadex.storage.connection import DatabaseConnection
from tests.conftest import DatabasePair
from tests.integration.audit.conftest import Attacker

Write = Callable[[int], Any]
THIS_DATABASE = "DO $$BEGIN EXECUTE format('ALTER DATABASE %I SET {setting}', current_database()); END$$"
NOTHING = "RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"

ATTACKS = {
    "DROP TRIGGER users_audit ON users": "trigger users_audit of users is gone",
    "DROP TRIGGER markets_audit_emptied ON markets": "trigger markets_audit_emptied of markets is gone",
    "DROP TRIGGER audit_log_append_only ON audit_log": "trigger audit_log_append_only of audit_log is gone",
    "ALTER TABLE users ENABLE REPLICA TRIGGER users_audit": "trigger users_audit of users is switched off",
    "DROP TRIGGER users_audit ON users; CREATE TRIGGER users_audit AFTER DELETE ON users FOR EACH ROW"
    " EXECUTE FUNCTION audit_change('user', 'id')": "trigger users_audit of users is not the one",
    f"CREATE OR REPLACE FUNCTION audit_change() {NOTHING}": "function audit_change() is not the one",
    "ALTER FUNCTION audit_change() SET session_replication_role = replica": "function audit_change() is not the one",
    "CREATE OR REPLACE FUNCTION audit_row_hash(entry audit_log) RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE"
    " AS $$ SELECT sha256('x') $$": "function audit_row_hash(audit_log) is not the one",
    f"CREATE FUNCTION drop_it() {NOTHING}; CREATE TRIGGER first BEFORE INSERT ON audit_log FOR EACH ROW"
    " EXECUTE FUNCTION drop_it()": "trigger first of audit_log is not of NovaDex",
    "CREATE RULE nothing AS ON INSERT TO audit_log DO INSTEAD NOTHING": "rule nothing of audit_log is not of NovaDex",
    THIS_DATABASE.format(setting="session_replication_role = replica"): "session_replication_role=replica holds for",
    THIS_DATABASE.format(setting="track_counts = off"): "track_counts=off holds for everybody in main_",
}


def told(report: AuditReport) -> list[str]:
    return [finding.explanation for finding in report.findings if finding.kind == "triggers"]


async def test_the_guards_that_are_expected_are_those_of_the_schema(owner_db: DatabaseConnection):
    async with owner_db.main.transaction(read_only=True) as session:
        found = await guards_of(session)
    if os.environ.get("WRITE_GUARDS"):
        GUARDS_FILE.write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    assert expected_guards() == found, "The schema has changed: make guards"


@pytest.mark.parametrize("act", ATTACKS)
async def test_a_guard_that_was_taken_away_is_told(
    db: DatabaseConnection, write: Write, fresh_databases: DatabasePair, act: str
):
    write(2)
    with psycopg.connect(fresh_databases.main_url(None), autocommit=True) as connection:
        connection.execute(act.encode())
    assert [what for what in told(await verify(db)) if ATTACKS[act] in what], act


async def test_a_trigger_that_is_off_in_one_partition_is_told(
    db: DatabaseConnection, fresh_databases: DatabasePair, attack: Attacker
):
    with psycopg.connect(fresh_databases.main_url("owner"), autocommit=True) as connection:
        connection.execute("SELECT ensure_partitions('trades', '2020-01-01+00', '2020-01-31+00')")
    attack("ALTER TABLE trades_2020_01 DISABLE TRIGGER trades_append_only")
    [what] = told(await verify(db))
    assert "trigger trades_append_only of trades_2020_01 is switched off" in what


async def test_tables_of_the_same_name_in_another_schema_are_told(
    db: DatabaseConnection, write: Write, fresh_databases: DatabasePair
):
    write(2)
    with psycopg.connect(fresh_databases.main_url(None), autocommit=True) as connection:
        connection.execute("CREATE SCHEMA other; CREATE TABLE other.audit_log (LIKE audit_log INCLUDING ALL)")
        connection.execute(
            "GRANT USAGE ON SCHEMA other TO novadex_app; GRANT SELECT ON other.audit_log TO novadex_app"
        )
        connection.execute(THIS_DATABASE.format(setting="search_path = other, public").encode())
    await db.close()
    assert [what for what in told(await verify(db)) if "audit_log means other.audit_log" in what]
