"""The processes of the cache campaign: readers of a few users, and in each a writer of its own kind.

``python -m tests.faults.cache_programs``, with what to do as JSON in ``CACHE_PLACE``. Every read and every
acknowledged write is noted with the monotonic clock, which is one for all processes of a machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from array import array
from pathlib import Path
from typing import Any, Literal

import cachebox
import msgspec
import uvloop

from novadex.cache.cache import Loaded
from novadex.errors import NovaDexError
from novadex.instance import Endpoints
from novadex.monitoring.logs import configure_logs
from novadex.settings import load_settings
from novadex.storage.connection import DatabaseConnection
from novadex.users.service import UserService
from novadex.users.store import UserStore
from tests.faults import cache_breakage

READ_PAUSE_S_MAX = 0.003
WRITE_PAUSE_S_MAX = 0.004
LATE_WRITE_PAUSE_S_MAX = 0.02
RETRY_PAUSE_S = 0.01
SLOW_SHARE, SLOW_S_MAX = 0.005, 0.2
"""Of the answers of PostgreSQL are long under way, so that changes are heard before what was read earlier."""
LATE_S_MAX = 1.0
"""How long after its commit a writer tells its caches of it: others have written since, and that was heard."""
L1_USERS = 16
"""Fewer than there are, so that the cache server is asked too."""
STALE = 0
"""In the place of a version: a writer was given what was before its own write."""
WRITE = """
    UPDATE users SET preferences = preferences || '{"late": true}' WHERE id = $1::text::uuid
    RETURNING version, pg_current_xact_id()::text::bigint AS xid
"""
HOT_SHARE = 0.3
"""Of the reads are of the user that was written last, as far as this process knows."""


class Order(msgspec.Struct):
    """What a process is told."""

    main: str
    analytics: str
    cache: str
    listen: str
    data_dir: str
    users: list[str]
    seed: int
    readers: int
    reads: int
    """By each reader."""
    burst: int
    """Reads without letting anybody else run."""
    writer: Literal["service", "late"]
    """Through the service, or with plain SQL, telling the caches late."""
    journal: str
    breakage: str | None = None
    """How the cache is broken on purpose."""


class Journal:
    """Columns that are written at the end: when, which user, which version."""

    def __init__(self) -> None:
        self.at = array("d")
        self.user = array("L")
        self.version = array("L")

    def add(self, at: float, user: int, version: int) -> None:
        self.at.append(at)
        self.user.append(user)
        self.version.append(version)

    def write(self, path: Path) -> None:
        with path.open("wb") as file:
            for column in (self.at, self.user, self.version):
                column.tofile(file)

    @classmethod
    def read(cls, path: Path) -> Journal:
        journal = cls()
        count = path.stat().st_size // sum(c.itemsize for c in (journal.at, journal.user, journal.version))
        with path.open("rb") as file:
            for column in (journal.at, journal.user, journal.version):
                column.fromfile(file, count)
        return journal


class Program:
    def __init__(self, order: Order) -> None:
        endpoints = Endpoints(
            order.main, order.analytics, order.cache, "", listen=order.listen, data_dir=Path(order.data_dir)
        )
        self.order = order
        self.db = DatabaseConnection(endpoints, load_settings())
        self.service = UserService(self.db)
        self.store = self.db.companion(UserStore)
        users = self.store.users
        users._l1 = cachebox.LRUCache(L1_USERS)
        users._find = users._l1.get
        self._load, users._load = users._load, self._load_at_times_slowly
        self._slow = random.Random(order.seed)  # noqa: S311 - a seed is the point
        self.reads, self.writes = Journal(), Journal()
        self.failures: list[str] = []
        self.hot = 0
        self.committed_at = 0.0
        self.orphaned = False
        """The campaign is gone: it ends its programs' input only after they have read all."""

    async def run(self) -> None:
        for user in self.order.users:
            await self.service.get_user(user)
        tell("ready")
        stopping = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
        stopping.add_done_callback(lambda _: setattr(self, "orphaned", True))
        writer = asyncio.create_task(self.write() if self.order.writer == "service" else self.write_and_tell_late())
        await asyncio.gather(*(self.read(number) for number in range(self.order.readers)))
        tell("read")
        await stopping
        writer.cancel()
        await asyncio.wait([writer])
        if not writer.cancelled():
            writer.result()  # it raises what ended it
        self.reads.write(Path(f"{self.order.journal}.reads"))
        self.writes.write(Path(f"{self.order.journal}.writes"))
        counts = self.store.users.counts
        tell(
            json.dumps(
                {
                    "l1": counts.l1,
                    "l2": counts.l2,
                    "loaded": counts.loaded,
                    "untrusted": counts.untrusted,
                    "failed": len(self.failures),
                    "failures": sorted(set(self.failures))[:5],
                }
            )
        )
        await self.db.close()

    async def _load_at_times_slowly(self, key: str) -> Loaded:
        loaded = await self._load(key)
        if self._slow.random() < SLOW_SHARE:
            await asyncio.sleep(self._slow.uniform(0, SLOW_S_MAX))  # that it takes long is the point
        return loaded

    async def read(self, number: int) -> None:
        order, chance = self.order, random.Random(self.order.seed * 10 + number)  # noqa: S311 - a seed is the point
        done = 0
        while done < order.reads and not self.orphaned:
            for _ in range(min(order.burst, order.reads - done)):
                index = self.hot if chance.random() < HOT_SHARE else chance.randrange(len(order.users))
                began = time.monotonic()
                try:
                    user = await self.service.get_user(order.users[index])
                except NovaDexError as error:
                    self.failures.append(f"{error.code}: {error.message}")
                    continue
                self.reads.add(began, index, user.version)
                done += 1
            await asyncio.sleep(chance.uniform(0, READ_PAUSE_S_MAX))  # others run; not a wait for something

    async def write(self) -> None:
        """One user after the other, until cancelled. A write counts from the answer to its COMMIT.

        The other writer leaves ``number`` as it is, and adds ``late``, which this one takes away.
        """
        order, chance = self.order, random.Random(self.order.seed)  # noqa: S311 - a seed is the point
        heard = self.store.heard

        async def noting() -> None:
            self.committed_at = time.monotonic()
            await heard()

        self.store.heard = noting
        number = 0
        while True:
            index, number = chance.randrange(len(order.users)), number + 1
            try:
                user = await self.service.update_user(order.users[index], preferences={"number": number})
            except NovaDexError as error:
                self.failures.append(f"write {error.code}: {error.message}")
                await asyncio.sleep(RETRY_PAUSE_S)
                continue
            if user.preferences.get("number") != number:
                self.writes.add(self.committed_at, index, STALE)
            elif "late" not in user.preferences:  # else the other one wrote since: whose version it is, is not known
                self.writes.add(self.committed_at, index, user.version)
            self.hot = index
            await asyncio.sleep(chance.uniform(0, WRITE_PAUSE_S_MAX))

    async def write_and_tell_late(self) -> None:
        """The same, in another process. What it tells of its own change comes after newer ones were heard."""
        order, chance = self.order, random.Random(self.order.seed)  # noqa: S311 - a seed is the point
        async with asyncio.TaskGroup() as telling:
            while True:
                index = chance.randrange(len(order.users))
                try:
                    async with self.db.transaction() as session:
                        [row] = await session.query(WRITE, [order.users[index]])
                except NovaDexError as error:
                    self.failures.append(f"late write {error.code}: {error.message}")
                    await asyncio.sleep(RETRY_PAUSE_S)
                    continue
                self.writes.add(time.monotonic(), index, row.version)
                self.hot = index
                telling.create_task(self.tell_late(order.users[index], row.xid, chance.uniform(0, LATE_S_MAX)))
                await asyncio.sleep(chance.uniform(0, LATE_WRITE_PAUSE_S_MAX))

    async def tell_late(self, user: str, xid: int, delay_s: float) -> None:
        await asyncio.sleep(delay_s)  # that it is late is the point
        await self.store.users.changed(user, xid)


def tell(line: str) -> None:
    print(line, flush=True)


def main() -> None:
    configure_logs("campaign", "error")  # standard output is the campaign's
    order: Any = msgspec.json.decode(os.environ["CACHE_PLACE"], type=Order)
    if order.breakage:
        cache_breakage.BREAKAGES[order.breakage]()

    async def run() -> None:
        await Program(order).run()

    uvloop.run(run())


if __name__ == "__main__":
    main()
