"""Portfolios, transfers and liquidity over HTTP: exact strings, one's own, and what staff may do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from novadex.api.app import create_app
from novadex.portfolio.projection import PortfolioProjection
from novadex.trading.service import TradingService
from tests.conftest import DatabasePair
from tests.integration.analytics.records import drain
from tests.integration.api.test_people import NO_MONITOR, by, code_of, token_of


@pytest.fixture
async def client(
    fresh_databases: DatabasePair, cache_url: str, sessions_url: str, market: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, Any]]:
    async with fresh_databases.connection(cache=cache_url, sessions=sessions_url) as db:
        transport = httpx.ASGITransport(create_app(NO_MONITOR, db), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://novadex") as client:
            yield client, db


async def test_a_portfolio_from_the_first_deposit_to_a_snapshot(client: Any, worker_db: Any) -> None:
    http, db = client
    operator, _ = await token_of(db, "operator")
    trader, user = await token_of(db, "trader")
    deposit = {"user_id": str(user), "kind": "deposit", "asset": "USDT", "amount": "1000.5", "source": "evm"}
    made = await http.post("/api/transfers", json={**deposit, "source_transfer_id": "0xa:1"}, headers=by(operator))
    again = await http.post("/api/transfers", json={**deposit, "source_transfer_id": "0xa:1"}, headers=by(operator))
    assert (made.status_code, made.json()) == (201, again.json())
    assert made.json()["amount"] == "1000.5"
    async with TradingService(db) as trading:
        await trading.create_trade(
            user_id=user,
            market="BTC/USDT",
            side="buy",
            base_amount="0.01",
            quote_amount="600",
            price="60000",
            fee_amount="0.6",
            fee_asset="USDT",
        )
    await drain(PortfolioProjection(worker_db.main, worker_db.settings))
    assert (
        await http.post("/api/prices", json={"market": "BTC/USDT", "price": "61000"}, headers=by(operator))
    ).status_code == 204

    shown = (await http.get("/api/portfolio", headers=by(trader))).json()
    assert (shown["total_value"], shown["net_transfers"]) == ("1009.9", "1000.5")
    assert (shown["unrealized"], shown["fees"], shown["realized"]) == ("10", "0.6", "0")
    holdings = (await http.get("/api/portfolio/holdings", headers=by(trader))).json()
    assert [(h["asset"], h["amount"]) for h in holdings] == [("BTC", "0.01"), ("USDT", "399.9")]
    (position,) = (await http.get("/api/portfolio/positions", headers=by(trader))).json()
    assert (position["quantity"], position["cost"], position["fees"]) == ("0.01", "600", {"USDT": "0.6"})
    lots = (await http.get("/api/portfolio/lots?market=BTC/USDT", headers=by(trader))).json()
    assert [(lot["quantity"], lot["cost"]) for lot in lots["items"]] == [("0.01", "600")]
    closings = await http.get("/api/portfolio/closings?market=BTC/USDT", headers=by(trader))
    assert closings.json() == {"items": [], "next": None}
    taken = await http.post("/api/portfolio/snapshots", json={}, headers=by(trader))
    assert taken.status_code == 201
    snapshots = (await http.get("/api/portfolio/snapshots", headers=by(trader))).json()
    assert snapshots["items"] == [taken.json()]

    undone = await http.post(f"/api/transfers/{made.json()['id']}/reverse", json={"note": "x"}, headers=by(operator))
    assert undone.json()["amount"] == "-1000.5"
    mine = (await http.get("/api/transfers?kind=deposit", headers=by(trader))).json()
    assert {item["amount"] for item in mine["items"]} == {"1000.5", "-1000.5"}
    one = await http.get(f"/api/transfers/{made.json()['id']}", headers=by(trader))
    assert one.json() == made.json()


async def test_a_liquidity_position_over_http(client: Any) -> None:
    http, db = client
    operator, _ = await token_of(db, "operator")
    trader, user = await token_of(db, "trader")
    pool = {"address": "0xpool", "market": "BTC/USDT", "kind": "concentrated", "fee": "0.003", "tick_spacing": 60}
    assert (await http.post("/api/pools", json=pool, headers=by(operator))).status_code == 201
    assert (await http.get("/api/pools", headers=by(trader))).json()["items"][0]["fee_ppm"] == 3000
    opened = {
        "user_id": str(user),
        "pool": "0xpool",
        "liquidity": str(2**127),
        "base_amount": "1",
        "quote_amount": "2",
        "tick_lower": -60,
        "tick_upper": 60,
    }
    position = await http.post("/api/liquidity/positions", json=opened, headers=by(operator))
    assert (position.status_code, position.json()["liquidity"]) == (201, str(2**127))
    path = f"/api/liquidity/positions/{position.json()['id']}"
    for event in (
        {"type": "increased", "liquidity": "5", "base_amount": "1"},
        {"type": "decreased", "liquidity": "6", "quote_amount": "1"},
        {"type": "collected", "quote_fees": "0.25"},
        {"type": "closed", "base_amount": "2", "quote_amount": "1"},
    ):
        assert (await http.post(f"{path}/events", json=event, headers=by(operator))).status_code == 201
    assert (await http.get(path, headers=by(trader))).json()["status"] == "closed"
    events = (await http.get(f"{path}/events", headers=by(trader))).json()["items"]
    assert [(e["type"], e["liquidity"]) for e in events][1:3] == [
        ("increased", str(2**127 + 5)),
        ("decreased", str(2**127 - 1)),
    ]
    assert len((await http.get("/api/liquidity/positions?status=closed", headers=by(trader))).json()["items"]) == 1
    assert (await http.get("/api/pools/0xpool/snapshots", headers=by(trader))).json() == {"items": [], "next": None}
    assert code_of(await http.get(f"{path}/value", headers=by(trader))) == (503, "UNAVAILABLE")


async def test_how_a_constant_product_stands_over_http(client: Any) -> None:
    http, db = client
    operator, _ = await token_of(db, "operator")
    trader, _ = await token_of(db, "trader")
    pool = {"address": "pair", "market": "BTC/USDT", "kind": "constant_product", "fee": "0.003"}
    await http.post("/api/pools", json=pool, headers=by(operator))
    state = {
        "liquidity": str(2**200),
        "base_reserve": "20",
        "quote_reserve": "8000",
        "taken_at": "2026-01-05T10:00:00Z",
    }
    path = "/api/pools/pair/snapshots"
    assert code_of(await http.post(path, json=state, headers=by(trader))) == (403, "PERMISSION_DENIED")
    taken = await http.post(path, json=state, headers=by(operator))
    assert (taken.status_code, taken.json()["liquidity"]) == (201, str(2**200))
    assert (await http.post(path, json=state, headers=by(operator))).json() == taken.json()
    other = await http.post(path, json={**state, "base_reserve": "21"}, headers=by(operator))
    assert code_of(other) == (409, "CONFLICT")
    assert (await http.get(path, headers=by(trader))).json()["items"] == [taken.json()]


async def test_what_is_not_ones_own_is_refused(client: Any) -> None:
    http, db = client
    trader, user = await token_of(db, "trader")
    _, other = await token_of(db, "trader")
    for path in ("/api/portfolio", "/api/portfolio/holdings", "/api/transfers", "/api/liquidity/positions"):
        assert code_of(await http.get(f"{path}?user_id={other}", headers=by(trader))) == (403, "PERMISSION_DENIED")
        assert (await http.get(path)).status_code == 401
    deposit = {"user_id": str(user), "kind": "deposit", "asset": "USDT", "amount": "1"}
    assert code_of(await http.post("/api/transfers", json=deposit, headers=by(trader))) == (403, "PERMISSION_DENIED")
    for wrong in ({**deposit, "amount": 1}, {**deposit, "gift": True}):
        assert code_of(await http.post("/api/transfers", json=wrong, headers=by(trader))) == (400, "INVALID_VALUE")
