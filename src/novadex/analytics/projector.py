"""What every projection does: read a log of main in batches, apply each, and store the position with the effect.

A batch and the position that it reaches commit in one transaction of the database that holds the effect. That
transaction locks the row of the position first and goes on only where the position is still the one that the batch
was read from. So one owner at a time applies, whoever is killed loses nothing and doubles nothing, and a second
projector stands by until the first no longer moves.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import psycopg

from novadex.analytics import metrics
from novadex.analytics.batch import BatchResult
from novadex.analytics.log import WAITING_COUNTED_MAX, LogSample, Watermarks
from novadex.analytics.position import START, MainIdentity, Position, ProjectionState
from novadex.errors import NovaDexError, TimeoutExceededError

if TYPE_CHECKING:
    from datetime import datetime

    from novadex.settings import Settings
    from novadex.storage.database import Database
    from novadex.storage.queries import Queries
    from novadex.storage.rows import Row
    from novadex.storage.session import Session

Rows = TypeVar("Rows")
IDLE_STORE_INTERVAL_S = 1.0
"""How often the position is stored while there is nothing to apply: the watermark moves with it."""
STANDBY_S = 1.0
"""How long a projector stands by after it saw another one at work."""
BACKOFF_S_MAX = 5.0
STOP_GRACE_S = 5.0
WAITING_COUNT_INTERVAL_S = 5.0
ROWS_MIN = 100
"""Batches that take too long are halved, down to this many rows."""

log = logging.getLogger(__name__)


class RebuildReason(Enum):
    """Why the projection rebuilds by itself."""

    EPOCH = "its recovery epoch differs: it was restored"
    SYSTEM = "its system identifier differs: it is another cluster"
    TIMELINE = "its timeline differs: a standby was promoted"
    AHEAD = "the position is ahead of its transactions: it was set back"


class Outcome(Enum):
    """What a step did."""

    APPLIED = "applied"
    """A batch was applied; more may wait."""
    CAUGHT_UP = "caught up"
    """Everything final is applied."""
    NOT_OWNER = "not owner"
    """Another projector is at work."""


@dataclass(frozen=True, slots=True)
class Step:
    """The result of one step."""

    outcome: Outcome
    applied: int = 0
    set_aside: int = 0


class Projector(ABC, Generic[Rows]):
    """One projection. ``main`` has the log, ``store`` the effect and the position; ``run`` works until it is told."""

    name: ClassVar[str]
    """As its row and its metrics name it."""
    queries: ClassVar[Queries]
    """``state``, ``lock_state``, ``begin`` and ``store``: the row of the position, of this projection."""

    def __init__(self, main: Database, store: Database, settings: Settings) -> None:
        self.main = main
        self.store = store
        self.settings = settings
        self._state: ProjectionState | None = None
        self._watermarks = Watermarks()
        self._rows_max = settings.projection_batch_max
        self._stored_at = float("-inf")
        self._counted_at = float("-inf")
        self._lag_s: float | None = None
        self._lag_at = time.monotonic()

    # What each projection does in its own way

    @abstractmethod
    async def take_sample(self, session: Session, position: Position) -> LogSample:
        """Look at the log; comes first in a transaction of main."""

    @abstractmethod
    async def count_rows(self, session: Session, after: Position, below: int, count_max: int) -> int:
        """How many rows of transactions below an id stand behind a position; counts to a bound."""

    @abstractmethod
    async def read_rows(self, session: Session, after: Position, horizon: int, rows_max: int) -> Rows:
        """The next final rows; false where there are none."""

    @abstractmethod
    async def apply_rows(self, session: Session, rows: Rows) -> BatchResult:
        """Apply them inside the transaction that stores the position."""

    @abstractmethod
    async def rebuild(self) -> BatchResult:
        """Derive everything anew, after main began another life; or begin to."""

    # The loop

    async def run(self, stop: asyncio.Event) -> None:
        """Apply what is committed until ``stop`` is set. Lost servers are waited for."""
        stopping = asyncio.ensure_future(stop.wait())
        failures = 0
        try:
            while not stop.is_set():
                step = asyncio.ensure_future(self._step_or_failure())
                try:
                    await asyncio.wait({step, stopping}, return_when=asyncio.FIRST_COMPLETED)
                    await asyncio.wait({step}, timeout=STOP_GRACE_S)
                finally:
                    if not step.done():
                        # Safe at any point: what is not committed is not applied.
                        step.cancel()
                        await asyncio.wait({step})
                if step.cancelled():
                    return
                outcome = step.result()
                failures = 0 if outcome is not None else failures + 1
                await self._pause(outcome, failures, stopping)
        finally:
            stopping.cancel()

    async def _step_or_failure(self) -> Outcome | None:
        """A step's outcome, or None after a failure that may pass."""
        try:
            return (await self.step()).outcome
        except (NovaDexError, psycopg.Error) as error:
            code = getattr(error, "code", None) or getattr(error, "sqlstate", None) or type(error).__name__
            metrics.projection_failures.labels(self.name, code).inc()
            log.warning("The projection %s could not go on and tries again: [%s] %s", self.name, code, error)
            if isinstance(error, TimeoutExceededError):
                self._rows_max = max(min(ROWS_MIN, self._rows_max), self._rows_max // 2)
            self._show_lag()
            return None

    async def _pause(self, outcome: Outcome | None, failures: int, stopping: asyncio.Future[Any]) -> None:
        if outcome is Outcome.APPLIED:
            return
        if outcome is Outcome.CAUGHT_UP:
            seconds = self.settings.projection_poll_ms / 1000
        elif outcome is Outcome.NOT_OWNER:
            seconds = STANDBY_S * random.uniform(0.8, 1.2)  # noqa: S311 - no secret
        else:
            seconds = min(BACKOFF_S_MAX, 0.1 * 2 ** min(failures, 10)) * random.uniform(0.5, 1)  # noqa: S311
        await asyncio.wait({stopping}, timeout=seconds)

    # One step

    async def step(self, *, store_now: bool = False) -> Step:
        """Read one batch and apply it. ``store_now`` stores the position even where nothing was applied.

        Raises ``NovaDexError`` or ``psycopg.Error`` where a server is away or refuses; nothing is applied then.
        """
        started = time.monotonic()
        state, self._state = self._state or await self.load_state(), None
        rows: Rows | None = None
        rows_max = self._rows_max
        async with self.main.transaction(read_only=True) as session:
            sample = await self.take_sample(session, state.position if state else START)
            other_life = self._other_life(state, sample) if state else None
            if sample.waiting and state and not other_life:
                rows = await self.read_rows(session, state.position, sample.horizon, rows_max)
        if state is None:
            await self._begin(sample.identity)
            self._state = await self.load_state()
            return Step(Outcome.APPLIED)
        if other_life:
            return await self._rebuild(other_life)
        self._watermarks.note(sample)
        if not rows and not store_now and started - self._stored_at < IDLE_STORE_INTERVAL_S:
            self._state = state
            self._note_lag(sample, self._watermarks.reached(sample.horizon) or state.watermark)
            return Step(Outcome.CAUGHT_UP)
        step = await self._apply(state, sample, rows, rows_max)
        if rows and step.outcome is not Outcome.NOT_OWNER:
            metrics.projection_batch_seconds.labels(self.name).observe(time.monotonic() - started)
        return step

    async def _apply(self, state: ProjectionState, sample: LogSample, rows: Rows | None, rows_max: int) -> Step:
        async with self.store.transaction() as session:
            row = await session.one(self.queries.lock_state)
            if row is None or not self._goes_on_from(row, state):
                return Step(Outcome.NOT_OWNER)
            held = ProjectionState.of(row)
            result = await self.apply_rows(session, rows) if rows else BatchResult(state.position)
            set_aside = result.set_aside.total()
            drained = result.read < rows_max
            # The position is the last row itself, never the horizon above it: ids that were given out and whose
            # transactions left nothing behind are given out again after a crash of main.
            position = result.last
            watermark = self._watermarks.reached(sample.horizon if drained else position.xid)
            await session.execute(
                self.queries.store, [str(position.xid), position.id, watermark, result.applied, set_aside]
            )
        self._state = replace(
            held,
            position=position,
            watermark=watermark or held.watermark,
            applied=held.applied + result.applied,
            set_aside=held.set_aside + set_aside,
        )
        self._stored_at = time.monotonic()
        self._rows_max = min(self.settings.projection_batch_max, self._rows_max * 2)
        metrics.projection_applied.labels(self.name).inc(result.applied)
        for code, count in result.set_aside.items():
            metrics.projection_set_aside.labels(self.name, code).inc(count)
        self._note_lag(sample, self._state.watermark)
        await self._count_waiting(sample, drained=drained)
        return Step(Outcome.CAUGHT_UP if drained else Outcome.APPLIED, result.applied, set_aside)

    def _goes_on_from(self, row: Row, state: ProjectionState) -> bool:
        """Whether the stored position is still the one that a batch was read from."""
        held = ProjectionState.of(row)
        return (held.identity, held.position) == (state.identity, state.position)

    async def _begin(self, identity: MainIdentity) -> None:
        await self.store.execute(self.queries.begin, [identity.epoch, identity.system_identifier, identity.timeline])

    async def load_state(self) -> ProjectionState | None:
        """The projection as its database has it; None before its first step."""
        row = await self.store.one(self.queries.state, read_only=True)
        return ProjectionState.of(row) if row else None

    # Another life of main

    def _other_life(self, state: ProjectionState, sample: LogSample) -> RebuildReason | None:
        """Why the position means nothing in the main database as it is now; None where all is well."""
        before, now = state.identity, sample.identity
        if before.epoch != now.epoch:
            return RebuildReason.EPOCH
        if before.system_identifier != now.system_identifier:
            return RebuildReason.SYSTEM
        if before.timeline != now.timeline:
            return RebuildReason.TIMELINE
        if state.position.xid > sample.next_xid:
            return RebuildReason.AHEAD
        return None

    async def _rebuild(self, reason: RebuildReason) -> Step:
        log.error(
            "The main database is not the one that the projection %s follows (%s): it is rebuilt from the records."
            " Until that is done, it shows the state before.",
            self.name,
            reason.value,
        )
        metrics.projection_rebuilds.labels(self.name, reason.name.lower()).inc()
        result = await self.rebuild()
        self._watermarks.forget()
        return Step(Outcome.APPLIED, result.applied, result.set_aside.total())

    # What is shown

    @property
    def state(self) -> ProjectionState | None:
        """The projection as this projector stored it; None while another may have moved it."""
        return self._state

    @property
    def lag_s(self) -> float | None:
        """Seconds since the moment up to which everything is applied; None until the first step."""
        return None if self._lag_s is None else self._lag_s + time.monotonic() - self._lag_at

    def _note_lag(self, sample: LogSample, watermark: datetime | None) -> None:
        if watermark is not None:
            self._lag_s = max(0.0, (sample.sampled_at - watermark).total_seconds())
            self._lag_at = time.monotonic()
        elif self._lag_s is None:
            # Never caught up yet: count from the first step.
            self._lag_s, self._lag_at = 0.0, time.monotonic()
        self._show_lag()

    def _show_lag(self) -> None:
        if self.lag_s is not None:
            metrics.projection_lag_seconds.labels(self.name).set(self.lag_s)

    async def _count_waiting(self, sample: LogSample, *, drained: bool) -> None:
        if drained:
            metrics.projection_waiting_rows.labels(self.name).set(0)
        elif self._state and time.monotonic() - self._counted_at > WAITING_COUNT_INTERVAL_S:
            self._counted_at = time.monotonic()
            async with self.main.transaction(read_only=True) as session:
                waiting = await self.count_rows(session, self._state.position, sample.horizon, WAITING_COUNTED_MAX)
            metrics.projection_waiting_rows.labels(self.name).set(waiting)
