"""Lists page by key; every query of a list reads an index."""

from datetime import UTC, datetime, timedelta

import pytest

from novadex import TradingService
from novadex.errors import NotFoundError, ValidationError
from novadex.ids import id_at
from novadex.trading.markets import QUERIES

START = datetime(2026, 3, 30, tzinfo=UTC)
FIRST, LAST = "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"


@pytest.fixture
async def service(db, market, sol_market):
    async with TradingService(db) as service:
        yield service


@pytest.fixture
async def trades(service, users):
    alice, bob = users(2)
    inputs = [
        {
            "id": id_at(START + timedelta(minutes=10 * n)),
            "user_id": (alice, bob)[n % 2],
            "market": ("BTC/USDT", "SOL/USDC")[n % 3 == 0],
            "side": "buy",
            "base_amount": 1,
            "quote_amount": n + 1,
            "price": n + 1,
        }
        for n in range(700)  # five days, over the end of a month
    ]
    created = await service.create_trades(inputs)
    return alice, bob, created


async def read_all(service, **filters):
    items, cursor = [], None
    while True:
        page = await service.list_trades(**filters, cursor=cursor)
        items += page.items
        cursor = page.next
        if cursor is None:
            return items


@pytest.mark.parametrize("limit", [1000, 100, 7])
async def test_pages_give_every_trade_once_newest_first(service, trades, limit):
    assert await read_all(service, limit=limit) == trades[2][::-1]


async def test_filters_by_user_market_and_time_can_be_combined(service, trades):
    alice, _, created = trades
    start, end = START + timedelta(hours=20), START + timedelta(hours=60)
    wanted = [
        trade
        for trade in reversed(created)
        if trade.user_id == alice and trade.market == "BTC/USDT" and start <= trade.executed_at < end
    ]
    assert len(wanted) > 50
    assert await read_all(service, user_id=alice, market="BTC/USDT", start=start, end=end, limit=9) == wanted
    by_market = [trade for trade in reversed(created) if trade.market == "SOL/USDC"]
    assert await read_all(service, market="SOL/USDC", limit=50) == by_market


async def test_wrong_filters_are_named(service, trades):
    with pytest.raises(NotFoundError, match="no market"):
        await service.list_trades(market="NO/SUCH")
    with pytest.raises(ValidationError, match="limit"):
        await service.list_trades(limit=0)
    with pytest.raises(ValidationError, match="limit"):
        await service.list_trades(limit=10_001)
    with pytest.raises(ValidationError, match="cursor"):
        await service.list_trades(cursor="page 2")
    with pytest.raises(NotFoundError, match="no trade"):
        await service.get_trade(id_at(START))


@pytest.mark.parametrize(
    ("query", "more"), [("trades_of_user", [None]), ("trades_of_market", []), ("trades_newest", None)]
)
async def test_a_page_reads_an_index_and_few_rows_of_a_filled_table(owner_db, service, trades, query, more):
    alice, *_ = trades
    await owner_db.main.execute("ANALYZE trades")
    parameters = [LAST, FIRST, 10]
    if query == "trades_of_user":
        parameters += [None, alice]
    elif query == "trades_of_market":
        parameters.append((await service.markets.get("BTC/USDT")).id)
    # The text of the query is a file of the package; EXPLAIN before it keeps it literal.
    statement = "EXPLAIN (ANALYZE, FORMAT JSON) " + QUERIES[query].sql
    plan = (await owner_db.main.value(statement, parameters))[0]["Plan"]

    def nodes(node):
        yield node
        for child in node.get("Plans", []):
            yield from nodes(child)

    scans = [node for node in nodes(plan) if node.get("Relation Name", "").startswith("trades")]
    assert scans
    assert not [node for node in scans if node["Node Type"] == "Seq Scan" and node["Actual Loops"] > 0]
    assert sum(node["Actual Rows"] * node["Actual Loops"] for node in scans) <= 40
