"""Candles: what a market did in each interval of time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from novadex.errors import NotFoundError, ValidationError
from novadex.money import plain
from novadex.storage.queries import load_queries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from novadex.storage.connection import DatabaseConnection

SQL = load_queries(Path(__file__).with_name("candles.sql"))

INTERVALS: dict[str, timedelta] = {
    "1m": timedelta(minutes=1),
    "5m": timedelta(minutes=5),
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "4h": timedelta(hours=4),
    "1d": timedelta(days=1),
    "1w": timedelta(weeks=1),
}
ORIGIN = datetime(1969, 12, 29, tzinfo=UTC)
"""A Monday before every trade: all intervals start a whole number of intervals after it."""
LAST = datetime(9999, 12, 20, tzinfo=UTC)
CANDLES_DEFAULT = 500
CANDLES_MAX = 10_000
PAGE_CANDLES = 1_000


@dataclass(frozen=True, slots=True)
class Candle:
    """One interval of a market. Each match counts once."""

    start: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    base_volume: Decimal
    quote_volume: Decimal
    taker_buy_base_volume: Decimal
    trades: int
    complete: bool
    """Whether everything is in it that began to be written before the interval's end."""

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready: the start as ISO 8601 in UTC, amounts as plain strings."""
        return {
            "start": self.start.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "open": plain(self.open),
            "high": plain(self.high),
            "low": plain(self.low),
            "close": plain(self.close),
            "base_volume": plain(self.base_volume),
            "quote_volume": plain(self.quote_volume),
            "taker_buy_base_volume": plain(self.taker_buy_base_volume),
            "trades": self.trades,
            "complete": self.complete,
        }


def interval_length(interval: str) -> timedelta:
    """The length of an interval by its name.

    >>> interval_length("4h")
    datetime.timedelta(seconds=14400)
    """
    try:
        return INTERVALS[interval]
    except KeyError:
        raise ValidationError(
            f"There is no interval {interval!r}.", field="interval", hint=f"Choose one of {', '.join(INTERVALS)}."
        ) from None


def first_start(moment: datetime, length: timedelta) -> datetime:
    """The first start of an interval at or after a moment.

    >>> first_start(datetime(2024, 8, 8, 23, 54, 30, tzinfo=UTC), timedelta(weeks=1))
    datetime.datetime(2024, 8, 12, 0, 0, tzinfo=datetime.timezone.utc)
    """
    moment = min(max(moment, ORIGIN), LAST)
    return ORIGIN + -((ORIGIN - moment) // length) * length


async def newest_candles(
    database: DatabaseConnection,
    market: str,
    interval: str,
    *,
    start: datetime | None,
    end: datetime | None,
    limit: int,
) -> list[Candle]:
    """The newest candles that start in ``[start, end)``, oldest first."""
    if not 1 <= limit <= CANDLES_MAX:
        raise ValidationError(
            f"limit must be from 1 to {CANDLES_MAX}, got {limit}.",
            field="limit",
            hint="Ask for a shorter range of time, or stream the candles.",
        )
    parameters = _range(market, interval, start, end)
    candles = await database.analytics.made(Candle, SQL.newest, [*parameters, limit], read_only=True)
    if not candles:
        await check_market(database, market)
    return candles


async def stream_candles(
    database: DatabaseConnection,
    market: str,
    interval: str,
    *,
    start: datetime | None,
    end: datetime | None,
) -> AsyncIterator[Candle]:
    """All candles that start in ``[start, end)``, oldest first, read page by page."""
    market, length, begin, stop = _range(market, interval, start, end)
    found = False
    while True:
        page = await database.analytics.made(
            Candle, SQL.next, [market, length, begin, stop, PAGE_CANDLES], read_only=True
        )
        for candle in page:
            found = True
            yield candle
        if len(page) < PAGE_CANDLES:
            break
        begin = page[-1].start + length
    if not found:
        await check_market(database, market)


async def check_market(database: DatabaseConnection, market: str) -> None:
    """Raise ``NotFoundError`` where there is no such market; one without candles is none the worse."""
    if not await database.main.value(SQL.market_is_known, [market], read_only=True):
        raise NotFoundError(
            f"There is no market {market!r}.",
            hint="Names are BASE/QUOTE with an optional suffix, such as BTC/USDT or ETH/USDT-PERP.",
        )


def _range(
    market: str, interval: str, start: datetime | None, end: datetime | None
) -> tuple[str, timedelta, datetime, datetime]:
    length = interval_length(interval)
    for name, moment in (("start", start), ("end", end)):
        if moment is not None and moment.tzinfo is None:
            raise ValidationError(
                f"{name} has no time zone: {moment.isoformat()}.",
                field=name,
                hint="Give it one: datetime(..., tzinfo=UTC).",
            )
    if start and end and start > end:
        raise ValidationError(
            f"The range of time ends before it starts: {start.isoformat()} to {end.isoformat()}.", field="end"
        )
    return market, length, first_start(start or ORIGIN, length), first_start(end or LAST, length)
