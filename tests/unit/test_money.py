from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novadex.errors import ValidationError
from novadex.money import EXACT, parse_amount, parse_signed_amount, plain


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("1.50", "1.5"),
        ("61824.00000000", "61824"),
        ("0", "0"),
        ("-0", "0"),
        ("1E+3", "1000"),
        ("0E-40", "0"),
        (7, "7"),
        (Decimal("0.000000000000000001"), "0.000000000000000001"),
        (2**256 - 1, str(2**256 - 1)),
        (str(2**256 - 1) + ".000", str(2**256 - 1)),
    ],
)
def test_an_amount_becomes_its_plain_notation(value, text):
    assert parse_amount(value, "amount")[1] == text


@pytest.mark.parametrize(
    "value",
    [
        "",
        "abc",
        "1,5",
        "1_000",
        "\u0661",
        " 1",
        "NaN",
        "sNaN",
        "Infinity",
        "-1",
        "1e999999999",
        "1e-999999999",
        2**256,
        "0.0000000000000000001",
        Decimal("NaN"),
        None,
        True,
        b"1",
        [],
        "1" + "0" * 2000,
    ],
)
def test_what_is_no_amount_is_refused_and_the_field_is_named(value):
    with pytest.raises(ValidationError, match="base_amount") as caught:
        parse_amount(value, "base_amount")
    assert caught.value.field == "base_amount"
    assert len(str(caught.value)) < 400


def test_a_float_is_refused_with_how_to_write_it():
    with pytest.raises(ValidationError, match=r"price='0\.1'.*Decimal\('0\.1'\)"):
        parse_amount(0.1, "price")


def test_a_signed_amount_may_be_negative_within_the_same_bounds():
    assert parse_signed_amount("-0.010", "fee") == (Decimal("-0.01"), "-0.01")
    with pytest.raises(ValidationError):
        parse_signed_amount(-(2**256), "fee")


@given(st.integers(0, 2**256 - 1), st.integers(0, 18))
def test_every_amount_of_256_bits_round_trips_through_its_text(atoms, decimals):
    number = Decimal((0, tuple(map(int, str(atoms))), -decimals))
    value, text = parse_amount(number, "amount")
    assert value == number
    assert Decimal(text) == number
    assert "E" not in text
    assert text == "0" or not (("." in text) and text.endswith(("0", ".")))


@given(st.integers(1, 2**256 - 1), st.integers(1, 2**256 - 1), st.integers(0, 18), st.integers(0, 36))
def test_the_product_of_any_two_amounts_is_exact(a, b, a_decimals, b_decimals):
    left = Decimal((0, tuple(map(int, str(a))), -a_decimals))
    right = Decimal((0, tuple(map(int, str(b))), -b_decimals))
    product = EXACT.multiply(left, right)
    assert int(product.scaleb(a_decimals + b_decimals, EXACT)) == a * b


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30, places=18))
def test_plain_notation_has_no_exponent_and_keeps_the_value(number):
    text = plain(number)
    assert Decimal(text) == number
    assert "E" not in text
    assert text != "-0"
