"""How long to wait before the next attempt: exponential, bounded, with jitter."""

from __future__ import annotations

DELAY_S_MAX = 3_600.0
DOUBLINGS_MAX = 30
"""2 to this power times any base is above every bound: no float overflows."""


def delay_s(attempt: int, base_s: float, jitter: float, *, longest_s: float = DELAY_S_MAX) -> float:
    """Seconds after the failure of an attempt (from 1). ``jitter`` is 0 to 1, at random: what failed together does
    not come back together. The delay lies between half of the full one and the full one.

    >>> [delay_s(attempt, 5.0, 1.0) for attempt in (1, 2, 3, 20)]
    [5.0, 10.0, 20.0, 3600.0]
    >>> delay_s(3, 5.0, 0.0)
    10.0
    """
    full = min(longest_s, base_s * 2.0 ** min(attempt - 1, DOUBLINGS_MAX))
    return full * (0.5 + 0.5 * jitter)
