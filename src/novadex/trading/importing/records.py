"""What an import gives back, and what is wrong with a line that it refuses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from novadex.errors import NovaDexError

FormatName = Literal["auto", "binance", "ccxt", "novadex"]
FORMATS: tuple[FormatName, ...] = ("auto", "binance", "ccxt", "novadex")
OnError = Literal["stop", "skip"]
ON_ERROR: tuple[OnError, ...] = ("stop", "skip")
MARKET_SOURCES: dict[str, str] = {"binance": "binance", "ccxt": "ccxt"}
"""The source that a format's trades belong to where none is named."""

Place: TypeAlias = int | tuple[int, int]
"""Where a trade stands: the number of its line; in a JSON array that and the number of the element."""


class ImportFailedError(NovaDexError):
    """The import ended before the end of the file. What its message says is in, stays in."""

    code = "IMPORT_FAILED"


VALUE_CHARACTERS_MAX = 200


def printable(text: str) -> str:
    r"""Text of a file or a file's name, safe for a terminal and for JSON.

    >>> printable("a\x1b[31m\udcff")
    'a\\x1b[31m\\udcff'
    """
    return text if text.isprintable() else text.encode("unicode_escape").decode()


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is not imported, and why."""

    place: Place
    field: str
    value: str
    reason: str
    raw: str
    """As it stands in the file; value and reason are ``printable``."""

    @classmethod
    def of(cls, place: Place, field: str, value: object, reason: str, raw: str) -> BadLine:
        return cls(place, field, printable(str(value)[:VALUE_CHARACTERS_MAX]), printable(reason), raw)

    @property
    def line(self) -> int:
        return self.place if isinstance(self.place, int) else self.place[0]

    @property
    def element(self) -> int | None:
        return None if isinstance(self.place, int) else self.place[1]

    def where(self) -> str:
        """In words.

        >>> BadLine((3, 17), "price", "x", "price is not a number.", "").where()
        'line 3, element 17'
        """
        return f"line {self.line}" if self.element is None else f"line {self.line}, element {self.element}"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an import is."""

    bytes_done: int
    """Of the file as it stands on disk, compressed or not."""
    bytes_total: int | None
    """None for a pipe."""
    read: int
    added: int
    duplicates: int
    rejected: int


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did: ``read`` = ``added`` + ``duplicates`` + ``rejected``."""

    file: str
    market: str
    format: str
    source: str | None
    """Whose trades they are; None where each line names its own."""
    read: int
    """Trades in the file; header and empty lines do not count."""
    added: int
    duplicates: int
    """Trades that were there already, from this file or another."""
    rejected: int
    seconds: float
    rejects_file: Path | None
