"""Mappings and lists that cannot be changed: what a cache holds is handed to many."""

from __future__ import annotations

from typing import Any, NoReturn


def _refuse(*_: object, **__: object) -> NoReturn:
    raise TypeError("This record is shared and cannot be changed. Make a copy: dict(...) or list(...).")


class FrozenDict(dict[str, Any]):
    """A dict that is equal to a plain one, and refuses changes.

    >>> settings = freeze({"theme": "dark", "markets": ["BTC/USDT"]})
    >>> settings == {"theme": "dark", "markets": ["BTC/USDT"]}
    True
    """

    __slots__ = ()
    __setitem__ = __delitem__ = __ior__ = _refuse  # pyright: ignore[reportAssignmentType]
    clear = pop = popitem = setdefault = update = _refuse  # pyright: ignore[reportAssignmentType]


class FrozenList(list[Any]):
    """A list of the same kind."""

    __slots__ = ()
    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse  # pyright: ignore[reportAssignmentType]
    append = clear = extend = insert = pop = remove = reverse = sort = _refuse  # pyright: ignore[reportAssignmentType]


def freeze(value: Any) -> Any:
    """The same JSON value, with all that is in it."""
    if isinstance(value, dict):
        return FrozenDict({name: freeze(inner) for name, inner in value.items()})
    if isinstance(value, list):
        return FrozenList([freeze(inner) for inner in value])
    return value
