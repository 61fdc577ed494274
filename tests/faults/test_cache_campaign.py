"""No read is older than it may be, whatever is killed, cut, stalled, stopped or put back meanwhile."""

from collections import Counter

import pytest

from tests.faults.cache_breakage import BREAKAGES
from tests.faults.cache_campaign import Report, run

pytestmark = pytest.mark.alone

CAMPAIGNS_MAX = 10


async def test_no_read_is_older_than_50_ms_whatever_is_killed_and_cut(fresh_databases, make_valkey):
    report = await run(fresh_databases, make_valkey(), reads=60_000, seed=7)
    assert report.complaints(60_000) == [], report


def test_a_campaign_that_proves_nothing_says_why():
    def whole() -> Report:
        return Report(
            reads=1_000,
            writes=Counter(service=5, late=5),
            answers=Counter(l1=1, l2=1, loaded=1, untrusted=1),
            disturbances=Counter(cut_the_feed=1),
        )

    assert whole().complaints(1_000) == []
    for field, value, said in (
        ("stale", 1, "1 reads were stale"),
        ("stale_to_the_writer", 1, "answered with what was before"),
        ("unwritten", 2, "2 reads gave what was never written"),
        ("failed", 3, "3 reads or writes failed"),
        ("reads", 999, "999 reads instead of 1000"),
        ("writes", Counter(service=5, late=0), "only"),
        ("writes", Counter(), "only"),
        ("answers", Counter(l1=1, l2=0), "no read was answered by l2"),
        ("disturbances", Counter(cut_the_feed=1, stall_the_feed=0), "never came to stall_the_feed"),
    ):
        report = whole()
        setattr(report, field, value)
        [complaint] = report.complaints(1_000)
        assert said in complaint


@pytest.mark.parametrize("breakage", sorted(BREAKAGES))
async def test_the_campaign_finds_a_cache_that_is_broken_on_purpose(fresh_databases, make_valkey, breakage):
    """Within a few short campaigns: what one of them meets is chance."""
    valkey = make_valkey()
    reports = []
    while not any(report.stale or report.stale_to_the_writer for report in reports):
        assert len(reports) < CAMPAIGNS_MAX, reports
        seed = 7 + len(reports)
        reports.append(await run(fresh_databases, valkey, reads=15_000, seed=seed, breakage=breakage))
