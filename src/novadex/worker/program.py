"""The worker as a program: ``novadex worker``, or ``python -m novadex.worker``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import uvloop

from novadex.analytics.projection import TradeProjection
from novadex.api.serving import closing_in_time, listen, run_together, serve, stop_on_signals
from novadex.audit.configuration import record_settings
from novadex.audit.sealing import seal
from novadex.book.projection import BookProjection
from novadex.instance import find_endpoints
from novadex.monitoring.jobs import Job, run_jobs
from novadex.monitoring.logs import configure_logs
from novadex.monitoring.monitor import Monitor
from novadex.portfolio.keeping import SnapshotKeeper
from novadex.portfolio.projection import PortfolioProjection
from novadex.reconciliation.keeper import watching_jobs
from novadex.reconciliation.service import checks_of_worker
from novadex.roles.actor import Actor
from novadex.settings import Settings, load_settings
from novadex.storage.connection import DatabaseConnection
from novadex.trading.service import TradingService
from novadex.worker.app import create_app
from novadex.worker.erasures import ErasureKeeper
from novadex.worker.housekeeping import (
    delete_old_figures,
    delete_old_idempotency_keys,
    delete_old_nonces,
    delete_old_notifications,
    delete_old_sessions,
    make_partitions,
)
from novadex.worker.notifications import notification_jobs

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path

HOST = "127.0.0.1"
HOUSEKEEPING_INTERVAL_S = 3600.0
HOUSEKEEPING_DEADLINE_S = 300.0
SEALING_INTERVAL_S = 1.0
"""How long a row of the audit log waits for its place in the chain, at most, while the worker runs."""
ORDERS_INTERVAL_S = 1.0
"""How late an order expires and a stop is triggered, at most, while the worker runs."""
ERASURES_INTERVAL_S = 5.0
"""How soon after a restore the list of erased users is applied again."""
SNAPSHOTS_INTERVAL_S = 10.0
"""How often is looked whether an hour is over, or a snapshot stale."""
SNAPSHOTS_DEADLINE_S = 3600.0
RETRY_S = 10.0
RESTART_S = 1.0
"""Pause before a projection that ended begins again."""


def main(data_dir: Path | None = None) -> None:
    """Work until SIGTERM or SIGINT. Servers that are away do not end it: it goes on when they are back."""
    settings = load_settings()
    configure_logs("worker", settings.log_level)
    uvloop.run(_run(settings, data_dir))


async def _run(settings: Settings, data_dir: Path | None) -> None:
    stop = stop_on_signals()
    endpoints = find_endpoints(settings, data_dir, "worker")
    with listen(HOST, settings.worker_port, "NOVADEX_WORKER_PORT") as listener:
        async with (
            closing_in_time(DatabaseConnection(endpoints, settings)) as database,
            Monitor("worker", database, endpoints, data_dir) as monitor,
        ):
            jobs = [*monitor.jobs, *worker_jobs(database, stop)]
            await run_together(stop, serve(create_app(monitor), listener, stop), run_jobs(jobs, stop))


def worker_jobs(database: DatabaseConnection, stop: asyncio.Event) -> list[Job]:
    """What the worker does: the projections, without end; orders whose time is over and stops that are reached;
    snapshots of portfolios; sealing the audit log; erasures; parts of every invariant; notifications; the
    housekeeping at the start and every hour."""
    trading = TradingService(database, actor=Actor.program("worker"))
    shards = database.settings.book_shards if database.endpoints.cache else 0
    books = [BookProjection(database, shard, shards) for shard in range(shards)]
    projection = TradeProjection(database.main, database.analytics, database.settings)
    portfolios = PortfolioProjection(database.main, database.settings)
    housekeeping = {
        "partitions_main": partial(make_partitions, database.main),
        "partitions_analytics": partial(make_partitions, database.analytics),
        "old_idempotency_keys": partial(delete_old_idempotency_keys, database.main),
        "old_sessions": partial(delete_old_sessions, database.main),
        "old_nonces": partial(delete_old_nonces, database.main),
        "old_notifications": partial(delete_old_notifications, database.main),
        "old_figures": partial(delete_old_figures, database.analytics),
        "settings": partial(record_settings, database, "worker"),
    }
    return [
        Job("trade_projection", partial(projection.run, stop), interval_s=RESTART_S, deadline_s=None),
        *(
            Job(name, work, interval_s=ORDERS_INTERVAL_S, deadline_s=HOUSEKEEPING_DEADLINE_S, retry_s=RETRY_S)
            for name, work in (("order_expiry", trading.expire_orders), ("stop_triggers", trading.trigger_stops))
        ),
        *(Job("book_projection", partial(book.run, stop), interval_s=RESTART_S, deadline_s=None) for book in books),
        Job("portfolio_projection", partial(portfolios.run, stop), interval_s=RESTART_S, deadline_s=None),
        Job(
            "portfolio_snapshots",
            SnapshotKeeper(database).keep,
            interval_s=SNAPSHOTS_INTERVAL_S,
            deadline_s=SNAPSHOTS_DEADLINE_S,
            retry_s=RETRY_S,
        ),
        Job(
            "audit_sealing",
            partial(seal, database),
            interval_s=SEALING_INTERVAL_S,
            deadline_s=HOUSEKEEPING_DEADLINE_S,
            retry_s=RETRY_S,
        ),
        Job(
            "erasures",
            ErasureKeeper(database).keep,
            interval_s=ERASURES_INTERVAL_S,
            deadline_s=HOUSEKEEPING_DEADLINE_S,
            retry_s=RETRY_S,
        ),
        *watching_jobs(checks_of_worker(database)),
        *notification_jobs(database),
        *(
            Job(
                name,
                work,
                interval_s=HOUSEKEEPING_INTERVAL_S,
                deadline_s=HOUSEKEEPING_DEADLINE_S,
                retry_s=RETRY_S,
            )
            for name, work in housekeeping.items()
        ),
    ]
