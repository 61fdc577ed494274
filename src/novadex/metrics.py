"""What this process counts and times: one registry, which ``/api/metrics`` prints and the recorder stores."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()

LATENCY_BUCKETS_S = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
)

query_seconds = Histogram(
    "novadex_query_seconds",
    "Seconds a query took, by its name.",
    ("database", "query"),
    buckets=LATENCY_BUCKETS_S,
    registry=REGISTRY,
)
query_errors = Counter(
    "novadex_query_errors_total", "Queries that failed, by SQLSTATE.", ("database", "code"), registry=REGISTRY
)
query_retries = Counter(
    "novadex_query_retries_total",
    "Statements and transactions that were run again.",
    ("database", "code"),
    registry=REGISTRY,
)
replica_reads = Counter("novadex_replica_reads_total", "Reads by where they went.", ("target",), registry=REGISTRY)
replica_lag_seconds = Gauge(
    "novadex_replica_lag_seconds",
    "Seconds a replica is behind the primary, at most.",
    ("replica",),
    registry=REGISTRY,
)
trades_written = Counter("novadex_trades_written_total", "Trades written by this process.", registry=REGISTRY)
trades_duplicate = Counter(
    "novadex_trades_duplicate_total",
    "Trades that were there already: retries and second imports.",
    registry=REGISTRY,
)
trades_refused = Counter(
    "novadex_trades_refused_total", "Trades refused, by error code.", ("code",), registry=REGISTRY
)
group_commit_batch_trades = Histogram(
    "novadex_group_commit_batch_trades",
    "Trades in one transaction.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096),
    registry=REGISTRY,
)
group_commit_waiting = Gauge(
    "novadex_group_commit_waiting_trades", "Trades that wait to be written.", registry=REGISTRY
)
