"""Looks at a cache or session server: it answers, takes writes, and has room. Of a Cluster, at every primary."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from redis.asyncio.cluster import RedisCluster
from redis.exceptions import AuthenticationError, RedisClusterException, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from novadex.cache.servers import close_client, open_client
from novadex.errors import TimeoutExceededError, UnavailableError
from novadex.monitoring.logs import mask_secrets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FULL_SHARE = 0.95
"""Of ``maxmemory``, for a server that evicts nothing."""
SUMS = ("keyspace_hits", "keyspace_misses", "evicted_keys", "used_memory", "connected_clients")
"""What primaries of a Cluster count, each for itself."""


class CacheProbe:
    """Through connections of its own. ``info`` is what the server last said of itself, or the primaries together."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self.info: Mapping[str, Any] = {}
        self._url = url
        self._client: Any = None

    def __repr__(self) -> str:
        return f"CacheProbe({self.name!r})"

    async def look(self, deadline_s: float) -> str | None:
        try:
            async with asyncio.timeout(deadline_s):
                infos = await self._ask(deadline_s)
        except (TimeoutError, RedisTimeoutError):
            await self._fail()
            raise TimeoutExceededError(f"{self.name} did not answer within {deadline_s:g} s.") from None
        except AuthenticationError as error:
            await self._fail()
            raise UnavailableError(f"{self.name} refused the password: {error}.") from None
        except (RedisError, RedisClusterException, OSError) as error:
            await self._fail()
            raise UnavailableError(f"{self.name} does not answer: {mask_secrets(str(error))}.") from None
        except UnavailableError:
            await self._fail()
            raise
        self.info = infos[0] | {name: sum(info.get(name, 0) for info in infos) for name in SUMS}
        warnings = [warning for info in infos if (warning := self._judge(info))]
        return warnings[0] if warnings else None

    async def _ask(self, deadline_s: float) -> Sequence[dict[str, Any]]:
        if self._client is None:
            self._client = open_client(self._url, command_s_max=deadline_s, name="novadex-health")
        client = self._client
        if not isinstance(client, RedisCluster):
            return [await client.info()]
        state = await client.cluster_info()
        if state.get("cluster_state") != "ok":
            raise UnavailableError(f"{self.name} does not serve all of its slots: a primary is away.")
        infos = await client.info(target_nodes=RedisCluster.PRIMARIES)
        # By node; without their names where there is one alone.
        return [infos] if "redis_version" in infos else list(infos.values())

    def _judge(self, info: Mapping[str, Any]) -> str | None:
        if info.get("loading"):
            raise UnavailableError(f"{self.name} is still loading its data.")
        if info.get("role") in ("slave", "replica"):
            raise UnavailableError(f"{self.name} takes no writes: it is a replica.")
        if info.get("aof_enabled") and info.get("aof_last_write_status") != "ok":
            raise UnavailableError(f"{self.name} takes no writes: its append-only file could not be written.")
        limit = info.get("maxmemory", 0)
        if info.get("maxmemory_policy") == "noeviction" and limit and info["used_memory"] > FULL_SHARE * limit:
            return f"{self.name} uses {info['used_memory']} of {limit} bytes and evicts nothing: soon it is full."
        return None

    async def _fail(self) -> None:
        self.info = {}
        await self.close()

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await close_client(client)
