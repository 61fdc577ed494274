"""What this process counts and times: one registry, which ``/api/metrics`` prints and the recorder stores."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary

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
job_seconds = Summary(
    "novadex_job_seconds", "Seconds that runs of a background job took.", ("job",), registry=REGISTRY
)
job_failures = Counter(
    "novadex_job_failures_total", "Runs of a background job that failed.", ("job",), registry=REGISTRY
)
job_last_success_timestamp_seconds = Gauge(
    "novadex_job_last_success_timestamp_seconds",
    "When a background job last succeeded, in seconds since 1970.",
    ("job",),
    registry=REGISTRY,
)
recorded_rows = Counter(
    "novadex_recorded_rows_total",
    "Figures for performance_metrics, by what became of them.",
    ("result",),
    registry=REGISTRY,
)
partitions_made = Counter(
    "novadex_partitions_made_total", "Partitions that were made ahead.", ("database",), registry=REGISTRY
)
idempotency_keys_deleted = Counter(
    "novadex_idempotency_keys_deleted_total", "Idempotency keys that were deleted for their age.", registry=REGISTRY
)
http_request_seconds = Histogram(
    "novadex_http_request_seconds",
    "Seconds a request over HTTP took, by route.",
    ("method", "route"),
    buckets=LATENCY_BUCKETS_S,
    registry=REGISTRY,
)
http_responses = Counter(
    "novadex_http_responses_total", "Answers over HTTP, by status.", ("method", "route", "status"), registry=REGISTRY
)
