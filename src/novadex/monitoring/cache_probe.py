"""Looks at a Redis or Valkey: it answers, takes writes, and has room."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from novadex.errors import TimeoutExceededError, UnavailableError
from novadex.monitoring.logs import mask_secrets

if TYPE_CHECKING:
    from collections.abc import Mapping

FULL_SHARE = 0.95
"""Of ``maxmemory``, for a server that evicts nothing."""


class CacheProbe:
    """Through a connection of its own. ``info`` is what the server last said of itself."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self.info: Mapping[str, Any] = {}
        # The client knows valkey:// as redis://, the protocol is the same.
        scheme, separator, rest = url.partition("://")
        self._url = scheme.replace("valkey", "redis") + separator + rest
        self._client: Redis | None = None

    def __repr__(self) -> str:
        return f"CacheProbe({self.name!r})"

    async def look(self, deadline_s: float) -> str | None:
        try:
            async with asyncio.timeout(deadline_s):
                info = await self._open(deadline_s).info()
        except (TimeoutError, RedisTimeoutError):
            await self._fail()
            raise TimeoutExceededError(f"{self.name} did not answer within {deadline_s:g} s.") from None
        except AuthenticationError as error:
            await self._fail()
            raise UnavailableError(f"{self.name} refused the password: {error}.") from None
        except (RedisError, OSError) as error:
            await self._fail()
            raise UnavailableError(f"{self.name} does not answer: {mask_secrets(str(error))}.") from None
        self.info = info
        return self._judge(info)

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

    def _open(self, deadline_s: float) -> Redis:
        if self._client is None:
            self._client = Redis.from_url(
                self._url,
                single_connection_client=True,
                socket_timeout=deadline_s,
                socket_connect_timeout=deadline_s,
                retry=Retry(NoBackoff(), 0),
                client_name="novadex-health",
                decode_responses=True,
            )
        return self._client

    async def _fail(self) -> None:
        self.info = {}
        await self.close()

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()
