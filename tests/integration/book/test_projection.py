"""The published book is that of the live orders, whatever happens to the cache server."""

from __future__ import annotations

import random
from contextlib import aclosing
from typing import Any

import psycopg
import pytest
import redis

from novadex.book import metrics
from novadex.book.documents import shard_lease_key
from novadex.book.projection import EVENTS_MAX, BookProjection
from novadex.book.reader import BookReader
from novadex.book.service import BookService
from novadex.book.store import QUERIES
from tests.integration.book.orders import Orders
from tests.waiting import until

pytestmark = pytest.mark.on_redis_too


def shown(book):
    document = book.as_dict()
    return document["bids"], document["asks"]


async def from_cache(books: BookService, market) -> Any:
    """The book as it is published; None where none is."""
    return await books._db.companion(BookReader).published(market.id)


async def until_published(books: BookService, market, sequence: int) -> None:
    async def there() -> bool:
        top = await from_cache(books, market)
        return top is not None and top.sequence == sequence

    await until(there)


async def test_orders_and_what_becomes_of_them_are_published(orders, project, books, market):
    await project()
    first = orders.place("buy", "100.5", 2)
    second = orders.place("buy", "100.5", 3)
    orders.place("buy", "99", 1)
    ask = orders.place("sell", "101.25", "0.000000000000000001")
    orders.place("sell", None, 5)  # a market order
    orders.place("sell", "100", 1, time_in_force="ioc")
    stop = orders.place("sell", "102", 1, type="stop_limit", stop_price=98)
    await until_published(books, market, 7)
    book = await books.get_book("BTC/USDT")
    assert shown(book) == ([["100.5", "5"], ["99", "1"]], [["101.25", "0.000000000000000001"]])
    assert [order.id for order in await books.get_orders("BTC/USDT")][:2] == [first, second]

    orders.trigger(stop)
    trade = orders.fill(first, "0.5")
    orders.amend(second, quantity=4)
    orders.amend(first, price=99)
    orders.cancel(ask)
    await until_published(books, market, 12)
    assert shown(await books.get_book("BTC/USDT")) == ([["100.5", "4"], ["99", "2.5"]], [["102", "1"]])
    # The price was changed: first comes after the one that was there.
    assert [order.quantity for order in await books.get_orders("BTC/USDT") if order.price == 99] == [1, 1.5]

    orders.bust(first, trade)
    orders.fill(second, 4)
    await until_published(books, market, 14)
    assert shown(await books.get_book("BTC/USDT", 0)) == ([["99", "3"]], [["102", "1"]])


async def test_what_postgresql_says_and_what_is_published_are_the_same(orders, project, books, market):
    ids = orders.place_many([("buy", 100 - n % 7, 1 + n) for n in range(50)])
    for order_id in ids[::3]:
        orders.amend(order_id, quantity=100)
    for order_id in ids[1::3]:
        orders.fill(order_id, 1)
    before = await books.get_book("BTC/USDT", 0), await books.get_orders("BTC/USDT")
    await project()
    await until_published(books, market, 50 + 17 + 17)
    assert (await books.get_book("BTC/USDT", 0), await books.get_orders("BTC/USDT")) == before
    orders.cancel(ids[0])
    await until_published(books, market, 85)
    published = await books.get_orders("BTC/USDT")
    reader = books._db.companion(BookReader)
    assert [str(order.id) for order in published] == [
        key for key, _ in sorted((await reader.recorded_orders(market.id)).orders.items(), key=_place)
    ]


def _place(item):
    return -item[1].price, item[1].priority


async def test_a_finer_price_begins_the_book_anew(orders, project, books, market):
    await project()
    orders.place("buy", "100", 1)
    await until_published(books, market, 1)
    orders.place("buy", "100.000000000000000000000000000000000001", 2)
    orders.place("sell", "5" * 70, "7" * 50)
    await until_published(books, market, 3)
    bids, asks = shown(await books.get_book("BTC/USDT"))
    assert bids == [["100.000000000000000000000000000000000001", "2"], ["100", "1"]]
    assert asks == [["5" * 70, "7" * 50]]


async def test_crossed_orders_are_shown_as_they_are(orders, project, books, market):
    await project()
    orders.place("buy", 101, 1)
    orders.place("sell", 100, 2)
    await until_published(books, market, 2)
    book = await books.get_book("BTC/USDT")
    assert book.crossed
    assert shown(book) == ([["101", "1"]], [["100", "2"]])
    await until(lambda: metrics.book_crossed.labels("0")._value.get() == 1)


async def test_each_shard_keeps_its_own_markets(orders, make_market, fresh_databases, cache_url, market):
    other = make_market("ETH/USDT", 18, 18)
    beside = Orders(fresh_databases.main_url("app"), other, orders.user)
    orders.place("buy", 100, 1)
    beside.place("buy", 7, 1)
    shard = market.id % 2
    async with fresh_databases.connection("worker", cache=cache_url, book_shards=2) as db:
        projection = BookProjection(db, shard, 2)
        books = BookService(db)
        async with aclosing(projection.rounds()) as rounds:
            await anext(rounds)
            while not projection.drained:
                await anext(rounds)
            assert (await from_cache(books, market)).sequence == 1
            assert await from_cache(books, other) is None
            assert shown(await books.get_book("ETH/USDT")) == ([["7", "1"]], [])
            async with aclosing(BookProjection(db, 1 - shard, 2).rounds()) as others:
                await anext(others)
                assert (await from_cache(books, other)).sequence == 1
    beside.close()


async def test_one_round_publishes_all_that_is_new_whichever_markets_moved_before(
    orders, make_market, fresh_databases, cache_url, market
):
    others = [make_market(symbol, 18, 18) for symbol in ("ETH/USDT", "SOL/USDT")]
    makers = [orders, *(Orders(fresh_databases.main_url("app"), other, orders.user) for other in others)]
    markets = [market, *others]
    chance = random.Random(3)  # noqa: S311 - no secret
    async with fresh_databases.connection("worker", cache=cache_url) as db:
        projection, books = BookProjection(db), BookService(db)
        async with aclosing(projection.rounds()) as rounds:
            sequences = [0, 0, 0]
            for number in range(40):
                for at in chance.choices(range(3), weights=(6, 2, 1), k=chance.randint(0, 4)):
                    placed = makers[at].place("buy", chance.randint(90, 110), 1)
                    sequences[at] += 1
                    if chance.random() < 0.5:
                        makers[at].cancel(placed)
                        sequences[at] += 1
                if number == 20:
                    projection._moving_until = 0.0  # as if nothing had moved for a while
                await anext(rounds)
                assert projection.drained
                for which, sequence in zip(markets, sequences, strict=True):
                    published = await from_cache(books, which)
                    assert (published.sequence if published is not None else 0) == sequence
    for maker in makers[1:]:
        maker.close()


async def test_events_are_found_by_index_whatever_the_tables_hold(orders, market, fresh_databases):
    orders.connection.execute(
        "INSERT INTO orders (id, user_id, market_id, base_decimals, quote_decimals, side, type, quantity, price)"
        " SELECT uuidv7(), %s, %s, 18, 18, 'buy', 'limit', 1, 1 + n %% 50 FROM generate_series(1, 30000) AS n",
        (orders.user, market.id),
    )
    with psycopg.connect(fresh_databases.main_url(None), autocommit=True) as connection:
        connection.execute("ANALYZE")
        connection.execute(QUERIES.read_by_index.sql)
        cursor = psycopg.RawCursor(connection)
        plans = {
            name: "\n".join(
                row[0] for row in cursor.execute(f"EXPLAIN {QUERIES[name].sql}".encode(), parameters).fetchall()
            )
            for name, parameters in {
                "news": (0, 1, [market.id], [29_990], EVENTS_MAX),
                "mark": (market.id,),
            }.items()
        }
    assert "Seq Scan on order" not in plans["news"]
    assert "Merge Append" in plans["news"]  # in the order of the index, until there are enough
    assert "Index Scan" in plans["news"]
    assert "One-Time Filter" in plans["news"]  # who left the book is not looked up
    assert "book_snapshots_market_idx" in plans["mark"]


async def test_a_projector_that_had_no_turn_keeps_what_it_published(orders, project, books, market, cache_url):
    """As where its process was stopped for longer than its lease."""
    await project()
    orders.place("buy", 100, 1)
    await until_published(books, market, 1)
    epoch = (await from_cache(books, market)).epoch
    reader = books._db.companion(BookReader)
    with redis.Redis.from_url(cache_url) as server:
        server.delete(shard_lease_key(await reader.life(), 0))
    orders.place("buy", 101, 1)
    await until_published(books, market, 2)
    assert (await from_cache(books, market)).epoch == epoch
