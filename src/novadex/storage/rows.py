"""Rows as mappings with attribute access."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from psycopg import AsyncCursor


class Row(dict[str, Any]):
    """One row of a result.

    >>> row = Row(id=7, symbol="BTC")
    >>> row["symbol"], row.symbol
    ('BTC', 'BTC')
    """

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the row has no column {name!r}; it has {', '.join(self)}") from None


def row_factory(cursor: AsyncCursor[Any]) -> Callable[[Sequence[Any]], Row]:
    """Makes ``Row`` objects, for psycopg."""
    names = [column.name for column in cursor.description or ()]
    return lambda values: Row(zip(names, values, strict=True))
