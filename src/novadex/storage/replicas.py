"""Read replicas: a replica is read from only while it is known to be close behind the primary."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from novadex import metrics
from novadex.errors import NovaDexError, ValidationError
from novadex.storage.database import Database
from novadex.storage.queries import load_queries
from novadex.storage.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from novadex.settings import Settings
    from novadex.storage.queries import Query

SAMPLE_INTERVAL_S = 0.2
SAMPLES_KEPT = 600
REPLICA_WAIT_S_MAX = 1.0
"""How long a read waits for a connection to a replica before the primary serves it."""

QUERIES = load_queries(Path(__file__).with_suffix(".sql"))


def position_number(lsn: str) -> int:
    """A log position as a number.

    >>> position_number("1/A0") - position_number("1/00")
    160
    """
    if not re.fullmatch(r"[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}", lsn):
        raise ValidationError(
            f"after must be a log position, got {lsn!r}.", field="after", hint="Pass what write_position() returned."
        )
    high, low = lsn.split("/")
    return (int(high, 16) << 32) + int(low, 16)


@dataclass(frozen=True, slots=True)
class Position:
    """How far a server's log goes."""

    log: str
    """System identifier and timeline: positions of different logs cannot be compared."""
    number: int


class Replica:
    """One replica and what is known of it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.replayed = 0
        self.known_current_at = float("-inf")
        """Monotonic time: everything committed before it has been replayed."""

    def note(self, position: Position | None, primary_positions: Sequence[tuple[float, Position]]) -> None:
        """Take in how far it has replayed; None where it is away, or is no replica any more."""
        if position is None or not primary_positions or position.log != primary_positions[-1][1].log:
            self.replayed, self.known_current_at = 0, float("-inf")
        else:
            self.replayed = position.number
            for moment, written in reversed(primary_positions):
                if written.log == position.log and written.number <= position.number:
                    self.known_current_at = max(self.known_current_at, moment)
                    break
        lag_s = time.monotonic() - self.known_current_at
        metrics.replica_lag_seconds.labels(self.database.name).set(lag_s)


class Replicas:
    """The replicas of main. Their lag is measured by log positions, not by clocks: a replica that has
    replayed what the primary had written at a moment is behind by at most the time since."""

    def __init__(self, primary: Database, urls: Sequence[str], settings: Settings) -> None:
        self.primary = primary
        self.settings = settings
        impatient = settings.model_copy(update={"pool_wait_s_max": min(REPLICA_WAIT_S_MAX, settings.pool_wait_s_max)})
        self.replicas = [Replica(Database(f"replica {n}", url, impatient)) for n, url in enumerate(urls, 1)]
        self._turn = itertools.count()
        self._primary_positions: deque[tuple[float, Position]] = deque(maxlen=SAMPLES_KEPT)
        self._watches: list[asyncio.Task[None]] = []

    async def choose(self, after: str | None = None) -> Database:
        """A replica that is close enough and has replayed ``after``, else the primary.

        It waits for nothing: until the replicas are known, the primary serves.
        """
        wanted = position_number(after) if after else 0
        if not self.replicas:
            return self.primary
        self._ensure_watches()
        oldest = time.monotonic() - self.settings.replica_lag_ms_max / 1000
        start = next(self._turn)
        for offset in range(len(self.replicas)):
            replica = self.replicas[(start + offset) % len(self.replicas)]
            if replica.known_current_at >= oldest and replica.replayed >= wanted:
                metrics.replica_reads.labels("replica").inc()
                return replica.database
        metrics.replica_reads.labels("primary").inc()
        return self.primary

    def distrust(self, database: Database) -> None:
        """A read from this replica failed: leave it alone until it answers again."""
        for replica in self.replicas:
            if replica.database is database:
                replica.note(None, ())

    async def close(self) -> None:
        watches, self._watches = self._watches, []
        for watch in watches:
            if watch.get_loop() is asyncio.get_running_loop():
                watch.cancel()
                await asyncio.wait([watch])
        for replica in self.replicas:
            await replica.database.close()

    def _ensure_watches(self) -> None:
        loop = asyncio.get_running_loop()
        if self._watches and not any(watch.done() or watch.get_loop() is not loop for watch in self._watches):
            return
        for watch in self._watches:
            if watch.get_loop() is loop:
                watch.cancel()
        self._primary_positions.clear()
        for replica in self.replicas:
            replica.note(None, ())

        def note_primary(asked_at: float, position: Position | None) -> None:
            if position is not None:
                self._primary_positions.append((asked_at, position))

        def noting(replica: Replica) -> Callable[[float, Position | None], None]:
            return lambda _, position: replica.note(position, self._primary_positions)

        self._watches = [
            loop.create_task(
                _watch(self.primary, QUERIES.primary_position, note_primary), name="novadex watch of the primary"
            ),
            *(
                loop.create_task(
                    _watch(replica.database, QUERIES.replica_position, noting(replica)),
                    name=f"novadex watch of {replica.database.name}",
                )
                for replica in self.replicas
            ),
        ]


def _position(log: str, lsn: str) -> Position:
    return Position(log, position_number(lsn))


async def _watch(database: Database, question: Query, note: Callable[[float, Position | None], None]) -> None:
    """Ask a server for its position again and again, on a connection of its own: a busy pool delays nothing,
    and a server that hangs holds up no other."""
    connection: psycopg.AsyncConnection | None = None
    try:
        while True:
            asked_at = time.monotonic()
            try:
                if connection is None:
                    connection = await database.dedicated()
                answers = await Session(connection, database.name).made(_position, question)
                position = answers[0] if answers else None
            except (NovaDexError, psycopg.Error):
                position = None
                if connection is not None:
                    await connection.close()
                    connection = None
            note(asked_at, position)
            await asyncio.sleep(SAMPLE_INTERVAL_S)
    finally:
        if connection is not None:
            await connection.close()
