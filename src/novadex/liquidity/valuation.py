"""What is in a position at a price, what it earned, and what holding would have been worth."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from fractions import Fraction
from typing import TYPE_CHECKING

from novadex.liquidity.records import Pool
from novadex.liquidity.uniswap_v3 import Q128, amounts_of_liquidity, price_of_sqrt_ratio, sqrt_ratio_at_tick
from novadex.money import EXACT, PRICE_DECIMALS_MAX, trimmed

if TYPE_CHECKING:
    from novadex.storage.rows import Row

_PRICE_UNIT = Decimal(1).scaleb(-PRICE_DECIMALS_MAX)


@dataclass(frozen=True, slots=True)
class PoolState:
    """How a pool stands: the tick of a concentrated one, the reserves of a constant product, and its liquidity."""

    liquidity: int
    tick: int | None
    base_reserve: Decimal | None
    quote_reserve: Decimal | None


def amount_of_atoms(atoms: int, decimals: int) -> Decimal:
    """Whole smallest units as an amount.

    >>> amount_of_atoms(1_500_000, 6)
    Decimal('1.5')
    """
    return trimmed(Decimal(atoms).scaleb(-decimals, EXACT))


def atoms_of(amount: Decimal, decimals: int) -> int:
    return int(amount.scaleb(decimals, EXACT))


def amounts_in_pool(
    pool: Pool, liquidity: int, ticks: tuple[int, int] | None, state: PoolState
) -> tuple[Decimal, Decimal]:
    """Base and quote of a position, rounded down to whole units as the pool pays them out.

    Of a concentrated pool at the price of its tick (``LiquidityAmounts.getAmountsForLiquidity``); of a constant
    product the share of its reserves (``UniswapV2Pair.burn``: ``liquidity * balance / totalSupply``).
    """
    if ticks is not None and state.tick is not None:
        amounts = amounts_of_liquidity(sqrt_ratio_at_tick(state.tick), *ticks, liquidity)
        base, quote = amounts if pool.base_is_token0 else amounts[::-1]
    elif state.base_reserve is not None and state.quote_reserve is not None and state.liquidity:
        base = atoms_of(state.base_reserve, pool.base_decimals) * liquidity // state.liquidity
        quote = atoms_of(state.quote_reserve, pool.quote_decimals) * liquidity // state.liquidity
    else:
        base = quote = 0
    return amount_of_atoms(base, pool.base_decimals), amount_of_atoms(quote, pool.quote_decimals)


def price_of(pool: Pool, state: PoolState) -> Fraction | None:
    """Quote units for one base unit, exact; None of an empty constant product."""
    scale = Fraction(10) ** (pool.base_decimals - pool.quote_decimals)
    if state.tick is not None:
        price = price_of_sqrt_ratio(sqrt_ratio_at_tick(state.tick))
        return scale * (price if pool.base_is_token0 else 1 / price)
    if state.base_reserve and state.quote_reserve is not None:
        return Fraction(state.quote_reserve) / Fraction(state.base_reserve)
    return None


def rounded_price(price: Fraction) -> Decimal:
    """To the 36 decimals of a price, half to even."""
    with localcontext(prec=EXACT.prec, Emax=EXACT.Emax, Emin=EXACT.Emin):
        return (Decimal(price.numerator) / price.denominator).quantize(_PRICE_UNIT, ROUND_HALF_EVEN)


def fees_of_growth(changes: Sequence[Row], growth: Iterable[Row]) -> tuple[int, int]:
    """Smallest units of token 0 and token 1 that a position earned, by what each unit of liquidity earned.

    ``changes`` are what liquidity it had from which moment on, ``growth`` the fees for each unit between them,
    Q128.128. As in the contracts, growth is rounded down in every span, and what was earned at every change of the
    position (``Position.update``).
    """
    earned0 = earned1 = 0
    for row in growth:
        liquidity = int(changes[row.come - 1].liquidity) if row.come else 0
        earned0 += int(row.growth0) * liquidity // Q128
        earned1 += int(row.growth1) * liquidity // Q128
    return earned0, earned1
