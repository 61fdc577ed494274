"""Writes what ``/api/metrics`` shows into ``performance_metrics``, every few seconds."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from psycopg import errors

from novadex import metrics
from novadex.ids import uuid7
from novadex.monitoring.database_probe import QUERIES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import CollectorRegistry
    from prometheus_client.samples import Sample

    from novadex.monitoring.bounded import BoundedConnection
    from novadex.storage.session import Session

ROWS_MAX = 2_000
"""Of one record."""
DEADLINE_S = 5.0
LEFT_OUT = ("_bucket", "_created")
"""A histogram is recorded as its sum and count."""


def samples_to_record(registry: CollectorRegistry) -> list[Sample]:
    """What is recorded: every sample but the buckets of histograms."""
    return [
        sample for family in registry.collect() for sample in family.samples if not sample.name.endswith(LEFT_OUT)
    ]


class Recorder:
    """Records under the name ``instance``. Where analytics is away, the record is left out and counted:
    figures are not worth a queue."""

    def __init__(self, analytics: BoundedConnection, instance: str, registry: CollectorRegistry) -> None:
        self.analytics = analytics
        self.instance = instance
        self.registry = registry
        for result in ("written", "skipped"):
            metrics.recorded_rows.labels(result)

    async def record(self) -> None:
        """Write one record."""
        samples = samples_to_record(self.registry)
        kept = samples[:ROWS_MAX]
        recorded_at = datetime.now(UTC)

        async def write(session: Session) -> None:
            try:
                await self._copy(session, kept, recorded_at)
            except errors.CheckViolation as error:
                if error.diag.constraint_name:
                    raise
                # No partition for this moment.
                await session.execute(QUERIES.make_metrics_partition)
                await self._copy(session, kept, recorded_at)

        written = 0
        try:
            await self.analytics.run(write, DEADLINE_S)
            written = len(kept)
        finally:
            metrics.recorded_rows.labels("written").inc(written)
            metrics.recorded_rows.labels("skipped").inc(len(samples) - written)

    async def _copy(self, session: Session, samples: Iterable[Sample], recorded_at: datetime) -> None:
        async with session.copy_in(QUERIES.record_figures) as copy:
            for sample in samples:
                await copy.write_row(
                    (
                        uuid7(),
                        recorded_at,
                        self.instance,
                        sample.name,
                        json.dumps(sample.labels),
                        float(sample.value),
                    )
                )
