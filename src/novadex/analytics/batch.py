"""One batch into the facts and figures, as sets. A row that cannot be applied is set aside, the rest goes on."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from novadex.analytics.position import Position
from novadex.errors import IntegrityFaultError
from novadex.storage.queries import load_queries

if TYPE_CHECKING:
    from novadex.storage.session import Session

SQL = load_queries(Path(__file__).with_name("projection.sql"))
REASON_CHARACTERS_MAX = 1_000

log = logging.getLogger(__name__)


@dataclass(slots=True)
class BatchResult:
    """What became of the rows of a batch."""

    last: Position
    applied: int = 0
    known: int = 0
    """Rows that were facts already."""
    set_aside: Counter[str] = field(default_factory=Counter)
    """Rows set aside, by SQLSTATE."""
    ignored: int = 0
    """Rows that do not concern the projection."""

    @property
    def read(self) -> int:
        """How many rows the batch had."""
        return self.applied + self.known + self.set_aside.total() + self.ignored


async def apply_batch(session: Session, rows: bytes, *, first_of_transaction: bool = True) -> BatchResult:
    """Apply the rows of a binary COPY inside the caller's transaction, which also stores the position.

    Raises what is no fault of a row, such as a lost connection or a missing right: then nothing is applied.
    """
    await session.execute(SQL.make_staging)
    if not first_of_transaction:
        await session.execute(SQL.clear_staging)
    async with session.copy_in(SQL.copy_staging) as copy:
        await copy.write(rows)
    (staged,) = await session.query(SQL.staged)
    result = BatchResult(Position(staged.xid, staged.id))
    # Ranges that are still to be applied. A range that fails is halved until the bad row stands alone.
    ranges = [(1, staged.rows)]
    while ranges:
        first, last = ranges.pop()
        try:
            await _apply_range(session, first, last, result, undoing=staged.reversals > 0)
        except psycopg.Error as error:
            if not is_fault_of_row(error):
                raise
            if first == last:
                await _set_aside(session, first, error, result)
            else:
                middle = (first + last) // 2
                ranges += [(middle + 1, last), (first, middle)]
    return result


def is_fault_of_row(error: psycopg.Error) -> bool:
    """Whether the value of some row was refused: SQLSTATE classes 22 (data) and 23 (integrity)."""
    return (error.sqlstate or "")[:2] in ("22", "23")


async def _apply_range(session: Session, first: int, last: int, result: BatchResult, *, undoing: bool) -> None:
    while True:
        async with session.transaction():
            await session.execute(SQL.ensure_partitions, [first, last])
            inserted = await session.execute(SQL.insert_facts, [first, last])
            expected = last - first + 1
            if inserted != expected:
                expected = await session.value(SQL.count_staged, [first, last])
            if inserted == expected:
                await session.execute(SQL.merge_candles, [first, last])
                await session.execute(SQL.merge_trading, [first, last])
                await session.execute(SQL.merge_other_fees, [first, last])
                if undoing:
                    await _recompute(session, first, last)
                result.applied += inserted
                return
            # Some are facts already, so the sums have them too: undo this attempt and go on without them.
            raise psycopg.Rollback
        known = await session.execute(SQL.forget_applied, [first, last])
        if not known:
            raise IntegrityFaultError(
                "Facts were refused that are not there.", hint="Look at the triggers and rules of trade_facts."
            )
        result.known += known
        log.warning("The projection met %d trades that are facts already and left them out.", known)


async def _recompute(session: Session, first: int, last: int) -> None:
    """The minutes and days in which executions are undone, anew: what is undone is a fact already, for the log has
    a reversal after what it undoes."""
    for query in (
        SQL.forget_candles,
        SQL.recompute_candles,
        SQL.forget_trading,
        SQL.recompute_trading,
        SQL.forget_other_fees,
        SQL.recompute_other_fees,
    ):
        await session.execute(query, [first, last])


async def _set_aside(session: Session, n: int, error: psycopg.Error, result: BatchResult) -> None:
    code = error.sqlstate or ""
    reason = (error.diag.message_primary or str(error))[:REASON_CHARACTERS_MAX]
    if error.diag.message_detail:
        reason = f"{reason} ({error.diag.message_detail})"[:REASON_CHARACTERS_MAX]
    await session.execute(SQL.set_aside, [n, code, reason])
    result.set_aside[code] += 1
    log.error("The projection set a trade aside, see projection_rejects: [%s] %s", code, reason)
