"""The levels of a book (L2): how much rests at each price, best first. Nothing here knows a server.

Prices are whole numbers of 10^-price_decimals of the quote asset, quantities whole numbers ("lots") of the smallest
unit of the base asset: there is nothing to round, and a changed tick or lot size changes no level.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left, insort
from itertools import zip_longest
from typing import TYPE_CHECKING, TypeAlias

from novadex.book.units import to_text, to_units

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Row: TypeAlias = tuple[str, str]
"""Price and quantity in plain notation, as callers see them."""
CHECKSUM_LEVELS = 25
GONE = "0"
"""The quantity of a level that is not there any more, in differences."""


class Side:
    """One side. ``set`` says how much rests at a price from now on; 0 takes the level away."""

    __slots__ = ("_direction", "_lots", "_prices", "_rows", "changed", "lot_decimals", "price_decimals")

    def __init__(self, *, buys: bool, price_decimals: int, lot_decimals: int) -> None:
        self._direction = 1 if buys else -1
        """Prices are kept in the order of price * direction: the best is the last, and goes cheaply."""
        self._prices: list[int] = []
        self._lots: dict[int, int] = {}
        self._rows: dict[int, Row] = {}
        """Texts of levels that were asked for, until the levels change."""
        self.price_decimals = price_decimals
        self.lot_decimals = lot_decimals
        self.changed: set[int] = set()
        """Prices that were set since ``take_changes``."""

    def __len__(self) -> int:
        return len(self._prices)

    def set(self, price: int, lots: int) -> None:
        """How much rests at a price from now on."""
        key = price * self._direction
        before = self._lots.get(key, 0)
        if lots == before:
            return
        if lots < 0:
            raise ValueError(f"a level cannot hold {lots} lots")
        self.changed.add(key)
        self._rows.pop(key, None)
        if not lots:
            del self._lots[key]
            if self._prices[-1] == key:
                self._prices.pop()
            else:
                del self._prices[bisect_left(self._prices, key)]
            return
        self._lots[key] = lots
        if not before:
            insort(self._prices, key)

    def add(self, price: int, lots: int) -> None:
        """So much more at a price; less where it is negative."""
        self.set(price, self._lots.get(price * self._direction, 0) + lots)

    def lots(self, price: int) -> int:
        """How much rests at a price."""
        return self._lots.get(price * self._direction, 0)

    def best(self) -> int | None:
        """The best price, None where the side is empty."""
        return self._prices[-1] * self._direction if self._prices else None

    def items(self) -> list[tuple[int, int]]:
        """All (price, lots), best first."""
        return [(key * self._direction, self._lots[key]) for key in reversed(self._prices)]

    def rows(self, depth: int | None = None) -> list[Row]:
        """The best levels as text, best first; None: all of them."""
        keys = self._prices[-depth:] if depth else self._prices if depth is None else []
        return [self._row(key) for key in reversed(keys)]

    def take_changes(self) -> list[tuple[int, int]]:
        """The (price, lots) that were set since the last call, 0 where the level is gone."""
        changed, self.changed = self.changed, set()
        return [(key * self._direction, self._lots.get(key, 0)) for key in changed]

    def row(self, price: int) -> Row:
        """A level as text; its quantity is ``GONE`` where there is none."""
        return self._row(price * self._direction)

    def _row(self, key: int) -> Row:
        row = self._rows.get(key)
        if row is None:
            price, lots = to_text(abs(key), self.price_decimals), self._lots.get(key)
            if lots is None:
                return price, GONE
            row = self._rows[key] = price, to_text(lots, self.lot_decimals)
        return row


class Levels:
    """Both sides of a book."""

    __slots__ = ("asks", "bids", "lot_decimals", "price_decimals")

    def __init__(self, price_decimals: int, lot_decimals: int) -> None:
        self.price_decimals, self.lot_decimals = price_decimals, lot_decimals
        self.bids = Side(buys=True, price_decimals=price_decimals, lot_decimals=lot_decimals)
        self.asks = Side(buys=False, price_decimals=price_decimals, lot_decimals=lot_decimals)

    @classmethod
    def of_rows(cls, bids: Iterable[Sequence[str]], asks: Iterable[Sequence[str]], *decimals: int) -> Levels:
        """From texts; ``decimals`` are those of prices and lots."""
        levels = cls(*decimals)
        levels.set_rows(bids, asks)
        return levels

    def side(self, side: str) -> Side:
        """``buy`` or ``sell``."""
        return self.bids if side == "buy" else self.asks

    def set_rows(self, bids: Iterable[Sequence[str]], asks: Iterable[Sequence[str]]) -> None:
        """Set levels by texts (price, quantity). Nothing is set where one of them is wrong: ``ValueError``."""
        parsed = [
            [(to_units(price, self.price_decimals), to_units(lots, self.lot_decimals)) for price, lots in rows]
            for rows in (bids, asks)
        ]
        for side, rows in zip((self.bids, self.asks), parsed, strict=True):
            for price, lots in rows:
                side.set(price, lots)

    @property
    def crossed(self) -> bool:
        """Whether somebody bids at least what another asks: the venue has not matched them yet, or did not report
        it. The levels are shown as they are."""
        bid, ask = self.bids.best(), self.asks.best()
        return bid is not None and ask is not None and bid >= ask

    def checksum(self) -> int:
        """See ``checksum_of``."""
        return checksum_of(self.bids.rows(CHECKSUM_LEVELS), self.asks.rows(CHECKSUM_LEVELS))

    def in_finer_units(self, price_decimals: int) -> Levels:
        """The same levels with prices counted in smaller units."""
        finer = Levels(price_decimals, self.lot_decimals)
        factor = 10 ** (price_decimals - self.price_decimals)
        for mine, theirs in ((self.bids, finer.bids), (self.asks, finer.asks)):
            for price, lots in mine.items():
                theirs.set(price * factor, lots)
        return finer


def checksum_of(bids: Sequence[Sequence[str]], asks: Sequence[Sequence[str]]) -> int:
    """CRC32 (unsigned) of the best 25 levels, as anybody can compute it from what is printed: ``price:quantity`` of
    the best bid, of the best ask, of the second bid and so on, joined by colons; a side that has ended is left out.

    >>> checksum_of([("99.5", "2"), ("99", "1")], [("100", "0.5")]) == zlib.crc32(b"99.5:2:100:0.5:99:1")
    True
    """
    parts = [
        f"{row[0]}:{row[1]}"
        for pair in zip_longest(bids[:CHECKSUM_LEVELS], asks[:CHECKSUM_LEVELS])
        for row in pair
        if row is not None
    ]
    return zlib.crc32(":".join(parts).encode())
