"""Compares everything that is derived from trades with what the records say, while the projection goes on.

One snapshot of the analytics database fixes a position; what main has up to that position never changes
again. Both sides are read as ordered streams and merged, so memory does not grow with their length. Facts
are compared by hashes first, and row by row only where these differ.
"""

from __future__ import annotations

import time
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from novadex.analytics.limits import allow_long_work
from novadex.analytics.log import take_sample
from novadex.analytics.merge import side_by_side
from novadex.analytics.position import Position, ProjectionState
from novadex.errors import UnavailableError
from novadex.ids import milliseconds_of, time_of
from novadex.storage.queries import Query, load_queries

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from novadex.storage.database import Database
    from novadex.storage.rows import Row
    from novadex.storage.session import Session

RECORDS = load_queries(Path(__file__).with_name("verify_main.sql"))
DERIVED = load_queries(Path(__file__).with_name("verify_analytics.sql"))
PROJECTION = load_queries(Path(__file__).with_name("projection.sql"))
KEYS = {
    "trade_facts": ("id", "user_id"),
    "candles": ("month", "market", "start"),
    "trading_analytics": ("month", "user_id", "market", "day"),
    "trading_other_fees": ("month", "user_id", "market", "day", "asset"),
}


_LAST_ID = UUID(int=(1 << 128) - 1)
BUCKET = 1 << 104
"""Facts are counted and hashed in buckets by the first 24 bits of their ids, about 4.7 hours."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One row that is not as the records say."""

    what: str
    """The table: trade_facts, candles, trading_analytics, trading_other_fees or projection_rejects."""
    key: dict[str, str]
    stored: dict[str, str | None] | None
    """The values that differ, as stored; None where the row is missing."""
    recomputed: dict[str, str | None] | None
    """The values that differ, as the records say; None where there should be no row."""


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a verification found."""

    compared: dict[str, int]
    """Rows compared, by table."""
    differences: int
    watermark: datetime | None
    """Every trade that had begun to be written before it was compared."""
    seconds: float


@dataclass(frozen=True, slots=True)
class VerifyProgress:
    """How far the comparison of one table is."""

    what: str
    months_done: int
    months: int


@dataclass(frozen=True, slots=True)
class Span:
    """A part of time, from the beginning of a day (UTC) to that of another; None: without a bound."""

    start: datetime | None = None
    end: datetime | None = None

    def parameters(self) -> list[str]:
        """As the queries take them."""
        return [
            self.start.isoformat() if self.start else "-infinity",
            self.end.isoformat() if self.end else "infinity",
        ]

    def ids(self) -> tuple[UUID, UUID]:
        """From the lowest id of it to the lowest behind it."""
        first = UUID(int=milliseconds_of(self.start) << 80) if self.start else UUID(int=0)
        return first, UUID(int=milliseconds_of(self.end) << 80) if self.end else _LAST_ID


ALL_TIME = Span()


async def verify_trades(
    main: Database,
    analytics: Database,
    found: Callable[[Difference], None],
    progress: Callable[[VerifyProgress], None] | None = None,
    span: Span = ALL_TIME,
) -> VerifyReport:
    """Recompute from the records and compare all derived tables; ``found`` is called with every difference. With a
    ``span`` only what was executed in it; rows that were set aside belong to the span without a beginning.

    Raises ``UnavailableError`` where main is not the database that the projection follows.
    """
    started = time.monotonic()
    async with analytics.transaction("repeatable read", read_only=True) as session:
        await allow_long_work(session)
        row = await session.one(PROJECTION.state)
        if row is None:
            raise UnavailableError(
                "The projection has not begun: there is nothing to compare.", hint="Is the worker running?"
            )
        state = ProjectionState.of(row)
        months = [_within(month, span) for month in await _months(main, state)]
        months = [(first, end) for first, end in months if first < end]
        records = Records(main, state.position, months, progress)
        comparison = Comparison(session, records, found, span)
        if span.start is None:
            await comparison.rejects()
        await comparison.facts()
        for what in ("candles", "trading_analytics", "trading_other_fees"):
            await comparison.figures(what)
    return VerifyReport(comparison.compared, comparison.differences, state.watermark, time.monotonic() - started)


@dataclass(slots=True)
class Records:
    """The trades of main up to a position, month by month: no statement holds its snapshot for longer."""

    main: Database
    position: Position
    months: Sequence[tuple[UUID, UUID]]
    progress: Callable[[VerifyProgress], None] | None

    async def by_month(self, what: str) -> AsyncGenerator[Row]:
        """What the records say about a table, in the order of its key."""
        async with aclosing(self._each(what, RECORDS[what], self.months)) as rows:
            async for row in rows:
                yield row

    async def fact_buckets(self) -> AsyncGenerator[Row]:
        """Counts and hashes of facts, in the order of the ids."""
        # A bucket that reaches into the next month is counted with that.
        ranges = [(_bucket_start(first), _bucket_start(end)) for first, end in self.months]
        if ranges:
            first, end = ranges[-1]
            ranges[-1] = (first, UUID(int=end.int + BUCKET))
        async with aclosing(self._each("trade_facts", RECORDS.trade_facts_buckets, ranges)) as rows:
            async for row in rows:
                yield row

    async def _each(self, what: str, query: Query, ranges: Sequence[tuple[UUID, UUID]]) -> AsyncGenerator[Row]:
        for done, (first, end) in enumerate(ranges):
            if self.progress is not None:
                self.progress(VerifyProgress(what, done, len(ranges)))
            async with aclosing(self.between(query, first, end)) as rows:
                async for row in rows:
                    yield row

    async def between(self, query: Query, first: UUID, end: UUID) -> AsyncGenerator[Row]:
        """A query over the trades with ids in ``[first, end)``."""
        async with self.main.transaction(read_only=True) as session:
            await allow_long_work(session)
            parameters = [first, end, str(self.position.xid), self.position.id]
            async with aclosing(_stream(session, query, parameters)) as rows:
                async for row in rows:
                    yield row


@dataclass(slots=True)
class Comparison:
    """One snapshot of analytics beside the records."""

    session: Session
    records: Records
    found: Callable[[Difference], None]
    span: Span = ALL_TIME
    compared: dict[str, int] = field(default_factory=lambda: dict.fromkeys([*KEYS, "projection_rejects"], 0))
    differences: int = 0

    async def rejects(self) -> None:
        """Rows that were set aside are differences: the records have them."""
        async with aclosing(_stream(self.session, DERIVED.projection_rejects)) as rows:
            async for row in rows:
                self.compared["projection_rejects"] += 1
                self._found("projection_rejects", {"id": row.id}, {"code": row.code, "reason": row.reason}, None)

    async def facts(self) -> None:
        for first, end in await self._differing_spans():
            stored = _stream(self.session, DERIVED.trade_facts, [first, end])
            recomputed = self.records.between(RECORDS.trade_facts, first, end)
            await self._compare("trade_facts", stored, recomputed)

    async def figures(self, what: str) -> None:
        stored = _stream(self.session, DERIVED[what], self.span.parameters())
        recomputed = self.records.by_month(what)
        self.compared[what] += await self._compare(what, stored, recomputed)

    async def _differing_spans(self) -> list[tuple[UUID, UUID]]:
        """The ranges of ids in which facts differ from the records, at most one for each month."""
        spans: dict[int, tuple[bytes, bytes]] = {}
        first_id, end_id = self.span.ids()
        # Whole buckets, as the records are counted.
        end_id = _bucket_start(end_id) if end_id == _LAST_ID else UUID(int=_bucket_start(end_id).int + BUCKET)
        stored = _stream(self.session, DERIVED.trade_facts_buckets, [_bucket_start(first_id), end_id])
        recomputed = self.records.fact_buckets()
        async with aclosing(side_by_side(stored, recomputed, ("bucket",))) as pairs:
            async for pair in pairs:
                rows = [row for row in pair if row is not None]
                bucket: bytes = rows[0].bucket
                self.compared["trade_facts"] += max(row.rows for row in rows)
                if pair[0] != pair[1]:
                    month = _month_number(time_of(_first_id(bucket)))
                    first, _ = spans.get(month, (bucket, bucket))
                    spans[month] = (first, bucket)
        return [(_first_id(first), _last_id(last)) for first, last in spans.values()]

    async def _compare(self, what: str, stored: AsyncGenerator[Row], recomputed: AsyncGenerator[Row]) -> int:
        compared = 0
        names = KEYS[what]
        async with aclosing(side_by_side(stored, recomputed, names)) as pairs:
            async for left, right in pairs:
                compared += 1
                if left == right:
                    continue
                row = left or right or {}
                key = {name: row[name] or "infinity" for name in names if name != "month"}
                values = [name for name in row if name not in names]
                if left is not None and right is not None:
                    values = [name for name in values if left[name] != right[name]]
                self._found(
                    what,
                    key,
                    {name: left[name] for name in values} if left is not None else None,
                    {name: right[name] for name in values} if right is not None else None,
                )
        return compared

    def _found(
        self,
        what: str,
        key: dict[str, str],
        stored: dict[str, str | None] | None,
        recomputed: dict[str, str | None] | None,
    ) -> None:
        self.differences += 1
        self.found(Difference(what, key, stored, recomputed))


def _stream(session: Session, query: Query, parameters: Sequence[Any] = ()) -> AsyncGenerator[Row]:
    return cast("AsyncGenerator[Row]", session.stream(query, parameters))


async def _months(main: Database, state: ProjectionState) -> list[tuple[UUID, UUID]]:
    """The ranges of ids of all months from the first trade to the last."""
    async with main.transaction(read_only=True) as session:
        sample = await take_sample(session, state.position)
        if sample.identity != state.identity or sample.next_xid < state.position.xid:
            raise UnavailableError(
                "The projection follows another life of the main database, and is about to be rebuilt.",
                hint="Wait until the worker has rebuilt it, or run novadex analytics rebuild.",
            )
        ends = await session.one(RECORDS.ends)
    if ends is None or ends.first_id is None:
        return []
    first, last = (_month_number(time_of(id)) for id in (ends.first_id, ends.last_id))
    starts = [_month_start(number) for number in range(first, last + 2)]
    return list(pairwise(starts))


def _within(month: tuple[UUID, UUID], span: Span) -> tuple[UUID, UUID]:
    first, end = span.ids()
    return max(month[0], first), min(month[1], end)


def _month_number(moment: datetime) -> int:
    return moment.year * 12 + moment.month - 1


def _month_start(number: int) -> UUID:
    """The lowest id of a month."""
    return UUID(int=milliseconds_of(datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC)) << 80)


def _bucket_start(id: UUID) -> UUID:
    return UUID(int=id.int // BUCKET * BUCKET)


def _first_id(bucket: bytes) -> UUID:
    return UUID(bytes=bucket.ljust(16, b"\0"))


def _last_id(bucket: bytes) -> UUID:
    return UUID(bytes=bucket.ljust(16, b"\xff"))
