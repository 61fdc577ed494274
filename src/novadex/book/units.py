"""Prices and quantities as whole numbers: of units of 10^-decimals, exact at any size."""

from __future__ import annotations

from functools import lru_cache


class FinerValueError(ValueError):
    """A value has more decimals than the book counts in; ``decimals`` are how many it needs."""

    def __init__(self, text: str, decimals: int) -> None:
        super().__init__(f"{text} has {decimals} decimals")
        self.text = text
        self.decimals = decimals


@lru_cache(maxsize=50_000)
def to_units(text: str, decimals: int) -> int:
    """A plain decimal number in units of 10^-decimals. ``ValueError`` where it is none, ``FinerValueError`` where
    it would have to be rounded. The same few prices and sizes come again and again: they are remembered.

    >>> to_units("61837.63000000", 2), to_units("0", 18)
    (6183763, 0)
    """
    whole, _, fraction = text.partition(".")
    if len(fraction) > decimals:
        fraction = fraction.rstrip("0")
        if len(fraction) > decimals:
            raise FinerValueError(text, len(fraction))
    digits = whole + fraction
    if not digits.isascii() or not digits.isdigit():
        raise ValueError(f"{text[:80]!r} is not a plain number")
    return int(digits) * 10 ** (decimals - len(fraction))


@lru_cache(maxsize=50_000)
def to_text(units: int, decimals: int) -> str:
    """The plain notation without trailing zeros: the same value has always the same text.

    >>> to_text(6183763, 2), to_text(6183700, 2), to_text(0, 18)
    ('61837.63', '61837', '0')
    """
    if not decimals:
        return str(units)
    digits = str(units).rjust(decimals + 1, "0")
    fraction = digits[-decimals:].rstrip("0")
    return f"{digits[:-decimals]}.{fraction}" if fraction else digits[:-decimals]


def decimals_of(text: str) -> int:
    """How many decimals a value needs.

    >>> decimals_of("61837.63000000"), decimals_of("7")
    (2, 0)
    """
    return len(text.partition(".")[2].rstrip("0"))
