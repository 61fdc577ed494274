"""The state machine of orders, without a server."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from novadex.errors import ConflictError, NotFoundError, ValidationError
from novadex.ids import uuid7
from novadex.trading.orders.commands import ChangeOrder, Fill, FillWhole, Place, Undo
from novadex.trading.orders.machine import Machine, MarketState, Reducing, Standing
from novadex.trading.orders.prepare import prepare_fill, prepare_order
from novadex.trading.orders.records import LIVE, Order
from novadex.trading.records import Market

NOW = datetime(2026, 1, 2, tzinfo=UTC)
MARKET = Market(1, "SOL/USDC", "SOL", "USDC", 9, 6, "active")
BUYER, SELLER = uuid7(), uuid7()
EVENTS = ("triggered", "rejected", "amended", "cancelled", "expired")
STATES = ("untriggered", "open", "partially_filled", "filled", "cancelled", "expired", "rejected")


def machine(status: str = "active", **sizes: Any) -> Machine:
    found = Machine(NOW)
    state = {"tick_size": None, "lot_size": None, **sizes}
    found.markets[1] = MarketState(1, "SOL/USDC", 7, status, base_asset_id=1, quote_asset_id=2, **state)
    found.placers = {BUYER: "active", SELLER: "active"}
    return found


def placed(user: UUID = BUYER, side: str = "buy", **changes: Any) -> Place:
    fields = {"user_id": user, "side": side, "type": "limit", "quantity": "2", "price": "100", **changes}
    return prepare_order({name: value for name, value in fields.items() if value is not None}, MARKET, "test")


def filled(taker: Order, maker: Order | None, **changes: Any) -> Fill:
    fields = {
        "market": "SOL/USDC",
        "price": "100",
        "base_amount": "1",
        "taker_order_id": taker.id,
        **({"maker_order_id": maker.id} if maker else {}),
        **changes,
    }
    return prepare_fill(fields, MARKET, "venue")


def two_orders(**changes: Any) -> tuple[Machine, Order, Order]:
    found = machine()
    return found, found.place(placed()), found.place(placed(SELLER, "sell", **changes))


def standing(found: Machine, status: str, **changes: Any) -> Order:
    """An order put there in some state."""
    order = replace(placed(type="stop_limit", stop_price="90", **changes).order, status=status)
    done = {"filled": Decimal(2), "partially_filled": Decimal(1)}.get(status, Decimal(0))
    order = replace(order, filled_quantity=done)
    found.orders[order.id] = Standing(order, 1)
    return order


@pytest.mark.parametrize(("status", "event"), list(itertools.product(STATES, EVENTS)))
def test_every_step_is_made_or_refused_as_the_table_of_the_schema_says(status: str, event: Any) -> None:
    found = machine()
    order = standing(found, status)
    command = ChangeOrder(order.id, event, "test", "why", quantity=Decimal(3) if event == "amended" else None)
    allowed = {
        "triggered": {"untriggered"},
        "rejected": {"untriggered", "open"},
    }.get(event, LIVE)
    same = status == event or (event == "triggered" and status in LIVE)
    if status in allowed:
        after = found.change(command)
        assert (after.version, len(found.writes.events)) == (2, 1)
        assert after.status == {"triggered": "open", "amended": status}.get(event, event)
    elif same:
        assert found.change(command) == order
        assert found.writes.events == []
    else:
        with pytest.raises(ConflictError, match=status):
            found.change(command)
        assert found.writes.events == []
        assert found.orders[order.id].order == order


def test_several_commands_for_one_order_follow_each_other() -> None:
    found, bid, ask = two_orders()
    found.fill(filled(ask, bid))
    found.change(ChangeOrder(bid.id, "amended", "test", quantity=Decimal("1.5"), price=Decimal(101)))
    found.fill(filled(ask, bid, base_amount="0.5"))
    with pytest.raises(ConflictError, match="filled"):
        found.change(ChangeOrder(bid.id, "cancelled", "test"))
    bid = found.orders[bid.id].order
    assert (bid.status, bid.version, bid.quantity, bid.price) == ("filled", 4, Decimal("1.5"), 101)
    assert [event.version for event in found.writes.events if event.order_id == bid.id] == [2, 3, 4]


def test_a_fill_of_more_than_is_left_changes_nothing() -> None:
    found, bid, ask = two_orders(quantity="5")
    with pytest.raises(ConflictError, match="has 2 left"):
        found.fill(filled(ask, bid, base_amount="2.000000001"))
    assert found.writes.events == found.writes.trades == found.writes.filled == []


def test_what_is_no_fill_is_refused() -> None:
    found, bid, ask = two_orders()
    cases: list[tuple[Fill, type[Exception], str]] = [
        (filled(bid, ask, price="101"), ValidationError, "limit"),
        (filled(ask, bid, price="99"), ValidationError, "limit"),
        (filled(bid, found.place(placed(SELLER))), ValidationError, "both buy"),
        (filled(bid, found.place(placed(BUYER, "sell"))), ConflictError, "allow_self_trade"),
        (filled(found.place(placed(post_only=True)), ask), ConflictError, "post_only"),
        (filled(found.place(placed(time_in_force="fok")), ask), ConflictError, "fok"),
        (filled(standing(found, "untriggered"), ask), ConflictError, "trigger"),
        (filled(standing(found, "cancelled"), ask), ConflictError, "cancelled"),
    ]
    before = len(found.writes.events)
    for command, error, words in cases:
        with pytest.raises(error, match=words):
            found.fill(command)
    with pytest.raises(NotFoundError):
        found.fill(filled(replace(bid, id=uuid7()), ask))
    assert len(found.writes.events) == before
    assert found.fill(filled(bid, found.place(placed(BUYER, "sell")), allow_self_trade=True)).base_amount == 1


def test_amounts_of_many_digits_stay_exact() -> None:
    held = Decimal("123456789012345678901234567890.123456789")
    found, bid, ask = two_orders()
    found.orders[bid.id] = Standing(replace(bid, quantity=held), 1)
    assert found.orders[bid.id].order.remaining_quantity == held
    found.orders[ask.id] = Standing(replace(ask, quantity=held), 1)
    found.reducing[BUYER, 1], found.reducing[SELLER, 1] = Reducing(Decimal(0)), Reducing(Decimal(0))
    match = found.fill(filled(ask, bid, base_amount=str(held)))
    assert (found.reducing[BUYER, 1].holding, found.reducing[SELLER, 1].holding) == (held, held.copy_negate())
    found.place(placed(SELLER, "buy", reduce_only=True, quantity=str(held)))
    found.undo(Undo(match.id, "busted", None, "venue"))
    assert found.reducing[SELLER, 1].holding == found.reducing[BUYER, 1].holding == 0


def test_a_fok_order_is_filled_whole_by_whichever_side_it_is_named() -> None:
    found, bid, ask = two_orders()
    fok = found.place(placed(time_in_force="fok"))
    with pytest.raises(ConflictError, match="filled whole"):
        found.fill(filled(ask, fok))
    assert found.fill(filled(ask, fok, base_amount="2")).maker_order_id == fok.id
    assert found.orders[bid.id].order.version == 1


def test_fills_that_would_not_fill_a_fok_order_whole_leave_no_trace() -> None:
    found = machine()
    fok = found.place(placed(time_in_force="fok"))
    asks = [found.place(placed(SELLER, "sell", quantity="1")) for _ in range(2)]
    found.reducing[BUYER, 1] = Reducing(Decimal(7))
    first, second = (filled(fok, ask, source="venue", source_match_id=str(ask.id)) for ask in asks)
    before = dict(found.orders)
    for fills in (
        [first],
        [first, filled(fok, asks[1], base_amount="0.5")],
        [first, filled(fok, asks[1], price="7")],
    ):
        with pytest.raises((ConflictError, ValidationError)):
            found.fill_whole(FillWhole(fills))
        assert (found.orders, found.matches, found.by_source, found.reducing[BUYER, 1].holding) == (before, {}, {}, 7)
        assert found.writes.events == found.writes.trades == found.writes.filled == []
    done = found.fill_whole(FillWhole([first, second, first]))
    assert (done[0], found.reducing[BUYER, 1].holding) == (done[2], 9)
    assert found.orders[fok.id].order.status == "filled"


def test_an_order_that_was_amended_is_filled_at_the_limit_it_had() -> None:
    found, bid, ask = two_orders()
    found.change(ChangeOrder(bid.id, "amended", "test", price=Decimal(90)))
    assert found.fill(filled(bid, ask, price="100")).price == 100
    with pytest.raises(ValidationError, match="100"):
        found.fill(filled(bid, found.place(placed(SELLER, "sell", price="101")), price="101"))


def test_the_same_fill_again_is_the_same_match_and_another_one_is_a_conflict() -> None:
    found, bid, ask = two_orders()
    first = found.fill(filled(bid, ask, source="venue", source_match_id="1"))
    assert found.fill(filled(bid, ask, source="venue", source_match_id="1")) == first
    with pytest.raises(ConflictError, match="reported before"):
        found.fill(filled(bid, ask, source="venue", source_match_id="1", base_amount="0.5"))
    assert len(found.writes.filled) == 1


@pytest.mark.parametrize(
    ("rate", "fee"), [("0.001", "0.000001"), ("-0.001", "0"), ("-0.01", "-0.000003"), ("0", "0"), ("0.5", "0.000167")]
)
def test_fees_are_rounded_in_favour_of_the_venue(rate: str, fee: str) -> None:
    found, bid, ask = two_orders()
    found.rates[BUYER, 1] = (Decimal(0), Decimal(rate))
    match = found.fill(filled(bid, ask, base_amount="0.00000333", quote_amount="0.000333"))
    assert match.taker_fee == Decimal(fee)
    assert found.fill(filled(bid, ask, taker_fee="7", maker_fee="-1")).maker_fee == -1


@pytest.mark.parametrize(
    ("undone", "amount", "status", "quantity", "left"),
    [
        ("busted", "1", "open", "1", "1"),
        ("reverted", "1", "open", "2", "2"),
        ("busted", "2", "cancelled", "2", None),
        ("reverted", "2", "open", "2", "2"),
    ],
)
def test_what_undone_matches_leave(undone: Any, amount: str, status: str, quantity: str, left: str | None) -> None:
    found, bid, ask = two_orders()
    match = found.fill(filled(ask, bid, base_amount=amount))
    after = found.undo(Undo(match.id, undone, "because", "venue"))
    assert (after.undone, after.undone_reason, after.undone_at) == (undone, "because", NOW)
    bid = found.orders[bid.id].order
    assert (bid.status, bid.quantity, bid.filled_quantity) == (status, Decimal(quantity), 0)
    assert left is None or bid.remaining_quantity == Decimal(left)
    assert found.undo(Undo(match.id, undone, "again", "venue")) == after
    assert len(found.writes.reversals) == 2
    other: Any = {"busted": "reverted", "reverted": "busted"}[undone]
    with pytest.raises(ConflictError, match=undone):
        found.undo(Undo(match.id, other, "no", "venue"))


def test_an_order_that_ended_stays_ended_when_its_fill_is_undone() -> None:
    for undone in ("busted", "reverted"):
        found, bid, ask = two_orders()
        match = found.fill(filled(ask, bid))
        found.change(ChangeOrder(bid.id, "cancelled", "test"))
        found.undo(Undo(match.id, undone, None, "venue"))  # type: ignore[arg-type]
        assert (found.orders[bid.id].order.status, found.orders[bid.id].order.filled_quantity) == ("cancelled", 0)


def test_a_reverted_match_may_be_reported_again_and_a_busted_one_not() -> None:
    for undone, again in (("busted", False), ("reverted", True)):
        found, bid, ask = two_orders(quantity="9")
        match = found.fill(filled(bid, ask, source="chain", source_match_id="0x1:2"))
        found.undo(Undo(match.id, undone, None, "venue"))  # type: ignore[arg-type]
        second = found.fill(filled(bid, ask, source="chain", source_match_id="0x1:2"))
        assert (second.id != match.id) is again


@pytest.mark.parametrize(
    ("status", "takes", "post_only"),
    [("active", True, False), ("post_only", False, False), ("post_only", True, True), ("cancel_only", False, True)],
)
def test_markets_take_what_their_status_says(status: str, takes: bool, post_only: bool) -> None:
    found = machine(status)
    if takes:
        found.place(placed(post_only=post_only))
    else:
        with pytest.raises(ConflictError, match=status):
            found.place(placed(post_only=post_only))
    order = standing(found, "open")
    found.change(ChangeOrder(order.id, "cancelled", "user", by_user=True))


def test_a_halted_market_takes_no_cancels_of_users_and_all_reports() -> None:
    found, bid, ask = two_orders()
    found.markets[1].status = "halted"
    with pytest.raises(ConflictError, match="halted"):
        found.change(ChangeOrder(bid.id, "cancelled", "user", by_user=True))
    with pytest.raises(ConflictError, match="halted"):
        found.change(ChangeOrder(bid.id, "amended", "user", by_user=True, quantity=Decimal(1)))
    found.fill(filled(ask, bid))
    assert found.change(ChangeOrder(bid.id, "cancelled", "operator")).status == "cancelled"


def test_sizes_are_kept_by_new_orders_and_by_amendments() -> None:
    found = machine(tick_size=Decimal("0.5"), lot_size=Decimal("0.1"))
    order = found.place(placed(price="100.5", quantity="0.3"))
    cases: list[tuple[dict[str, Any], str]] = [({"price": "100.6"}, "tick"), ({"quantity": "0.35"}, "lot")]
    for changes, words in cases:
        with pytest.raises(ValidationError, match=words):
            found.place(placed(**changes))
    with pytest.raises(ValidationError, match="tick"):
        found.change(ChangeOrder(order.id, "amended", "test", price=Decimal("100.7")))
    found.markets[1].tick_size = Decimal("0.7")
    assert found.change(ChangeOrder(order.id, "amended", "test", quantity=Decimal("0.4"))).price == Decimal("100.5")


def test_a_reduce_only_order_reduces_what_is_held_and_not_claimed() -> None:
    found = machine()
    found.reducing[BUYER, 1] = Reducing(Decimal(3))
    first = found.place(placed(BUYER, "sell", reduce_only=True))
    with pytest.raises(ValidationError, match="1 SOL/USDC can be sold"):
        found.place(placed(BUYER, "sell", reduce_only=True))
    second = found.place(placed(BUYER, "sell", reduce_only=True, quantity="1"))
    with pytest.raises(ValidationError, match="reduces"):
        found.place(placed(BUYER, "buy", reduce_only=True, quantity="1"))
    found.change(ChangeOrder(first.id, "cancelled", "test"))
    assert found.change(ChangeOrder(second.id, "amended", "test", quantity=Decimal(3))).quantity == 3
    with pytest.raises(ValidationError, match="reduces"):
        found.change(ChangeOrder(second.id, "amended", "test", quantity=Decimal("3.1")))


def test_the_same_order_again_is_the_first_one() -> None:
    found = machine()
    first = found.place(placed(client_order_id="mine"))
    assert found.place(placed(client_order_id="mine")) == first
    given = found.place(placed(id=first.id, client_order_id="mine"))
    assert given == first
    with pytest.raises(ConflictError, match="client order id"):
        found.place(placed(client_order_id="mine", quantity="3"))
    with pytest.raises(ConflictError, match="belongs to another order"):
        found.place(placed(id=first.id))
    assert len(found.writes.placed) == 1


def test_only_orders_whose_time_is_over_expire() -> None:
    found = machine()
    order = found.place(placed(time_in_force="gtt", expires_at=datetime.now(UTC) + timedelta(hours=1)))
    with pytest.raises(ConflictError, match="does not expire before"):
        found.change(ChangeOrder(order.id, "expired", "test"))
    with pytest.raises(ConflictError, match="no gtt"):
        found.change(ChangeOrder(found.place(placed()).id, "expired", "test"))
    assert found.change(ChangeOrder(order.id, "expired", "venue", "said so")).status == "expired"


def test_what_is_of_a_market_that_is_not_held_is_not_there_yet() -> None:
    found, bid, ask = two_orders()
    match = found.fill(filled(ask, bid))
    before = len(found.writes.events)
    found.markets.clear()
    with pytest.raises(NotFoundError, match="no order"):
        found.change(ChangeOrder(bid.id, "cancelled", "test"))
    with pytest.raises(NotFoundError, match="no match"):
        found.undo(Undo(match.id, "busted", None, "venue"))
    assert len(found.writes.events) == before
