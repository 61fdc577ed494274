"""Metrics: a format that Prometheus accepts, names and labels that stay few, values that the databases hold."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import psycopg
import pytest
import redis
from prometheus_client import Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from novadex.ids import id_at
from novadex.metrics import REGISTRY
from novadex.monitoring.bounded import BoundedConnection
from novadex.monitoring.database_probe import QUERIES
from novadex.monitoring.figures import MARKETS_MAX, FigureReader
from novadex.monitoring.monitor import Monitor, Program
from novadex.settings import load_settings
from novadex.storage.connection import DatabaseConnection
from tests.conftest import DatabasePair, MarketRow
from tests.integration.monitoring.venue import Watched, eventually, watching

SERIES_MAX = 1_500
LABELS = {
    "answer", "by", "channel", "code", "database", "field", "invariant", "job", "kind", "le", "limit", "market",
    "method", "namespace", "occasion", "program", "projection", "python", "query", "reason", "replica", "result",
    "route", "server", "service", "shard", "status", "target", "version", "window",
}  # fmt: skip
SECRET_LOOKING = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}|0x[0-9a-f]{6,}|\bSELECT\b|\bINSERT\b|postgresql://|redis://", re.IGNORECASE
)
NOW = datetime.now(UTC)


def families(text: str) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(text)}


def sample(text: str, name: str, **labels: str) -> float | None:
    """The value of one sample; None where there is none."""
    for family in text_string_to_metric_families(text):
        for each in family.samples:
            if each.name == name and each.labels == labels:
                return each.value
    return None


async def text_of(watched: Watched) -> str:
    answer = await watched.get("/api/metrics")
    assert answer.status_code == 200
    return answer.text


def add_day(url: str, user: UUID, market: str, moment: datetime, trades: int = 1) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO trading_analytics VALUES (%s, %s, %s, %s, %s, 0, 0, %s, 1, 1, 0, 0, %s, %s)",
            (user, market, moment.date(), trades, trades, trades, moment, moment),
        )


def add_candle(url: str, market: str, moment: datetime, volume: str, trades: int) -> None:
    start = moment.replace(second=0, microsecond=0)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO candles VALUES (%s, %s, 2, 2, 2, 2, %s, %s, 0, %s, %s, 1, %s, %s, 1, %s)",
            (market, start, volume, Decimal(volume) * 2, trades, start, uuid4(), start, uuid4()),
        )


@pytest.mark.parametrize("program", ["api", "worker"])
async def test_promtool_accepts_what_is_shown(
    fresh_databases: DatabasePair, cache_url: str, sessions_url: str, program: Program
):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    add_candle(fresh_databases.analytics_url(None), "BTC/USDT", NOW, "3", 4)
    endpoints = fresh_databases.endpoints(cache=cache_url, sessions=sessions_url)
    async with watching(endpoints, program) as watched:
        await watched.becomes("cache", "healthy")
        await watched.get("/api/nowhere")
        if program == "api":
            await eventually(lambda: watched.monitor.figures.latest, "figures were read")
        text = await text_of(watched)
    checked = await asyncio.to_thread(
        subprocess.run,
        [promtool, "check", "metrics"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


async def test_names_and_labels_are_few_and_show_nobody(
    fresh_databases: DatabasePair, market: MarketRow, users, cache_url: str, sessions_url: str
):
    for collector in set(REGISTRY._names_to_collectors.values()):
        if getattr(collector, "_labelnames", ()):
            collector.clear()  # pyright: ignore[reportAttributeAccessIssue] - what other tests did in this process
    for user in users(5):
        add_day(fresh_databases.analytics_url(None), user, market.symbol, NOW)
    endpoints = fresh_databases.endpoints(cache=cache_url, sessions=sessions_url)
    async with watching(endpoints) as watched:
        for service in ("main", "analytics", "cache", "sessions"):
            await watched.becomes(service, "healthy")
        await eventually(lambda: watched.monitor.figures.latest, "figures were read")
        for path in ("/api/health", f"/api/{uuid4()}", "/api/a-secret-path", "/wp-login.php"):
            await watched.get(path)
        await watched.client.request("BREW", "/api/health")
        text = await text_of(watched)
    found = [each for family in text_string_to_metric_families(text) for each in family.samples]
    assert len(found) < SERIES_MAX
    assert all(each.name.startswith("novadex_") for each in found)
    assert {label for each in found for label in each.labels} <= LABELS
    values = {value for each in found for value in each.labels.values()}
    assert not [value for value in values if SECRET_LOOKING.search(value) or "secret" in value]
    routes = {each.labels["route"] for each in found if "route" in each.labels}
    assert "/wp-login.php" not in routes
    assert not any(each.name.endswith("_created") for each in found)  # when a series began


async def test_every_subject_has_its_metrics(fresh_databases: DatabasePair, cache_url: str, sessions_url: str):
    endpoints = fresh_databases.endpoints(cache=cache_url, sessions=sessions_url)
    async with watching(endpoints) as watched:
        await watched.becomes("cache", "healthy")
        await watched.becomes("main", "healthy")
        await eventually(lambda: watched.monitor.figures.latest, "figures were read")
        shown = families(await text_of(watched))
    assert {
        "novadex_pool_size",
        "novadex_pool_available",
        "novadex_pool_waiting",
        "novadex_query_seconds",
        "novadex_query_errors",
        "novadex_cache_hits",
        "novadex_cache_misses",
        "novadex_cache_hit_ratio",
        "novadex_trades",
        "novadex_matches",
        "novadex_market_quote_volume",
        "novadex_active_users",
        "novadex_projection_lag_seconds",
        "novadex_projection_set_aside_rows",
        "novadex_up",
        "novadex_health_check_seconds",
        "novadex_process_resident_memory_bytes",
        "novadex_process_cpu_seconds",
        "novadex_process_open_fds",
        "novadex_process_threads",
        "novadex_process_start_time_seconds",
        "novadex_build_info",
    } <= shown.keys()


async def test_figures_agree_with_the_database(fresh_databases: DatabasePair, cache_url: str, sessions_url: str):
    url = fresh_databases.analytics_url(None)
    add_candle(url, "BTC/USDT", NOW - timedelta(hours=1), "1.5", 3)
    add_candle(url, "BTC/USDT", NOW - timedelta(hours=2), "2.25", 4)
    add_candle(url, "BTC/USDT", NOW - timedelta(hours=25), "100", 100)
    add_candle(url, "ETH/USDT-PERP", NOW - timedelta(minutes=5), "7", 2)
    add_candle(url, "OLD/USDT", NOW - timedelta(days=30), "9", 9)
    today, both, this_week, long_ago = uuid4(), uuid4(), uuid4(), uuid4()
    add_day(url, today, "BTC/USDT", NOW - timedelta(minutes=1))
    add_day(url, both, "BTC/USDT", NOW - timedelta(minutes=1))
    add_day(url, both, "ETH/USDT-PERP", NOW - timedelta(minutes=1))
    add_day(url, this_week, "BTC/USDT", NOW - timedelta(days=5))
    add_day(url, long_ago, "BTC/USDT", NOW - timedelta(days=9))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO projections"
            " (name, epoch, system_identifier, timeline, xid, id, watermark, applied, set_aside)"
            " VALUES ('trades', 1, 1, 1, '1', %s, now() - interval '4 seconds', 12345, 6)",
            (uuid4(),),
        )
    endpoints = fresh_databases.endpoints(cache=cache_url, sessions=sessions_url)
    async with watching(endpoints) as watched:
        await watched.becomes("worker", "healthy")
        await eventually(lambda: watched.monitor.figures.latest, "figures were read")
        text = await text_of(watched)

    def day(name: str, market: str) -> float | None:
        return sample(text, name, market=market, window="24h")

    assert day("novadex_market_matches", "BTC/USDT") == 7
    assert day("novadex_market_base_volume", "BTC/USDT") == 3.75
    assert day("novadex_market_quote_volume", "BTC/USDT") == 7.5
    assert day("novadex_market_quote_volume", "ETH/USDT-PERP") == 14
    assert day("novadex_market_quote_volume", "OLD/USDT") == 0
    assert sample(text, "novadex_matches", window="24h") == 9
    assert sample(text, "novadex_active_users", window="24h") == 2
    assert sample(text, "novadex_active_users", window="7d") == 3
    assert sample(text, "novadex_trades_total") == 12345
    assert sample(text, "novadex_projection_applied_rows", projection="trades") == 12345
    assert sample(text, "novadex_projection_set_aside_rows", projection="trades") == 6
    lag_s = sample(text, "novadex_projection_lag_seconds", projection="trades")
    assert lag_s is not None
    assert 4 <= lag_s < 15


async def test_the_busiest_markets_are_shown_and_all_are_summed(
    db: DatabaseConnection, fresh_databases: DatabasePair
):
    with psycopg.connect(fresh_databases.analytics_url(None), autocommit=True) as connection:
        connection.execute(
            "INSERT INTO candles SELECT 'M' || n || '/USDT', date_trunc('minute', now(), 'UTC'), 1, 1, 1, 1, 1, 1, 0,"
            " n, date_trunc('minute', now(), 'UTC'), 1, gen_random_uuid(), date_trunc('minute', now(), 'UTC'), 1,"
            " gen_random_uuid() FROM generate_series(1, 150) n"
        )
    connection = BoundedConnection(db.analytics)
    reader = FigureReader(connection)
    try:
        await reader.read()
    finally:
        await connection.close()
    figures = reader.latest
    assert figures is not None
    assert len(figures.markets) == MARKETS_MAX
    assert figures.markets[0].market == "M150/USDT"
    assert figures.trades_day == sum(range(151))


async def test_cache_hits_are_those_of_the_server(venue):
    with redis.Redis.from_url(venue.cache.url, socket_timeout=5) as client:
        client.config_resetstat()
        client.set("there", "1")
        for _ in range(3):
            client.get("there")
        client.get("not there")
    async with watching(venue.endpoints()) as watched:
        await watched.becomes("cache", "healthy")
        text = await text_of(watched)
    assert sample(text, "novadex_cache_hits_total", service="cache") == 3
    assert sample(text, "novadex_cache_misses_total", service="cache") == 1
    assert sample(text, "novadex_cache_hit_ratio", service="cache") == 0.75


async def test_a_trade_that_waits_is_seen_until_it_is_applied(
    fresh_databases: DatabasePair, market: MarketRow, users, cache_url: str, sessions_url: str
):
    analytics = fresh_databases.analytics_url(None)
    with psycopg.connect(analytics, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO projections (name, epoch, system_identifier, timeline, xid, id, watermark)"
            " VALUES ('trades', 1, 1, 1, '0', %s, now())",
            (UUID(int=0),),
        )
    executed_at = datetime.now(UTC)
    with psycopg.connect(fresh_databases.main_url(None), autocommit=True) as connection:
        row = connection.execute(
            "INSERT INTO trades (id, user_id, market_id, base_decimals, quote_decimals, side, base_amount,"
            " quote_amount, price, executed_at) VALUES (%s, %s, %s, 18, 18, 'buy', 1, 2, 2, %s)"
            " RETURNING xid::text, id",
            (id_at(executed_at), users(1)[0], market.id, executed_at),
        ).fetchone()
    assert row is not None
    endpoints = fresh_databases.endpoints(cache=cache_url, sessions=sessions_url)
    async with watching(endpoints) as watched:

        async def waiting_s() -> float:
            return (
                sample(await text_of(watched), "novadex_projection_oldest_waiting_seconds", projection="trades")
                or 0.0
            )

        await watched.becomes("worker", "healthy")
        waited_s = await waiting_s()
        assert 0 < waited_s < 60
        with psycopg.connect(analytics, autocommit=True) as connection:
            connection.execute("UPDATE projections SET xid = %s::xid8, id = %s", row)
        checked = watched.monitor.checks["worker"].health().checked_at
        await eventually(
            lambda: watched.monitor.checks["worker"].health().checked_at != checked, "it is looked at again"
        )
        checked = watched.monitor.checks["worker"].health().checked_at
        await eventually(
            lambda: watched.monitor.checks["worker"].health().checked_at != checked, "it is looked at again"
        )
        assert await waiting_s() == 0


async def test_what_is_not_known_is_not_shown_as_zero(venue):
    async with watching(venue.endpoints()) as watched:
        for service in ("analytics", "cache"):
            await watched.becomes(service, "healthy")
        venue.pause("analytics")
        venue.pause("cache")
        for service in ("analytics", "cache"):
            await watched.becomes(service, "unhealthy")
        text = await text_of(watched)
    assert sample(text, "novadex_cache_hits_total", service="cache") is None
    assert sample(text, "novadex_projection_oldest_waiting_seconds", projection="trades") is None
    assert sample(text, "novadex_up", service="cache") == 0


async def test_reads_of_large_tables_go_by_their_keys(fresh_databases: DatabasePair):
    """No plan of monitoring reads a table from end to end, or sorts it."""
    with psycopg.connect(fresh_databases.analytics_url(None), autocommit=True) as connection:
        connection.execute(
            "WITH minutes AS (SELECT date_trunc('minute', now(), 'UTC') - n * interval '1 minute' AS minute"
            " FROM generate_series(0, 15000) n)"
            " INSERT INTO candles SELECT market, minute, 1, 1, 1, 1, 1, 1, 0, 1, minute, 1, gen_random_uuid(),"
            " minute, 1, gen_random_uuid() FROM minutes, unnest(ARRAY['A/B', 'C/D', 'E/F']) market"
        )
        connection.execute("ANALYZE candles")
        plan = "\n".join(line for (line,) in connection.execute("EXPLAIN " + QUERIES.markets_of_day.sql))
    assert "Index" in plan
    assert "Seq Scan" not in plan
    with psycopg.connect(fresh_databases.main_url(None), autocommit=True) as connection:
        connection.execute("PREPARE oldest (text, uuid) AS " + QUERIES.oldest_waiting_trade.sql)
        plan = "\n".join(
            line
            for (line,) in connection.execute("EXPLAIN EXECUTE oldest ('5', '00000000-0000-0000-0000-000000000000')")
        )
    assert "Index Cond" in plan
    assert not re.search(r"Seq Scan|Sort +\(cost", plan)


async def test_pool_metrics_follow_the_pool(fresh_databases: DatabasePair, cache_url: str, sessions_url: str):
    endpoints = fresh_databases.endpoints(cache=cache_url, sessions=sessions_url)
    async with DatabaseConnection(endpoints, load_settings()) as database:
        async with Monitor("worker", database, endpoints) as monitor:
            assert sample(monitor.metrics_text().decode(), "novadex_pool_size", database="main") == 0
            async with database.main.connection():
                text = monitor.metrics_text().decode()
            assert sample(text, "novadex_pool_requests_total", database="main") == 1
            assert (sample(text, "novadex_pool_size", database="main") or 0) >= 1
            assert sample(text, "novadex_pool_size_max", database="main") == database.settings.pool_size_max
            assert sample(text, "novadex_pool_waiting", database="main") == 0
        assert "novadex_pool_size" not in families(generate_latest(REGISTRY).decode()), "closed monitors show nothing"
