"""What the reconciler shows of each invariant."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

from novadex.metrics import REGISTRY

differences = Gauge(
    "novadex_invariant_differences",
    "What the last whole look found wrong, and the present one so far if that is more.",
    ("invariant",),
    registry=REGISTRY,
)
last_checked = Gauge(
    "novadex_invariant_last_checked_timestamp_seconds",
    "When all of it was looked at for the last time.",
    ("invariant",),
    registry=REGISTRY,
)
checked = Counter("novadex_invariant_checked_total", "What was compared.", ("invariant",), registry=REGISTRY)
