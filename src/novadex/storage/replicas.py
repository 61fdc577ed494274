"""Read replicas: a replica is read from only while it is known to be close behind the primary."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from novadex import metrics
from novadex.errors import NovaDexError
from novadex.storage.database import Database

if TYPE_CHECKING:
    from collections.abc import Sequence

    from novadex.settings import Settings

SAMPLE_INTERVAL_S = 0.2
SAMPLES_KEPT = 600


def position_number(lsn: str) -> int:
    """A log position as a number.

    >>> position_number("1/A0") - position_number("1/00")
    160
    """
    high, low = lsn.split("/")
    return (int(high, 16) << 32) + int(low, 16)


class Replica:
    """One replica and what is known of it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.replayed = 0
        self.known_current_at = float("-inf")
        """Monotonic time: everything committed before it has been replayed."""


class Replicas:
    """The replicas of main. Their lag is measured by log positions, not by clocks: a replica that has
    replayed what the primary had written at a moment is behind by at most the time since."""

    def __init__(self, primary: Database, urls: Sequence[str], settings: Settings) -> None:
        self.primary = primary
        self.settings = settings
        self.replicas = [Replica(Database(f"replica {n}", url, settings)) for n, url in enumerate(urls, 1)]
        self._turn = itertools.count()
        self._primary_positions: deque[tuple[float, int]] = deque(maxlen=SAMPLES_KEPT)
        self._watch: asyncio.Task[None] | None = None

    async def choose(self, after: str | None = None) -> Database:
        """A replica that is close enough and has replayed ``after``, else the primary."""
        if not self.replicas:
            return self.primary
        await self._ensure_watch()
        oldest = time.monotonic() - self.settings.replica_lag_ms_max / 1000
        wanted = position_number(after) if after else 0
        start = next(self._turn)
        for offset in range(len(self.replicas)):
            replica = self.replicas[(start + offset) % len(self.replicas)]
            if replica.known_current_at >= oldest and replica.replayed >= wanted:
                metrics.replica_reads.labels("replica").inc()
                return replica.database
        metrics.replica_reads.labels("primary").inc()
        return self.primary

    async def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError, RuntimeError):
                await self._watch
            self._watch = None
        for replica in self.replicas:
            await replica.database.close()

    async def _ensure_watch(self) -> None:
        if self._watch is None or self._watch.done() or self._watch.get_loop() is not asyncio.get_running_loop():
            await self._sample()
            self._watch = asyncio.create_task(self._keep_sampling(), name="novadex replica watch")

    async def _keep_sampling(self) -> None:
        while True:
            await asyncio.sleep(SAMPLE_INTERVAL_S)
            await self._sample()

    async def _sample(self) -> None:
        asked_at = time.monotonic()
        try:
            position = await self.primary.value("SELECT pg_current_wal_flush_lsn()::text", read_only=True)
            self._primary_positions.append((asked_at, position_number(position)))
        except NovaDexError:
            pass  # the primary is away: replicas age until it is back
        await asyncio.gather(*(self._sample_replica(replica) for replica in self.replicas))

    async def _sample_replica(self, replica: Replica) -> None:
        try:
            position = await replica.database.value(
                "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()::text END", read_only=True
            )
        except NovaDexError:
            position = None
        if position is None:
            # Away, or no longer a replica: what it has is not known to be the primary's.
            replica.replayed, replica.known_current_at = 0, float("-inf")
        else:
            replica.replayed = position_number(position)
            for moment, written in reversed(self._primary_positions):
                if written <= replica.replayed:
                    replica.known_current_at = max(replica.known_current_at, moment)
                    break
        metrics.replica_lag_seconds.labels(replica.database.name).set(time.monotonic() - replica.known_current_at)
