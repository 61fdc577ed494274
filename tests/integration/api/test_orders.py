"""Orders over HTTP: one's own, or for staff anybody's."""

from __future__ import annotations

from typing import Any

import pytest

from novadex.sessions.service import SessionService
from tests.integration.api.test_people import Connect, by, client, connect

__all__ = ["client", "connect"]

ORDER = {"market": "SOL/USDC", "side": "buy", "type": "limit", "quantity": "2", "price": "100.5"}


@pytest.fixture
async def people(db: Any, users: Any, sol_market: Any) -> dict[str, Any]:
    """A trader, another one and somebody of support: ids and tokens."""
    found: dict[str, Any] = {}
    for name, role in (("me", "trader"), ("other", "trader"), ("support", "support"), ("reader", "user")):
        [id] = users(1)
        await db.main.execute("UPDATE users SET role = $2 WHERE id = $1", [id, role])
        found[name] = (str(id), by((await SessionService(db).create(id)).token))
    return found


async def test_an_order_is_placed_changed_and_cancelled_by_its_owner(client: Any, people: dict[str, Any]) -> None:
    id, me = people["me"]
    answer = await client.post("/api/orders", json={**ORDER, "client_order_id": "mine"}, headers=me)
    assert answer.status_code == 201
    order = answer.json()
    assert (order["user_id"], order["quantity"], order["status"]) == (id, "2", "open")
    again = await client.post("/api/orders", json={**ORDER, "client_order_id": "mine"}, headers=me)
    assert again.json() == order
    other = await client.post("/api/orders", json={**ORDER, "client_order_id": "mine", "side": "sell"}, headers=me)
    assert (other.status_code, other.json()["error"]["code"]) == (409, "CONFLICT")
    path = f"/api/orders/{order['id']}"
    assert (await client.get(path, headers=me)).json() == order
    amended = await client.patch(path, json={"quantity": "3", "price": "99"}, headers=me)
    assert (amended.json()["quantity"], amended.json()["version"]) == ("3", 2)
    assert [o["id"] for o in (await client.get("/api/orders?live=true", headers=me)).json()["items"]] == [order["id"]]
    cancelled = await client.delete(path, params={"reason": "enough"}, headers=me)
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    events = (await client.get(f"{path}/events", headers=me)).json()["items"]
    assert [event["type"] for event in events] == ["placed", "amended", "cancelled"]
    assert (await client.patch(path, json={"quantity": "4"}, headers=me)).status_code == 409


async def test_orders_of_others_are_not_there_but_for_staff(client: Any, people: dict[str, Any]) -> None:
    me, (other_id, other) = people["me"][1], people["other"]
    support, reader = people["support"][1], people["reader"][1]
    order = (await client.post("/api/orders", json=ORDER, headers=other)).json()
    path = f"/api/orders/{order['id']}"
    for answer in (
        await client.get(path, headers=me),
        await client.get(f"{path}/events", headers=me),
        await client.patch(path, json={"price": "1"}, headers=me),
        await client.delete(path, headers=me),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "NOT_FOUND")
    assert (await client.get("/api/orders", params={"user_id": other_id}, headers=me)).status_code == 403
    assert (await client.post("/api/orders", json={**ORDER, "user_id": other_id}, headers=me)).status_code == 403
    assert (await client.delete("/api/orders", params={"user_id": other_id}, headers=me)).status_code == 403
    assert (await client.post("/api/orders", json=ORDER, headers=reader)).status_code == 403
    assert (await client.get(path)).status_code == 401
    assert (await client.get(path, headers=support)).json() == order
    assert (await client.patch(path, json={"price": "1"}, headers=support)).status_code == 403
    assert (await client.delete("/api/orders", headers=me)).json() == {"cancelled": 0}
    assert (await client.delete("/api/orders", params={"user_id": other_id}, headers=support)).json() == {
        "cancelled": 1
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"quantity": 2},
        {"quantity": "0"},
        {"price": None},
        {"side": "long"},
        {"more": "x"},
        {"market": "sol"},
        {"expires_at": "9999-12-31T23:59:59-12:00", "time_in_force": "gtt"},
    ],
)
async def test_a_wrong_order_is_refused_by_name(client: Any, people: dict[str, Any], wrong: dict[str, Any]) -> None:
    answer = await client.post("/api/orders", json={**ORDER, **wrong}, headers=people["me"][1])
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "INVALID_VALUE")
    assert next(iter(wrong)) in str(answer.json()["error"])


async def test_writing_is_limited(connect: Connect, people: dict[str, Any]) -> None:
    async with connect(rate_limit_write_per_minute=2) as (client, _):
        answers = [await client.post("/api/orders", json=ORDER, headers=people["me"][1]) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [201, 201, 429, 429]
