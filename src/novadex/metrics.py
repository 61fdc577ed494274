"""What this process counts and times: one registry, which ``/api/metrics`` prints and the recorder stores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, Summary
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

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
orders_placed = Counter("novadex_orders_placed_total", "Orders placed by this process.", registry=REGISTRY)
order_fills_recorded = Counter(
    "novadex_order_fills_recorded_total", "Fills recorded by this process.", registry=REGISTRY
)
order_matches_undone = Counter(
    "novadex_order_matches_undone_total", "Matches that were busted or reverted by this process.", registry=REGISTRY
)
order_commands_refused = Counter(
    "novadex_order_commands_refused_total",
    "Commands to orders that were refused, by error code.",
    ("code",),
    registry=REGISTRY,
)
order_batch_commands = Histogram(
    "novadex_order_batch_commands",
    "Commands to orders in one transaction.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024),
    registry=REGISTRY,
)
order_commands_waiting = Gauge(
    "novadex_order_waiting_commands", "Commands to orders that wait to be written.", registry=REGISTRY
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
decryption_failures = Counter(
    "novadex_decryption_failures_total",
    "Ciphertexts and wrapped keys that did not open, by column.",
    ("field",),
    registry=REGISTRY,
)
master_key_loads = Counter(
    "novadex_master_key_loads_total", "Times the master keys were read from their file or setting.", registry=REGISTRY
)
keys_rewrapped = Counter(
    "novadex_keys_rewrapped_total", "Keys that a rotation wrapped with a newer master key.", registry=REGISTRY
)
users_erased = Counter(
    "novadex_users_erased_total", "Users whose personal data was erased.", ("occasion",), registry=REGISTRY
)
sessions_created = Counter(
    "novadex_sessions_created_total", "Sessions begun, by method.", ("method",), registry=REGISTRY
)
sessions_refreshed = Counter("novadex_sessions_refreshed_total", "Sessions refreshed.", registry=REGISTRY)
sessions_revoked = Counter("novadex_sessions_revoked_total", "Sessions revoked by this process.", registry=REGISTRY)
sessions_refused = Counter(
    "novadex_sessions_refused_total", "Tokens refused, by why.", ("reason",), registry=REGISTRY
)
session_tokens_reused = Counter(
    "novadex_session_tokens_reused_total",
    "Times a replaced token was shown again, and its sessions were revoked.",
    registry=REGISTRY,
)
api_keys_refused = Counter(
    "novadex_api_keys_refused_total", "API keys refused, by why.", ("reason",), registry=REGISTRY
)
audit_rows_sealed = Counter(
    "novadex_audit_rows_sealed_total", "Rows of the audit log that joined the chain.", registry=REGISTRY
)
audit_sealed_timestamp_seconds = Gauge(
    "novadex_audit_sealed_timestamp_seconds",
    "When the audit log was last sealed, in seconds since 1970.",
    registry=REGISTRY,
)
audit_rows_waiting = Gauge(
    "novadex_audit_waiting_rows",
    "Rows of the audit log that wait to be sealed, up to 100,000, as sealing found them.",
    registry=REGISTRY,
)
audit_oldest_waiting_seconds = Gauge(
    "novadex_audit_oldest_waiting_seconds",
    "How long the oldest row of the audit log had waited when sealing found it.",
    registry=REGISTRY,
)
rate_limited = Counter(
    "novadex_rate_limited_total", "Calls that were refused for their number, by limit.", ("limit",), registry=REGISTRY
)
rate_limit_unchecked = Counter(
    "novadex_rate_limit_unchecked_total",
    "Calls that were let in uncounted, because the cache server did not answer.",
    ("limit",),
    registry=REGISTRY,
)
cache_feed_connected = Gauge(
    "novadex_cache_feed_connected",
    "1 while changes are heard, so that caches can be used; 0: reads go to PostgreSQL.",
    registry=REGISTRY,
)
cache_feed_losses = Counter(
    "novadex_cache_feed_losses_total", "Times the feed of changes was lost; L1 was emptied.", registry=REGISTRY
)
cache_server_failures = Counter(
    "novadex_cache_server_failures_total",
    "Calls of a cache or session server that failed or took too long.",
    ("server",),
    registry=REGISTRY,
)

notifications_made = Counter(
    "novadex_notifications_made_total", "Notifications made, by kind.", ("kind",), registry=REGISTRY
)
notification_attempts = Counter(
    "novadex_notification_attempts_total",
    "Attempts to deliver a notification, by how they ended: sent, failed, dead (failed, and it was the last one),"
    " cancelled (no way to the user any more).",
    ("channel", "result"),
    registry=REGISTRY,
)
notification_attempt_seconds = Histogram(
    "novadex_notification_attempt_seconds",
    "Seconds that an attempt to deliver a notification took.",
    ("channel",),
    buckets=LATENCY_BUCKETS_S,
    registry=REGISTRY,
)
notification_deliveries_queued = Gauge(
    "novadex_notification_deliveries_queued",
    "Deliveries that wait or are under way, up to 100,000.",
    ("channel",),
    registry=REGISTRY,
)
notification_deliveries_dead = Gauge(
    "novadex_notification_deliveries_dead",
    "Deliveries that were given up and wait to be replayed, up to 100,000.",
    ("channel",),
    registry=REGISTRY,
)
notification_oldest_waiting_seconds = Gauge(
    "novadex_notification_oldest_waiting_seconds",
    "How long the delivery that is due for longest has waited for an attempt; 0 where none is due.",
    ("channel",),
    registry=REGISTRY,
)


class CacheCounts(Protocol):
    """How reads of a cache were answered."""

    l1: int
    l2: int
    loaded: int
    untrusted: int


cache_counts: dict[str, CacheCounts] = {}
"""By namespace; plain numbers that hot paths raise."""


class _CacheCollector(Collector):
    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(
            "novadex_cache_reads", "Reads of cached records, by what answered.", labels=("namespace", "answer")
        )
        for namespace, counts in list(cache_counts.items()):
            for answer in ("l1", "l2", "loaded", "untrusted"):
                family.add_metric((namespace, answer), getattr(counts, answer))
        yield family


REGISTRY.register(_CacheCollector())
