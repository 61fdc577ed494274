"""Writes order events at a rate, in a process of its own: ``python -m benchmarks.book_writer MAIN_URL MARKET RATE
SECONDS``.

Half of them place orders, half cancel older ones, in transactions of 20 ms, none larger than those of NovaDex's own
writer. Prints when which sequence was committed.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, LiteralString, NamedTuple, cast
from uuid import UUID

import psycopg
from uuid_utils.compat import uuid7

from novadex.settings import load_settings

SQL_FOLDER = Path(__file__).with_name("sql")
TRANSACTION_S = 0.02
CATCH_UP = 5
"""How many times as much a transaction writes, at most, where the writer is late."""
LIVE_ORDERS = 2_000


def literal(name: str) -> LiteralString:
    return cast("LiteralString", (SQL_FOLDER / f"{name}.sql").read_text(encoding="ascii"))


class Batch(NamedTuple):
    """A transaction: how many events, and the parameters of the statements."""

    events: int
    places: tuple[Any, ...]
    cancels: tuple[Any, ...]


class Writer:
    """Places and cancels orders of one user in one market; nobody else may write there."""

    def __init__(self, url: str, market: str) -> None:
        self.connection = psycopg.connect(url, autocommit=True)
        # Its plans are made while the tables are small, and stay.
        for setting in ("enable_seqscan", "enable_hashjoin", "enable_mergejoin"):
            self.connection.execute("SELECT set_config(%s, 'off', false)", (setting,))
        self.place: LiteralString = literal("place_orders")
        self.cancel: LiteralString = literal("cancel_orders")
        self.chance = random.Random(7)
        self.live: deque[tuple[UUID, int]] = deque()
        self.market, self.user = self._one(
            "SELECT m.id, u.id FROM markets m, users u WHERE m.symbol = %s AND u.kind = 'person' LIMIT 1", (market,)
        )
        (self.sequence,) = self._one("SELECT sequence FROM market_sequences WHERE market_id = %s", (self.market,))

    def _one(self, statement: LiteralString, parameters: tuple[Any, ...]) -> Any:
        row = self.connection.execute(statement, parameters).fetchone()
        assert row is not None
        return row

    def prepare(self, events: int) -> Batch:
        """The next transaction's rows; as fast as they are taken, and independent of the server."""
        cancels = events // 2 if len(self.live) >= LIVE_ORDERS else 0
        placed = [
            (uuid7(), self.chance.choice((-1, 1)) * self.chance.randint(1, 500)) for _ in range(events - cancels)
        ]
        gone = [self.live.popleft() for _ in range(cancels)]
        self.live.extend(placed)
        return Batch(
            events,
            (
                self.user,
                self.market,
                [order for order, _ in placed],
                ["buy" if offset < 0 else "sell" for _, offset in placed],
                [10_000 + offset for _, offset in placed],
            ),
            (
                self.market,
                [uuid7() for _ in gone],
                [order for order, _ in gone],
                [10_000 + offset for _, offset in gone],
            ),
        )

    def write(self, batch: Batch) -> tuple[int, int]:
        """One transaction, sent at once; returns the sequence after it and when (ms) it was committed."""
        with (
            self.connection.pipeline(),
            self.connection.transaction(),
            psycopg.RawCursor(self.connection) as cursor,
        ):
            cursor.execute(self.place, batch.places)
            if batch.cancels[1]:
                cursor.execute(self.cancel, batch.cancels)
        self.sequence += batch.events
        return self.sequence, time.time_ns() // 1_000_000


def main() -> None:
    url, market, rate, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
    writer = Writer(url, market)
    committed: list[tuple[int, int]] = []
    at_once = min(load_settings().group_commit_batch_max, int(rate * TRANSACTION_S * CATCH_UP) + 1)
    began = time.perf_counter()
    written = 0
    # The next transaction is prepared while the server works on this one.
    with ThreadPoolExecutor(1) as connection:
        writing: Future[tuple[int, int]] | None = None
        while (passed := time.perf_counter() - began) < seconds:
            due = round(rate * passed) - written
            if due > 0:
                batch = writer.prepare(min(due, at_once))
                if writing is not None:
                    committed.append(writing.result())
                writing = connection.submit(writer.write, batch)
                written += batch.events
            if due <= at_once:
                next_at = began + (int(passed / TRANSACTION_S) + 1) * TRANSACTION_S
                time.sleep(max(0.0, next_at - time.perf_counter()))
        if writing is not None:
            committed.append(writing.result())
    print(json.dumps({"seconds": time.perf_counter() - began, "written": written, "committed": committed}))


if __name__ == "__main__":
    main()
