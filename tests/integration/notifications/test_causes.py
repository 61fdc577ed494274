"""Prices that are reached, sign-ins from new devices, notices: each is told once, and in bounded batches."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import psycopg
import pytest

from novadex.analytics.log import SQL as LOG
from novadex.errors import ConflictError, NotFoundError, ValidationError
from novadex.ids import time_of, uuid7
from novadex.notifications.alerts import ALERTS_MAX
from novadex.notifications.causes import QUERIES, NoticeSpreader, PriceAlertWatch, SignInWatch
from novadex.notifications.service import NotificationService
from novadex.sessions.service import SessionService
from novadex.storage.connection import DatabaseConnection
from novadex.users.service import UserService
from novadex.worker.housekeeping import NOTIFICATIONS_DAYS, delete_old_notifications
from tests.integration.analytics.records import made_final
from tests.integration.notifications.conftest import Connect
from tests.integration.notifications.venue import Venue

AddUser = Callable[..., Awaitable[UUID]]
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:{0}.0) Gecko/20100101 Firefox/{0}.0"


class Watch(PriceAlertWatch):
    """It looks when what is under way in other databases of the server is over: that holds back what is final."""

    async def look(self) -> int:
        await made_final(self._db.main)
        return await super().look()


async def prices_told(service: NotificationService, user: UUID) -> list[str]:
    page = await service.list(user, kind="price_alert")
    return [item.data["price"] for item in reversed(page.items)]


async def test_an_alert_is_told_when_a_trade_reaches_its_price(
    service: NotificationService, worker: DatabaseConnection, venue: Venue, add_user: AddUser
):
    user, trader = await add_user("ada"), await add_user("trader")
    watch = Watch(worker, batch_trades=2)
    await watch.look()
    venue.trade(trader, 500)  # before there is an alert
    above = await service.alerts.create(user, market="BTC/USDT", direction="above", price="110.5")
    below = await service.alerts.create(user, market="BTC/USDT", direction="below", price=90)
    venue.trade(trader, 1_000, executed_at=datetime.now(UTC) - timedelta(hours=1))  # imported later
    for price in (100, 110, "110.5", 120, 91):
        venue.trade(trader, price)
    assert await watch.look() == 1
    for price in (90, 80, 110):
        venue.trade(trader, price)
    assert await watch.look() == 1
    assert await watch.look() == 0
    assert await prices_told(service, user) == ["110.5", "90"]
    found = {alert.id: alert.status for alert in (await service.alerts.list(user)).items}
    assert found == {above.id: "done", below.id: "done"}
    [_, first] = (await service.list(user)).items
    assert first.title == "BTC/USDT is above 110.5"


async def test_an_alert_that_repeats_waits_until_the_price_is_back(
    service: NotificationService, worker: DatabaseConnection, venue: Venue, add_user: AddUser
):
    user, trader = await add_user("ada"), await add_user("trader")
    watch = Watch(worker)
    await watch.look()
    await service.alerts.create(user, market="BTC/USDT", direction="above", price=100, once=False)
    told = []
    for price in (99, 101, 102, 100, 99, 98, 103, 104):
        venue.trade(trader, price)
        told.append(await watch.look())
    assert told == [0, 1, 0, 0, 0, 0, 1, 0]
    assert await prices_told(service, user) == ["101", "103"]


async def test_a_trade_whose_transaction_began_first_and_committed_last_is_not_missed(
    service: NotificationService, worker: DatabaseConnection, venue: Venue, add_user: AddUser
):
    user, trader = await add_user("ada"), await add_user("trader")
    watch = Watch(worker)
    await service.alerts.create(user, market="BTC/USDT", direction="above", price=200)
    await watch.look()
    with venue.writing() as slow:
        venue._trade(slow, trader, 1, 250, None)  # type: ignore[arg-type]
        venue.trade(trader, 100)
        assert await watch.look() == 0
    assert await watch.look() == 1


async def test_after_a_restore_alerts_begin_at_the_end_of_the_log(
    service: NotificationService, worker: DatabaseConnection, venue: Venue, add_user: AddUser
):
    user, trader = await add_user("ada"), await add_user("trader")
    watch = Watch(worker)
    await service.alerts.create(user, market="BTC/USDT", direction="above", price=200)
    await watch.look()
    with psycopg.connect(venue.url) as connection:
        connection.execute("UPDATE price_alert_position SET xid = '999999999'")  # of a life that went further
    venue.trade(trader, 250)
    assert await watch.look() == 0
    venue.trade(trader, 251)
    assert await watch.look() == 1
    with psycopg.connect(venue.url) as connection:
        connection.execute("UPDATE recovery_epoch SET epoch = epoch + 1")
    assert await watch.look() == 0


def set_alerts(venue: Venue, user: UUID, count: int, price: str, *, once: bool = True) -> None:
    """Many alerts at the prices that an expression of SQL gives for n from 1, since a minute ago."""
    with psycopg.connect(venue.url) as connection:
        connection.execute(
            "INSERT INTO price_alerts (id, user_id, market_id, direction, price, once, watched_from)"
            " SELECT overlay(uuidv7()::text placing '7' from 15 for 1)::uuid, %s, %s, 'above',"
            f" {price}, %s, now() - interval '1 minute' FROM generate_series(1, %s) AS n".encode(),
            (user, venue.market.id, once, count),
        )


def trades_together(venue: Venue, trader: UUID, trades: Sequence[tuple[int, datetime | None]]) -> list[UUID]:
    """In one transaction: (price, executed_at)."""
    with venue.writing() as connection:
        return [
            venue._trade(connection, trader, Decimal(1), Decimal(price), None, executed_at)
            for price, executed_at in trades
        ]


async def test_a_jump_over_many_alerts_is_told_in_bounded_transactions(
    service: NotificationService, worker: DatabaseConnection, venue: Venue, add_user: AddUser
):
    user, trader = await add_user("ada"), await add_user("trader")
    watch = Watch(worker, batch_alerts=20)
    await watch.look()
    set_alerts(venue, user, 50, "100 + mod(n, 5)")
    now = datetime.now(UTC)
    trades_together(venue, trader, [(price, now + timedelta(milliseconds=price)) for price in range(99, 120)])
    assert await watch.look() == 50
    assert await watch.look() == 0
    with psycopg.connect(venue.url) as connection:
        transactions = connection.execute("SELECT count(*) FROM notifications GROUP BY xmin ORDER BY 1").fetchall()
        wrong = connection.execute(
            "SELECT count(*) FROM notifications WHERE data->>'price' <> data->>'limit_price'"
        ).fetchone()
    assert transactions == [(10,), (20,), (20,)]
    assert wrong == (0,), "each hears of the first price that reached it"


@pytest.mark.parametrize("analyzed", [False, True], ids=["no statistics", "statistics"])
async def test_alerts_are_looked_for_along_the_log_and_held_by_their_ids(
    venue: Venue, add_user: AddUser, analyzed: bool
):
    """Also in a transaction that is kept from sorting and from reading tables whole."""
    user = await add_user("ada")
    set_alerts(venue, user, 10_000, "100 + n / 10000.0")
    trades_together(venue, user, [(100, None)] * 1_000)
    nothing, everything = ("0", UUID(int=0)), ("999999999", UUID(int=(1 << 128) - 1))
    with psycopg.connect(venue.url) as connection:
        if analyzed:
            connection.execute("ANALYZE trades, price_alerts")
        psycopg.RawCursor(connection).execute(LOG.read_in_order.sql)
        for query in (QUERIES.trigger_alerts, QUERIES.rearm_alerts):
            plan = psycopg.RawCursor(connection).execute(
                b"EXPLAIN " + query.sql.encode(), (*nothing, *everything, 500)
            )
            text = "\n".join(row[0] for row in plan.fetchall())
            scans = re.findall(r"Scan using (\w+) on trades_\w+", text)
            assert scans, text
            assert all("xid_id" in index for index in scans), text
            assert re.search(r"using price_alerts_pkey .*\n\s+Index Cond: ", text), text
            assert not re.search(r"using price_alerts_pkey .*\n(?!\s+Index Cond: )", text), text


async def test_alerts_that_were_told_in_parts_are_armed_again_once_the_price_is_back(
    service: NotificationService, worker: DatabaseConnection, venue: Venue, add_user: AddUser
):
    user, trader = await add_user("ada"), await add_user("trader")
    watch = Watch(worker, batch_alerts=4)
    await watch.look()
    set_alerts(venue, user, 10, "100", once=False)
    at = datetime.now(UTC)
    trades_together(venue, trader, [(110, at), (90, at + timedelta(milliseconds=1))])
    assert await watch.look() == 10
    assert await watch.look() == 0
    assert {alert.status for alert in (await service.alerts.list(user)).items} == {"armed"}
    venue.trade(trader, 105, executed_at=at + timedelta(milliseconds=2))
    assert await watch.look() == 10
    assert {alert.status for alert in (await service.alerts.list(user)).items} == {"waiting"}
    assert sorted(await prices_told(service, user)) == ["105"] * 10 + ["110"] * 10


@pytest.mark.parametrize("seed", range(5))
async def test_alerts_are_reached_by_the_first_trade_since_they_were_set(
    service: NotificationService, worker: DatabaseConnection, venue: Venue, add_user: AddUser, seed: int
):
    """Whatever the order in which trades are recorded, against each pair of a trade and an alert."""
    user, trader = await add_user("ada"), await add_user("trader")
    watch = Watch(worker, batch_alerts=7)
    await watch.look()
    dice, now = random.Random(seed), datetime.now(UTC)  # noqa: S311 - prices
    moments = [now - timedelta(milliseconds=number) for number in range(20)]
    alerts = {
        uuid7(): (dice.choice(["above", "below"]), dice.randint(85, 115), dice.choice(moments)) for _ in range(60)
    }
    with psycopg.connect(venue.url) as connection:
        for id, (direction, price, since) in alerts.items():
            connection.execute(
                "INSERT INTO price_alerts (id, user_id, market_id, direction, price, watched_from)"
                " VALUES (%s, %s, %s, %s, %s, %s)",
                (id, user, venue.market.id, direction, price, since),
            )
    prices = [(dice.randint(90, 110), dice.choice(moments)) for _ in range(12)]
    trades = list(zip(trades_together(venue, trader, prices), (price for price, _ in prices), strict=True))
    expected = {}
    for id, (direction, limit, since) in alerts.items():
        reached = [
            (time_of(trade), trade.int, price)
            for trade, price in trades
            if time_of(trade) >= since and (price >= limit if direction == "above" else price <= limit)
        ]
        if reached:
            expected[str(id)] = str(min(reached)[2])
    assert await watch.look() == len(expected)
    found = (await service.list(user, limit=100)).items
    assert {item.data["alert_id"]: item.data["price"] for item in found} == expected


async def test_workers_do_not_tell_of_one_alert_twice(
    service: NotificationService, connect: Connect, venue: Venue, add_user: AddUser
):
    user, trader = await add_user("ada"), await add_user("trader")
    watches = [Watch(await connect("worker"), batch_trades=1) for _ in range(3)]
    await watches[0].look()
    for number in range(10):
        await service.alerts.create(user, market="BTC/USDT", direction="above", price=100 + number)
    for number in range(10):
        venue.trade(trader, 100 + number)
    reached = 0
    while found := sum(await asyncio.gather(*(watch.look() for watch in watches))):
        reached += found
    assert reached == 10
    assert len(await prices_told(service, user)) == 10


async def test_alerts_are_bounded_checked_and_ones_own(service: NotificationService, venue: Venue, add_user: AddUser):
    user, other = await add_user("ada"), await add_user("bob")
    id = uuid7()
    alert = await service.alerts.create(user, market="BTC/USDT", direction="above", price=7, id=id)
    assert await service.alerts.create(user, market="BTC/USDT", direction="above", price="7.0", id=id) == alert
    with pytest.raises(ConflictError):
        await service.alerts.create(user, market="BTC/USDT", direction="below", price=7, id=id)
    with pytest.raises(ConflictError):
        await service.alerts.create(other, market="BTC/USDT", direction="above", price=7, id=id)
    for wrong in ({"direction": "up"}, {"price": "-1"}, {"price": "1e-40"}, {"market": "btc"}, {"id": "7"}):
        with pytest.raises(ValidationError):
            await service.alerts.create(
                user,
                **{"market": "BTC/USDT", "direction": "above", "price": 7, **wrong},  # type: ignore[arg-type]
            )
    with pytest.raises(NotFoundError):
        await service.alerts.create(user, market="ETH/USDT", direction="above", price=7)
    with pytest.raises(NotFoundError):
        await service.alerts.delete(other, id)
    with psycopg.connect(venue.url) as connection:
        connection.execute(
            "INSERT INTO price_alerts (id, user_id, market_id, direction, price)"
            " SELECT overlay(uuidv7()::text placing '7' from 15 for 1)::uuid, %s, %s, 'above', n"
            " FROM generate_series(2, %s) AS n",
            (user, venue.market.id, ALERTS_MAX),
        )
    with pytest.raises(ConflictError, match="100 prices already"):
        await service.alerts.create(user, market="BTC/USDT", direction="above", price=8)
    first = await service.alerts.list(user, limit=60)
    second = await service.alerts.list(user, limit=60, cursor=first.next)
    assert len({alert.id for alert in (*first.items, *second.items)}) == ALERTS_MAX
    assert second.next is None
    await service.alerts.delete(user, id)


async def test_a_sign_in_from_a_new_device_is_told_without_naming_it(
    service: NotificationService, app: DatabaseConnection, worker: DatabaseConnection, add_user: AddUser
):
    user, other = await add_user("ada"), await add_user("bob")
    sessions, watch = SessionService(app), SignInWatch(worker, batch_sign_ins=2)
    first = await sessions.create(user, device=FIREFOX.format(120), address="203.0.113.7")
    await sessions.create(other, device="Phone")
    assert await watch.look() == 0, "the first device is no news"
    await sessions.create(user, device=FIREFOX.format(121))
    await sessions.refresh(first.token)
    assert await watch.look() == 0, "nor is an update of it, or a refresh"
    for _ in range(2):
        await sessions.create(user, device="Phone", address="198.51.100.9")
    unnamed = await sessions.create(user)
    assert await watch.look() == 2
    assert await watch.look() == 0
    items = (await service.list(user)).items
    assert [item.kind for item in items] == ["new_device"] * 2
    assert items[0].data["session_id"] == str(unnamed.session.id)
    for item in items:
        assert not [word for word in ("Phone", "198.51") if word in f"{item.title} {item.body} {item.data}"]
    assert (await service.list(other)).items == []


async def test_who_signed_in_from_two_new_devices_before_anybody_looked_is_told_of_the_second(
    service: NotificationService, app: DatabaseConnection, worker: DatabaseConnection, add_user: AddUser
):
    user, gone = await add_user("ada"), await add_user("gone")
    sessions = SessionService(app)
    await sessions.create(user, device="Laptop")
    second = await sessions.create(user, device="Phone")
    await sessions.create(gone, device="Laptop")
    await UserService(app).erase_user(gone)
    assert await SignInWatch(worker).look() == 1
    [item] = (await service.list(user)).items
    assert item.data["session_id"] == str(second.session.id)
    with psycopg.connect(app.endpoints.main) as connection:
        assert connection.execute("SELECT count(*) FROM known_devices WHERE user_id = %s", (gone,)).fetchone() == (0,)


async def test_who_was_away_for_long_is_still_told_of_a_new_device(
    service: NotificationService, app: DatabaseConnection, worker: DatabaseConnection, venue: Venue, add_user: AddUser
):
    user = await add_user("ada")
    sessions, watch = SessionService(app), SignInWatch(worker)
    for device in ("Laptop", "Tablet", "Phone"):
        await sessions.create(user, device=device)
    await watch.look()
    with psycopg.connect(venue.url) as connection:
        connection.execute(
            "UPDATE known_devices SET last_seen_at = last_seen_at - make_interval(days => %s)",
            (NOTIFICATIONS_DAYS + 1,),
        )
    await delete_old_notifications(worker.main)
    with psycopg.connect(venue.url) as connection:
        kept = connection.execute("SELECT count(*) FROM known_devices WHERE user_id = %s", (user,)).fetchone()
    assert kept == (1,)
    await sessions.create(user, device="Somebody else's")
    assert await watch.look() == 1


async def test_a_notice_reaches_everybody_or_a_role_once(
    service: NotificationService, app: DatabaseConnection, connect: Connect, add_user: AddUser
):
    users = [await add_user(f"user{number}") for number in range(7)]
    people = UserService(app)
    auditor = (await people.create_user(role="auditor")).id
    away = (await people.create_user()).id
    await people.deactivate_user(away)
    id = uuid7()
    notice = await service.notices.send("Maintenance", "On Sunday.", id=id)
    assert notice == await service.notices.send("Maintenance", "On Sunday.", id=id)
    with pytest.raises(ConflictError):
        await service.notices.send("Maintenance", "On Monday.", id=id)
    await service.notices.send("Auditors", "Please audit.", role="auditor")
    with pytest.raises(ValidationError):
        await service.notices.send("x", "y", role="king")
    spreaders = [NoticeSpreader(await connect("worker"), batch_readers=3) for _ in range(2)]
    told = 0
    while found := sum(await asyncio.gather(*(spreader.spread() for spreader in spreaders))):
        told += found
    assert told == 9
    for user in users:
        assert [item.title for item in (await service.list(user)).items] == ["Maintenance"]
    assert {item.title for item in (await service.list(auditor)).items} == {"Auditors", "Maintenance"}
    assert (await service.list(away)).items == []
    with psycopg.connect(app.endpoints.main) as connection:
        assert connection.execute("SELECT bool_and(finished_at IS NOT NULL) FROM system_notices").fetchone() == (
            True,
        )


@pytest.mark.parametrize(
    "text",
    ["bell\x07", "\x00", "\x01" * 5_000, "\x7f", "next\x85line", "\ud800"],
    ids=["bell", "nul", "many", "delete", "next line", "half a character"],
)
async def test_a_notice_with_control_characters_is_refused(
    service: NotificationService, add_user: AddUser, text: str
):
    user = await add_user("ada")
    for title, body, field in ((text[:200], "Text", "title"), ("Title", text, "text")):
        with pytest.raises(ValidationError, match="control character") as caught:
            await service.notices.send(title, body)
        assert caught.value.field == field
        with pytest.raises(ValidationError, match="control character"):
            await service.notices.send_to(user, title, body)


@pytest.mark.parametrize("character", list('\n\r\t"\\\u2028\U0001f600'), ids=ascii)
async def test_the_longest_notice_is_told_whatever_it_is_made_of(
    service: NotificationService, worker: DatabaseConnection, add_user: AddUser, character: str
):
    user = await add_user("ada")
    await service.notices.send("x" + character * 199, "x" + character * 4_999)
    assert await NoticeSpreader(worker).spread() == 1
    [item] = (await service.list(user)).items
    assert item.data["text"] == "x" + character * 4_999
