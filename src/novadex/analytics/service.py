"""``AnalyticsService``: figures that follow from the records."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from novadex.analytics import candles, trading
from novadex.analytics.candles import Candle
from novadex.analytics.position import ProjectionState
from novadex.analytics.trading import TradingDay
from novadex.ids import parse_id
from novadex.storage.connection import DatabaseConnection
from novadex.storage.queries import load_queries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

__all__ = ["AnalyticsService", "Candle", "ProjectionState", "TradingDay"]

SQL = load_queries(Path(__file__).with_name("projection.sql"))
FIRST_DAY, LAST_DAY = date(1970, 1, 1), date(9999, 12, 31)


class AnalyticsService:
    """Reads candles and daily figures.

    ::

        analytics = AnalyticsService(database)
        candles = await analytics.get_candles("BTC/USDT", "1h", limit=24)
    """

    def __init__(self, database: DatabaseConnection | None = None) -> None:
        self.database = database or DatabaseConnection.get_instance()

    async def get_candles(
        self,
        market: str,
        interval: str = "1m",
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        limit: int = candles.CANDLES_DEFAULT,
    ) -> list[Candle]:
        """The newest ``limit`` candles that start in ``[start, end)``, oldest first.

        ``interval`` is one of 1m, 5m, 15m, 1h, 4h, 1d, 1w. Intervals without trades are left out.
        Raises ``NotFoundError`` for an unknown market and ``ValidationError`` for a wrong value.
        """
        return await candles.newest_candles(self.database, market, interval, start=start, end=end, limit=limit)

    def stream_candles(
        self,
        market: str,
        interval: str = "1m",
        *,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> AsyncIterator[Candle]:
        """All candles that start in ``[start, end)``, oldest first, in bounded memory."""
        return candles.stream_candles(self.database, market, interval, start=start, end=end)

    async def get_trading_analytics(
        self,
        user_id: UUID | str,
        *,
        market: str | None = None,
        first_day: date = FIRST_DAY,
        last_day: date = LAST_DAY,
        limit: int = trading.DAYS_DEFAULT,
        after: TradingDay | None = None,
    ) -> list[TradingDay]:
        """What a user traded by market and day (UTC), newest day first.

        For the next page pass the last one as ``after``.
        """
        return await trading.trading_days(
            self.database,
            parse_id(user_id, "user_id"),
            market=market,
            first_day=first_day,
            last_day=last_day,
            limit=limit,
            after=after,
        )

    async def projection_state(self) -> ProjectionState | None:
        """How far the figures follow the records; None before the projection ran for the first time."""
        row = await self.database.analytics.one(SQL.state, read_only=True)
        return ProjectionState.of(row) if row else None
