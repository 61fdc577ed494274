"""Transaction ids become moments only when nothing that began before them can still come."""

from datetime import UTC, datetime, timedelta

from novadex.analytics.log import SAMPLES_KEPT, LogSample, Watermarks
from novadex.analytics.position import MainIdentity

START = datetime(2024, 8, 8, tzinfo=UTC)


def sample(second, next_xid):
    return LogSample(MainIdentity(1, 1, 1), START + timedelta(seconds=second), 0, next_xid, next_xid, waiting=False)


def test_a_moment_is_reached_when_all_ids_given_out_before_it_are_applied():
    marks = Watermarks()
    assert marks.reached(100) is None
    marks.note(sample(1, 10))
    marks.note(sample(2, 12))
    assert marks.reached(9) is None
    assert marks.reached(10) == START + timedelta(seconds=1)
    assert marks.reached(11) == START + timedelta(seconds=1)
    assert marks.reached(50) == START + timedelta(seconds=2)


def test_a_long_wait_keeps_few_samples_and_loses_no_truth():
    marks = Watermarks()
    for second in range(10 * SAMPLES_KEPT):
        marks.note(sample(second, 100 + second))
    assert len(marks._samples) <= SAMPLES_KEPT
    reached = marks.reached(100 + 7 * SAMPLES_KEPT)
    assert reached is not None
    assert START < reached <= START + timedelta(seconds=7 * SAMPLES_KEPT)


def test_another_life_forgets():
    marks = Watermarks()
    marks.note(sample(1, 10))
    assert marks.reached(10) is not None
    marks.forget()
    assert marks.reached(1000) is None
