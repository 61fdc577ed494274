"""Every role against every public method of every service: let in or refused, exactly as expected."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

import pytest

import novadex
from novadex.api_keys.service import ApiKeyService
from novadex.audit.service import AuditService
from novadex.cache_upkeep.service import CacheService
from novadex.errors import NotFoundError, NovaDexError, PermissionDeniedError
from novadex.ids import uuid7
from novadex.keys.service import KeyService
from novadex.liquidity.pools import Pools
from novadex.liquidity.service import LiquidityService
from novadex.notifications.service import NotificationService
from novadex.portfolio.service import PortfolioService
from novadex.portfolio.transfers import TransferService
from novadex.roles.actor import Actor
from novadex.roles.roles import Roles
from novadex.sessions.service import SessionService
from novadex.storage.connection import DatabaseConnection
from novadex.trading.markets import Markets
from novadex.trading.service import TradingService
from novadex.users.service import UserService
from tests.conftest import MarketRow
from tests.integration.roles.test_roles import ROLES, expected_of

SERVICES: dict[str, Callable[[DatabaseConnection], Any]] = {
    "UserService": UserService,
    "SessionService": SessionService,
    "ApiKeyService": ApiKeyService,
    "TradingService": TradingService,
    "Markets": Markets,
    "KeyService": KeyService,
    "AuditService": AuditService,
    "CacheService": CacheService,
    "NotificationService": NotificationService,
    "LiquidityService": LiquidityService,
    "Pools": Pools,
    "PortfolioService": PortfolioService,
    "TransferService": TransferService,
}
LONG_AGO = datetime(2024, 8, 8, tzinfo=UTC)
AMOUNTS: dict[str, Any] = {"base_amount": 1, "quote_amount": 1}
DEPOSIT = {"kind": "deposit", "asset": "USDT", "amount": "1"}
WALLET = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
ORDER = {"market": "BTC/USDT", "side": "buy", "type": "limit", "quantity": "1", "price": "2"}
FILL = {"market": "BTC/USDT", "base_amount": "1", "price": "2", "taker_order_id": uuid7()}
TRADE = {"market": "BTC/USDT", "side": "buy", "base_amount": "1", "quote_amount": "2", "price": "2"}


@dataclass(frozen=True)
class Method:
    """How it is called on somebody's behalf, and what lets an actor in."""

    call: Callable[[Any, UUID], Any]
    any_: tuple[str, ...]
    """All of these let in to records of anybody; none: nothing does."""
    own: str | None = None
    """This lets in to one's own."""
    never_own: bool = False
    """To one's own nothing does."""


def of(call: Callable[[Any, UUID], Any], *any_: str, own: str | None = None) -> Method:
    return Method(call, any_, own)


async def first_of(rows: Any) -> None:
    async for _ in rows:
        break


METHODS = {
    "UserService.create_user": of(lambda s, _: s.create_user(), "users.create"),
    "UserService.create_session": of(lambda s, who: s.create_session(who), "sessions.create_any"),
    "UserService.get_user": of(lambda s, who: s.get_user(who), "users.read_any", own="users.read_own"),
    "UserService.get_user_by_wallet": of(lambda s, _: s.get_user_by_wallet(WALLET), "users.read_any"),
    "UserService.get_user_by_username": of(lambda s, _: s.get_user_by_username("nobody"), "users.read_any"),
    "UserService.get_user_by_email": of(
        lambda s, _: s.get_user_by_email("nobody@example.com"), "users.read_any", "users.read_personal"
    ),
    "UserService.list_users": of(lambda s, _: s.list_users(), "users.read_any"),
    "UserService.update_user": of(
        lambda s, who: s.update_user(who, username="another"), "users.update_any", own="users.update_own"
    ),
    "UserService.change_role": Method(
        lambda s, who: s.change_role(who, "trader"), ("users.change_role",), never_own=True
    ),
    "UserService.deactivate_user": of(
        lambda s, who: s.deactivate_user(who), "users.deactivate_any", own="users.deactivate_own"
    ),
    "UserService.reactivate_user": of(lambda s, who: s.reactivate_user(who), "users.deactivate_any"),
    "UserService.erase_user": of(lambda s, who: s.erase_user(who), "users.erase_any", own="users.erase_own"),
    "UserService.add_wallet": of(lambda s, who: s.add_wallet(who, WALLET), "wallets.manage_any"),
    "UserService.remove_wallet": of(
        lambda s, who: s.remove_wallet(who, WALLET), "wallets.manage_any", own="wallets.manage_own"
    ),
    "UserService.set_primary_wallet": of(
        lambda s, who: s.set_primary_wallet(who, WALLET), "wallets.manage_any", own="wallets.manage_own"
    ),
    "SessionService.create": of(lambda s, who: s.create(who), "sessions.create_any"),
    "SessionService.reauthenticated": of(
        lambda s, _: s.reauthenticated("nds_" + "A" * 43, method="ethereum"), "sessions.create_any"
    ),
    "SessionService.list": of(lambda s, who: s.list(who), "sessions.read_any", own="sessions.read_own"),
    "SessionService.revoke_all": of(
        lambda s, who: s.revoke_all(who), "sessions.revoke_any", own="sessions.revoke_own"
    ),
    "SessionService.revoke_everybody": of(lambda s, _: s.revoke_everybody(), "sessions.revoke_any"),
    "ApiKeyService.create": of(
        lambda s, who: s.create(who, name="bot", permissions=["trades.read_own"]), own="api_keys.manage_own"
    ),
    "ApiKeyService.list": of(lambda s, who: s.list(who), "api_keys.read_any", own="api_keys.read_own"),
    "TradingService.create_trade": of(
        lambda s, who: s.create_trade(user_id=who, **TRADE), "trades.create_any", own="trades.create_own"
    ),
    "TradingService.create_trades": of(
        lambda s, who: s.create_trades([{"user_id": who, **TRADE}]), "trades.create_any", own="trades.create_own"
    ),
    "TradingService.list_trades": of(
        lambda s, who: s.list_trades(user_id=who), "trades.read_any", own="trades.read_own"
    ),
    "TradingService.place_order": of(
        lambda s, who: s.place_order(user_id=who, **ORDER), "orders.place_any", own="orders.place_own"
    ),
    "TradingService.place_orders": of(
        lambda s, who: s.place_orders([{"user_id": who, **ORDER}]), "orders.place_any", own="orders.place_own"
    ),
    "TradingService.cancel_all_orders": of(
        lambda s, who: s.cancel_all_orders(user_id=who), "orders.cancel_any", own="orders.place_own"
    ),
    "TradingService.list_orders": of(
        lambda s, who: s.list_orders(user_id=who), "orders.read_any", own="orders.read_own"
    ),
    "TradingService.reject_order": of(lambda s, _: s.reject_order(uuid7(), reason="no"), "orders.report"),
    "TradingService.trigger_order": of(lambda s, _: s.trigger_order(uuid7()), "orders.report"),
    "TradingService.trigger_stops": of(lambda s, _: s.trigger_stops(), "orders.report"),
    "TradingService.set_mark_price": of(lambda s, _: s.set_mark_price("BTC/USDT", "1"), "orders.report"),
    "TradingService.expire_order": of(lambda s, _: s.expire_order(uuid7(), reason="late"), "orders.report"),
    "TradingService.expire_orders": of(lambda s, _: s.expire_orders(), "orders.report"),
    "TradingService.record_fill": of(lambda s, _: s.record_fill(**FILL), "orders.report"),
    "TradingService.record_fills": of(lambda s, _: s.record_fills([FILL]), "orders.report"),
    "TradingService.bust_trade": of(lambda s, _: s.bust_trade(uuid7(), reason="no"), "orders.report"),
    "TradingService.revert_block": of(lambda s, _: s.revert_block("evm:1", 5, reason="fork"), "orders.report"),
    "TradingService.get_match": of(lambda s, _: s.get_match(uuid7()), "orders.read_any"),
    "Markets.set_status": of(lambda s, _: s.set_status("BTC/USDT", "active"), "markets.halt"),
    "Markets.set_venue_status": of(lambda s, _: s.set_venue_status("active"), "markets.halt"),
    "Markets.set_sizes": of(lambda s, _: s.set_sizes("BTC/USDT", None, None), "markets.manage"),
    "Markets.set_fees": of(lambda s, _: s.set_fees("BTC/USDT", 0, 0, 0), "fees.manage"),
    "Markets.set_fee_tier": of(lambda s, who: s.set_fee_tier(who, 1), "fees.manage"),
    "Pools.add": of(lambda s, _: s.add("0x", market="BTC/USDT", kind="constant_product", fee=0), "pools.manage"),
    "LiquidityService.open": of(lambda s, who: s.open(who, pool="0x", liquidity=1, **AMOUNTS), "liquidity.report"),
    "LiquidityService.increase": of(lambda s, _: s.increase(uuid7(), liquidity=1, **AMOUNTS), "liquidity.report"),
    "LiquidityService.decrease": of(lambda s, _: s.decrease(uuid7(), liquidity=1, **AMOUNTS), "liquidity.report"),
    "LiquidityService.collect": of(lambda s, _: s.collect(uuid7(), base_fees=1), "liquidity.report"),
    "LiquidityService.close_position": of(lambda s, _: s.close_position(uuid7(), **AMOUNTS), "liquidity.report"),
    "LiquidityService.record_snapshot": of(
        lambda s, _: s.record_snapshot("0x", liquidity=1, base_reserve=1, quote_reserve=1), "pools.manage"
    ),
    "LiquidityService.list": of(lambda s, who: s.list(who), "liquidity.read_any", own="liquidity.read_own"),
    "TransferService.record": of(lambda s, who: s.record(user_id=who, **DEPOSIT), "transfers.record"),
    "TransferService.record_many": of(
        lambda s, who: s.record_many([{"user_id": who, **DEPOSIT}]), "transfers.record"
    ),
    "TransferService.reverse": of(lambda s, _: s.reverse(uuid7()), "transfers.record"),
    "TransferService.list": of(lambda s, who: s.list(who), "portfolio.read_any", own="portfolio.read_own"),
    "PortfolioService.record_price": of(lambda s, _: s.record_price("BTC/USDT", 1), "prices.record"),
    "PortfolioService.take_snapshot": of(
        lambda s, who: s.take_snapshot(who),
        "portfolio.read_any",
        "portfolio.snapshot_any",
        own="portfolio.snapshot_own",
    ),
    **{
        f"PortfolioService.{name}": of(
            lambda s, who, name=name, more=more: getattr(s, name)(who, **more),
            "portfolio.read_any",
            own="portfolio.read_own",
        )
        for name, more in {
            "holdings": {},
            "positions": {},
            "lots": {"market": "BTC/USDT"},
            "closings": {"market": "BTC/USDT"},
            "pnl": {},
            "snapshots": {},
        }.items()
    },
    "Markets.add": of(lambda s, _: s.add("SOL/USDC"), "markets.manage"),
    "Markets.add_asset": of(lambda s, _: s.add_asset("SOL", decimals=18), "markets.manage"),
    "KeyService.list": of(lambda s, _: s.list(), "keys.rotate"),
    "KeyService.rotate": of(lambda s, _: s.rotate(), "keys.rotate"),
    "KeyService.record_created": of(lambda s, _: s.record_created(1), "keys.rotate"),
    "KeyService.forget": of(lambda s, _: s.forget(999), "keys.rotate"),
    "NotificationService.list": of(lambda s, who: s.list(who), own="notifications.read_own"),
    "NotificationService.unread_count": of(lambda s, who: s.unread_count(who), own="notifications.read_own"),
    "NotificationService.mark_read": of(lambda s, who: s.mark_read(who, who), own="notifications.manage_own"),
    "NotificationService.mark_all_read": of(lambda s, who: s.mark_all_read(who), own="notifications.manage_own"),
    "NotificationService.preferences": of(lambda s, who: s.preferences(who), own="notifications.read_own"),
    "NotificationService.set_preference": of(
        lambda s, who: s.set_preference(who, "order_filled", "email", True), own="notifications.manage_own"
    ),
    "NotificationService.set_webhook": of(
        lambda s, who: s.set_webhook(who, "https://hooks.example/"), own="notifications.manage_own"
    ),
    "NotificationService.webhook": of(lambda s, who: s.webhook(who), own="notifications.read_own"),
    "NotificationService.remove_webhook": of(lambda s, who: s.remove_webhook(who), own="notifications.manage_own"),
    "AuditService.search": of(lambda s, _: s.search(), "audit.read"),
    "AuditService.after": of(lambda s, _: s.after(0), "audit.read"),
    "AuditService.export": of(lambda s, _: first_of(s.export()), "audit.read"),
    "AuditService.seal": of(lambda s, _: s.seal(), "audit.verify"),
    "AuditService.verify": of(lambda s, _: s.verify(), "audit.verify"),
    "CacheService.stats": of(lambda s, _: s.stats(), "cache.manage"),
    "CacheService.flush": of(lambda s, _: s.flush(), "cache.manage"),
    "CacheService.rebuild": of(lambda s, _: s.rebuild(), "cache.manage"),
}
BY_RECORD = {
    "SessionService.revoke": ("sessions.revoke_any", "sessions.revoke_own"),
    "ApiKeyService.revoke": ("api_keys.revoke_any", "api_keys.revoke_own"),
    "ApiKeyService.rotate": (None, "api_keys.manage_own"),
    "TradingService.get_trade": ("trades.read_any", "trades.read_own"),
    "TradingService.get_order": ("orders.read_any", "orders.read_own"),
    "TradingService.list_order_events": ("orders.read_any", "orders.read_own"),
    "TradingService.amend_order": ("orders.place_any", "orders.place_own"),
    "TradingService.cancel_order": ("orders.cancel_any", "orders.place_own"),
    "TransferService.get": ("portfolio.read_any", "portfolio.read_own"),
    "LiquidityService.get": ("liquidity.read_any", "liquidity.read_own"),
    "LiquidityService.events": ("liquidity.read_any", "liquidity.read_own"),
    "LiquidityService.value": ("liquidity.read_any", "liquidity.read_own"),
}
"""They take the id of a record: one of somebody else is like none."""
REQUIRED_ELSEWHERE = {
    "roles.read": "Roles.list and Roles.get, which are told the actor: see test_roles",
    "notifications.send": "NotificationService.notices: see test_service of notifications",
    "notifications.replay": "NotificationService.deliveries: see test_service of notifications",
    "notifications.edit_templates": "NotificationService.templates: see test_service of notifications",
}
FOR_EVERYBODY = {
    "SessionService.validate": "shows a token, which is the proof",
    "SessionService.owner_of": "shows a token",
    "SessionService.refresh": "shows a token",
    "SessionService.revoke_token": "shows a token",
    "SessionService.require_recent": "looks at a session that was validated",
    "ApiKeyService.validate": "shows a key, which is the proof",
    "TradingService.close": "ends what the program made",
    "Markets.fees": "fees are public",
    "Markets.venue_status": "the state of the venue is public",
    "Pools.get": "pools are public",
    "Pools.list": "pools are public",
    "LiquidityService.snapshots": "what pools did is public",
    "Markets.get": "markets are public",
    "Markets.list": "markets are public",
    "Markets.remembered": "markets are public",
    "Markets.asset": "assets are public",
    "Markets.list_assets": "assets are public",
}


def classes_that_act_for_somebody() -> dict[str, type]:
    found: dict[str, type] = {}
    for module in pkgutil.walk_packages(novadex.__path__, "novadex."):
        if module.name.endswith("__main__"):
            continue
        kinds = vars(importlib.import_module(module.name))
        found |= {name: kind for name, kind in kinds.items() if inspect.isclass(kind) and "acting_as" in vars(kind)}
    return found


def test_every_public_method_has_an_entry() -> None:
    services = classes_that_act_for_somebody()
    methods = {
        f"{name}.{method}"
        for name, kind in services.items()
        for method, function in vars(kind).items()
        if inspect.isfunction(function) and not method.startswith("_") and method != "acting_as"
    }
    assert set(services) == set(SERVICES)
    assert methods == {*METHODS, *BY_RECORD, *FOR_EVERYBODY}


async def test_every_permission_is_required_by_some_method(db: DatabaseConnection) -> None:
    """One that nothing asks for is a promise that nobody keeps."""
    required = {name for method in METHODS.values() for name in (*method.any_, method.own) if name}
    required |= {name for pair in BY_RECORD.values() for name in pair if name}
    assert {row.name for row in await db.query("SELECT name FROM permissions")} == {*required, *REQUIRED_ELSEWHERE}


async def actor_of(db: DatabaseConnection, role: str, user: UUID) -> Actor:
    return Actor(f"user:{user}", user, role, await db.companion(Roles).permissions_of(role))


async def let_in(call: Awaitable[Any]) -> bool:
    """Whether it got past the permissions; what comes after is for the tests of the service."""
    try:
        answer = await call
    except PermissionDeniedError:
        return False
    except NovaDexError:
        return True
    return not (isinstance(answer, list) and answer and isinstance(answer[0], PermissionDeniedError))


@pytest.mark.parametrize("role", ROLES)
async def test_a_role_is_let_in_or_refused_by_every_method(
    db: DatabaseConnection, market: MarketRow, role: str
) -> None:
    allowed = expected_of(role)
    services = {name: make(db) for name, make in SERVICES.items()}
    for name, method in METHODS.items():
        service = services[name.partition(".")[0]]
        me, somebody = uuid7(), uuid7()
        acting = service.acting_as(await actor_of(db, role, me))
        to_any = bool(method.any_) and allowed.issuperset(method.any_)
        assert await let_in(method.call(acting, somebody)) is to_any, f"{role} {name} of somebody else"
        to_own = not method.never_own and (to_any or (method.own is not None and method.own in allowed))
        assert await let_in(method.call(acting, me)) is to_own, f"{role} {name} of their own"
    await services["TradingService"].close()


@pytest.mark.parametrize("role", ROLES)
async def test_a_record_of_somebody_else_is_like_none(
    db: DatabaseConnection, market: MarketRow, users: Callable[[int], list[UUID]], role: str
) -> None:
    me, somebody = users(2)
    allowed = expected_of(role)
    sessions, api_keys, trading = SessionService(db), ApiKeyService(db), TradingService(db)
    await db.main.execute("UPDATE users SET role = 'trader'")
    actor = await actor_of(db, role, me)
    transfers, liquidity = TransferService(db), LiquidityService(db)
    pool = await liquidity.pools.add("0x", market="BTC/USDT", kind="constant_product", fee=0)
    await db.main.execute(
        "INSERT INTO pool_snapshots (pool_id, taken_at, liquidity, base_reserve, quote_reserve, source)"
        " VALUES ($1, $2, 1, 1, 1, 'x')",
        [pool.id, LONG_AGO],
    )

    async def records(owner: UUID) -> dict[str, tuple[Callable[[UUID], Awaitable[Any]], UUID]]:
        key = await api_keys.create(owner, name="bot", permissions=["trades.read_own"])
        other_key = await api_keys.create(owner, name="bot", permissions=["trades.read_own"])
        return {
            "SessionService.revoke": (sessions.acting_as(actor).revoke, (await sessions.create(owner)).session.id),
            "ApiKeyService.revoke": (api_keys.acting_as(actor).revoke, key.api_key.id),
            "ApiKeyService.rotate": (api_keys.acting_as(actor).rotate, other_key.api_key.id),
            "TradingService.get_trade": (
                trading.acting_as(actor).get_trade,
                (await trading.create_trade(user_id=owner, **TRADE)).id,  # type: ignore[arg-type]
            ),
            **{
                f"TradingService.{name}": (
                    call,
                    (await trading.place_order(user_id=owner, **ORDER)).id,  # type: ignore[arg-type]
                )
                for name, call in {
                    "get_order": trading.acting_as(actor).get_order,
                    "list_order_events": trading.acting_as(actor).list_order_events,
                    "amend_order": partial(trading.acting_as(actor).amend_order, quantity="3"),
                    "cancel_order": trading.acting_as(actor).cancel_order,
                }.items()
            },
            "TransferService.get": (
                transfers.acting_as(actor).get,
                (await transfers.record(user_id=owner, **DEPOSIT)).id,  # type: ignore[arg-type]
            ),
            **{
                f"LiquidityService.{name}": (
                    getattr(liquidity.acting_as(actor), name),
                    (await liquidity.open(owner, pool="0x", liquidity=1, executed_at=LONG_AGO, **AMOUNTS)).id,
                )
                for name in ("get", "events", "value")
            },
        }

    async def outcome(call: Callable[[UUID], Awaitable[Any]], id: UUID) -> str:
        try:
            await call(id)
        except PermissionDeniedError:
            return "refused"
        except NotFoundError:
            return "not found"
        return "done"

    async with trading:
        of_mine, of_somebody = await records(me), await records(somebody)
        assert set(of_mine) == set(BY_RECORD)
        for name, (any_, own) in BY_RECORD.items():
            to_any, to_own = any_ in allowed, own in allowed
            without = "not found" if to_own else "refused"
            assert await outcome(*of_somebody[name]) == ("done" if to_any else without), f"{role} {name}"
            assert await outcome(*of_mine[name]) == ("done" if to_any or to_own else "refused"), f"{role} {name}"
            assert await outcome(of_mine[name][0], uuid7()) == ("not found" if to_any or to_own else "refused")
