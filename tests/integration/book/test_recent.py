"""Best levels that were asked for a moment ago are given again, for no longer than a moment."""

from __future__ import annotations

import asyncio

import pytest

from novadex.book import reader as reading
from novadex.book.reader import BookReader
from tests.integration.book.conftest import projecting
from tests.integration.book.test_projection import shown, until_published
from tests.waiting import until

HOUR_S = 3600.0


@pytest.fixture
def recent(books):
    """What the reader remembers, by market."""
    return books._db.companion(BookReader)._recent


@pytest.fixture
def for_an_hour(monkeypatch):
    monkeypatch.setattr(reading, "RECENT_S", HOUR_S)


@pytest.fixture
async def published(orders, project, books, market):
    """The orders of a market whose book is published, with one bid."""
    await project()
    orders.place("buy", 100, 1)
    await until_published(books, market, 1)
    return orders


async def sequence(books) -> int:
    return (await books.get_book("BTC/USDT")).sequence


@pytest.mark.usefixtures("for_an_hour")
async def test_it_is_given_once_more_and_asked_anew_for_whoever_comes_next(published, books, market):
    assert await sequence(books) == 1
    published.place("buy", 101, 1)
    await until_published(books, market, 2)
    assert await sequence(books) == 1

    async def renewed() -> bool:
        return await sequence(books) == 2

    await until(renewed)


@pytest.mark.usefixtures("for_an_hour")
async def test_what_is_older_is_not_given(published, books, market, recent):
    assert await sequence(books) == 1
    published.place("buy", 101, 1)
    await until_published(books, market, 2)
    recent[market.id].asked_at -= HOUR_S
    assert await sequence(books) == 2


@pytest.mark.usefixtures("published")
async def test_an_answer_that_comes_late_does_not_replace_a_later_one(books, market, recent):
    reader = books._db.companion(BookReader)
    await reader.top(market.id)
    newest = recent[market.id]
    newest.asked_at += HOUR_S
    await reader.top(market.id)
    assert recent[market.id] is newest


@pytest.mark.usefixtures("for_an_hour")
async def test_without_a_publisher_it_ends_with_the_next_question(orders, fresh_databases, cache_url, books, market):
    recent = books._db.companion(BookReader)._recent
    async with projecting(fresh_databases, cache_url):
        orders.place("buy", 100, 1)
        await until_published(books, market, 1)
        await books.get_book("BTC/USDT")
    orders.place("buy", 101, 1)  # nobody publishes it
    await books.get_book("BTC/USDT")
    await until(lambda: market.id not in recent)
    assert shown(await books.get_book("BTC/USDT"))[0] == [["101", "1"], ["100", "1"]]


@pytest.mark.usefixtures("published", "for_an_hour")
async def test_many_who_ask_at_once_ask_the_server_once(books, market, monkeypatch):
    await books.get_book("BTC/USDT")
    reader = books._db.companion(BookReader)
    asked: list[int] = []
    published_top = reader._published_top

    async def counting(market_id: int):
        asked.append(market_id)
        return await published_top(market_id)

    monkeypatch.setattr(reader, "_published_top", counting)
    await asyncio.gather(*(books.get_book("BTC/USDT") for _ in range(100)))
    assert asked == [market.id]


@pytest.mark.usefixtures("published")
async def test_only_so_many_markets_are_remembered(books, market, recent, monkeypatch):
    monkeypatch.setattr(reading, "RECENT_MAX", 2)
    await books.get_book("BTC/USDT")
    entry = recent.pop(market.id)
    recent.update({-1: entry, -2: entry})
    await books.get_book("BTC/USDT")
    assert list(recent) == [market.id]
