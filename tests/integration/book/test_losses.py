"""What the cache server loses, or has back from long ago, never stands in a book that is read."""

from __future__ import annotations

import asyncio
import shutil

import pytest
import redis

from novadex.book.documents import MarketKeys, encode, top_of
from novadex.book.levels import Levels
from novadex.book.publisher import Publisher
from novadex.book.reader import BookReader
from tests.integration.book.conftest import projecting
from tests.integration.book.test_projection import from_cache, shown, until_published
from tests.waiting import until

pytestmark = pytest.mark.on_redis_too


def client(url):
    return redis.Redis.from_url(url, socket_timeout=5)


async def test_after_a_flush_the_book_is_read_at_once_and_published_again(orders, project, books, market, cache_url):
    await project()
    orders.place("buy", 100, 1)
    await until_published(books, market, 1)
    with client(cache_url) as server:
        for _ in range(3):
            server.flushall()
            assert shown(await books.get_book("BTC/USDT")) == ([["100", "1"]], [])

            async def is_back() -> bool:
                return await from_cache(books, market) is not None

            await until(is_back)
        server.flushall()
    orders.place("buy", 101, 1)  # the difference has nothing to be put onto
    await until_published(books, market, 2)
    assert shown(await books.get_book("BTC/USDT")) == ([["101", "1"], ["100", "1"]], [])


@pytest.fixture
def quick_looks(cache_url, monkeypatch):
    """The projector looks at its markets all the time; the URL of the cache server."""
    monkeypatch.setattr("novadex.book.projection.LOOK_INTERVAL_S", 0.05)
    return cache_url


async def test_a_key_that_is_evicted_or_changed_is_found(orders, project, books, market, quick_looks):
    cache_url = quick_looks
    await project()
    orders.place_many([("buy", 100 - n, 1) for n in range(3)])
    orders.place("sell", 105, 1)
    await until_published(books, market, 4)
    before = await books.get_book("BTC/USDT", 0)
    keys = await books._db.companion(BookReader).keys(market.id)
    with client(cache_url) as server:
        for key in (keys.bids, keys.asks, keys.orders, keys.state, keys.top):
            epoch = server.hget(keys.state, "epoch")
            server.delete(key)
            assert await books.get_book("BTC/USDT", 0) == before
            assert len(await books.get_orders("BTC/USDT")) == 4
            await until(lambda epoch=epoch: server.hget(keys.state, "epoch") not in (None, epoch))
        server.hdel(keys.bids, "98")
        orders.cancel(orders.place("buy", 50, 1))
        await until_published(books, market, 6)
    assert (await books.get_book("BTC/USDT", 0)).bids == before.bids


async def test_a_killed_cache_server_costs_nothing_but_time(orders, project, elsewhere, market):
    server, books = elsewhere
    await project(server.url)
    orders.place("buy", 100, 1)
    await until_published(books, market, 1)
    server.kill()
    orders.place("buy", 101, 1)
    assert shown(await books.get_book("BTC/USDT", 0))[0] == [["101", "1"], ["100", "1"]]
    server.start()
    await until_published(books, market, 2)
    orders.place("buy", 102, 1)
    await until_published(books, market, 3)


async def test_an_old_state_of_the_cache_server_is_not_believed(orders, project, elsewhere, market):
    server, books = elsewhere
    await project(server.url)
    orders.place("buy", 100, 1)
    await until_published(books, market, 1)
    with client(server.url) as connection:
        # The lease lives on in it, as after a restart within its second.
        for key in connection.scan_iter("*:lease:*"):
            connection.persist(key)
        connection.save()
    old = server.folder / "old.rdb"
    shutil.copy(server.folder / "dump.rdb", old)
    orders.place("buy", 101, 1)
    await until_published(books, market, 2)
    server.kill()
    shutil.copy(old, server.folder / "dump.rdb")
    server.start()

    async def is_right() -> bool:
        return shown(await books.get_book("BTC/USDT"))[0] == [["101", "1"], ["100", "1"]]

    await until(is_right)
    await until_published(books, market, 2)


async def test_what_nobody_keeps_is_not_believed(orders, books, market, cache_url):
    orders.place("buy", 100, 1)
    reader = books._db.companion(BookReader)
    keys = MarketKeys.of(await reader.life(), market.id)
    forged = Levels.of_rows([("999", "1")], [], 0, 18)
    with client(cache_url) as server:
        server.set(keys.top, encode(top_of("gone.1", 7, "orders", forged)))
        assert shown(await books.get_book("BTC/USDT"))[0] == [["100", "1"]]
        # What was read is left for others, and believed only while nothing happened.
        assert server.exists(keys.seen)
        assert shown(await books.get_book("BTC/USDT"))[0] == [["100", "1"]]
        orders.place("buy", 101, 1)
        assert shown(await books.get_book("BTC/USDT"))[0] == [["101", "1"], ["100", "1"]]
        server.set(keys.seen, b"\xff no JSON")
        assert shown(await books.get_book("BTC/USDT", 0))[0] == [["101", "1"], ["100", "1"]]


async def test_of_two_projectors_one_works_and_the_other_takes_over(orders, books, market, fresh_databases, project):
    cache_url = books._db.endpoints.cache
    async with projecting(fresh_databases, cache_url) as first:
        orders.place("buy", 100, 1)
        await until_published(books, market, 1)
        second = await project()
        await asyncio.sleep(0)
        for n in range(2, 12):
            orders.place("buy", 100 + n, 1)
        await until_published(books, market, 11)
        assert first.lag_s is not None
        assert second.lag_s is None
    orders.place("buy", 200, 1)
    await until_published(books, market, 12)
    assert second.lag_s is not None
    assert len((await books.get_book("BTC/USDT", 0)).bids) == 12


async def test_whoever_publishes_beside_the_owner_is_overruled(orders, project, books, market, cache_url):
    """As a projector would that was stopped and continued after another took over."""
    await project()
    orders.place("buy", 100, 1)
    await until_published(books, market, 1)
    other = Publisher(cache_url, await books._db.companion(BookReader).life(), "other")
    await other.restore_levels(market.id, 99, Levels.of_rows([("999", "1")], [], 0, 18))
    assert shown(await books.get_book("BTC/USDT"))[0] == [["100", "1"]]
    orders.place("buy", 101, 1)
    await until_published(books, market, 2)
    assert shown(await books.get_book("BTC/USDT"))[0] == [["101", "1"], ["100", "1"]]
    assert not await other.publish_levels(market.id, 100, Levels(0, 18))
    await other.close()


async def test_rebuild_by_the_worker_and_without_one(orders, project, books, market):
    orders.place("buy", 100, 1)
    alone = await books.rebuild()
    assert "no worker" in alone["by"]
    assert await from_cache(books, market) is None  # nobody keeps it
    await project()
    await until_published(books, market, 1)
    before = (await from_cache(books, market)).epoch
    assert (await books.rebuild("BTC/USDT"))["by"] == "the worker"
    middle = (await from_cache(books, market)).epoch
    assert middle != before
    assert (await books.rebuild())["books"] == 1
    assert (await from_cache(books, market)).epoch not in (before, middle)
