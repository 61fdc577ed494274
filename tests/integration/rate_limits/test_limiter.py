"""Rate limits on a real Valkey: the window against a model, shared by processes, open where the server is away."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import Awaitable, Callable
from fractions import Fraction

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from novadex import metrics
from novadex.rate_limits.limiter import WINDOW, RateLimit, RateLimiter
from novadex.storage.connection import DatabaseConnection
from tests.conftest import DatabasePair
from tests.proxy import Proxy
from tests.servers import ValkeyServer

pytestmark = pytest.mark.on_redis_too

LIMIT = RateLimit("test", 5, 60)
WITH_CLOCK = WINDOW.replace("redis.call('TIME')", "{ARGV[3], ARGV[4]}")
"""The script with the clock of the test."""
NOW_MS = 1_700_000_000_000


class Model:
    """The calls that were let in, by window; exact."""

    def __init__(self, calls: int, window_ms: int) -> None:
        self.calls, self.window_ms = calls, window_ms
        self.let_in: dict[int, int] = defaultdict(int)

    def weight(self, now_ms: int) -> Fraction:
        number, passed = divmod(now_ms, self.window_ms)
        before = Fraction(self.let_in[number - 1] * (self.window_ms - passed), self.window_ms)
        return before + self.let_in[number]

    def hit(self, now_ms: int) -> tuple[bool, int]:
        allowed = self.weight(now_ms) + 1 <= self.calls
        if allowed:
            self.let_in[now_ms // self.window_ms] += 1
        return allowed, max(0, math.floor(self.calls - self.weight(now_ms)))


@settings(max_examples=300, deadline=None)
@given(
    calls=st.integers(1, 20),
    window_s=st.sampled_from([1, 60]),
    gaps=st.lists(st.one_of(st.integers(0, 50), st.integers(0, 130_000)), max_size=60),
)
def test_it_agrees_with_the_model_at_every_call(
    cache_server: ValkeyServer, calls: int, window_s: int, gaps: list[int]
):
    with redis.Redis.from_url(cache_server.url) as client:
        client.flushdb()
        script = client.register_script(WITH_CLOCK)
        model, now_ms, window_ms = Model(calls, window_s * 1000), NOW_MS, window_s * 1000
        for gap in gaps:
            now_ms += gap
            answer = script(keys=["k"], args=[calls, window_ms, now_ms // 1000, now_ms % 1000 * 1000])
            allowed, remaining = model.hit(now_ms)
            assert answer[:2] == [int(allowed), remaining]
            if remaining:
                assert answer[2] == 0
            else:
                # One more is let in then, and not a millisecond sooner (two, for the rounding of floats).
                assert model.weight(now_ms + answer[2]) + 1 <= calls + Fraction(1, 10**6)
                assert model.weight(now_ms + answer[2] - 2) + 1 > calls or answer[2] <= 2
        assert 0 <= client.pttl("k") <= 2 * window_ms or not gaps


@pytest.fixture
async def db(fresh_databases: DatabasePair, cache_url: str):
    async with fresh_databases.connection(cache=cache_url) as connection:
        yield connection


async def test_callers_and_limits_are_counted_apart(db: DatabaseConnection):
    limiter = db.companion(RateLimiter)
    verdicts = [await limiter.hit(LIMIT, "alice") for _ in range(7)]
    assert [v.allowed for v in verdicts if v] == [True] * 5 + [False] * 2
    assert [v.remaining for v in verdicts if v] == [4, 3, 2, 1, 0, 0, 0]
    assert all(0 < v.wait_s <= 120 for v in verdicts[4:] if v)
    for limit, caller in ((LIMIT, "bob"), (RateLimit("other", 5), "alice")):
        verdict = await limiter.hit(limit, caller)
        assert verdict
        assert verdict.remaining == 4


async def test_processes_share_the_counts(fresh_databases: DatabasePair, cache_url: str):
    async with fresh_databases.connection(cache=cache_url) as one, fresh_databases.connection(cache=cache_url) as two:
        limiters = [one.companion(RateLimiter), two.companion(RateLimiter)]
        verdicts = await asyncio.gather(*(limiters[n % 2].hit(LIMIT, "alice") for n in range(40)))
    assert sum(v.allowed for v in verdicts if v) == 5


async def test_nothing_of_the_caller_is_in_the_cache_server(db: DatabaseConnection, cache_server: ValkeyServer):
    await db.companion(RateLimiter).hit(LIMIT, "address:203.0.113.77")
    with redis.Redis.from_url(cache_server.url) as client:
        [key] = client.keys("*rate*")
        assert "203.0.113.77" not in str(key)
        assert 0 < client.pttl(key) <= 120_000


async def test_without_a_cache_server_calls_are_let_in_and_counted(fresh_databases: DatabasePair):
    before = unchecked()
    async with fresh_databases.connection() as db:
        assert await db.companion(RateLimiter).hit(LIMIT, "alice") is None
    assert unchecked() == before + 1


async def test_while_the_cache_server_is_silent_calls_are_let_in_and_only_the_first_waits(
    fresh_databases: DatabasePair, cache_url: str, proxy: Callable[[str], Awaitable[Proxy]]
):
    link = await proxy(cache_url)
    async with fresh_databases.connection(cache=link.url) as db:
        limiter = db.companion(RateLimiter)
        assert await limiter.hit(LIMIT, "alice")
        link.stall()
        assert await limiter.hit(LIMIT, "alice") is None
        async with asyncio.timeout(5):  # 1,000 calls that waited 0.1 s each would take 100
            for _ in range(1_000):
                assert await limiter.hit(LIMIT, "alice") is None
        link.resume()


def unchecked() -> float:
    return metrics.rate_limit_unchecked.labels(LIMIT.name)._value.get()
