"""Ways to break the cache, so that the campaign is seen to find them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from novadex.cache import feed
from novadex.cache.cache import Cache
from novadex.cache.feed import ChangeFeed


def lease_without_end() -> None:
    """A process that hears nothing believes what it has."""
    feed.LEASE_S = math.inf
    ChangeFeed._lose = lambda *_: None  # pyright: ignore[reportAttributeAccessIssue]


def entries_without_version() -> None:
    """What lies in the cache server is believed, whatever changed since."""
    ChangeFeed.fresh = lambda *_: True  # pyright: ignore[reportAttributeAccessIssue]


def old_floor() -> None:
    """After a cut, what was read before it is believed."""
    fresh = ChangeFeed.fresh

    def believing(self: ChangeFeed, namespace: str, key: str, snapshot: object) -> bool:
        change = self._changes.get((namespace, key))
        return change is None or fresh(self, namespace, key, snapshot)  # pyright: ignore[reportArgumentType]

    ChangeFeed.fresh = believing


def own_note_instead_of_the_heard() -> None:
    """What a process tells of its own change takes the place of what it heard of others since."""
    ChangeFeed.note_own = ChangeFeed.note


def late_loads_are_shared() -> None:
    """Who asks after a change is given what a load that began before it finds."""
    forget_older = Cache._forget_older

    def keeping(self: Cache[Any], key: str, xid: int) -> None:
        loading = self._loading.get(key)
        forget_older(self, key, xid)
        if loading is not None:
            self._loading[key] = loading

    Cache._forget_older = keeping


BREAKAGES: dict[str, Callable[[], None]] = {
    "lease without end": lease_without_end,
    "entries without version": entries_without_version,
    "old floor": old_floor,
    "own note instead of the heard": own_note_instead_of_the_heard,
    "late loads are shared": late_loads_are_shared,
}
