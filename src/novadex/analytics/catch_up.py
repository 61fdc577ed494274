"""Waiting until the projection has what was committed."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from novadex.analytics.log import WAITING_COUNTED_MAX, LogSample
from novadex.analytics.position import START, ProjectionState
from novadex.analytics.projector import Outcome, Projector
from novadex.errors import TimeoutExceededError

if TYPE_CHECKING:
    from collections.abc import Callable

ALIVE_S = 3.0
"""A projector at work stores its position every second, so one that has not for this long is taken for gone."""
STALLED_S_MAX = 60.0
WAIT_S_MAX = 6 * 3600.0
LOOK_INTERVAL_S = 0.05
PROGRESS_INTERVAL_S = 1.0


@dataclass(frozen=True, slots=True)
class CatchUpProgress:
    """How far the projection is behind."""

    waiting: int
    """Rows that wait, counted up to a bound."""
    seconds: float


async def catch_up(
    projection: Projector[Any],
    *,
    progress: Callable[[CatchUpProgress], None] | None = None,
    stalled_s_max: float = STALLED_S_MAX,
    wait_s_max: float = WAIT_S_MAX,
) -> ProjectionState:
    """Return once all that was committed when it was called is applied.

    A projector that is at work is waited for; where there is none, the caller's applies the rows itself.
    Raises ``TimeoutExceededError`` where nothing moves for ``stalled_s_max`` or it lasts ``wait_s_max``.
    """
    started = time.monotonic()
    target = await _sample(projection)
    moved_at, told_at, seen = started, started, None
    while True:
        state = await projection.load_state()
        if state and await _has_reached(projection, state, target):
            return state
        if state and state.identity != target.identity:
            # Main was restored or replaced: what was committed is what it has in its new life.
            target = await _sample(projection)
        now = time.monotonic()
        if state and state.position != seen:
            moved_at, seen = now, state.position
        if now - moved_at > stalled_s_max or now - started > wait_s_max:
            raise _stalled(now - started)
        if progress is not None and now - told_at >= PROGRESS_INTERVAL_S:
            told_at = now
            progress(CatchUpProgress(await _waiting(projection, state, target), now - started))
        # Where this projector has just stored the position, nobody else is at work.
        own = projection.state
        if state is None or state.age_s > ALIVE_S or (own and own.position == state.position):
            step = await projection.step(store_now=True)
            if step.outcome is Outcome.APPLIED:
                continue
            if step.outcome is Outcome.NOT_OWNER:
                # Somebody holds the position right now, a rebuild perhaps: that is no standstill.
                moved_at = now
        await asyncio.sleep(LOOK_INTERVAL_S)


async def _sample(projection: Projector[Any]) -> LogSample:
    async with projection.main.transaction(read_only=True) as session:
        return await projection.take_sample(session, START)


async def _has_reached(projection: Projector[Any], state: ProjectionState, target: LogSample) -> bool:
    """Whether nothing that was committed at the target's snapshot stands behind the position."""
    return state.identity == target.identity and not await _waiting(projection, state, target, count_max=1)


async def _waiting(
    projection: Projector[Any],
    state: ProjectionState | None,
    target: LogSample,
    count_max: int = WAITING_COUNTED_MAX,
) -> int:
    async with projection.main.transaction(read_only=True) as session:
        position = state.position if state else START
        return await projection.count_rows(session, position, target.committed_below, count_max)


def _stalled(seconds: float) -> TimeoutExceededError:
    return TimeoutExceededError(
        f"The projection has not reached what was committed {seconds:.0f} s ago.",
        hint="An open transaction in any database of the main server holds it back: look in pg_stat_activity"
        " (backend_xid) and pg_prepared_xacts; or see the log of the worker.",
    )
