"""Exact amounts: decimals that are parsed strictly, never rounded, and printed plainly.

An amount may be as large as 2^256 - 1 with 18 decimals, and a product of two such amounts must be exact,
so ``EXACT`` has room for it and traps whatever would be rounded.
"""

from __future__ import annotations

from decimal import (
    MAX_EMAX,
    MIN_EMIN,
    Clamped,
    Context,
    Decimal,
    DivisionByZero,
    Inexact,
    InvalidOperation,
    Overflow,
    Underflow,
)
from functools import cache

from novadex.errors import ValidationError

AMOUNT_BOUND = Decimal(2**256)
"""Every amount and price is below it."""
AMOUNT_DECIMALS_MAX = 18
PRICE_DECIMALS_MAX = 36
DIGITS_MAX = 78 + PRICE_DECIMALS_MAX

EXACT = Context(
    prec=2 * DIGITS_MAX,
    Emin=MIN_EMIN,
    Emax=MAX_EMAX,
    traps=[InvalidOperation, DivisionByZero, Overflow, Underflow, Inexact, Clamped],
)
"""Wide enough for the product of two amounts; raises instead of rounding."""

_ROUNDING = Context(prec=EXACT.prec, Emin=MIN_EMIN, Emax=MAX_EMAX, traps=[InvalidOperation])
"""As wide, for the few numbers that are rounded on purpose."""

_ZERO = Decimal(0)


def parse_amount(value: object, field: str, *, decimals_max: int = AMOUNT_DECIMALS_MAX) -> tuple[Decimal, str]:
    """The exact value and its plain notation without trailing zeros.

    Takes ``Decimal``, ``str`` or ``int``. Raises ``ValidationError`` for a float (it cannot say 0.1), for
    what is no number, for more than ``decimals_max`` decimals, and outside 0 to 2^256.

    >>> parse_amount("1.50", "base_amount")
    (Decimal('1.5'), '1.5')
    """
    number = _decimal_of(value, field)
    if number < _ZERO:
        raise ValidationError(f"{field} must not be negative, got {plain(number)}.", field=field)
    text = checked_text(number, field, decimals_max)
    return Decimal(text), text


def parse_signed_amount(value: object, field: str) -> tuple[Decimal, str]:
    """Like ``parse_amount``, and may be negative.

    >>> parse_signed_amount("-0.010", "fee_amount")[1]
    '-0.01'
    """
    number = _decimal_of(value, field)
    text = checked_text(number, field, AMOUNT_DECIMALS_MAX)
    return Decimal(text), text


def _decimal_of(value: object, field: str) -> Decimal:
    if type(value) is str:
        try:
            number = Decimal(value)
        except InvalidOperation:
            raise ValidationError(
                f"{field} is not a number: {value[:80]!r}.", field=field, hint="Write it like '1.25'."
            ) from None
        if not value.isascii() or "_" in value or value != value.strip():
            raise ValidationError(
                f"{field} is not a plain number: {value[:80]!r}.", field=field, hint="Write it like '1.25'."
            )
    elif type(value) is Decimal:
        number = value
    elif type(value) is int:
        number = Decimal(value)
    elif isinstance(value, float):
        raise ValidationError(
            f"{field} is the float {value!r}; a float cannot hold most decimal amounts exactly.",
            field=field,
            hint=f"Write it as a string or a Decimal: {field}='{value!r}' or Decimal('{value!r}').",
        )
    else:
        raise ValidationError(
            f"{field} must be a string, a Decimal or an int, got {type(value).__name__}.",
            field=field,
            hint=f"Write it like {field}='1.25'.",
        )
    if not number.is_finite():
        raise ValidationError(f"{field} must be a finite number, got {number}.", field=field)
    return number


def checked_text(number: Decimal, field: str, decimals_max: int) -> str:
    """The plain notation of a number whose size and decimals are within bounds."""
    # The exponent is looked at first: '1e999999999' must not become a string of a gigabyte.
    if number and not -PRICE_DECIMALS_MAX <= number.adjusted() <= 77:
        raise ValidationError(
            f"{field} is out of range: {str(number)[:80]}; it must be below 2^256 with at most"
            f" {decimals_max} decimals.",
            field=field,
        )
    text = format(number, "f") if number else "0"
    if len(text) > 1000:
        raise ValidationError(f"{field} has {len(text)} digits, more than it can have.", field=field)
    if "." in text:
        text = text.rstrip("0")
        point = text.index(".")
        if len(text) - point - 1 > decimals_max:
            raise ValidationError(
                f"{field} has {len(text) - point - 1} decimals, more than {decimals_max}: {text[:120]}.", field=field
            )
        if text[-1] == ".":
            text = text[:-1]
    if number.copy_abs() >= AMOUNT_BOUND:
        raise ValidationError(f"{field} must be below 2^256, got {text}.", field=field)
    return text


def decimals_of(text: str) -> int:
    """How many decimals a plain notation has.

    >>> decimals_of("1.25"), decimals_of("7")
    (2, 0)
    """
    point = text.find(".")
    return 0 if point < 0 else len(text) - point - 1


@cache
def smallest_unit(decimals: int) -> Decimal:
    """The smallest unit of an asset.

    >>> smallest_unit(6)
    Decimal('0.000001')
    """
    return Decimal((0, (1,), -decimals))


def rounded(number: Decimal, decimals: int, rounding: str) -> Decimal:
    """A number in whole smallest units, by a rounding of the ``decimal`` module.

    >>> from decimal import ROUND_CEILING
    >>> rounded(Decimal("0.0000015"), 6, ROUND_CEILING)
    Decimal('0.000002')
    """
    return number.quantize(smallest_unit(decimals), rounding, _ROUNDING)


def trimmed(number: Decimal) -> Decimal:
    """The same number without trailing zeros and exponent, as it is to be shown.

    >>> trimmed(Decimal("0E-18")), trimmed(Decimal("1.500")), trimmed(Decimal("1E+3"))
    (Decimal('0'), Decimal('1.5'), Decimal('1000'))
    """
    return Decimal(plain(number))


def plain(number: Decimal) -> str:
    """Plain notation: no exponent, no trailing zeros.

    >>> plain(Decimal("61824.00")), plain(Decimal("1E+3")), plain(Decimal("-0.0"))
    ('61824', '1000', '0')
    """
    text = format(number, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text
