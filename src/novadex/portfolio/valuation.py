"""What things are worth: prices of a feed or of the last trades, and rates into one asset.

The price of a market at a moment is the newest of the feed (``prices``) if that is not older than an hour, else that
of the last trade, else the feed's older one; of what was observed and executed before the moment. A rate is the price
of a market with the wanted quote asset; or 1 by the price of the market the other way round; or a price times the
rate of its quote asset. Rates that are not prices themselves are rounded to 36 decimals.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from pathlib import Path
from typing import TYPE_CHECKING

from novadex.errors import NotFoundError
from novadex.money import EXACT, PRICE_DECIMALS_MAX
from novadex.storage.queries import load_queries

if TYPE_CHECKING:
    from novadex.storage.session import Session

SQL = load_queries(Path(__file__).with_name("valuation.sql"))
ONE = Decimal(1)
_RATE_UNIT = ONE.scaleb(-PRICE_DECIMALS_MAX)


@dataclass(frozen=True, slots=True)
class MarketPrice:
    """The price of a market at a moment; None where there was none yet."""

    market_id: int
    market: str
    base_asset_id: int
    quote_asset_id: int
    price: Decimal | None


class Prices:
    """The prices of all markets at a moment, and the rates of assets in one of them.

    >>> btc = MarketPrice(1, "BTC/USDT", 1, 2, Decimal(60_000))
    >>> eth = MarketPrice(2, "ETH/BTC", 3, 1, Decimal("0.05"))
    >>> rates = Prices([btc, eth]).rates(2)
    >>> rates[2], rates[1], rates[3]
    (Decimal('1'), Decimal('60000'), Decimal('3000.00'))
    """

    def __init__(self, markets: Iterable[MarketPrice]) -> None:
        # Plain pairs before those with a suffix, such as perpetuals; older ones before newer ones.
        self._markets = sorted(markets, key=lambda m: ("-" in m.market, m.market_id))
        self.of_market = {m.market_id: m.price for m in self._markets}

    def rates(self, asset_id: int) -> dict[int, Decimal]:
        """What one unit of each asset is in units of this one, as far as prices say it."""
        priced = [(m.base_asset_id, m.quote_asset_id, m.price) for m in self._markets if m.price is not None]
        rates = {asset_id: ONE}
        for base, quote, price in priced:
            if quote == asset_id:
                rates.setdefault(base, price)
        for base, quote, price in priced:
            if base == asset_id:
                rates.setdefault(quote, _rounded_quotient(price))
        near = dict(rates)
        for base, quote, price in priced:
            if base not in rates and quote in near:
                rates[base] = _rounded_rate(price, near[quote])
        return rates


def _rounded_quotient(price: Decimal) -> Decimal:
    with localcontext(prec=EXACT.prec, Emax=EXACT.Emax, Emin=EXACT.Emin):
        return (ONE / price).quantize(_RATE_UNIT, ROUND_HALF_EVEN)


def _rounded_rate(price: Decimal, rate: Decimal) -> Decimal:
    product = EXACT.multiply(price, rate)
    with localcontext(prec=EXACT.prec, Emax=EXACT.Emax, Emin=EXACT.Emin):
        exponent = product.as_tuple().exponent
        return (
            product
            if isinstance(exponent, int) and exponent >= -PRICE_DECIMALS_MAX
            else product.quantize(_RATE_UNIT, ROUND_HALF_EVEN)
        )


async def prices_at(session: Session, moment: datetime) -> Prices:
    """The prices of all markets as they were just before a moment."""
    return Prices(await session.made(MarketPrice, SQL.prices_at, [moment]))


@dataclass(frozen=True, slots=True)
class ValuationAsset:
    """What portfolios are valued in."""

    id: int
    symbol: str


async def valuation_asset(session: Session, symbol: str | None) -> ValuationAsset:
    """The asset of this symbol, else the quote asset of most markets; ``NotFoundError`` where there is none."""
    found = await session.made(ValuationAsset, SQL.valuation_asset, [symbol])
    if not found:
        raise NotFoundError(
            f"There is no asset {symbol} to value portfolios in." if symbol else "There is no market yet.",
            hint="Set NOVADEX_VALUATION_ASSET to an asset of this instance, or add a market.",
        )
    return found[0]
