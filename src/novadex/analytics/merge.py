"""Two ordered streams of rows, side by side."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from novadex.storage.rows import Row

Key = tuple[str | bytes, ...]


def key_of(row: Row, names: tuple[str, ...]) -> Key:
    # What has no text, such as an infinite date, sorts first: no record has it.
    return tuple("" if row[name] is None else row[name] for name in names)


async def side_by_side(
    left: AsyncGenerator[Row], right: AsyncGenerator[Row], names: tuple[str, ...]
) -> AsyncGenerator[tuple[Row | None, Row | None]]:
    """Pairs of rows with the same key; None where a side has no such row. Both are in the order of the key."""
    async with aclosing(left), aclosing(right):
        ours, theirs = await anext(left, None), await anext(right, None)
        while ours is not None or theirs is not None:
            key = min(key_of(row, names) for row in (ours, theirs) if row is not None)
            on_left = ours if ours is not None and key_of(ours, names) == key else None
            on_right = theirs if theirs is not None and key_of(theirs, names) == key else None
            yield on_left, on_right
            if on_left is not None:
                ours = await anext(left, None)
            if on_right is not None:
                theirs = await anext(right, None)
