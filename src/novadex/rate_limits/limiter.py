"""How often somebody may call: counted in the cache server, so that all processes share the counts."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from novadex import metrics
from novadex.cache.cache import KEY_START, Caches

if TYPE_CHECKING:
    from novadex.storage.connection import DatabaseConnection

WINDOW = Path(__file__).with_name("window.lua").read_text(encoding="ascii")
CALLER_HASH_BYTES = 16


@dataclass(frozen=True, slots=True)
class RateLimit:
    """So many calls in any so many seconds."""

    name: str
    calls: int
    window_s: int = 60


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a call is let in, under one limit."""

    limit: RateLimit
    allowed: bool
    remaining: int
    """Calls that would be let in now."""
    wait_s: float
    """Seconds until one more would be; 0 where one would be now."""


class RateLimiter:
    """``db.companion(RateLimiter)`` gives the one of a connection.

    A sliding window: calls of this window, and those of the one before by the share of it that still counts, as if
    they had been spread evenly. Where all of them came at its end, nearly twice the limit can come within one window;
    over a longer time nobody gets more than the limit.
    """

    def __init__(self, db: DatabaseConnection) -> None:
        self._server = db.companion(Caches).servers["cache"]

    async def hit(self, limit: RateLimit, caller: str) -> Verdict | None:
        """Count a call. None where the cache server cannot say: then it is let in, and counted as unchecked."""
        # Callers are network addresses and ids: the cache server keeps their hash, of one length.
        hashed = blake2b(caller.encode(), digest_size=CALLER_HASH_BYTES).hexdigest()
        key = f"{KEY_START}rate:{limit.name}:{hashed}"
        answer = await self._server.run_script(WINDOW, key, limit.calls, limit.window_s * 1000)
        if answer is None:
            metrics.rate_limit_unchecked.labels(limit.name).inc()
            return None
        allowed, remaining, wait_ms = answer
        if not allowed:
            metrics.rate_limited.labels(limit.name).inc()
        return Verdict(limit, bool(allowed), remaining, wait_ms / 1000)

    async def close(self) -> None:
        """Nothing of its own to close."""
