"""Levels and resting orders against a plain dictionary, and the checksum against its documented form."""

from __future__ import annotations

import zlib
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novadex.book.documents import Difference, decode_difference, decode_top, encode, top_of
from novadex.book.levels import Levels, checksum_of
from novadex.book.orders import GapError, OrderBook, OrderChange, in_priority
from novadex.book.units import FinerValueError, to_text, to_units


def test_the_checksum_is_crc32_of_what_anybody_sees():
    bids = [("61685.99", "1.0087"), ("61685.98", "0.10972")]
    asks = [("61686", "2.29327")]
    assert checksum_of(bids, asks) == zlib.crc32(b"61685.99:1.0087:61686:2.29327:61685.98:0.10972") == 481506785
    assert checksum_of([], []) == 0
    many = [(str(1000 - n), "1") for n in range(30)]
    assert checksum_of(many, asks) == checksum_of(many[:25], asks) != checksum_of(many[:24], asks)


@given(st.integers(0, 2**260), st.integers(0, 36))
def test_units_and_text_are_the_same_value(units: int, decimals: int):
    text = to_text(units, decimals)
    assert to_units(text, decimals) == units
    assert not ("." in text and text.endswith(("0", ".")))


@pytest.mark.parametrize("text", ["", ".", "-1", "1e5", "\u0661", " 1", "1_0", "nan", "0x1"])
def test_what_is_no_plain_number_is_refused(text: str):
    with pytest.raises(ValueError, match="plain number"):
        to_units(text, 8)


def test_nothing_is_rounded():
    with pytest.raises(FinerValueError) as caught:
        to_units("1.123", 2)
    assert caught.value.decimals == 3


changes = st.lists(st.tuples(st.booleans(), st.integers(1, 30), st.integers(0, 3)), max_size=80)


@given(changes, st.integers(1, 10))
def test_snapshot_and_differences_are_the_whole_book_at_each_point(made, every):
    levels, mine = Levels(2, 3), Levels(2, 3)
    plain: dict[bool, dict[int, int]] = {True: {}, False: {}}
    for number, (buys, price, lots) in enumerate(made, 1):
        (levels.bids if buys else levels.asks).set(price, lots)
        plain[buys][price] = lots
        if number % every:
            continue
        message = Difference(
            "t.1",
            0,
            number,
            levels.checksum(),
            [levels.bids.row(price) for price, _ in levels.bids.take_changes()],
            [levels.asks.row(price) for price, _ in levels.asks.take_changes()],
            0,
        )
        received = decode_difference(encode(message))
        mine.set_rows(received.bids, received.asks)
        assert mine.checksum() == received.checksum
        for side, theirs, buy in ((mine.bids, levels.bids, True), (mine.asks, levels.asks, False)):
            expected = sorted(((p, n) for p, n in plain[buy].items() if n), reverse=buy)
            assert side.items() == theirs.items() == expected
            assert side.best() == (expected[0][0] if expected else None)
            assert side.rows(3) == side.rows()[:3]
            assert side.rows(0) == []
        assert decode_top(encode(top_of("t.1", number, "orders", levels))).bids == tuple(levels.bids.rows(100))
    assert levels.in_finer_units(5).bids.rows() == levels.bids.rows()


@st.composite
def histories(draw):
    """Events of some orders, in the order of the market, and what each order is after them."""
    events, orders = [], {}
    for sequence in range(1, draw(st.integers(1, 40)) + 1):
        live = [key for key, order in orders.items() if order["live"]]
        if not live or draw(st.booleans()):
            key = f"order{sequence}"
            order = orders[key] = {
                "side": draw(st.sampled_from(["buy", "sell"])),
                "price": draw(st.integers(1, 5)),
                "left": draw(st.integers(1, 5)),
                "rests": draw(st.integers(0, 4)) > 0,
                "live": True,
                "place": sequence,
            }
            kind, status = "placed", "open"
        else:
            key = draw(st.sampled_from(live))
            order = orders[key]
            kind = draw(st.sampled_from(["cancelled", "amended", "filled"]))
            status = "open"
            if kind == "cancelled":
                order["live"], status = False, "cancelled"
            elif kind == "amended":
                price, left = draw(st.integers(1, 5)), draw(st.integers(1, 5))
                if price != order["price"] or left > order["left"]:
                    order["place"] = sequence
                order["price"], order["left"] = price, left
            elif order["left"] > 1:
                order["left"] -= 1
                status = "partially_filled"
            else:
                order["left"], order["live"], status = 0, False, "filled"
        events.append(
            OrderChange(
                1, sequence, key, kind, status, str(order["price"]), str(order["left"]), order["side"], order["rests"]
            )
        )
    return events, orders


@given(histories())
def test_random_events_lead_to_the_orders_that_are_live(history):
    events, orders = history
    book = OrderBook(0, 0, 0)
    for event in events:
        book.apply(event)
    resting = {key: order for key, order in orders.items() if order["live"] and order["rests"]}
    assert {key: (o.side, o.price, o.lots, o.priority) for key, o in book.orders.items()} == {
        key: (order["side"], order["price"], order["left"], order["place"]) for key, order in resting.items()
    }
    for side, levels in (("buy", book.levels.bids), ("sell", book.levels.asks)):
        sums: dict[int, int] = {}
        for order in resting.values():
            if order["side"] == side:
                sums[order["price"]] = sums.get(order["price"], 0) + order["left"]
        assert dict(levels.items()) == sums
    places = [(o.side, o.price, o.priority) for _, o in in_priority(book.orders.items())]
    assert places == sorted(places, key=lambda p: (p[0] != "buy", -p[1] if p[0] == "buy" else p[1], p[2]))


def test_a_missing_event_is_a_gap_and_changes_nothing():
    book = OrderBook(4, 0, 0)
    with pytest.raises(GapError):
        book.apply(OrderChange(1, 6, "a", "placed", "open", "1", "1", "buy", True))
    with pytest.raises(FinerValueError):
        book.apply(OrderChange(1, 5, "a", "placed", "open", "1.5", "1", "buy", True))
    assert (book.sequence, book.orders, len(book.levels.bids)) == (4, {}, 0)


def test_values_of_any_size_are_exact():
    largest = 2**256 - 1
    levels = Levels.of_rows([(str(largest), f"{largest}.000000000000000001")], [], 36, 18)
    assert levels.bids.rows() == [(str(largest), f"{largest}.000000000000000001")]
    assert Decimal(levels.bids.rows()[0][0]) == largest
