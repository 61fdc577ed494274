"""Pauses between attempts: bounded, growing, and never the same for all."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from novadex.notifications.backoff import DELAY_S_MAX, delay_s

bases = st.floats(0.001, 3_600)
jitters = st.floats(0, 1)


@given(attempt=st.integers(1, 10_000), base_s=bases, jitter=jitters)
def test_a_pause_is_between_half_and_all_of_the_full_one(attempt: int, base_s: float, jitter: float):
    full = delay_s(attempt, base_s, 1.0)
    assert full / 2 <= delay_s(attempt, base_s, jitter) <= full <= DELAY_S_MAX
    assert math.isfinite(full)
    assert full > 0


@given(attempt=st.integers(1, 100), base_s=bases)
def test_the_full_pause_doubles_until_the_longest(attempt: int, base_s: float):
    now, then = delay_s(attempt, base_s, 1.0), delay_s(attempt + 1, base_s, 1.0)
    assert then in {min(DELAY_S_MAX, now * 2), now}
    assert then >= now


@given(attempt=st.integers(1, 50), base_s=bases, first=jitters, second=jitters)
def test_more_jitter_is_never_a_shorter_pause(attempt: int, base_s: float, first: float, second: float):
    low, high = sorted((first, second))
    assert delay_s(attempt, base_s, low) <= delay_s(attempt, base_s, high)
