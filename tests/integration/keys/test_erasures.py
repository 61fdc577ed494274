"""Erasing: what is personal goes for good, and a restore does not bring it back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from structlog.testing import capture_logs

from novadex import metrics
from novadex.errors import ConfigurationError, ConflictError, IntegrityFaultError, NotFoundError
from novadex.keys.erasure_list import FILE_NAME, ErasureLine, append_erasures, read_erasures
from novadex.keys.erasures import Erasure, erase_user, reapply_erasures
from novadex.keys.keyring import Keyring
from novadex.roles.actor import SERVICE
from novadex.settings import load_settings
from novadex.storage.connection import DatabaseConnection
from novadex.worker.erasures import WHOLE_INTERVAL_S, ErasureKeeper
from tests.conftest import DatabasePair
from tests.integration.keys.people import ERASED, Person, add_person, left_of
from tests.integration.monitoring.venue import RunningProgram, eventually_now, execute, start_program, value_of

__all__ = ["start_program"]
StartProgram = Callable[..., RunningProgram]


def listed(databases: DatabasePair) -> list[UUID]:
    return [line.user_id for line in read_erasures(databases.data_dir / FILE_NAME).lines]


async def test_nothing_personal_is_left_and_the_list_names_the_user(
    db: DatabaseConnection, fresh_databases: DatabasePair
):
    person = await add_person(db, fresh_databases)
    other = await add_person(db, fresh_databases, "other@example.com")
    before = left_of(fresh_databases, other.user_id)
    erasure = await erase_user(db, SERVICE, person.user_id)
    assert left_of(fresh_databases, person.user_id) == ERASED
    assert left_of(fresh_databases, other.user_id) == before
    assert listed(fresh_databases) == [person.user_id]
    again = await erase_user(db, SERVICE, person.user_id)
    assert again.erased_at == erasure.erased_at
    assert again.xid > erasure.xid


async def test_who_is_not_there_or_a_system_account_is_not_erased_and_not_listed(
    db: DatabaseConnection, fresh_databases: DatabasePair
):
    with pytest.raises(NotFoundError, match="There is no user"):
        await erase_user(db, SERVICE, uuid4())
    system = uuid4()
    execute(
        fresh_databases.main_url("owner"),
        "INSERT INTO users (id, kind, username) VALUES (%s, 'system', 'source:test')",
        (system,),
    )
    with pytest.raises(ConflictError, match="system account"):
        await erase_user(db, SERVICE, system)
    assert listed(fresh_databases) == []


async def test_without_the_list_nobody_is_erased(
    db: DatabaseConnection, fresh_databases: DatabasePair, tmp_path: Path
):
    person = await add_person(db, fresh_databases)
    before = left_of(fresh_databases, person.user_id)
    for place in (tmp_path / "nowhere" / "list", None):
        endpoints = replace(fresh_databases.endpoints(), data_dir=None)
        async with DatabaseConnection(endpoints, load_settings(erasure_file=place)) as elsewhere:
            with pytest.raises(ConfigurationError, match="list of erased users"):
                await erase_user(elsewhere, SERVICE, person.user_id)
    assert left_of(fresh_databases, person.user_id) == before


async def test_what_the_database_refuses_is_not_listed(db: DatabaseConnection, fresh_databases: DatabasePair):
    person = await add_person(db, fresh_databases)
    execute(
        fresh_databases.main_url(None),
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = 'integrity_constraint_violation'; END $$;"
        " CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON erasures DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    with pytest.raises(psycopg.IntegrityError, match="refused"):
        await erase_user(db, SERVICE, person.user_id)
    assert left_of(fresh_databases, person.user_id)["keys"] == 1
    assert listed(fresh_databases) == []


# After a restore -------------------------------------------------------------------------------------------


@pytest.fixture
async def restored(db: DatabaseConnection, fresh_databases: DatabasePair) -> tuple[Person, Erasure]:
    """A person who was erased, and a database from before that in place of the one of now."""
    person = await add_person(db, fresh_databases)
    await db.close()
    server, backup = fresh_databases.server, f"{fresh_databases.main}_backup"
    server.make_database(backup, owner="novadex_owner", template=fresh_databases.main)
    erasure = await erase_user(db, SERVICE, person.user_id)
    await db.close()
    server.drop_database(fresh_databases.main)
    server.make_database(fresh_databases.main, owner="novadex_owner", template=backup)
    server.drop_database(backup)
    assert left_of(fresh_databases, person.user_id)["keys"] == 1, "the restore brought the person back"
    return person, erasure


async def test_a_restored_user_is_erased_again(
    restored: tuple[Person, Erasure], fresh_databases: DatabasePair, worker_db: DatabaseConnection
):
    person, erasure = restored
    before = metrics.users_erased.labels("reapplied")._value.get()
    with capture_logs() as logs:
        report = await reapply_erasures(worker_db)
    assert (report.listed, report.erased_again, report.added) == (1, (person.user_id,), 0)
    assert left_of(fresh_databases, person.user_id) == ERASED
    assert value_of(fresh_databases.main_url("owner"), "SELECT erased_at FROM erasures") == erasure.erased_at
    assert listed(fresh_databases) == [person.user_id]
    assert metrics.users_erased.labels("reapplied")._value.get() == before + 1
    assert [log["log_level"] for log in logs] == ["error"]
    assert logs[0]["users"] == [str(person.user_id)]
    assert (await reapply_erasures(worker_db)).erased_again == ()


async def test_the_worker_program_does_it_at_its_start_and_the_ciphertext_cannot_be_opened(
    restored: tuple[Person, Erasure],
    fresh_databases: DatabasePair,
    db: DatabaseConnection,
    start_program: StartProgram,
):
    person, _ = restored
    data_dir = fresh_databases.data_dir
    environment = {
        "DATABASE_URL": fresh_databases.main_url("worker"),
        "ANALYTICS_DATABASE_URL": fresh_databases.analytics_url("worker"),
        "REDIS_URL": "redis://127.0.0.1:1",
        "REDIS_SESSION_URL": "redis://127.0.0.1:1",
        "NOVADEX_ERASURE_FILE": str(data_dir / FILE_NAME),
    }
    worker = start_program("worker", environment)
    eventually_now(
        lambda: left_of(fresh_databases, person.user_id) == ERASED, f"the worker erased again; {worker.log[-3000:]}"
    )
    assert worker.end() == 0
    loud = [json.loads(line) for line in worker.log.splitlines() if "are now" in line]
    assert [line["level"] for line in loud] == ["error"]
    assert value_of(fresh_databases.main_url(None), "SELECT count(*) FROM user_keys") == 0
    acts = "SELECT detail FROM audit_log WHERE action = 'erasures.reapplied' AND actor = 'program:erasures'"
    assert value_of(fresh_databases.main_url(None), acts) == {"count": 1, "users": [str(person.user_id)]}
    # Nothing in this database unwraps the key that the ciphertext was made with; no other key opens it.
    keyring = db.companion(Keyring)
    key, _, _ = await keyring.new_data_key(person.user_id)
    with pytest.raises(IntegrityFaultError):
        keyring.open_("users.email_ciphertext", person.user_id, key, person.email_ciphertext)


async def test_the_worker_looks_at_the_start_after_a_restore_and_every_hour(
    worker_db: DatabaseConnection, fresh_databases: DatabasePair
):
    now = 1000.0
    keeper = ErasureKeeper(worker_db, clock=lambda: now)
    assert await keeper.keep()
    assert not await keeper.keep()
    execute(fresh_databases.main_url(None), "UPDATE recovery_epoch SET epoch = epoch + 1, reason = 'restored'")
    assert await keeper.keep()
    assert not await keeper.keep()
    now += WHOLE_INTERVAL_S
    assert await keeper.keep()


async def test_the_worker_notices_a_restore_that_raised_no_epoch(
    db: DatabaseConnection, worker_db: DatabaseConnection, fresh_databases: DatabasePair
):
    """By another database of the same name, with as many erasures; and in the same one by fewer of them."""
    keeper = ErasureKeeper(worker_db)
    earlier, later = [await add_person(db, fresh_databases, f"{number}@example.com") for number in range(2)]
    await keeper.keep()
    await erase_user(db, SERVICE, earlier.user_id)
    assert not await keeper.keep()

    await db.close()
    await worker_db.close()
    server, backup = fresh_databases.server, f"{fresh_databases.main}_backup"
    server.make_database(backup, owner="novadex_owner", template=fresh_databases.main)
    server.drop_database(fresh_databases.main)
    server.make_database(fresh_databases.main, owner="novadex_owner", template=backup)
    server.drop_database(backup)
    assert await keeper.keep(), "the database is another one"
    assert not await keeper.keep()

    await erase_user(db, SERVICE, later.user_id)
    assert not await keeper.keep()
    with psycopg.connect(fresh_databases.main_url(None), autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("DELETE FROM erasures WHERE user_id = %s", (later.user_id,))
        connection.execute("UPDATE users SET status = 'active', username = 'back' WHERE id = %s", (later.user_id,))
    assert await keeper.keep(), "there are fewer erasures than there were"
    assert left_of(fresh_databases, later.user_id) == ERASED
    assert not await keeper.keep()


async def test_the_list_of_the_worker_soon_has_what_was_erased_on_another_machine(
    db: DatabaseConnection, worker_db: DatabaseConnection, fresh_databases: DatabasePair, tmp_path: Path
):
    keeper = ErasureKeeper(worker_db)
    await keeper.keep()
    person = await add_person(db, fresh_databases)
    elsewhere = replace(fresh_databases.endpoints(), data_dir=tmp_path)
    async with DatabaseConnection(elsewhere, load_settings()) as other:
        await erase_user(other, SERVICE, person.user_id)
    assert listed(fresh_databases) == []
    assert not await keeper.keep()
    assert listed(fresh_databases) == [person.user_id]


async def test_a_lost_list_is_made_anew_from_the_database(
    db: DatabaseConnection, worker_db: DatabaseConnection, fresh_databases: DatabasePair
):
    people = [await add_person(db, fresh_databases, f"{number}@example.com") for number in range(3)]
    erasures = [await erase_user(db, SERVICE, person.user_id) for person in people]
    (fresh_databases.data_dir / FILE_NAME).unlink()
    assert (await reapply_erasures(worker_db)).added == 3
    lines = read_erasures(fresh_databases.data_dir / FILE_NAME).lines
    assert {(line.user_id, line.erased_at) for line in lines} == {(one.user_id, one.erased_at) for one in erasures}
    assert (await reapply_erasures(worker_db)).added == 0


async def test_those_whom_a_database_never_had_and_damaged_lines_keep_nobody_else(
    restored: tuple[Person, Erasure], worker_db: DatabaseConnection, fresh_databases: DatabasePair
):
    path = fresh_databases.data_dir / FILE_NAME
    append_erasures(path, [ErasureLine(uuid4(), datetime.now(UTC))])
    path.write_bytes(b"{garbage\n" + path.read_bytes())
    keeper = ErasureKeeper(worker_db)
    with pytest.raises(IntegrityFaultError, match="Lines 1 of"):
        await keeper.keep()
    assert left_of(fresh_databases, restored[0].user_id) == ERASED
    acts = "SELECT detail FROM audit_log WHERE action = 'erasures.reapplied'"
    assert value_of(fresh_databases.main_url(None), acts) == {"count": 1, "users": [str(restored[0].user_id)]}
    assert not await keeper.keep(), "what is damaged keeps the worker from nothing"
    assert (await reapply_erasures(worker_db)).damaged == (1,)


async def test_many_are_applied_in_batches(
    worker_db: DatabaseConnection, fresh_databases: DatabasePair, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("novadex.keys.erasures.BATCH_USERS", 7)
    ids = [uuid4() for _ in range(25)]
    with psycopg.connect(fresh_databases.main_url("owner")) as connection:
        connection.execute("INSERT INTO users (id) SELECT unnest(%s::uuid[])", (ids,))
    append_erasures(fresh_databases.data_dir / FILE_NAME, [ErasureLine(id, datetime.now(UTC)) for id in ids])
    report = await reapply_erasures(worker_db)
    assert set(report.erased_again) == set(ids)
    (fresh_databases.data_dir / FILE_NAME).unlink()
    assert (await reapply_erasures(worker_db)).added == 25


async def test_it_takes_what_a_user_has_and_nothing_of_the_records(
    db: DatabaseConnection, fresh_databases: DatabasePair
):
    person = await add_person(db, fresh_databases)
    count: Any = (
        "SELECT (SELECT count(*) FROM user_sessions), (SELECT count(*) FROM api_keys), (SELECT count(*) FROM users)"
    )
    with psycopg.connect(fresh_databases.main_url(None)) as connection:
        before = connection.execute(count).fetchone()
        await erase_user(db, SERVICE, person.user_id)
        assert connection.execute(count).fetchone() == before
