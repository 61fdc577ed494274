"""Imports the book of another exchange from a captured stream: replayed, published, kept, and compared as it is read.

Each difference is published like those of this venue's own books, and the best levels are read back as any reader
gets them before they are compared with the exchange's ticker. Snapshots in PostgreSQL let the book outlive the cache
server; where that is away, or lost something, the replay goes on and publishes the whole book as soon as it can.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import msgspec

from novadex.book.capture import LINE_BYTES_MAX, DepthSnapshot, DepthUpdate, Ticker, lines, parse
from novadex.book.documents import LEASE_MS, MarketKeys
from novadex.book.publisher import Publisher
from novadex.book.reader import BookReader
from novadex.book.replay import Comparison, Replay
from novadex.book.store import QUERIES
from novadex.errors import ConflictError, UnavailableError, ValidationError
from novadex.ids import EPOCH, uuid7
from novadex.storage.database import Database
from novadex.storage.session import Session
from novadex.trading.importing.reading_thread import in_thread
from novadex.trading.importing.records import ImportFailedError
from novadex.trading.importing.source_file import open_source
from novadex.trading.markets import Markets
from novadex.trading.prepare import check_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from novadex.book.capture import Line
    from novadex.book.levels import Levels
    from novadex.book.replay import Best
    from novadex.storage.connection import DatabaseConnection
    from novadex.trading.importing.source_file import SourceFile
    from novadex.trading.records import Market

T = TypeVar("T")
OnError = Literal["stop", "skip"]
Batch: TypeAlias = list[tuple[int, bytes]]
"""Lines and their numbers."""
LINES_AT_ONCE = 200
BEAT_S = LEASE_MS / 4_000
SNAPSHOT_INTERVAL_S = 3.0
SNAPSHOTS_KEPT = 20
"""Of a market; older ones go."""
RETRY_S = 0.2
"""Between attempts to reach a cache server that is away."""
LOOK_INTERVAL_S = 30.0
BAD_LINES_NAMED_MAX = 100
PROGRESS_INTERVAL_S = 0.1


@dataclass(slots=True)
class BookImportReport:
    """What an import did."""

    file: str
    market: str
    updates: int
    """Differences applied."""
    checkpoints: int
    checkpoints_equal: int
    gaps: int
    crossed: int
    skipped: int
    """Differences that the snapshot had already."""
    sequence: int
    checksum: int
    bids: int
    """Levels at the end."""
    asks: int
    read_back: int
    """How often the book was read from the cache server after it was published there; else that did not answer, or
    had lost the book, and the one in memory was compared."""
    republished: int
    """Times the whole book was published again because the cache server had lost it."""
    snapshots: int
    """Kept in PostgreSQL."""
    rejected: int
    """Bad lines that were skipped."""
    own_orders: int
    """Live orders of this venue in the market, which its book does not show."""
    seconds: float
    unequal: list[str]
    """The first checkpoints that were not equal."""
    bad_lines: list[str]
    """The first bad lines, by number and reason."""

    @property
    def clean(self) -> bool:
        """Whether all that could be compared was equal, and nothing was missing."""
        return self.checkpoints_equal == self.checkpoints and not self.gaps and not self.crossed


@dataclass(frozen=True, slots=True)
class BookImportProgress:
    """How far an import is."""

    bytes_done: int
    bytes_total: int | None
    updates: int
    line: int = 0
    """The last one that was taken."""
    sequence: int | None = None
    """Of the book; None before a snapshot came."""


async def import_book(
    db: DatabaseConnection,
    file: str,
    market: str,
    *,
    create_market: bool = False,
    source: str = "binance",
    on_error: OnError = "stop",
    on_progress: Callable[[BookImportProgress], None] = lambda _: None,
) -> BookImportReport:
    """Replay a captured stream into a market's book, which shows the exchange's from then on.

    Raises ``ValidationError`` for a wrong ``source``, ``ImportFailedError`` for a bad line (unless they are skipped)
    and a file without a snapshot, ``ConflictError`` where another import is at work in the market. Where it is
    cancelled, what was applied is kept, and ``on_progress`` is told how far that is.
    """
    if on_error not in ("stop", "skip"):
        raise ValidationError(f"on_error must be stop or skip, got {on_error[:40]!r}.", field="on_error")
    check_source(source)
    markets = Markets(db)
    found = await (markets.add(market) if create_market else markets.get(market))
    opened = await _reading(lambda: open_source(file))
    try:
        importer = _Import(db, found, opened, source, on_error, on_progress)
        return await importer.run()
    finally:
        in_thread(opened.close)  # where another thread waits at a silent pipe, this one waits for that


@dataclass(slots=True)
class _Import:
    db: DatabaseConnection
    market: Market
    source_file: SourceFile
    source: str
    on_error: OnError
    on_progress: Callable[[BookImportProgress], None]
    replay: Replay = field(init=False)
    comparison: Comparison = field(init=False)
    outlet: _Outlet = field(init=False)
    received_ns: int | None = None
    snapshots: int = 0
    snapshot_at: float = 0.0
    told_at: float = 0.0
    rejected: int = 0
    bad_lines: list[str] = field(default_factory=list)
    at_line: int = 0
    task: asyncio.Task[Any] | None = field(default_factory=asyncio.current_task)

    async def run(self) -> BookImportReport:
        began = time.monotonic()
        self.replay = Replay(self.market.base_decimals)
        self.comparison = Comparison(self.replay.counts)
        endpoints, settings = self.db.endpoints, self.db.settings
        owning = Database(
            "main", endpoints.listen or endpoints.main, settings.model_copy(update={"pgbouncer": False})
        )
        connection = await owning.dedicated()
        try:
            if not await Session(connection, "main").value(QUERIES.own_market, [self.market.id]):
                raise ConflictError(f"Another import into {self.market.symbol} is at work.", hint="Wait for it.")
            reader = self.db.companion(BookReader)
            self.outlet = _Outlet(endpoints.cache, await reader.life(), self.market.id, reader)
            try:
                try:
                    await self._replay()
                except (asyncio.CancelledError, ImportFailedError):
                    await self._save_what_is_there()
                    raise
                return await self._report(time.monotonic() - began)
            finally:
                await self.outlet.close()
        finally:
            await connection.close()

    async def _replay(self) -> None:
        batches = _batches(lines(self.source_file.pieces()))
        while batch := await self._next(batches):
            for number, text in batch:
                self._heed_cancellation()
                self.at_line = number
                await self._line(number, text)
            await self.outlet.beat()
            self._tell()
            self._heed_cancellation()
        self.comparison.finish()
        if self.replay.levels is None:
            raise ImportFailedError(
                f"{self.source_file.name} holds no snapshot of a book.",
                hint="A capture needs one answer of the exchange's REST depth request, with lastUpdateId.",
            )
        await self._save()

    def _heed_cancellation(self) -> None:
        """A call of the cache server that is done as this is cancelled may forget the cancellation."""
        if self.task and self.task.cancelling():
            raise asyncio.CancelledError

    async def _next(self, batches: Iterator[Batch]) -> Batch:
        try:
            return await _reading(lambda: next(batches, []))
        except ImportFailedError as error:  # the file cannot be read to its end
            raise ImportFailedError(error.message, hint=f"{self._what_is_in(self.at_line)} {error.hint}") from None

    async def _line(self, number: int, text: bytes) -> None:
        try:
            line = parse(number, text)
            self.received_ns = line.received_ns or self.received_ns
            await self._take(line)
        except ValueError as error:
            self.rejected += 1
            if len(self.bad_lines) < BAD_LINES_NAMED_MAX:
                self.bad_lines.append(f"line {number}: {error}")
            if self.on_error == "stop":
                raise ImportFailedError(
                    f"{self.source_file.name}, line {number}: {error}.",
                    hint=f"{self._what_is_in(number - 1)} Correct the line, or leave it out with --on-error skip.",
                    line=number,
                ) from None

    def _what_is_in(self, line: int) -> str:
        if self.replay.levels is None:
            return "Nothing is in: no snapshot came before it."
        return f"What comes before it is in, up to line {line}."

    async def _take(self, line: Line) -> None:
        message = line.message
        if isinstance(message, Ticker):
            self.comparison.ticker(message)
        elif isinstance(message, DepthUpdate):
            await self._update(message)
        elif isinstance(message, DepthSnapshot) and not self.replay.in_step:
            waiting = self.replay.begin(message)
            await self._publish(whole=True)
            await self._save()
            for update in waiting:
                await self._update(update)

    async def _update(self, update: DepthUpdate) -> None:
        applied = self.replay.apply(update)
        if applied is None:
            return
        best = await self._publish(whole=applied.whole)
        self.comparison.book(self.replay.sequence, self.replay.snapshot_id, best)
        if time.monotonic() - self.snapshot_at > SNAPSHOT_INTERVAL_S:
            await self._save()

    async def _publish(self, *, whole: bool) -> Best:
        levels = self.replay.levels
        assert levels is not None  # noqa: S101 - a snapshot came
        return await self.outlet.put(self.replay.sequence, levels, whole=whole)

    async def _save(self) -> None:
        """Keep the book in PostgreSQL. This is what readers get while nobody publishes it."""
        levels = self.replay.levels
        assert levels is not None  # noqa: S101 - a snapshot came
        taken_at = _moment(self.received_ns)
        bids, asks = (msgspec.json.encode(side.rows()).decode() for side in (levels.bids, levels.asks))
        row = [uuid7(), self.market.id, self.replay.sequence, levels.checksum(), bids, asks, self.source, taken_at]
        async with self.db.transaction() as session:
            await session.execute(QUERIES.save_snapshot, row)
            await session.execute(QUERIES.drop_old_snapshots, [self.market.id, SNAPSHOTS_KEPT])
        self.snapshots += 1
        self.snapshot_at = time.monotonic()

    async def _save_what_is_there(self) -> None:
        if self.replay.levels is not None:
            await self._save()
        self._tell(anyway=True)

    def _tell(self, *, anyway: bool = False) -> None:
        now = time.monotonic()
        if anyway or now - self.told_at > PROGRESS_INTERVAL_S:
            self.told_at = now
            file, updates = self.source_file, self.replay.counts.updates
            sequence = None if self.replay.levels is None else self.replay.sequence
            self.on_progress(BookImportProgress(file.position(), file.bytes_total, updates, self.at_line, sequence))

    async def _report(self, seconds: float) -> BookImportReport:
        levels, counts = self.replay.levels, self.replay.counts
        assert levels is not None  # noqa: S101 - a snapshot came
        return BookImportReport(
            file=self.source_file.name,
            market=self.market.symbol,
            updates=counts.updates,
            checkpoints=counts.checkpoints,
            checkpoints_equal=counts.checkpoints_equal,
            gaps=counts.gaps,
            crossed=counts.crossed,
            skipped=counts.skipped,
            sequence=self.replay.sequence,
            checksum=levels.checksum(),
            bids=len(levels.bids),
            asks=len(levels.asks),
            read_back=self.outlet.read_back,
            republished=self.outlet.republished,
            snapshots=self.snapshots,
            rejected=self.rejected,
            own_orders=await self.db.main.value(QUERIES.live_orders, [self.market.id], read_only=True),
            seconds=round(seconds, 3),
            unequal=counts.unequal,
            bad_lines=self.bad_lines,
        )


class _Outlet:
    """The cache server, as far as it can be reached. What is put there is read back as a reader gets it."""

    def __init__(self, url: str, life: str, market_id: int, reader: BookReader) -> None:
        self.read_back = self.republished = 0
        self._market_id = market_id
        self._lease = MarketKeys.of(life, market_id).lease
        self._publisher = Publisher(url, life, secrets.token_hex(8)) if url else None
        self._reader = reader
        self._whole = True
        """Whether the whole book must be published next."""
        self._begun = self._leased = False
        self._retry_at = self._beat_at = self._look_at = 0.0

    async def put(self, sequence: int, levels: Levels, *, whole: bool) -> Best:
        """Publish, and return the best levels as they are read."""
        self._whole |= whole
        own = _best(levels.bids.rows(1), levels.asks.rows(1))
        if not await self._try_publish(sequence, levels):
            return own
        top = await self._reader.top(self._market_id)
        if top is None or top.sequence != sequence:
            self._whole = True  # lost between the two, or there is another reason to look anew
            return own
        self.read_back += 1
        return _best(top.bids, top.asks)

    async def _try_publish(self, sequence: int, levels: Levels) -> bool:
        publisher = self._publisher
        if publisher is None or time.monotonic() < self._retry_at:
            return False
        try:
            if not self._leased:
                await publisher.take(self._lease)
                self._leased, self._beat_at = True, time.monotonic() + BEAT_S
            await self.beat()
            if not self._whole and await publisher.publish_levels(self._market_id, sequence, levels):
                return True
            await publisher.restore_levels(self._market_id, sequence, levels)
        except UnavailableError:
            self._whole, self._leased, self._retry_at = True, False, time.monotonic() + RETRY_S
            return False
        self.republished += self._begun
        self._begun, self._whole = True, False
        return True

    async def beat(self) -> None:
        """Keep the lease; where it is lost, so may be the book."""
        now = time.monotonic()
        if self._publisher is None or not self._leased or now < self._beat_at:
            return
        self._beat_at = now + BEAT_S
        try:
            if not await self._publisher.keep(self._lease):
                self._whole, self._leased = True, False
                await self._publisher.take(self._lease)
                self._leased = True
            elif now > self._look_at and self._publisher.has(self._market_id):
                self._look_at = now + LOOK_INTERVAL_S
                self._whole |= not await self._publisher.look(self._market_id)
        except UnavailableError:
            self._whole, self._leased, self._retry_at = True, False, now + RETRY_S

    async def close(self) -> None:
        """Let the market go: the worker goes on with what was kept."""
        if self._publisher is not None:
            with suppress(UnavailableError):
                await self._publisher.leave(self._lease)
            await self._publisher.close()


def _reading(call: Callable[[], T]) -> asyncio.Future[T]:
    """``in_thread``; a thread that still waits for standard input as the program ends must hold it, or Python
    aborts."""
    stdin = sys.stdin
    return in_thread(lambda: (call(), stdin)[0])


def _batches(numbered: Iterator[tuple[int, bytes]]) -> Iterator[Batch]:
    """So many lines at once, fewer where they are long. What was read before the file broke comes before the
    error."""
    batch: Batch = []
    size = 0
    try:
        for number, text in numbered:
            batch.append((number, text))
            size += len(text)
            if len(batch) >= LINES_AT_ONCE or size >= LINE_BYTES_MAX:
                yield batch
                batch, size = [], 0
    except ImportFailedError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def _best(bids: Any, asks: Any) -> Best:
    return (bids[0] if bids else None, asks[0] if asks else None)


def _moment(nanoseconds: int | None) -> datetime:
    return datetime.now(UTC) if nanoseconds is None else EPOCH + timedelta(microseconds=nanoseconds // 1_000)
