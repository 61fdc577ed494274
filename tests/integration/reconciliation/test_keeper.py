"""The worker's jobs look at every invariant part by part, and show what they find."""

from novadex.metrics import REGISTRY
from novadex.reconciliation.keeper import Watch
from novadex.reconciliation.records import Finding, Slice
from novadex.reconciliation.service import checks_of_app, checks_of_worker


def metric(name: str, invariant: str) -> float:
    return REGISTRY.get_sample_value(f"novadex_invariant_{name}", {"invariant": invariant}) or 0.0


async def test_a_round_over_every_invariant_ends_and_finds_nothing(kept):
    for check in [*checks_of_worker(kept.worker), *checks_of_app(kept.app)]:
        watch = Watch(check)
        looks = 0
        while not await watch.look():
            looks += 1
            assert looks < 200, check.name
        assert metric("differences", check.name) == 0, check.name
        assert metric("last_checked_timestamp_seconds", check.name) > 1.7e9
        assert metric("checked_total", check.name) > 0, check.name


class Parts:
    """A check of two parts, of which the first has what it is told to have."""

    name = "parts"
    invariant = "Nothing is wrong."
    wrong = 3

    async def slice(self, after, found):
        for number in range(self.wrong if after is None else 0):
            found(Finding(self.name, "things", {"id": str(number)}, None, None))
        return Slice(1, "second" if after is None else None)


async def test_differences_are_shown_from_the_part_that_has_them_until_a_whole_round_has_none():
    check = Parts()
    watch = Watch(check)  # pyright: ignore[reportArgumentType]
    assert await watch.look()
    assert metric("differences", "parts") == 3
    check.wrong = 0
    assert await watch.look()
    assert metric("differences", "parts") == 0


class PartlySkipped:
    """A check of two parts, of which the first cannot be compared."""

    name = "partly skipped"
    invariant = "Nothing is wrong."
    skipped: str | None = "It is far behind."

    async def slice(self, after, found):
        if after is None:
            return Slice(0, "second", self.skipped)
        found(Finding(self.name, "things", {"id": "1"}, None, None))
        return Slice(1)


async def test_a_part_that_cannot_be_compared_keeps_no_other_from_it_but_the_round_is_not_whole():
    check = PartlySkipped()
    watch = Watch(check)  # pyright: ignore[reportArgumentType]
    assert await watch.look()
    assert metric("differences", check.name) == 1
    assert metric("last_checked_timestamp_seconds", check.name) == 0
    check.skipped = None
    assert await watch.look()
    assert metric("last_checked_timestamp_seconds", check.name) > 1.7e9
