"""Figures of the platform: trades, volume and active users, read from analytics in the background."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from novadex.monitoring.database_probe import QUERIES

if TYPE_CHECKING:
    from novadex.monitoring.bounded import BoundedConnection
    from novadex.storage.rows import Row
    from novadex.storage.session import Session

MARKETS_MAX = 100
"""Markets with their own figures: the busiest of the day. All are in the sums."""
DEADLINE_S = 5.0
BUSY_SHARE_MAX = 0.02
"""Reading the figures takes at most this share of the time: large figures are read less often."""
STALE_AFTER_S = 600.0
"""Older figures are not shown."""


@dataclass(frozen=True, slots=True)
class MarketFigures:
    """One market in the last 24 hours."""

    market: str
    trades: int
    base_volume: float
    quote_volume: float


@dataclass(frozen=True, slots=True)
class Figures:
    """The platform at one moment. Volumes are approximate here: monitoring draws them, nobody settles by them."""

    markets: tuple[MarketFigures, ...]
    trades_day: int
    active_users_day: int
    active_users_week: int
    read_at: float
    """Monotonic time."""


class FigureReader:
    """Reads the figures; ``latest`` is what was last read and is not too old."""

    def __init__(self, analytics: BoundedConnection) -> None:
        self.analytics = analytics
        self._latest: Figures | None = None

    @property
    def latest(self) -> Figures | None:
        if self._latest is None or time.monotonic() - self._latest.read_at > STALE_AFTER_S:
            return None
        return self._latest

    async def read(self) -> None:
        """Read the figures once."""
        markets, users = await self.analytics.run(_read, DEADLINE_S)
        self._latest = Figures(
            markets=tuple(
                MarketFigures(row.market, int(row.trades), float(row.base_volume), float(row.quote_volume))
                for row in markets[:MARKETS_MAX]
            ),
            trades_day=sum(int(row.trades) for row in markets),
            active_users_day=users.day,
            active_users_week=users.week,
            read_at=time.monotonic(),
        )


async def _read(session: Session) -> tuple[list[Row], Row]:
    async with session.transaction():
        # The server ends what this side has given up.
        await session.execute(QUERIES.limit_statements, (f"{int(DEADLINE_S * 1000)}ms",))
        markets = await session.query(QUERIES.markets_of_day)
        users = await session.query(QUERIES.active_users)
    return markets, users[0]
