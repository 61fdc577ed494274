"""Candles are read by interval, range and limit, and never more of them than needed."""

import json
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random

import psycopg
import pytest

from novadex import AnalyticsService
from novadex.analytics import candles as reading
from novadex.analytics.candles import INTERVALS, ORIGIN
from novadex.analytics.candles import SQL as CANDLES
from novadex.errors import NotFoundError, ValidationError
from tests.integration.analytics.records import NOON, TradeRow, binance_trades, drain

DAY = timedelta(days=1)


@pytest.fixture
def analytics(db):
    return AnalyticsService(db)


@pytest.fixture
async def three_weeks(venue, projection):
    """Trades over three weeks with gaps, across the ends of weeks, days and hours."""
    random = Random(5)  # noqa: S311 - no secret
    start = datetime(2024, 7, 26, 22, 0, tzinfo=UTC)
    moments = [start + timedelta(seconds=random.randrange(21 * 86400)) for _ in range(400)]
    moments += [datetime(2024, 8, 4, 23, 59, 59, 999999, tzinfo=UTC), datetime(2024, 8, 5, tzinfo=UTC)]
    trades = [
        TradeRow(
            venue.user,
            venue.market,
            moment,
            side=random.choice(["buy", "sell"]),
            base_amount=Decimal(random.randrange(1, 10**9)) / 10**6,
            price=Decimal(random.randrange(1, 10**6)) / 100,
        )
        for moment in moments
    ]
    venue.record(*trades)
    await drain(projection)
    return trades


def directly(trades, interval):
    """Candles of an interval, straight from the trades."""
    length = INTERVALS[interval]
    groups = defaultdict(list)
    for t in sorted(trades, key=lambda t: (t.executed_at, t.id)):
        groups[ORIGIN + (t.executed_at - ORIGIN) // length * length].append(t)
    return [
        (
            start,
            group[0].price,
            max(t.price for t in group),
            min(t.price for t in group),
            group[-1].price,
            sum(t.base_amount for t in group),
            sum(t.quote_amount for t in group),
            sum(t.base_amount for t in group if t.side == "buy"),
            len(group),
        )
        for start, group in sorted(groups.items())
    ]


def values(candle):
    return tuple(getattr(candle, name) for name in candle.__slots__[:-1])


async def test_real_trades_give_the_expected_candles_digit_for_digit(analytics, projection, venue, shared_data):
    venue.record(*binance_trades(shared_data / "BTCUSDT-trades-2024-08-08.csv", venue.user, venue.market))
    await drain(projection)
    expected = json.loads((shared_data / "BTCUSDT-candles-1m.expected.json").read_text())
    shown = [candle.as_dict() for candle in await analytics.get_candles("BTC/USDT")]
    assert len(shown) == len(expected) == 7
    for candle, wanted in zip(shown, expected, strict=True):
        start = datetime.fromtimestamp(wanted["start_ms"] / 1000, UTC)
        assert candle == {
            "start": start.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "taker_buy_base_volume": wanted["taker_buy_base"],
            "complete": True,
            **{n: wanted[n] for n in ("open", "high", "low", "close", "base_volume", "quote_volume", "trades")},
        }


@pytest.mark.parametrize("interval", INTERVALS)
async def test_every_interval_is_as_if_made_from_the_trades(interval, analytics, three_weeks, monkeypatch):
    monkeypatch.setattr(reading, "PAGE_CANDLES", 7)
    expected = directly(three_weeks, interval)
    newest = await analytics.get_candles("BTC/USDT", interval, limit=10_000)
    assert [values(candle) for candle in newest] == expected
    streamed = [candle async for candle in analytics.stream_candles("BTC/USDT", interval)]
    assert streamed == newest
    if interval == "1w":
        assert [start.weekday() for start, *_ in expected] == [0, 0, 0, 0]


@pytest.mark.parametrize("interval", INTERVALS)
async def test_ranges_count_an_interval_by_its_start_and_limits_take_the_newest(interval, analytics, three_weeks):
    expected = directly(three_weeks, interval)
    start, end = expected[len(expected) // 4][0], expected[-1][0]
    for begin, stop in [
        (start, end),
        (start + timedelta(microseconds=1), end + timedelta(microseconds=1)),
        (start - timedelta(microseconds=1), end - timedelta(microseconds=1)),
        (None, end),
        (start, None),
        (end, end),
    ]:
        wanted = [
            candle
            for candle in expected
            if (begin is None or candle[0] >= begin) and (stop is None or candle[0] < stop)
        ]
        streamed = [c async for c in analytics.stream_candles("BTC/USDT", interval, start=begin, end=stop)]
        assert [values(candle) for candle in streamed] == wanted
        for limit in (1, 3, 10_000):
            newest = await analytics.get_candles("BTC/USDT", interval, start=begin, end=stop, limit=limit)
            assert [values(candle) for candle in newest] == wanted[-limit:]


async def test_an_interval_is_complete_once_the_watermark_is_past_its_end(analytics, projection, venue, main_url):
    now = datetime.now(UTC)
    recent = venue.record(
        TradeRow(venue.user, venue.market, now), TradeRow(venue.user, venue.market, now - timedelta(minutes=2))
    )
    await drain(projection)
    watermark = (await projection.load_state()).watermark
    for interval in INTERVALS:
        for candle in await analytics.get_candles("BTC/USDT", interval):
            assert candle.complete == (watermark >= candle.start + INTERVALS[interval])
    assert [candle.complete for candle in await analytics.get_candles("BTC/USDT", "1w")][-1] is False
    minutes = await analytics.get_candles("BTC/USDT", "1m")
    assert minutes[0].complete
    assert len(minutes) == len(recent)


async def test_without_a_watermark_nothing_is_complete(analytics, owner_db, three_weeks):
    await owner_db.analytics.execute("UPDATE projections SET watermark = NULL")
    assert not any(candle.complete for candle in await analytics.get_candles("BTC/USDT", "1d"))


async def test_an_unknown_market_differs_from_one_without_candles(analytics, venue):
    assert await analytics.get_candles("BTC/USDT") == []
    assert [candle async for candle in analytics.stream_candles("BTC/USDT")] == []
    with pytest.raises(NotFoundError, match="'BTC/USDD'"):
        await analytics.get_candles("BTC/USDD")
    with pytest.raises(NotFoundError, match="'btc/usdt'"):
        _ = [candle async for candle in analytics.stream_candles("btc/usdt")]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"interval": "2h"}, "interval"),
        ({"limit": 0}, "limit"),
        ({"limit": 10_001}, "limit"),
        ({"start": datetime(2024, 8, 8)}, "start"),  # noqa: DTZ001 - that is what is refused
        ({"end": datetime(2024, 8, 8)}, "end"),  # noqa: DTZ001
        ({"start": NOON, "end": NOON - DAY}, "end"),
    ],
)
async def test_a_wrong_value_is_named(wrong, field, analytics, venue):
    with pytest.raises(ValidationError) as caught:
        await analytics.get_candles("BTC/USDT", **wrong)
    assert caught.value.field == field


@pytest.fixture(scope="module")
def filled(make_databases):
    """A pair with 70,000 minutes of each of four markets, and statistics."""
    pair = make_databases()
    with psycopg.connect(pair.analytics_url(None), autocommit=True) as admin:
        admin.execute(
            "INSERT INTO candles SELECT market, minute, 1, 2, 1, 2, 3, 4, 1, 1,"
            " minute, 0, uuid_at(minute), minute, 0, uuid_at(minute)"
            " FROM unnest(ARRAY['AAA/USDT', 'BTC/USDT', 'CCC/USDT', 'DDD/USDT']) AS market,"
            " generate_series(timestamptz '2024-01-15Z', '2024-03-05Z', '1 minute') AS minute"
        )
        admin.execute("VACUUM ANALYZE candles")
    yield pair
    pair.server.drop_database(pair.main)
    pair.server.drop_database(pair.analytics)


def nodes(plan):
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


@pytest.mark.parametrize("name", ["newest", "next"])
@pytest.mark.parametrize(("interval", "limit"), [("1m", 1), ("1m", 500), ("5m", 100), ("1h", 24), ("1d", 3)])
async def test_no_more_minutes_are_read_than_needed(name, interval, limit, filled):
    begin, stop = datetime(2024, 2, 1, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC)
    parameters = ["BTC/USDT", INTERVALS[interval], begin, stop, limit]
    async with filled.connection("app") as db:
        assert len(await db.analytics.query(CANDLES[name], parameters)) == limit
        (row,) = await db.analytics.query("EXPLAIN (ANALYZE, FORMAT JSON) " + CANDLES[name].sql, parameters)
    scans = [node for node in nodes(row["QUERY PLAN"][0]["Plan"]) if node.get("Relation Name") == "candles"]
    assert scans
    assert {node["Node Type"] for node in scans} <= {"Index Scan", "Index Only Scan"}
    read = sum((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"] for node in scans)
    minutes = limit * INTERVALS[interval] // timedelta(minutes=1)
    # Each minute once, and one step down the index for each interval.
    assert read <= minutes + limit + 1
