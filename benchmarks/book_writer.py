"""Writes order events at a rate, in a process of its own: ``python -m benchmarks.book_writer MAIN_URL RATE SECONDS``.

Half of them place orders, half cancel older ones, in transactions of 20 ms. Prints when which sequence was committed.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any, LiteralString, cast
from uuid import UUID

import psycopg
from uuid_utils.compat import uuid7

SQL_FOLDER = Path(__file__).with_name("sql")
TRANSACTION_S = 0.02
LIVE_ORDERS = 2_000


def literal(name: str) -> LiteralString:
    return cast("LiteralString", (SQL_FOLDER / f"{name}.sql").read_text(encoding="ascii"))


class Writer:
    """Places and cancels orders of one user in one market."""

    def __init__(self, url: str) -> None:
        self.connection = psycopg.connect(url, autocommit=True)
        self.place: LiteralString = literal("place_orders")
        self.cancel: LiteralString = literal("cancel_orders")
        self.chance = random.Random(7)
        self.live: deque[tuple[UUID, int]] = deque()
        self.market, self.user = self._one(
            "SELECT m.id, u.id FROM markets m, users u WHERE u.kind = 'person' LIMIT 1"
        )

    def _one(self, statement: LiteralString, parameters: tuple[Any, ...] = ()) -> Any:
        row = self.connection.execute(statement, parameters).fetchone()
        assert row is not None
        return row

    def write(self, events: int) -> int:
        """One transaction; returns the sequence after it."""
        cancels = events // 2 if len(self.live) >= LIVE_ORDERS else 0
        placed = [
            (uuid7(), self.chance.choice((-1, 1)) * self.chance.randint(1, 500)) for _ in range(events - cancels)
        ]
        with self.connection.transaction(), psycopg.RawCursor(self.connection) as cursor:
            cursor.execute(
                self.place,
                (
                    self.user,
                    self.market,
                    [order for order, _ in placed],
                    ["buy" if offset < 0 else "sell" for _, offset in placed],
                    [10_000 + offset for _, offset in placed],
                ),
            )
            if cancels:
                gone = [self.live.popleft() for _ in range(cancels)]
                cursor.execute(
                    self.cancel,
                    (
                        self.market,
                        [uuid7() for _ in gone],
                        [order for order, _ in gone],
                        [10_000 + offset for _, offset in gone],
                    ),
                )
            sequence = self._one("SELECT sequence FROM market_sequences WHERE market_id = %s", (self.market,))[0]
        self.live.extend(placed)
        return sequence


def main() -> None:
    url, rate, seconds = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    writer = Writer(url)
    committed: list[tuple[int, int]] = []
    began = time.perf_counter()
    written = 0
    while (passed := time.perf_counter() - began) < seconds:
        due = round(rate * passed) - written
        if due > 0:
            sequence = writer.write(min(due, int(rate * TRANSACTION_S * 5) + 1))
            written += min(due, int(rate * TRANSACTION_S * 5) + 1)
            committed.append((sequence, time.time_ns() // 1_000_000))
        next_at = began + (int(passed / TRANSACTION_S) + 1) * TRANSACTION_S
        time.sleep(max(0.0, next_at - time.perf_counter()))
    print(json.dumps({"seconds": time.perf_counter() - began, "written": written, "committed": committed}))


if __name__ == "__main__":
    main()
