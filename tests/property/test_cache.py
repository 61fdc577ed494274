"""The cache against a model: a dictionary that every commit changes at once."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import AsyncExitStack
from typing import Any

import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import add_users
from tests.integration.cache.process import CachingProcess, Venue

USERS, PROCESSES = 3, 2
names = (f"name{number}" for number in itertools.count())


class Play:
    """Processes, the model, and what is done to both."""

    def __init__(self, venue: Venue, processes: list[CachingProcess], ids: list[str], server: redis.Redis) -> None:
        self.venue, self.processes, self.ids, self.server = venue, processes, ids, server
        self.model = [""] * USERS
        self.slow: list[tuple[asyncio.Task[str | None], int, set[str | None]]] = []
        self.noted: dict[Any, Any] = {}

    async def read(self, reader: CachingProcess, user: int) -> None:
        if reader.may_return.is_set():
            # What was heard now stands for the time in which an older value is allowed.
            await reader.feed.confirm()
            assert await reader.read(self.ids[user]) == self.model[user]

    async def write(self, _: CachingProcess, user: int) -> None:
        self.model[user] = next(names)
        self.venue.rename(self.ids[user], self.model[user])
        for _task, of, allowed in self.slow:
            if of == user:
                allowed.add(self.model[user])

    async def begin_slow_read(self, reader: CachingProcess, user: int) -> None:
        if reader.may_return.is_set():
            await reader.feed.confirm()
            reader.may_return.clear()
            self.slow.append((asyncio.create_task(reader.read(self.ids[user])), user, {self.model[user]}))
            await asyncio.sleep(0)

    async def end_slow_reads(self, *_: Any) -> None:
        for reader in self.processes:
            reader.may_return.set()
        for task, _user, allowed in self.slow:
            assert await task in allowed
        self.slow.clear()

    async def forget(self, reader: CachingProcess, _: int) -> None:
        reader.forget()

    async def lose_feed(self, reader: CachingProcess, _: int) -> None:
        if reader.feed._connection is not None:
            await reader.feed._connection.close()

    async def note_entries(self, *_: Any) -> None:
        self.noted = {key: self.server.get(key) for key in self.server.scan_iter("novadex:*")}

    async def put_entries_back(self, *_: Any) -> None:
        for key, entry in self.noted.items():
            if entry is not None:
                self.server.set(key, entry)

    async def empty_server(self, *_: Any) -> None:
        self.server.flushall()

    async def put_garbage(self, _: CachingProcess, user: int) -> None:
        for key in list(self.server.scan_iter("novadex:*")):
            self.server.set(key, bytes(7) + bytes([user]) + b"\x92garbage")

    async def end(self) -> None:
        await self.end_slow_reads()
        for reader in self.processes:
            for user in range(USERS):
                await self.read(reader, user)


WEIGHTS = {
    Play.read: 4,
    Play.write: 3,
    Play.begin_slow_read: 2,
    Play.end_slow_reads: 2,
    Play.forget: 3,
    Play.lose_feed: 1,
    Play.note_entries: 2,
    Play.put_entries_back: 2,
    Play.empty_server: 1,
    Play.put_garbage: 1,
}
STEPS = st.lists(
    st.tuples(
        st.sampled_from([step for step, weight in WEIGHTS.items() for _ in range(weight)]),
        st.integers(0, PROCESSES - 1),
        st.integers(0, USERS - 1),
    ),
    min_size=5,
    max_size=30,
)


def test_every_read_gives_what_was_committed_before_it_began(make_databases, cache_server):
    databases = make_databases()
    ids = [str(id) for id in add_users(databases.main_url("owner"), USERS)]

    async def follow(steps: list[Any]) -> None:
        async with AsyncExitStack() as stack:
            venue = Venue(databases, cache_server.url, stack)
            processes = [await venue.process() for _ in range(PROCESSES)]
            play = Play(venue, processes, ids, stack.enter_context(redis.Redis.from_url(cache_server.url)))
            for user in range(USERS):
                await play.write(processes[0], user)
            try:
                for step, place, user in steps:
                    await step(play, processes[place], user)
            finally:
                for reader in processes:
                    reader.may_return.set()
            await play.end()

    loop = asyncio.new_event_loop()

    @settings(max_examples=40, deadline=None)
    @given(steps=STEPS)
    def agree(steps: list[Any]) -> None:
        cache_server.flush()
        loop.run_until_complete(follow(steps))

    try:
        agree()
    finally:
        loop.close()
        databases.server.drop_database(databases.main)
        databases.server.drop_database(databases.analytics)
