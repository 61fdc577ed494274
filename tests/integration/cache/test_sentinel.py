"""The cache over a master that Sentinels watch, and which is killed."""

from __future__ import annotations

from novadex.cache.cache import Caches
from novadex.monitoring.cache_probe import CacheProbe
from novadex.storage.connection import DatabaseConnection
from novadex.users.service import UserService
from novadex.users.store import UserStore
from tests.integration.cache.groups import SentinelGroup
from tests.integration.cache.readers import reading_and_writing
from tests.servers import valkey_binary
from tests.waiting import until

FAILOVER_S_MAX = 30.0


async def test_the_cache_follows_to_the_new_master(fresh_databases, users, servers_folder, binaries_folder):
    ids = [str(id) for id in users(10)]
    group = SentinelGroup(servers_folder / "sentinels", valkey_binary(binaries_folder))
    try:
        await group.start()
        master, replica = group.servers
        places = {"cache": group.url, "sessions": group.url}
        async with fresh_databases.connection(**places) as one, fresh_databases.connection(**places) as other:
            for db in (one, other):
                await until(db.companion(Caches).feed.confirm)

            async def served() -> bool:
                """What one process keeps, the other finds."""
                await _read_anew(one, ids)
                return await _read_anew(other, ids) == len(ids)

            await until(served)
            assert master.call("DBSIZE") > 0
            probe = CacheProbe("sessions", group.url)
            assert await probe.look(5.0) is None
            assert probe.info["role"] == "master"

            async with reading_and_writing(one, [one, other], ids) as findings:
                await until(lambda: findings.reads > 500)
                master.kill()
                await until(lambda: group.master_port() == replica.port, FAILOVER_S_MAX)
                before = findings.reads, findings.writes
                await until(lambda: findings.reads > before[0] + 500 and findings.writes > before[1] + 20)
            assert findings.stale == 0
            await until(served, FAILOVER_S_MAX)
            assert replica.call("INFO", "replication")["role"] == "master"
            assert await probe.look(5.0) is None
            assert probe.info["tcp_port"] == replica.port
            await probe.close()
    finally:
        await group.stop()


async def _read_anew(db: DatabaseConnection, ids: list[str]) -> int:
    """How many a process that knows none of them finds in the cache server."""
    cache = db.companion(UserStore).users
    cache._l1.clear()
    before = cache.counts.l2
    for id in ids:
        await UserService(db).get_user(id)
    return cache.counts.l2 - before
