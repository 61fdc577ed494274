"""Notifications over HTTP."""

from __future__ import annotations

from uuid import UUID

import psycopg
import pytest

from novadex.notifications.service import NotificationService
from tests.conftest import MarketRow
from tests.integration.api.test_people import Connect, by, code_of, connect, token_of

__all__ = ["connect"]
PATHS = [
    ("GET", ""),
    ("GET", "/unread"),
    ("POST", "/read"),
    ("GET", "/preferences"),
    ("PUT", "/preferences/order_filled/email"),
    ("GET", "/webhook"),
    ("PUT", "/webhook"),
    ("DELETE", "/webhook"),
    ("GET", "/alerts"),
    ("POST", "/alerts"),
    ("DELETE", f"/alerts/{UUID(int=7)}"),
    ("POST", f"/{UUID(int=7)}/read"),
]


async def test_a_user_reads_and_decides(connect: Connect, market: MarketRow):
    async with connect() as (client, db):
        token, user = await token_of(db, "trader")
        notices = NotificationService(db).notices
        for number in range(3):
            await notices.send_to(user, f"Notice {number}", "Text")
        client.headers.update(by(token))
        base = "/api/notifications"
        page = (await client.get(base, params={"limit": 2})).json()
        assert [item["title"] for item in page["items"]] == ["Notice 2", "Notice 1"]
        rest = (await client.get(base, params={"cursor": page["next"]})).json()
        assert [item["title"] for item in rest["items"]] == ["Notice 0"]
        assert (await client.get(f"{base}/unread")).json() == {"unread": 3}
        assert (await client.post(f"{base}/{page['items'][0]['id']}/read")).status_code == 204
        assert (await client.get(f"{base}/unread")).json() == {"unread": 2}
        answer = await client.post(f"{base}/read", json={"up_to": rest["items"][0]["id"]})
        assert answer.json() == {"marked": 1}
        assert [i["title"] for i in (await client.get(base, params={"unread": True})).json()["items"]] == ["Notice 1"]

        assert (await client.put(f"{base}/preferences/order_filled/email", json={"enabled": True})).status_code == 204
        wishes = (await client.get(f"{base}/preferences")).json()
        assert [w["enabled"] for w in wishes if (w["kind"], w["channel"]) == ("order_filled", "email")] == [True]
        refused = await client.put(f"{base}/preferences/new_device/email", json={"enabled": False})
        assert code_of(refused) == (409, "CONFLICT")

        assert (await client.get(f"{base}/webhook")).json() is None
        made = (await client.put(f"{base}/webhook", json={"url": "https://hooks.example/x"})).json()
        assert made["secret"].startswith("whsec_")
        assert (await client.get(f"{base}/webhook")).json() == made["webhook"]
        refused = await client.put(f"{base}/webhook", json={"url": "https://169.254.169.254/"})
        assert code_of(refused) == (400, "INVALID_VALUE")
        assert (await client.delete(f"{base}/webhook")).status_code == 204
        assert code_of(await client.delete(f"{base}/webhook")) == (404, "NOT_FOUND")

        wanted = {"market": "BTC/USDT", "direction": "above", "price": "65000.5"}
        alert = await client.post(f"{base}/alerts", json=wanted)
        assert alert.status_code == 201
        assert alert.json()["price"] == "65000.5"
        assert (await client.get(f"{base}/alerts")).json()["items"] == [alert.json()]
        assert (await client.delete(f"{base}/alerts/{alert.json()['id']}")).status_code == 204
        for wrong in (
            *({**wanted, "price": price} for price in (65000.5, "0", "-1")),
            {**wanted, "direction": "up"},
            {**wanted, "more": 1},
        ):
            assert code_of(await client.post(f"{base}/alerts", json=wrong)) == (400, "INVALID_VALUE")


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_without_a_token_there_is_nothing(connect: Connect, method: str, path: str):
    async with connect() as (client, _):
        answer = await client.request(method, f"/api/notifications{path}", json={} if method != "GET" else None)
        assert code_of(answer) == (401, "NOT_AUTHENTICATED")


async def test_a_webhook_wants_a_sign_in_a_short_while_ago(connect: Connect):
    async with connect(reauthentication_s=1) as (client, db):
        token, user = await token_of(db, "trader")
        with psycopg.connect(db.endpoints.main.replace("novadex_app", "novadex_owner")) as connection:
            connection.execute(
                "UPDATE user_sessions SET authenticated_at = now() - interval '1 hour' WHERE user_id = %s", (user,)
            )
        answer = await client.put("/api/notifications/webhook", json={"url": "https://x.example/"}, headers=by(token))
        assert code_of(answer) == (401, "REAUTHENTICATION_NEEDED")
