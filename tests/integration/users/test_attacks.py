"""SQL injection, malformed input, and other people's rows: through every method that takes text or an id."""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from novadex.errors import NotFoundError, NovaDexError, PermissionDeniedError, UsageError, ValidationError
from novadex.ids import uuid7
from novadex.roles.actor import Actor
from novadex.storage.connection import DatabaseConnection
from novadex.users.records import User
from novadex.users.service import UserService
from tests.conftest import DatabasePair
from tests.integration.roles.test_roles import ROLES, STAFF
from tests.integration.users.people import EVM, actor_of, as_role, outcome
from tests.payloads import PAYLOADS

Call = Callable[[UserService, UUID, Any], Awaitable[Any]]

# Every argument of every method that is text, or can be mistaken for it. The name is the field of the refusal.
ARGUMENTS: dict[str, Call] = {
    "create_user wallet_address": lambda s, _, text: s.create_user(wallet_address=text),
    "create_user chain": lambda s, _, text: s.create_user(wallet_address=EVM[1], chain=text),
    "create_user email": lambda s, _, text: s.create_user(email=text),
    "create_user username": lambda s, _, text: s.create_user(username=text),
    "create_user role": lambda s, _, text: s.create_user(role=text),
    "create_user kind": lambda s, _, text: s.create_user(kind=text),
    "create_user id": lambda s, _, text: s.create_user(id=text),
    "create_user preferences": lambda s, _, text: s.create_user(preferences=text),
    "create_user personal": lambda s, _, text: s.create_user(personal=text),
    "get_user id": lambda s, _, text: s.get_user(text),
    "get_user_by_wallet wallet_address": lambda s, _, text: s.get_user_by_wallet(text),
    "get_user_by_wallet chain": lambda s, _, text: s.get_user_by_wallet(EVM[0], chain=text),
    "get_user_by_username username": lambda s, _, text: s.get_user_by_username(text),
    "get_user_by_email email": lambda s, _, text: s.get_user_by_email(text),
    "list_users role": lambda s, _, text: s.list_users(role=text),
    "list_users status": lambda s, _, text: s.list_users(status=text),
    "list_users cursor": lambda s, _, text: s.list_users(cursor=text),
    "list_users limit": lambda s, _, text: s.list_users(limit=text),
    "update_user id": lambda s, _, text: s.update_user(text, preferences={}),
    "update_user username": lambda s, user, text: s.update_user(user, username=text),
    "update_user email": lambda s, user, text: s.update_user(user, email=text),
    "update_user preferences": lambda s, user, text: s.update_user(user, preferences=text),
    "update_user personal": lambda s, user, text: s.update_user(user, personal=text),
    "update_user expected_version": lambda s, user, text: s.update_user(user, expected_version=text),
    "change_role id": lambda s, _, text: s.change_role(text, "trader"),
    "change_role role": lambda s, user, text: s.change_role(user, text),
    "deactivate_user id": lambda s, _, text: s.deactivate_user(text),
    "reactivate_user id": lambda s, _, text: s.reactivate_user(text),
    "erase_user id": lambda s, _, text: s.erase_user(text),
    "add_wallet id": lambda s, _, text: s.add_wallet(text, EVM[1]),
    "add_wallet wallet_address": lambda s, user, text: s.add_wallet(user, text),
    "add_wallet chain": lambda s, user, text: s.add_wallet(user, EVM[1], chain=text),
    "remove_wallet id": lambda s, _, text: s.remove_wallet(text, EVM[0]),
    "remove_wallet wallet_address": lambda s, user, text: s.remove_wallet(user, text),
    "remove_wallet chain": lambda s, user, text: s.remove_wallet(user, EVM[0], chain=text),
    "set_primary_wallet id": lambda s, _, text: s.set_primary_wallet(text, EVM[0]),
    "set_primary_wallet wallet_address": lambda s, user, text: s.set_primary_wallet(user, text),
    "set_primary_wallet chain": lambda s, user, text: s.set_primary_wallet(user, EVM[0], chain=text),
    "create_session user_id": lambda s, _, text: s.create_session(text),
}
NAMES = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{1,63}")
"""What is a username by its form."""
VICTIM: dict[str, Any] = {
    "username": "victim",
    "email": "victim@example.com",
    "role": "trader",
    "wallet_address": EVM[0],
    "personal": {"full_name": "Ada Lovelace"},
    "preferences": {"theme": "dark"},
}


def rows_of(databases: DatabasePair) -> dict[str, Any]:
    """Everything that could be damaged."""
    with psycopg.connect(databases.main_url(None)) as connection:
        tables = connection.execute(
            "SELECT array_agg(c.oid::regclass::text || c.relkind::text ORDER BY 1) FROM pg_class c"
            " WHERE c.relnamespace = 'public'::regnamespace"
        ).fetchone()
        roles = connection.execute("SELECT array_agg(pg_roles::text ORDER BY rolname) FROM pg_roles").fetchone()
        rows = {
            table: connection.execute(
                SQL("SELECT array_agg(t::text ORDER BY t::text) FROM {} t").format(Identifier(table))
            ).fetchone()
            for table in (
                "users",
                "wallets",
                "user_keys",
                "user_sessions",
                "api_keys",
                "erasures",
                "role_permissions",
            )
        }
    return {"tables": tables, "roles": roles, **rows}


async def test_every_argument_of_every_method_is_attacked():
    methods = {name for name in vars(UserService) if not name.startswith("_") and name != "acting_as"}
    assert {name.split()[0] for name in ARGUMENTS} == methods


@pytest.mark.parametrize("argument", ARGUMENTS)
async def test_no_payload_gets_through_any_argument(
    service: UserService, fresh_databases: DatabasePair, argument: str
):
    """Each is refused with the field, and nothing in the database changes."""
    victim = await service.create_user(VICTIM)
    before = rows_of(fresh_databases)
    call, field = ARGUMENTS[argument], argument.split()[1]
    for text in PAYLOADS:
        if field == "username" and NAMES.fullmatch(text):
            continue
        answer = await outcome(call(service, victim.id, text))
        assert isinstance(answer, ValidationError), f"{text!r:.80}: {answer!r:.200}"
        assert answer.field == field
        assert len(str(answer)) < 500
        str(answer).encode()
    assert rows_of(fresh_databases) == before


async def test_a_name_that_looks_like_a_value_is_a_name(service: UserService):
    names = {text.lower() for text in PAYLOADS if NAMES.fullmatch(text)}
    assert {"null", "none", "true", "nan", "1e309", "0x27206f7220313d31"} <= names
    for name in names:
        user = await service.create_user(username=name)
        assert user.username == name
        assert await service.get_user_by_username(name.upper()) == user


STORED: dict[str, Callable[[UserService, UUID, str], Awaitable[Any]]] = {
    "email, before the @": lambda s, user, text: s.update_user(user, email=f"{text}@example.com"),
    "email, after the @": lambda s, user, text: s.update_user(user, email=f"ada@{text}"),
    "personal": lambda s, user, text: s.update_user(user, personal={"full_name": text}),
    "personal name": lambda s, user, text: s.update_user(user, personal={text: "Ada"}),
    "preferences": lambda s, user, text: s.update_user(user, preferences={"theme": text}),
    "preferences name": lambda s, user, text: s.update_user(user, preferences={text: "dark"}),
    "preferences list": lambda s, user, text: s.update_user(user, preferences={"themes": [[text], {text: text}]}),
}
EXPECTED: dict[str, Callable[[str], Any]] = {
    "email, before the @": lambda text: ("email", f"{text}@example.com".strip()),
    "email, after the @": lambda text: ("email", f"ada@{text}".strip()),
    "personal": lambda text: ("personal", {"full_name": text}),
    "personal name": lambda text: ("personal", {text: "Ada"}),
    "preferences": lambda text: ("preferences", {"theme": text}),
    "preferences name": lambda text: ("preferences", {text: "dark"}),
    "preferences list": lambda text: ("preferences", {"themes": [[text], {text: text}]}),
}
AT_LEAST = {"personal": 250, "preferences": 250, "preferences name": 250, "preferences list": 250}


@pytest.mark.parametrize("place", STORED)
async def test_a_payload_is_stored_and_read_back_exactly_or_refused(
    service: UserService, elsewhere: UserService, fresh_databases: DatabasePair, place: str
):
    user = await service.create_user(VICTIM)
    bystander = await service.create_user(username="bystander", email="by@example.com")
    stored = 0
    for text in PAYLOADS:
        before = await service.get_user(user.id)
        answer = await outcome(STORED[place](service, user.id, text))
        name, value = EXPECTED[place](text)
        if isinstance(answer, ValidationError):
            assert answer.field == name
            assert await service.get_user(user.id) == before
            continue
        assert isinstance(answer, User), f"{text!r:.80}: {answer!r:.200}"
        assert getattr(answer, name) == value
        stored += 1
        if name == "email":
            assert (await service.get_user_by_email(value)).id == user.id
        # From PostgreSQL, not from what this process remembers.
        loaded = await elsewhere._store.users.load(str(user.id))
        assert loaded is not None
        assert getattr(loaded, name) == value
    assert stored >= AT_LEAST.get(place, 0)
    assert await service.get_user(bystander.id) == bystander
    with psycopg.connect(fresh_databases.main_url(None)) as connection:
        assert connection.execute("SELECT count(*), count(DISTINCT role) FROM users").fetchone() == (2, 2)


DEEP: Any = []
for _ in range(100_000):
    DEEP = [DEEP]
ODD: list[Any] = [
    0,
    -1,
    1.5,
    math.nan,
    math.inf,
    True,
    10**5000,
    b"bytes",
    bytearray(b"x"),
    (),
    ("a", "b"),
    ["a"],
    {"a": 1},
    {1, 2},
    object(),
    object,
    lambda: None,
    uuid7,
    DEEP,
    {"a": DEEP},
    {"a": math.nan},
    {"a": 10**5000},
    {"a": 1e308},
    {"a": "x" * 1_000_000},
    {"x" * 1_000_000: "a"},
    {"a\x00": "\ud800"},
    {b"a": b"b"},
    dict.fromkeys(map(str, range(50_000)), "a"),
    "x" * 1_000_000,
]


@pytest.mark.parametrize("argument", ARGUMENTS)
async def test_values_of_other_types_and_sizes_are_refused(
    service: UserService, fresh_databases: DatabasePair, argument: str
):
    victim = await service.create_user(VICTIM)
    before = rows_of(fresh_databases)
    field = argument.split()[1]
    for value in ODD:
        if field == "preferences" and isinstance(value, dict) and value == {"a": 1}:
            continue
        answer = await outcome(ARGUMENTS[argument](service, victim.id, value))
        assert isinstance(answer, UsageError), f"{type(value)}: {answer!r:.200}"
        assert len(str(answer)) < 500
        str(answer).encode()
    assert rows_of(fresh_databases) == before


# Other people's rows ---------------------------------------------------------------------------------------

BY_ID: dict[str, Callable[[UserService, UUID], Awaitable[Any]]] = {
    "get_user": lambda s, who: s.get_user(who),
    "update_user": lambda s, who: s.update_user(who, username="mine"),
    "change_role": lambda s, who: s.change_role(who, "user"),
    "deactivate_user": lambda s, who: s.deactivate_user(who),
    "reactivate_user": lambda s, who: s.reactivate_user(who),
    "erase_user": lambda s, who: s.erase_user(who),
    "add_wallet": lambda s, who: s.add_wallet(who, EVM[1]),
    "remove_wallet": lambda s, who: s.remove_wallet(who, EVM[0]),
    "set_primary_wallet": lambda s, who: s.set_primary_wallet(who, EVM[0]),
    "create_session": lambda s, who: s.create_session(who),
}
BY_LOOK_UP: dict[str, tuple[Callable[[UserService], Awaitable[Any]], Callable[[UserService], Awaitable[Any]]]] = {
    "get_user_by_wallet": (lambda s: s.get_user_by_wallet(EVM[0]), lambda s: s.get_user_by_wallet(EVM[3])),
    "get_user_by_username": (
        lambda s: s.get_user_by_username("victim"),
        lambda s: s.get_user_by_username("nobody"),
    ),
    "get_user_by_email": (
        lambda s: s.get_user_by_email("victim@example.com"),
        lambda s: s.get_user_by_email("nobody@example.com"),
    ),
}


def told(error: Any) -> tuple[Any, ...]:
    """All that a refusal tells."""
    assert isinstance(error, PermissionDeniedError), error
    return (type(error), error.message, error.hint, error.details)


@pytest.mark.parametrize("role", ROLES)
async def test_a_refusal_tells_nothing_of_who_is_there(
    service: UserService, here: DatabaseConnection, fresh_databases: DatabasePair, role: str
):
    """To a forbidden id, one of a deactivated, an erased user and one of nobody the answer is the same."""
    me, as_me = await as_role(service, here, role)
    refused = 0
    for name, call in BY_ID.items():
        victims = [await service.create_user() for _ in range(3)]
        victim = await service.create_user({**VICTIM, "username": f"victim-{name.replace('_', '-')}"})
        await service.deactivate_user(victims[0].id)
        await service.erase_user(victims[1].id)
        before = rows_of(fresh_databases)
        unknown = await outcome(call(as_me, uuid7()))
        if isinstance(unknown, PermissionDeniedError):
            refused += 1
            for user in (victim, *victims):
                assert told(await outcome(call(as_me, user.id))) == told(unknown)
            assert rows_of(fresh_databases) == before
        else:
            assert isinstance(unknown, NotFoundError)
        await service.erase_user(victim.id)
    await service.create_user(VICTIM)
    for there, nowhere in BY_LOOK_UP.values():
        unknown = await outcome(nowhere(as_me))
        if isinstance(unknown, PermissionDeniedError):
            refused += 1
            assert told(await outcome(there(as_me))) == told(unknown)
        else:
            assert isinstance(unknown, NotFoundError)
    listed = await outcome(as_me.list_users())
    assert isinstance(listed, PermissionDeniedError) is (role not in STAFF)
    expected = {"user": 13, "trader": 13, "market_maker": 13, "admin": 0}
    assert refused == expected.get(role, 10)
    assert (await service.get_user(me.id)).status == "active"


@pytest.mark.parametrize("role", ROLES)
async def test_who_may_see_others_sees_no_personal_data_without_the_right(
    service: UserService, here: DatabaseConnection, role: str
):
    victim = await service.create_user(VICTIM)
    me, as_me = await as_role(service, here, role)
    await service.update_user(me.id, email="me@example.com", personal={"full_name": "Me"}, preferences={"a": 1})
    reading = {
        "get_user": as_me.get_user(victim.id),
        "get_user_by_wallet": as_me.get_user_by_wallet(EVM[0]),
        "get_user_by_username": as_me.get_user_by_username("victim"),
    }
    for name, call in reading.items():
        found = await outcome(call)
        if role == "admin":
            assert found == victim, name
        elif role in STAFF:
            assert found == victim.without_personal(), name
            assert (found.email, found.personal, found.preferences) == (None, None, {})
        else:
            assert isinstance(found, PermissionDeniedError), name
    mine = await as_me.get_user(me.id)
    assert (mine.email, mine.personal, mine.preferences) == ("me@example.com", {"full_name": "Me"}, {"a": 1})
    # The cached record is one for all: what one may not see is not taken from the next.
    assert await service.get_user(victim.id) == victim
    assert "victim@example.com" not in repr(victim)
    assert "Lovelace" not in repr(victim)


@pytest.mark.parametrize("role", ROLES)
async def test_nobody_gets_more_rights_by_the_fields_of_a_user(
    service: UserService, here: DatabaseConnection, role: str
):
    me, as_me = await as_role(service, here, role)
    for wanted in ROLES:
        answer = await outcome(as_me.change_role(me.id, wanted))
        assert isinstance(answer, PermissionDeniedError), wanted
        if role != "admin":
            assert isinstance(await outcome(as_me.create_user(role=wanted)), PermissionDeniedError)
    for field in ("role", "status", "kind", "version", "id", "created_at", "permissions"):
        with pytest.raises(TypeError):
            await as_me.update_user(me.id, **{field: "admin"})  # pyright: ignore[reportArgumentType]
    changed = await as_me.update_user(
        me.id,
        preferences={"role": "admin", "permissions": ["users.change_role"]},
        personal={"role": "admin", "status": "active"},
    )
    assert (changed.role, changed.kind, changed.status) == (role, "person", "active")


@pytest.mark.parametrize("role", STAFF)
async def test_nobody_changes_who_may_do_more_to_others(service: UserService, here: DatabaseConnection, role: str):
    """A role of one's own making, with rights over accounts and over nothing else."""
    rights = ("update", "deactivate", "erase")
    rights = {*(f"users.{right}_any" for right in rights), "users.change_role", "wallets.manage_any"}
    deputy = service.acting_as(Actor(f"user:{uuid7()}", uuid7(), "deputy", frozenset(rights)))
    above = await service.create_user(username="above", role=role, wallet_address=EVM[0])
    trader = await service.create_user(username="below", role="trader")
    for change in (
        lambda user: deputy.update_user(user.id, preferences={"a": 1}),
        lambda user: deputy.add_wallet(user.id, EVM[1 if user is above else 2]),
        lambda user: deputy.set_primary_wallet(user.id, EVM[0 if user is above else 2]),
        lambda user: deputy.remove_wallet(user.id, EVM[0 if user is above else 2]),
        lambda user: deputy.deactivate_user(user.id),
        lambda user: deputy.reactivate_user(user.id),
        lambda user: deputy.erase_user(user.id),
    ):
        assert isinstance(await outcome(change(above)), PermissionDeniedError)
        assert not isinstance(await outcome(change(trader)), NovaDexError)
    assert await service.get_user(above.id) == above


async def test_a_session_of_a_role_that_was_taken_away_sees_others_no_more(
    service: UserService, here: DatabaseConnection
):
    victim = await service.create_user(VICTIM)
    staff, _ = await as_role(service, here, "support")
    before = service.acting_as(await actor_of(here, staff.id, "support"))
    assert (await before.get_user(victim.id)).id == victim.id
    await service.change_role(staff.id, "user")
    after = service.acting_as(await actor_of(here, staff.id, (await service.get_user(staff.id)).role))
    with pytest.raises(PermissionDeniedError):
        await after.get_user(victim.id)
    assert isinstance(await outcome(after.list_users()), NovaDexError)
