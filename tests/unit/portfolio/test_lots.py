"""Lots and average cost in integers give what fractions give, rounded as the documents say; nothing is lost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novadex.errors import IntegrityFaultError
from novadex.portfolio.lots import LAST_ID, LAST_SEQUENCE, Ledger, LotTrade, Standing, amount_of, share, units_of
from tests.integration.portfolio.naive import Position

NOON = datetime(2024, 8, 8, 12, tzinfo=UTC)
USER = UUID(int=1)
amounts = st.one_of(st.integers(1, 9), st.integers(1, 10**24), st.just((2**256 - 1) * 10**18))
sides = st.sampled_from(["buy", "sell"])


def trade(n: int, side: str, base: int, quote: int, **more: bool) -> LotTrade:
    moment = NOON + timedelta(minutes=7 * n)
    flags = {"undone": False, "undoes": False, **more}
    return LotTrade(USER, 1, UUID(int=n + 1), moment, 0, side, amount_of(base), amount_of(quote), **flags)


@given(st.lists(st.tuples(sides, amounts, st.one_of(st.just(0), amounts)), max_size=30))
def test_any_trades_give_what_fractions_give(specs):
    ledger, naive, flow = Ledger(), Position(), Fraction(0)
    for n, (side, base, quote) in enumerate(specs):
        sign = 1 if side == "buy" else -1
        ledger.add(trade(n, side, base, quote))
        naive.trade(UUID(int=n + 1), sign * Fraction(base, 10**18), sign * Fraction(quote, 10**18))
        flow -= sign * Fraction(quote, 10**18)
        now = ledger.standing
        parts = (now.quantity, now.cost, now.realized, now.fifo_realized)
        assert [Fraction(part, 10**18) for part in parts] == [
            naive.quantity,
            naive.cost,
            naive.realized,
            naive.fifo_realized,
        ]
        # What came in less what went out, by both ways of counting.
        assert (
            Fraction(now.realized - now.cost, 10**18) == Fraction(now.fifo_realized - now.fifo_cost, 10**18) == flow
        )
        assert sum(lot.quantity for lot in ledger.lots) == now.quantity
        assert sum(lot.cost for lot in ledger.lots) == now.fifo_cost
    assert [(c.trade.id, c.lot_id, Fraction(c.proceeds, 10**18)) for c in ledger.closings] == [
        (closing[0], closing[1], closing[4]) for closing in naive.closings
    ]


def test_what_was_undone_counts_for_its_place_only():
    ledger = Ledger().add_all([trade(0, "buy", 5, 7, undone=True), trade(0, "sell", 5, 7, undoes=True)])
    assert ledger.standing == Standing(last=(NOON, LAST_SEQUENCE, LAST_ID))
    assert (list(ledger.hours), ledger.closings, list(ledger.lots)) == ([NOON], [], [])


def test_how_it_stood_is_kept_for_each_hour():
    trades = [trade(n, "buy", 1, 1) for n in range(20)]
    ledger = Ledger().add_all(trades)
    assert [standing.trades for standing in ledger.hours.values()] == [9, 18, 20]
    assert list(ledger.hours) == [NOON + timedelta(hours=n) for n in range(3)]


def test_lots_that_hold_less_than_the_position_are_noticed():
    ledger = Ledger(Standing(quantity=5, cost=5, fifo_cost=5))
    with pytest.raises(IntegrityFaultError, match="hold less"):
        ledger.add(trade(0, "sell", 3, 3))


@given(st.integers(-(10**40), 10**40), st.integers(1, 10**30), st.integers(1, 10**30))
def test_a_share_is_rounded_half_to_even(total, part, whole):
    assert share(total, part, whole) == round(Fraction(total * part, whole))


@given(st.integers(-(2**300), 2**300))
def test_units_survive_their_amount(units):
    assert units_of(amount_of(units)) == units


def test_an_amount_is_shown_without_zeros():
    assert [str(amount_of(n)) for n in (0, 10**18, 15 * 10**17, 10**21)] == ["0", "1", "1.5", "1000"]
    assert amount_of(units_of(Decimal("1E+30"))) == Decimal(10**30)
