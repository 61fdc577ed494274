"""What a user traded, day by day."""

from datetime import date, timedelta
from decimal import Decimal

import pytest

from novadex import AnalyticsService
from novadex.errors import ValidationError
from tests.integration.analytics.records import TradeRow, drain


@pytest.fixture
async def analytics(db, projection, venue, sol_market, users):
    """Three days in two markets, and another user."""
    bnb = (sol_market.base_asset_id, "SOL")
    for days in range(3):
        venue.record(
            venue.trade(days * 86_400, fee_amount=Decimal("0.50"), fee_asset=bnb),
            venue.trade(days * 86_400 + 1, side="sell"),
            TradeRow(venue.user, sol_market, venue.trade(days * 86_400).executed_at),
            venue.trade(days * 86_400, user=users(1)[0]),
        )
    await drain(projection)
    return AnalyticsService(db)


async def test_days_come_newest_first_page_by_page(analytics, venue):
    days = await analytics.get_trading_analytics(venue.user)
    assert [(day.day, day.market) for day in days] == [
        (date(2024, 8, 8) + timedelta(days=n), market) for n in (2, 1, 0) for market in ("BTC/USDT", "SOL/USDC")
    ]
    first = days[-2]
    assert (first.trades, first.buys, first.sells, first.base_volume) == (2, 1, 1, 2)
    assert first.other_fees == {"SOL": Decimal("0.5")}
    paged = []
    while page := await analytics.get_trading_analytics(venue.user, limit=1, after=paged[-1] if paged else None):
        paged += page
    assert paged == days


async def test_days_are_chosen_by_market_and_range(analytics, venue):
    days = await analytics.get_trading_analytics(
        str(venue.user), market="BTC/USDT", first_day=date(2024, 8, 9), last_day=date(2024, 8, 9)
    )
    assert [(day.day, day.market) for day in days] == [(date(2024, 8, 9), "BTC/USDT")]


@pytest.mark.parametrize(
    "wrong", [{"limit": 0}, {"limit": 1_001}, {"first_day": date(2024, 8, 9), "last_day": date(2024, 8, 8)}]
)
async def test_a_wrong_value_is_refused(wrong, analytics, venue):
    with pytest.raises(ValidationError):
        await analytics.get_trading_analytics(venue.user, **wrong)


async def test_the_state_of_the_projection_is_shown(analytics, db):
    state = await analytics.projection_state()
    assert state is not None
    assert (state.applied, state.set_aside) == (12, 0)
    assert state.watermark is not None
