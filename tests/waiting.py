"""Waiting for something to become true, with a bound: tests do not sleep and hope."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from novadex.cache.cache import Cache

V = TypeVar("V")

POLL_S = 0.01


async def until(condition: Callable[[], object | Awaitable[object]], within_s: float = 10.0) -> None:
    """Return as soon as ``condition()`` is true; fail where it is not ``within_s`` seconds from now."""
    deadline = time.monotonic() + within_s
    while True:
        found = condition()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return
        assert time.monotonic() < deadline, f"not true within {within_s} s: {inspect.getsource(condition).strip()}"
        await asyncio.sleep(POLL_S)


async def kept(cache: Cache[V], key: str, read: Callable[[], Awaitable[object]]) -> V:
    """What this process keeps under a key once it was read: it keeps it under a lease, which can be over by then."""
    found: list[V] = []

    async def is_kept() -> bool:
        await read()
        value = cache.peek(key)
        found.extend([] if value is None else [value])
        return bool(found)

    await until(is_kept)
    return found[0]
