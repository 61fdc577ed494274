"""What is derived and wrong is named, and derived anew where that is asked for."""

from typing import Any

import msgspec
import psycopg
import pytest
import redis

from novadex import TradingService
from novadex.analytics.projection import TradeProjection
from novadex.book.documents import MarketKeys
from novadex.book.reader import BookReader
from novadex.cache.cache import KEY_START
from novadex.cache.contents import life_of
from novadex.notifications.store import UnreadCounts
from novadex.reconciliation import derived
from novadex.reconciliation.derived import CandleCheck
from novadex.reconciliation.records import Finding
from novadex.roles.roles import Roles
from novadex.sessions.service import SessionService
from novadex.users.service import UserService
from tests.integration.analytics.records import drain
from tests.integration.reconciliation.conftest import look, sql
from tests.waiting import until

CANDLE_OF = """
    INSERT INTO candles SELECT 'ETH/USDT', '{0}-01-01Z', 1, 1, 1, 1, 1, 1, 0, 1, '{0}-01-01Z', 0, first_id,
        '{0}-01-01Z', 0, last_id FROM candles LIMIT 1
"""
FIGURES = [
    (
        "UPDATE candles SET high = high + 1 WHERE (market, start) = (SELECT market, start FROM candles LIMIT 1)",
        "candles",
    ),
    (
        "DELETE FROM trading_analytics WHERE day = (SELECT max(day) FROM trading_analytics)",
        "trading_analytics",
    ),
    ("UPDATE trade_facts SET price = price * 2 WHERE id = (SELECT id FROM trade_facts LIMIT 1)", "trade_facts"),
    (CANDLE_OF.format(1999), "candles"),
    (CANDLE_OF.format(2099), "candles"),
]


async def test_figures_that_are_not_their_recompute_are_named_and_derived_anew(kept, fresh_databases):
    for statement, table in FIGURES:
        with psycopg.connect(fresh_databases.analytics_url(None), autocommit=True) as superuser:
            assert superuser.execute(sql(statement)).rowcount > 0
        found = await look(kept, "candles", repair=True)
        assert {(finding.invariant, finding.what) for finding in found} == {("candles", table)}
        assert not await look(kept, "candles")


async def test_days_and_decades_without_executions_are_no_parts_of_their_own(kept, users):
    async with TradingService(kept.app) as trading:
        for moment in ("1975-03-01T00:00:00Z", "2011-05-05T23:00:00Z"):
            await trading.create_trade(
                user_id=users(1)[0],
                market="BTC/USDT-SIM",
                side="buy",
                base_amount="1",
                quote_amount="2",
                price="2",
                executed_at=moment,
            )
    await drain(TradeProjection(kept.worker.main, kept.worker.analytics, kept.worker.settings))
    check, after, parts, compared = CandleCheck(kept.worker), None, 0, 0
    found: list[Finding] = []
    while parts == 0 or after is not None:
        part = await check.slice(after, found.append)
        after, parts, compared = part.after, parts + 1, compared + part.checked
    assert parts <= 2 + 2  # the minute of trading may lie in two days
    assert compared > 0
    assert not found


PORTFOLIOS = [
    ("UPDATE", "portfolio_holdings", "SET amount = amount + 1", "true", "holdings"),
    ("DELETE FROM", "portfolio_holdings", "", "true", "holdings"),
    ("UPDATE", "portfolio_holdings", "SET user_id = uuid_at(now())", "true", "holdings"),
    ("UPDATE", "portfolio_flows", "SET amount = amount * 2", "amount <> 0", "holdings"),
    ("UPDATE", "portfolio_positions", "SET trades = trades + 1", "true", "pnl"),
    ("UPDATE", "portfolio_positions", "SET quantity = quantity * 2", "quantity > 0", "pnl"),
    ("UPDATE", "portfolio_lots", "SET opened_cost = opened_cost * 2", "opened_quantity > 0", "pnl"),
    ("DELETE FROM", "portfolio_closings", "", "true", "pnl"),
]


async def test_portfolios_that_are_not_their_recompute_are_named_and_derived_anew(kept, fresh_databases):
    assert not await look(kept, "holdings", "pnl")
    for verb, table, change, which, invariant in PORTFOLIOS:
        with psycopg.connect(fresh_databases.main_url(None), autocommit=True) as superuser:
            superuser.execute("SET session_replication_role = replica")
            one = f"ctid = (SELECT ctid FROM {table} WHERE {which} LIMIT 1)"
            assert superuser.execute(sql(f"{verb} {table} {change} WHERE {one}")).rowcount == 1
        found = await look(kept, "holdings", "pnl")
        assert {(finding.invariant, finding.what) for finding in found} == {(invariant, table)}, (table, change)
        await look(kept, invariant, repair=True)
        assert not await look(kept, "holdings", "pnl")


@pytest.fixture
async def market(kept):
    """The first market, and the keys of its published book."""
    row = await kept.app.main.one("SELECT id, symbol FROM markets ORDER BY id LIMIT 1")
    reader = kept.app.companion(BookReader)
    await until(lambda: _is_published(reader, row.id))
    return row.symbol, await reader.keys(row.id)


async def _is_published(reader, market_id):
    found = await reader.published(market_id)
    return found is not None


def worst(client, key, *, sign):
    """The field of a side that is farthest from being filled."""
    return max(client.hkeys(key), key=lambda price: sign * int(price))


def change_level(client, keys: MarketKeys):
    client.hset(keys.asks, worst(client, keys.asks, sign=1), "12345")


def change_best_level(client, keys: MarketKeys):
    client.hset(keys.bids, worst(client, keys.bids, sign=1), "1")


def ghost_level(client, keys: MarketKeys):
    client.hset(keys.asks, str(int(worst(client, keys.asks, sign=1)) * 2), "777")
    client.hincrby(keys.state, "asks", 1)


def lost_level(client, keys: MarketKeys):
    client.hdel(keys.bids, worst(client, keys.bids, sign=-1))


def ghost_order(client, keys: MarketKeys):
    order = client.hvals(keys.orders)[0]
    client.hset(keys.orders, "019b0000-0000-7000-8000-00000000dead", order)
    client.hincrby(keys.state, "orders", 1)


def change_order(client, keys: MarketKeys):
    id, text = next(iter(client.hgetall(keys.orders).items()))
    side, price, _, place = text.split(b" ")
    client.hset(keys.orders, id, b" ".join((side, price, b"1", place)))


def change_place(client, keys: MarketKeys):
    id, text = next(iter(client.hgetall(keys.orders).items()))
    client.hset(keys.orders, id, text.rsplit(b" ", 1)[0] + b" 1000000")


def lost_order(client, keys: MarketKeys):
    client.hdel(keys.orders, client.hkeys(keys.orders)[0])


def change_top(client, keys: MarketKeys):
    top = msgspec.json.decode(client.get(keys.top))
    top[-1][0][1] = "0.00001"
    client.set(keys.top, msgspec.json.encode(top), px=60_000)


def ahead(client, keys: MarketKeys):
    client.hset(keys.state, "sequence", 10**9)


def unreadable(client, keys: MarketKeys):
    client.hset(keys.state, "checksum", "none")


BROKEN_BOOKS = [
    (change_level, {"book levels"}),
    (change_best_level, {"book", "book levels"}),
    (ghost_level, {"book levels"}),
    (lost_level, {"book"}),
    (ghost_order, {"book orders", "book levels"}),
    (change_order, {"book orders", "book levels"}),
    (change_place, {"book orders"}),
    (lost_order, {"book"}),
    (change_top, {"book top"}),
    (ahead, {"book"}),
    (unreadable, {"book"}),
]


async def test_a_book_that_is_not_the_live_orders_is_named_and_published_anew(kept, market, cache_url):
    symbol, keys = market
    client = redis.Redis.from_url(cache_url)
    assert not await look(kept, "book")
    for breaking, expected in BROKEN_BOOKS:
        breaking(client, keys)
        found = await look(kept, "book", repair=True)
        assert {finding.invariant for finding in found} == {"book"}, breaking.__name__
        assert expected <= {finding.what for finding in found}, (breaking.__name__, found)
        assert {finding.key["market"] for finding in found} == {symbol}
        assert not await look(kept, "book"), breaking.__name__
    client.flushdb()
    assert not await look(kept, "book"), "a book that is not there is nobody's: readers ask PostgreSQL"


async def test_a_book_that_is_far_behind_is_said_and_those_after_it_are_compared(
    kept, market, cache_url, monkeypatch
):
    symbol, keys = market
    other = await kept.app.main.one("SELECT id, symbol FROM markets ORDER BY id DESC LIMIT 1")
    reader = kept.app.companion(BookReader)
    await until(lambda: _is_published(reader, other.id))
    client = redis.Redis.from_url(cache_url)
    client.hset(keys.state, "sequence", 1)
    ghost_level(client, await reader.keys(other.id))
    monkeypatch.setattr(derived, "EVENTS_BEHIND_MAX", 1)
    found: list[Finding] = []
    [check] = (await kept.reconciler.run(only=["book"], found=found.append)).checks
    assert check.skipped is not None
    assert f"The book of {symbol} is" in check.skipped
    assert ("book levels", other.symbol) in {(finding.what, finding.key["market"]) for finding in found}


async def test_cached_records_that_are_not_true_are_named_and_deleted(kept, cache_url, sessions_url, fresh_databases):
    users, sessions = UserService(kept.app), SessionService(kept.app)
    wallet = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
    user = await users.create_user(username="somebody", wallet_address=wallet)
    other = await users.create_user(username="other")
    token = (await sessions.create(user.id)).token
    for name in ("somebody", "other"):
        await users.get_user_by_username(name)
    await users.get_user_by_wallet(wallet)
    await sessions.validate(token)
    start = f"{KEY_START}{await life_of(kept.app)}:"
    cache: Any = redis.Redis.from_url(cache_url)
    session_server: Any = redis.Redis.from_url(sessions_url)
    assert not await look(kept, "cache")
    wallet_key = cache.keys(f"{start}wallet:*")[0].decode()
    session_key = session_server.keys(f"{start}session:*")[0].decode()

    def forged(client, key, change):
        entry = client.get(key)
        mark, document = msgspec.msgpack.decode(entry[8:])
        client.set(key, entry[:8] + msgspec.msgpack.encode((mark, change(document))), keepttl=True)

    def with_fields(**fields):
        return lambda document: msgspec.msgpack.encode(msgspec.msgpack.decode(document) | fields)

    cases = [
        (cache, f"{start}user:{user.id}", with_fields(role="admin"), "cached user"),
        (cache, f"{start}user:{user.id}", with_fields(preferences={"a": 1}), "cached user"),
        (cache, f"{start}user:{user.id}", lambda _: None, "cached user"),
        (cache, f"{start}user:{user.id}", lambda _: b"garbage", "cached user"),
        (cache, f"{start}username:somebody", lambda _: str(other.id).encode(), "cached username"),
        (cache, f"{start}username:somebody", lambda _: None, "cached username"),
        (cache, wallet_key, lambda _: str(other.id).encode(), "cached wallet"),
        (session_server, session_key, with_fields(user_id=str(other.id)), "cached session"),
        (session_server, session_key, with_fields(revoked_at=None, role="admin"), "cached session"),
    ]
    for client, key, change, what in cases:
        before = client.get(key)
        forged(client, key, change)
        found = await look(kept, "cache", repair=True)
        assert [(finding.invariant, finding.what) for finding in found] == [("cache", what)], (key, found)
        assert found[0].key["key"] in key
        assert client.get(key) is None, "it is deleted"
        client.set(key, before, px=60_000)
    # Somebody made up a session that nobody has.
    made_up = session_key.rpartition(":")[0] + ":" + "ab" * 32
    session_server.set(made_up, session_server.get(session_key), px=60_000)
    assert [finding.what for finding in await look(kept, "cache")] == ["cached session"]
    session_server.delete(made_up)

    # Entries that are older than a change are recognised by who reads them: they are no differences.
    old = {key: cache.get(key) for key in (f"{start}user:{user.id}", f"{start}username:somebody", wallet_key)}
    await users.update_user(user.id, username="renamed")
    await users.add_wallet(user.id, "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359")
    await users.remove_wallet(user.id, wallet)
    for key, entry in old.items():
        cache.set(key, entry, px=60_000)
    assert not await look(kept, "cache")
    assert (await users.get_user(user.id)).username == "renamed"


async def test_cached_counts_and_roles_that_are_old_are_no_difference(kept, cache_url, fresh_databases):
    users = UserService(kept.app)
    user = str((await users.create_user(username="somebody")).id)
    counts, roles = kept.app.companion(UnreadCounts), kept.app.companion(Roles)
    cache: Any = redis.Redis.from_url(cache_url)
    start = f"{KEY_START}{await life_of(kept.app)}:"

    async def kept_there() -> bool:
        await counts.cache.load(user)
        await roles._cache.load("all")
        return cache.exists(f"{start}unread:{user}", f"{start}roles:all") == 2

    await until(kept_there)
    old = {key: cache.get(start + key) for key in (f"unread:{user}", "roles:all")}
    with psycopg.connect(fresh_databases.main_url("owner"), autocommit=True) as owner:
        owner.execute(
            "INSERT INTO notifications (id, user_id, kind, title, body, cause_id)"
            " SELECT uuidv7(), %s, min(name), 'A title', '', 'a cause' FROM notification_kinds",
            (user,),
        )
        owner.execute("DELETE FROM role_permissions WHERE role = 'trader'")
    for key, entry in old.items():
        cache.set(start + key, entry, px=60_000)
    assert not await look(kept, "cache")
