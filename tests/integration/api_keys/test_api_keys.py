"""API keys on real servers: what a key may do, from where, for how long, and what must not get one accepted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest
import redis

from novadex.api_keys.records import NewApiKey
from novadex.api_keys.service import KEY_START, NOT_BY_KEY, ApiKeyService
from novadex.errors import (
    AccessError,
    ConflictError,
    NotAuthenticatedError,
    NotFoundError,
    NovaDexError,
    PermissionDeniedError,
    ValidationError,
)
from novadex.ids import uuid7
from novadex.roles.actor import Actor
from novadex.roles.roles import Roles
from novadex.roles.tokens import hash_of, make_token
from novadex.storage.connection import DatabaseConnection
from novadex.users.service import UserService
from tests.conftest import DatabasePair
from tests.integration.sessions.test_sessions import variations
from tests.payloads import PAYLOADS
from tests.servers import ValkeyServer
from tests.waiting import kept, until

ROLES = ("user", "trader", "market_maker", "support", "auditor", "operator", "admin")
READ = ["trades.read_own"]


@pytest.fixture
async def db_(fresh_databases: DatabasePair, cache_url: str, sessions_url: str) -> AsyncIterator[DatabaseConnection]:
    async with fresh_databases.connection(cache=cache_url, sessions=sessions_url) as db:
        yield db


@pytest.fixture
async def keys(db_: DatabaseConnection) -> ApiKeyService:
    return ApiKeyService(db_)


@pytest.fixture
async def elsewhere(fresh_databases: DatabasePair, cache_url: str, sessions_url: str) -> AsyncIterator[ApiKeyService]:
    """The same as another process has it."""
    async with fresh_databases.connection(cache=cache_url, sessions=sessions_url) as db:
        yield ApiKeyService(db)


def sql(databases: DatabasePair, statement: Any, parameters: Any = ()) -> list[Any]:
    with psycopg.connect(databases.main_url(None)) as connection:
        cursor = connection.execute(statement, parameters or None)
        return cursor.fetchall() if cursor.description else []


async def new_user(keys: ApiKeyService, role: str = "trader") -> UUID:
    return (await UserService(keys._db).create_user(role=role)).id


async def new_key(keys: ApiKeyService, user: UUID, **fields: Any) -> NewApiKey:
    return await keys.create(user, **{"name": "bot", "permissions": READ, **fields})


async def actor_of(keys: ApiKeyService, role: str, user: UUID) -> Actor:
    return Actor(f"user:{user}", user, role, await keys._db.companion(Roles).permissions_of(role))


async def refused(keys: ApiKeyService, key: str) -> bool:
    try:
        await keys.validate(key)
    except NotAuthenticatedError:
        return True
    return False


# What a key may do


async def test_a_key_may_do_what_it_was_given_and_nothing_else_of_its_user(keys: ApiKeyService):
    user = await new_user(keys)
    made = await new_key(keys, user, permissions=["trades.read_own", "trades.create_own"])
    actor = await keys.validate(made.key)
    assert actor.permissions == {"trades.read_own", "trades.create_own"}
    assert (actor.name, actor.user_id, actor.role) == (f"api_key:{made.api_key.id}", user, "trader")
    assert actor.authenticated_at is None
    assert not actor.trusted
    with pytest.raises(PermissionDeniedError):
        await UserService(keys._db, actor=actor).get_user(user)


async def test_a_key_may_not_have_what_its_user_has_not(keys: ApiKeyService):
    user = await new_user(keys)
    for permission in ("users.read_any", "trades.create_any", "audit.read", "keys.rotate"):
        with pytest.raises(PermissionDeniedError, match=permission.replace(".", r"\.")):
            await new_key(keys, user, permissions=[permission])
    with pytest.raises(PermissionDeniedError, match=r"trades\.fly"):
        await new_key(keys, user, permissions=["trades.fly"])


async def test_what_no_key_may_do_to_its_user_it_may_not_do_to_others(db: DatabaseConnection):
    everything = await db.companion(Roles).permissions_of("admin")
    assert everything >= NOT_BY_KEY
    of_others = {name.removesuffix("_own") + "_any" for name in NOT_BY_KEY if name.endswith("_own")} & everything
    assert len(of_others) >= 3
    assert of_others <= NOT_BY_KEY


@pytest.mark.parametrize("permission", sorted(NOT_BY_KEY))
async def test_some_things_no_key_may_do_not_even_an_administrators(
    keys: ApiKeyService, fresh_databases: DatabasePair, permission: str
):
    user = await new_user(keys, "admin")
    with pytest.raises(PermissionDeniedError):
        await new_key(keys, user, permissions=[permission])
    made = await new_key(keys, user)
    sql(fresh_databases, "UPDATE api_keys SET permissions = permissions || %s::text", (permission,))  # by plain SQL

    async def known() -> bool:
        return "trades.read_own" in (await keys.validate(made.key)).permissions

    await until(known)
    assert permission not in (await keys.validate(made.key)).permissions


async def test_a_key_loses_what_its_user_loses_at_once(keys: ApiKeyService, elsewhere: ApiKeyService):
    user = await new_user(keys)
    made = await new_key(keys, user, permissions=["trades.create_own", "trades.read_own"])
    assert (await elsewhere.validate(made.key)).may("trades.create_own")
    await UserService(keys._db).change_role(user, "user")

    async def lost() -> bool:
        return (await elsewhere.validate(made.key)).permissions == {"trades.read_own"}

    await until(lost, 0.5)


# From where, for how long


async def test_a_key_for_some_networks_is_refused_from_everywhere_else(keys: ApiKeyService):
    made = await new_key(
        keys, await new_user(keys), allowed_addresses=["192.0.2.0/24", "2001:db8::/32", "198.51.100.7"]
    )
    for allowed in ("192.0.2.1", "192.0.2.255", "2001:db8:5::1", "198.51.100.7", "::ffff:192.0.2.9"):
        await keys.validate(made.key, allowed)
    for other in (
        "192.0.3.1",
        "198.51.100.8",
        "2001:db9::1",
        "::ffff:203.0.113.1",
        "127.0.0.1",
        None,
        "",
        "192.0.2.1, 203.0.113.9",
        "192.0.2.1\x00",
        "localhost",
        "' OR 1=1 --",
    ):
        with pytest.raises(NotAuthenticatedError):
            await keys.validate(made.key, other)


async def test_a_network_of_mapped_addresses_is_the_one_of_ipv4(keys: ApiKeyService):
    made = await new_key(keys, await new_user(keys), allowed_addresses=["::ffff:192.0.2.0/120"])
    assert made.api_key.allowed_addresses == ["192.0.2.0/24"]
    for allowed in ("192.0.2.9", "::ffff:192.0.2.9"):
        await keys.validate(made.key, allowed)
    with pytest.raises(NotAuthenticatedError):
        await keys.validate(made.key, "192.0.3.9")


async def test_a_key_ends_at_its_time(keys: ApiKeyService, fresh_databases: DatabasePair):
    made = await new_key(keys, await new_user(keys), life_days=1)
    await keys.validate(made.key)
    sql(
        fresh_databases,
        "UPDATE api_keys SET created_at = created_at - interval '2 days',"
        " expires_at = expires_at - interval '2 days'",
    )
    await until(lambda: refused(keys, made.key), 0.5)
    with pytest.raises(NotFoundError):
        await keys.rotate(made.api_key.id)


async def test_a_key_ends_in_the_process_too_when_its_time_has_come(keys: ApiKeyService):
    made = await new_key(keys, await new_user(keys))
    found = await kept(keys._store.cache, hash_of(made.key).hex(), lambda: keys.validate(made.key))
    assert found.valid_until == made.api_key.expires_at.timestamp()
    found.valid_until = datetime.now(UTC).timestamp() - 0.001  # as if its time had come
    assert await refused(keys, made.key)


async def test_rotation_gives_a_key_of_the_same_kind_and_the_old_one_lives_on_for_a_while(
    keys: ApiKeyService, elsewhere: ApiKeyService, fresh_databases: DatabasePair
):
    user = await new_user(keys)
    old = await new_key(keys, user, allowed_addresses=["192.0.2.0/24"], life_days=7)
    new = await keys.rotate(old.api_key.id, overlap_s=60)
    assert new.key != old.key
    assert (new.api_key.permissions, new.api_key.allowed_addresses) == (READ, ["192.0.2.0/24"])
    for key in (old.key, new.key):
        for service in (keys, elsewhere):
            await service.validate(key, "192.0.2.1")
    with pytest.raises(ConflictError, match=str(new.api_key.id)):
        await keys.rotate(old.api_key.id)
    [(left_s,)] = sql(
        fresh_databases,
        "SELECT extract(epoch FROM expires_at - now())::float8 FROM api_keys WHERE id = %s",
        (old.api_key.id,),
    )
    assert 0 < left_s <= 60
    at_once = await keys.rotate(new.api_key.id, overlap_s=0)
    for service in (keys, elsewhere):
        await until(lambda service=service: refused(service, new.key), 0.5)
        await service.validate(at_once.key, "192.0.2.1")


async def test_of_many_rotations_at_once_one_wins(keys: ApiKeyService):
    made = await new_key(keys, await new_user(keys))
    answers = await asyncio.gather(*(keys.rotate(made.api_key.id) for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(answer, NewApiKey) for answer in answers) == 1
    assert sum(isinstance(answer, ConflictError) for answer in answers) == 7


async def test_there_are_no_more_keys_than_allowed_also_where_many_are_made_at_once(fresh_databases: DatabasePair):
    async with fresh_databases.connection(api_keys_per_user_max=5) as db:
        keys = ApiKeyService(db)
        user = await new_user(keys)
        answers = await asyncio.gather(*(new_key(keys, user) for _ in range(15)), return_exceptions=True)
        assert sum(isinstance(answer, NewApiKey) for answer in answers) == 5
        assert sum(isinstance(answer, ConflictError) for answer in answers) == 10
        [first] = [answer for answer in answers if isinstance(answer, NewApiKey)][:1]
        await keys.revoke(first.api_key.id)
        await new_key(keys, user)


async def test_rotating_again_and_again_does_not_get_past_twice_the_limit(fresh_databases: DatabasePair):
    async with fresh_databases.connection(api_keys_per_user_max=2) as db:
        keys = ApiKeyService(db)
        user = await new_user(keys)
        made = [(await new_key(keys, user)).api_key.id]
        for _ in range(3):
            made.append((await keys.rotate(made[-1])).api_key.id)
        with pytest.raises(ConflictError):
            await keys.rotate(made[-1])
        with pytest.raises(ConflictError):
            await new_key(keys, user)
        await keys.revoke(made[0])
        await keys.rotate(made[-1])


# Revocation


async def test_a_revoked_key_is_refused_in_every_process(keys: ApiKeyService, elsewhere: ApiKeyService):
    made = await new_key(keys, await new_user(keys))
    await elsewhere.validate(made.key)
    await keys.revoke(made.api_key.id, reason="leaked")
    assert await refused(keys, made.key)
    await until(lambda: refused(elsewhere, made.key), 0.5)
    await keys.revoke(made.api_key.id)  # once more changes nothing
    [key] = (await keys.list(made.api_key.user_id)).items
    assert key.revoked_reason == "leaked"


async def test_a_revoked_key_never_comes_back(
    keys: ApiKeyService, fresh_databases: DatabasePair, cache_server: ValkeyServer
):
    made = await new_key(keys, await new_user(keys))
    await keys.validate(made.key)
    with redis.Redis.from_url(cache_server.url) as client:
        before: dict[Any, Any] = {key: client.get(key) for key in client.keys("*api_key:*")}
        assert before
        await keys.revoke(made.api_key.id)
        client.mset(before)
        keys._store.cache._l1.clear()
        assert await refused(keys, made.key)
    with pytest.raises(psycopg.errors.IntegrityConstraintViolation):
        sql(fresh_databases, "UPDATE api_keys SET revoked_at = NULL, revoked_reason = NULL")


@pytest.mark.parametrize("how", ["deactivate_user", "erase_user"])
async def test_whoever_is_not_active_any_more_has_no_key(keys: ApiKeyService, elsewhere: ApiKeyService, how: str):
    user = await new_user(keys)
    made = await new_key(keys, user)
    await elsewhere.validate(made.key)
    await getattr(UserService(keys._db), how)(user)
    for service in (keys, elsewhere):
        await until(lambda service=service: refused(service, made.key), 0.5)
    with pytest.raises(AccessError):
        await new_key(keys, user)


# Guessing


async def test_whatever_is_not_exactly_a_key_is_refused_alike(keys: ApiKeyService):
    made = await new_key(keys, await new_user(keys))
    messages = set()
    for wrong in variations(made.key):
        if wrong == made.key:
            continue
        with pytest.raises(NotAuthenticatedError) as refusal:
            await keys.validate(wrong)
        messages.add(str(refusal.value))
    await keys.revoke(made.api_key.id)
    with pytest.raises(NotAuthenticatedError) as refusal:
        await keys.validate(made.key)
    assert messages == {str(refusal.value)}, "a key that was one is like one that never was"


async def test_only_the_hash_of_a_key_is_stored(
    keys: ApiKeyService, fresh_databases: DatabasePair, cache_server: ValkeyServer, capfd: Any
):
    made = await new_key(keys, await new_user(keys))
    await keys.validate(made.key)
    secret = made.key.removeprefix(KEY_START)
    stored = str(sql(fresh_databases, "SELECT k.*::text FROM api_keys k"))
    assert hash_of(made.key).hex() in stored
    logged = str(sql(fresh_databases, "SELECT a.*::text FROM audit_log a"))
    with redis.Redis.from_url(cache_server.url) as client:
        cached = str([(key, client.get(key)) for key in client.keys("*")])
    assert hash_of(made.key).hex() in cached
    for place in (
        stored,
        logged,
        cached,
        "".join(capfd.readouterr()),
        repr(made),
        repr(await keys.validate(made.key)),
    ):
        assert secret not in place
    assert made.api_key.key_start == made.key[:12]


async def test_guesses_leave_nothing_in_the_cache_server(keys: ApiKeyService, cache_server: ValkeyServer):
    await keys.validate((await new_key(keys, await new_user(keys))).key)
    with redis.Redis.from_url(cache_server.url) as client:
        before = client.dbsize()
        for _ in range(50):
            assert await refused(keys, make_token(KEY_START))
        assert client.dbsize() == before


# Who may do what to whose keys


@pytest.mark.parametrize("role", ROLES)
async def test_nobody_sees_makes_or_ends_keys_of_others_without_the_permission(keys: ApiKeyService, role: str):
    me, somebody = await new_user(keys, role), await new_user(keys)
    actor = await actor_of(keys, role, me)
    theirs = await new_key(keys, somebody)
    acting = keys.acting_as(actor)
    with pytest.raises(PermissionDeniedError):
        await new_key(acting, somebody)
    if actor.may("api_keys.read_any"):
        assert [key.id for key in (await acting.list(somebody)).items] == [theirs.api_key.id]
    else:
        for wanted in (somebody, uuid7()):
            with pytest.raises(PermissionDeniedError):
                await acting.list(wanted)
    with pytest.raises((PermissionDeniedError, NotFoundError)):
        await acting.rotate(theirs.api_key.id)
    if actor.may("api_keys.revoke_any"):
        await acting.revoke(theirs.api_key.id)
        assert await refused(keys, theirs.key)
    else:
        answers = []
        for wanted in (theirs.api_key.id, uuid7()):
            with pytest.raises((PermissionDeniedError, NotFoundError)) as refusal:
                await acting.revoke(wanted)
            answers.append(str(refusal.value).replace(str(wanted), ""))
        assert answers[0] == answers[1], "a key of somebody else is like none"
        await keys.validate(theirs.key)
    if actor.may("api_keys.manage_own"):
        mine = await new_key(acting, me)
        await acting.rotate(mine.api_key.id)
        await acting.revoke(mine.api_key.id)
        assert await refused(keys, mine.key)
    else:
        with pytest.raises(PermissionDeniedError):
            await new_key(acting, me)


@pytest.mark.parametrize("role", ["support", "auditor", "operator", "admin"])
async def test_staff_sees_keys_without_names_and_networks(keys: ApiKeyService, role: str):
    me, somebody = await new_user(keys, role), await new_user(keys)
    await new_key(keys, somebody, name="home", allowed_addresses=["192.0.2.7"])
    [key] = (await keys.acting_as(await actor_of(keys, role, me)).list(somebody)).items
    assert (key.name, key.allowed_addresses) == (("home", ["192.0.2.7/32"]) if role == "admin" else (None, None))
    [key] = (await keys.acting_as(await actor_of(keys, "trader", somebody)).list(somebody)).items
    assert (key.name, key.allowed_addresses) == ("home", ["192.0.2.7/32"])


@pytest.mark.parametrize("role", ["user", "support", "auditor"])
async def test_who_may_make_no_keys_any_more_ends_those_there_are(keys: ApiKeyService, role: str):
    user = await new_user(keys)
    made = await new_key(keys, user)
    await UserService(keys._db).change_role(user, role)
    acting = keys.acting_as(await actor_of(keys, role, user))
    with pytest.raises(PermissionDeniedError):
        await acting.rotate(made.api_key.id)
    await acting.revoke(made.api_key.id)
    assert await refused(keys, made.key)


async def test_a_key_makes_no_keys_and_no_sessions(keys: ApiKeyService):
    from novadex.sessions.service import SessionService

    user = await new_user(keys, "admin")
    everything = sorted(await keys._db.companion(Roles).permissions_of("admin") - NOT_BY_KEY)
    actor = await keys.validate((await new_key(keys, user, permissions=everything)).key)
    for call in (
        new_key(keys.acting_as(actor), user),
        SessionService(keys._db, actor=actor).create(user),
        UserService(keys._db, actor=actor).change_role(await new_user(keys), "admin"),
        UserService(keys._db, actor=actor).erase_user(user),
        UserService(keys._db, actor=actor).create_user(role="admin"),
    ):
        with pytest.raises(PermissionDeniedError):
            await call


# Pages, last use, text


async def test_pages_give_every_key_once(keys: ApiKeyService):
    user = await new_user(keys)
    made = [(await new_key(keys, user)).api_key.id for _ in range(7)]
    found: list[UUID] = []
    cursor = None
    while True:
        page = await keys.list(user, limit=3, cursor=cursor)
        found += [key.id for key in page.items]
        if page.next is None:
            break
        cursor = page.next
    assert found == made[::-1]


async def test_last_use_is_written_soon(keys: ApiKeyService):
    user = await new_user(keys)
    made = await new_key(keys, user)
    assert made.api_key.last_used_at is None
    await keys.validate(made.key)

    async def noted() -> bool:
        return (await keys.list(user)).items[0].last_used_at is not None

    await until(noted)


async def test_payloads_in_every_text_field_are_stored_as_they_are_or_refused(keys: ApiKeyService):
    user = await new_user(keys)
    for payload in PAYLOADS:
        for call in (
            new_key(keys, user, permissions=[payload]),
            new_key(keys, user, permissions=payload),
            new_key(keys, user, allowed_addresses=[payload]),
            keys.revoke(payload),
            keys.rotate(payload),
            keys.list(payload),
            keys.list(user, cursor=payload),
            keys.create(payload, name="bot", permissions=READ),
        ):
            with pytest.raises((ValidationError, PermissionDeniedError)):
                await call
        try:
            made = await new_key(keys, user, name=payload)
        except ValidationError:
            continue
        assert made.api_key.name == payload
        try:
            await keys.revoke(made.api_key.id, reason=payload)
        except ValidationError:
            await keys.revoke(made.api_key.id)
    assert (await UserService(keys._db).get_user(user)).status == "active"


async def test_oversized_and_malformed_values_are_refused(keys: ApiKeyService):
    user = await new_user(keys)
    wrongs: list[dict[str, Any]] = [
        {"name": ""},
        {"name": "x" * 101},
        {"name": "a\x00b"},
        {"name": "\ud800"},
        {"name": None},
        {"name": 5},
        {"permissions": []},
        {"permissions": READ * 1 + [None]},
        {"permissions": [f"p{n}" for n in range(101)]},
        {"permissions": ["x" * 100_000]},
        {"allowed_addresses": ["192.0.2.1/24"]},
        {"allowed_addresses": [f"192.0.2.{n}" for n in range(101)]},
        {"allowed_addresses": [None]},
        {"allowed_addresses": None},
        {"allowed_addresses": [3221225985]},
        {"allowed_addresses": [b"\x01\x02\x03\x04"]},
        {"allowed_addresses": [("192.0.2.0", 24)]},
        {"allowed_addresses": ["fe80::1%eth0"]},
        {"allowed_addresses": ["::1%' OR 1=1 --"]},
        {"permissions": None},
        {"permissions": 5},
        {"permissions": b"trades.read_own"},
        {"life_days": 0},
        {"life_days": 367},
        {"life_days": 1.5},
        {"life_days": True},
        {"life_days": "90"},
        {"life_days": 10**30},
    ]
    for wrong in wrongs:
        with pytest.raises(NovaDexError) as refusal:
            await new_key(keys, user, **wrong)
        assert isinstance(refusal.value, ValidationError), wrong
    made = await new_key(keys, user)
    for overlap in (-1, 7 * 86_400 + 1, 1.5, "60", True):
        with pytest.raises(ValidationError):
            await keys.rotate(made.api_key.id, overlap_s=overlap)  # pyright: ignore[reportArgumentType]
    for limit in (0, 1_001, "5", True, None):
        with pytest.raises(ValidationError):
            await keys.list(user, limit=limit)  # pyright: ignore[reportArgumentType]
