"""SIGKILL of whoever tells and sends: nothing is lost, nothing is told twice, no second series of attempts."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID

import psycopg
import pytest

from novadex.notifications.projection import OrderNotifier
from novadex.notifications.sending import DeliverySender
from novadex.notifications.service import NotificationService
from novadex.storage.connection import DatabaseConnection
from tests.conftest import DatabasePair, MarketRow
from tests.integration.notifications.sinks import WebSink, listening
from tests.integration.notifications.venue import Venue

SETTINGS = {"webhook_allow_http": True, "webhook_allow_private": True, "notification_retry_s": 0.001}
KILLS = 8
NOTIFICATIONS = 60
Run = Callable[..., Awaitable["asyncio.subprocess.Process"]]


@pytest.fixture
async def start(fresh_databases: DatabasePair) -> AsyncIterator[Run]:
    """``await start("send", kill="sent")``: the program, as the worker."""
    started: list[asyncio.subprocess.Process] = []

    async def start(program: str, *, kill: str = "", **settings: Any) -> asyncio.subprocess.Process:
        place = {
            "main": fresh_databases.main_url("worker"),
            "analytics": fresh_databases.analytics_url("worker"),
            "data_dir": str(fresh_databases.data_dir),
            "settings": {**SETTINGS, **settings},
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.faults.notification_programs",
            program,
            env={**os.environ, "NOTIFY_PLACE": json.dumps(place), "NOTIFY_KILL": kill},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.fixture
async def web() -> AsyncIterator[WebSink]:
    async with listening(WebSink()) as sink:
        yield sink


@pytest.fixture
async def app(fresh_databases: DatabasePair) -> AsyncIterator[DatabaseConnection]:
    async with fresh_databases.connection("app", **SETTINGS) as connection:
        yield connection


@pytest.fixture
async def worker(fresh_databases: DatabasePair) -> AsyncIterator[DatabaseConnection]:
    async with fresh_databases.connection("worker", **SETTINGS) as connection:
        yield connection


def deliveries(databases: DatabasePair) -> list[tuple[UUID, str, int, int]]:
    with psycopg.connect(databases.main_url("owner")) as connection:
        return connection.execute(
            "SELECT notification_id, status, series, attempts FROM notification_deliveries ORDER BY 1"
        ).fetchall()


def end_leases(databases: DatabasePair) -> None:
    with psycopg.connect(databases.main_url(None)) as connection:
        connection.execute("SET session_replication_role = replica")  # the trigger would refuse it
        connection.execute("UPDATE notification_deliveries SET due_at = now() - interval '1 second'")


async def listeners(service: NotificationService, users: list[UUID], web: WebSink) -> None:
    for user in users:
        await service.set_preference(user, "system_notice", "webhook", True)
        await service.set_webhook(user, web.url())


@pytest.mark.parametrize(("point", "requests"), [("claimed", 0), ("sent", 1), ("recorded", 1)])
async def test_a_kill_leaves_one_attempt_in_doubt_at_most(  # noqa: PLR0917 - fixtures
    app: DatabaseConnection,
    worker: DatabaseConnection,
    web: WebSink,
    start: Run,
    fresh_databases: DatabasePair,
    users: Callable[[int], list[UUID]],
    point: str,
    requests: int,
):
    service, [user] = NotificationService(app), users(1)
    await listeners(service, [user], web)
    await service.notices.send_to(user, "Hello", "World")
    assert await (await start("send", kill=point)).wait() == -9
    [(id, status, series, attempts)] = deliveries(fresh_databases)
    assert (status, series, attempts) == ("delivered" if point == "recorded" else "sending", 1, 1)
    assert len(web.requests) == requests
    sender = DeliverySender(worker, "webhook")
    assert await sender.drain() == 0, "its lease is not over"
    end_leases(fresh_databases)
    again = 0 if point == "recorded" else 1
    assert await sender.drain() == again
    assert deliveries(fresh_databases) == [(id, "delivered", 1, 1 + again)]
    assert {request.headers["webhook-id"] for request in web.requests} == {str(id)}
    assert len(web.requests) == requests + again


async def test_who_is_killed_in_the_last_attempt_leaves_a_dead_letter(
    app: DatabaseConnection,
    start: Run,
    web: WebSink,
    fresh_databases: DatabasePair,
    users: Callable[[int], list[UUID]],
):
    service, [user] = NotificationService(app), users(1)
    await listeners(service, [user], web)
    await service.notices.send_to(user, "Hello", "World")
    assert await (await start("send", kill="sent", notification_attempts_max=1)).wait() == -9
    end_leases(fresh_databases)
    assert await (await start("send", notification_attempts_max=1)).wait() == 0
    [dead] = (await service.deliveries.dead()).items
    assert (dead.status, dead.attempts, dead.last_error) == ("dead", 1, "its sender ended in the last attempt")
    assert len(web.requests) == 1, "it is replayed by whoever decides so, not by itself"


async def test_many_kills_lose_nothing_and_begin_no_second_series(
    app: DatabaseConnection,
    start: Run,
    web: WebSink,
    fresh_databases: DatabasePair,
    users: Callable[[int], list[UUID]],
):
    service, some = NotificationService(app), users(NOTIFICATIONS // 2)
    await listeners(service, some, web)
    for user in some:
        for number in range(2):
            await service.notices.send_to(user, f"Hello {number}", "World")
    chance = random.Random(7)  # noqa: S311 - no secret
    for _ in range(KILLS):
        enough = len(web.requests) + chance.randint(1, 8)
        process = await start("send", notification_attempts_max=50)

        def kill(_: Any, enough: int = enough, process: Any = process) -> None:
            if len(web.requests) >= enough and process.returncode is None:
                process.kill()

        web.on_request = kill
        await process.wait()
        end_leases(fresh_databases)
    web.on_request = lambda _: None
    assert await (await start("send", notification_attempts_max=50)).wait() == 0
    found = deliveries(fresh_databases)
    assert len(found) == NOTIFICATIONS
    assert {(status, series) for _, status, series, _ in found} == {("delivered", 1)}
    seen = Counter(request.headers["webhook-id"] for request in web.requests)
    for id, _, _, attempts in found:
        assert 1 <= seen[str(id)] <= attempts <= KILLS + 1


@pytest.mark.parametrize("point", ["made", "committed"])
async def test_every_event_is_told_once_whoever_is_killed(  # noqa: PLR0917 - fixtures
    app: DatabaseConnection,
    worker: DatabaseConnection,
    start: Run,
    fresh_databases: DatabasePair,
    market: MarketRow,
    users: Callable[[int], list[UUID]],
    point: str,
):
    venue, [user] = Venue(fresh_databases.main_url("owner"), market), users(1)
    for _ in range(12):
        venue.fill(venue.place(user), 10)
    for _ in range(3):
        assert await (await start("notify", kill=point)).wait() == -9
    await OrderNotifier(worker).catch_up()
    page = await NotificationService(app).list(user, limit=100)
    assert len(page.items) == 12
    assert len({item.data["order_id"] for item in page.items}) == 12
