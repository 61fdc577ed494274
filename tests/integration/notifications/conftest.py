"""A venue whose users have addresses and webhooks, and receivers of what they are told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any
from uuid import UUID

import pytest

from novadex.notifications.service import NotificationService
from novadex.storage.connection import DatabaseConnection
from novadex.users.service import UserService
from tests.conftest import DatabasePair, MarketRow
from tests.integration.notifications.sinks import MailSink, WebSink, listening
from tests.integration.notifications.venue import Venue

QUICK: dict[str, Any] = {
    "webhook_allow_http": True,
    "webhook_allow_private": True,
    "notification_retry_s": 0.001,
    "notification_attempts_max": 3,
}


@pytest.fixture
async def mail() -> AsyncIterator[MailSink]:
    async with listening(MailSink()) as sink:
        yield sink


@pytest.fixture
async def web() -> AsyncIterator[WebSink]:
    async with listening(WebSink()) as sink:
        yield sink


Connect = Callable[..., Awaitable[DatabaseConnection]]


@pytest.fixture
async def connect(
    fresh_databases: DatabasePair, cache_url: str, sessions_url: str, mail: MailSink
) -> AsyncIterator[Connect]:
    """``await connect("worker", notification_attempts_max=5)``: a process of its own, with a mail server."""
    async with AsyncExitStack() as stack:

        async def make(role: Any = "app", **settings: Any) -> DatabaseConnection:
            wanted = {**QUICK, "smtp_url": mail.url(), **settings}
            connection = fresh_databases.connection(role, cache=cache_url, sessions=sessions_url, **wanted)
            return await stack.enter_async_context(connection)

        yield make


@pytest.fixture
async def app(connect: Connect) -> DatabaseConnection:
    return await connect("app")


@pytest.fixture
async def worker(connect: Connect) -> DatabaseConnection:
    return await connect("worker")


@pytest.fixture
def service(app: DatabaseConnection) -> NotificationService:
    return NotificationService(app)


@pytest.fixture
def venue(fresh_databases: DatabasePair, market: MarketRow) -> Venue:
    return Venue(fresh_databases.main_url("owner"), market)


@pytest.fixture
def add_user(app: DatabaseConnection) -> Callable[..., Awaitable[UUID]]:
    """``await add_user("ada", email="ada@example.com")``: the id of a trader."""

    async def add(username: str, **fields: Any) -> UUID:
        return (await UserService(app).create_user(username=username, role="trader", **fields)).id

    return add
