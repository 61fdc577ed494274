"""Waiting for something to become true, with a bound: tests do not sleep and hope."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

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
