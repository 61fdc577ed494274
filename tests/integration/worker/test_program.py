"""The worker as a program: what is committed reaches analytics, whatever happens to the servers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime

import psycopg
import pytest

from novadex.ids import id_at, uuid7
from tests.conftest import add_market, add_users
from tests.integration.monitoring.venue import ANALYTICS, MAIN, RunningProgram, Venue, eventually_now, value_of
from tests.integration.worker.test_housekeeping import drop, exists, partition
from tests.servers import PASSWORD

StartProgram = Callable[..., RunningProgram]
STOP_S_MAX = 8.0


class Trades:
    """Writes trades of a market of its own, and counts those that analytics has."""

    def __init__(self, venue: Venue) -> None:
        self.venue = venue
        self.owner_url = venue.main.url(MAIN, "novadex_owner")
        name = uuid7().hex[-12:].upper()
        self.market = add_market(self.owner_url, f"T{name}/Q{name}", 18, 18)
        self.user = add_users(self.owner_url, 1)[0]
        self.written = 0

    def write(self, count: int) -> None:
        with psycopg.connect(self.owner_url) as connection:
            for _ in range(count):
                executed_at = datetime.now(UTC)
                connection.execute(
                    "INSERT INTO trades (id, user_id, market_id, base_decimals, quote_decimals, side, base_amount,"
                    " quote_amount, price, executed_at) VALUES (%s, %s, %s, 18, 18, 'buy', 1, 2, 2, %s)",
                    (id_at(executed_at), self.user, self.market.id, executed_at),
                )
        self.written += count

    def in_analytics(self) -> int:
        return value_of(
            self.venue.analytics.url(ANALYTICS),
            "SELECT coalesce(sum(trades), 0)::bigint FROM candles WHERE market = %s",
            (self.market.symbol,),
        )

    def wait_for_all(self) -> None:
        eventually_now(lambda: self.in_analytics() == self.written, f"{self.written} trades are in analytics")


def test_trades_reach_analytics_and_partitions_are_made(venue: Venue, start_program: StartProgram):
    owner = venue.analytics.url(ANALYTICS, "novadex_owner")
    name = partition("page_views", 3)
    drop(owner, name)
    trades = Trades(venue)
    trades.write(3)
    worker = start_program("worker", venue.environment("worker"))
    worker.wait_for("/api/health/live")
    trades.wait_for_all()
    eventually_now(lambda: exists(owner, name), "the partition is there again")
    eventually_now(
        lambda: worker.ask("/api/health").json()["status"] == "healthy", "everything is healthy for the worker"
    )
    text = worker.ask("/api/metrics").body.decode()
    assert 'novadex_build_info{program="worker"' in text
    assert 'novadex_job_seconds_count{job="partitions_analytics"} 1.0' in text
    assert "novadex_projection_lag_seconds{" in text
    recorded = (
        "SELECT count(*) FROM performance_metrics"
        " WHERE starts_with(instance, 'worker@') AND starts_with(name, 'novadex_projection')"
    )
    eventually_now(lambda: value_of(owner, recorded) > 0, "the worker records its figures")
    assert worker.end() == 0
    assert PASSWORD not in worker.log
    for line in worker.log.splitlines():
        assert json.loads(line)["program"] == "worker"


@pytest.mark.parametrize("service", ["main", "analytics"])
def test_it_goes_on_after_a_database_was_killed(venue: Venue, start_program: StartProgram, service: str):
    trades = Trades(venue)
    worker = start_program("worker", venue.environment("worker"))
    trades.write(2)
    trades.wait_for_all()
    venue.kill(service)
    eventually_now(
        lambda: worker.ask("/api/health").json()["services"][service]["status"] == "unhealthy", "the loss is seen"
    )
    venue.restore()
    trades.write(2)
    trades.wait_for_all()
    worker.wait_for("/api/health/ready")
    assert worker.process.poll() is None


@pytest.mark.parametrize("service", ["main", "analytics"])
def test_it_goes_on_after_a_database_hung(venue: Venue, start_program: StartProgram, service: str):
    trades = Trades(venue)
    worker = start_program("worker", venue.environment("worker"))
    trades.write(1)
    trades.wait_for_all()
    venue.pause(service)
    eventually_now(
        lambda: worker.ask("/api/health").json()["services"][service]["status"] == "unhealthy", "the hanging is seen"
    )
    venue.resume()
    trades.write(2)
    trades.wait_for_all()


def test_it_starts_without_its_servers(venue: Venue, start_program: StartProgram):
    trades = Trades(venue)
    trades.write(1)
    for service in ("main", "analytics", "cache", "sessions"):
        venue.kill(service)
    worker = start_program("worker", venue.environment("worker"))
    worker.wait_for("/api/health", 503)
    venue.restore()
    trades.wait_for_all()


def test_it_ends_in_time_while_both_databases_hang(venue: Venue, start_program: StartProgram):
    worker = start_program("worker", venue.environment("worker"))
    worker.wait_for("/api/health/ready")
    venue.pause("main")
    venue.pause("analytics")
    worker.wait_for("/api/health", 503)
    begun = time.monotonic()
    assert worker.end() == 0
    assert time.monotonic() - begun < STOP_S_MAX


def test_the_api_of_the_same_servers_sees_it(venue: Venue, start_program: StartProgram):
    api = start_program("api", venue.environment())
    worker = start_program("worker", venue.environment("worker"))
    worker.wait_for("/api/health/live")

    def seen() -> bool:
        return api.answers("/api/health", 200) and api.ask("/api/health").json()["status"] == "healthy"

    eventually_now(seen, "everything is healthy, the worker too")
