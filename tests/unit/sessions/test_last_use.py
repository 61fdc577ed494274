"""Uses are noted in memory and written soon: none is written twice, none that could not be written is lost."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from novadex.errors import UnavailableError
from novadex.roles import last_use
from novadex.roles.last_use import LastUse
from tests.waiting import until


class Written:
    """Where uses go; ``fails`` times it cannot be reached."""

    def __init__(self, fails: int = 0) -> None:
        self.batches: list[dict[UUID, datetime]] = []
        self.fails = fails
        self.meanwhile: list[tuple[UUID, float]] = []
        self.uses: LastUse

    async def __call__(self, ids: list[UUID], moments: list[datetime]) -> None:
        await asyncio.sleep(0)
        if self.fails:
            self.fails -= 1
            raise UnavailableError("away")
        for id, at in self.meanwhile:
            self.uses.note(id, at)
        self.meanwhile = []
        self.batches.append(dict(zip(ids, moments, strict=True)))


def of(written: Written) -> LastUse:
    written.uses = LastUse("things", written)
    return written.uses


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last_use, "WRITE_INTERVAL_S", 0.01)


async def test_the_last_use_of_each_is_written_once():
    written = Written()
    uses, one, other = of(written), uuid4(), uuid4()
    for at in (1.0, 2.0):
        uses.note(one, at)
    uses.note(other, 1.5)
    await until(lambda: written.batches)
    assert written.batches == [{one: datetime.fromtimestamp(2.0, UTC), other: datetime.fromtimestamp(1.5, UTC)}]
    await uses.close()
    assert len(written.batches) == 1


async def test_what_is_used_while_it_is_written_is_written_again():
    written = Written()
    uses, one = of(written), uuid4()
    written.meanwhile = [(one, 9.0)]
    uses.note(one, 1.0)
    await until(lambda: len(written.batches) == 2)
    assert written.batches[-1] == {one: datetime.fromtimestamp(9.0, UTC)}
    await uses.close()


async def test_what_could_not_be_written_is_tried_again():
    written = Written(fails=3)
    uses, one = of(written), uuid4()
    uses.note(one, 1.0)
    await until(lambda: written.batches)
    assert written.batches == [{one: datetime.fromtimestamp(1.0, UTC)}]
    await uses.close()


async def test_closing_writes_what_was_noted_and_does_not_fail_where_it_cannot(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(last_use, "WRITE_INTERVAL_S", 3_600.0)
    written = Written()
    uses = of(written)
    uses.note(uuid4(), 1.0)
    await uses.close()
    assert len(written.batches) == 1
    away = of(Written(fails=1))
    away.note(uuid4(), 1.0)
    await away.close()


async def test_batches_and_what_is_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(last_use, "BATCH_ROWS", 10)
    monkeypatch.setattr(last_use, "NOTED_MAX", 25)
    written = Written()
    uses = of(written)
    ids = [uuid4() for _ in range(40)]
    for id in ids:
        uses.note(id, 1.0)
    uses.note(ids[24], 2.0)
    await uses.close()
    assert [len(batch) for batch in written.batches] == [10, 10, 5]
    assert written.batches[-1][ids[24]] == datetime.fromtimestamp(2.0, UTC), "one that is noted already is kept up"
