"""Rotation of the master key: online, finished by whoever comes next, and never too early with what it retires."""

from __future__ import annotations

import asyncio
import base64
from typing import Any
from uuid import UUID

import psycopg
import pytest

from novadex.errors import (
    ConfigurationError,
    ConflictError,
    IntegrityFaultError,
    KeyUnknownError,
    NotFoundError,
    PermissionDeniedError,
)
from novadex.keys.encryption import EMAIL
from novadex.keys.keyring import VIEW_S_MAX, Keyring
from novadex.keys.master_key_file import FILE_NAME, add_key, read_key_file
from novadex.keys.rotation import Rotation, RotationProgress
from novadex.keys.service import KeyService
from novadex.roles.actor import SERVICE, Actor
from novadex.storage.connection import DatabaseConnection
from tests.conftest import DatabasePair, add_users
from tests.integration.cli.command import Command
from tests.integration.keys.test_keyring import KEY_1, KEY_2, connect
from tests.integration.monitoring.venue import eventually, execute, value_of

INSERT = "INSERT INTO user_keys (user_id, wrapped_key, master_version) VALUES ($1, $2, $3)"
Sealed = dict[UUID, bytes]


async def add_sealed(db: DatabaseConnection, databases: DatabasePair, count: int) -> Sealed:
    """Users with a data key each, and a field sealed under it."""
    keyring = db.companion(Keyring)
    await keyring.ready()
    sealed: Sealed = {}
    for user_id in add_users(databases.main_url("owner"), count):
        key, wrapped, version = await keyring.new_data_key(user_id)
        await db.main.execute(INSERT, (user_id, wrapped, version))
        sealed[user_id] = keyring.seal(EMAIL, user_id, key, f"{user_id}@example.com")
    return sealed


async def open_all(db: DatabaseConnection, sealed: Sealed) -> None:
    """Every field of every user opens."""
    keyring = db.companion(Keyring)
    rows = await db.query("SELECT user_id, wrapped_key, master_version FROM user_keys")
    assert {row.user_id for row in rows} == set(sealed)
    for row in rows:
        key = await keyring.data_key(row.user_id, row.wrapped_key, row.master_version)
        assert keyring.open_(EMAIL, row.user_id, key, sealed[row.user_id]) == f"{row.user_id}@example.com"


async def versions_in_use(db: DatabaseConnection) -> set[int]:
    rows = await db.query("SELECT master_version FROM user_keys UNION SELECT master_version FROM system_keys")
    return {row.master_version for row in rows}


def quick(db: DatabaseConnection, **arguments: Any) -> Rotation:
    """A rotation that waits for no other programs."""
    return Rotation(db, SERVICE, **{"settle_s": 0, **arguments})


async def test_everything_is_wrapped_anew_and_opens_elsewhere_without_a_restart(
    db: DatabaseConnection, fresh_databases: DatabasePair
):
    sealed = await add_sealed(db, fresh_databases, 25)
    seen: list[RotationProgress] = []
    async with fresh_databases.connection() as other:
        await other.companion(Keyring).ready()
        index = other.companion(Keyring).email_index("a@example.com")
        report = await quick(db, batch_keys=10, progress=seen.append).run()
        assert (report.version, report.continued, report.keys, report.retired) == (2, False, 26, (1,))
        assert await versions_in_use(db) == {2}
        await open_all(other, sealed)
        await open_all(db, sealed)
        assert other.companion(Keyring).email_index("a@example.com") == index
    async with fresh_databases.connection() as later:
        await later.companion(Keyring).ready()
        assert later.companion(Keyring).email_index("a@example.com") == index
    assert [now.done for now in seen] == [0, 10, 20, 25, 0, 0][: len(seen)]
    assert len(seen) >= 4
    assert set(read_key_file(fresh_databases.data_dir / FILE_NAME)) == {1, 2}


async def test_two_at_once_make_one_new_key_and_both_finish(fresh_databases: DatabasePair):
    async with fresh_databases.connection() as one, fresh_databases.connection() as other:
        sealed = await add_sealed(one, fresh_databases, 40)
        rotations = (quick(db, batch_keys=5, settle_s=0.5) for db in (one, other))
        reports = await asyncio.gather(*(rotation.run() for rotation in rotations))
        assert [report.version for report in reports] == [2, 2]
        assert sorted(report.continued for report in reports) == [False, True]
        assert sum(report.keys for report in reports) == 41
        assert set(read_key_file(fresh_databases.data_dir / FILE_NAME)) == {1, 2}
        await open_all(other, sealed)


async def test_a_rotation_that_ended_anywhere_is_finished_by_the_next(
    db: DatabaseConnection, fresh_databases: DatabasePair
):
    sealed = await add_sealed(db, fresh_databases, 30)

    class StopError(Exception):
        pass

    def stop(now: RotationProgress) -> None:
        if now.done >= 10:
            raise StopError

    with pytest.raises(StopError):
        await quick(db, batch_keys=10, progress=stop).run()
    assert await versions_in_use(db) == {1, 2}
    await open_all(db, sealed)
    report = await quick(db).run()
    assert (report.version, report.continued, report.keys, report.retired) == (2, True, 20, (1,))
    await open_all(db, sealed)


async def test_a_key_that_was_made_before_and_never_used_is_taken(
    db: DatabaseConnection, fresh_databases: DatabasePair
):
    """A rotation was killed between the file and the database, or the file was copied to other machines first."""
    await add_sealed(db, fresh_databases, 3)
    assert add_key(fresh_databases.data_dir / FILE_NAME) == 2
    assert (await quick(db).run()).version == 2
    assert set(read_key_file(fresh_databases.data_dir / FILE_NAME)) == {1, 2}


async def test_new_keys_are_wrapped_with_the_new_master_key_and_never_with_a_retired_one(
    db: DatabaseConnection, fresh_databases: DatabasePair, monkeypatch: pytest.MonkeyPatch
):
    await add_sealed(db, fresh_databases, 3)
    (late,) = add_users(fresh_databases.main_url("owner"), 1)
    async with fresh_databases.connection() as other:
        await quick(other).run()
    keyring = db.companion(Keyring)
    monkeypatch.setattr("novadex.keys.keyring.VIEW_S_MAX", 3600.0)
    _, wrapped, version = await keyring.new_data_key(late)
    assert version == 1, "it has not looked yet"
    with psycopg.connect(fresh_databases.main_url("app")) as connection, pytest.raises(psycopg.Error) as refused:
        connection.execute("INSERT INTO user_keys VALUES (%s, %s, %s)", (late, wrapped, version))
    assert refused.value.sqlstate == "40001"
    assert "master key 1 was retired" in str(refused.value)
    monkeypatch.setattr("novadex.keys.keyring.VIEW_S_MAX", 0.0)
    _, wrapped, version = await keyring.new_data_key(late)
    assert version == 2
    await db.main.execute(INSERT, (late, wrapped, version))


async def test_what_is_being_wrapped_with_the_old_key_is_waited_for_before_it_retires(
    db: DatabaseConnection, fresh_databases: DatabasePair
):
    await add_sealed(db, fresh_databases, 3)
    (late,) = add_users(fresh_databases.main_url("owner"), 1)
    _, wrapped, version = await db.companion(Keyring).new_data_key(late)
    async with await psycopg.AsyncConnection.connect(fresh_databases.main_url("app")) as slow:
        await slow.execute("INSERT INTO user_keys VALUES (%s, %s, %s)", (late, wrapped, version))
        rotating = asyncio.create_task(quick(db).run())
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        await eventually(lambda: value_of(fresh_databases.main_url(None), waiting), "the rotation waits for a lock")
        assert not rotating.done()
        await slow.commit()
    report = await rotating
    assert report.retired == (1,)
    assert await versions_in_use(db) == {2}


async def test_a_program_sees_the_new_key_in_time(db: DatabaseConnection, fresh_databases: DatabasePair):
    """With the real times: while a rotation runs, nobody's new key is refused."""
    await add_sealed(db, fresh_databases, 3)
    created = 0

    async def create(stop: asyncio.Event) -> None:
        nonlocal created
        async with fresh_databases.connection() as other:
            keyring = other.companion(Keyring)
            while not stop.is_set():
                (user_id,) = await asyncio.to_thread(add_users, fresh_databases.main_url("owner"), 1)
                _, wrapped, version = await keyring.new_data_key(user_id)
                await other.main.execute(INSERT, (user_id, wrapped, version))
                created += 1

    stop = asyncio.Event()
    creating = asyncio.create_task(create(stop))
    report = await Rotation(db, SERVICE).run()
    stop.set()
    await creating
    assert report.seconds >= 2 * VIEW_S_MAX
    assert report.retired == (1,)
    assert created > 10
    assert await versions_in_use(db) == {2}


async def test_a_damaged_key_is_named_the_others_are_wrapped_and_the_old_master_key_stays(
    db: DatabaseConnection, fresh_databases: DatabasePair
):
    sealed = await add_sealed(db, fresh_databases, 12)
    damaged = min(sealed)
    execute(
        fresh_databases.main_url(None),
        "UPDATE user_keys SET wrapped_key = set_byte(wrapped_key, 0, get_byte(wrapped_key, 0) # 1)"
        " WHERE user_id = %s",
        (damaged,),
    )
    with pytest.raises(IntegrityFaultError, match=f"1 wrapped keys do not open.*user_keys {damaged}"):
        await quick(db, batch_keys=5).run()
    url = fresh_databases.main_url(None)
    assert value_of(url, "SELECT count(*) FROM user_keys WHERE master_version = 1") == 1
    assert value_of(url, "SELECT count(*) FROM master_keys WHERE retired_at IS NULL") == 2


async def test_from_the_setting_the_newest_is_taken_and_without_a_newer_one_it_says_how(
    fresh_databases: DatabasePair,
):
    async with connect(fresh_databases, master_keys=f"1:{KEY_1}") as db:
        sealed = await add_sealed(db, fresh_databases, 3)
        with pytest.raises(ConfigurationError, match=r"no master key newer than 1.*Put 2:BASE64 before it"):
            await quick(db).run()
    async with connect(fresh_databases, master_keys=f"1:{KEY_1},2:{KEY_2}") as db:
        assert (await quick(db).run()).version == 2
        await open_all(db, sealed)
        forgotten = await KeyService(db).forget(1)
        assert forgotten.removed_from is None
    async with connect(fresh_databases, master_keys=f"2:{KEY_2}") as db:
        await open_all(db, sealed)
    async with connect(fresh_databases, master_keys=f"2:{KEY_1}") as db:
        with pytest.raises(ConfigurationError, match="is another key"):
            await KeyService(db).rotate()


async def test_only_a_retired_key_is_forgotten(db: DatabaseConnection, fresh_databases: DatabasePair):
    service = KeyService(db)
    path = fresh_databases.data_dir / FILE_NAME
    backup = await add_sealed(db, fresh_databases, 2)
    row = await db.main.one("SELECT * FROM user_keys LIMIT 1")
    assert row is not None
    with pytest.raises(ConflictError, match="Master key 1 is in use: 3 keys"):
        await service.forget(1)
    with pytest.raises(NotFoundError, match="never used a master key 9"):
        await service.forget(9)
    await quick(db).run()
    assert [(view.version, view.status, view.here, view.keys) for view in await service.list()] == [
        (1, "retired", True, 0),
        (2, "in use", True, 3),
    ]
    with pytest.raises(ConflictError, match="Master key 2 is in use"):
        await service.forget(2)
    assert (await service.forget(1)).removed_from == str(path)
    assert set(read_key_file(path)) == {2}
    with pytest.raises(NotFoundError, match="has no master key 1"):
        await service.forget(1)
    acts = await db.query("SELECT actor, subject FROM audit_log WHERE action = 'keys.forgotten'")
    assert [(act.actor, act.subject) for act in acts] == [("program:service", "master_key:1")], "only what was done"
    assert [(view.version, view.here) for view in await service.list()] == [(1, False), (2, True)]
    async with fresh_databases.connection() as later:
        await open_all(later, backup)
        with pytest.raises(KeyUnknownError):  # as from a backup of before the rotation
            await later.companion(Keyring).data_key(row.user_id, row.wrapped_key, 1)


async def test_every_call_needs_the_permission(db: DatabaseConnection):
    service = KeyService(db).acting_as(Actor("user:1", UUID(int=1), "support", frozenset({"users.read_any"})))
    for call in (service.list(), service.rotate(), service.forget(1)):
        with pytest.raises(PermissionDeniedError, match=r"keys\.rotate"):
            await call
    await KeyService(db, actor=Actor("user:2", UUID(int=2), "operator", frozenset({"keys.rotate"}))).list()


async def test_erased_meanwhile_is_no_fault(db: DatabaseConnection, fresh_databases: DatabasePair):
    sealed = await add_sealed(db, fresh_databases, 20)
    gone = max(sealed)

    def erase(now: RotationProgress) -> None:
        if now.done == 0:
            execute(fresh_databases.main_url(None), "DELETE FROM user_keys WHERE user_id = %s", (gone,))

    report = await quick(db, batch_keys=7, progress=erase).run()
    assert (report.keys, report.retired) == (20, (1,))


# The command -----------------------------------------------------------------------------------------------


@pytest.fixture
def novadex(fresh_databases: DatabasePair, tmp_path: Any) -> Command:
    folder = tmp_path / "working folder"
    folder.mkdir()
    return Command(fresh_databases, folder)


def test_a_key_that_is_made_while_there_is_a_database_is_in_the_audit_log(
    novadex: Command, monkeypatch: pytest.MonkeyPatch, fresh_databases: DatabasePair
):
    monkeypatch.setenv("NOVADEX_MASTER_KEY_FILE", str(novadex.folder / "keys.json"))
    novadex.json("keys", "create")
    novadex.json("keys", "create", "--next")
    found = novadex.json("audit", "search", "--action", "keys.created")["items"]
    assert [(entry["actor"], entry["subject"]) for entry in found] == [
        ("program:cli", "master_key:2"),
        ("program:cli", "master_key:1"),
    ]
    assert all("@" in entry["detail"]["from"] for entry in found)
    fresh_databases.server.drop_database(fresh_databases.main)
    made = novadex.run("keys", "create", "--next")
    assert "Made master key 3" in made.stdout
    assert "The audit log does not say so" in made.stderr


def test_the_commands(novadex: Command, monkeypatch: pytest.MonkeyPatch):
    path = novadex.folder / "keys.json"
    monkeypatch.setenv("NOVADEX_MASTER_KEY_FILE", str(path))
    assert novadex.json("keys", "list", code=1)["error"]["code"] == "CONFIGURATION"
    assert novadex.json("keys", "create") == {"path": str(path), "version": 1}
    assert novadex.json("keys", "create", code=2)["error"]["code"] == "CONFLICT"
    assert novadex.json("keys", "rotate")["version"] == 2, "also where nothing was encrypted yet"
    assert novadex.json("keys", "create", "--next") == {"path": str(path), "version": 3}
    assert [(key["version"], key["status"]) for key in novadex.json("keys", "list")] == [
        (1, "retired"),
        (2, "in use"),
        (3, "not used yet"),
    ]
    said = novadex.run("keys", "rotate")
    assert said.stdout.startswith("Rotated to master key 3: 0 keys")
    assert "Backups made before now need them" in said.stderr
    assert "--yes" in novadex.run("keys", "forget", "1", code=2).stderr
    assert novadex.run("keys", "forget", "1", "--yes").stdout == f"Master key 1 is gone from {path}.\n"
    listed = novadex.run("keys", "list").stdout
    assert "retired" in listed
    assert "not here" in listed
    for key in read_key_file(path).values():
        encoded = base64.b64encode(key).decode()
        assert encoded not in listed + said.stdout + said.stderr
