"""Users: made, found and changed, with every field; who is first wins; nothing is served that is not so any more."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.rows import dict_row
from uuid_utils.compat import uuid7

from novadex.errors import (
    AccessError,
    ConflictError,
    IntegrityFaultError,
    NotFoundError,
    UsageError,
    ValidationError,
)
from novadex.keys.service import KeyService
from novadex.sessions.service import SessionService
from novadex.storage.connection import DatabaseConnection
from novadex.users.records import User
from novadex.users.service import UserService
from tests.conftest import DatabasePair
from tests.integration.users.people import EVM, SOLANA, actor_of, as_role
from tests.waiting import until

WHOLE: dict[str, Any] = {
    "wallet_address": EVM[0],
    "email": "Ada.Lovelace@example.com",
    "username": "ada",
    "role": "trader",
    "kind": "program",
    "preferences": {"theme": "dark", "sizes": [1, 2.5, None, True], "": {"deep": "\u738b"}},
    "personal": {"full_name": "Ada Lovelace", "note": "lines\nand\ttabs \U0001f469"},
}


def stored(databases: DatabasePair, user_id: UUID) -> dict[str, Any]:
    """The row as a superuser sees it."""
    with psycopg.connect(databases.main_url(None)) as connection:
        cursor = connection.cursor(row_factory=dict_row)
        row = cursor.execute("SELECT * FROM users WHERE id = %s", (user_id,)).fetchone()
    assert row is not None
    return row


# Making


async def test_a_user_is_made_with_every_field_and_read_back_exactly(
    service: UserService, elsewhere: UserService, fresh_databases: DatabasePair
):
    before = datetime.now(UTC)
    user = await service.create_user(WHOLE)
    assert (user.email, user.username, user.role, user.kind) == (
        "Ada.Lovelace@example.com",
        "ada",
        "trader",
        "program",
    )
    assert (user.preferences, user.personal) == (WHOLE["preferences"], WHOLE["personal"])
    assert (user.wallet_address, user.status) == (EVM[0], "active")
    assert [(w.chain, w.address, w.is_primary) for w in user.wallets] == [("evm", EVM[0], True)]
    assert user.id.version == 7
    assert before - timedelta(seconds=5) < user.created_at <= user.updated_at
    assert await elsewhere.get_user(user.id) == user
    row = stored(fresh_databases, user.id)
    assert b"ovelace" not in row["email_ciphertext"] + row["personal_ciphertext"]


async def test_every_field_is_optional(service: UserService):
    user = await service.create_user()
    assert (user.role, user.kind, user.status, user.version) == ("user", "person", "active", 1)
    assert (user.username, user.email, user.personal, user.wallet_address) == (None, None, None, None)
    assert (user.preferences, user.wallets) == ({}, ())
    assert await service.create_user(dict.fromkeys(WHOLE)) != user, "None is as if it was not given"


async def test_keywords_and_a_mapping_are_the_same_and_keywords_win(service: UserService):
    user = await service.create_user(MappingProxyType({"username": "one", "role": "trader"}), username="two")
    assert (user.username, user.role) == ("two", "trader")


@pytest.mark.parametrize("email", ["ada@example.com", "ADA@EXAMPLE.COM", "  Ada@Example.com "])
async def test_names_and_addresses_are_found_however_they_are_capitalised(service: UserService, email: str):
    user = await service.create_user(username="Ada", email="Ada@example.com", wallet_address=EVM[0].lower())
    assert user.username == "ada"
    assert await service.get_user_by_email(email) == user
    for name in ("ada", "ADA", "aDa"):
        assert await service.get_user_by_username(name) == user
    for address in (EVM[0], EVM[0].lower(), "0x" + EVM[0][2:].upper()):
        assert await service.get_user_by_wallet(address) == user
        assert await service.get_user_by_wallet(address, chain="evm") == user
    for id in (user.id, str(user.id), str(user.id).upper(), user.id.hex):
        assert await service.get_user(id) == user


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"wallet_address": EVM[0].swapcase()}, "wallet_address"),
        ({"wallet_address": ""}, "wallet_address"),
        ({"wallet_address": EVM[0], "chain": "solana"}, "wallet_address"),
        ({"wallet_address": EVM[0], "chain": "bitcoin"}, "chain"),
        ({"wallet_address": EVM[0], "chain": 1}, "chain"),
        ({"chain": "evm"}, "wallet_address"),
        ({"email": ""}, "email"),
        ({"email": "nobody"}, "email"),
        ({"username": ""}, "username"),
        ({"username": "source:market"}, "username"),
        ({"role": ""}, "role"),
        ({"role": 0}, "role"),
        ({"role": []}, "role"),
        ({"role": "owner"}, "role"),
        ({"role": "Admin"}, "role"),
        ({"role": "admin\x00"}, "role"),
        ({"role": 10**5000}, "role"),
        ({"kind": ""}, "kind"),
        ({"kind": "system"}, "kind"),
        ({"kind": []}, "kind"),
        ({"kind": 10**5000}, "kind"),
        ({"kind": "x" * 1_000_000}, "kind"),
        ({"preferences": 0}, "preferences"),
        ({"preferences": []}, "preferences"),
        ({"preferences": "{}"}, "preferences"),
        ({"preferences": {"a": math.nan}}, "preferences"),
        # Few bytes as JSON, more than the column takes as the database writes them.
        ({"preferences": {"a": [1e-15] * 1_500}}, "preferences"),
        ({"personal": 0}, "personal"),
        ({"personal": {"a": 1}}, "personal"),
        ({"id": ""}, "id"),
        ({"id": 7}, "id"),
        ({"id": "01912fd2-ec00-7000-8000-00000000000g"}, "id"),
        ({"id": uuid4()}, "id"),
        ({"status": "active"}, "status"),
        ({"wallets": []}, "wallets"),
        ({"id; DROP TABLE users": 1}, "id; DROP TABLE users"),
        ({"x" * 1_000: 1}, "x" * 40),
        ({"\ud800": 1}, "?"),
        ({1: 1, "b": 2}, "1"),
    ],
    ids=lambda value: ascii(value)[:40] if isinstance(value, str) else "",
)
async def test_a_wrong_field_is_named_and_nothing_is_made(
    service: UserService, fresh_databases: DatabasePair, wrong: dict[Any, Any], field: str
):
    with pytest.raises(ValidationError) as refused:
        await service.create_user({"username": "ada", **wrong})
    assert refused.value.field == field
    assert len(str(refused.value)) < 500
    str(refused.value).encode()
    with psycopg.connect(fresh_databases.main_url(None)) as connection:
        assert connection.execute("SELECT count(*) FROM users").fetchone() == (0,)


@pytest.mark.parametrize("user", ["username", 1, ["username"], {"username"}, b"{}"])
async def test_a_user_is_a_mapping(service: UserService, user: Any):
    with pytest.raises(UsageError, match="mapping"):
        await service.create_user(user)


# Who is first


@pytest.mark.parametrize(
    ("first", "second", "field"),
    [
        ({"username": "ada"}, {"username": "ADA"}, "username"),
        ({"email": "ada@example.com"}, {"email": "ADA@Example.com"}, "email"),
        ({"wallet_address": EVM[0]}, {"wallet_address": EVM[0].lower()}, "wallet_address"),
        ({"wallet_address": SOLANA}, {"wallet_address": SOLANA}, "wallet_address"),
    ],
)
async def test_what_is_taken_is_named_and_nothing_is_changed(
    service: UserService, elsewhere: UserService, first: dict[str, Any], second: dict[str, Any], field: str
):
    user = await service.create_user(first)
    other = await service.create_user(username="other")
    for making in (service, elsewhere):
        with pytest.raises(ConflictError, match=f"This {field} is taken") as refused:
            await making.create_user(second)
        assert refused.value.details["field"] == field
        assert next(iter(second.values())) not in str(refused.value)
        if field != "wallet_address":
            with pytest.raises(ConflictError) as refused:
                await making.update_user(other.id, **second, preferences={"changed": True})
        else:
            with pytest.raises(ConflictError) as refused:
                await making.add_wallet(other.id, second["wallet_address"])
        assert refused.value.details["field"] == field
    assert await elsewhere.get_user(user.id) == user
    assert await elsewhere.get_user(other.id) == other
    assert len((await service.list_users()).items) == 2


@pytest.mark.parametrize(
    ("field", "value"), [("username", "ada"), ("email", "ada@example.com"), ("wallet_address", EVM[0])]
)
async def test_of_many_who_make_the_same_at_once_one_wins(
    service: UserService, elsewhere: UserService, field: str, value: str
):
    answers = await asyncio.gather(
        *(making.create_user({field: value}) for _ in range(8) for making in (service, elsewhere)),
        return_exceptions=True,
    )
    [winner] = [answer for answer in answers if isinstance(answer, User)]
    losers = [answer for answer in answers if not isinstance(answer, User)]
    assert {(type(error), error.details["field"]) for error in losers if isinstance(error, ConflictError)} == {
        (ConflictError, field)
    }
    assert len(losers) == 15
    assert (await service.list_users()).items[0].id == winner.id
    find = {"username": service.get_user_by_username, "email": service.get_user_by_email}
    assert (await find.get(field, service.get_user_by_wallet)(value)).id == winner.id


async def test_with_an_id_of_ones_own_a_retry_gives_the_user_who_is_there(
    service: UserService, elsewhere: UserService
):
    own_id = uuid7()
    answers = await asyncio.gather(
        *(making.create_user({**WHOLE, "id": own_id}) for _ in range(4) for making in (service, elsewhere))
    )
    assert all(answer == answers[0] for answer in answers)
    assert answers[0].id == own_id
    assert await service.create_user({**WHOLE, "id": str(own_id).upper()}) == answers[0]
    assert len((await service.list_users()).items) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"username": "other"},
        {"username": None},
        {"email": "other@example.com"},
        {"wallet_address": EVM[1]},
        {"role": "user"},
        {"kind": "person"},
        {"preferences": {}},
        {"personal": {"full_name": "Somebody else"}},
    ],
)
async def test_another_user_under_the_same_id_is_a_conflict(service: UserService, other: dict[str, Any]):
    own_id = uuid7()
    user = await service.create_user({**WHOLE, "id": own_id})
    with pytest.raises(ConflictError) as refused:
        await service.create_user({**WHOLE, "id": own_id, **other})
    assert refused.value.details["field"] == "id"
    assert await service.get_user(own_id) == user


# Finding


async def test_who_is_not_there_is_not_found(service: UserService):
    user_id = uuid7()
    for call in (
        service.get_user(user_id),
        service.get_user_by_wallet(EVM[0]),
        service.get_user_by_wallet(SOLANA),
        service.get_user_by_username("nobody"),
        service.get_user_by_email("nobody@example.com"),
        service.update_user(user_id, username="nobody"),
        service.change_role(user_id, "trader"),
        service.deactivate_user(user_id),
        service.reactivate_user(user_id),
        service.erase_user(user_id),
        service.add_wallet(user_id, EVM[0]),
        service.remove_wallet(user_id, EVM[0]),
        service.set_primary_wallet(user_id, EVM[0]),
        service.create_session(user_id),
    ):
        with pytest.raises(NotFoundError):
            await call


async def test_what_was_not_there_is_found_as_soon_as_it_is(service: UserService, elsewhere: UserService):
    for process in (service, elsewhere):
        with pytest.raises(NotFoundError):
            await process.get_user_by_username("ada")
        with pytest.raises(NotFoundError):
            await process.get_user_by_email("ada.lovelace@example.com")
        with pytest.raises(NotFoundError):
            await process.get_user_by_wallet(EVM[0])
    user = await service.create_user(WHOLE)
    for process in (service, elsewhere):
        for call in (
            lambda process=process: process.get_user_by_username("ada"),
            lambda process=process: process.get_user_by_email("ada.lovelace@example.com"),
            lambda process=process: process.get_user_by_wallet(EVM[0]),
        ):
            if process is elsewhere:
                await until(lambda call=call: _found(call))
            assert await call() == user


async def _found(call: Any) -> bool:
    try:
        await call()
    except NotFoundError:
        return False
    return True


async def test_reads_are_answered_by_the_cache(
    service: UserService, elsewhere: UserService, here: DatabaseConnection, there: DatabaseConnection
):
    # What was read before a process began, it does not use: it begins here.
    await elsewhere.get_user((await service.create_user()).id)
    user = await service.create_user(WHOLE)
    store, other_store = service._store, elsewhere._store
    loaded_elsewhere = other_store.users.counts.loaded
    await service.get_user(user.id)
    loaded = store.users.counts.loaded
    for _ in range(100):
        assert await service.get_user(user.id) == user
    assert store.users.counts.loaded == loaded
    assert await elsewhere.get_user(user.id) == user
    assert (other_store.users.counts.l2, other_store.users.counts.loaded) == (1, loaded_elsewhere)


# Changing


@pytest.mark.parametrize(
    ("change", "after"),
    [
        ({"username": "Lovelace"}, {"username": "lovelace"}),
        ({"username": None}, {"username": None}),
        ({"email": " new@example.com"}, {"email": "new@example.com"}),
        ({"email": "ADA.LOVELACE@example.com"}, {"email": "ADA.LOVELACE@example.com"}),
        ({"email": None}, {"email": None}),
        ({"personal": {"phone": "+44 1"}}, {"personal": {"phone": "+44 1"}}),
        ({"personal": {}}, {"personal": {}}),
        ({"personal": None}, {"personal": None}),
        ({"preferences": {"a": [1]}}, {"preferences": {"a": [1]}}),
        ({"preferences": {}}, {"preferences": {}}),
        ({}, {}),
        (
            {"username": "x1", "email": "x@example.com", "personal": {"a": "b"}, "preferences": {"c": 1}},
            {"username": "x1", "email": "x@example.com", "personal": {"a": "b"}, "preferences": {"c": 1}},
        ),
    ],
)
async def test_what_is_given_is_changed_and_the_rest_stays(
    service: UserService, elsewhere: UserService, change: dict[str, Any], after: dict[str, Any]
):
    user = await service.create_user(WHOLE)
    assert await elsewhere.get_user(user.id) == user
    changed = await service.update_user(user.id, **change)
    for name in ("id", "kind", "username", "email", "role", "status", "preferences", "personal", "wallets"):
        assert getattr(changed, name) == after.get(name, getattr(user, name)), name
    assert (changed.version > user.version) is bool(change)
    await until(lambda: _is(elsewhere, changed))
    if "username" in change and change["username"] != "ada":
        assert not await _found(lambda: service.get_user_by_username("ada"))
        await until(lambda: _not_found(lambda: elsewhere.get_user_by_username("ada")))
    if change.get("email", "ada") not in {"ada", "ADA.LOVELACE@example.com"}:
        assert not await _found(lambda: service.get_user_by_email("ada.lovelace@example.com"))


async def _is(service: UserService, user: User) -> bool:
    return await service.get_user(user.id) == user


async def _not_found(call: Any) -> bool:
    return not await _found(call)


async def test_a_user_without_a_data_key_gets_one_with_the_first_personal_data(service: UserService):
    user = await service.create_user()
    changed = await service.update_user(user.id, email="ada@example.com", personal={"full_name": "Ada"})
    assert (changed.email, changed.personal) == ("ada@example.com", {"full_name": "Ada"})
    assert await service.get_user_by_email("ada@example.com") == changed


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        *((field, wrong) for field in ("username", "email") for wrong in (0, 5, True, b"ada", [], {}, 1.5, uuid7())),
        *((field, wrong) for field in ("personal", "preferences") for wrong in (0, 5, True, b"{}", [], "{}", 1.5)),
    ],
)
async def test_a_value_of_another_type_changes_nothing(service: UserService, field: str, wrong: Any):
    user = await service.create_user(WHOLE)
    with pytest.raises(ValidationError) as refused:
        await service.update_user(user.id, **{field: wrong})
    assert refused.value.field == field
    assert await service.get_user(user.id) == user


@pytest.mark.parametrize("nothing", [None, {}])
async def test_preferences_are_emptied_by_none_and_by_an_empty_mapping(service: UserService, nothing: Any):
    user = await service.create_user(WHOLE)
    assert (await service.update_user(user.id, preferences=nothing)).preferences == {}


async def test_who_read_an_older_version_changes_nothing(service: UserService, elsewhere: UserService):
    user = await service.create_user(username="ada")
    changed = await service.update_user(user.id, username="bea", expected_version=user.version)
    with pytest.raises(ConflictError, match=f"version {changed.version}, not {user.version}") as refused:
        await elsewhere.update_user(user.id, username="cea", expected_version=user.version)
    assert refused.value.details["field"] == "version"
    assert await service.get_user(user.id) == changed
    for version in (0, -1, 1 << 63, 10**5000, "1", 1.0, True):
        with pytest.raises(ValidationError):
            await service.update_user(user.id, username="cea", expected_version=version)  # type: ignore[arg-type]


async def test_of_many_who_change_the_same_version_at_once_one_wins(service: UserService, elsewhere: UserService):
    user = await service.create_user()
    answers = await asyncio.gather(
        *(
            process.update_user(user.id, preferences={"by": number}, expected_version=user.version)
            for number, process in enumerate([service, elsewhere] * 5)
        ),
        return_exceptions=True,
    )
    winners = [number for number, answer in enumerate(answers) if isinstance(answer, User)]
    assert len(winners) == 1
    assert sum(isinstance(answer, ConflictError) for answer in answers) == 9
    assert (await service.get_user(user.id)).preferences == {"by": winners[0]}


async def test_a_master_key_that_is_retired_meanwhile_is_no_error(
    service: UserService, there: DatabaseConnection, fresh_databases: DatabasePair
):
    user = await service.create_user()
    await service.create_user(email="first@example.com")  # the keyring knows master key 1 from here on
    owner = psycopg.connect(fresh_databases.main_url("owner"))
    owner.execute("INSERT INTO users (id, username) VALUES (%s, 'ada')", (uuid7(),))
    waiting = asyncio.create_task(service.create_user(username="ada", email="ada@example.com"))
    await until(lambda: _waiters(fresh_databases) == 1)  # its key is wrapped, not stored yet
    report = await KeyService(there).rotate()
    assert report.retired == (1,)
    owner.rollback()
    owner.close()
    made = await waiting
    assert made.email == "ada@example.com"
    assert (await service.get_user_by_email("ada@example.com")).id == made.id
    with psycopg.connect(fresh_databases.main_url(None)) as connection:
        assert connection.execute("SELECT DISTINCT master_version FROM user_keys").fetchall() == [(2,)]
    assert (await service.update_user(user.id, email="other@example.com")).email == "other@example.com"


def _waiters(databases: DatabasePair) -> int:
    with psycopg.connect(databases.main_url(None)) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ).fetchone()
    assert row is not None
    return row[0]


# Roles and states


async def test_another_role_needs_a_refresh_of_every_session(service: UserService, here: DatabaseConnection):
    user = await service.create_user()
    token = (await service.create_session(user.id)).token
    changed = await service.change_role(user.id, "trader")
    assert changed.role == "trader"
    sessions = SessionService(here)
    with pytest.raises(AccessError):
        await sessions.validate(token)
    assert (await sessions.validate((await sessions.refresh(token)).token)).role == "trader"
    with pytest.raises(ValidationError):
        await service.change_role(user.id, "owner")


async def test_nobody_gives_a_role_that_may_do_more_than_they(
    service: UserService, here: DatabaseConnection, fresh_databases: DatabasePair
):
    with psycopg.connect(fresh_databases.main_url("owner"), autocommit=True) as connection:
        connection.execute("INSERT INTO roles (name, description) VALUES ('registrar', 'Makes accounts')")
        connection.execute(
            "INSERT INTO role_permissions SELECT 'registrar', unnest(ARRAY['users.create', 'users.change_role',"
            " 'users.read_any', 'users.update_any', 'users.deactivate_any', 'users.erase_any',"
            " 'wallets.manage_any'])"
        )
    await until(lambda: _has_role(service))
    me, registrar = await as_role(service, here, "registrar")
    accomplice = await service.create_user()
    for role in ("admin", "trader", "support"):
        with pytest.raises(AccessError):
            await registrar.change_role(accomplice.id, role)
        with pytest.raises(AccessError):
            await registrar.create_user(role=role)
    assert (await service.get_user(accomplice.id)).role == "user"
    assert (await registrar.create_user(username="plain")).role == "user"
    assert (await registrar.change_role(accomplice.id, "registrar")).role == "registrar"
    admin = await service.create_user(role="admin", email="admin@example.com", wallet_address=EVM[0])
    for call in (
        registrar.update_user(admin.id, email="mine@example.com"),
        registrar.change_role(admin.id, "user"),
        registrar.deactivate_user(admin.id),
        registrar.erase_user(admin.id),
        registrar.add_wallet(admin.id, EVM[1]),
        registrar.remove_wallet(admin.id, EVM[0]),
        registrar.change_role(me.id, "user"),
    ):
        with pytest.raises(AccessError):
            await call
    assert await service.get_user(admin.id) == admin


async def _has_role(service: UserService) -> bool:
    try:
        await service.list_users(role="registrar")
    except ValidationError:
        return False
    return True


async def test_a_deactivated_user_keeps_everything_and_can_do_nothing(
    service: UserService, elsewhere: UserService, here: DatabaseConnection
):
    user = await service.create_user(WHOLE)
    token = (await service.create_session(user.id)).token
    off = await service.deactivate_user(user.id)
    assert off.status == "deactivated"
    assert (off.email, off.username, off.personal, off.wallets) == (
        user.email,
        user.username,
        user.personal,
        user.wallets,
    )
    assert await service.get_user_by_wallet(EVM[0]) == off
    await until(lambda: _is(elsewhere, off))
    with pytest.raises(AccessError):
        await SessionService(here).validate(token)
    for call in (
        service.create_session(user.id),
        service.update_user(user.id, username="bea"),
        service.add_wallet(user.id, EVM[1]),
        service.remove_wallet(user.id, EVM[0]),
        service.set_primary_wallet(user.id, EVM[0]),
    ):
        with pytest.raises(AccessError, match="deactivated"):
            await call
    with pytest.raises(ConflictError):
        await service.create_user(username="ada")  # the name stays taken
    assert (await service.deactivate_user(user.id)).version == off.version, "once more is harmless"
    on = await service.reactivate_user(user.id)
    assert (on.status, on.email) == ("active", user.email)
    with pytest.raises(AccessError):
        await SessionService(here).validate(token)
    assert (await service.update_user(user.id, username="bea")).username == "bea"


async def test_a_system_account_stays_as_it_is(service: UserService, fresh_databases: DatabasePair):
    system = uuid7()
    with psycopg.connect(fresh_databases.main_url("owner"), autocommit=True) as connection:
        connection.execute("INSERT INTO users (id, kind, username) VALUES (%s, 'system', 'source:test')", (system,))
    for call in (
        service.change_role(system, "admin"),
        service.deactivate_user(system),
        service.erase_user(system),
    ):
        with pytest.raises(ConflictError, match="system account"):
            await call


async def test_damaged_personal_data_is_an_error_and_not_another_text(
    service: UserService, here: DatabaseConnection, fresh_databases: DatabasePair
):
    ada = await service.create_user(email="ada@example.com")
    bea = await service.create_user(email="bea@example.com")
    with psycopg.connect(fresh_databases.main_url(None), autocommit=True) as connection:
        connection.execute(
            "UPDATE users SET email_ciphertext = (SELECT email_ciphertext FROM users WHERE id = %s) WHERE id = %s",
            (ada.id, bea.id),
        )
    await until(lambda: _faulty(service, bea.id))
    assert (await service.get_user(ada.id)).email == "ada@example.com"
    await service.erase_user(bea.id)
    assert (await service.get_user(bea.id)).status == "erased"


async def test_what_is_encrypted_without_its_key_is_a_fault_and_never_gets_a_new_one(
    service: UserService, elsewhere: UserService, fresh_databases: DatabasePair
):
    ada = await service.create_user(WHOLE)
    bea = await service.create_user(personal={"full_name": "Bea"})
    with psycopg.connect(fresh_databases.main_url(None), autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("DELETE FROM user_keys")
        connection.execute("SET session_replication_role = origin")
        for user in (ada, bea):
            for call in (
                elsewhere.get_user(user.id),
                service.update_user(user.id, email="new@example.com"),
                service.update_user(user.id, personal={"full_name": "Somebody"}),
            ):
                with pytest.raises(IntegrityFaultError, match="data key"):
                    await call
        assert connection.execute("SELECT count(*) FROM user_keys").fetchone() == (0,)
    await service.erase_user(ada.id)
    assert (await service.get_user(ada.id)).status == "erased"


async def _faulty(service: UserService, user_id: UUID) -> bool:
    try:
        await service.get_user(user_id)
    except IntegrityFaultError:
        return True
    return False


# What staff sees is written down


async def test_who_reads_the_personal_data_of_others_is_written_down(
    service: UserService, here: DatabaseConnection, fresh_databases: DatabasePair
):
    user = await service.create_user(WHOLE)
    admin, as_admin = await as_role(service, here, "admin")
    _, as_support = await as_role(service, here, "support")
    reading = (
        lambda: as_admin.get_user(user.id),
        lambda: as_admin.get_user_by_wallet(EVM[0]),
        lambda: as_admin.get_user_by_username("ada"),
        lambda: as_admin.get_user_by_email("ada.lovelace@example.com"),
        lambda: as_admin.update_user(user.id, preferences={}),
        lambda: as_admin.deactivate_user(user.id),
        lambda: as_admin.reactivate_user(user.id),
        lambda: as_admin.add_wallet(user.id, EVM[1]),
        lambda: as_admin.set_primary_wallet(user.id, EVM[1]),
        lambda: as_admin.remove_wallet(user.id, EVM[1]),
        lambda: as_admin.change_role(user.id, "user"),
    )
    for number, call in enumerate(reading, 1):
        assert (await call()).email == user.email
        assert reads_of(fresh_databases, user.id) == [f"user:{admin.id}"] * number
    assert (await as_support.get_user(user.id)).email is None
    mine = service.acting_as(await actor_of(here, user.id, "user"))
    assert (await mine.get_user(user.id)).email == user.email
    plain = await service.create_user(preferences={"note": "my phone is 555"})
    await as_support.get_user(plain.id)
    assert reads_of(fresh_databases, plain.id) == []
    assert (await as_admin.get_user(plain.id)).preferences == plain.preferences
    assert reads_of(fresh_databases, plain.id) == [f"user:{admin.id}"]
    await as_admin.list_users()
    await as_admin.get_user(admin.id)
    assert len(reads_of(fresh_databases, user.id)) == len(reading)
    assert reads_of(fresh_databases, admin.id) == []


def reads_of(databases: DatabasePair, user_id: UUID) -> list[str]:
    with psycopg.connect(databases.main_url(None)) as connection:
        rows = connection.execute(
            "SELECT actor FROM audit_log WHERE action = 'users.read' AND detail @> '{\"personal_data\": true}'"
            " AND subject = %s ORDER BY id",
            (f"user:{user_id}",),
        ).fetchall()
    return [row[0] for row in rows]
