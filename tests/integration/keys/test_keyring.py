"""The keyring on a real database: who may read what, and what is found out about wrong keys."""

from __future__ import annotations

import asyncio
import base64
import pickle
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from novadex import metrics
from novadex.errors import ConfigurationError, IntegrityFaultError, KeyUnknownError, UsageError
from novadex.instance import Endpoints
from novadex.keys import keyring as keyring_module
from novadex.keys.encryption import EMAIL
from novadex.keys.keyring import Keyring
from novadex.keys.master_key_file import FILE_NAME, add_key, make_key_file
from novadex.settings import load_settings
from novadex.storage.connection import DatabaseConnection
from tests.conftest import DatabasePair
from tests.integration.keys.people import ADDRESS, Person, add_person
from tests.integration.monitoring.venue import value_of

KEY_1 = base64.b64encode(b"one-0f-tests-32-bytes-long-55aa!").decode()
KEY_2 = base64.b64encode(b"two-0f-tests-32-bytes-long-55aa!").decode()


def connect(databases: DatabasePair, data_dir: Path | None = None, **settings: object) -> DatabaseConnection:
    """As a program of another machine: with a data folder and settings of its own."""
    endpoints = Endpoints(databases.main_url("app"), databases.analytics_url("app"), "", "", data_dir=data_dir)
    return DatabaseConnection(endpoints, load_settings(**settings))


async def opened(db: DatabaseConnection, person: Person) -> str:
    """The person's email address, as read from the database."""
    keyring = db.companion(Keyring)
    row = await db.main.one(
        "SELECT u.email_ciphertext, k.wrapped_key, k.master_version FROM users u JOIN user_keys k ON k.user_id = u.id"
        " WHERE u.id = $1",
        (person.user_id,),
    )
    assert row is not None
    key = await keyring.data_key(person.user_id, row.wrapped_key, row.master_version)
    return keyring.open_(EMAIL, person.user_id, key, row.email_ciphertext)


async def test_a_field_is_sealed_and_opened_by_another_process(db: DatabaseConnection, fresh_databases: DatabasePair):
    person = await add_person(db, fresh_databases)
    async with fresh_databases.connection() as other:
        assert await opened(other, person) == ADDRESS
        index = other.companion(Keyring).email_index(f" {ADDRESS.upper()} ")
        found = await other.main.value("SELECT id FROM users WHERE email_index = $1", (index,))
        assert found == person.user_id
        assert len(index) == 32


# Moved, changed and cut ------------------------------------------------------------------------------------


@pytest.fixture
async def two(db: DatabaseConnection, fresh_databases: DatabasePair) -> tuple[Person, Person]:
    return await add_person(db, fresh_databases), await add_person(db, fresh_databases, "bea@example.com")


ATTACKS = {
    "the email address of another": """
        UPDATE users SET email_ciphertext = (SELECT o.email_ciphertext FROM users o WHERE o.id = %(other)s)
        WHERE id = %(one)s""",
    "another column of the same user": "UPDATE users SET email_ciphertext = personal_ciphertext WHERE id = %(one)s",
    "the data key of another": """
        UPDATE user_keys SET wrapped_key = (SELECT o.wrapped_key FROM user_keys o WHERE o.user_id = %(other)s)
        WHERE user_id = %(one)s""",
    "a key of the installation": """
        UPDATE user_keys SET wrapped_key = (SELECT s.wrapped_key FROM system_keys s) WHERE user_id = %(one)s""",
    "cut off": "UPDATE users SET email_ciphertext = substr(email_ciphertext, 1, 20) WHERE id = %(one)s",
    "emptied": "UPDATE users SET email_ciphertext = '' WHERE id = %(one)s",
    "a bit of the ciphertext": """
        UPDATE users SET email_ciphertext = set_byte(email_ciphertext, 20, get_byte(email_ciphertext, 20) # 1)
        WHERE id = %(one)s""",
    "a bit of the wrapped key": """
        UPDATE user_keys SET wrapped_key = set_byte(wrapped_key, 59, get_byte(wrapped_key, 59) # 128)
        WHERE user_id = %(one)s""",
    "a master key that nobody has": """
        INSERT INTO master_keys (version, check_value) VALUES (2, decode(repeat('00', 16), 'hex'));
        UPDATE user_keys SET master_version = 2 WHERE user_id = %(one)s""",
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
async def test_what_was_moved_or_changed_in_the_database_does_not_open(
    two: tuple[Person, Person], db: DatabaseConnection, fresh_databases: DatabasePair, attack: str
):
    one, other = two
    with psycopg.connect(fresh_databases.main_url(None), autocommit=True) as connection:
        for statement in attack.split(";"):
            connection.execute(statement.encode(), {"one": one.user_id, "other": other.user_id})
    with pytest.raises((IntegrityFaultError, KeyUnknownError)) as failure:
        await opened(db, one)
    assert ADDRESS not in str(failure.value)
    assert str(other.user_id) not in str(failure.value)
    assert await opened(db, other) == "bea@example.com"


async def test_a_wrong_master_version_of_a_known_key_does_not_open(
    two: tuple[Person, Person], db: DatabaseConnection, fresh_databases: DatabasePair
):
    add_key(fresh_databases.data_dir / FILE_NAME)
    before = metrics.decryption_failures.labels("user_keys.wrapped_key")._value.get()
    with pytest.raises(IntegrityFaultError, match="not wrapped with master key 2"):
        await db.companion(Keyring).data_key(two[0].user_id, two[0].wrapped_key, 2)
    assert metrics.decryption_failures.labels("user_keys.wrapped_key")._value.get() == before + 1


async def test_the_key_of_one_user_is_not_used_for_another(db: DatabaseConnection):
    keyring = db.companion(Keyring)
    key, _, _ = await keyring.new_data_key(uuid4())
    with pytest.raises(UsageError, match="the data key of user"):
        keyring.seal(EMAIL, uuid4(), key, ADDRESS)


# Master keys that are wrong, lost, or elsewhere ------------------------------------------------------------


async def test_another_key_of_the_same_number_is_told_apart(
    two: tuple[Person, Person], fresh_databases: DatabasePair, tmp_path: Path
):
    make_key_file(tmp_path / FILE_NAME)
    async with connect(fresh_databases, tmp_path) as stranger:
        with pytest.raises(ConfigurationError, match="is another key than master key 1 of this database"):
            await stranger.companion(Keyring).ready()


async def test_a_lost_file_is_an_error_that_says_so_and_its_return_needs_no_restart(
    two: tuple[Person, Person], fresh_databases: DatabasePair
):
    folder = fresh_databases.data_dir
    file, away = folder / FILE_NAME, folder / "away"
    file.rename(away)
    async with connect(fresh_databases, folder) as db:
        for _ in range(2):
            with pytest.raises(ConfigurationError, match="There are no master keys"):
                await db.companion(Keyring).ready()
        away.rename(file)
        assert await opened(db, two[0]) == ADDRESS


async def test_a_file_open_to_others_is_refused(two: tuple[Person, Person], fresh_databases: DatabasePair):
    folder = fresh_databases.data_dir
    (folder / FILE_NAME).chmod(0o644)
    async with connect(fresh_databases, folder) as db:
        with pytest.raises(ConfigurationError, match="open to others"):
            await db.companion(Keyring).ready()


async def test_without_a_place_for_the_keys_it_says_what_to_set(fresh_databases: DatabasePair):
    async with connect(fresh_databases) as db:
        with pytest.raises(ConfigurationError, match="Set NOVADEX_MASTER_KEYS"):
            await db.companion(Keyring).ready()


async def test_a_program_whose_setting_lacks_the_key_in_use_is_told(fresh_databases: DatabasePair):
    user_id = uuid4()
    async with connect(fresh_databases, master_keys=f"2:{KEY_2},1:{KEY_1}") as both:
        await both.companion(Keyring).ready()
        _, _, version = await both.companion(Keyring).new_data_key(user_id)
        assert version == 2, "the newest of the setting, in a new database"
    async with connect(fresh_databases, master_keys=f"1:{KEY_1}") as old:
        with pytest.raises(
            KeyUnknownError, match="Master key 2 is not known here: NOVADEX_MASTER_KEYS has 1"
        ) as told:
            await old.companion(Keyring).ready()
        assert "Put 2:BASE64 into NOVADEX_MASTER_KEYS" in str(told.value)


async def test_a_new_key_in_the_file_is_found_by_itself_and_an_unknown_one_is_looked_for_once(
    db: DatabaseConnection, fresh_databases: DatabasePair
):
    keyring = db.companion(Keyring)
    await keyring.ready()
    with pytest.raises(KeyUnknownError):
        keyring.unwrap(uuid4(), bytes(60), 2)
    assert add_key(fresh_databases.data_dir / FILE_NAME) == 2
    before = metrics.master_key_loads._value.get()
    await asyncio.gather(*(keyring.know(2) for _ in range(100)))
    assert metrics.master_key_loads._value.get() == before + 1
    for _ in range(100):
        with pytest.raises(KeyUnknownError, match="Master key 3 is not known here"):
            await keyring.know(3)
    assert metrics.master_key_loads._value.get() <= before + 3


async def test_a_version_that_was_not_there_is_found_a_moment_later(
    db: DatabaseConnection, fresh_databases: DatabasePair, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(keyring_module, "UNKNOWN_S", 0.0)
    keyring = db.companion(Keyring)
    with pytest.raises(KeyUnknownError):
        await keyring.know(2)
    add_key(fresh_databases.data_dir / FILE_NAME)
    await keyring.know(2)


async def test_many_programs_at_the_first_start_make_one_index_key(fresh_databases: DatabasePair):
    connections = [fresh_databases.connection() for _ in range(6)]
    try:
        await asyncio.gather(*(db.companion(Keyring).ready() for db in connections))
        assert len({db.companion(Keyring).email_index(ADDRESS) for db in connections}) == 1
    finally:
        for db in connections:
            await db.close()
    url = fresh_databases.main_url("owner")
    assert value_of(url, "SELECT count(*) FROM system_keys") == 1
    assert value_of(url, "SELECT count(*) FROM master_keys") == 1


async def test_two_programs_with_different_keys_at_the_first_start_do_not_both_begin(
    fresh_databases: DatabasePair, tmp_path: Path
):
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        folder.mkdir()
        make_key_file(folder / FILE_NAME)
    async with connect(fresh_databases, folders[0]) as one, connect(fresh_databases, folders[1]) as other:
        outcomes = await asyncio.gather(
            one.companion(Keyring).ready(), other.companion(Keyring).ready(), return_exceptions=True
        )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["ConfigurationError", "NoneType"]


async def test_before_it_is_ready_it_says_so(db: DatabaseConnection):
    keyring = db.companion(Keyring)
    with pytest.raises(UsageError, match="not ready"):
        keyring.email_index(ADDRESS)
    with pytest.raises(UsageError, match="not ready"):
        keyring.unwrap(uuid4(), bytes(60), 1)


async def test_a_keyring_shows_no_key_and_stays_in_its_process(db: DatabaseConnection, fresh_databases: DatabasePair):
    keyring = db.companion(Keyring)
    await keyring.ready()
    text = (fresh_databases.data_dir / FILE_NAME).read_text()
    key = text.partition('"key": "')[2].partition('"')[0]
    assert len(key) == 44
    shown = f"{keyring!r} {keyring.__dict__!r}"
    assert key not in shown
    assert repr(base64.b64decode(key))[2:-1] not in shown
    with pytest.raises(TypeError):
        pickle.dumps(keyring._masters)


async def test_a_closed_keyring_has_forgotten_everything(fresh_databases: DatabasePair):
    db = fresh_databases.connection()
    keyring = db.companion(Keyring)
    await keyring.ready()
    await db.close()
    with pytest.raises(UsageError, match="not ready"):
        keyring.email_index(ADDRESS)
