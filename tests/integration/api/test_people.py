"""People over HTTP: signing in, sessions, users, API keys, rate limits; over real servers."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
import structlog
from fastapi.routing import APIRoute

from novadex.api import endpoints
from novadex.api.access import CountedRoute
from novadex.api.app import create_app
from novadex.api.middleware import BODY_BYTES_MAX
from novadex.api_keys.service import ApiKeyService
from novadex.liquidity.pools import Pools
from novadex.liquidity.service import LiquidityService
from novadex.monitoring.logs import configure_logs
from novadex.monitoring.monitor import Monitor
from novadex.portfolio.transfers import TransferService
from novadex.sessions.service import SessionService
from novadex.storage.connection import DatabaseConnection
from novadex.trading.service import TradingService
from novadex.users.service import UserService
from tests.conftest import DatabasePair
from tests.unit.sign_in.negatives import DOMAIN
from tests.unit.sign_in.wallets import Wallet, wallet

ROLES = ("user", "trader", "market_maker", "support", "auditor", "operator", "admin")
NO_MONITOR: Monitor = None  # pyright: ignore[reportAssignmentType] - these routes ask no monitor

Connect = Callable[..., Any]


@pytest.fixture
def connect(fresh_databases: DatabasePair, cache_url: str, sessions_url: str) -> Connect:
    """``async with connect(**settings) as (client, db)``: a client of the API over this test's databases."""

    @asynccontextmanager
    async def open_(**settings: Any) -> AsyncIterator[tuple[httpx.AsyncClient, DatabaseConnection]]:
        wanted = {"sign_in_domain": DOMAIN, **settings}
        async with fresh_databases.connection(cache=cache_url, sessions=sessions_url, **wanted) as db:
            transport = httpx.ASGITransport(create_app(NO_MONITOR, db), raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://novadex") as client:
                yield client, db

    return open_


@pytest.fixture
async def client(connect: Connect) -> AsyncIterator[httpx.AsyncClient]:
    async with connect() as (client, _):
        yield client


def by(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def sign_in(client: httpx.AsyncClient, holder: Wallet) -> dict[str, Any]:
    wanted = {"chain": holder.chain, "address": holder.address}
    challenge = (await client.post("/api/sign-in/message", json=wanted)).json()
    signed = {"message": challenge["message"], "signature": holder.sign(challenge["message"])}
    answer = await client.post("/api/sign-in", json=signed, headers={"User-Agent": "Firefox on Linux"})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def token_of(db: DatabaseConnection, role: str) -> tuple[str, UUID]:
    user = await UserService(db).create_user(role=role)
    return (await SessionService(db).create(user.id)).token, user.id


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


@pytest.mark.parametrize("chain", ["evm", "solana"])
async def test_a_wallet_signs_in_and_out(client: httpx.AsyncClient, chain: Any):
    signed_in = await sign_in(client, wallet(chain))
    token = signed_in["session"]["token"]
    shown = (await client.get("/api/session", headers=by(token))).json()
    assert shown["user_id"] == signed_in["user"]["id"]
    assert "users.read_own" in shown["permissions"]
    me = (await client.get("/api/users/me", headers=by(token))).json()
    assert me["wallets"][0]["address"] == wallet(chain).address
    [session] = (await client.get("/api/sessions", headers=by(token))).json()
    assert session["device"] == "Firefox on Linux"
    assert (await client.delete("/api/session", headers=by(token))).status_code == 204
    refused = await client.get("/api/users/me", headers=by(token))
    assert code_of(refused) == (401, "SESSION_ENDED")
    assert refused.headers["www-authenticate"] == 'Bearer error="invalid_token"'


async def test_a_nonce_for_a_message_of_the_clients_own_is_given(client: httpx.AsyncClient):
    answer = (await client.post("/api/sign-in/nonce")).json()
    assert len(answer["nonce"]) == 32


async def test_a_replayed_sign_in_is_refused(client: httpx.AsyncClient):
    holder = wallet("evm")
    wanted = {"chain": holder.chain, "address": holder.address}
    message = (await client.post("/api/sign-in/message", json=wanted)).json()["message"]
    signed = {"message": message, "signature": holder.sign(message)}
    assert (await client.post("/api/sign-in", json=signed)).status_code == 201
    assert code_of(await client.post("/api/sign-in", json=signed)) == (401, "NOT_AUTHENTICATED")


async def test_refreshing_gives_a_new_token_and_ends_the_old(client: httpx.AsyncClient):
    token = (await sign_in(client, wallet("evm")))["session"]["token"]
    renewed = (await client.post("/api/session/refresh", headers=by(token))).json()["token"]
    assert renewed != token
    assert (await client.get("/api/session", headers=by(renewed))).status_code == 200
    assert code_of(await client.get("/api/session", headers=by(token))) == (401, "SESSION_ENDED")


async def test_after_a_change_of_rights_the_session_has_to_be_refreshed(connect: Connect):
    async with connect() as (client, db):
        token, user_id = await token_of(db, "user")
        await UserService(db).change_role(user_id, "trader")
        assert code_of(await client.get("/api/session", headers=by(token))) == (401, "RENEWAL_NEEDED")
        renewed = (await client.post("/api/session/refresh", headers=by(token))).json()["token"]
        assert (await client.get("/api/session", headers=by(renewed))).json()["role"] == "trader"


async def test_signing_out_ends_a_session_that_must_be_renewed_or_is_refreshed_at_the_same_moment(connect: Connect):
    async with connect() as (client, db):
        token, user_id = await token_of(db, "user")
        await UserService(db).change_role(user_id, "trader")
        assert (await client.delete("/api/session", headers=by(token))).status_code == 204
        assert await SessionService(db).list(user_id) == []
        assert code_of(await client.delete("/api/session", headers=by(token))) == (401, "SESSION_ENDED")
        for _ in range(8):
            token, _ = await token_of(db, "user")
            out, renewed = await asyncio.gather(
                client.delete("/api/session", headers=by(token)),
                client.post("/api/session/refresh", headers=by(token)),
            )
            assert out.status_code == 204
            if renewed.status_code == 200:
                left = await client.get("/api/session", headers=by(renewed.json()["token"]))
                assert code_of(left) == (401, "SESSION_ENDED")


async def test_a_session_of_the_list_that_a_thief_refreshed_is_ended_by_whoever_may(connect: Connect):
    async with connect() as (client, db):
        of_admin, _ = await token_of(db, "admin")
        for by_admin in (True, False):
            token, user_id = await token_of(db, "user")
            of_user = (await SessionService(db).create(user_id)).token
            listed = (await client.get("/api/session", headers=by(token))).json()["id"]
            of_thief = (await client.post("/api/session/refresh", headers=by(token))).json()["token"]
            revoked = await client.delete(f"/api/sessions/{listed}", headers=by(of_admin if by_admin else of_user))
            assert revoked.status_code == 204
            left = await client.get("/api/session", headers=by(of_thief))
            assert code_of(left) == (401, "SESSION_ENDED")


WITHOUT_CREDENTIALS = (
    {},
    {"Authorization": ""},
    {"Authorization": "Bearer"},
    {"Authorization": "Bearer "},
    {"Authorization": "Basic dXNlcjpwYXNz"},
    {"Authorization": "Bearer nds_" + "A" * 43},
    {"Authorization": "Bearer ndk_" + "A" * 43},
    {"Authorization": "Bearer ' OR 1=1 --"},
    {"Authorization": "Bearer " + "x" * 10_000},
    {"Cookie": "session=nds_" + "A" * 43},
)


def routes_of(client: httpx.AsyncClient) -> list[tuple[str, str]]:
    app: Any = client._transport.app  # pyright: ignore[reportAttributeAccessIssue]
    return [
        (method.upper(), path)
        for path, methods in app.openapi()["paths"].items()
        for method in methods
        if not path.startswith(("/api/health", "/api/metrics", "/api/sign-in", "/api/markets"))
    ]


async def test_every_route_refuses_whoever_shows_no_session_and_no_key(connect: Connect):
    async with connect(rate_limits=False) as (client, _):
        routes = routes_of(client)
        assert len(routes) > 20
        for method, path in routes:
            url = path.replace("{chain}", "evm").replace("{", "").replace("}", "")
            for headers in WITHOUT_CREDENTIALS:
                body = {"json": {}} if method in ("POST", "PUT", "PATCH") else {}
                answer = await client.request(method, url, headers=headers, **body)
                assert answer.status_code == 401, (method, path, headers, answer.text)


OF_THE_CALLER = {
    ("GET", "/api/session"),
    ("POST", "/api/session/refresh"),
    ("POST", "/api/session/reauthenticate"),
    ("DELETE", "/api/session"),
    ("GET", "/api/users/me"),
    ("PATCH", "/api/users/me"),
    ("DELETE", "/api/users/me"),
    ("POST", "/api/users/me/deactivate"),
    ("POST", "/api/users/me/wallets/message"),
    ("POST", "/api/users/me/wallets"),
    ("PUT", "/api/users/me/wallets/primary"),
    ("POST", "/api/api-keys"),
    ("GET", "/api/notifications"),
    ("GET", "/api/notifications/unread"),
    ("POST", "/api/notifications/read"),
    ("GET", "/api/notifications/preferences"),
    ("PUT", "/api/notifications/preferences/{kind}/{channel}"),
    ("GET", "/api/notifications/webhook"),
    ("PUT", "/api/notifications/webhook"),
    ("DELETE", "/api/notifications/webhook"),
    ("GET", "/api/notifications/alerts"),
    ("POST", "/api/notifications/alerts"),
    ("GET", "/api/pools"),
    ("GET", "/api/pools/{address}/snapshots"),
}
"""They name nobody: the caller is meant, whatever the request says, or what everybody may see."""


ORDER: Any = {"market": "BTC/USDT", "side": "buy", "type": "limit", "quantity": "1", "price": "2"}


async def belongings(client: httpx.AsyncClient, db: DatabaseConnection, victim: UUID, token: str) -> dict[str, Any]:
    """What a victim has, by the names that routes give it."""
    trading = db.companion(TradingService)
    await trading.markets.add("BTC/USDT")
    deposit: Any = {"kind": "deposit", "asset": "USDT", "amount": "1"}
    amounts: Any = {"base_amount": 1, "quote_amount": 1}
    await Pools(db).add("0x", market="BTC/USDT", kind="constant_product", fee=0)
    alert = {"market": "BTC/USDT", "direction": "above", "price": "1"}
    return {
        "order_id": (await trading.place_order(user_id=victim, **ORDER)).id,
        "transfer_id": (await TransferService(db).record(user_id=victim, **deposit)).id,
        "position_id": (await LiquidityService(db).open(victim, pool="0x", liquidity=1, **amounts)).id,
        "alert_id": (await client.post("/api/notifications/alerts", json=alert, headers=by(token))).json()["id"],
        "notification_id": victim,  # nobody has one of this id
        "market": "BTC/USDT",
    }


def bodies_about(victim: UUID) -> dict[tuple[str, str], Any]:
    """Requests for routes that say in their body whom they are about, or what is to be done."""
    amounts = {"liquidity": "1", "base_amount": "1", "quote_amount": "1"}
    return {
        ("POST", "/api/orders"): {**ORDER, "user_id": str(victim)},
        ("PATCH", "/api/orders/{order_id}"): {"quantity": "2"},
        ("POST", "/api/transfers"): {"user_id": str(victim), "kind": "deposit", "asset": "USDT", "amount": "1"},
        ("POST", "/api/transfers/{transfer_id}/reverse"): {},
        ("POST", "/api/liquidity/positions"): {"user_id": str(victim), "pool": "0x", **amounts},
        ("POST", "/api/liquidity/positions/{position_id}/events"): {"type": "increased", **amounts},
        ("POST", "/api/pools"): {"address": "0y", "market": "BTC/USDT", "kind": "constant_product", "fee": "0"},
        ("POST", "/api/pools/{address}/snapshots"): {"liquidity": "1", "base_reserve": "1", "quote_reserve": "1"},
        ("POST", "/api/prices"): {"market": "BTC/USDT", "price": "1"},
        ("POST", "/api/portfolio/snapshots"): {},
    }


async def test_nobody_reads_or_changes_anything_of_others(connect: Connect):
    """Every route but those that name nobody, with everything of a victim that it can be asked for."""
    async with connect(rate_limits=False) as (client, db):
        address = wallet("evm").address
        victim = await UserService(db).create_user(
            username="victim", email="victim@example.com", role="trader", wallet_address=address
        )
        session = await SessionService(db).create(victim.id)
        key = await ApiKeyService(db).create(victim.id, name="victim's", permissions=["trades.read_own"])
        named = {
            "user_id": victim.id,
            "session_id": session.session.id,
            "key_id": key.api_key.id,
            "chain": "evm",
            "address": address,
            **await belongings(client, db, victim.id, session.token),
        }
        bodies = {**SENSITIVE, **bodies_about(victim.id)}
        schema: Any = client._transport.app.openapi()["paths"]  # pyright: ignore[reportAttributeAccessIssue]
        routes = set(routes_of(client))
        assert routes >= OF_THE_CALLER
        for role in ("user", "trader", "market_maker"):
            token, _ = await token_of(db, role)
            for method, path in sorted(routes - OF_THE_CALLER):
                asked = {
                    one["name"]
                    for one in schema[path][method.lower()].get("parameters", ())
                    if one["in"] == "query" and one["name"] in named
                }
                answer = await client.request(
                    method,
                    path.format(**named),
                    params={name: str(named[name]) for name in asked},
                    json=bodies.get((method, path)),
                    headers=by(token),
                )
                assert answer.status_code in (403, 404), (role, method, path, answer.text)
                assert "victim" not in answer.text
        assert await UserService(db).get_user(victim.id) == victim
        await SessionService(db).validate(session.token)
        await ApiKeyService(db).validate(key.key)


@pytest.mark.parametrize("role", ROLES)
async def test_nobody_gives_themselves_another_role(connect: Connect, role: str):
    async with connect() as (client, db):
        token, user_id = await token_of(db, role)
        answer = await client.put(f"/api/users/{user_id}/role", json={"role": "admin"}, headers=by(token))
        assert code_of(answer) == (403, "PERMISSION_DENIED")
        for field in ("role", "status", "id", "kind", "version"):
            answer = await client.patch("/api/users/me", json={field: "admin"}, headers=by(token))
            assert code_of(answer) == (400, "INVALID_VALUE"), field
        assert (await UserService(db).get_user(user_id)).role == role


async def test_staff_sees_users_without_personal_data_and_a_change_is_made_by_name(connect: Connect):
    async with connect() as (client, db):
        token, _ = await token_of(db, "support")
        user = await UserService(db).create_user(username="ada", email="ada@example.com")
        shown = (await client.get(f"/api/users/{user.id}", headers=by(token))).json()
        assert (shown["username"], shown["email"]) == ("ada", None)
        page = (await client.get("/api/users?limit=1", headers=by(token))).json()
        assert len(page["items"]) == 1
        assert page["next"]


async def test_a_user_changes_what_is_given_and_takes_away_what_is_null(client: httpx.AsyncClient):
    token = (await sign_in(client, wallet("evm")))["session"]["token"]
    changed = await client.patch(
        "/api/users/me",
        json={"username": "Ada", "email": "ada@example.com", "preferences": {"theme": "dark"}},
        headers=by(token),
    )
    assert (changed.json()["username"], changed.json()["preferences"]) == ("ada", {"theme": "dark"})
    cleared = await client.patch("/api/users/me", json={"email": None}, headers=by(token))
    assert (cleared.json()["username"], cleared.json()["email"]) == ("ada", None)
    version = cleared.json()["version"]
    stale = {"username": "lovelace", "expected_version": version - 1}
    assert code_of(await client.patch("/api/users/me", json=stale, headers=by(token))) == (409, "CONFLICT")


async def test_wallets_are_added_by_signature_made_primary_and_removed(client: httpx.AsyncClient):
    token = (await sign_in(client, wallet("evm")))["session"]["token"]
    further = wallet("solana")
    wanted = {"chain": "solana", "address": further.address}
    message = (await client.post("/api/users/me/wallets/message", json=wanted, headers=by(token))).json()["message"]
    signed = {"message": message, "signature": further.sign(message)}
    linked = await client.post("/api/users/me/wallets", json=signed, headers=by(token))
    assert linked.status_code == 201
    assert len(linked.json()["wallets"]) == 2
    primary = await client.put("/api/users/me/wallets/primary", json=wanted, headers=by(token))
    assert primary.json()["wallets"][0]["chain"] == "solana"
    left = await client.delete(f"/api/users/me/wallets/solana/{further.address}", headers=by(token))
    assert [w["chain"] for w in left.json()["wallets"]] == ["evm"]
    last = await client.delete(f"/api/users/me/wallets/evm/{wallet('evm').address}", headers=by(token))
    assert code_of(last) == (409, "CONFLICT")


SENSITIVE: dict[tuple[str, str], Any] = {
    ("POST", "/api/api-keys"): {"name": "bot", "permissions": ["trades.read_own"]},
    ("POST", "/api/api-keys/{key_id}/rotate"): {},
    ("DELETE", "/api/users/me"): None,
    ("POST", "/api/users/me/deactivate"): None,
    ("POST", "/api/users/me/wallets"): {"message": "m", "signature": "s"},
    ("PUT", "/api/users/me/wallets/primary"): {"chain": "evm", "address": wallet("evm").address},
    ("DELETE", "/api/users/me/wallets/{chain}/{address}"): None,
    ("PUT", "/api/users/{user_id}/role"): {"role": "trader"},
    ("POST", "/api/users/{user_id}/deactivate"): None,
    ("POST", "/api/users/{user_id}/reactivate"): None,
    ("PUT", "/api/notifications/webhook"): {"url": "https://example.com/novadex"},
}
"""Routes that change something and want a proof that is recent, with a body that is possible."""
NOT_SENSITIVE = {
    ("DELETE", "/api/session"): "who fears a theft must be able to act at once",
    ("DELETE", "/api/sessions"): "the same",
    ("DELETE", "/api/sessions/{session_id}"): "the same",
    ("DELETE", "/api/api-keys/{key_id}"): "the same",
    ("POST", "/api/session/refresh"): "it gives the rights that were there",
    ("POST", "/api/session/reauthenticate"): "it is the proof",
    ("POST", "/api/users/me/wallets/message"): "a message does nothing until it is signed and shown",
    ("PATCH", "/api/users/me"): "neither name nor email address is used to sign in",
    ("POST", "/api/orders"): "trading has to be quick",
    ("PATCH", "/api/orders/{order_id}"): "the same",
    ("DELETE", "/api/orders/{order_id}"): "the same",
    ("DELETE", "/api/orders"): "the same",
    ("POST", "/api/transfers"): "the venue reports what happened",
    ("POST", "/api/transfers/{transfer_id}/reverse"): "the same",
    ("POST", "/api/liquidity/positions"): "the same",
    ("POST", "/api/liquidity/positions/{position_id}/events"): "the same",
    ("POST", "/api/pools"): "the same",
    ("POST", "/api/pools/{address}/snapshots"): "the same",
    ("POST", "/api/prices"): "the same",
    ("POST", "/api/portfolio/snapshots"): "it computes what can be read",
    ("POST", "/api/notifications/read"): "it hides nothing",
    ("POST", "/api/notifications/{notification_id}/read"): "the same",
    ("PUT", "/api/notifications/preferences/{kind}/{channel}"): "what concerns security cannot be turned off",
    ("POST", "/api/notifications/alerts"): "it tells the user alone",
    ("DELETE", "/api/notifications/alerts/{alert_id}"): "the same",
    ("DELETE", "/api/notifications/webhook"): "nothing leaves by it any more",
}


async def test_every_route_that_changes_something_is_classed_as_sensitive_or_not(connect: Connect):
    async with connect() as (client, _):
        changing = {route for route in routes_of(client) if route[0] != "GET"}
    assert changing == {*SENSITIVE, *NOT_SENSITIVE}
    assert not {*SENSITIVE} & {*NOT_SENSITIVE}


async def test_a_sensitive_route_wants_a_recent_sign_in_whoever_is_named(
    connect: Connect, fresh_databases: DatabasePair
):
    async with connect(rate_limits=False) as (client, db):
        bystander = await UserService(db).create_user()
        for role in ("user", "admin"):
            token, user_id = await token_of(db, role)
            with psycopg.connect(fresh_databases.main_url(None)) as connection:
                connection.execute("SET session_replication_role = replica")
                connection.execute("UPDATE user_sessions SET authenticated_at = now() - interval '1 hour'")
            token = (await client.post("/api/session/refresh", headers=by(token))).json()["token"]
            for (method, path), body in SENSITIVE.items():
                for named in (user_id, bystander.id):
                    url = path.replace("{user_id}", str(named)).replace("{key_id}", str(named))
                    url = url.replace("{chain}", "evm").replace("{address}", wallet("evm").address)
                    answer = await client.request(method, url, json=body, headers=by(token))
                    assert code_of(answer) == (401, "REAUTHENTICATION_NEEDED"), (role, method, url)
            assert (await UserService(db).get_user(user_id)).status == "active"
        assert (await UserService(db).get_user(bystander.id)) == bystander


async def test_sensitive_actions_want_a_sign_in_a_short_while_ago(connect: Connect, fresh_databases: DatabasePair):
    async with connect() as (client, db):
        holder = wallet("evm")
        signed_in = await sign_in(client, holder)
        user_id = signed_in["user"]["id"]
        await UserService(db).change_role(user_id, "trader")
        with psycopg.connect(fresh_databases.main_url(None)) as connection:
            connection.execute("SET session_replication_role = replica")
            connection.execute("UPDATE user_sessions SET authenticated_at = now() - interval '1 hour'")
        token = (await client.post("/api/session/refresh", headers=by(signed_in["session"]["token"]))).json()["token"]
        key = {"name": "bot", "permissions": ["trades.read_own"]}
        wanted = {"chain": "evm", "address": holder.address}
        for method, path, body in (
            ("POST", "/api/api-keys", key),
            ("DELETE", "/api/users/me", None),
            ("POST", "/api/users/me/deactivate", None),
            ("PUT", "/api/users/me/wallets/primary", wanted),
            ("DELETE", f"/api/users/me/wallets/evm/{holder.address}", None),
        ):
            answer = await client.request(method, path, json=body, headers=by(token))
            assert code_of(answer) == (401, "REAUTHENTICATION_NEEDED"), path
            assert "insufficient_user_authentication" in answer.headers["www-authenticate"]
        message = (await client.post("/api/sign-in/message", json=wanted)).json()["message"]
        signed = {"message": message, "signature": holder.sign(message)}
        renewed = await client.post("/api/session/reauthenticate", json=signed, headers=by(token))
        assert (await client.post("/api/api-keys", json=key, headers=by(renewed.json()["token"]))).status_code == 201


async def test_an_erased_user_is_gone_at_once(client: httpx.AsyncClient):
    token = (await sign_in(client, wallet("evm")))["session"]["token"]
    assert (await client.delete("/api/users/me", headers=by(token))).status_code == 204
    assert (await client.get("/api/users/me", headers=by(token))).status_code == 401


async def test_an_api_key_does_what_it_was_given_and_nothing_else(connect: Connect):
    async with connect() as (client, db):
        token, user_id = await token_of(db, "trader")
        wanted = {"name": "bot", "permissions": ["users.read_own"], "life_days": 7}
        made = (await client.post("/api/api-keys", json=wanted, headers=by(token))).json()
        key = made["key"]
        assert (await client.get("/api/users/me", headers=by(key))).json()["id"] == str(user_id)
        for method, path in (
            ("GET", "/api/sessions"),
            ("GET", "/api/session"),
            ("POST", "/api/api-keys"),
            ("DELETE", "/api/users/me"),
            ("POST", "/api/users/me/deactivate"),
        ):
            body = {"json": wanted} if method == "POST" else {}
            answer = await client.request(method, path, headers=by(key), **body)
            assert code_of(answer) == (403, "PERMISSION_DENIED"), path
        page = (await client.get("/api/api-keys", headers=by(token))).json()
        assert [one["name"] for one in page["items"]] == ["bot"]
        assert key not in json.dumps(page)
        key_id = made["api_key"]["id"]
        rotated = (
            await client.post(f"/api/api-keys/{key_id}/rotate", json={"overlap_s": 60}, headers=by(token))
        ).json()
        assert (await client.get("/api/users/me", headers=by(rotated["key"]))).status_code == 200
        assert (await client.get("/api/users/me", headers=by(key))).status_code == 200
        assert (await client.delete(f"/api/api-keys/{key_id}", headers=by(token))).status_code == 204
        assert (await client.get("/api/users/me", headers=by(key))).status_code == 401


async def test_a_key_for_some_networks_is_refused_from_others_whatever_the_client_says(connect: Connect):
    async with connect() as (client, db):
        token, _ = await token_of(db, "trader")
        wanted = {"name": "bot", "permissions": ["users.read_own"], "allowed_addresses": ["192.0.2.0/24"]}
        key = (await client.post("/api/api-keys", json=wanted, headers=by(token))).json()["key"]
        forged = {**by(key), "X-Forwarded-For": "192.0.2.7", "X-Real-IP": "192.0.2.7", "Forwarded": "for=192.0.2.7"}
        assert (await client.get("/api/users/me", headers=forged)).status_code == 401
    async with connect(trusted_proxies="127.0.0.0/8") as (client, _):
        assert (await client.get("/api/users/me", headers=forged)).status_code == 200
        spoofed = {**by(key), "X-Forwarded-For": "192.0.2.7, 198.51.100.9"}
        assert (await client.get("/api/users/me", headers=spoofed)).status_code == 401


# Rate limits


async def test_every_answer_says_what_is_left_and_too_many_requests_are_refused(connect: Connect):
    async with connect(rate_limit_user_per_minute=5) as (client, db):
        token, _ = await token_of(db, "user")
        answers = [await client.get("/api/users/me", headers=by(token)) for _ in range(7)]
        assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 2
        assert answers[0].headers["ratelimit-policy"] == '"address";q=1200;w=60, "user";q=5;w=60'
        assert answers[0].headers["ratelimit"] == '"address";r=1199, "user";r=4'
        assert '"user";r=0;t=' in answers[6].headers["ratelimit"]
        assert code_of(answers[6]) == (429, "RATE_LIMITED")
        assert 1 <= int(answers[6].headers["retry-after"]) <= 121
        other, _ = await token_of(db, "user")
        assert (await client.get("/api/users/me", headers=by(other))).status_code == 200


async def test_writes_sign_ins_addresses_and_keys_have_limits_of_their_own(connect: Connect):
    limits = {
        "rate_limit_write_per_minute": 2,
        "rate_limit_sign_in_per_minute": 3,
        "rate_limit_api_key_per_minute": 4,
    }
    async with connect(**limits) as (client, db):
        token, _ = await token_of(db, "trader")
        key = {"name": "bot", "permissions": ["users.read_own"]}
        made = [await client.post("/api/api-keys", json=key, headers=by(token)) for _ in range(3)]
        assert [answer.status_code for answer in made] == [201, 201, 429]
        assert (await client.patch("/api/users/me", json={}, headers=by(token))).status_code == 200, "another route"
        nonces = [(await client.post("/api/sign-in/nonce")).status_code for _ in range(4)]
        assert nonces == [200, 200, 200, 429]
        read = [(await client.get("/api/users/me", headers=by(made[0].json()["key"]))).status_code for _ in range(5)]
        assert read == [200] * 4 + [429]
    async with connect(rate_limit_address_per_minute=3) as (client, db):
        codes = [(await client.get("/api/users/me")).status_code for _ in range(5)]
        assert codes[-1] == 429, "guesses count too"


async def test_refreshes_are_counted_by_user_wherever_they_come_from(connect: Connect):
    async with connect(rate_limit_write_per_minute=3, trusted_proxies="127.0.0.0/8") as (client, db):
        token, _ = await token_of(db, "user")
        codes = []
        for number in range(5):
            headers = {**by(token), "X-Forwarded-For": f"192.0.2.{number}"}
            answer = await client.post("/api/session/refresh", headers=headers)
            codes.append(answer.status_code)
            token = answer.json()["token"] if answer.status_code == 200 else token
        assert codes == [200] * 3 + [429] * 2
        assert (await client.get("/api/session", headers=by(token))).status_code == 200, "it was not used up"


@pytest.mark.parametrize("path", ["/api/sign-in", "/api/orders", "/api/users/me/wallets", "/api/pools"])
async def test_what_is_no_json_counts_too(connect: Connect, path: str):
    async with connect(rate_limit_address_per_minute=3) as (client, _):
        json = {"Content-Type": "application/json"}
        codes = [(await client.post(path, content=b"{", headers=json)).status_code for _ in range(5)]
        assert codes == [400] * 3 + [429] * 2


async def test_every_route_but_those_of_monitoring_counts_what_arrives(connect: Connect):
    async with connect() as (_, db):
        routes = [route for route in create_app(NO_MONITOR, db).routes if isinstance(route, APIRoute)]
    assert {route.path for route in routes if not isinstance(route, CountedRoute)} == set(endpoints.PATHS)


async def test_where_signing_in_is_off_the_answer_says_so(connect: Connect):
    async with connect(sign_in_domain=None) as (client, _):
        assert code_of(await client.post("/api/sign-in/nonce")) == (403, "SIGN_IN_OFF")


async def test_more_keys_are_not_more_requests_for_their_user(connect: Connect):
    limits = {
        "rate_limit_user_per_minute": 9,
        "rate_limit_api_key_per_minute": 3,
        "rate_limit_write_per_minute": 4,
    }
    async with connect(**limits) as (client, db):
        token, user_id = await token_of(db, "trader")
        keys = [
            (
                await ApiKeyService(db).create(
                    user_id, name="bot", permissions=["users.read_own", "users.update_own"]
                )
            ).key
            for _ in range(5)
        ]
        codes = [(await client.get("/api/users/me", headers=by(key))).status_code for key in keys for _ in range(5)]
        assert codes.count(200) == 9, "three by each of three keys; what a key is refused is not counted"
        assert code_of(await client.get("/api/users/me", headers=by(token))) == (429, "RATE_LIMITED")
        other, other_id = await token_of(db, "trader")
        of_other = (await ApiKeyService(db).create(other_id, name="bot", permissions=["users.update_own"])).key
        tokens = [other, of_other, other, of_other, other, of_other]
        codes = [(await client.patch("/api/users/me", json={}, headers=by(one))).status_code for one in tokens]
        assert codes == [200] * 4 + [429] * 2


async def test_with_the_cache_server_away_requests_are_served(fresh_databases: DatabasePair):
    async with fresh_databases.connection(cache="redis://127.0.0.1:1", sessions="redis://127.0.0.1:1") as db:
        transport = httpx.ASGITransport(create_app(NO_MONITOR, db), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://novadex") as client:
            token, _ = await token_of(db, "user")
            answer = await client.get("/api/users/me", headers=by(token))
            assert answer.status_code == 200
            assert "ratelimit" not in answer.headers


# Bad input


BAD_BODIES: list[bytes] = [
    b"",
    b"{",
    b"null",
    b"[]",
    b'"text"',
    b"\xff\xfe",
    b'{"message": 1, "signature": 2}',
    b'{"message": null, "signature": null}',
    b'{"message": "m", "signature": "s", "role": "admin"}',
    b'{"message": {"$gt": ""}, "signature": ["s"]}',
    b'{"message": "' + b"m" * 5_000 + b'", "signature": "s"}',
    b'{"message": "\\u0000", "signature": "\\ud800"}',
    b"[" * 20_000,
    b'{"a":' * 8_000,
]


@pytest.mark.parametrize("body", BAD_BODIES, ids=lambda body: body[:20].decode("latin-1"))
async def test_a_malformed_body_is_refused(connect: Connect, body: bytes):
    async with connect(rate_limits=False) as (client, db):
        token, _ = await token_of(db, "trader")
        headers = {**by(token), "Content-Type": "application/json"}
        for method, path in (
            ("POST", "/api/sign-in"),
            ("POST", "/api/sign-in/message"),
            ("POST", "/api/users/me/wallets"),
            ("POST", "/api/api-keys"),
            ("PATCH", "/api/users/me"),
        ):
            answer = await client.request(method, path, content=body, headers=headers)
            assert answer.status_code in (400, 401), (path, answer.status_code, answer.text)
            assert answer.json()["error"]["code"]


async def test_a_body_that_is_too_long_is_refused_whether_it_says_so_or_not(client: httpx.AsyncClient):
    long = b'{"message": "' + b"m" * BODY_BYTES_MAX + b'", "signature": "s"}'

    async def in_pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(long), 1_000):
            yield long[start : start + 1_000]

    headers = {"Content-Type": "application/json"}
    for content in (long, in_pieces()):
        answer = await client.post("/api/sign-in", content=content, headers=headers)
        assert answer.status_code == 413
        assert set(answer.json()) == {"error"}


@pytest.mark.parametrize("bad", ["x", "%00", "%27%20OR%201=1--", "..%2f..%2fetc", "0" * 3_000, "%F0%9F%92%A9"])
async def test_a_malformed_id_is_refused(connect: Connect, bad: str):
    async with connect(rate_limits=False) as (client, db):
        token, _ = await token_of(db, "admin")
        for method, path in (
            ("GET", "/api/users/{}"),
            ("DELETE", "/api/sessions/{}"),
            ("DELETE", "/api/api-keys/{}"),
            ("GET", "/api/sessions?user_id={}"),
            ("GET", "/api/users?cursor={}"),
            ("GET", "/api/users?limit={}"),
            ("GET", "/api/users?role={}"),
            ("GET", "/api/users?status={}"),
            ("DELETE", "/api/users/me/wallets/evm/{}"),
            ("DELETE", "/api/users/me/wallets/{}/x"),
        ):
            answer = await client.request(method, path.format(bad), headers=by(token))
            assert answer.status_code in (400, 404), (method, path, answer.status_code, answer.text)
            assert answer.json()["error"]["code"] in ("INVALID_VALUE", "NOT_FOUND"), answer.text


@pytest.fixture
def logged(capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[[], str]]:
    """Everything that a program would log, as programs do; call it once."""
    root, clients = logging.getLogger(), [logging.getLogger(name) for name in ("httpx", "httpcore")]
    handlers, level, configuration = root.handlers[:], root.level, structlog.get_config()
    configure_logs("api", "debug")
    for client in clients:  # of the test: it logs the addresses that it asks
        client.setLevel(logging.WARNING)
    yield lambda: "".join(capfd.readouterr())
    structlog.configure(**configuration)
    root.handlers[:] = handlers
    root.setLevel(level)
    for client in clients:
        client.setLevel(logging.NOTSET)


async def test_tokens_are_not_in_the_logs(
    connect: Connect, logged: Callable[[], str], monkeypatch: pytest.MonkeyPatch
):
    async with connect() as (client, db):
        token, user_id = await token_of(db, "trader")
        key = (await ApiKeyService(db).create(user_id, name="bot", permissions=["users.read_own"])).key
        structlog.get_logger("novadex.http").debug("a harmless line", route="/harmless")
        for secret in (token, key):
            await client.get("/api/users/me", headers=by(secret))
            await client.get(f"/api/users/{secret}", headers=by(secret))
            await client.delete(f"/api/sessions/{secret}", headers=by(secret))
            await client.get("/api/users/me", headers=by(secret[:-1]))
        renewed = (await client.post("/api/session/refresh", headers=by(token))).json()["token"]
        await client.post("/api/session/refresh", headers=by(token))  # as a thief does

        async def fail(*_: object) -> None:
            raise RuntimeError("nobody foresaw this")

        for service in (SessionService, ApiKeyService):
            monkeypatch.setattr(service, "validate", fail)
        for secret in (renewed, key):
            assert (await client.get("/api/users/me", headers=by(secret))).status_code == 500
    text = logged()
    for line in ("a harmless line", "a replaced token was shown again", "nobody foresaw this"):
        assert line in text, "the logs are caught"
    for secret in (token, renewed, key):
        assert secret[4:-1] not in text
