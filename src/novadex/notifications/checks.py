"""What callers may ask for: bounds and forms, in words."""

from __future__ import annotations

import unicodedata
from uuid import UUID

from novadex.errors import ValidationError
from novadex.ids import parse_id
from novadex.notifications.records import CHANNELS, WAYS, Channel, Direction, Way

LIMIT, LIMIT_MAX = 50, 500
LAST_ID = UUID(int=(1 << 128) - 1)
LINE_ENDS_AND_TABS = frozenset("\n\r\t")


def check_limit(limit: object) -> int:
    """How many of a list."""
    if type(limit) is not int or not 1 <= limit <= LIMIT_MAX:
        shown = limit if type(limit) is int and abs(limit) < 10**9 else type(limit).__name__
        raise ValidationError(f"limit must be 1 to {LIMIT_MAX}, got {shown}.", field="limit")
    return limit


def check_cursor(cursor: UUID | str | None, field: str = "cursor") -> UUID:
    """Below which id a page begins."""
    return LAST_ID if cursor is None else parse_id(cursor, field)


def check_channel(channel: object) -> Channel:
    """One of the channels."""
    for known in CHANNELS:
        if channel == known:
            return known
    raise ValidationError(f"channel must be one of {', '.join(CHANNELS)}, got {_shown(channel)}.", field="channel")


def check_way(channel: object) -> Way:
    """One of the channels that leave the house."""
    for known in WAYS:
        if channel == known:
            return known
    raise ValidationError(f"channel must be {' or '.join(WAYS)}, got {_shown(channel)}.", field="channel")


def check_direction(direction: object) -> Direction:
    """above or below."""
    if direction == "above":
        return "above"
    if direction == "below":
        return "below"
    raise ValidationError(f"direction must be above or below, got {_shown(direction)}.", field="direction")


def check_text(text: object, field: str, length_max: int) -> str:
    """Words that somebody wrote: without control characters, which JSON makes six times as long and nobody sees."""
    if not isinstance(text, str):
        raise ValidationError(f"{field} must be text, got {type(text).__name__}.", field=field)
    if not 1 <= len(text) <= length_max or not text.strip():
        raise ValidationError(
            f"{field} must have 1 to {length_max} characters, got {len(text)}.",
            field=field,
            hint="Shorten it." if len(text) > length_max else "Say something in it: spaces alone do not count.",
        )
    for place, character in enumerate(text):
        if unicodedata.category(character) in {"Cc", "Cs"} and character not in LINE_ENDS_AND_TABS:
            raise ValidationError(
                f"{field} has a control character at {place}: U+{ord(character):04X}.",
                field=field,
                hint="Take it out; line ends and tabs may stay.",
            )
    return text


def check_new_id(id: UUID | str, field: str = "id") -> UUID:
    """An id that a caller made."""
    parsed = parse_id(id, field)
    if parsed.version != 7:
        raise ValidationError(f"{field} must be a UUIDv7, got {parsed}.", field=field)
    return parsed


def _shown(value: object) -> str:
    return repr(value[:40]) if isinstance(value, str) else type(value).__name__
