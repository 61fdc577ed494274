"""Validating a session and reading a user, from the process and through the cache server, beside a bare GET.

The bare GET is the same client library's, of the same entries, on the same server, by as many callers. Every
figure is the median of interleaved rounds.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from benchmarks.figures import Figure
from novadex import DatabaseConnection
from novadex.cache.cache import Cache
from novadex.cache.servers import open_client
from novadex.sessions.service import SessionService
from novadex.sessions.store import SessionStore
from novadex.users.service import UserService
from novadex.users.store import UserStore

CALLERS = 64
RECORDS = 5_000
ROUNDS = 5
L1_ROUNDS_OF_ALL = 20
READS_AT_A_TIME = 200
"""Reads from the process never wait; now and then a caller lets others run, as a program would."""
FILLERS = 32
L1_WANTED, L2_WANTED = 20.0, 0.8

Read = Callable[[Any], Awaitable[Any]]


async def run(db: DatabaseConnection) -> list[Figure]:
    users, sessions = UserService(db), SessionService(db)
    ids: list[str] = []
    tokens: list[str] = []

    async def add(number: int) -> None:
        user = await users.create_user(
            username=f"user{number}", email=f"user{number}@example.com", wallet_address=f"0x{number:040x}"
        )
        ids.append(str(user.id))
        tokens.append((await sessions.create(user.id, device="Firefox on Linux")).token)

    await _share(range(RECORDS), FILLERS, add)
    stores: Any = (db.companion(SessionStore).cache, db.companion(UserStore).users)
    return [
        *await _compare("validate a session", stores[0], sessions.validate, tokens, db.endpoints.sessions),
        *await _compare("read a user", stores[1], users.get_user, ids, db.endpoints.cache),
    ]


async def _compare(what: str, cache: Cache[Any], read: Read, keys: Sequence[str], url: str) -> list[Figure]:
    rates: dict[str, list[float]] = {"get": [], "l2": [], "l1": []}
    client = open_client(url, connections_max=CALLERS, command_s_max=5)
    try:
        for key in keys:  # both levels are filled
            await read(key)
        entries = [key async for key in client.scan_iter(f"*:{cache.namespace}:*", count=1_000)]
        assert len(entries) >= len(keys), f"{len(entries)} entries of {cache.namespace}"
        for _ in range(ROUNDS):
            rates["get"].append(await _timed(entries[: len(keys)], client.get))
            cache._l1.clear()  # noqa: SLF001 - as after a start of the process
            before = cache.counts.l2
            rates["l2"].append(await _timed(keys, read))
            assert cache.counts.l2 - before >= 0.99 * len(keys), "these were to come through the cache server"
            before = cache.counts.l1
            rates["l1"].append(await _timed(list(keys) * L1_ROUNDS_OF_ALL, read, at_a_time=READS_AT_A_TIME))
            assert cache.counts.l1 - before >= 0.9 * len(keys) * L1_ROUNDS_OF_ALL, "these were to come from here"
    finally:
        await client.aclose()
    get = statistics.median(rates["get"])

    def figure(name: str, level: str, wanted: float) -> Figure:
        rate = statistics.median(rates[level])
        return Figure(
            f"{what}, {name}, {CALLERS} callers", rate, "/s", "bare GET", get, rate / get, wanted, f"{ROUNDS} rounds"
        )

    return [figure("warm in the process", "l1", L1_WANTED), figure("through the server", "l2", L2_WANTED)]


async def _timed(keys: Sequence[Any], read: Read, *, at_a_time: int = 0) -> float:
    began = time.perf_counter()
    await _share(keys, CALLERS, read, at_a_time=at_a_time)
    return len(keys) / (time.perf_counter() - began)


async def _share(keys: Sequence[Any], callers: int, read: Read, *, at_a_time: int = 0) -> None:
    """All keys, each read by one of so many callers."""

    async def call(mine: Sequence[Any]) -> None:
        for number, key in enumerate(mine, 1):
            await read(key)
            if at_a_time and number % at_a_time == 0:
                await asyncio.sleep(0)

    await asyncio.gather(*(call(keys[caller::callers]) for caller in range(callers)))
