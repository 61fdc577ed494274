"""Intervals start where the definitions say, and candles print plainly."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from novadex.analytics.candles import INTERVALS, Candle, first_start, interval_length
from novadex.errors import ValidationError

THURSDAY = datetime(2024, 8, 8, 23, 54, 15, 342000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("interval", "start"),
    [
        ("1m", datetime(2024, 8, 8, 23, 55, tzinfo=UTC)),
        ("5m", datetime(2024, 8, 8, 23, 55, tzinfo=UTC)),
        ("15m", datetime(2024, 8, 9, tzinfo=UTC)),
        ("1h", datetime(2024, 8, 9, tzinfo=UTC)),
        ("4h", datetime(2024, 8, 9, tzinfo=UTC)),
        ("1d", datetime(2024, 8, 9, tzinfo=UTC)),
        ("1w", datetime(2024, 8, 12, tzinfo=UTC)),
    ],
)
def test_the_first_start_is_at_or_after_the_moment(interval, start):
    length = interval_length(interval)
    assert first_start(THURSDAY, length) == start
    assert first_start(start, length) == start
    assert first_start(start + timedelta(microseconds=1), length) == start + length


def test_weeks_start_on_mondays_and_days_at_midnight_of_utc():
    india = timezone(timedelta(hours=5, minutes=30))
    for year in (1970, 1999, 2024, 2100):
        start = first_start(datetime(year, 1, 1, 3, 0, tzinfo=india), INTERVALS["1w"])
        assert start.weekday() == 0
        assert start.astimezone(UTC).time().isoformat() == "00:00:00"
    assert first_start(datetime(2024, 8, 9, 3, 0, tzinfo=india), INTERVALS["1d"]) == datetime(2024, 8, 9, tzinfo=UTC)


@pytest.mark.parametrize("moment", [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)])
def test_the_ends_of_the_calendar_are_no_problem(moment):
    for length in INTERVALS.values():
        first_start(moment, length)


@pytest.mark.parametrize("interval", ["3h", "", "1M", "60", "1m "])
def test_an_unknown_interval_names_those_there_are(interval):
    with pytest.raises(ValidationError, match="1m, 5m, 15m, 1h, 4h, 1d, 1w") as caught:
        interval_length(interval)
    assert caught.value.field == "interval"


def test_a_candle_prints_plain_numbers_and_utc():
    candle = Candle(
        datetime(2024, 8, 9, 5, 24, tzinfo=timezone(timedelta(hours=5, minutes=30))),
        Decimal("61837.630"),
        Decimal("1E+5"),
        Decimal("0.00000001"),
        Decimal(61824),
        Decimal("0.17214000"),
        Decimal(10) ** 70 + Decimal("0.5"),
        Decimal(0),
        875,
        complete=True,
    )
    assert candle.as_dict() == {
        "start": "2024-08-08T23:54:00Z",
        "open": "61837.63",
        "high": "100000",
        "low": "0.00000001",
        "close": "61824",
        "base_volume": "0.17214",
        "quote_volume": format(Decimal(10) ** 70 + Decimal("0.5"), "f"),
        "taker_buy_base_volume": "0",
        "trades": 875,
        "complete": True,
    }
