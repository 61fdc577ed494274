"""The cache campaign: two writers and three readers in two processes, while what the caches stand on is disturbed.

``python -m tests.faults.cache_campaign --reads 1000000 --seed 1`` prints its figures as JSON, and ends with 3 and
the reasons where a read was stale (it began more than 50 ms after a write was acknowledged, and returned an older
version), where reads failed, or where too little happened for the figures to say anything. Meanwhile

- the cache server is killed and started again;
- connections to it and to the feed of changes (``LISTEN``) are cut, or stall;
- processes are stopped and continued;
- old entries are put back into the cache server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from bisect import bisect_right
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from novadex.storage.migrations import migrate
from tests.conftest import ROLES, DatabasePair, add_users
from tests.faults.cache_programs import STALE, Journal, Order
from tests.proxy import Proxy
from tests.servers import PostgresServer, ValkeyServer, server_folder, valkey_binary, wheel_binaries

WRITERS: tuple[Literal["service", "late"], ...] = ("service", "late")
STALE_AFTER_S = 0.050
USERS = 24
READERS_OF_PROCESS = (1, 2)
"""The first has the writer through the service, the second the one that tells late."""
READS_OF_A_WRITE_MAX = 1_000
"""With fewer writes there was too little that could be missed."""
BURST = 20
QUIET_S = (0.05, 0.4)
"""Between two disturbances."""
OUTAGE_S = (0.02, 0.4)
STALL_S = (0.02, 0.6)
LONG_STALL_S = 2.4
"""Longer than the feed waits for an answer."""
LONG_SHARE = 0.05
READY_S_MAX, REPORT_S_MAX = 30.0, 60.0


@dataclass
class Report:
    """What a campaign found."""

    reads: int = 0
    writes: Counter[str] = field(default_factory=Counter)
    """By writer."""
    stale: int = 0
    stale_to_the_writer: int = 0
    """Writes that were answered with an older version than they made: in their own process there is no delay."""
    unwritten: int = 0
    """Reads of a version that was never acknowledged, nor under way."""
    older_for_ms_max: float = 0.0
    """The longest time after the acknowledgement of a version at which a read began that returned an older one."""
    failed: int = 0
    failures: list[str] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    disturbances: Counter[str] = field(default_factory=Counter)
    """By kind; 0 where it was never the turn of one."""
    seconds: float = 0.0

    def complaints(self, reads: int) -> list[str]:
        """Why a campaign of so many reads proves nothing, or the opposite."""
        never = [kind for kind, times in self.disturbances.items() if not times]
        unused = [answer for answer, times in self.answers.items() if not times]
        found = (
            (self.stale > 0, f"{self.stale} reads were stale, by {self.older_for_ms_max} ms at most"),
            (self.stale_to_the_writer > 0, f"{self.stale_to_the_writer} writes were answered with what was before"),
            (self.unwritten > 0, f"{self.unwritten} reads gave what was never written"),
            (self.failed > 0, f"{self.failed} reads or writes failed: {'; '.join(self.failures)}"),
            (self.reads < reads, f"there were {self.reads} reads instead of {reads}"),
            (
                min(self.writes.values(), default=0) * READS_OF_A_WRITE_MAX < reads,
                f"there were only {dict(self.writes)} writes, by writer, for {reads} reads",
            ),
            (bool(never), f"it never came to {', '.join(never)}: more reads take longer"),
            (bool(unused), f"no read was answered by {', '.join(unused)}"),
        )
        return [complaint for is_so, complaint in found if is_so]


class Campaign:
    def __init__(self, databases: DatabasePair, valkey: ValkeyServer, seed: int, breakage: str | None) -> None:
        self.databases, self.valkey, self.seed, self.breakage = databases, valkey, seed, breakage
        self.random = random.Random(seed)  # noqa: S311 - a seed is the point
        self.report = Report()
        self.links: list[Proxy] = []
        self.processes: list[Process] = []
        self.journals: list[Path] = []
        self.old: dict[Any, Any] = {}

    async def run(self, reads: int, burst: int) -> Report:
        began = time.monotonic()
        users = [str(id) for id in add_users(self.databases.main_url("owner"), USERS)]
        share = reads // sum(READERS_OF_PROCESS)
        try:
            for number, readers in enumerate(READERS_OF_PROCESS):
                await self._start(number, readers, share, burst, users)
            for process in self.processes:
                await self._line(process, "ready", READY_S_MAX)
            reading = asyncio.gather(*(self._line(process, "read", None) for process in self.processes))
            disturbing = asyncio.create_task(self._disturb())
            done, _ = await asyncio.wait([reading, disturbing], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                await task  # it raises what went wrong
            disturbing.cancel()
            await asyncio.wait([disturbing])
            await self._undisturbed()
            await self._collect()
        finally:
            for process in self.processes:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
            for link in self.links:
                await link.close()
        self._judge()
        self.report.seconds = round(time.monotonic() - began, 1)
        return self.report

    async def _start(self, number: int, readers: int, reads: int, burst: int, users: list[str]) -> None:
        cache, listen = Proxy(self.valkey.url), Proxy(self.databases.main_url("app"))
        for link in (cache, listen):
            await link.accept()
        self.links += [cache, listen]
        journal = self.databases.data_dir / f"cache-campaign-{number}"
        self.journals.append(journal)
        order = Order(
            self.databases.main_url("app"),
            self.databases.analytics_url("app"),
            cache.url,
            listen.url,
            str(self.databases.data_dir),
            users,
            self.seed * 10 + number,
            readers,
            reads,
            burst,
            WRITERS[number],
            str(journal),
            self.breakage,
        )
        self.processes.append(
            await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "tests.faults.cache_programs",
                stdin=PIPE,
                stdout=PIPE,
                env={**os.environ, "CACHE_PLACE": msgspec.json.encode(order).decode()},
                cwd=Path(__file__).parents[2],
            )
        )

    async def _line(self, process: Process, wanted: str | None, within_s: float | None) -> str:
        assert process.stdout is not None
        async with asyncio.timeout(within_s):
            line = (await process.stdout.readline()).decode().strip()
        assert line, f"process {process.pid} ended"
        assert wanted in (None, line), f"process {process.pid} said {line!r} instead of {wanted!r}"
        return line

    # Disturbances

    async def _disturb(self) -> None:
        kinds: list[Callable[[], Awaitable[None]]] = [
            self.kill_the_cache_server,
            self.cut_the_cache,
            self.stall_the_cache,
            self.cut_the_feed,
            self.stall_the_feed,
            self.stop_a_process,
            self.put_old_entries_back,
            self.put_old_entries_back,
        ]
        self.report.disturbances.update({kind.__name__: 0 for kind in kinds})
        while True:
            self.random.shuffle(kinds)  # each in its turn, so that a short campaign has them all
            for kind in kinds:
                await self._pause(QUIET_S)
                await kind()
                self.report.disturbances[kind.__name__] += 1

    async def _pause(self, bounds: tuple[float, float]) -> None:
        await asyncio.sleep(self.random.uniform(*bounds))  # a random moment, not a wait for something

    async def kill_the_cache_server(self) -> None:
        self.valkey.kill()
        await self._pause(OUTAGE_S)
        self.valkey.start()

    async def cut_the_cache(self) -> None:
        self._link("cache").cut()

    async def stall_the_cache(self) -> None:
        await self._stall(self._link("cache"))

    async def cut_the_feed(self) -> None:
        self._link("feed").cut()

    async def stall_the_feed(self) -> None:
        await self._stall(self._link("feed"))

    async def stop_a_process(self) -> None:
        process = self.random.choice(self.processes)
        process.send_signal(signal.SIGSTOP)
        try:
            await self._pause(STALL_S)
        finally:
            process.send_signal(signal.SIGCONT)

    async def put_old_entries_back(self) -> None:
        """What stood there at the time before, over whatever stands there now."""
        with_entries = Redis.from_url(self.valkey.url, socket_timeout=5)
        try:
            for key, entry in self.old.items():
                await with_entries.set(key, entry, px=60_000)
            keys = [key async for key in with_entries.scan_iter("novadex:*:user:*", count=1_000)]
            entries = await with_entries.mget(keys) if keys else []
            self.old = {key: entry for key, entry in zip(keys, entries, strict=True) if entry}
        except RedisError as error:
            raise AssertionError("the cache server was to be there") from error
        finally:
            await with_entries.aclose()

    def _link(self, to: str) -> Proxy:
        return self.random.choice(self.links[0::2] if to == "cache" else self.links[1::2])

    async def _stall(self, link: Proxy) -> None:
        link.stall()
        try:
            if self.random.random() < LONG_SHARE:
                await asyncio.sleep(LONG_STALL_S)
            else:
                await self._pause(STALL_S)
        finally:
            link.resume()

    async def _undisturbed(self) -> None:
        if self.valkey.process is None:
            self.valkey.start()

    # What came of it

    async def _collect(self) -> None:
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in self.processes:
            said = json.loads(await self._line(process, None, REPORT_S_MAX))
            self.report.failed += said.pop("failed")
            self.report.failures += said.pop("failures")
            self.report.answers.update(said)
            assert await process.wait() == 0

    def _judge(self) -> None:
        report = self.report
        acknowledged: dict[int, tuple[list[float], list[int]]] = {user: ([], []) for user in range(USERS)}
        writes: list[tuple[float, int, int]] = []
        for writer, path in zip(WRITERS, self.journals, strict=True):
            journal = Journal.read(Path(f"{path}.writes"))
            report.writes[writer] = len(journal.at)
            writes += zip(journal.at, journal.user, journal.version, strict=True)
        for at, user, version in sorted(writes):
            moments, versions = acknowledged[user]
            if version == STALE:
                report.stale_to_the_writer += 1
            elif not versions or version > versions[-1]:  # else a newer one was acknowledged before
                moments.append(at)
                versions.append(version)
        for path in self.journals:
            reads = Journal.read(Path(f"{path}.reads"))
            report.reads += len(reads.at)
            for began, user, version in zip(reads.at, reads.user, reads.version, strict=True):
                moments, versions = acknowledged[user]
                place = bisect_right(moments, began)  # so many versions were acknowledged by then
                if place and versions[place - 1] > version:
                    newer = bisect_right(versions, version)
                    late_s = began - moments[newer]
                    report.older_for_ms_max = max(report.older_for_ms_max, round(late_s * 1000, 1))
                    report.stale += late_s > STALE_AFTER_S
                if versions and version > versions[-1] + len(WRITERS):  # under way
                    report.unwritten += 1


async def run(
    databases: DatabasePair,
    valkey: ValkeyServer,
    *,
    reads: int,
    seed: int,
    burst: int = BURST,
    breakage: str | None = None,
) -> Report:
    """A campaign on servers that are there."""
    return await Campaign(databases, valkey, seed, breakage).run(reads, burst)


@contextmanager
def servers() -> Iterator[tuple[DatabasePair, ValkeyServer]]:
    """A PostgreSQL with both databases, and a Valkey."""
    folder, binaries = server_folder("novadex-cache-campaign-", in_memory=True), server_folder("novadex-binaries-")
    postgres = PostgresServer(wheel_binaries(binaries), folder / "postgres")
    valkey = ValkeyServer(folder / "valkey", valkey_binary(binaries))
    try:
        postgres.start()
        valkey.start()
        postgres.make_roles(*(f"novadex_{role}" for role in ROLES))
        databases = DatabasePair(postgres, "main", "analytics")
        for name in ("main", "analytics"):
            postgres.make_database(name, owner="novadex_owner")
        migrate(databases.main_url("owner"), "main")
        migrate(databases.analytics_url("owner"), "analytics")
        yield databases, valkey
    finally:
        postgres.stop(signal.SIGQUIT)
        valkey.stop()
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(binaries, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Disturb the caches, and see that no read is older than it may be.")
    parser.add_argument("--reads", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--break", dest="breakage", help="Break the cache on purpose: a name of cache_breakage.py.")
    arguments = parser.parse_args()
    with servers() as (databases, valkey):
        report = asyncio.run(
            run(databases, valkey, reads=arguments.reads, seed=arguments.seed, breakage=arguments.breakage)
        )
    print(json.dumps(msgspec.to_builtins(report), indent=2))
    complaints = report.complaints(arguments.reads // sum(READERS_OF_PROCESS) * sum(READERS_OF_PROCESS))
    for complaint in complaints:
        print(f"cache campaign: {complaint}", file=sys.stderr)
    sys.exit(3 if complaints else 0)


if __name__ == "__main__":
    main()
