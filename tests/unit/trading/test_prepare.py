from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novadex.errors import NovaDexError, UsageError, ValidationError
from novadex.ids import id_at, time_of, uuid7
from novadex.money import EXACT
from novadex.trading.prepare import market_symbol, prepare
from novadex.trading.records import Market

MARKET = Market(1, "SOL/USDC", "SOL", "USDC", 9, 6, "active")
GOOD = {
    "user_id": "01912fd2-ec00-7000-8000-000000000001",
    "type": "spot",
    "side": "buy",
    "base_asset": "SOL",
    "quote_asset": "USDC",
    "base_amount": "1.0",
    "quote_amount": "100.0",
    "price": "100.0",
}


def test_the_example_of_the_quickstart_is_prepared():
    trade = prepare(GOOD, MARKET, None).trade
    assert (trade.market, trade.side, trade.liquidity, trade.quote_amount) == ("SOL/USDC", "buy", "taker", 100)
    assert trade.id.version == 7
    assert trade.executed_at == time_of(trade.id)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("side", "BUY"),
        ("side", None),
        ("side", ["buy"]),
        ("type", "future"),
        ("liquidity", "both"),
        ("base_amount", 1.0),
        ("base_amount", "0"),
        ("base_amount", "-1"),
        ("base_amount", "1.0000000001"),
        ("base_amount", None),
        ("quote_amount", "100.0000001"),
        ("quote_amount", "100.000001"),
        ("quote_amount", "99"),
        ("price", "0"),
        ("price", 100.0),
        ("fee_amount", "1e30000"),
        ("fee_asset", None),
        ("user_id", "me"),
        ("user_id", None),
        ("id", "4f0c0a3c-1111-4a3c-8a3c-0a3c0a3c0a3c"),
        ("id", "nope"),
        ("id", UUID(int=(1 << 127) | (7 << 76) | (2 << 62))),
        ("executed_at", "yesterday"),
        ("executed_at", "9999-12-31T23:59:59-12:00"),
        ("executed_at", datetime(2024, 1, 1)),  # noqa: DTZ001 - the point
        ("executed_at", datetime(1969, 12, 31, tzinfo=UTC)),
        ("executed_at", datetime.now(UTC) + timedelta(hours=1)),
        ("sequence", 2**63),
        ("sequence", "1"),
        ("sequence", True),
        ("match_id", "x"),
        ("source", "binance"),
        ("source_trade_id", "1"),
        ("idempotency_key", ""),
        ("idempotency_key", "k" * 256),
        ("idempotency_key", "a\0b"),
        ("idempotency_key", "\ud800"),
        ("idempotency_key", 5),
    ],
)
def test_a_wrong_field_is_named(field, value):
    fields = {**GOOD, field: value}
    if field == "fee_asset":
        fields["fee_amount"] = "1"
    with pytest.raises(ValidationError) as caught:
        prepare(fields, MARKET, None)
    expected = {"source": "source_trade_id", "source_trade_id": "source"}.get(field, field)
    if field == "id" and isinstance(value, UUID):
        expected = "executed_at"
    assert caught.value.field == expected
    assert expected in caught.value.message


def test_an_unknown_field_is_refused_with_those_that_exist():
    with pytest.raises(UsageError, match=r"no field baseAmount.*base_amount"):
        market_symbol({**GOOD, "baseAmount": "1"})


@pytest.mark.parametrize(
    "fields", [{}, {"base_asset": "SOL"}, {"market": 5}, {"market": "SOL/USDC", "base_asset": "BTC"}]
)
def test_a_market_must_be_named_once_and_whole(fields):
    with pytest.raises(ValidationError, match="market"):
        market_symbol(fields)


def test_a_market_with_a_suffix_is_named_by_its_symbol():
    assert market_symbol({"market": "ETH/USDT-PERP", "base_asset": "ETH", "quote_asset": "USDT"}) == "ETH/USDT-PERP"


def test_disagreeing_amounts_say_what_the_product_is():
    with pytest.raises(ValidationError, match=r"quote_amount 99 .* 1 \* price 100 = 100 .* 0\.000001"):
        prepare({**GOOD, "quote_amount": "99"}, MARKET, None)


@given(
    st.decimals("0.000000001", 10**12, places=9),
    st.decimals("0.000000000000000001", 10**12, places=18),
    st.integers(-2, 2),
)
def test_a_quote_amount_is_taken_exactly_where_it_is_the_product_rounded_up_or_down(base, price, off):
    product = EXACT.multiply(base, price)
    unit = Decimal("0.000001")
    floor = EXACT.multiply(Decimal(int(EXACT.divide_int(product, unit))), unit)
    quote = EXACT.add(floor, EXACT.multiply(unit, Decimal(off)))
    agrees = quote >= 0 and EXACT.subtract(quote, product).copy_abs() < unit
    fields = {**GOOD, "base_amount": base, "price": price, "quote_amount": quote}
    try:
        prepare(fields, MARKET, None)
        taken = True
    except ValidationError:
        taken = False
    assert taken == agrees


def test_id_and_time_follow_from_each_other():
    moment = datetime(2024, 8, 8, 23, 54, 15, 342999, tzinfo=UTC)
    by_time = prepare({**GOOD, "executed_at": moment}, MARKET, None).trade
    assert by_time.executed_at == moment
    assert time_of(by_time.id) == moment.replace(microsecond=342000)
    id = id_at(moment)
    both = prepare({**GOOD, "id": id, "executed_at": moment.isoformat()}, MARKET, None).trade
    assert (both.id, both.executed_at) == (id, moment)
    with pytest.raises(ValidationError, match=r"id carries the time 2024.*id_at"):
        prepare({**GOOD, "id": id, "executed_at": moment + timedelta(seconds=1)}, MARKET, None)


def test_a_trade_of_a_source_gets_the_same_id_again():
    fields = {**GOOD, "executed_at": "2024-08-08T23:54:15.342Z", "source": "binance", "source_trade_id": "77"}
    assert prepare(fields, MARKET, None).trade.id == prepare(fields, MARKET, None).trade.id


def test_the_hash_of_a_request_leaves_out_what_was_made_up():
    keyed = {**GOOD, "idempotency_key": "k"}
    first, again = prepare(keyed, MARKET, None), prepare(keyed, MARKET, None)
    assert first.trade.id != again.trade.id
    assert first.request_hash == again.request_hash
    assert prepare({**keyed, "quote_amount": "100"}, MARKET, None).request_hash == first.request_hash
    assert prepare({**keyed, "side": "sell"}, MARKET, None).request_hash != first.request_hash
    assert prepare({**keyed, "id": uuid7()}, MARKET, None).request_hash != first.request_hash


@given(
    st.dictionaries(
        st.sampled_from(sorted(GOOD)),
        st.one_of(st.none(), st.text(), st.integers(), st.floats(), st.binary(), st.lists(st.none())),
        min_size=1,
    )
)
def test_no_value_leads_to_anything_but_a_trade_or_a_named_error(changes):
    fields = {**GOOD, **changes}
    try:
        market_symbol(fields)
        prepare(fields, MARKET, None)
    except NovaDexError as error:
        assert error.code  # noqa: PT017 - either outcome is right
