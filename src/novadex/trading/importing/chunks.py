"""Chunks: as many checked trades as one transaction takes, and the lines among them that are refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from novadex.errors import ValidationError
from novadex.trading.importing.records import BadLine, ImportFailedError, Place
from novadex.trading.importing.text_lines import LINE_BYTES_MAX

B = TypeVar("B")

ROWS_MIN, ROWS_FIRST, ROWS_MAX = 250, 4_000, 10_000
CHUNK_BYTES_MAX = 8 * 1024 * 1024
"""Of the file, unpacked."""
REJECTS_MAX = 10_000
"""Refused lines in one chunk."""
TRANSACTION_S = 0.2
"""How long writing a chunk should take: a long transaction holds the projection back."""
Month = tuple[int, int]


@dataclass(slots=True)
class ChunkSize:
    """How many trades a chunk has; follows what the server can write in ``TRANSACTION_S``."""

    rows: int = ROWS_FIRST

    def learn(self, rows: int, seconds: float) -> None:
        """A chunk of ``rows`` took so long.

        >>> size = ChunkSize(4_000)
        >>> size.learn(4_000, 0.8)
        >>> size.rows
        2000
        """
        if rows >= self.rows // 2:
            fitting = int(rows * TRANSACTION_S / max(seconds, 1e-6))
            self.rows = max(ROWS_MIN, self.rows // 2, min(fitting, self.rows * 2, ROWS_MAX))


@dataclass(slots=True)
class Chunk:
    """Trades in the order of the file. ``lines``, ``places`` and ``raws`` have one entry for each trade."""

    lines: list[str] = field(default_factory=list)
    """Lines of COPY; each begins with the trade's id."""
    places: list[Place] = field(default_factory=list)
    raws: list[str] = field(default_factory=list)
    rejects: list[BadLine] = field(default_factory=list)
    months: set[Month] = field(default_factory=set)
    """In which the trades were executed."""
    bytes_read: int = 0
    position: int = 0
    """Where the file stood after it."""
    failure: ImportFailedError | None = None
    """Why the file cannot be read after it."""

    def reject(self, place: Place, error: ValidationError, value: object, raw: str) -> None:
        self.rejects.append(BadLine.of(place, error.field, value, error.message, raw))

    def reject_overlong(self, place: Place, beginning: str) -> None:
        reason = f"the line is longer than {LINE_BYTES_MAX:,} bytes."
        self.rejects.append(BadLine.of(place, "line", beginning, reason, beginning))

    def before(self, place: Place) -> Chunk:
        """The part of it that stands before a place in the file."""
        count = next((index for index, own in enumerate(self.places) if own >= place), len(self.places))  # type: ignore[operator] # all places of a file are of one kind
        return Chunk(self.lines[:count], self.places[:count], self.raws[:count], [], self.months)

    def copy_data(self) -> bytes:
        """For COPY, by id: all writers take their locks in this order."""
        return "".join(sorted(self.lines)).encode()


def read_chunks(
    blocks: Iterable[B],
    parse: Callable[[B, Chunk], None],
    size: ChunkSize,
    position: Callable[[], int],
) -> Iterator[Chunk]:
    """Parse the blocks of a file and gather them into chunks.

    Where the file cannot be read on, the last chunk says why: what stands before that place is good.
    """
    chunk = Chunk()
    try:
        for block in blocks:
            parse(block, chunk)
            if (
                len(chunk.lines) >= size.rows
                or len(chunk.rejects) >= REJECTS_MAX
                or chunk.bytes_read >= CHUNK_BYTES_MAX
            ):
                chunk.position = position()
                yield chunk
                chunk = Chunk()
    except ImportFailedError as error:
        chunk.failure = error
    chunk.position = position()
    if chunk.lines or chunk.rejects or chunk.failure:
        yield chunk
