"""Cache and session servers by URL: one Redis or Valkey, a master found by Sentinels, or a Cluster.

=============================================  ====================================================
``redis://HOST:PORT/DB``, ``valkey://``        one server; ``rediss://``, ``valkeys://`` by TLS, ``unix://PATH``
``redis+sentinel://HOST,HOST/SERVICE/DB``      the master of a service; port 26379 where none is named
``redis+cluster://HOST,HOST``                  a Cluster; port 6379 where none is named
=============================================  ====================================================

``rediss+sentinel``, ``rediss+cluster`` and the same with ``valkey`` work too, and all of these take
``?ssl_ca_certs=FILE`` and the like (``settings.REDIS_TLS_OPTIONS``). A server that is away costs little:
every call is bounded, and after a failure it is left alone for a moment (``Breaker``).
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import structlog
from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import ClusterDownError, ResponseError

from novadex import metrics
from novadex.errors import ConfigurationError
from novadex.settings import check_redis_url, host_of, redis_options

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

COMMAND_S_MAX = 0.1
"""How long a command may take before the server counts as away: PostgreSQL answers sooner."""
CONNECT_S_MAX = 0.2
CALL_S_MAX = CONNECT_S_MAX + COMMAND_S_MAX
"""How long a caller waits for a connection, and then for the answer."""
CONNECTIONS_MAX = 16
BREAK_S = 1.0
"""How long a server that failed is left alone."""
SENTINEL_PORT, SERVER_PORT = 26_379, 6_379
BATCH_KEYS_MAX = 256
BATCHES_MAX = 8
"""Batches of reads under way at once."""
ScanPlace = tuple[str, int]
"""Which primary of a Cluster (of one server: none), and the cursor there."""
SCAN_BEGINNING: ScanPlace = ("", 0)

# KEYS[1] its key, ARGV[1] the entry, ARGV[2] its life in milliseconds: set unless a newer one stands there. The first
# eight bytes of an entry are the xmax of its snapshot, big-endian. They are compared as numbers: Lua compares texts
# by the locale of the server. What is too short, or no text (an error, as a table), somebody else put there.
SET_UNLESS_NEWER = """
local there = redis.pcall('GETRANGE', KEYS[1], 0, 7)
if type(there) == 'string' and #there == 8 then
    for i = 1, 8 do
        local old, new = string.byte(there, i), string.byte(ARGV[1], i)
        if old > new then
            return 0
        elseif old < new then
            break
        end
    end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""

log = structlog.get_logger("novadex.cache")


def open_client(
    url: str, *, command_s_max: float = COMMAND_S_MAX, connections_max: int = CONNECTIONS_MAX, name: str | None = None
) -> Any:
    """A client for the URL; it connects with the first command. ``name`` is how the server lists it."""
    try:
        check_redis_url(url)
    except ValueError as error:
        raise ConfigurationError(f"The URL of a cache server is wrong: {error}.") from None
    scheme, _, rest = url.partition("://")
    protocol, _, kind = scheme.replace("valkey", "redis").partition("+")
    common: dict[str, Any] = {
        "socket_timeout": command_s_max,
        "socket_connect_timeout": max(CONNECT_S_MAX, command_s_max),
        "protocol": 2,
        "client_name": name,
    }
    if not kind:
        return Redis.from_url(
            f"{protocol}://{rest}", retry=Retry(NoBackoff(), 0), max_connections=connections_max, **common
        )
    # By hand: several hosts are no URL to urllib, and some of its versions refuse an IPv6 address among them.
    authority, _, path = re.split(r"[?#]", rest, maxsplit=1)[0].partition("/")
    account, _, place = authority.rpartition("@")
    user, _, password = account.partition(":")
    hosts = [_host_and_port(host, SENTINEL_PORT if kind == "sentinel" else SERVER_PORT) for host in place.split(",")]
    common |= {
        "username": unquote(user) or None,
        "password": unquote(password) or None,
    }
    tls: dict[str, Any] = {"ssl": protocol == "rediss"}
    for option, value in redis_options(url):
        tls[option] = value == "true" if option == "ssl_check_hostname" else value
    if kind == "cluster":
        return RedisCluster(
            startup_nodes=[ClusterNode(*host) for host in hosts],
            max_connections=connections_max,
            require_full_coverage=False,
            retry=Retry(NoBackoff(), 1),
            **tls,
            **common,
        )
    service, _, database = path.strip("/").partition("/")
    bound_s = max(CONNECT_S_MAX, command_s_max)
    sentinels = Sentinel(
        hosts,
        sentinel_kwargs={
            "socket_timeout": bound_s,
            "socket_connect_timeout": bound_s,
            "retry": Retry(NoBackoff(), 0),
            **tls,
        },
    )
    return sentinels.master_for(
        service,
        db=int(database or 0),
        max_connections=connections_max,
        retry=Retry(NoBackoff(), 0),
        **tls,
        **common,
    )


async def close_client(client: Any) -> None:
    """Close what ``open_client`` gave."""
    await client.aclose()
    if isinstance(client, RedisCluster):
        # It has closed nothing where it was about to look at the Cluster anew, as after an error.
        await client.nodes_manager.aclose()
        await client.nodes_manager.aclose("startup_nodes")
    elif isinstance(client.connection_pool, SentinelConnectionPool):
        for sentinel in client.connection_pool.sentinel_manager.sentinels:
            await sentinel.aclose()


def _host_and_port(text: str, default_port: int) -> tuple[str, int]:
    """
    >>> _host_and_port("[::1]:7000", 6379), _host_and_port("db-1", 6379)
    (('::1', 7000), ('db-1', 6379))
    """
    parts = urlsplit(f"//{text}")
    return parts.hostname or "localhost", parts.port or default_port


class CacheServer:
    """A cache or session server. Every call answers within a bound or says ``None`` or ``False``: what a cache
    cannot give, PostgreSQL gives."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self._url = url
        self._client: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._broken_until = self._told_until = 0.0
        self._waiting: dict[str, list[asyncio.Future[bytes | None]]] = {}
        """Who waits for a key, each with a future of their own: they may go away one by one."""
        self._batches = 0
        self._scripts: dict[str, Any] = {}
        self._places = asyncio.Semaphore(CONNECTIONS_MAX)
        """The client refuses a command for which it has no connection: callers wait for their turn instead."""

    def __repr__(self) -> str:
        return f"CacheServer({self.name!r}, {host_of(self._url)!r})"

    @property
    def usable(self) -> bool:
        """Whether there is one, and it did not just fail."""
        return bool(self._url) and time.monotonic() >= self._broken_until

    def client(self) -> Any:
        """The client of the running event loop."""
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            self._client, self._loop = open_client(self._url), loop
            self._waiting, self._batches, self._scripts = {}, 0, {}
            self._places = asyncio.Semaphore(CONNECTIONS_MAX)
        return self._client

    async def get(self, key: str) -> bytes | None:
        """The value, or None. Reads of one moment travel together."""
        if not self.usable:
            return None
        return await self._wanted(key)

    async def get_many(self, *keys: str) -> list[bytes | None]:
        """The value of each, or None, as ``get``."""
        if not self.usable:
            return [None] * len(keys)
        wanted = [self._wanted(key) for key in keys]
        return [await found for found in wanted]

    def _wanted(self, key: str) -> asyncio.Future[bytes | None]:
        """What is going to be found under a key."""
        self.client()
        loop = asyncio.get_running_loop()
        found: asyncio.Future[bytes | None] = loop.create_future()
        others = self._waiting.get(key)
        if others is not None:
            others.append(found)
        else:
            self._waiting[key] = [found]
            if self._batches < BATCHES_MAX and len(self._waiting) == 1:
                loop.call_soon(self._send)
        return found

    def _send(self) -> None:
        if self._waiting and self._batches < BATCHES_MAX:
            self._batches += 1
            batch = dict(list(self._waiting.items())[:BATCH_KEYS_MAX])
            self._waiting = {key: future for key, future in self._waiting.items() if key not in batch}
            task = asyncio.get_running_loop().create_task(self._read(batch), name="novadex cache reads")
            task.add_done_callback(self._after_batch)

    def _after_batch(self, _: asyncio.Task[None]) -> None:
        self._batches -= 1
        self._send()

    async def _read(self, batch: dict[str, list[asyncio.Future[bytes | None]]]) -> None:
        keys = list(batch)
        values: list[bytes | None] | None = None
        try:
            client = self.client()
            if isinstance(client, RedisCluster):
                values = await self._try(lambda: client.mget_nonatomic(keys))
            elif len(keys) == 1:
                values = [await self._try(lambda: client.get(keys[0]))]
            else:
                values = await self._try(lambda: client.mget(keys))
        finally:
            for futures, value in zip(batch.values(), values or [None] * len(keys), strict=True):
                for future in futures:
                    if not future.done():
                        future.set_result(value)

    async def set_unless_newer(self, key: str, entry: bytes, life_ms: int) -> bool:
        """Keep an entry, unless a newer one stands there."""
        return bool(await self.run_script(SET_UNLESS_NEWER, key, entry, life_ms))

    async def run_script(self, script: str, key: str, *arguments: str | bytes | int) -> Any:
        """What a Lua script about one key returns, or None."""
        if not self.usable:
            return None
        self.client()
        registered = self._scripts.get(script)
        if registered is None:
            registered = self._scripts[script] = self.client().register_script(script)
        return await self._try(lambda: registered(keys=[key], args=arguments))

    async def delete(self, *keys: str) -> None:
        """Delete, where the server can be reached."""
        if self.usable:
            client = self.client()
            for key in keys:
                await self._try(lambda key=key: client.delete(key))

    async def _try(self, command: Callable[[], Awaitable[Any]]) -> Any:
        has_place = False
        try:
            async with asyncio.timeout(CALL_S_MAX) as bound, self._places:
                if not self.usable:
                    return None  # it failed those who were before
                has_place = True
                bound.reschedule(asyncio.get_running_loop().time() + CALL_S_MAX)
                return await command()
        except ClusterDownError as error:
            self._failed(error, leave_alone=True)
        except ResponseError as error:
            self._failed(error, leave_alone=False)  # it answers, though it refuses this: full, or a replica
        except Exception as error:  # noqa: BLE001 - whatever it is, PostgreSQL has the records
            self._failed(error, leave_alone=has_place)
        return None

    def _failed(self, error: Exception, *, leave_alone: bool) -> None:
        metrics.cache_server_failures.labels(self.name).inc()
        now = time.monotonic()
        if now >= self._told_until:
            self._told_until = now + BREAK_S
            log.warning("cache server failed", server=self.name, error=type(error).__name__)
        if leave_alone:
            self._broken_until = now + BREAK_S

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None and self._loop is asyncio.get_running_loop():
            await close_client(client)


async def scan(client: Any, pattern: str, count: int = 1_000) -> AsyncIterator[list[bytes]]:
    """Keys by pattern, in portions: of one server, or of every primary of a Cluster."""
    place: ScanPlace | None = SCAN_BEGINNING
    while place is not None:
        keys, place = await scan_some(client, pattern, count, place)
        yield keys


async def scan_some(client: Any, pattern: str, count: int, place: ScanPlace) -> tuple[list[bytes], ScanPlace | None]:
    """A portion of the keys, and where the next one begins (None: that was all). A primary that is gone by then is
    passed over."""
    name, cursor = place
    if not isinstance(client, RedisCluster):
        cursor, keys = await client.scan(cursor, match=pattern, count=count)
        return list(keys), (name, int(cursor)) if cursor else None
    await client.initialize()
    names = sorted(node.name for node in client.get_primaries() if node.name >= name)
    if not names:
        return [], None
    if names[0] != name:
        name, cursor = names[0], 0
    cluster: Any = client  # its scan tells the cursor of each node, which its types do not say
    cursors, keys = await cluster.scan(cursor, pattern, count, target_nodes=cluster.get_node(node_name=name))
    if cursors[name]:
        return list(keys), (name, cursors[name])
    return list(keys), (names[1], 0) if len(names) > 1 else None
