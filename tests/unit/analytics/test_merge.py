"""Two ordered streams are walked through side by side."""

from hypothesis import given
from hypothesis import strategies as st

from novadex.analytics.merge import side_by_side
from novadex.storage.rows import Row

tables = st.dictionaries(st.tuples(st.integers(0, 5), st.integers(0, 5)), st.integers(0, 1), max_size=12)


async def stream(table):
    for (a, b), value in sorted(table.items()):
        yield Row(a=str(a), b=str(b), value=value)


@given(left=tables, right=tables)
async def test_every_key_comes_once_with_what_each_side_has(left, right):
    pairs = [pair async for pair in side_by_side(stream(left), stream(right), ("a", "b"))]
    keys = []
    for ours, theirs in pairs:
        row = ours or theirs
        assert row is not None
        key = (int(row.a), int(row.b))
        keys.append(key)
        assert (ours and ours.value) == left.get(key)
        assert (theirs and theirs.value) == right.get(key)
    assert keys == sorted(left.keys() | right.keys())


async def test_a_key_without_a_value_sorts_first():
    async def infinite():
        yield Row(a=None, value=1)
        yield Row(a="2024", value=1)

    async def known():
        yield Row(a="2024", value=1)

    pairs = [pair async for pair in side_by_side(infinite(), known(), ("a",))]
    assert [(ours is None, theirs is None) for ours, theirs in pairs] == [(False, True), (False, False)]
