"""Every amount that an asset can have is kept to the last digit, and nothing that is no amount is taken."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from psycopg import errors

from tests.conftest import DatabasePair

UINT256_MAX = 2**256 - 1
EXACT = [
    Decimal(0),
    Decimal(UINT256_MAX),
    Decimal("1E-18"),
    Decimal(f"{UINT256_MAX - 1}.000000000000000001"),
    Decimal(f"{UINT256_MAX}.{'9' * 18}"),
    Decimal("0.1"),
    Decimal("1.10"),
]
DOMAINS = ("amount", "signed_amount", "price")


@pytest.fixture
def connection(shared_databases: DatabasePair) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(shared_databases.main_url("app")) as connection:
        yield connection
        connection.rollback()


def through(connection: psycopg.Connection[Any], domain: str, value: Decimal | str, *, binary: bool = False) -> Any:
    row = connection.execute(f"SELECT %s::{domain}".encode(), (value,), binary=binary).fetchone()
    assert row is not None
    return row[0]


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("domain", ["amount", "signed_amount"])
@pytest.mark.parametrize("value", EXACT, ids=str)
def test_an_amount_comes_back_digit_for_digit(
    connection: psycopg.Connection[Any], domain: str, value: Decimal, *, binary: bool
) -> None:
    assert format(through(connection, domain, value, binary=binary), "f") == format(value, "f")


@pytest.mark.parametrize("value", [value for value in EXACT if value], ids=str)
def test_a_signed_amount_can_be_negative(connection: psycopg.Connection[Any], value: Decimal) -> None:
    assert format(through(connection, "signed_amount", value.copy_negate()), "f") == "-" + format(value, "f")


@pytest.mark.parametrize("value", ["1E-36", f"{UINT256_MAX}.{'9' * 36}"])
def test_a_price_has_36_decimals(connection: psycopg.Connection[Any], value: str) -> None:
    assert format(through(connection, "price", Decimal(value)), "f") == format(Decimal(value), "f")


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("value", ["NaN", "Infinity", str(2**256)])
def test_what_is_no_number_of_units_is_refused(connection: psycopg.Connection[Any], domain: str, value: str) -> None:
    with pytest.raises(errors.CheckViolation, match=f"{domain}_in_range"):
        through(connection, domain, value)


@pytest.mark.parametrize("domain", ["amount", "price"])
def test_a_negative_amount_is_refused(connection: psycopg.Connection[Any], domain: str) -> None:
    with pytest.raises(errors.CheckViolation, match=f"{domain}_in_range"):
        through(connection, domain, "-1")


@pytest.mark.parametrize(("domain", "decimals"), [("amount", 19), ("signed_amount", 19), ("price", 37)])
def test_a_digit_too_many_is_refused_and_not_rounded(
    connection: psycopg.Connection[Any], domain: str, decimals: int
) -> None:
    with pytest.raises(errors.CheckViolation, match=f"{domain}_scale"):
        through(connection, domain, "1." + "0" * (decimals - 1) + "1")


def test_a_price_of_zero_is_refused(connection: psycopg.Connection[Any]) -> None:
    with pytest.raises(errors.CheckViolation, match="price_in_range"):
        through(connection, "price", "0")


def test_a_trade_of_the_largest_amount_at_the_smallest_price_is_kept(
    fresh_databases: DatabasePair, market: Any, users: Any
) -> None:
    (user,) = users(1)
    amount = Decimal(UINT256_MAX)
    with psycopg.connect(fresh_databases.main_url("app")) as connection:
        connection.execute(
            "INSERT INTO trades (id, user_id, market_id, base_decimals, quote_decimals, side, base_amount,"
            " quote_amount, price, executed_at)"
            " SELECT overlay(uuid_at(at)::text placing '7' from 15 for 1)::uuid,"
            " %s, %s, 18, 18, 'buy', %s, %s, %s, at"
            " FROM (SELECT date_trunc('second', now()) AS at) AS moment",
            (user, market.id, amount, Decimal(quote_text(amount)), Decimal("1E-18")),
        )
        row = connection.execute("SELECT base_amount, quote_amount, price FROM trades").fetchone()
    assert row is not None
    assert [format(value, "f") for value in row] == [str(amount), quote_text(amount), "0.000000000000000001"]


def quote_text(amount: Decimal) -> str:
    """``amount * 1E-18``, by moving the point: no arithmetic that could round."""
    digits = str(amount)
    return f"{digits[:-18]}.{digits[-18:]}"
