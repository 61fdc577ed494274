"""Snapshots: which transactions one has seen, and which snapshot is later."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from novadex.cache.snapshots import Snapshot


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[Snapshot, set[int]]]:
    """Snapshots of one server, one after the other, each with the transactions that had finished by then."""
    next_xid, running, finished = draw(st.integers(1, 1000)), set[int](), set[int]()
    taken: list[tuple[Snapshot, set[int]]] = []
    for moment, step in enumerate(draw(st.lists(st.sampled_from(["begin", "finish", "take"]), max_size=40))):
        if step == "begin":
            running.add(next_xid)
            next_xid += 1
        elif step == "finish" and running:
            xid = draw(st.sampled_from(sorted(running)))
            running.remove(xid)
            finished.add(xid)
        elif step == "take":
            between = ",".join(map(str, sorted(running)))
            mark = f"{min(running, default=next_xid)}:{next_xid}:{between}@{moment}"
            taken.append((Snapshot.parse(mark), set(finished)))
    return taken


@given(histories())
def test_a_snapshot_sees_what_had_finished_and_nothing_else(taken):
    begun = {xid for _, finished in taken for xid in finished}
    for snapshot, finished in taken:
        for xid in begun:
            assert snapshot.sees(xid) == (xid in finished)
        assert not snapshot.sees(snapshot.xmax)


@given(histories())
def test_a_later_snapshot_covers_an_earlier_one_and_not_the_other_way_round(taken):
    for (earlier, _), (later, _) in pairwise(taken):
        assert later.covers(earlier)
        assert not earlier.covers(later)
        assert earlier.covers(earlier)


def test_after_a_crash_the_same_transaction_ids_do_not_make_an_old_snapshot_new():
    before_the_crash, after = Snapshot.parse("20:20:@1000"), Snapshot.parse("15:15:@2000")
    assert not before_the_crash.covers(after)
    assert not after.covers(before_the_crash)
