"""Rates: prices as they stand, the opposite market, one step over another asset; plain pairs come first."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from novadex.portfolio.valuation import MarketPrice, Prices

BTC, USDT, ETH, EUR, DOGE = range(1, 6)


def price(id: int, symbol: str, base: int, quote: int, amount: str | None) -> MarketPrice:
    return MarketPrice(id, symbol, base, quote, None if amount is None else Decimal(amount))


def test_a_price_is_a_rate_as_it_stands():
    rates = Prices([price(1, "BTC/USDT", BTC, USDT, "61000.123456789012345678901234567890123456")]).rates(USDT)
    assert rates == {USDT: 1, BTC: Decimal("61000.123456789012345678901234567890123456")}


def test_the_opposite_market_gives_the_quotient():
    rates = Prices([price(1, "USDT/EUR", USDT, EUR, "3")]).rates(USDT)
    assert rates[EUR] == Decimal("0." + "3" * 36)


def test_one_step_over_another_asset():
    markets = [price(1, "BTC/USDT", BTC, USDT, "60000"), price(2, "ETH/BTC", ETH, BTC, "0.05")]
    assert Prices(markets).rates(USDT)[ETH] == 3000
    # Two steps are no rate.
    assert DOGE not in Prices([*markets, price(3, "DOGE/ETH", DOGE, ETH, "0.0001")]).rates(USDT)


def test_plain_pairs_come_first_then_older_markets():
    perpetual = price(1, "BTC/USDT-PERP", BTC, USDT, "7")
    assert Prices([perpetual, price(2, "BTC/USDT", BTC, USDT, "8")]).rates(USDT)[BTC] == 8
    assert Prices([perpetual, price(2, "BTC/USDT", BTC, USDT, None)]).rates(USDT)[BTC] == 7
    assert (
        Prices([price(4, "BTC/USDT-B", BTC, USDT, "4"), price(3, "BTC/USDT-A", BTC, USDT, "3")]).rates(USDT)[BTC] == 3
    )


def test_without_prices_there_is_one_rate():
    assert Prices([price(1, "BTC/USDT", BTC, USDT, None)]).rates(USDT) == {USDT: 1}


@given(st.decimals("1e-36", "1e40", places=36), st.decimals("1e-36", "1e30", places=36))
def test_rates_have_at_most_36_decimals(first, second):
    markets = [price(1, "BTC/USDT", BTC, USDT, f"{first:f}"), price(2, "ETH/BTC", ETH, BTC, f"{second:f}")]
    for asset in (USDT, BTC, ETH):
        for rate in Prices(markets).rates(asset).values():
            exponent = rate.as_tuple().exponent
            assert isinstance(exponent, int)
            assert exponent >= -36
