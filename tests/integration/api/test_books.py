"""Books over HTTP."""

from __future__ import annotations

import httpx
import pytest

from novadex.api.app import create_app
from novadex.monitoring.monitor import Monitor
from tests.integration.book.orders import Orders


@pytest.fixture
async def client(fresh_databases, cache_url, sessions_url):
    async with fresh_databases.connection("app", cache=cache_url, sessions=sessions_url) as db:
        app = create_app(Monitor("api", db, db.endpoints), db)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            yield client


async def test_anybody_may_see_a_book(client, fresh_databases, market, make_market, users):
    make_market("ETH/USDT-PERP", 18, 18)
    orders = Orders(fresh_databases.main_url("app"), market, users(1)[0])
    orders.place_many([("buy", "100.50", "2"), ("buy", 99, 1), ("sell", 101, "0.000001")])
    orders.close()
    answer = await client.get("/api/markets/BTC/USDT/book?depth=1")
    assert answer.status_code == 200
    assert answer.json() == {
        "market": "BTC/USDT",
        "sequence": 3,
        "checksum": answer.json()["checksum"],
        "bids": [["100.5", "2"]],
        "asks": [["101", "0.000001"]],
        "source": "orders",
    }
    assert len((await client.get("/api/markets/BTC%2FUSDT/book", params={"depth": 0})).json()["bids"]) == 2
    assert (await client.get("/api/markets/ETH/USDT-PERP/book")).json()["bids"] == []
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("BTC/USDT/book?depth=-1", 400),
        ("BTC/USDT/book?depth=x", 400),
        ("BTC/USDT/book?depth=99999999999", 400),
        ("ETH/USDT/book", 404),
        ("nothing/book", 400),
        ("a/../../b/book", 404),
    ],
)
async def test_what_is_wrong_is_refused(client, market, path, status):
    answer = await client.get(f"/api/markets/{path}")
    assert answer.status_code == status
    assert answer.json()["error"]["message"]
    if "depth" in path:
        assert "/api/docs" in answer.json()["error"]["hint"]
