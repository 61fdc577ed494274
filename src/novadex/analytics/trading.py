"""What users traded, day by day."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from novadex.errors import ValidationError
from novadex.storage.queries import load_queries

if TYPE_CHECKING:
    from novadex.storage.connection import DatabaseConnection

SQL = load_queries(Path(__file__).with_name("trading.sql"))
DAYS_DEFAULT = 100
DAYS_MAX = 1_000


@dataclass(frozen=True, slots=True)
class TradingDay:
    """The executions of one user in one market on one day (UTC)."""

    user_id: UUID
    market: str
    day: date
    trades: int
    buys: int
    sells: int
    maker_trades: int
    taker_trades: int
    base_volume: Decimal
    quote_volume: Decimal
    base_fees: Decimal
    """Fees paid in the base asset, rebates subtracted."""
    quote_fees: Decimal
    other_fees: dict[str, Decimal]
    """Fees paid in other assets, by symbol."""
    first_trade_at: datetime
    last_trade_at: datetime


async def trading_days(
    database: DatabaseConnection,
    user_id: UUID,
    *,
    market: str | None,
    first_day: date,
    last_day: date,
    limit: int,
    after: TradingDay | None,
) -> list[TradingDay]:
    """Days with trades, newest first; ``after`` is the last one of the page before."""
    if not 1 <= limit <= DAYS_MAX:
        raise ValidationError(f"limit must be from 1 to {DAYS_MAX}, got {limit}.", field="limit")
    if first_day > last_day:
        raise ValidationError(f"The days end before they start: {first_day} to {last_day}.", field="last_day")
    key = (after.day, after.market) if after else (None, None)
    rows = await database.analytics.query(
        SQL.days, [user_id, market, first_day, last_day, *key, limit], read_only=True
    )
    return [
        TradingDay(
            **{
                **row,
                "other_fees": {asset: Decimal(fees) for asset, fees in row.other_fees.items()},
            }
        )
        for row in rows
    ]
