"""What the books count and time."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from novadex.metrics import REGISTRY

book_lag_seconds = Gauge(
    "novadex_book_lag_seconds",
    "Seconds since the moment up to which every published book has everything.",
    ("shard",),
    registry=REGISTRY,
)
book_markets = Gauge("novadex_book_markets", "Markets whose book is published.", ("shard",), registry=REGISTRY)
book_crossed = Gauge(
    "novadex_book_crossed_markets",
    "Markets whose best bid is not below their best ask: orders that the venue has not matched yet.",
    ("shard",),
    registry=REGISTRY,
)
book_events = Counter("novadex_book_events_total", "Order events applied to books.", ("shard",), registry=REGISTRY)
book_batches = Counter("novadex_book_batches_total", "Differences published.", ("shard",), registry=REGISTRY)
book_publish_seconds = Histogram(
    "novadex_book_publish_seconds",
    "Seconds from the look at the events to the published difference.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0),
    registry=REGISTRY,
)
book_rebuilds = Counter(
    "novadex_book_rebuilds_total",
    "Books that were read anew from PostgreSQL: at the start, asked for, changed in the cache server, a finer price.",
    ("reason",),
    registry=REGISTRY,
)
book_gaps = Counter(
    "novadex_book_gaps_total",
    "Times an event or a difference was missing, by who noticed.",
    ("by",),
    registry=REGISTRY,
)
book_sessions = Counter(
    "novadex_book_sessions_total",
    "Times a projector began, by why the one before ended: the cache server lost something, an error.",
    ("reason",),
    registry=REGISTRY,
)
book_reads = Counter("novadex_book_reads_total", "Books read, by what answered.", ("answer",), registry=REGISTRY)
