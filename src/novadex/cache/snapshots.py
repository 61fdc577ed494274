"""What a statement of PostgreSQL could see: the version of everything that is cached."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple


class Snapshot(NamedTuple):
    """The transactions that a statement saw as finished, and when the statement began.

    >>> seen = Snapshot.parse("10:15:12,13@1700000000000000")
    >>> [xid for xid in range(9, 17) if seen.sees(xid)]
    [9, 10, 11, 14]
    """

    xmin: int
    """Every transaction below it is seen."""
    xmax: int
    """None from it on is."""
    running: frozenset[int]
    """Nor are these between the two."""
    read_at_us: int
    """By the clock of the primary, in microseconds since 1970."""

    @staticmethod
    @lru_cache(maxsize=4096)
    def parse(mark: str) -> Snapshot:
        """From the text of the SQL function ``read_mark()``. Hot entries have theirs read again and again."""
        snapshot, _, read_at_us = mark.partition("@")
        xmin, xmax, running = snapshot.split(":")
        return Snapshot(
            int(xmin), int(xmax), frozenset(map(int, running.split(","))) if running else frozenset(), int(read_at_us)
        )

    def sees(self, xid: int) -> bool:
        """Whether what this transaction committed is in it."""
        return xid < self.xmin or (xid < self.xmax and xid not in self.running)

    def covers(self, other: Snapshot) -> bool:
        """Whether it saw all that the other did, and is not older.

        The time is compared too, for a crash of the server lets it give out again the ids of transactions that
        left nothing behind.

        >>> old, new = Snapshot.parse("10:15:12@5"), Snapshot.parse("12:15:12@6")
        >>> new.covers(old), old.covers(new)
        (True, False)
        """
        return (
            self.read_at_us >= other.read_at_us
            and self.xmax >= other.xmax
            and all(xid in other.running or xid >= other.xmax for xid in self.running)
            and self.xmin >= other.xmin
        )
