"""What the projections count and time."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from novadex.metrics import REGISTRY

projection_lag_seconds = Gauge(
    "novadex_projection_lag_seconds",
    "Seconds since the moment up to which the analytics database has everything.",
    ("projection",),
    registry=REGISTRY,
)
projection_waiting_rows = Gauge(
    "novadex_projection_waiting_rows",
    "Committed rows that wait to be applied, counted up to a bound.",
    ("projection",),
    registry=REGISTRY,
)
projection_applied = Counter(
    "novadex_projection_applied_total", "Rows applied by this process.", ("projection",), registry=REGISTRY
)
projection_set_aside = Counter(
    "novadex_projection_set_aside_total",
    "Rows that could not be applied and were set aside, by SQLSTATE.",
    ("projection", "code"),
    registry=REGISTRY,
)
projection_batch_seconds = Histogram(
    "novadex_projection_batch_seconds",
    "Seconds from reading a batch to its commit.",
    ("projection",),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    registry=REGISTRY,
)
projection_failures = Counter(
    "novadex_projection_failures_total",
    "Batches that failed as a whole and are tried again, by error code.",
    ("projection", "code"),
    registry=REGISTRY,
)
projection_rebuilds = Counter(
    "novadex_projection_rebuilds_total",
    "Rebuilds from the records, by reason.",
    ("projection", "reason"),
    registry=REGISTRY,
)
