"""Sessions on real servers: what a token stands for, for how long, and everything that must not get one accepted."""

from __future__ import annotations

import asyncio
import json
import re
import string
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
import redis

from novadex.api_keys.service import ApiKeyService
from novadex.cache.cache import Caches
from novadex.errors import (
    AccessError,
    NotAuthenticatedError,
    NotFoundError,
    NovaDexError,
    PermissionDeniedError,
    ReauthenticationNeededError,
    RenewalNeededError,
    SessionEndedError,
    UnavailableError,
    ValidationError,
)
from novadex.ids import uuid7
from novadex.roles.actor import Actor
from novadex.roles.roles import Roles
from novadex.roles.tokens import hash_of, make_token
from novadex.sessions.records import NewSession
from novadex.sessions.service import STOLEN, TOKEN_START, SessionService
from novadex.sessions.store import ASK_AGAIN_S, CachedSession, SessionStore
from novadex.storage.connection import DatabaseConnection
from novadex.users.service import UserService
from tests.conftest import DatabasePair
from tests.payloads import PAYLOADS
from tests.proxy import Proxy
from tests.servers import ValkeyServer
from tests.waiting import kept, until

ROLES = ("user", "trader", "market_maker", "support", "auditor", "operator", "admin")
Users = Callable[[int], list[UUID]]


@pytest.fixture
async def sessions(fresh_databases: DatabasePair, cache_url: str, sessions_url: str) -> AsyncIterator[SessionService]:
    async with fresh_databases.connection(cache=cache_url, sessions=sessions_url) as db:
        yield SessionService(db)


@pytest.fixture
async def elsewhere(
    fresh_databases: DatabasePair, cache_url: str, sessions_url: str
) -> AsyncIterator[SessionService]:
    """The same as another process has it."""
    async with fresh_databases.connection(cache=cache_url, sessions=sessions_url) as db:
        yield SessionService(db)


def sql(databases: DatabasePair, statement: Any, parameters: Any = ()) -> list[Any]:
    """Plain SQL as superuser."""
    with psycopg.connect(databases.main_url(None)) as connection:
        cursor = connection.execute(statement, parameters or None)
        return cursor.fetchall() if cursor.description else []


def make_older(databases: DatabasePair, session: NewSession, by: str) -> None:
    """All its moments, as if it had begun so long ago."""
    sql(
        databases,
        "UPDATE user_sessions SET created_at = created_at - %(by)s::interval,"
        " last_used_at = last_used_at - %(by)s::interval, authenticated_at = authenticated_at - %(by)s::interval,"
        " idle_expires_at = idle_expires_at - %(by)s::interval, expires_at = expires_at - %(by)s::interval"
        " WHERE id = %(id)s",
        {"by": by, "id": session.session.id},
    )


async def actor_of(service: SessionService, role: str, user: UUID) -> Actor:
    return Actor(f"user:{user}", user, role, await service._db.companion(Roles).permissions_of(role))


async def kept_of(service: SessionService, token: str) -> CachedSession:
    """What this process keeps of a session."""
    return await kept(service._store.cache, hash_of(token).hex(), lambda: service.validate(token))


async def refused(service: SessionService, token: str) -> bool:
    try:
        await service.validate(token)
    except SessionEndedError:
        return True
    return False


# What a token stands for


async def test_a_token_stands_for_its_user_with_their_role_and_permissions(sessions: SessionService, users: Users):
    [user] = users(1)
    made = await sessions.create(user, device="Firefox on Linux", address="2001:DB8::1")
    view = await sessions.validate(made.token)
    assert (view.id, view.user_id, view.role, view.method) == (made.session.id, user, "user", "service")
    assert view.actor.name == f"user:{user}"
    assert view.actor.may("users.read_own")
    assert not view.actor.may("users.read_any")
    assert not view.actor.trusted
    assert made.session.address == "2001:db8::1"
    assert view.family_id == view.id


async def test_tokens_have_256_random_bits_and_none_is_like_another(sessions: SessionService, users: Users):
    asked: list[int] = []

    def randomness(count: int) -> bytes:
        asked.append(count)
        return bytes(range(count))

    token = make_token(TOKEN_START, randomness)
    assert asked == [32]
    assert re.fullmatch(r"nds_[A-Za-z0-9_-]{43}", token)
    [user] = users(1)
    tokens = {(await sessions.create(user)).token for _ in range(30)}
    assert len(tokens) == 30


async def test_only_the_hash_of_a_token_is_stored_in_both_places(
    sessions: SessionService, users: Users, fresh_databases: DatabasePair, sessions_server: ValkeyServer, capfd: Any
):
    made = await sessions.create(users(1)[0], device="Phone of Ada", address="192.0.2.77")
    await sessions.validate(made.token)
    secret = made.token.removeprefix(TOKEN_START)
    stored = str(sql(fresh_databases, "SELECT s.*::text FROM user_sessions s"))
    assert hash_of(made.token).hex() in stored
    logged = str(sql(fresh_databases, "SELECT a.*::text FROM audit_log a"))
    with redis.Redis.from_url(sessions_server.url) as client:
        keys = client.keys("*")
        assert any(hash_of(made.token).hex() in str(key) for key in keys)
        cached = str([(key, client.get(key)) for key in keys])
        assert not re.search(r"Ada|192\.0\.2\.77", cached)
    output = "".join(capfd.readouterr())
    for place in (stored, logged, cached, output, repr(made), str(made), repr(await sessions.validate(made.token))):
        assert secret not in place
    with pytest.raises(SessionEndedError) as refusal:
        await sessions.revoke(made.session.id)
        await sessions.validate(made.token)
    assert secret not in repr(refusal.value.as_dict())


# Guessing, fixation, malformed tokens


def variations(token: str) -> list[Any]:
    body = token[4:]
    flipped = [
        token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :] for place in range(4, len(token))
    ]
    return [
        *flipped,
        token[:-1],
        token + "A",
        token + "=",
        token + "\n",
        " " + token,
        token.swapcase(),
        token.upper(),
        body,
        "ndk_" + body,
        "NDS_" + body,
        "nds-" + body,
        hash_of(token).hex(),
        "nds_" + hash_of(token).hex()[:43],
        token.replace(body[0], "\u0430", 1),
        token + "\x00",
        "\x00" * 47,
        "nds_" + "\udcff" * 43,
        "nds_" + "\N{MATHEMATICAL DOUBLE-STRUCK DIGIT ZERO}" * 43,
        "nds_" + "/" * 43,
        "nds_" + "%" * 43,
        "",
        "nds_",
        "null",
        "undefined",
        "x" * 1_000_000,
        *PAYLOADS,
        *(f"nds_{payload}" for payload in PAYLOADS),
        None,
        0,
        True,
        1.5,
        b"nds_" + body.encode(),
        [token],
        {"token": token},
        UUID(int=7),
    ]


async def test_whatever_is_not_exactly_a_token_is_refused_alike(sessions: SessionService, users: Users):
    made = await sessions.create(users(1)[0])
    messages = set()
    for wrong in variations(made.token):
        with pytest.raises(NotAuthenticatedError) as refusal:
            await sessions.validate(wrong)
        messages.add(str(refusal.value))
    assert len(messages) == 1, "an error that differs tells something"
    with pytest.raises(NotAuthenticatedError):
        await sessions.refresh(made.token[:-1])
    await sessions.validate(made.token)


async def test_guesses_leave_nothing_in_the_session_server(
    sessions: SessionService, users: Users, sessions_server: ValkeyServer
):
    await sessions.validate((await sessions.create(users(1)[0])).token)
    with redis.Redis.from_url(sessions_server.url) as client:
        before = client.dbsize()
        for _ in range(50):
            with pytest.raises(NotAuthenticatedError):
                await sessions.validate(make_token(TOKEN_START))
        assert client.dbsize() == before
    assert not sessions._store.cache._loading


async def test_a_hash_that_was_stolen_from_the_database_is_no_token(
    sessions: SessionService, users: Users, fresh_databases: DatabasePair
):
    await sessions.create(users(1)[0])
    [(digest,)] = sql(fresh_databases, "SELECT token_hash FROM user_sessions")
    for wrong in (digest.hex(), digest, "nds_" + digest.hex(), make_token("nds_", lambda _: digest)):
        with pytest.raises(NotAuthenticatedError):
            await sessions.validate(wrong)


async def test_a_token_that_a_client_chose_is_never_taken(sessions: SessionService, users: Users):
    [user] = users(1)
    chosen = make_token(TOKEN_START)
    with pytest.raises(TypeError):
        await sessions.create(user, token=chosen)  # pyright: ignore[reportCallIssue] - there is no such way
    made = await sessions.create(user, device=chosen)
    assert made.token != chosen
    with pytest.raises(NotAuthenticatedError):
        await sessions.validate(chosen)
    renewed = await sessions.refresh(made.token, device=chosen)
    assert chosen not in (renewed.token, made.token)


# Lifetimes


async def test_a_session_that_is_not_used_ends(sessions: SessionService, users: Users, fresh_databases: DatabasePair):
    made = await sessions.create(users(1)[0])
    make_older(fresh_databases, made, "1801 seconds")
    assert await refused(sessions, made.token)
    with pytest.raises(SessionEndedError):
        await sessions.refresh(made.token)


async def test_a_token_that_expired_makes_no_query_each_time_it_is_shown(
    sessions: SessionService, users: Users, fresh_databases: DatabasePair
):
    made = await sessions.create(users(1)[0])
    make_older(fresh_databases, made, "1801 seconds")
    assert await refused(sessions, made.token)
    loaded, began = sessions._store.cache.counts.loaded, time.monotonic()
    for _ in range(200):
        assert await refused(sessions, made.token)
    assert sessions._store.cache.counts.loaded - loaded <= (time.monotonic() - began) / ASK_AGAIN_S + 1


async def test_a_session_ends_in_the_process_too_when_its_time_has_come(fresh_databases: DatabasePair, users: Users):
    """Nobody tells the caches that time has passed."""
    async with fresh_databases.connection(session_idle_s=60, session_absolute_s=60) as db:
        sessions = SessionService(db)
        made = await sessions.create(users(1)[0])
        found = await kept_of(sessions, made.token)
        assert 0 < found.good_until - datetime.now(UTC).timestamp() <= 60
        found.good_until = 0.0  # as if a minute had passed in this process
        make_older(fresh_databases, made, "61 seconds")
        assert await refused(sessions, made.token)


async def test_use_keeps_a_session_alive_but_not_beyond_its_absolute_end(
    sessions: SessionService, users: Users, fresh_databases: DatabasePair
):
    made = await sessions.create(users(1)[0])
    make_older(fresh_databases, made, "1700 seconds")
    sessions._store.cache._l1.clear()
    view = await sessions.validate(made.token)
    sessions._store.touch(await kept_of(sessions, made.token), datetime.now(UTC).timestamp())

    def lives_on() -> bool:
        [(idle,)] = sql(fresh_databases, "SELECT idle_expires_at - now() FROM user_sessions")
        return idle > timedelta(minutes=25)

    await until(lives_on)
    assert view.expires_at == made.session.expires_at - timedelta(seconds=1700)
    make_older(fresh_databases, made, "8 hours")
    assert await refused(sessions, made.token)


async def test_noting_use_waits_for_nobody_who_changes_sessions(
    sessions: SessionService, users: Users, fresh_databases: DatabasePair
):
    """Holding some and waiting for others, it and a change of the user would wait for each other."""
    [user] = users(1)
    made = [await sessions.create(user) for _ in range(3)]
    for session in made:
        sessions._store.touch(await kept_of(sessions, session.token), datetime.now(UTC).timestamp() + 1)
    with psycopg.connect(fresh_databases.main_url(None)) as holder:
        holder.execute("SELECT FROM user_sessions WHERE id = %s FOR UPDATE", (made[1].session.id,))
        await sessions._store.close()
        used = sql(fresh_databases, "SELECT last_used_at > created_at FROM user_sessions ORDER BY id")
    assert used == [(True,), (False,), (True,)]


async def test_refreshing_does_not_move_the_absolute_end(sessions: SessionService, users: Users):
    made = await sessions.create(users(1)[0])
    renewed = made
    for _ in range(3):
        renewed = await sessions.refresh(renewed.token)
    assert renewed.session.expires_at == made.session.expires_at
    assert renewed.session.authenticated_at == made.session.authenticated_at
    assert renewed.session.family_id == made.session.id


async def test_one_session_too_many_ends_the_one_that_was_not_used_for_longest(
    fresh_databases: DatabasePair, users: Users
):
    async with fresh_databases.connection(sessions_per_user_max=3) as db:
        sessions = SessionService(db)
        user, other = users(2)
        of_other = await sessions.create(other)
        made = [await sessions.create(user) for _ in range(3)]
        sql(
            fresh_databases,
            "UPDATE user_sessions SET last_used_at = now() - interval '1 hour' WHERE id = %s",
            (made[1].session.id,),
        )
        fourth = await sessions.create(user)
        assert await refused(sessions, made[1].token)
        for session in (made[0], made[2], fourth, of_other):
            await sessions.validate(session.token)


async def test_sign_ins_at_once_do_not_get_past_the_limit(fresh_databases: DatabasePair, users: Users):
    async with fresh_databases.connection(sessions_per_user_max=4) as db:
        sessions = SessionService(db)
        [user] = users(1)
        made = await asyncio.gather(*(sessions.create(user) for _ in range(20)))
        assert len(await sessions.list(user)) == 4
        alive = [session for session in made if not await refused(sessions, session.token)]
        assert len(alive) == 4


# Refreshing, replay


async def test_a_replaced_token_that_is_shown_at_once_is_refused_and_harms_nobody(
    sessions: SessionService, users: Users
):
    made = await sessions.create(users(1)[0])
    renewed = await sessions.refresh(made.token)
    assert await refused(sessions, made.token)
    await sessions.validate(renewed.token)


async def test_a_stolen_token_that_is_shown_later_ends_the_whole_family(
    sessions: SessionService, elsewhere: SessionService, users: Users, fresh_databases: DatabasePair
):
    [user] = users(1)
    first = await sessions.create(user)
    other_sign_in = await sessions.create(user)
    second = await sessions.refresh(first.token)
    third = await sessions.refresh(second.token)
    await elsewhere.validate(third.token)
    sql(
        fresh_databases,
        "UPDATE user_sessions SET revoked_at = revoked_at - interval '11 seconds' WHERE id = %s",
        (first.session.id,),
    )
    await until(lambda: refused(sessions, first.token))
    for service in (sessions, elsewhere):
        await until(lambda service=service: refused(service, third.token))
        await service.validate(other_sign_in.token)
    reasons = dict(sql(fresh_databases, "SELECT id, revoked_reason FROM user_sessions"))
    assert reasons[third.session.id] == STOLEN
    assert reasons[other_sign_in.session.id] is None


async def test_refreshing_with_a_replaced_token_ends_the_family_at_once(sessions: SessionService, users: Users):
    made = await sessions.create(users(1)[0])
    renewed = await sessions.refresh(made.token)
    with pytest.raises(SessionEndedError):
        await sessions.refresh(made.token)
    assert await refused(sessions, renewed.token)


async def test_a_new_proof_gives_a_new_token_and_ends_the_old_one(
    sessions: SessionService, users: Users, fresh_databases: DatabasePair
):
    made = await sessions.create(users(1)[0])
    make_older(fresh_databases, made, "20 minutes")
    sessions._store.cache._l1.clear()
    with pytest.raises(ReauthenticationNeededError):
        sessions.require_recent(await sessions.validate(made.token))
    proved = await sessions.reauthenticated(made.token, method="solana")
    view = await sessions.validate(proved.token)
    sessions.require_recent(view)
    assert (view.method, view.family_id) == ("solana", made.session.id)
    assert proved.session.expires_at == made.session.expires_at - timedelta(minutes=20), "the end stays"
    assert await refused(sessions, made.token)
    with pytest.raises(SessionEndedError):
        await sessions.reauthenticated(made.token, method="solana")


async def test_signing_out_ends_the_session_of_the_token_alone(sessions: SessionService, users: Users):
    [user] = users(1)
    made, other = await sessions.create(user), await sessions.create(user)
    await sessions.revoke_token(made.token)
    assert await refused(sessions, made.token)
    await sessions.validate(other.token)
    for wrong, error in ((made.token, SessionEndedError), (make_token(TOKEN_START), NotAuthenticatedError)):
        with pytest.raises(error):
            await sessions.revoke_token(wrong)
    await UserService(sessions._db).change_role(user, "trader")
    await sessions.revoke_token(other.token)  # though it must be renewed
    assert await refused(sessions, other.token)


async def test_of_many_refreshes_at_once_one_wins_and_the_thief_wins_nothing(sessions: SessionService, users: Users):
    made = await sessions.create(users(1)[0])
    answers = await asyncio.gather(*(sessions.refresh(made.token) for _ in range(10)), return_exceptions=True)
    won = [answer for answer in answers if isinstance(answer, NewSession)]
    assert len(won) == 1
    assert all(isinstance(answer, SessionEndedError) for answer in answers if answer is not won[0])
    assert await refused(sessions, made.token)
    assert await refused(sessions, won[0].token), "two held the token: nobody knows who is the thief"


async def test_a_revoked_token_cannot_be_refreshed(sessions: SessionService, users: Users):
    made = await sessions.create(users(1)[0])
    await sessions.revoke(made.session.id)
    with pytest.raises(SessionEndedError):
        await sessions.refresh(made.token)


# Revocation


async def test_revoking_ends_one_or_all_or_all_but_one_in_every_process(
    sessions: SessionService, elsewhere: SessionService, users: Users
):
    [user] = users(1)
    made = [await sessions.create(user) for _ in range(4)]
    for session in made:
        await elsewhere.validate(session.token)
    await sessions.revoke(made[0].session.id, reason="lost laptop")
    await until(lambda: refused(elsewhere, made[0].token), 0.5)
    assert await sessions.revoke_all(user, but=made[1].session.id) == 2
    for service in (sessions, elsewhere):
        await service.validate(made[1].token)
        await until(lambda service=service: refused(service, made[2].token), 0.5)
    assert await sessions.revoke_all(user) == 1
    await until(lambda: refused(elsewhere, made[1].token), 0.5)
    assert await sessions.list(user) == []


async def test_revoking_a_session_that_was_refreshed_meanwhile_ends_what_took_its_place(
    sessions: SessionService, elsewhere: SessionService, users: Users, fresh_databases: DatabasePair
):
    """A user sees a device in the list; a thief who holds its token refreshes; the user revokes what was listed."""
    [user] = users(1)
    made, other = await sessions.create(user), await sessions.create(user)
    of_thief = await elsewhere.refresh((await elsewhere.refresh(made.token)).token)
    await elsewhere.validate(of_thief.token)
    own = sessions.acting_as(await actor_of(sessions, "user", user))
    await own.revoke(made.session.id, reason="lost laptop")
    assert await refused(sessions, of_thief.token)
    await until(lambda: refused(elsewhere, of_thief.token), 0.5)
    with pytest.raises(SessionEndedError):
        await elsewhere.refresh(of_thief.token)
    await sessions.validate(other.token)
    await own.revoke(made.session.id)  # nothing is left to end
    reasons = dict(sql(fresh_databases, "SELECT id, revoked_reason FROM user_sessions"))
    assert reasons[of_thief.session.id] == "lost laptop", "and not a theft that nobody saw"


async def test_a_refresh_and_a_sign_out_at_once_leave_no_session(sessions: SessionService, users: Users):
    [user] = users(1)
    for number in range(20):
        made = await sessions.create(user)
        ways = [sessions.revoke_token(made.token), sessions.revoke(made.session.id)]
        out, unused = ways[number % 2], ways[1 - number % 2]
        unused.close()
        ended, renewed = await asyncio.gather(out, sessions.refresh(made.token), return_exceptions=True)
        assert ended is None, ended
        assert isinstance(renewed, NewSession | SessionEndedError)
        if isinstance(renewed, NewSession):
            assert await refused(sessions, renewed.token)
        assert await sessions.list(user) == []


async def test_everybody_is_signed_out_in_batches_though_they_refresh_meanwhile(
    sessions: SessionService, elsewhere: SessionService, users: Users, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("novadex.sessions.service.USERS_PER_BATCH", 2)
    people = users(7)
    made = [await sessions.create(user) for user in people for _ in range(2)]
    refreshed: list[NewSession] = []

    async def refresh_on_and_on(session: NewSession) -> None:
        with suppress(SessionEndedError):
            while True:
                session = await elsewhere.refresh(session.token)
                refreshed.append(session)

    refreshing = [asyncio.create_task(refresh_on_and_on(session)) for session in made[1::4]]
    await until(lambda: len(refreshed) >= len(refreshing))
    assert await sessions.revoke_everybody(reason="keys leaked") == 14
    await asyncio.gather(*refreshing)
    for user in people:
        assert await sessions.list(user) == []
    for session in (*made, *refreshed):
        assert await refused(sessions, session.token)
    assert await sessions.revoke_everybody() == 0


async def test_this_process_refuses_at_once_what_it_revoked(sessions: SessionService, users: Users):
    [user] = users(1)
    for _ in range(20):
        made = await sessions.create(user)
        await sessions.validate(made.token)
        await sessions.revoke(made.session.id)
        assert await refused(sessions, made.token)


async def test_plain_sql_revokes_too(
    sessions: SessionService, elsewhere: SessionService, users: Users, fresh_databases: DatabasePair
):
    made = await sessions.create(users(1)[0])
    for service in (sessions, elsewhere):
        await service.validate(made.token)
    sql(fresh_databases, "UPDATE user_sessions SET revoked_at = now(), revoked_reason = 'by hand'")
    for service in (sessions, elsewhere):
        await until(lambda service=service: refused(service, made.token), 0.5)


async def test_what_was_revoked_never_comes_back(
    sessions: SessionService, users: Users, fresh_databases: DatabasePair, sessions_server: ValkeyServer
):
    made = await sessions.create(users(1)[0])
    await sessions.validate(made.token)
    with redis.Redis.from_url(sessions_server.url) as client:
        before: dict[Any, Any] = {key: client.get(key) for key in client.keys("*session:*")}
        assert before
        await sessions.revoke(made.session.id)
        client.mset(before)  # as a replica that was behind would after a failover
        sessions._store.cache._l1.clear()
        assert await refused(sessions, made.token)
    with pytest.raises(psycopg.errors.IntegrityConstraintViolation):
        sql(fresh_databases, "UPDATE user_sessions SET revoked_at = NULL, revoked_reason = NULL")


@pytest.mark.parametrize("how", ["deactivate_user", "erase_user"])
async def test_whoever_is_not_active_any_more_has_no_session(sessions: SessionService, elsewhere: Any, how: str):
    people = UserService(sessions._db)
    user = await people.create_user(username="ada")
    made = await sessions.create(user.id)
    await elsewhere.validate(made.token)
    await getattr(people, how)(user.id)
    for service in (sessions, elsewhere):
        await until(lambda service=service: refused(service, made.token), 0.5)
    with pytest.raises(AccessError):
        await sessions.create(user.id)
    with pytest.raises(NovaDexError):
        await sessions.refresh(made.token)


async def test_after_a_change_of_role_a_session_is_good_for_a_refresh_alone(
    sessions: SessionService, elsewhere: SessionService, users: Users
):
    [user] = users(1)
    made = await sessions.create(user)
    assert not (await elsewhere.validate(made.token)).actor.may("trades.create_own")
    await UserService(sessions._db).change_role(user, "trader")

    async def wants_renewal() -> bool:
        try:
            await elsewhere.validate(made.token)
        except RenewalNeededError:
            return True
        return False

    await until(wants_renewal, 0.5)
    renewed = await elsewhere.refresh(made.token)
    assert (await elsewhere.validate(renewed.token)).actor.may("trades.create_own")
    assert await refused(sessions, made.token)


async def test_what_a_role_may_do_is_taken_away_from_running_sessions_at_once(
    sessions: SessionService, fresh_databases: DatabasePair
):
    user = await UserService(sessions._db).create_user(role="support")
    made = await sessions.create(user.id)
    assert (await sessions.validate(made.token)).actor.may("sessions.revoke_any")
    sql(fresh_databases, "DELETE FROM role_permissions WHERE role = 'support' AND permission = 'sessions.revoke_any'")

    async def may_no_more() -> bool:
        return not (await sessions.validate(made.token)).actor.may("sessions.revoke_any")

    await until(may_no_more, 0.5)


async def test_a_slow_answer_about_roles_gives_nobody_back_what_was_taken_away(
    sessions: SessionService, fresh_databases: DatabasePair, monkeypatch: pytest.MonkeyPatch
):
    """A validation reads the permissions, they are changed and announced, and only then it goes on."""
    db, permission = sessions._db, "sessions.revoke_any"
    roles, keys, feed = db.companion(Roles), ApiKeyService(db), db.companion(Caches).feed
    user = await UserService(db).create_user(role="support")
    token = (await sessions.create(user.id)).token
    key = (await keys.create(user.id, name="bot", permissions=[permission])).key
    assert (await sessions.validate(token)).actor.may(permission)
    assert (await keys.validate(key)).may(permission)
    go_on, load, loads = asyncio.Event(), roles._cache._load, 0

    async def slow(name: str) -> Any:
        nonlocal loads
        loads += 1
        first, answer = loads == 1, await load(name)
        if first:
            await go_on.wait()
        return answer

    monkeypatch.setattr(roles._cache, "_load", slow)
    roles._cache._l1.clear()
    await roles._cache._server.delete(roles._cache._key("all"))
    waiting = [asyncio.create_task(sessions.validate(token)), asyncio.create_task(keys.validate(key))]
    await until(lambda: loads == 1)
    sql(fresh_databases, "DELETE FROM role_permissions WHERE role = 'support' AND permission = %s", (permission,))

    async def heard() -> bool:
        await feed.confirm()
        return ("roles", "all") in feed._changes

    await until(heard)
    assert permission not in await roles.permissions_of("support")
    go_on.set()
    await asyncio.gather(*waiting)
    assert not (await sessions.validate(token)).actor.may(permission)
    assert not (await keys.validate(key)).may(permission)


# Servers away, flushed


async def test_without_a_session_server_postgresql_answers(fresh_databases: DatabasePair, users: Users):
    async with fresh_databases.connection(sessions="redis://127.0.0.1:1") as db:
        sessions = SessionService(db)
        made = await sessions.create(users(1)[0])
        await sessions.validate(made.token)
        db.companion(SessionStore).cache._l1.clear()
        await sessions.validate(made.token)
        await sessions.revoke(made.session.id)
        assert await refused(sessions, made.token)


async def test_a_flushed_session_server_is_filled_again(
    sessions: SessionService, users: Users, sessions_server: ValkeyServer
):
    made = [await sessions.create(user) for user in users(3)]
    for session in made:
        await sessions.validate(session.token)
    sessions_server.flush()
    sessions._store.cache._l1.clear()
    await sessions.revoke(made[0].session.id)
    assert await refused(sessions, made[0].token)
    for session in made[1:]:
        await sessions.validate(session.token)
    with redis.Redis.from_url(sessions_server.url) as client:
        assert len(client.keys("*session:*")) >= 2


# A database that goes away


AT_THE_COMMIT = (
    "CREATE FUNCTION go_away() RETURNS trigger LANGUAGE plpgsql AS"
    " 'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END';"
    "CREATE CONSTRAINT TRIGGER go_away AFTER INSERT ON user_sessions DEFERRABLE INITIALLY DEFERRED"
    " FOR EACH ROW EXECUTE FUNCTION go_away()"
)
END_WHO_WAITS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND usename = 'novadex_app' AND wait_event_type = 'Lock'"
)
MakeProxy = Callable[[str], Awaitable[Proxy]]


def linked(databases: DatabasePair, link: Proxy) -> DatabaseConnection:
    """A connection through the proxy, without caches."""
    settings = databases.connection(pool_wait_s_max=1).settings
    return DatabaseConnection(replace(databases.endpoints(), main=link.url), settings)


async def refreshed_though(
    databases: DatabasePair,
    service: SessionService,
    link: Proxy,
    made: NewSession,
    then: Callable[[], Awaitable[None]],
) -> NewSession:
    """Refresh a session; when it is committed, and the answer is on its way, the connection is cut."""
    there = "SELECT count(*) FROM user_sessions WHERE family_id = %s"
    link.delay_s = 0.1
    refreshing = asyncio.ensure_future(service.refresh(made.token))
    await until(lambda: sql(databases, there, (made.session.family_id,)) == [(2,)])
    await then()
    link.cut()
    link.delay_s = 0
    return await refreshing


async def nothing_else() -> None:
    pass


async def test_a_refresh_whose_answer_is_lost_gives_the_new_session(
    fresh_databases: DatabasePair, users: Users, proxy: MakeProxy
):
    link = await proxy(fresh_databases.main_url("app"))
    async with linked(fresh_databases, link) as db:
        service = SessionService(db)
        made = await service.create(users(1)[0])
        renewed = await refreshed_though(fresh_databases, service, link, made, nothing_else)
        assert (await service.validate(renewed.token)).id == renewed.session.id
        assert renewed.session.family_id == made.session.family_id


async def test_where_nobody_knows_what_became_of_a_refresh_it_must_not_be_tried_again(
    fresh_databases: DatabasePair, users: Users, proxy: MakeProxy
):
    link = await proxy(fresh_databases.main_url("app"))
    async with linked(fresh_databases, link) as db:
        service = SessionService(db)
        made = await service.create(users(1)[0])
        with pytest.raises(SessionEndedError, match="not known") as caught:
            await refreshed_though(fresh_databases, service, link, made, link.refuse)
        assert (caught.value.retryable, caught.value.hint) == (False, "Sign in again.")


async def test_a_refresh_that_was_not_committed_can_be_tried_again(
    sessions: SessionService, users: Users, fresh_databases: DatabasePair
):
    made = await sessions.create(users(1)[0])
    sql(fresh_databases, AT_THE_COMMIT)
    with pytest.raises(UnavailableError) as caught:
        await sessions.refresh(made.token)
    assert caught.value.retryable
    sql(fresh_databases, "DROP TRIGGER go_away ON user_sessions")
    renewed = await sessions.refresh(made.token)
    await sessions.validate(renewed.token)


@pytest.mark.parametrize("read", ["validate", "refresh", "revoke_token", "list"])
async def test_a_read_that_loses_its_connection_is_tried_again(
    fresh_databases: DatabasePair, users: Users, read: str
):
    async with fresh_databases.connection() as db:
        service = SessionService(db)
        made = await service.create(users(1)[0])
        with psycopg.connect(fresh_databases.main_url(None)) as superuser:
            superuser.execute("LOCK TABLE user_sessions IN ACCESS EXCLUSIVE MODE")
            argument = made.session.user_id if read == "list" else made.token
            reading = asyncio.ensure_future(getattr(service, read)(argument))
            await until(lambda: sql(fresh_databases, END_WHO_WAITS) == [(True,)])
        await reading


# Who may do what to whose sessions


@pytest.mark.parametrize("role", ROLES)
async def test_nobody_sees_or_ends_sessions_of_others_without_the_permission(
    sessions: SessionService, users: Users, role: str
):
    me, somebody = users(2)
    actor = await actor_of(sessions, role, me)
    mine, theirs = await sessions.create(me), await sessions.create(somebody)
    acting = sessions.acting_as(actor)
    assert [session.id for session in await acting.list(me)] == [mine.session.id]
    if actor.may("sessions.read_any"):
        assert [session.id for session in await acting.list(somebody)] == [theirs.session.id]
    else:
        with pytest.raises(PermissionDeniedError):
            await acting.list(somebody)
        with pytest.raises(PermissionDeniedError):
            await acting.list(uuid7())
    if actor.may("sessions.revoke_any"):
        await acting.revoke(theirs.session.id)
        assert await refused(sessions, theirs.token)
    else:
        answers = []
        for wanted in (theirs.session.id, uuid7()):
            with pytest.raises(NotFoundError) as refusal:
                await acting.revoke(wanted)
            answers.append(str(refusal.value).replace(str(wanted), ""))
        assert answers[0] == answers[1], "a session of somebody else is like none"
        with pytest.raises(PermissionDeniedError):
            await acting.revoke_all(somebody)
        await sessions.validate(theirs.token)
    await acting.revoke(mine.session.id)
    assert await refused(sessions, mine.token)


@pytest.mark.parametrize("role", ["support", "auditor", "operator", "admin"])
async def test_staff_sees_sessions_without_device_and_address(sessions: SessionService, users: Users, role: str):
    me, somebody = users(2)
    for user in (me, somebody):
        await sessions.create(user, device="Browser", address="192.0.2.7")
    acting = sessions.acting_as(await actor_of(sessions, role, me))
    [mine], [theirs] = await acting.list(me), await acting.list(somebody)
    assert (mine.device, mine.address) == ("Browser", "192.0.2.7")
    assert (theirs.device, theirs.address) == (("Browser", "192.0.2.7") if role == "admin" else (None, None))


async def test_nobody_begins_a_session_of_who_may_do_more_to_others(sessions: SessionService, users: Users):
    me, trader, admin = users(3)
    service = UserService(sessions._db)
    await service.change_role(trader, "trader")
    await service.change_role(admin, "admin")
    acting = sessions.acting_as(Actor(f"user:{me}", me, "gateway", frozenset({"sessions.create_any"})))
    made = await acting.create(trader)
    assert (await acting.reauthenticated(made.token, method="ethereum")).session.user_id == trader
    theirs = await sessions.create(admin)
    for call in (acting.create(admin), acting.reauthenticated(theirs.token, method="ethereum")):
        with pytest.raises(PermissionDeniedError, match="more to others"):
            await call
    await sessions.validate(theirs.token)
    assert len(await sessions.list(admin)) == 1


@pytest.mark.parametrize("role", [role for role in ROLES if role != "admin"])
async def test_nobody_begins_a_session_of_somebody_else_or_renews_the_proof(
    sessions: SessionService, users: Users, role: str
):
    me, somebody = users(2)
    acting = sessions.acting_as(await actor_of(sessions, role, me))
    for user in (me, somebody):
        with pytest.raises(PermissionDeniedError):
            await acting.create(user)
    made = await sessions.create(me)
    with pytest.raises(PermissionDeniedError):
        await acting.reauthenticated(made.token, method="ethereum")
    await sessions.validate(made.token)


async def test_a_sensitive_action_wants_a_proof_that_is_recent(sessions: SessionService, users: Users):
    view = await sessions.validate((await sessions.create(users(1)[0])).token)
    sessions.require_recent(view)
    old = replace(view, authenticated_at=datetime.now(UTC) - timedelta(seconds=301))
    with pytest.raises(ReauthenticationNeededError):
        sessions.require_recent(old)
    sessions.require_recent(old, max_age_s=600)


# Text and ids


async def test_payloads_in_every_text_field_are_stored_as_they_are_or_refused(
    sessions: SessionService, users: Users, fresh_databases: DatabasePair
):
    [user] = users(1)
    for payload in PAYLOADS:
        made = await sessions.create(user, device=payload)
        shown = made.session.device or ""
        assert shown == "".join(c for c in payload if c.isprintable() or not is_control(c))[:500]
        for call in (
            sessions.create(user, address=payload),
            sessions.create(user, method=payload),
            sessions.reauthenticated(payload, method=payload),
            sessions.create(payload),
            sessions.revoke(payload),
            sessions.revoke_all(payload),
            sessions.revoke_all(user, but=payload or "x"),
            sessions.list(payload),
        ):
            with pytest.raises(ValidationError):
                await call
        try:
            await sessions.revoke(made.session.id, reason=payload)
        except ValidationError:
            continue
        [(reason,)] = sql(
            fresh_databases, "SELECT revoked_reason FROM user_sessions WHERE id = %s", (made.session.id,)
        )
        assert reason == payload
    assert sql(fresh_databases, "SELECT count(*) FROM users WHERE id = %s", (user,)) == [(1,)]


def is_control(character: str) -> bool:
    import unicodedata

    return unicodedata.category(character)[0] == "C"


async def test_oversized_and_malformed_values_are_refused_or_cut(sessions: SessionService, users: Users):
    [user] = users(1)
    assert (await sessions.create(user, device="x" * 1_000_000)).session.device == "x" * 500
    assert (await sessions.create(user, device="\x00\ud800\u202e")).session.device is None
    for wrong in (b"bytes", 5, ["list"]):
        with pytest.raises(ValidationError):
            await sessions.create(user, device=wrong)  # pyright: ignore[reportArgumentType]
    for wrong in ("256.1.1.1", "::g", "192.0.2.1/24", "x" * 100_000, "", 5, b"\x01\x02\x03\x04"):
        with pytest.raises(ValidationError):
            await sessions.create(user, address=wrong)  # pyright: ignore[reportArgumentType]
    assert (await sessions.create(user, address="fe80::1%' OR 1=1 --")).session.address == "fe80::1"
    for wrong in ("password", "", None, ["ethereum"]):
        with pytest.raises(ValidationError):
            await sessions.create(user, method=wrong)  # pyright: ignore[reportArgumentType]
    for wrong in ("x" * 201, "", "rotated", "a\nb", None):
        with pytest.raises(ValidationError):
            await sessions.revoke(uuid7(), reason=wrong)  # pyright: ignore[reportArgumentType]
    with pytest.raises(NotFoundError):
        await sessions.create(uuid7())


async def test_all_of_it_stands_in_the_audit_log_without_secrets(
    sessions: SessionService, users: Users, fresh_databases: DatabasePair
):
    [user] = users(1)
    made = await sessions.create(user, device="Ada's phone", address="192.0.2.7")
    renewed = await sessions.refresh(made.token)
    await sessions.acting_as(await actor_of(sessions, "user", user)).revoke(renewed.session.id)
    entries = sql(
        fresh_databases,
        "SELECT action, actor, detail FROM audit_log WHERE subject LIKE 'session:%' ORDER BY id",
    )
    assert [entry[:2] for entry in entries] == [
        ("user_sessions.created", "program:service"),
        ("user_sessions.created", f"user:{user}"),
        ("user_sessions.updated", f"user:{user}"),
        ("user_sessions.updated", f"user:{user}"),
    ]
    text = json.dumps([entry[2] for entry in entries])
    for secret in (made.token, hash_of(made.token).hex(), "Ada", "192.0.2.7"):
        assert secret not in text


def test_the_alphabet_of_tokens_needs_no_escaping_anywhere():
    assert set(string.ascii_letters + string.digits + "-_") >= set(make_token(TOKEN_START))
