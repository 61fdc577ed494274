from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novadex.errors import ValidationError
from novadex.ids import EPOCH, id_at, id_of_source, milliseconds_of, parse_id, time_of, uuid7

MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(MOMENTS)
def test_an_id_carries_its_moment_to_the_millisecond(moment):
    id = id_at(moment)
    assert id.version == 7
    assert id.variant == "specified in RFC 4122"
    assert timedelta(0) <= moment - time_of(id) < timedelta(milliseconds=1)


@given(MOMENTS, st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_ids_of_a_source_are_the_same_for_the_same_trade_only(moment, one, other):
    ms = milliseconds_of(moment)
    assert id_of_source(ms, "binance", "BTC/USDT", one) == id_of_source(ms, "binance", "BTC/USDT", one)
    assert (id_of_source(ms, "binance", "BTC/USDT", one) == id_of_source(ms, "binance", "BTC/USDT", other)) == (
        one == other
    )
    assert id_of_source(ms, "binance", "BTC/USDT", one) != id_of_source(ms, "other", "BTC/USDT", one)


def test_new_ids_are_of_now_and_ascend():
    before = milliseconds_of(datetime.now(UTC))
    ids = [uuid7() for _ in range(1000)]
    assert ids == sorted(ids)
    assert before <= ids[0].int >> 80 <= milliseconds_of(datetime.now(UTC))


def test_milliseconds_are_exact_where_floats_are_not():
    assert milliseconds_of(EPOCH + timedelta(microseconds=1723161255342999)) == 1723161255342


@pytest.mark.parametrize("value", ["", "x", 5, None, "01912fd2-ec00-7000-8000-00000000000g"])
def test_what_is_no_id_is_refused_and_the_field_is_named(value):
    with pytest.raises(ValidationError, match="user_id is not a UUID"):
        parse_id(value, "user_id")


def test_an_id_is_taken_as_text_or_object():
    id = UUID("01912fd2-ec00-7000-8000-000000000001")
    assert parse_id(str(id), "id") == parse_id(id, "id") == id
