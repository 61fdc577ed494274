"""Uniswap v3 in integers, against its definitions: roots with 120 digits, fractions, the bounds of the contracts."""

from decimal import Context, Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novadex.errors import ValidationError
from novadex.liquidity.uniswap_v3 import (
    MAX_SQRT_RATIO,
    MAX_TICK,
    MIN_SQRT_RATIO,
    MIN_TICK,
    Q96,
    Q128,
    UINT128_BOUND,
    UINT256_BOUND,
    amount0_between,
    amount1_between,
    amounts_of_liquidity,
    fee_growth_inside,
    fees_owed,
    liquidity_of_amounts,
    price_of_sqrt_ratio,
    sqrt_ratio_at_tick,
    sqrt_ratio_of_price,
    tick_at_sqrt_ratio,
)

ticks = st.integers(MIN_TICK, MAX_TICK)
ratios = st.integers(MIN_SQRT_RATIO, MAX_SQRT_RATIO - 1)
liquidities = st.integers(1, UINT128_BOUND - 1)


@given(ticks)
def test_the_ratio_of_a_tick_is_the_root_of_its_power(tick):
    """The contract multiplies rounded powers: at the ends of the range it is off by some units of 2^-64."""
    with localcontext(Context(prec=120)):
        exact = (Decimal("1.0001") ** tick).sqrt() * Q96
        assert abs(sqrt_ratio_at_tick(tick) - exact) <= 1 + exact / 2**58


def test_the_bounds_are_those_of_the_contract():
    assert sqrt_ratio_at_tick(MIN_TICK) == MIN_SQRT_RATIO
    assert sqrt_ratio_at_tick(MAX_TICK) == MAX_SQRT_RATIO
    assert tick_at_sqrt_ratio(MIN_SQRT_RATIO) == MIN_TICK
    assert tick_at_sqrt_ratio(MAX_SQRT_RATIO - 1) == MAX_TICK - 1
    for tick in (MIN_TICK - 1, MAX_TICK + 1):
        with pytest.raises(ValidationError, match="tick"):
            sqrt_ratio_at_tick(tick)
    for ratio in (MIN_SQRT_RATIO - 1, MAX_SQRT_RATIO):
        with pytest.raises(ValidationError, match="out of range"):
            tick_at_sqrt_ratio(ratio)


# From v3-core's test/TickMath.spec.ts and its snapshots.
@pytest.mark.parametrize(
    ("tick", "ratio"),
    [(MIN_TICK + 1, 4295343490), (MAX_TICK - 1, 1461373636630004318706518188784493106690254656249)],
)
def test_ratios_that_the_tests_of_the_contract_name(tick, ratio):
    assert sqrt_ratio_at_tick(tick) == ratio


@given(ratios)
def test_the_tick_of_a_ratio_is_the_greatest_one_below_it(ratio):
    tick = tick_at_sqrt_ratio(ratio)
    assert sqrt_ratio_at_tick(tick) <= ratio < sqrt_ratio_at_tick(tick + 1)


@given(st.integers(MIN_TICK, MAX_TICK - 1))
def test_a_tick_survives_its_ratio(tick):
    assert tick_at_sqrt_ratio(sqrt_ratio_at_tick(tick)) == tick


@given(st.integers(1, 10**30), st.integers(1, 10**30))
def test_a_price_and_its_root_agree_to_the_last_unit(amount1, amount0):
    root = sqrt_ratio_of_price(Fraction(amount1, amount0))
    assert price_of_sqrt_ratio(root) <= Fraction(amount1, amount0) < price_of_sqrt_ratio(root + 1)


@given(ratios, ratios, liquidities)
def test_amounts_between_prices_are_the_exact_ones_rounded(sqrt_a, sqrt_b, liquidity):
    low, high = sorted((sqrt_a, sqrt_b))
    exact1 = Fraction(liquidity * (high - low), Q96)
    assert amount1_between(sqrt_a, sqrt_b, liquidity) == exact1.__floor__()
    assert amount1_between(sqrt_b, sqrt_a, liquidity, round_up=True) == exact1.__ceil__()
    exact0 = Fraction(liquidity * Q96 * (high - low), high * low)
    # Two roundings one after the other in the contract come to one: the inner quotient is a whole number.
    assert amount0_between(sqrt_a, sqrt_b, liquidity) == exact0.__floor__()
    assert amount0_between(sqrt_a, sqrt_b, liquidity, round_up=True) == exact0.__ceil__()


@given(ticks, ticks, ratios, liquidities)
def test_what_is_taken_in_suffices_for_the_liquidity_and_no_more_comes_out(tick_a, tick_b, ratio, liquidity):
    lower, upper = min(tick_a, tick_b), max(tick_a, tick_b)
    if lower == upper:
        with pytest.raises(ValidationError, match="below"):
            amounts_of_liquidity(ratio, lower, upper, liquidity)
        return
    out0, out1 = amounts_of_liquidity(ratio, lower, upper, liquidity)
    in0, in1 = amounts_of_liquidity(ratio, lower, upper, liquidity, round_up=True)
    assert (in0 - out0, in1 - out1) <= (1, 1)
    try:
        back = liquidity_of_amounts(ratio, lower, upper, out0, out1)
    except ValidationError:
        return  # tiny amounts at the ends of the price range are worth any liquidity
    taken0, taken1 = amounts_of_liquidity(ratio, lower, upper, back)
    assert taken0 <= out0
    assert taken1 <= out1


def test_a_position_out_of_range_is_one_token_only():
    below, above = sqrt_ratio_at_tick(-100), sqrt_ratio_at_tick(100)
    assert amounts_of_liquidity(below, -10, 10, 10**18)[1] == 0
    assert amounts_of_liquidity(above, -10, 10, 10**18)[0] == 0
    assert liquidity_of_amounts(below, -10, 10, 10**18, 0) > 0
    assert liquidity_of_amounts(above, -10, 10, 0, 10**18) > 0
    assert liquidity_of_amounts(above, -10, 10, 10**18, 0) == 0


def test_the_example_of_the_periphery_tests_is_reproduced():
    """v3-periphery, test/LiquidityAmounts.spec.ts: 100 and 200 at price 1 between 100/110 and 110/100."""
    price = Q96
    low, high = sqrt_ratio_of_price(Fraction(100, 110)), sqrt_ratio_of_price(Fraction(110, 100))
    in0 = 100 * (price * high // Q96) // (high - price)
    in1 = 200 * Q96 // (price - low)
    assert min(in0, in1) == 2148


@given(ticks, ticks, ticks, *(st.integers(0, UINT256_BOUND - 1) for _ in range(3)))
def test_fee_growth_wraps_as_the_contract_does(  # noqa: PLR0917 - as the contract has them
    lower, upper, current, everywhere, outside_lower, outside_upper
):
    inside = fee_growth_inside(lower, upper, current, everywhere, outside_lower, outside_upper)
    assert 0 <= inside < UINT256_BOUND
    later = (everywhere + 12345) % UINT256_BOUND
    grown = fee_growth_inside(lower, upper, current, later, outside_lower, outside_upper)
    earned = (
        12345 if lower <= current < upper else 0 if current < lower <= upper or current >= upper > lower else None
    )
    if earned is not None and lower < upper:
        assert (grown - inside) % UINT256_BOUND == earned


def test_fees_are_exact_also_where_growth_wraps_and_amounts_are_the_largest():
    assert fees_owed(UINT128_BOUND - 1, 5, UINT256_BOUND - 5) == 10 * (UINT128_BOUND - 1) // Q128
    assert fees_owed(UINT128_BOUND - 1, UINT256_BOUND - 1, 0) == (UINT256_BOUND - 1) * (UINT128_BOUND - 1) // Q128
    assert fees_owed(1, Q128, 0) == 1
    assert fees_owed(1, Q128 - 1, 0) == 0


def test_liquidity_that_no_pool_holds_is_refused():
    with pytest.raises(ValidationError, match="2\\^128"):
        liquidity_of_amounts(Q96, -1, 1, UINT256_BOUND - 1, UINT256_BOUND - 1)
