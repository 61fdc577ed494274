"""Signing in with a wallet on real servers: nonces, sessions, new users, linked wallets, and what must not work."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from novadex.errors import (
    AccessError,
    ConflictError,
    NotAuthenticatedError,
    NovaDexError,
    OverloadedError,
    PermissionDeniedError,
    ReauthenticationNeededError,
    SessionEndedError,
    SignInOffError,
)
from novadex.metrics import REGISTRY
from novadex.sessions.service import SessionService
from novadex.sign_in.message import CHAINS, Chain
from novadex.sign_in.nonces import COUNT_INTERVAL_S
from novadex.sign_in.parsing import parse_message
from novadex.sign_in.service import LINK, SignedIn, SignInService
from novadex.storage.connection import DatabaseConnection
from novadex.users.service import UserService
from tests.conftest import DatabasePair
from tests.unit.sign_in.negatives import DOMAIN
from tests.unit.sign_in.wallets import Wallet, wallet
from tests.waiting import until


@pytest.fixture
async def service(fresh_databases: DatabasePair):
    async with fresh_databases.connection(sign_in_domain=DOMAIN) as db:
        yield SignInService(db)


async def sign_in(service: SignInService, holder: Wallet) -> SignedIn:
    challenge = await service.message(holder.chain, holder.address)
    return await service.sign_in(challenge.message, holder.sign(challenge.message), device="Browser on Linux")


def rows(databases: DatabasePair, statement: Any) -> list[Any]:
    with psycopg.connect(databases.main_url(None)) as connection:
        return connection.execute(statement).fetchall()


def db_of(service: SignInService) -> DatabaseConnection:
    return service._db


@pytest.mark.parametrize("chain", CHAINS)
async def test_a_new_wallet_becomes_a_user_with_a_session(
    service: SignInService, fresh_databases: DatabasePair, chain: Chain
):
    signed_in = await sign_in(service, wallet(chain))
    assert signed_in.user_is_new
    assert signed_in.user.wallet_address == wallet(chain).address
    assert signed_in.user.role == "user"
    view = await SessionService(db_of(service)).validate(signed_in.session.token)
    assert view.user_id == signed_in.user.id
    assert view.method == ("ethereum" if chain == "evm" else "solana")
    assert signed_in.session.session.device == "Browser on Linux"
    actors = rows(fresh_databases, "SELECT DISTINCT actor FROM audit_log WHERE subject LIKE 'user:%'")
    assert actors == [("program:sign_in",)]


async def test_the_same_wallet_is_the_same_user_and_every_sign_in_a_new_session(service: SignInService):
    first, second = [await sign_in(service, wallet("evm")) for _ in range(2)]
    assert second.user.id == first.user.id
    assert not second.user_is_new
    assert second.session.token != first.session.token
    assert second.session.session.family_id != first.session.session.family_id


@pytest.mark.parametrize("chain", CHAINS)
async def test_a_message_signs_in_once(service: SignInService, chain: Chain):
    holder = wallet(chain)
    challenge = await service.message(chain, holder.address)
    signature = holder.sign(challenge.message)
    await service.sign_in(challenge.message, signature)
    with pytest.raises(NotAuthenticatedError, match="nonce"):
        await service.sign_in(challenge.message, signature)


async def test_of_many_replays_at_once_one_signs_in(service: SignInService):
    holder = wallet("evm")
    challenge = await service.message("evm", holder.address)
    signature = holder.sign(challenge.message)
    answers = await asyncio.gather(
        *(service.sign_in(challenge.message, signature) for _ in range(20)), return_exceptions=True
    )
    assert sum(isinstance(answer, SignedIn) for answer in answers) == 1
    assert sum(isinstance(answer, NotAuthenticatedError) for answer in answers) == 19


async def test_many_sign_ins_of_a_new_wallet_at_once_make_one_user(service: SignInService):
    answers = await asyncio.gather(*(sign_in(service, wallet("solana")) for _ in range(8)))
    assert len({answer.user.id for answer in answers}) == 1
    assert sum(answer.user_is_new for answer in answers) == 1


async def test_a_nonce_that_the_server_did_not_make_is_refused(service: SignInService):
    holder = wallet("evm")
    challenge = await service.message("evm", holder.address)
    other = replace(parse_message(challenge.message), nonce="f" * 32).render()
    with pytest.raises(NotAuthenticatedError, match="nonce"):
        await service.sign_in(other, holder.sign(other))


async def test_a_nonce_that_ended_is_refused_and_used_up(service: SignInService, fresh_databases: DatabasePair):
    holder = wallet("evm")
    challenge = await service.message("evm", holder.address)
    with psycopg.connect(fresh_databases.main_url(None)) as connection:
        connection.execute(
            "UPDATE sign_in_nonces SET created_at = now() - interval '5 minutes', expires_at = now() - interval '1 s'"
        )
    with pytest.raises(NotAuthenticatedError, match="nonce"):
        await service.sign_in(challenge.message, holder.sign(challenge.message))


async def test_a_wrong_signature_does_not_use_the_nonce_up(service: SignInService):
    """Else whoever sees a message could keep its wallet out."""
    alice, bob = wallet("evm", "alice"), wallet("evm", "bob")
    challenge = await service.message("evm", alice.address)
    with pytest.raises(NotAuthenticatedError):
        await service.sign_in(challenge.message, bob.sign(challenge.message))
    assert (await service.sign_in(challenge.message, alice.sign(challenge.message))).user_is_new


async def test_nonces_have_128_random_bits_and_only_their_hash_is_stored(
    service: SignInService, fresh_databases: DatabasePair
):
    nonces = {(await service.new_nonce()).nonce for _ in range(50)}
    assert len(nonces) == 50
    assert all(re.fullmatch("[0-9a-f]{32}", nonce) for nonce in nonces)
    stored = str(rows(fresh_databases, "SELECT nonce_hash, created_at, expires_at FROM sign_in_nonces"))
    assert not any(nonce in stored for nonce in nonces)
    [(longest,)] = rows(fresh_databases, "SELECT max(expires_at - created_at) FROM sign_in_nonces")
    assert longest <= timedelta(minutes=5)


async def test_nonces_are_limited_in_number_and_those_that_ended_make_room(fresh_databases: DatabasePair):
    async with fresh_databases.connection(sign_in_domain=DOMAIN, sign_in_nonces_max=3) as db:
        service = SignInService(db)
        for _ in range(3):
            await service.new_nonce()
        with pytest.raises(OverloadedError):
            await service.new_nonce()
        with psycopg.connect(fresh_databases.main_url(None)) as connection:
            connection.execute(
                "UPDATE sign_in_nonces SET created_at = now() - interval '5 min', expires_at = now() - interval '1 s'"
            )

        async def there_is_room() -> bool:
            try:
                await service.new_nonce()
            except OverloadedError:
                return False
            return True

        await until(there_is_room)  # it is counted once a second


async def test_waiting_nonces_are_not_counted_for_every_new_one(service: SignInService):
    def counts() -> float:
        labels = {"database": "main", "query": "count_waiting"}
        return REGISTRY.get_sample_value("novadex_query_seconds_count", labels) or 0

    before, began = counts(), time.monotonic()
    for _ in range(200):
        await service.new_nonce()
    assert 1 <= counts() - before <= 1 + (time.monotonic() - began) / COUNT_INTERVAL_S


async def test_where_new_users_are_not_made_an_unknown_wallet_is_refused(fresh_databases: DatabasePair):
    async with fresh_databases.connection(sign_in_domain=DOMAIN, sign_in_create_users=False) as db:
        service = SignInService(db)
        with pytest.raises(PermissionDeniedError, match="Nobody has this wallet"):
            await sign_in(service, wallet("evm"))
        await UserService(db).create_user(wallet_address=wallet("evm").address)
        assert not (await sign_in(service, wallet("evm"))).user_is_new


async def test_without_a_domain_nobody_can_sign_in(db: DatabaseConnection):
    service = SignInService(db)
    for call in (service.new_nonce(), service.message("evm", wallet("evm").address), service.sign_in("x", "y")):
        with pytest.raises(NovaDexError):
            await call
    with pytest.raises(SignInOffError, match="no domain"):
        await service.new_nonce()


async def test_who_is_deactivated_gets_no_session(service: SignInService):
    signed_in = await sign_in(service, wallet("evm"))
    await UserService(db_of(service)).deactivate_user(signed_in.user.id)
    with pytest.raises(AccessError, match="deactivated"):
        await sign_in(service, wallet("evm"))


async def test_an_erased_wallet_can_begin_anew_as_another_user(service: SignInService):
    before = await sign_in(service, wallet("evm"))
    await UserService(db_of(service)).erase_user(before.user.id)
    after = await sign_in(service, wallet("evm"))
    assert after.user_is_new
    assert after.user.id != before.user.id


async def test_a_wallet_that_is_removed_meanwhile_gives_no_session_and_no_new_proof(
    service: SignInService, fresh_databases: DatabasePair
):
    """A sign-in asks the caches whose it is; what they have not heard of is found when the session is made."""
    holder = wallet("evm")
    signed_in = await sign_in(service, holder)
    await link(service, signed_in.session.token, wallet("solana"), signed_in.user.id)
    challenges = [await service.message("evm", holder.address) for _ in range(2)]
    users = UserService(db_of(service))
    await users.get_user_by_wallet(holder.address)
    with psycopg.connect(fresh_databases.main_url(None)) as connection:
        connection.execute("SET session_replication_role = replica")  # nobody hears of it
        connection.execute("DELETE FROM wallets WHERE chain = 'evm'")
    assert (await users.get_user_by_wallet(holder.address)).id == signed_in.user.id, "the caches believe it"
    sign = holder.sign
    with pytest.raises(PermissionDeniedError, match="any more"):
        await service.sign_in(challenges[0].message, sign(challenges[0].message))
    with pytest.raises(PermissionDeniedError, match="any more"):
        await service.reauthenticate(signed_in.session.token, challenges[1].message, sign(challenges[1].message))
    sessions = SessionService(db_of(service))
    assert [one.id for one in await sessions.list(signed_in.user.id)] == [signed_in.session.session.id]
    await sessions.validate(signed_in.session.token)  # what began before goes on


# Re-authentication and further wallets


async def test_signing_again_renews_the_proof_and_ends_the_old_token(service: SignInService):
    holder = wallet("evm")
    signed_in = await sign_in(service, holder)
    sessions = SessionService(db_of(service))
    old = await sessions.validate(signed_in.session.token)
    challenge = await service.message("evm", holder.address)
    renewed = await service.reauthenticate(signed_in.session.token, challenge.message, holder.sign(challenge.message))
    view = await sessions.validate(renewed.token)
    assert view.authenticated_at > old.authenticated_at
    assert (view.user_id, view.family_id, view.expires_at) == (old.user_id, old.family_id, old.expires_at)
    with pytest.raises(SessionEndedError):
        await sessions.validate(signed_in.session.token)


async def test_somebody_elses_wallet_does_not_renew_a_session(service: SignInService):
    alice, bob = wallet("evm", "alice"), wallet("evm", "bob")
    signed_in = await sign_in(service, alice)
    await sign_in(service, bob)
    challenge = await service.message("evm", bob.address)
    with pytest.raises(PermissionDeniedError):
        await service.reauthenticate(signed_in.session.token, challenge.message, bob.sign(challenge.message))


async def link(service: SignInService, token: str, holder: Wallet, to: UUID, **options: Any) -> Any:
    view = await SessionService(db_of(service)).validate(token)
    challenge = await service.message(holder.chain, holder.address, link_to=to)
    return await service.link_wallet(view, challenge.message, holder.sign(challenge.message), **options)


async def test_a_user_adds_a_wallet_by_its_signature_and_signs_in_with_either(
    service: SignInService, fresh_databases: DatabasePair
):
    signed_in = await sign_in(service, wallet("evm"))
    user = await link(service, signed_in.session.token, wallet("solana"), signed_in.user.id, primary=True)
    assert [(w.chain, w.is_primary) for w in user.wallets] == [("solana", True), ("evm", False)]
    for chain in CHAINS:
        assert (await sign_in(service, wallet(chain))).user.id == signed_in.user.id
    actors = rows(fresh_databases, "SELECT actor FROM audit_log WHERE action = 'wallets.created' ORDER BY id")
    assert actors == [("program:sign_in",), (f"user:{signed_in.user.id}",)]


async def test_a_wallet_of_somebody_else_cannot_be_added(service: SignInService):
    alice, bob = wallet("evm", "alice"), wallet("evm", "bob")
    signed_in = await sign_in(service, alice)
    await sign_in(service, bob)
    with pytest.raises(ConflictError) as refusal:
        await link(service, signed_in.session.token, bob, signed_in.user.id)
    assert refusal.value.details["field"] == "wallet_address"


async def test_a_signature_for_signing_in_does_not_add_a_wallet_and_the_other_way_round(service: SignInService):
    alice, bob = wallet("evm", "alice"), wallet("evm", "bob")
    signed_in = await sign_in(service, alice)
    view = await SessionService(db_of(service)).validate(signed_in.session.token)
    for_sign_in = await service.message("evm", bob.address)
    with pytest.raises(PermissionDeniedError, match="something else"):
        await service.link_wallet(view, for_sign_in.message, bob.sign(for_sign_in.message))
    for_another = await service.message("evm", bob.address, link_to=UUID(int=7))
    with pytest.raises(PermissionDeniedError, match="something else"):
        await service.link_wallet(view, for_another.message, bob.sign(for_another.message))
    for_linking = await service.message("evm", bob.address, link_to=view.user_id)
    assert f"Request ID: {LINK}{view.user_id}" in for_linking.message
    with pytest.raises(PermissionDeniedError, match="something else"):
        await service.sign_in(for_linking.message, bob.sign(for_linking.message))
    with pytest.raises(PermissionDeniedError, match="something else"):
        await service.reauthenticate(signed_in.session.token, for_linking.message, bob.sign(for_linking.message))
    user = await service.link_wallet(view, for_linking.message, bob.sign(for_linking.message))
    assert len(user.wallets) == 2


async def test_adding_a_wallet_wants_a_sign_in_a_short_while_ago(
    service: SignInService, fresh_databases: DatabasePair
):
    signed_in = await sign_in(service, wallet("evm"))
    view = await SessionService(db_of(service)).validate(signed_in.session.token)
    long_ago = replace(view, authenticated_at=datetime.now(UTC) - timedelta(hours=1))
    challenge = await service.message("solana", wallet("solana").address, link_to=view.user_id)
    with pytest.raises(ReauthenticationNeededError):
        await service.link_wallet(long_ago, challenge.message, wallet("solana").sign(challenge.message))


async def test_secrets_are_not_in_what_is_printed(service: SignInService):
    challenge = await service.message("evm", wallet("evm").address)
    signed_in = await service.sign_in(challenge.message, wallet("evm").sign(challenge.message))
    printed = repr((challenge, signed_in, await service.new_nonce()))
    assert challenge.nonce not in printed
    assert signed_in.session.token not in printed
