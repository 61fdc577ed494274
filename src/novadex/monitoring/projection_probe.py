"""Looks at the projections by what they stored: they keep up with the records, or they do not."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from psycopg.errors import UndefinedTable

from novadex.errors import ConfigurationError, NovaDexError, UnavailableError
from novadex.monitoring.database_probe import QUERIES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from novadex.monitoring.bounded import BoundedConnection
    from novadex.storage.rows import Row
    from novadex.storage.session import Session

LATE_S = 15.0
"""A watermark that is older than this is late."""
PROJECTIONS_MAX = 50
TRADES = "trades"
"""The projection that reads the log of trades, as novadex.analytics names it."""


@dataclass(frozen=True, slots=True)
class ProjectionState:
    """How far a projection has come."""

    name: str
    applied: int
    set_aside: int
    watermark: float | None
    """Monotonic time up to which everything is applied; None where nothing was applied yet."""
    oldest_waiting_s: float | None
    """Seconds since the oldest row was written that is not applied yet; 0 where none waits, None where unknown."""

    def watermark_age_s(self) -> float | None:
        """Seconds; it grows while the projection cannot be seen."""
        return None if self.watermark is None else age_s(self.watermark)


def age_s(moment: float) -> float:
    """Seconds since a moment of monotonic time."""
    return max(0.0, time.monotonic() - moment)


class ProjectionProbe:
    """``states`` is what was last seen, which the metrics show too."""

    def __init__(self, main: BoundedConnection, analytics: BoundedConnection) -> None:
        self.main = main
        self.analytics = analytics
        self.states: Sequence[ProjectionState] = ()

    async def look(self, deadline_s: float) -> str | None:
        try:
            rows = await self.analytics.run(_read_projections, deadline_s / 2)
        except UndefinedTable:
            raise ConfigurationError("The database analytics has no schema yet: run novadex migrate.") from None
        except NovaDexError:
            self.states = [replace(state, oldest_waiting_s=None) for state in self.states]
            raise
        now = time.monotonic()
        self.states = [
            ProjectionState(
                row.name,
                row.applied,
                row.set_aside,
                None if row.watermark_age_s is None else now - row.watermark_age_s,
                await self._oldest_waiting_s(row, deadline_s / 2) if row.name == TRADES else None,
            )
            for row in rows
        ]
        return self._judge()

    async def _oldest_waiting_s(self, row: Row, deadline_s: float) -> float | None:
        async def read_oldest(session: Session) -> float | None:
            return await session.value(QUERIES.oldest_waiting_trade, (row.xid, row.id))

        with suppress(NovaDexError):  # main is away: its own check says so
            return await self.main.run(read_oldest, deadline_s) or 0.0
        return None

    def _judge(self) -> str | None:
        if not self.states:
            raise UnavailableError("No projection has begun yet: is the worker running (novadex worker)?")
        for state in self.states:
            age_s = state.watermark_age_s()
            if age_s is None:
                return f"The projection {state.name} has applied nothing yet."
            if age_s > LATE_S:
                return f"The projection {state.name} is {age_s:.0f} s behind."
        return None

    async def close(self) -> None:
        """The connections belong to the checks of the databases."""


async def _read_projections(session: Session) -> list[Row]:
    return await session.query(QUERIES.projections, (PROJECTIONS_MAX,))
