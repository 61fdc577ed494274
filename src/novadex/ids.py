"""Ids that carry their time: UUIDv7, whose first 48 bits are milliseconds since 1970.

The id of a trade is the time of its execution and 74 other bits: random for a new trade, a hash of where
it came from for an imported one, so that the same trade always gets the same id.
"""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime, timedelta
from uuid import UUID

from uuid_utils.compat import uuid7

from novadex.errors import ValidationError

__all__ = ["id_at", "id_of_source", "milliseconds_of", "parse_id", "time_of", "time_of_ms", "uuid7"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_VERSION_AND_VARIANT = (7 << 76) | (2 << 62)
_RANDOM_MASK = (1 << 128) - 1 - (((1 << 48) - 1) << 80) - (15 << 76) - (3 << 62)


def milliseconds_of(moment: datetime) -> int:
    """Whole milliseconds since 1970, rounded down.

    >>> milliseconds_of(datetime(2024, 8, 8, 23, 54, 15, 342999, tzinfo=UTC))
    1723161255342
    """
    return (moment - EPOCH) // _MS


def time_of_ms(milliseconds: int) -> datetime:
    """The moment of a number of milliseconds since 1970, UTC."""
    return EPOCH + timedelta(milliseconds=milliseconds)


def time_of(id: UUID) -> datetime:
    """The moment that an id carries, in whole milliseconds.

    >>> time_of(id_at(datetime(2024, 8, 8, tzinfo=UTC)))
    datetime.datetime(2024, 8, 8, 0, 0, tzinfo=datetime.timezone.utc)
    """
    return time_of_ms(id.int >> 80)


def id_at(moment: datetime) -> UUID:
    """A new id whose time is this moment: for a trade that was executed before it is recorded."""
    return _assemble(milliseconds_of(moment), int.from_bytes(os.urandom(16), "big"))


def id_of_source(milliseconds: int, source: str, market: str, source_trade_id: str) -> UUID:
    """The id of an imported trade: the same trade of the same source always gets the same id.

    >>> id_of_source(1723161255342, "binance", "BTC/USDT", "3735683259") == id_of_source(
    ...     1723161255342, "binance", "BTC/USDT", "3735683259"
    ... )
    True
    """
    name = f"{source}\0{market}\0{source_trade_id}".encode()
    return _assemble(milliseconds, int.from_bytes(hashlib.blake2b(name, digest_size=16).digest(), "big"))


def _assemble(milliseconds: int, bits: int) -> UUID:
    return UUID(int=(milliseconds << 80) | _VERSION_AND_VARIANT | (bits & _RANDOM_MASK))


def parse_id(value: object, field: str) -> UUID:
    """An id from a ``UUID`` or its text; raises ``ValidationError`` that names the field.

    >>> parse_id("01912fd2-ec00-7000-8000-000000000001", "user_id").version
    7
    """
    if isinstance(value, UUID):
        return value
    if isinstance(value, str):
        try:
            return UUID(value)
        except ValueError:
            pass
    shown = repr(value[:80]) if isinstance(value, str) else type(value).__name__
    raise ValidationError(
        f"{field} is not a UUID: {shown}.",
        field=field,
        hint="Write it like '01912fd2-ec00-7000-8000-000000000001'.",
    )
