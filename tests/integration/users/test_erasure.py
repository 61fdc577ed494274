"""Erasing a user: what is personal is gone from every table and cache, what is a record stays."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import psycopg
import pytest
import redis
from psycopg.sql import SQL, Identifier

from novadex.api_keys.service import ApiKeyService
from novadex.cache.cache import Caches
from novadex.errors import (
    AccessError,
    ConfigurationError,
    ConflictError,
    NotAuthenticatedError,
    NotFoundError,
    PermissionDeniedError,
)
from novadex.ids import uuid7
from novadex.keys.erasure_list import FILE_NAME as LIST_NAME
from novadex.keys.keyring import Keyring
from novadex.keys.master_key_file import FILE_NAME
from novadex.notifications.service import NotificationService
from novadex.roles.actor import Actor
from novadex.sessions.service import SessionService
from novadex.storage.connection import DatabaseConnection
from novadex.trading.service import TradingService
from novadex.users.records import User
from novadex.users.service import UserService
from tests.conftest import DatabasePair, MarketRow
from tests.integration.keys.people import ERASED, left_of
from tests.integration.users.people import EVM, SOLANA, actor_of, as_role, outcome
from tests.proxy import Proxy
from tests.waiting import until

EMAIL = "ada.lovelace@example.com"
PERSON: dict[str, Any] = {
    "wallet_address": EVM[0],
    "email": EMAIL,
    "username": "ada-lovelace",
    "role": "trader",
    "preferences": {"theme": "secret colour"},
    "personal": {"full_name": "Ada Augusta King-Noel"},
}


async def look_up(service: UserService) -> list[Any]:
    return [
        await outcome(call)
        for call in (
            service.get_user_by_username("ada-lovelace"),
            service.get_user_by_email(EMAIL),
            service.get_user_by_wallet(EVM[0]),
            service.get_user_by_wallet(SOLANA),
        )
    ]


async def nobody_is_found(service: UserService) -> bool:
    return all(isinstance(answer, NotFoundError) for answer in await look_up(service))


def everything_in(*urls: str) -> bytes:
    content = b""
    for url in urls:
        with redis.Redis.from_url(url) as client:
            for key in client.scan_iter():
                content += key + b"\n" + (client.get(key) or b"") + b"\n"  # type: ignore[operator]
    return content


async def test_nothing_personal_is_left_and_records_stay(  # noqa: PLR0917 - fixtures
    service: UserService,
    elsewhere: UserService,
    here: DatabaseConnection,
    fresh_databases: DatabasePair,
    market: MarketRow,
    cache_url: str,
    sessions_url: str,
):
    user = await service.create_user(PERSON)
    await service.add_wallet(user.id, SOLANA)
    bystander = await service.create_user(username="bystander", email="by@example.com", wallet_address=EVM[3])
    token = (await service.create_session(user.id, device="secret browser", address="203.0.113.7")).token
    key = await ApiKeyService(here).create(
        user.id, name="secret bot", permissions=["trades.read_own"], allowed_addresses=["203.0.113.8/32"]
    )
    async with TradingService(here) as trading:
        trade = await trading.create_trade(
            user_id=user.id, market="BTC/USDT", side="buy", base_amount="1", quote_amount="2", price="2"
        )
    notifications = NotificationService(here)
    await notifications.set_webhook(user.id, "https://secret.example/hook")
    await notifications.set_preference(user.id, "order_filled", "email", True)
    await notifications.alerts.create(user.id, market="BTC/USDT", direction="above", price="123456")
    await notifications.notices.send_to(user.id, "secret title", "secret text")
    assert await notifications.unread_count(user.id) == 1
    found = await service.get_user(user.id)
    for process in (service, elsewhere):
        assert await look_up(process) == [found] * 4
    await SessionService(here).validate(token)
    await ApiKeyService(here).validate(key.key, address="203.0.113.8")
    index = here.companion(Keyring).email_index(EMAIL)
    with psycopg.connect(fresh_databases.main_url(None)) as connection:
        row = connection.execute(
            "SELECT u.email_ciphertext, u.personal_ciphertext, k.wrapped_key FROM users u"
            " JOIN user_keys k ON k.user_id = u.id WHERE u.id = %s",
            (user.id,),
        ).fetchone()
    assert row is not None
    personal = [
        *row,
        index,
        index.hex().encode(),
        b"ada-lovelace",
        b"secret",
        EVM[0].encode(),
        SOLANA.encode(),
        b"203.0.113.7",
        b"203.0.113.8",
    ]
    cached = everything_in(cache_url, sessions_url)
    assert sum(needle in cached for needle in personal) >= 6, "or this test could not fail"

    await service.erase_user(user.id)

    assert left_of(fresh_databases, user.id) == ERASED
    cached = everything_in(cache_url, sessions_url)
    assert [needle for needle in personal if needle in cached] == []
    for process in (service, elsewhere):
        await until(lambda process=process: nobody_is_found(process))
        erased = await process.get_user(user.id)
        assert erased.status == "erased"
        assert (erased.username, erased.email, erased.personal) == (None, None, None)
        assert (erased.preferences, erased.wallets) == ({}, ())
        assert (erased.kind, erased.role, erased.created_at) == (user.kind, user.role, user.created_at)
    for shown in (SessionService(here).validate(token), ApiKeyService(here).validate(key.key)):
        with pytest.raises(NotAuthenticatedError):
            await shown
    async with TradingService(here) as trading:
        assert (await trading.list_trades(user_id=user.id)).items == [trade]
    with psycopg.connect(fresh_databases.main_url(None)) as connection:
        counts = connection.execute(
            "SELECT (SELECT count(*) FROM user_sessions WHERE user_id = %(id)s),"
            " (SELECT count(*) FROM api_keys WHERE user_id = %(id)s),"
            " (SELECT count(*) > 0 FROM audit_log WHERE subject = 'user:' || %(id)s::text),"
            " (SELECT count(*) FROM audit_log WHERE detail::text ~* 'lovelace|secret|203.0.113|5aaeb6|augusta')",
            {"id": user.id},
        ).fetchone()
    assert counts == (1, 1, True, 0)
    assert await service.get_user(bystander.id) == bystander


async def test_an_erased_user_stays_erased(service: UserService):
    user = await service.create_user(PERSON)
    await service.erase_user(user.id)
    version = (await service.get_user(user.id)).version
    with pytest.raises(ConflictError, match="for good"):
        await service.reactivate_user(user.id)
    with pytest.raises(ConflictError, match="for good"):
        await service.deactivate_user(user.id)
    for call in (
        service.update_user(user.id, username="ada"),
        service.update_user(user.id, email=EMAIL),
        service.add_wallet(user.id, EVM[0]),
        service.create_session(user.id),
    ):
        with pytest.raises(AccessError, match="erased"):
            await call
    await service.erase_user(user.id)
    assert (await service.get_user(user.id)).version == version


async def test_name_address_and_wallets_are_free_again(service: UserService, elsewhere: UserService):
    user = await service.create_user(PERSON)
    await service.add_wallet(user.id, SOLANA)
    await elsewhere.get_user_by_wallet(EVM[0])
    await service.erase_user(user.id)
    another = await elsewhere.create_user(PERSON)
    another = await elsewhere.add_wallet(another.id, SOLANA)
    assert another.id != user.id
    for process in (service, elsewhere):
        await until(lambda process=process: _all_find(process, another))
    with pytest.raises(ConflictError):
        await service.create_user({**PERSON, "id": user.id})


async def _all_find(service: UserService, user: User) -> bool:
    return await look_up(service) == [user] * 4


async def test_who_was_deactivated_is_erased_too(service: UserService, fresh_databases: DatabasePair):
    user = await service.create_user(PERSON)
    await service.deactivate_user(user.id)
    await service.erase_user(user.id)
    assert left_of(fresh_databases, user.id) == ERASED


@pytest.mark.parametrize("damage", ["email_ciphertext", "personal_ciphertext"])
async def test_damaged_personal_data_can_be_erased(
    service: UserService, fresh_databases: DatabasePair, cache_url: str, damage: str
):
    user = await service.create_user(PERSON)
    with psycopg.connect(fresh_databases.main_url(None), autocommit=True) as connection:
        connection.execute(
            SQL("UPDATE users SET {} = '\\x0102' WHERE id = %s").format(Identifier(damage)), (user.id,)
        )
    await service.erase_user(user.id)
    assert left_of(fresh_databases, user.id) == ERASED
    assert await nobody_is_found(service)
    assert (await service.get_user(user.id)).status == "erased"


async def test_without_the_master_keys_users_can_be_erased(
    service: UserService, fresh_databases: DatabasePair, cache_url: str, sessions_url: str
):
    user = await service.create_user(PERSON)
    (fresh_databases.data_dir / FILE_NAME).unlink()
    endpoints = fresh_databases.endpoints(cache=cache_url, sessions=sessions_url)
    (fresh_databases.data_dir / FILE_NAME).unlink()  # the fixture made one again
    async with DatabaseConnection(endpoints, service._db.settings) as db:
        lost = UserService(db)
        with pytest.raises(ConfigurationError, match="master keys"):
            await lost.get_user(user.id)
        await lost.erase_user(user.id)
        assert (await lost.get_user(user.id)).status == "erased"
        assert isinstance(await outcome(lost.get_user_by_wallet(EVM[0])), NotFoundError)
        plain = await lost.create_user(username="no-secrets", wallet_address=EVM[0])
        assert await lost.get_user(plain.id) == plain
    assert left_of(fresh_databases, user.id) == ERASED


async def test_without_a_lease_nothing_personal_stays_in_the_cache_server(
    elsewhere: UserService,
    fresh_databases: DatabasePair,
    cache_url: str,
    sessions_url: str,
    proxy: Callable[[str], Awaitable[Proxy]],
):
    user = await elsewhere.create_user(PERSON)
    with psycopg.connect(fresh_databases.main_url(None)) as connection:
        row = connection.execute("SELECT email_ciphertext FROM users WHERE id = %s", (user.id,)).fetchone()
    assert row is not None
    link = await proxy(fresh_databases.main_url("app"))
    endpoints = fresh_databases.endpoints(cache=cache_url, sessions=sessions_url)
    async with DatabaseConnection(replace(endpoints, listen=link.url), elsewhere._db.settings) as db:
        service = UserService(db)
        await until(lambda: _is_cached(service, user, row[0], cache_url))
        await link.refuse()
        link.cut()
        await until(lambda: not db.companion(Caches).feed.trusted_until)
        await service.erase_user(user.id)
        assert row[0] not in everything_in(cache_url)


async def _is_cached(service: UserService, user: User, needle: bytes, url: str) -> bool:
    await service.get_user(user.id)
    return needle in everything_in(url)


async def test_users_erase_themselves_and_nobody_else(
    service: UserService, here: DatabaseConnection, fresh_databases: DatabasePair
):
    user = await service.create_user(PERSON)
    other = await service.create_user(username="other")
    mine = service.acting_as(await actor_of(here, user.id, "trader"))
    for who in (other.id, uuid7()):
        with pytest.raises(PermissionDeniedError):
            await mine.erase_user(who)
    _, support = await as_role(service, here, "support")
    with pytest.raises(PermissionDeniedError):
        await support.erase_user(user.id)
    await mine.erase_user(user.id)
    assert left_of(fresh_databases, user.id) == ERASED
    assert await service.get_user(other.id) == other


async def test_what_is_written_at_the_same_moment_does_not_outlive_the_erasure(
    service: UserService, elsewhere: UserService, fresh_databases: DatabasePair
):
    for number in range(10):
        user = await service.create_user(PERSON)
        answers = await asyncio.gather(
            *(
                outcome(call)
                for call in (
                    elsewhere.update_user(user.id, email="new@example.com", personal={"a": "b"}),
                    elsewhere.add_wallet(user.id, SOLANA, primary=True),
                    elsewhere.create_session(user.id, device="browser"),
                    service.get_user_by_email(EMAIL),
                    elsewhere.get_user(user.id),
                    service.erase_user(user.id),
                    elsewhere.set_primary_wallet(user.id, EVM[0]),
                    elsewhere.deactivate_user(user.id),
                    service.update_user(user.id, preferences={"a": number}),
                )
            )
        )
        assert answers[5] is None
        assert left_of(fresh_databases, user.id) == ERASED
        for process in (service, elsewhere):
            await until(lambda process=process: nobody_is_found(process))
            assert (await process.get_user(user.id)).status == "erased"


async def test_whoever_becomes_an_administrator_meanwhile_is_not_erased_by_others(
    service: UserService, fresh_databases: DatabasePair
):
    user = await service.create_user(PERSON)
    janitor = Actor(f"user:{uuid7()}", uuid7(), "operator", frozenset({"users.erase_any"}))
    with psycopg.connect(fresh_databases.main_url("app")) as connection:
        connection.execute("UPDATE users SET role = 'admin' WHERE id = %s", (user.id,))
        erasing = asyncio.create_task(outcome(service.acting_as(janitor).erase_user(user.id)))
        await until(lambda: _somebody_waits(fresh_databases))
    assert isinstance(await erasing, PermissionDeniedError)
    await until(lambda: _is_admin(service, user))
    assert (await service.get_user(user.id)).email == EMAIL
    assert not (fresh_databases.data_dir / LIST_NAME).exists()


def _somebody_waits(databases: DatabasePair) -> bool:
    with psycopg.connect(databases.main_url(None)) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ).fetchone()
    return row != (0,)


async def _is_admin(service: UserService, user: User) -> bool:
    return (await service.get_user(user.id)).role == "admin"
