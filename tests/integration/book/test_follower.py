"""A snapshot and the differences after it are the whole book, at every point."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import AsyncExitStack

import pytest
import redis

from novadex.book import follower as following
from novadex.book.levels import Levels
from novadex.book.reader import BookReader
from tests.waiting import until


async def follow_to(follower, sequence, seen):
    while follower.sequence != sequence:
        update = await follower.next(within_s=15)
        assert update is not None
        seen.append(update)


@pytest.fixture
async def follow(books):
    """``await follow()``: a follower of BTC/USDT, closed when the test ends."""
    async with AsyncExitStack() as stack:

        async def start():
            follower = await books.follow("BTC/USDT")
            stack.push_async_callback(follower.close)
            return follower

        yield start


async def test_differences_lead_to_what_postgresql_has(  # noqa: PLR0917 - fixtures
    orders, project, books, follow, market, cache_url
):
    await project()
    chance = random.Random(7)  # noqa: S311 - no secret
    reader = books._db.companion(BookReader)

    async def is_published():
        return await reader.published(market.id) is not None

    live = [orders.place("buy", 95, 1)]
    await until(is_published)
    follower = await follow()
    seen = []
    with redis.Redis.from_url(cache_url) as server:
        for step in range(2, 61):
            if live and chance.random() < 0.4:
                orders.cancel(live.pop(chance.randrange(len(live))))
            else:
                live.append(
                    orders.place(chance.choice(["buy", "sell"]), chance.randint(90, 110), chance.randint(1, 9))
                )
            if step == 30:
                server.flushall()
            if step % 10 == 0:
                await follow_to(follower, step, seen)
                recorded = await reader.recorded(market.id)
                assert follower.levels.bids.rows() == recorded.levels.bids.rows()
                assert follower.levels.asks.rows() == recorded.levels.asks.rows()
                await until(is_published)
        assert [update.kind for update in seen].count("difference") >= 3
        assert follower.gaps == 0

        # A client that is told of it all ends with the same book.
        mine = Levels(18, 18)
        for update in seen:
            if update.kind == "snapshot":
                mine = Levels(18, 18)
            mine.set_rows(update.bids, update.asks)
            assert mine.checksum() == update.checksum
        assert mine.bids.rows() == follower.levels.bids.rows()

        # What is lost in between is noticed.
        keys = await reader.keys(market.id)
        orders.place("buy", 1, 1)
        orders.place("buy", 2, 1)

        async def there():
            whole = await reader.published(market.id)
            return whole is not None and whole.sequence == 62

        await until(there)
        server.xtrim(keys.changes, maxlen=0)
        orders.place("buy", 3, 1)
        await follow_to(follower, 63, seen)
        assert (seen[-1].kind, follower.gaps) == ("snapshot", 1)
        assert follower.levels.bids.lots(3 * 10**follower.levels.price_decimals)


async def test_without_a_projector_it_follows_postgresql(orders, follow):
    follower = await follow()
    orders.place("buy", 100, 1)
    seen = []
    await follow_to(follower, 1, seen)
    orders.place("buy", 101, 1)
    await follow_to(follower, 2, seen)
    assert [update.kind for update in seen][-1] == "snapshot"
    assert follower.levels.bids.rows() == [("101", "1"), ("100", "1")]
    await asyncio.wait_for(follower.close(), 5)


async def test_it_waits_no_longer_than_it_is_told(  # noqa: PLR0917 - fixtures
    orders, project, books, follow, market, monkeypatch
):
    """Where nothing happens: one step that waits without heed of the deadline would wait for ever."""
    monkeypatch.setattr(following, "BLOCK_MS", 60_000)
    monkeypatch.setattr(following, "COMMAND_S_MAX", 90.0)
    monkeypatch.setattr(following, "FALLBACK_INTERVAL_S", 60.0)
    follower = await follow()
    assert (await follower.next(within_s=10)).sequence == 0  # from PostgreSQL
    for within_s in (0, 0.001, 0.05):
        began = time.monotonic()
        assert await asyncio.wait_for(follower.next(within_s=within_s), 10) is None
        assert time.monotonic() - began >= within_s
    await project()
    orders.place("buy", 100, 1)
    reader = books._db.companion(BookReader)

    async def is_published():
        return await reader.published(market.id) is not None

    await until(is_published)
    follower = await follow()
    assert (await follower.next(within_s=10)).sequence == 1
    for within_s in (0, 0.001, 0.05):
        began = time.monotonic()
        assert await asyncio.wait_for(follower.next(within_s=within_s), 10) is None
        assert time.monotonic() - began >= within_s
    orders.place("buy", 101, 1)
    assert (await follower.next(within_s=10)).kind == "difference"
