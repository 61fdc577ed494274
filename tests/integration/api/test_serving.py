"""The API on a real port, as programs serve it: where a request comes from is what the socket says, unless the proxy
before it is one of ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from starlette.requests import Request

from novadex.api.access import Access
from novadex.api.app import create_app
from novadex.api.serving import listen, serve
from novadex.monitoring.monitor import Monitor
from novadex.sessions.service import SessionService
from novadex.storage.connection import DatabaseConnection
from novadex.users.service import UserService
from tests.conftest import DatabasePair
from tests.unit.sign_in.negatives import DOMAIN

NO_MONITOR: Monitor = None  # pyright: ignore[reportAssignmentType] - these routes ask no monitor


@asynccontextmanager
async def served(db: DatabaseConnection) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API of ``db``, over a socket."""
    stop = asyncio.Event()
    with listen("127.0.0.1", 0, "NOVADEX_API_PORT") as listener:
        serving = asyncio.create_task(serve(create_app(NO_MONITOR, db), listener, stop))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with httpx.AsyncClient(base_url=url) as client:
            yield client
        stop.set()
        await serving


@pytest.mark.parametrize("trusted", [None, "127.0.0.0/8"])
async def test_what_a_client_says_of_its_address_counts_only_from_a_proxy_of_ours(
    fresh_databases: DatabasePair, cache_url: str, trusted: str | None
):
    async with (
        fresh_databases.connection(
            cache=cache_url, sign_in_domain=DOMAIN, rate_limit_sign_in_per_minute=2, trusted_proxies=trusted
        ) as db,
        served(db) as client,
    ):
        user = await UserService(db).create_user(role="trader")
        token = (await SessionService(db).create(user.id)).token
        wanted = {"name": "bot", "permissions": ["users.read_own"], "allowed_addresses": ["192.0.2.0/24"]}
        made = await client.post("/api/api-keys", json=wanted, headers={"Authorization": f"Bearer {token}"})
        by_key = {"Authorization": f"Bearer {made.json()['key']}"}
        assert (await client.get("/api/users/me", headers=by_key)).status_code == 401
        forged = await client.get("/api/users/me", headers={**by_key, "X-Forwarded-For": "192.0.2.7"})
        codes = [
            (await client.post("/api/sign-in/nonce", headers={"X-Forwarded-For": f"198.51.100.{n}"})).status_code
            for n in range(4)
        ]
        junk = await client.post("/api/sign-in/nonce", headers={"X-Forwarded-For": "nonsense, ::::, 300.1.1.1"})
        if trusted:
            assert (forged.status_code, codes, junk.status_code) == (200, [200] * 4, 200)
        else:
            assert (forged.status_code, codes, junk.status_code) == (401, [200, 200, 429, 429], 429)


@pytest.mark.parametrize(
    ("host", "address"),
    [("::ffff:192.0.2.7", "192.0.2.7"), ("2001:DB8::1", "2001:db8::1"), ("/run/novadex.sock", None), ("", None)],
)
async def test_an_address_is_in_its_usual_form_and_what_is_none_is_unknown(
    db: DatabaseConnection, host: str, address: str | None
):
    request = Request({"type": "http", "client": (host, 0), "headers": []})
    assert Access(db).address_of(request) == address


async def test_one_ipv6_site_cannot_begin_all_sign_ins_by_changing_its_address(
    fresh_databases: DatabasePair, cache_url: str
):
    async with (
        fresh_databases.connection(
            cache=cache_url, sign_in_domain=DOMAIN, rate_limit_sign_in_per_minute=2, trusted_proxies="127.0.0.0/8"
        ) as db,
        served(db) as client,
    ):

        async def code_from(address: str) -> int:
            return (await client.post("/api/sign-in/nonce", headers={"X-Forwarded-For": address})).status_code

        codes = [await code_from(f"2001:db8:1:{number:x}::1") for number in range(22)]
        assert codes == [200] * 20 + [429] * 2
        assert await code_from("2001:db8:2::1") == 200, "another site"
