"""Chunks into the database: a plain COPY while all trades are new, else carefully.

Writing a chunk again is always harmless, because its trades' ids follow from the file. So whatever goes wrong on
the way (a lost connection, a deadlock, a server that restarts), the chunk is written again, carefully.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
from psycopg import errors

from novadex import metrics
from novadex.errors import NovaDexError
from novadex.storage.failures import ROLLED_BACK, connection_lost, refused_to_connect, translate
from novadex.storage.queries import load_queries
from novadex.storage.session import Session
from novadex.trading.importing.records import BadLine, ImportFailedError
from novadex.trading.markets import QUERIES as TRADING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from novadex.storage.database import Database
    from novadex.trading.importing.chunks import Chunk, Month

QUERIES = load_queries(Path(__file__).with_name("queries.sql"))
RETRY_S_MAX = 30.0
"""How long a chunk is tried again after its first failure."""
BACKOFF_S, BACKOFF_S_MAX = 0.1, 2.0
REFUSED = (errors.IntegrityError, errors.DataError)


@dataclass(slots=True)
class Written:
    """What became of a chunk."""

    added: int = 0
    duplicates: int = 0
    rejects: list[BadLine] = field(default_factory=list)

    def and_then(self, other: Written) -> Written:
        return Written(self.added + other.added, self.duplicates + other.duplicates, self.rejects + other.rejects)


class _StoppedAtError(Exception):
    """The chunk holds a bad line, and the import stops there: only what stands before it is written."""

    def __init__(self, ordinal: int, bad: BadLine) -> None:
        self.ordinal = ordinal
        self.bad = bad


class ChunkLoader:
    """Writes chunks on a connection of its own.

    ``own_trades``: lines name users and orders, which must exist, and say time and sequence exactly.
    ``stop``: nothing after the first bad line is written.
    """

    def __init__(self, database: Database, *, own_trades: bool, stop: bool) -> None:
        self._database = database
        self._own_trades = own_trades
        self._stop = stop
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._carefully = False
        self._months: set[Month] = set()
        self._in_doubt: list[tuple[str, Written]] = []
        """Transactions whose commit was sent and not answered, and what they would have added."""

    async def write(self, chunk: Chunk) -> Written:
        """Write it, again where that can help, for at most ``RETRY_S_MAX``. It is committed when this returns."""
        give_up_at: float | None = None
        wait_s = BACKOFF_S
        while True:
            try:
                written = await self._settled(await self._write(chunk))
            except (psycopg.Error, NovaDexError) as error:
                known, again = self._judge(error)
                if connection_lost(error):
                    await self.close()
                now = time.monotonic()
                give_up_at = give_up_at or now + RETRY_S_MAX
                if not again or now + wait_s > give_up_at:
                    raise known from error
                metrics.query_retries.labels(self._database.name, getattr(error, "sqlstate", None) or "retry").inc()
                self._carefully = True
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, BACKOFF_S_MAX)
            else:
                metrics.trades_written.inc(written.added)
                metrics.trades_duplicate.inc(written.duplicates)
                return written

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                await connection.close()

    def _judge(self, error: psycopg.Error | NovaDexError) -> tuple[NovaDexError, bool]:
        """The error to raise in the end, and whether to try again before."""
        if isinstance(error, NovaDexError):
            return error, error.retryable
        if _is_missing_partition(error):
            self._months.clear()
        known = translate(error, self._database.name)
        if known is not None:
            return known, known.retryable
        again = isinstance(error, ROLLED_BACK) or refused_to_connect(error) or _is_missing_partition(error)
        reason = error.diag.message_primary or str(error).strip()
        return ImportFailedError(f"The database refused to write: {reason}.", sqlstate=error.sqlstate), again

    async def _session(self) -> Session:
        if self._connection is None or self._connection.closed:
            self._connection = await self._database.dedicated()
        return Session(self._connection, self._database.name)

    async def _write(self, chunk: Chunk) -> Written:
        if not chunk.lines:
            return Written()
        session = await self._session()
        await self._make_partitions(session, chunk.months)
        if not self._carefully:
            try:
                return await self._copy(session, chunk)
            except REFUSED as error:
                if _is_missing_partition(error):
                    raise
        written = await self._write_part(session, chunk, range(len(chunk.lines)))
        # While trades are there already, the plain way would only fail.
        self._carefully = bool(written.duplicates or written.rejects)
        return written

    async def _settled(self, written: Written) -> Written:
        """After a commit without an answer the chunk was written again: what it then found was its own work, if that
        transaction is known to have committed. Only the count depends on it."""
        if written.added == 0:
            for transaction, would_be in self._in_doubt:
                session = await self._session()
                with suppress(errors.DataError):  # the server restarted and has not come to this id again
                    if await session.value(QUERIES.transaction_status, [transaction]) == "committed":
                        written = would_be
        self._in_doubt.clear()
        return written

    async def _make_partitions(self, session: Session, months: set[Month]) -> None:
        for year, month in sorted(months - self._months):
            moment = datetime(year, month, 1, tzinfo=UTC)
            await session.execute(TRADING.ensure_trade_partitions, [moment, moment])
            self._months.add((year, month))

    @asynccontextmanager
    async def _commit(self, session: Session, written: Written) -> AsyncIterator[None]:
        """A transaction that is remembered while its commit has no answer."""
        async with session.transaction():
            yield
            if written.added:
                transaction = await session.value(QUERIES.current_transaction)
                self._in_doubt.append((transaction, written))
        if written.added:
            self._in_doubt.pop()

    # The plain way

    async def _copy(self, session: Session, chunk: Chunk) -> Written:
        written = Written(added=len(chunk.lines))
        async with self._commit(session, written), session.copy_in(TRADING.copy_trades) as copy:
            await copy.write(chunk.copy_data())
        return written

    # The careful way

    async def _write_part(self, session: Session, chunk: Chunk, part: range) -> Written:
        """Every line gets its own outcome, even where the database refuses one for a reason of its own."""
        try:
            return await self._write_staged(session, chunk, part)
        except _StoppedAtError as stopped:
            before = await self._write_part(session, chunk, range(part.start, stopped.ordinal))
            return before.and_then(Written(rejects=[stopped.bad]))
        except REFUSED as error:
            if _is_missing_partition(error):
                raise
            if len(part) == 1:
                constraint = error.diag.constraint_name or "trade"
                reason = f"the database refuses it: {error.diag.message_primary}."
                return Written(rejects=[_bad_line(chunk, part.start, constraint, "", reason)])
            middle = (part.start + part.stop) // 2
            first = await self._write_part(session, chunk, range(part.start, middle))
            if first.rejects and self._stop:
                return first
            return first.and_then(await self._write_part(session, chunk, range(middle, part.stop)))

    async def _write_staged(self, session: Session, chunk: Chunk, part: range) -> Written:
        written = Written()
        if not part:
            return written
        async with self._commit(session, written):
            await session.execute(QUERIES.make_lines)
            async with session.copy_in(QUERIES.copy_lines) as copy:
                await copy.write("".join([f"{ordinal}\t{chunk.lines[ordinal]}" for ordinal in part]).encode())
            bad = await self._without_references(session, chunk) if self._own_trades else {}
            if bad:
                await session.execute(QUERIES.drop_lines, [list(bad)])
            written.added = await session.execute(QUERIES.add_lines)
            if written.added + len(bad) < len(part):
                bad.update(await self._conflicts(session, chunk, part))
            if bad and self._stop:
                raise _StoppedAtError(min(bad), bad[min(bad)])
            written.rejects = [bad[ordinal] for ordinal in sorted(bad)]
            written.duplicates = len(part) - written.added - len(bad)
        return written

    @staticmethod
    async def _without_references(session: Session, chunk: Chunk) -> dict[int, BadLine]:
        bad: dict[int, BadLine] = {}
        for row in await session.query(QUERIES.lines_without_references):
            reason = f"there is no {row.field.removesuffix('_id')} {row.value}."
            bad[row.ordinal] = _bad_line(chunk, row.ordinal, row.field, str(row.value), reason)
        return bad

    async def _conflicts(self, session: Session, chunk: Chunk, part: range) -> dict[int, BadLine]:
        ids = [UUID(chunk.lines[ordinal].partition("\t")[0]) for ordinal in part]
        bad: dict[int, BadLine] = {}
        for row in await session.query(QUERIES.conflicting_lines, [min(ids), max(ids), self._own_trades]):
            id = UUID(chunk.lines[row.ordinal].partition("\t")[0])
            reason = f"the trade {id} is recorded with another {row.field}, {row.recorded}."
            bad[row.ordinal] = _bad_line(chunk, row.ordinal, row.field, str(row.here), reason)
        return bad


def _bad_line(chunk: Chunk, ordinal: int, field: str, value: str, reason: str) -> BadLine:
    return BadLine.of(chunk.places[ordinal], field, value, reason, chunk.raws[ordinal])


def _is_missing_partition(error: Exception) -> bool:
    return isinstance(error, errors.CheckViolation) and error.diag.constraint_name is None
