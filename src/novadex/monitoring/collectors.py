"""Metrics that are read where they stand when somebody asks: checks, pools, projections, figures, process.

They ask no server. What is not known is left out, so that it cannot be taken for a zero.
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from novadex.monitoring.process import VERSION, process_use
from novadex.monitoring.projection_probe import TRADES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from prometheus_client.metrics_core import Metric

    from novadex.monitoring.cache_probe import CacheProbe
    from novadex.monitoring.checks import HealthCheck
    from novadex.monitoring.figures import FigureReader
    from novadex.monitoring.projection_probe import ProjectionProbe
    from novadex.storage.database import Database

    Samples = Iterable[tuple[tuple[str, ...], float | None]]


def _gauge(name: str, text: str, labels: Sequence[str], samples: Samples) -> Metric:
    return _filled(GaugeMetricFamily(name, text, labels=labels), samples)


def _counter(name: str, text: str, labels: Sequence[str], samples: Samples) -> Metric:
    return _filled(CounterMetricFamily(name, text, labels=labels), samples)


def _filled(family: GaugeMetricFamily | CounterMetricFamily, samples: Samples) -> Metric:
    for labels, value in samples:
        if value is not None:
            family.add_metric(labels, value)
    return family


class HealthCollector(Collector):
    """What the health endpoint says, as numbers: both read the same findings."""

    def __init__(self, checks: Sequence[HealthCheck]) -> None:
        self.checks = checks

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        found = [(check, check.health()) for check in self.checks]
        yield _gauge(
            "novadex_up",
            "Whether a service does its work: 0 where its health is unhealthy.",
            ["service"],
            [((check.service,), health.status != "unhealthy") for check, health in found],
        )
        yield _gauge(
            "novadex_degraded",
            "Whether a service answers with something wrong.",
            ["service"],
            [((check.service,), health.status == "degraded") for check, health in found],
        )
        yield _gauge(
            "novadex_health_check_seconds",
            "Seconds that the last health check of a service took.",
            ["service"],
            [
                ((check.service,), None if health.latency_ms is None else health.latency_ms / 1000)
                for check, health in found
            ],
        )
        yield _gauge(
            "novadex_health_check_age_seconds",
            "Seconds since the last health check of a service.",
            ["service"],
            [((check.service,), check.age_s()) for check, _ in found],
        )


class PoolCollector(Collector):
    """The connection pools of this process. A pool opens with the first call."""

    def __init__(self, databases: Sequence[Database]) -> None:
        self.databases = databases

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        states = [((database.name,), database.pool_state()) for database in self.databases]
        gauges = (
            ("size", "pool_size", "Connections that the pool has."),
            ("available", "pool_available", "Connections of the pool that nobody uses."),
            ("waiting", "requests_waiting", "Calls that wait for a connection."),
        )
        for name, key, text in gauges:
            samples = [(labels, state.get(key, 0)) for labels, state in states]
            yield _gauge(f"novadex_pool_{name}", text, ["database"], samples)
        yield _gauge(
            "novadex_pool_size_max",
            "Connections that the pool may have.",
            ["database"],
            [((database.name,), database.settings.pool_size_max) for database in self.databases],
        )
        counters = (
            ("requests", "requests_num", 1, "Calls that asked for a connection."),
            ("request_errors", "requests_errors", 1, "Calls that got no connection."),
            ("wait_seconds", "requests_wait_ms", 1000, "Seconds that calls waited for a connection."),
            ("connections_opened", "connections_num", 1, "Connections that were opened."),
            ("connection_errors", "connections_errors", 1, "Connections that could not be opened."),
            ("connections_lost", "connections_lost", 1, "Connections that were found broken."),
        )
        for name, key, divisor, text in counters:
            samples = [(labels, state.get(key, 0) / divisor) for labels, state in states]
            yield _counter(f"novadex_pool_{name}", text, ["database"], samples)


class CacheCollector(Collector):
    """What the cache and session servers say of themselves."""

    def __init__(self, probes: Sequence[CacheProbe]) -> None:
        self.probes = probes

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        known = [((probe.name,), probe.info) for probe in self.probes if probe.info]
        counters = (
            ("hits", "keyspace_hits", "Reads that found their key, as the server counts."),
            ("misses", "keyspace_misses", "Reads that did not find their key, as the server counts."),
            ("evicted_keys", "evicted_keys", "Keys that the server removed for lack of room."),
        )
        for name, key, text in counters:
            yield _counter(
                f"novadex_cache_{name}", text, ["service"], [(labels, info.get(key)) for labels, info in known]
            )
        yield _gauge(
            "novadex_cache_hit_ratio",
            "Share of reads that found their key, since the server started.",
            ["service"],
            [
                (labels, _hit_ratio(info.get("keyspace_hits", 0), info.get("keyspace_misses", 0)))
                for labels, info in known
            ],
        )
        gauges = (
            ("memory_bytes", "used_memory", "Bytes that the server uses."),
            ("clients", "connected_clients", "Connections that the server has."),
        )
        for name, key, text in gauges:
            yield _gauge(
                f"novadex_cache_{name}", text, ["service"], [(labels, info.get(key)) for labels, info in known]
            )


def _hit_ratio(hits: int, misses: int) -> float | None:
    return hits / (hits + misses) if hits + misses else None


class ProjectionCollector(Collector):
    """How far the projections have come, as they stored it."""

    def __init__(self, probe: ProjectionProbe) -> None:
        self.probe = probe

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        states = [((state.name,), state) for state in self.probe.states]
        labels = ["projection"]
        yield _gauge(
            "novadex_projection_oldest_waiting_seconds",
            "Seconds since the oldest record was written that is not applied yet; 0 where none waits.",
            labels,
            [(name, state.oldest_waiting_s) for name, state in states],
        )
        yield _gauge(
            "novadex_projection_applied_rows",
            "Rows applied since the projection was last rebuilt.",
            labels,
            [(name, state.applied) for name, state in states],
        )
        yield _gauge(
            "novadex_projection_set_aside_rows",
            "Rows that could not be applied and were set aside.",
            labels,
            [(name, state.set_aside) for name, state in states],
        )
        yield _counter(
            "novadex_trades",
            "Executions that analytics counts: both sides of a match.",
            [],
            [((), state.applied) for state in self.probe.states if state.name == TRADES],
        )


class FigureCollector(Collector):
    """Trades, volume and users of the platform."""

    def __init__(self, reader: FigureReader) -> None:
        self.reader = reader

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        figures = self.reader.latest
        if figures is None:
            return
        yield _gauge(
            "novadex_matches",
            "Matches in a window of time, over all markets.",
            ["window"],
            [(("24h",), figures.trades_day)],
        )
        by_market = (
            ("matches", "Matches of a market in a window of time.", "trades"),
            ("base_volume", "Volume of a market in a window of time, in units of its base asset.", "base_volume"),
            ("quote_volume", "Volume of a market in a window of time, in units of its quote asset.", "quote_volume"),
        )
        for name, text, field in by_market:
            samples = [((market.market, "24h"), getattr(market, field)) for market in figures.markets]
            yield _gauge(f"novadex_market_{name}", text, ["market", "window"], samples)
        yield _gauge(
            "novadex_active_users",
            "Accounts with a trade in a window of time, those of imports included.",
            ["window"],
            [(("24h",), figures.active_users_day), (("7d",), figures.active_users_week)],
        )


class ProcessCollector(Collector):
    """What this process is and uses."""

    def __init__(self, program: str) -> None:
        self.build = (program, VERSION, platform.python_version())

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        use = process_use()
        yield _gauge(
            "novadex_build_info", "What runs here; always 1.", ["program", "version", "python"], [(self.build, 1)]
        )
        yield _gauge(
            "novadex_process_resident_memory_bytes", "Memory in use, in bytes.", [], [((), use.resident_bytes)]
        )
        yield _gauge(
            "novadex_process_virtual_memory_bytes", "Address space, in bytes.", [], [((), use.virtual_bytes)]
        )
        yield _counter("novadex_process_cpu_seconds", "Seconds of processor time.", [], [((), use.cpu_s)])
        yield _gauge("novadex_process_open_fds", "Open file descriptors.", [], [((), use.open_fds)])
        yield _gauge("novadex_process_threads", "Threads.", [], [((), use.threads)])
        yield _gauge(
            "novadex_process_start_time_seconds",
            "When the process started, in seconds since 1970.",
            [],
            [((), use.started_s)],
        )
