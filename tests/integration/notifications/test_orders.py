"""Users are told what became of their orders: once for each event, in its order, whoever is killed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID

import psycopg
import pytest

from novadex.notifications.projection import OrderNotifier
from novadex.notifications.service import NotificationService
from novadex.storage.connection import DatabaseConnection
from novadex.users.service import UserService
from tests.integration.notifications.conftest import Connect
from tests.integration.notifications.venue import Venue

AddUser = Callable[..., Awaitable[UUID]]


async def told(service: NotificationService, user: UUID) -> list[tuple[str, str]]:
    """Kinds and titles, the oldest first."""
    page = await service.list(user, limit=500)
    return [(item.kind, item.title) for item in reversed(page.items)]


async def test_each_event_is_told_once_to_its_owner(
    service: NotificationService, worker: DatabaseConnection, venue: Venue, add_user: AddUser
):
    user, other = await add_user("ada"), await add_user("bob")
    await service.set_preference(user, "order_partially_filled", "in_app", True)
    order = venue.place(user)
    venue.fill(order, 4, 99)
    filled = venue.fill(order, 6)
    venue.bust(order, filled, 6)
    cancelled = venue.place(user)
    venue.end(cancelled, "cancelled", reason="market is closing")
    mine = venue.place(user)
    venue.end(mine, "cancelled", actor=f"user:{user}")
    expired, rejected = venue.place(user), venue.place(other)
    venue.end(expired, "expired")
    venue.end(rejected, "rejected", reason="no such <b>account</b>\r\nBcc: x@example.com")

    assert await OrderNotifier(worker, batch_events=3, batch_told=2).catch_up() == 12
    assert await OrderNotifier(worker).catch_up() == 0
    assert await told(service, user) == [
        ("order_partially_filled", "BTC/USDT: buy order partially filled"),
        ("order_filled", "BTC/USDT: buy order filled"),
        ("order_busted", "BTC/USDT: a fill was undone"),
        ("order_cancelled", "BTC/USDT: buy order cancelled"),
        ("order_expired", "BTC/USDT: buy order expired"),
    ]
    page = await service.list(user, kind="order_filled")
    assert page.items[0].body == "Your buy order of 10 in BTC/USDT is filled. The last fill was 6 at 100."
    assert page.items[0].data["order_id"] == str(order)
    assert page.items[0].read_at is None
    [refused] = (await service.list(other)).items
    assert refused.body == (
        "Your buy order of 10 in BTC/USDT was rejected. no such <b>account</b>\nBcc: x@example.com"
    )
    with psycopg.connect(venue.url) as connection:
        causes = connection.execute("SELECT cause_id FROM notifications WHERE kind = 'order_filled'").fetchall()
    assert causes == [(str(filled),)]


async def test_the_same_cause_is_not_told_again_even_when_the_position_is_lost(
    service: NotificationService, worker: DatabaseConnection, venue: Venue, add_user: AddUser
):
    user = await add_user("ada")
    for _ in range(3):
        venue.fill(venue.place(user), 10)
    await OrderNotifier(worker).catch_up()
    with psycopg.connect(venue.url) as connection:
        connection.execute("UPDATE notification_positions SET market_sequence = 0")
    assert await OrderNotifier(worker).catch_up() == 6
    assert len(await told(service, user)) == 3


async def test_what_was_undone_by_a_failure_is_told_later_and_nothing_is_left_out(
    service: NotificationService,
    worker: DatabaseConnection,
    venue: Venue,
    add_user: AddUser,
    monkeypatch: pytest.MonkeyPatch,
):
    user = await add_user("ada")
    for _ in range(4):
        venue.fill(venue.place(user), 10)
    notifier = OrderNotifier(worker, batch_events=4)
    make = notifier._maker.make
    failures = iter([False, True])

    async def failing(*arguments):
        made = await make(*arguments)
        if next(failures, False):
            raise RuntimeError("killed before the commit")
        return made

    monkeypatch.setattr(notifier._maker, "make", failing)
    with pytest.raises(RuntimeError):
        await notifier.catch_up()
    assert len(await told(service, user)) == 2
    assert await notifier.catch_up() == 4
    assert len(await told(service, user)) == 4


async def test_several_workers_share_the_work(
    service: NotificationService, connect: Connect, venue: Venue, add_user: AddUser
):
    users = [await add_user(f"user{number}") for number in range(4)]
    for _ in range(10):
        for user in users:
            venue.fill(venue.place(user), 10)
    workers = [OrderNotifier(await connect("worker"), batch_events=7) for _ in range(3)]
    while sum(await asyncio.gather(*(notifier.catch_up() for notifier in workers))):
        pass
    for user in users:
        assert len(await told(service, user)) == 10


async def test_wishes_decide_and_who_is_erased_is_told_nothing(
    service: NotificationService, worker: DatabaseConnection, venue: Venue, add_user: AddUser, app: DatabaseConnection
):
    silent, erased, away = await add_user("silent"), await add_user("erased"), await add_user("away")
    for channel in ("in_app", "email", "webhook"):
        await service.set_preference(silent, "order_filled", channel, False)
    for user in (silent, erased, away):
        venue.fill(venue.place(user), 10)
    await UserService(app).erase_user(erased)
    await UserService(app).deactivate_user(away)
    await OrderNotifier(worker).catch_up()
    with psycopg.connect(venue.url) as connection:
        rows = connection.execute("SELECT user_id, in_app FROM notifications").fetchall()
    assert rows == [(away, True)]
