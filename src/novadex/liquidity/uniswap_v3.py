"""The arithmetic of Uniswap v3, exact: prices are square roots in Q64.96, ticks powers of 1.0001, all in integers.

Each function gives what the function of the contracts gives that it names, to the last unit; what a contract would
refuse raises ``ValidationError``. Sources, in Uniswap's repositories v3-core (contracts/libraries) and v3-periphery
(contracts/libraries): TickMath.sol, SqrtPriceMath.sol, LiquidityAmounts.sol, Tick.sol, Position.sol; the white paper
is "Uniswap v3 Core", Adams et al., March 2021.
"""

from __future__ import annotations

from fractions import Fraction
from math import isqrt

from novadex.errors import ValidationError

MIN_TICK, MAX_TICK = -887_272, 887_272
Q32, Q96, Q128 = 1 << 32, 1 << 96, 1 << 128
UINT128_BOUND, UINT256_BOUND = 1 << 128, 1 << 256
MIN_SQRT_RATIO = 4_295_128_739
MAX_SQRT_RATIO = 1_461_446_703_485_210_103_287_273_052_203_988_822_378_723_970_342
"""Of ``MIN_TICK`` and ``MAX_TICK``; a pool's price is from the first up to below the second."""

# 2^128 / sqrt(1.0001)^(2^n) for n from 0 to 19, as TickMath.getSqrtRatioAtTick has them.
_POWERS = (
    0xFFFCB933BD6FAD37AA2D162D1A594001,
    0xFFF97272373D413259A46990580E213A,
    0xFFF2E50F5F656932EF12357CF3C7FDCC,
    0xFFE5CACA7E10E4E61C3624EAA0941CD0,
    0xFFCB9843D60F6159C9DB58835C926644,
    0xFF973B41FA98C081472E6896DFB254C0,
    0xFF2EA16466C96A3843EC78B326B52861,
    0xFE5DEE046A99A2A811C461F1969C3053,
    0xFCBE86C7900A88AEDCFFC83B479AA3A4,
    0xF987A7253AC413176F2B074CF7815E54,
    0xF3392B0822B70005940C7A398E4B70F3,
    0xE7159475A2C29B7443B29C7FA6E889D9,
    0xD097F3BDFD2022B8845AD8F792AA5825,
    0xA9F746462D870FDF8A65DC1F90E061E5,
    0x70D869A156D2A1B890BB3DF62BAF32F7,
    0x31BE135F97D08FD981231505542FCFA6,
    0x9AA508B5B7A84E1C677DE54F3E99BC9,
    0x5D6AF8DEDB81196699C329225EE604,
    0x2216E584F5FA1EA926041BEDFE98,
    0x48A170391F7DC42444E8FA2,
)


def sqrt_ratio_at_tick(tick: int) -> int:
    """The square root of the price at a tick, Q64.96, rounded up: ``TickMath.getSqrtRatioAtTick``.

    >>> sqrt_ratio_at_tick(0) == Q96
    True
    """
    if not MIN_TICK <= tick <= MAX_TICK:
        raise ValidationError(f"tick must be from {MIN_TICK} to {MAX_TICK}, got {tick}.", field="tick")
    ratio = Q128
    for n, power in enumerate(_POWERS):
        if abs(tick) >> n & 1:
            ratio = ratio * power >> 128
    if tick > 0:
        ratio = (UINT256_BOUND - 1) // ratio
    return (ratio >> 32) + (1 if ratio % Q32 else 0)


def tick_at_sqrt_ratio(sqrt_ratio: int) -> int:
    """The greatest tick whose ratio is not above this one: ``TickMath.getTickAtSqrtRatio``.

    The contract takes a logarithm; here the tick is looked for between its bounds, by its definition.

    >>> tick_at_sqrt_ratio(Q96), tick_at_sqrt_ratio(Q96 - 1)
    (0, -1)
    """
    if not MIN_SQRT_RATIO <= sqrt_ratio < MAX_SQRT_RATIO:
        raise ValidationError(
            f"The square root of the price is out of range: {sqrt_ratio}.",
            field="sqrt_ratio",
            hint=f"It is from {MIN_SQRT_RATIO} up to below {MAX_SQRT_RATIO}.",
        )
    low, high = MIN_TICK, MAX_TICK
    while low < high:
        middle = (low + high + 1) // 2
        if sqrt_ratio_at_tick(middle) <= sqrt_ratio:
            low = middle
        else:
            high = middle - 1
    return low


def sqrt_ratio_of_price(price: Fraction) -> int:
    """The square root of a price, smallest units of token 1 for one of token 0, in Q64.96, rounded down:
    ``encodeSqrtRatioX96`` of Uniswap's v3-sdk."""
    if price <= 0:
        raise ValidationError("price must be above 0.", field="price")
    return isqrt((price.numerator << 192) // price.denominator)


def price_of_sqrt_ratio(sqrt_ratio: int) -> Fraction:
    """Smallest units of token 1 for one of token 0, exact."""
    return Fraction(sqrt_ratio * sqrt_ratio, 1 << 192)


def amount0_between(sqrt_a: int, sqrt_b: int, liquidity: int, *, round_up: bool = False) -> int:
    """Token 0 of a liquidity between two prices: ``SqrtPriceMath.getAmount0Delta``. What a pool pays out is rounded
    down, what it takes in is rounded up."""
    low, high = _in_order(sqrt_a, sqrt_b)
    numerator = (liquidity << 96) * (high - low)
    if round_up:
        return _divided_up(_divided_up(numerator, high), low)
    return numerator // high // low


def amount1_between(sqrt_a: int, sqrt_b: int, liquidity: int, *, round_up: bool = False) -> int:
    """Token 1 of a liquidity between two prices: ``SqrtPriceMath.getAmount1Delta``."""
    low, high = _in_order(sqrt_a, sqrt_b)
    product = liquidity * (high - low)
    return _divided_up(product, Q96) if round_up else product >> 96


def amounts_of_liquidity(
    sqrt_ratio: int, tick_lower: int, tick_upper: int, liquidity: int, *, round_up: bool = False
) -> tuple[int, int]:
    """Token 0 and token 1 of a position at a price: ``LiquidityAmounts.getAmountsForLiquidity``; with ``round_up``
    what ``UniswapV3Pool._modifyPosition`` takes for it."""
    low, high = sqrt_ratio_at_tick(tick_lower), sqrt_ratio_at_tick(tick_upper)
    if low >= high:
        raise ValidationError(f"tick_lower {tick_lower} must be below tick_upper {tick_upper}.", field="tick_lower")
    price = min(max(sqrt_ratio, low), high)
    return (
        amount0_between(price, high, liquidity, round_up=round_up),
        amount1_between(low, price, liquidity, round_up=round_up),
    )


def liquidity_of_amounts(sqrt_ratio: int, tick_lower: int, tick_upper: int, amount0: int, amount1: int) -> int:
    """The most liquidity that amounts suffice for at a price: ``LiquidityAmounts.getLiquidityForAmounts``."""
    low, high = sqrt_ratio_at_tick(tick_lower), sqrt_ratio_at_tick(tick_upper)
    if low >= high:
        raise ValidationError(f"tick_lower {tick_lower} must be below tick_upper {tick_upper}.", field="tick_lower")
    if sqrt_ratio <= low:
        return _checked_liquidity(_liquidity_of_amount0(low, high, amount0))
    if sqrt_ratio >= high:
        return _checked_liquidity(_liquidity_of_amount1(low, high, amount1))
    return _checked_liquidity(
        min(_liquidity_of_amount0(sqrt_ratio, high, amount0), _liquidity_of_amount1(low, sqrt_ratio, amount1))
    )


def fee_growth_inside(  # noqa: PLR0917 - as the contract has them
    tick_lower: int,
    tick_upper: int,
    tick_current: int,
    growth_global: int,
    growth_outside_lower: int,
    growth_outside_upper: int,
) -> int:
    """Fees for each unit of liquidity between two ticks since the pool began, Q128.128: ``Tick.getFeeGrowthInside``.
    It wraps at 2^256, as the contract's arithmetic does: only differences of it mean something."""
    below = growth_outside_lower if tick_current >= tick_lower else growth_global - growth_outside_lower
    above = growth_outside_upper if tick_current < tick_upper else growth_global - growth_outside_upper
    return (growth_global - below - above) % UINT256_BOUND


def fees_owed(liquidity: int, growth_inside: int, growth_inside_last: int) -> int:
    """Fees of a position since its last update, rounded down: ``Position.update``."""
    return (growth_inside - growth_inside_last) % UINT256_BOUND * liquidity // Q128


def _liquidity_of_amount0(low: int, high: int, amount0: int) -> int:
    return amount0 * (low * high // Q96) // (high - low)


def _liquidity_of_amount1(low: int, high: int, amount1: int) -> int:
    return amount1 * Q96 // (high - low)


def _checked_liquidity(liquidity: int) -> int:
    if liquidity >= UINT128_BOUND:
        raise ValidationError(f"A pool holds liquidity below 2^128, this would be {liquidity}.", field="liquidity")
    return liquidity


def _in_order(sqrt_a: int, sqrt_b: int) -> tuple[int, int]:
    if min(sqrt_a, sqrt_b) <= 0:
        raise ValidationError("The square root of a price must be above 0.", field="sqrt_ratio")
    return min(sqrt_a, sqrt_b), max(sqrt_a, sqrt_b)


def _divided_up(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)
