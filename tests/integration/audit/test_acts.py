"""What staff looks at stands in the audit log, with who it was; what people look at of their own does not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest

from novadex.api_keys.service import ApiKeyService
from novadex.audit.service import AuditService
from novadex.cache_upkeep.service import CacheService
from novadex.errors import NotFoundError
from novadex.ids import uuid7
from novadex.roles.actor import SERVICE, Actor
from novadex.roles.roles import Roles
from novadex.sessions.service import SessionService
from novadex.storage.connection import DatabaseConnection
from novadex.trading.service import TradingService
from novadex.users.service import UserService
from tests.conftest import DatabasePair, MarketRow

TRADE: Any = {"market": "BTC/USDT", "side": "buy", "price": "2", "base_amount": "1", "quote_amount": "2"}
NOBODY = uuid7()
WALLET = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
Look = Callable[[DatabaseConnection, Actor, UUID], Awaitable[Any]]


async def drained(rows: Any) -> None:
    async for _ in rows:
        pass


LOOKS: dict[str, Look] = {
    "sessions.listed": lambda db, actor, user: SessionService(db, actor=actor).list(user),
    "api_keys.listed": lambda db, actor, user: ApiKeyService(db, actor=actor).list(user),
    "trades.listed": lambda db, actor, user: TradingService(db, actor=actor).list_trades(user_id=user),
    "users.read": lambda db, actor, user: UserService(db, actor=actor).get_user(user),
}
OF_THE_LOG: dict[str, Look] = {
    "audit.searched": lambda db, actor, _: AuditService(db, actor=actor).search(),
    "audit.exported": lambda db, actor, _: drained(AuditService(db, actor=actor).export()),
    "audit.verified": lambda db, actor, _: AuditService(db, actor=actor).verify(),
}


ON_THE_COMMAND_LINE: dict[str, Look] = {
    **LOOKS,
    **OF_THE_LOG,
    "users.listed": lambda db, actor, _: UserService(db, actor=actor).list_users(),
    "users.sought": lambda db, actor, _: missing(UserService(db, actor=actor).get_user_by_username("nobody")),
}
SOUGHT: dict[str, Look] = {
    "id": lambda db, actor, _: UserService(db, actor=actor).get_user(NOBODY),
    "username": lambda db, actor, _: UserService(db, actor=actor).get_user_by_username("nobody"),
    "wallet": lambda db, actor, _: UserService(db, actor=actor).get_user_by_wallet(WALLET),
    "email": lambda db, actor, _: UserService(db, actor=actor).get_user_by_email("nobody@example.com"),
}


async def missing(look: Awaitable[Any]) -> None:
    with pytest.raises(NotFoundError):
        await look


async def actor_of(db: DatabaseConnection, role: str, user: UUID) -> Actor:
    return Actor(f"user:{user}", user, role, await db.companion(Roles).permissions_of(role))


async def entries(db: DatabaseConnection, action: str) -> list[Any]:
    return await db.query("SELECT actor, subject, detail FROM audit_log WHERE action = $1 ORDER BY id", [action])


@pytest.mark.parametrize("action", LOOKS)
@pytest.mark.parametrize("role", ["auditor", "admin"])
async def test_staff_that_looks_at_somebody_is_written_down(
    db: DatabaseConnection, market: MarketRow, users: Callable[[int], list[UUID]], action: str, role: str
):
    somebody, staff = users(2)
    actor = await actor_of(db, role, staff)
    await LOOKS[action](db, actor, somebody)
    [entry] = await entries(db, action)
    assert (entry.actor, entry.subject) == (f"user:{staff}", f"user:{somebody}")
    await LOOKS[action](db, actor, staff)
    assert len(await entries(db, action)) == 1, "their own"


@pytest.mark.parametrize("action", OF_THE_LOG)
async def test_whoever_looks_at_the_log_is_in_it(db: DatabaseConnection, action: str):
    auditor = await actor_of(db, "auditor", uuid7())
    await OF_THE_LOG[action](db, auditor, uuid7())
    [entry] = await entries(db, action)
    assert (entry.actor, entry.subject) == (auditor.name, "audit_log")


async def test_staff_that_lists_users_or_reads_a_trade_is_written_down(
    db: DatabaseConnection, market: MarketRow, users: Callable[[int], list[UUID]]
):
    somebody, staff = users(2)
    async with TradingService(db) as trading:
        trade = await trading.create_trade(user_id=somebody, **TRADE)
        auditor = await actor_of(db, "auditor", staff)
        await UserService(db, actor=auditor).list_users()
        await trading.acting_as(auditor).get_trade(trade.id)
        trader = await actor_of(db, "trader", somebody)
        await trading.acting_as(trader).get_trade(trade.id)
    assert [(entry.actor, entry.subject) for entry in await entries(db, "users.listed")] == [(auditor.name, "users")]
    assert [(entry.actor, entry.subject) for entry in await entries(db, "trades.read")] == [
        (auditor.name, f"user:{somebody}")
    ]


@pytest.mark.parametrize("by", SOUGHT)
async def test_staff_that_tries_names_which_nobody_has_is_written_down(
    db: DatabaseConnection, users: Callable[[int], list[UUID]], by: str
):
    [staff] = users(1)
    admin = await actor_of(db, "admin", staff)
    await missing(SOUGHT[by](db, admin, staff))
    [entry] = await entries(db, "users.sought")
    assert (entry.actor, entry.detail) == (admin.name, {"by": by}), "what was tried may be personal"
    assert entry.subject == (f"user:{NOBODY}" if by == "id" else "users")


async def test_staff_that_records_trades_of_others_is_written_down(
    db: DatabaseConnection, market: MarketRow, users: Callable[[int], list[UUID]]
):
    somebody, other, staff = users(3)
    admin = await actor_of(db, "admin", staff)
    async with TradingService(db) as trading:
        mine = trading.acting_as(admin)
        trade = await mine.create_trade(user_id=somebody, **TRADE)
        await mine.create_trades([TRADE | {"user_id": each} for each in (somebody, other, staff, other)])
        await mine.create_trade(user_id=staff, **TRADE)
        await trading.create_trade(user_id=somebody, **TRADE)
    one, many = await entries(db, "trades.created_for")
    assert (one.actor, one.subject, one.detail) == (admin.name, f"user:{somebody}", {"trade": str(trade.id)})
    assert (many.actor, many.subject) == (admin.name, "users")
    assert many.detail == {"trades": 4, "users": [str(somebody), str(other)], "more_users": 0}


@pytest.mark.parametrize("action", ON_THE_COMMAND_LINE)
async def test_what_a_person_looks_at_on_the_command_line_is_written_down_with_who_it_was(
    db: DatabaseConnection, market: MarketRow, users: Callable[[int], list[UUID]], action: str
):
    [somebody] = users(1)
    await ON_THE_COMMAND_LINE[action](db, Actor.program("cli", origin="ada@office"), somebody)
    [entry] = await entries(db, action)
    assert (entry.actor, entry.detail["from"]) == ("program:cli", "ada@office")
    await ON_THE_COMMAND_LINE[action](db, SERVICE, somebody)
    assert len(await entries(db, action)) == 1, "a program of the venue acts for itself"


async def test_a_change_says_who_ran_the_command_and_the_next_one_on_the_connection_does_not(
    db: DatabaseConnection,
):
    service = UserService(db)
    await service.acting_as(Actor.program("cli", origin="ada@office")).create_user(username="ada")
    await service.create_user(username="bob")
    first, second = await entries(db, "users.created")
    assert (first.actor, first.detail["from"]) == ("program:cli", "ada@office")
    assert (second.actor, "from" in second.detail) == ("program:service", False)


async def test_who_may_not_look_is_not_written_down_as_if_they_had(
    db: DatabaseConnection, users: Callable[[int], list[UUID]]
):
    somebody, trader = users(2)
    actor = await actor_of(db, "trader", trader)
    for look in (*LOOKS.values(), *SOUGHT.values()):
        with pytest.raises(Exception, match="may not do this"):
            await look(db, actor, somebody)
    assert await db.query("SELECT FROM audit_log WHERE actor = $1", [actor.name]) == []


async def test_emptying_and_filling_the_caches_is_written_down_whoever_does_it(
    fresh_databases: DatabasePair, cache_url: str, sessions_url: str
):
    async with fresh_databases.connection(cache=cache_url, sessions=sessions_url) as db:
        operator = await actor_of(db, "operator", uuid7())
        for actor in (operator, Actor.program("cli")):
            await CacheService(db, actor=actor).flush(sessions=True)
            await CacheService(db, actor=actor).rebuild(users_max=5)
        names = [operator.name, "program:cli"]
        assert [(e.actor, e.detail) for e in await entries(db, "cache.flushed")] == [
            (name, {"servers": ["cache", "sessions"]}) for name in names
        ]
        assert [(e.actor, e.detail) for e in await entries(db, "cache.rebuilt")] == [
            (name, {"sessions_max": 100_000, "users_max": 5}) for name in names
        ]
