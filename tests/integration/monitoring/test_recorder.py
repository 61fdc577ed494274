"""The recorder: performance_metrics holds what /api/metrics shows, and nothing waits for it."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import psycopg
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from psycopg.sql import SQL, Identifier

from novadex.metrics import REGISTRY
from novadex.monitoring import recorder as recording
from novadex.monitoring.bounded import BoundedConnection
from novadex.monitoring.process import instance_name
from novadex.monitoring.recorder import Recorder, samples_to_record
from novadex.storage.connection import DatabaseConnection
from tests.conftest import DatabasePair
from tests.integration.monitoring.venue import ANALYTICS, eventually, execute, value_of, watching


@pytest.fixture
async def analytics(db: DatabaseConnection) -> AsyncIterator[BoundedConnection]:
    connection = BoundedConnection(db.analytics)
    yield connection
    await connection.close()


def registry_of_all_kinds() -> CollectorRegistry:
    registry = CollectorRegistry()
    Gauge("novadex_level", "A gauge.", ("of",), registry=registry).labels('a "quoted" \\ name').set(0.1)
    Counter("novadex_steps", "A counter.", registry=registry).inc(3)
    Histogram("novadex_wait_seconds", "A histogram.", buckets=(1, 2), registry=registry).observe(1.5)
    Gauge("novadex_unknown", "Not a number.", registry=registry).set(float("nan"))
    Gauge("novadex_endless", "Infinite.", registry=registry).set(float("inf"))
    return registry


def recorded(pair: DatabasePair) -> list[tuple[str, str, dict[str, str], str]]:
    with psycopg.connect(pair.analytics_url("readonly")) as connection:
        return connection.execute(
            "SELECT instance, name, labels, value::text FROM performance_metrics ORDER BY id"
        ).fetchall()


def key_of(name: str, labels: dict[str, str]) -> tuple[str, str]:
    return name, json.dumps(labels, sort_keys=True)


async def test_each_kind_of_figure_is_recorded_without_buckets(
    analytics: BoundedConnection, fresh_databases: DatabasePair
):
    await Recorder(analytics, "api@test:1", registry_of_all_kinds()).record()
    assert recorded(fresh_databases) == [
        ("api@test:1", "novadex_level", {"of": 'a "quoted" \\ name'}, "0.1"),
        ("api@test:1", "novadex_steps_total", {}, "3"),
        ("api@test:1", "novadex_wait_seconds_count", {}, "1"),
        ("api@test:1", "novadex_wait_seconds_sum", {}, "1.5"),
        ("api@test:1", "novadex_unknown", {}, "NaN"),
        ("api@test:1", "novadex_endless", {}, "Infinity"),
    ]


async def test_the_record_is_what_the_endpoint_shows(
    fresh_databases: DatabasePair, cache_url: str, sessions_url: str
):
    endpoints = fresh_databases.endpoints(cache=cache_url, sessions=sessions_url)
    async with watching(endpoints, metrics_interval_s=3600) as watched:
        for service in ("main", "analytics", "cache", "sessions"):
            await watched.becomes(service, "healthy")
        await eventually(lambda: watched.monitor.figures.latest, "figures were read")
        await watched.get("/api/metrics")
        execute(fresh_databases.analytics_url("owner"), "TRUNCATE performance_metrics")
        shown = {
            (each.name, json.dumps(each.labels, sort_keys=True)): each.value for each in samples_to_record(REGISTRY)
        }
        await watched.monitor.recorder.record()
    rows = recorded(fresh_databases)
    stored = {key_of(name, labels): float(value) for _, name, labels, value in rows}
    assert {instance for instance, *_ in rows} == {instance_name("api")}
    assert stored.keys() == shown.keys()
    for name in ("novadex_pool_size_max", "novadex_up", "novadex_active_users", "novadex_build_info"):
        keys = [key for key in shown if key[0] == name]
        assert keys
        assert [stored[key] for key in keys] == [shown[key] for key in keys]


async def test_records_follow_each_other(fresh_databases: DatabasePair, cache_url: str, sessions_url: str):
    endpoints = fresh_databases.endpoints(cache=cache_url, sessions=sessions_url)
    url = fresh_databases.analytics_url("readonly")
    async with watching(endpoints, "worker"):
        await eventually(
            lambda: value_of(url, "SELECT count(DISTINCT recorded_at) FROM performance_metrics") >= 3, "three records"
        )


async def test_a_record_is_bounded(
    analytics: BoundedConnection, fresh_databases: DatabasePair, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(recording, "ROWS_MAX", 2)
    before = REGISTRY.get_sample_value("novadex_recorded_rows_total", {"result": "skipped"}) or 0
    await Recorder(analytics, "api@test:1", registry_of_all_kinds()).record()
    assert len(recorded(fresh_databases)) == 2
    assert REGISTRY.get_sample_value("novadex_recorded_rows_total", {"result": "skipped"}) == before + 4


async def test_a_missing_partition_is_made(analytics: BoundedConnection, fresh_databases: DatabasePair):
    partition = f"performance_metrics_{datetime.now(UTC):%Y_%m}"
    execute(fresh_databases.analytics_url("owner"), SQL("DROP TABLE {}").format(Identifier(partition)))
    await Recorder(analytics, "api@test:1", registry_of_all_kinds()).record()
    assert len(recorded(fresh_databases)) == 6


async def test_without_analytics_records_are_skipped_and_counted(venue):
    url = venue.analytics.url(ANALYTICS)

    def skipped() -> float:
        return REGISTRY.get_sample_value("novadex_recorded_rows_total", {"result": "skipped"}) or 0

    def records() -> int:
        return value_of(url, "SELECT count(DISTINCT recorded_at) FROM performance_metrics")

    async with watching(venue.endpoints()) as watched:
        await eventually(lambda: records() > 0, "there are records")
        before = skipped()
        begun = time.perf_counter()
        venue.pause("analytics")
        await eventually(lambda: skipped() > before, "a record was skipped")
        assert time.perf_counter() - begun < 2 * recording.DEADLINE_S
        assert (await watched.get("/api/metrics")).status_code == 200
        venue.resume()
        there = records()
        await eventually(lambda: records() > there, "records go on")
