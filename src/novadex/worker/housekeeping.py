"""What the worker keeps in order: partitions are there before they are needed, old keys and figures go."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from novadex import metrics
from novadex.errors import NovaDexError
from novadex.notifications.causes import QUERIES as CAUSES
from novadex.storage.queries import Query, load_queries

if TYPE_CHECKING:
    from novadex.storage.database import Database

MONTHS_AHEAD = 3
IDEMPOTENCY_KEYS_DAYS = 7
FIGURES_DAYS = 7
SESSIONS_DAYS = 30
"""Counted from the end that no refresh moves: so a replaced token is known again as long as its family can live."""
NOTIFICATIONS_DAYS = 365
DELETE_BATCH_ROWS = 5_000
DELETE_BATCHES_MAX = 200
"""Of one run; what is left is for the next."""

QUERIES = load_queries(Path(__file__).with_suffix(".sql"))
log = structlog.get_logger("novadex.worker")


async def make_partitions(database: Database) -> int:
    """Make the monthly partitions of every partitioned table for the months ahead; returns how many were
    missing. A table whose lock is taken does not keep the others waiting: its failure is raised at the end."""
    made = 0
    failure: NovaDexError | None = None
    for row in await database.query(QUERIES.partitioned_tables, read_only=True):
        try:
            count = await database.value(QUERIES.make_partitions_ahead, (row.table_name, MONTHS_AHEAD))
        except NovaDexError as error:
            failure = error
            continue
        if count:
            log.info("partitions made", database=database.name, table=row.table_name, count=count)
        made += count
    metrics.partitions_made.labels(database.name).inc(made)
    if failure is not None:
        raise failure
    return made


async def delete_old_idempotency_keys(main: Database) -> int:
    """Delete the keys that are past their seven days; returns how many."""
    deleted = await _delete_in_batches(main, QUERIES.delete_old_idempotency_keys, IDEMPOTENCY_KEYS_DAYS)
    metrics.idempotency_keys_deleted.inc(deleted)
    return deleted


async def delete_old_sessions(main: Database) -> int:
    """Delete the sessions that cannot live any more since thirty days, however they ended; returns how many. The
    audit log keeps that they were. API keys stay, the ended ones too: they are few."""
    return await _delete_in_batches(main, QUERIES.delete_old_sessions, SESSIONS_DAYS)


async def delete_old_nonces(main: Database) -> int:
    """Delete the nonces that nobody signed in with in time; returns how many."""
    return await _delete_in_batches(main, QUERIES.delete_old_nonces, 0)


async def delete_old_notifications(main: Database) -> int:
    """Delete what users were told more than a year ago, with its deliveries, and forget devices that nobody signed in
    from for as long; returns how many notifications."""
    await _delete_in_batches(main, CAUSES.delete_old_devices, NOTIFICATIONS_DAYS)
    return await _delete_in_batches(main, CAUSES.delete_old_notifications, NOTIFICATIONS_DAYS)


async def delete_old_figures(analytics: Database) -> int:
    """Delete what was recorded in performance_metrics more than a week ago; returns how many rows. Where
    this role may not delete there, the operator decides how long figures are kept."""
    if not await analytics.value(QUERIES.may_delete_figures, read_only=True):
        return 0
    return await _delete_in_batches(analytics, QUERIES.delete_old_figures, FIGURES_DAYS)


async def _delete_in_batches(database: Database, query: Query, days: int) -> int:
    deleted = 0
    for _ in range(DELETE_BATCHES_MAX):
        count = await database.execute(query, (days, DELETE_BATCH_ROWS))
        deleted += count
        if count < DELETE_BATCH_ROWS:
            break
    return deleted
