"""A market with orders, projectors that keep its book, and readers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple

import pytest

from novadex.book import reader
from novadex.book.projection import BookProjection
from novadex.book.service import BookService
from tests.conftest import DatabasePair
from tests.integration.book.orders import Orders
from tests.servers import ValkeyServer

Running = Callable[..., Awaitable[BookProjection]]


class Elsewhere(NamedTuple):
    server: ValkeyServer
    books: BookService


@pytest.fixture(autouse=True)
def no_recent_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers ask each time: tests look again at once after they changed something."""
    monkeypatch.setattr(reader, "RECENT_S", -1.0)


@pytest.fixture
def orders(fresh_databases: DatabasePair, market, users) -> Iterator[Orders]:
    """Orders of one user in BTC/USDT."""
    made = Orders(fresh_databases.main_url("app"), market, users(1)[0])
    yield made
    made.close()


@asynccontextmanager
async def projecting(databases: DatabasePair, cache: str, **settings: Any) -> AsyncIterator[BookProjection]:
    """A projector at work, on connections of its own."""
    stop = asyncio.Event()
    async with databases.connection("worker", cache=cache, **settings) as db:
        projection = BookProjection(db)
        task = asyncio.create_task(projection.run(stop))
        try:
            yield projection
        finally:
            stop.set()
            await asyncio.wait_for(task, 10)


@pytest.fixture
async def project(fresh_databases: DatabasePair, cache_url: str) -> AsyncIterator[Running]:
    """``await project()``: a projector at work until the test ends."""
    async with AsyncExitStack() as stack:

        async def start(cache: str = cache_url, **settings: Any) -> BookProjection:
            return await stack.enter_async_context(projecting(fresh_databases, cache, **settings))

        yield start


@pytest.fixture
async def elsewhere(
    fresh_databases: DatabasePair, make_valkey: Callable[[], ValkeyServer]
) -> AsyncIterator[Elsewhere]:
    """A cache server of this test's own, to be killed, and a reader of the books in it."""
    server = make_valkey()
    async with fresh_databases.connection("app", cache=server.url) as db:
        yield Elsewhere(server, BookService(db))
    server.stop()


@pytest.fixture
async def books(fresh_databases: DatabasePair, cache_url: str) -> AsyncIterator[BookService]:
    """A reader of books."""
    async with fresh_databases.connection("app", cache=cache_url) as db:
        yield BookService(db)
