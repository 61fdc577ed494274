"""The trades of the main database, read as a log."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from novadex.analytics.position import MainIdentity, Position, identity_of
from novadex.storage.queries import Query, load_queries

if TYPE_CHECKING:
    from novadex.storage.session import Session

SQL = load_queries(Path(__file__).with_name("log.sql"))
WAITING_COUNTED_MAX = 1_000_000
SAMPLES_KEPT = 1_000
COPY_HEADER_BYTES = 19
COPY_END = b"\xff\xff"


@dataclass(frozen=True, slots=True)
class LogSample:
    """The log at one moment."""

    identity: MainIdentity
    sampled_at: datetime
    """By main's clock, a little before the snapshot was taken."""
    horizon: int
    """Rows of transactions below it are final."""
    committed_below: int
    """Transactions that were committed are below it."""
    next_xid: int
    """Transactions that had begun to write before ``sampled_at`` are below it, the open ones too."""
    waiting: bool
    """Whether final rows stand behind the position that was asked about."""


async def take_sample(session: Session, position: Position, query: Query = SQL.sample) -> LogSample:
    """Look at the log; comes first in a transaction, for it decides how the others are planned. ``query`` is for
    projections that read other logs than that of trades."""
    await session.execute(SQL.read_in_order)
    (row,) = await session.query(query, [str(position.xid), position.id])
    return LogSample(identity_of(row), row.sampled_at, row.horizon, row.committed_below, row.next_xid, row.waiting)


async def read_rows(session: Session, after: Position, horizon: int, rows_max: int) -> bytes:
    """The next final rows as a binary COPY, to be passed on without being decoded; empty where there are none."""
    parameters = [str(after.xid), str(after.id), str(horizon), rows_max]
    copied = b"".join([piece async for piece in session.copy_out(SQL.copy_rows, parameters)])
    return b"" if copied[COPY_HEADER_BYTES:] == COPY_END else copied


async def count_rows(session: Session, after: Position, horizon: int, count_max: int = WAITING_COUNTED_MAX) -> int:
    """How many final rows stand behind a position; counts to ``count_max`` at most."""
    return await session.value(SQL.count_rows, [str(after.xid), after.id, str(horizon), count_max])


async def partitioned_months(session: Session) -> list[datetime]:
    """The months that main can hold trades of."""
    return [row.month for row in await session.query(SQL.months)]


class Watermarks:
    """Turns transaction ids into moments.

    Every sample says: who began to write before ``sampled_at`` is below ``next_xid``. So once everything
    below that ``next_xid`` is applied, everything that began before that moment is.
    """

    def __init__(self) -> None:
        self._samples: deque[tuple[int, datetime]] = deque()
        self._reached: datetime | None = None

    def note(self, sample: LogSample) -> None:
        if len(self._samples) >= SAMPLES_KEPT:
            # A transaction stays open for long: half of the moments are enough.
            self._samples = deque(list(self._samples)[::2])
        self._samples.append((sample.next_xid, sample.sampled_at))

    def reached(self, applied_below: int) -> datetime | None:
        """The latest moment whose transactions are all below ``applied_below``; None while none is known."""
        while self._samples and self._samples[0][0] <= applied_below:
            self._reached = self._samples.popleft()[1]
        return self._reached

    def forget(self) -> None:
        """For another life of main: its moments are no longer known."""
        self._samples.clear()
        self._reached = None
