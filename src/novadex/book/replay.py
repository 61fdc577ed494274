"""The rules by which an exchange's snapshot and differences become its book, compared with its own ticker.

Take the snapshot (update id L); leave out differences whose last id is not above L; apply the others as they come.
Spot: the first one spans L + 1, each next one begins where the one before ended. Perpetual: each names the last id of
the one before it, the first one L. Where one does not follow, something is missing: nothing more is applied until
another snapshot comes, for a book with a gap has levels that are not there any more.

After each applied difference the best bid and ask are compared with the exchange's ticker: the last one whose id is
not above the difference's, if it is above L.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from novadex.book.levels import Levels, Row
from novadex.book.store import price_decimals_of
from novadex.book.units import FinerValueError, to_units

if TYPE_CHECKING:
    from novadex.book.capture import DepthSnapshot, DepthUpdate, Ticker

WAITING_MAX = 10_000
"""Differences that are kept until a snapshot comes; of more, the oldest go."""
TICKERS_MAX = 100_000
"""Tickers that are kept until a difference reaches them, and differences until a ticker does."""

Best = tuple[Row | None, Row | None]
"""The best bid and ask."""


class Applied(NamedTuple):
    """What an applied message did."""

    whole: bool
    """A new book began: a snapshot, or finer prices."""


@dataclass(slots=True)
class Counts:
    """What the replay counted."""

    updates: int = 0
    """Differences applied."""
    skipped: int = 0
    """Differences that the snapshot had already."""
    checkpoints: int = 0
    checkpoints_equal: int = 0
    gaps: int = 0
    crossed: int = 0
    """Differences after which the best bid was not below the best ask."""
    unequal: list[str] = field(default_factory=list)
    """The first checkpoints that were not equal, in words."""


UNEQUAL_NAMED_MAX = 5


class Replay:
    """A book made from messages. ``levels`` is None until a snapshot came."""

    def __init__(self, lot_decimals: int) -> None:
        self.counts = Counts()
        self.levels: Levels | None = None
        self.sequence = 0
        self.in_step = False
        """Whether the book is right: a snapshot came, and no gap since."""
        self._lot_decimals = lot_decimals
        self._snapshot = 0
        self._first = True
        self._waiting: deque[DepthUpdate] = deque(maxlen=WAITING_MAX)

    def begin(self, snapshot: DepthSnapshot) -> list[DepthUpdate]:
        """Take a snapshot, unless the book goes on without; returns the differences that waited for it. Raises
        ``ValueError`` where a level is wrong."""
        if self.in_step:
            return []
        decimals = price_decimals_of(snapshot.bids, snapshot.asks)
        self.levels = Levels.of_rows(snapshot.bids, snapshot.asks, decimals, self._lot_decimals)
        self.sequence = self._snapshot = snapshot.sequence
        self.in_step = self._first = True
        waiting, self._waiting = list(self._waiting), deque(maxlen=WAITING_MAX)
        return waiting

    def apply(self, update: DepthUpdate) -> Applied | None:
        """Apply a difference; None where it is left out, waits or does not follow. Raises ``ValueError`` where a
        level is wrong: nothing is changed then."""
        if not self.in_step or self.levels is None:
            self._waiting.append(update)
            return None
        if update.last <= self._snapshot:
            self.counts.skipped += 1
            return None
        if not self._follows(update):
            self.counts.gaps += 1
            self.in_step = False
            self._waiting.append(update)
            return None
        whole = False
        try:
            self.levels.set_rows(update.bids, update.asks)
        except FinerValueError:
            decimals = max(price_decimals_of(update.bids, update.asks), self.levels.price_decimals)
            finer = self.levels.in_finer_units(decimals)
            finer.set_rows(update.bids, update.asks)
            self.levels, whole = finer, True
        self.sequence, self._first = update.last, False
        self.counts.updates += 1
        if self.levels.crossed:
            self.counts.crossed += 1
        return Applied(whole)

    def _follows(self, update: DepthUpdate) -> bool:
        if update.before is not None:
            return update.before == self.sequence
        if self._first:
            return update.first <= self.sequence + 1 <= update.last
        return update.first == self.sequence + 1

    @property
    def snapshot_id(self) -> int:
        """Update id of the snapshot that the book began with."""
        return self._snapshot


class Comparison:
    """Compares what was read of the book after each difference with the exchange's ticker.

    A difference can come before the ticker that belongs to it, so it waits until a later one came.
    """

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._tickers: deque[Ticker] = deque(maxlen=TICKERS_MAX)
        self._last: Ticker | None = None
        """The last ticker not above the differences that were compared."""
        self._newest = -1
        self._waiting: deque[tuple[int, int, Best]] = deque()

    def ticker(self, ticker: Ticker) -> None:
        """The exchange's best bid and ask."""
        if ticker.last < self._newest:
            return
        self._newest = ticker.last
        self._tickers.append(ticker)
        self._compare()

    def book(self, sequence: int, snapshot_id: int, best: Best) -> None:
        """The best bid and ask of the book after a difference."""
        self._waiting.append((sequence, snapshot_id, best))
        self._compare(all_=len(self._waiting) > TICKERS_MAX)

    def finish(self) -> None:
        """No more tickers will come."""
        self._compare(all_=True)

    def _compare(self, *, all_: bool = False) -> None:
        while self._waiting and (all_ or self._newest > self._waiting[0][0]):
            sequence, snapshot_id, best = self._waiting.popleft()
            while self._tickers and self._tickers[0].last <= sequence:
                self._last = self._tickers.popleft()
            if self._last is not None and self._last.last > snapshot_id:
                self._check(sequence, self._last, best)

    def _check(self, sequence: int, ticker: Ticker, best: Best) -> None:
        counts = self._counts
        counts.checkpoints += 1
        if _same(best[0], ticker.bid, ticker.bid_quantity) and _same(best[1], ticker.ask, ticker.ask_quantity):
            counts.checkpoints_equal += 1
        elif len(counts.unequal) < UNEQUAL_NAMED_MAX:
            theirs = f"{ticker.bid_quantity} at {ticker.bid}, {ticker.ask_quantity} at {ticker.ask}"
            counts.unequal.append(f"after update {sequence}: the exchange has {theirs}, the book {best}")


FINEST = 60
"""Decimals in which values are compared: more than any has."""


def _same(row: Row | None, price: str, quantity: str) -> bool:
    """Whether a level is what the ticker says; quantity 0 stands for an empty side.

    >>> _same(("99.5", "2"), "99.50000000", "2.00"), _same(None, "0", "0")
    (True, True)
    """
    if row is None:
        return to_units(quantity, FINEST) == 0
    return to_units(row[0], FINEST) == to_units(price, FINEST) and to_units(row[1], FINEST) == to_units(
        quantity, FINEST
    )
