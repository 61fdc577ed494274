"""The cache over a Cluster of six Valkeys, one of which is killed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from novadex.cache.cache import Caches
from novadex.cache.servers import close_client, open_client, scan
from novadex.cache_upkeep.service import CacheService
from novadex.errors import NovaDexError
from novadex.local.external import ExternalServer
from novadex.monitoring.cache_probe import CacheProbe
from novadex.reconciliation import cached
from novadex.storage.connection import DatabaseConnection
from novadex.users.service import UserService
from novadex.users.store import UserStore
from tests.integration.cache.groups import ClusterOfSix
from tests.integration.cache.readers import reading_and_writing
from tests.servers import valkey_binary
from tests.waiting import until

USERS = 60
FAILOVER_S_MAX = 30.0


@pytest.fixture(scope="module")
async def cluster(servers_folder, binaries_folder) -> AsyncIterator[ClusterOfSix]:
    cluster = ClusterOfSix(servers_folder / "cluster", valkey_binary(binaries_folder))
    try:
        await cluster.start()
        yield cluster
    finally:
        await cluster.stop()


async def found_in_the_cluster(db: DatabaseConnection, users: list[str]) -> int:
    """How many users a process that knows none of them finds there."""
    cache = db.companion(UserStore).users
    cache._l1.clear()
    before = cache.counts.l2
    await asyncio.gather(*(UserService(db).get_user(user) for user in users))
    return cache.counts.l2 - before


async def test_every_slot_serves_and_a_failover_loses_nothing(cluster, fresh_databases, users):
    ids = [str(id) for id in users(USERS)]
    places = {"cache": cluster.url, "sessions": cluster.url}
    async with fresh_databases.connection(**places) as one, fresh_databases.connection(**places) as other:
        for db in (one, other):
            await until(db.companion(Caches).feed.confirm)

        async def serves_every_slot() -> bool:
            """What one process keeps, the other finds."""
            await found_in_the_cluster(one, ids)
            return await found_in_the_cluster(other, ids) == USERS

        await until(serves_every_slot)
        assert all(node.call("DBSIZE") > 0 for node in cluster.primaries())

        client = open_client(cluster.url, command_s_max=5)
        keys = [key async for portion in scan(client, "novadex:*:user:*") for key in portion]
        await close_client(client)
        assert len(set(keys)) == len(keys) == USERS

        stats = await CacheService(one).stats()
        assert [(server.error, (server.keys or {})["user"]) for server in stats] == [(None, USERS)] * 2
        assert (await CacheService(one).flush(sessions=True))["cache"] >= USERS
        assert sum(node.call("DBSIZE") for node in cluster.primaries()) == 0
        await until(serves_every_slot)

        victim = cluster.primaries()[0]
        async with reading_and_writing(one, [one, other], ids) as findings:
            await until(lambda: findings.reads > 500)
            victim.kill()
            await until(cluster.whole, FAILOVER_S_MAX)
            before = findings.reads, findings.writes
            await until(lambda: findings.reads > before[0] + 500 and findings.writes > before[1] + 20)
        assert findings.stale == 0
        assert len(cluster.primaries()) == 3

        await until(serves_every_slot, FAILOVER_S_MAX)

        victim.start()
        await until(cluster.whole, FAILOVER_S_MAX)
        assert victim not in cluster.primaries()
        await until(serves_every_slot, FAILOVER_S_MAX)


async def test_cached_records_are_compared_some_at_a_time_on_every_primary(
    cluster, fresh_databases, users, monkeypatch
):
    monkeypatch.setattr(cached, "KEYS_AT_ONCE", 1)
    ids = [str(id) for id in users(USERS)]
    async with fresh_databases.connection(cache=cluster.url) as db:
        await until(db.companion(Caches).feed.confirm)

        async def keeps_all() -> bool:
            return all(await asyncio.gather(*(db.companion(UserStore).users.refill(user) for user in ids)))

        await until(keeps_all)
        check, found, parts = cached.CacheCheck(db), [], []
        after = None
        while not parts or after is not None:
            part = await check.slice(after, found.append)
            after = part.after
            parts.append(part.checked)
        assert not found
        assert sum(parts) == USERS
        assert max(parts) < USERS / 3


async def test_health_sums_the_primaries_and_says_when_slots_are_not_served(cluster):
    probe = CacheProbe("cache", cluster.url)
    assert await probe.look(5.0) is None
    counted = [node.call("INFO", "memory")["used_memory"] for node in cluster.primaries()]
    assert probe.info["used_memory"] > 2 * max(counted)

    server = ExternalServer("cache", "REDIS_URL", cluster.url)
    assert await asyncio.to_thread(server.complaint) is None
    assert "pass-of-tests" not in server.address

    # A primary and its replica: nobody has these slots.
    gone = cluster.primaries()[0]
    replica = next(n for n in cluster.nodes if n.call("INFO", "replication").get("master_port") == gone.port)
    pair = (replica, gone)
    for node in pair:
        node.kill()

    async def complaint() -> str:
        try:
            return await probe.look(2.0) or ""
        except NovaDexError as error:
            return error.message

    async def says_so() -> bool:
        return "does not serve all of its slots" in await complaint()

    await until(says_so, FAILOVER_S_MAX)
    assert probe.info == {}
    for node in pair:
        node.start()
    await until(cluster.whole, FAILOVER_S_MAX)

    async def is_well() -> bool:
        return await complaint() == ""

    await until(is_well, FAILOVER_S_MAX)
    await probe.close()
