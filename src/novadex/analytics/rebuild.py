"""Everything anew from the records, in one transaction: readers see the old figures until it commits."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from novadex.analytics.batch import apply_batch
from novadex.analytics.limits import allow_long_work
from novadex.analytics.log import count_rows, partitioned_months, read_rows, take_sample
from novadex.analytics.position import START, MainIdentity, Position, ProjectionState
from novadex.errors import IntegrityFaultError, UnavailableError
from novadex.storage.queries import load_queries

if TYPE_CHECKING:
    from collections.abc import Callable

    from novadex.settings import Settings
    from novadex.storage.database import Database
    from novadex.storage.session import Session

SQL = load_queries(Path(__file__).with_name("projection.sql"))
BATCH_ROWS_MIN = 20_000
"""Larger batches change the same figure less often inside the one transaction."""
TRADES_MAX = 2**62


@dataclass(frozen=True, slots=True)
class RebuildReport:
    """What a rebuild did."""

    trades: int
    """Trades in the records."""
    applied: int
    set_aside: int
    seconds: float


@dataclass(frozen=True, slots=True)
class RebuildProgress:
    """How far a rebuild is."""

    done: int
    trades: int
    seconds: float


async def rebuild_trades(
    main: Database,
    analytics: Database,
    settings: Settings,
    progress: Callable[[RebuildProgress], None] | None = None,
) -> RebuildReport:
    """Delete all that is derived from trades and derive it again, up to what is final in main now.

    It owns the projection until it commits. Killed midway, or failed, it changes nothing.
    Raises ``IntegrityFaultError`` where not every trade was dealt with.
    """
    started = time.monotonic()
    identity, end, trades = await _measure(main)
    await _make_partitions(main, analytics)
    rows_max = max(settings.projection_batch_max, BATCH_ROWS_MIN)
    async with analytics.transaction() as session:
        await allow_long_work(session)
        before = await _own(session, identity)
        for delete in (
            SQL.delete_facts,
            SQL.delete_candles,
            SQL.delete_trading,
            SQL.delete_other_fees,
            SQL.delete_rejects,
        ):
            await session.execute(delete)
        position, applied, set_aside = START, 0, 0
        while rows := await _read(main, identity, position, end, rows_max):
            result = await apply_batch(session, rows, first_of_transaction=position == START)
            position = result.last
            applied += result.applied
            set_aside += result.set_aside.total()
            if progress is not None:
                progress(RebuildProgress(applied + set_aside, trades, time.monotonic() - started))
        if applied + set_aside != trades:
            raise IntegrityFaultError(
                f"The rebuild met {applied + set_aside} trades where main has {trades}: it was undone.",
                hint="Run it again; if it fails again, look for rows that were removed from main.",
            )
        # What was applied before is applied again, so its watermark stands, unless main is another now.
        same_log = before.identity == identity and before.position <= position
        watermark = before.watermark if same_log else None
        life = [identity.epoch, identity.system_identifier, identity.timeline]
        await session.execute(
            SQL.store_rebuilt, [*life, str(position.xid), position.id, watermark, applied, set_aside]
        )
    return RebuildReport(trades, applied, set_aside, time.monotonic() - started)


async def _own(session: Session, identity: MainIdentity) -> ProjectionState:
    """Hold the projection's row until the transaction ends; the projector stands by meanwhile."""
    await session.execute(SQL.begin, [identity.epoch, identity.system_identifier, identity.timeline])
    (row,) = await session.query(SQL.wait_for_state)
    return ProjectionState.of(row)


async def _measure(main: Database) -> tuple[MainIdentity, int, int]:
    """Who main is, the horizon at which the rebuild ends, and how many trades are below it."""
    async with main.transaction(read_only=True) as session:
        await allow_long_work(session)
        sample = await take_sample(session, START)
        trades = await count_rows(session, START, sample.horizon, TRADES_MAX)
    return sample.identity, sample.horizon, trades


async def _make_partitions(main: Database, analytics: Database) -> None:
    """Before the long transaction, which would hold the lock that making one takes until its end."""
    async with main.transaction(read_only=True) as session:
        months = await partitioned_months(session)
    for month in months:
        await analytics.query(SQL.ensure_partition, [month])


async def _read(main: Database, identity: MainIdentity, after: Position, end: int, rows_max: int) -> bytes:
    async with main.transaction(read_only=True) as session:
        sample = await take_sample(session, after)
        if sample.identity != identity:
            raise UnavailableError(
                "The main database was restored or replaced during the rebuild: it was undone.", hint="Run it again."
            )
        return await read_rows(session, after, end, rows_max)
