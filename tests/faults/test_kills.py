"""Writers write while parts of an instance are killed: nothing acknowledged is lost, nothing is there twice."""

import pytest

from tests.faults.campaign import TARGETS, run


@pytest.mark.parametrize(("seed", "kills"), [(1, 8), (2, 8)])
def test_kills_at_random_moments_lose_and_double_nothing(seed, kills):
    trades, killed = run(kills, seed, in_memory=True)
    assert killed.total() >= kills
    assert set(killed) == set(TARGETS)
    assert trades > 0
