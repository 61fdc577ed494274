"""A cache of one kind of record: in this process (L1), in the cache server (L2), then PostgreSQL.

Every entry carries the snapshot it was read in. It is used only while that snapshot has seen the last change of
its key (the feed of changes knows), and only under the feed's lease. So it does not matter whether an entry in
the cache server was overwritten, deleted or brought back: what is old is recognised by who reads it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar

import cachebox
import msgspec
import structlog

from novadex import metrics
from novadex.cache.feed import ChangeFeed
from novadex.cache.servers import CacheServer
from novadex.cache.snapshots import Snapshot

if TYPE_CHECKING:
    from novadex.storage.connection import DatabaseConnection

V = TypeVar("V")

KEY_START = "novadex:"
TTL_JITTER = 0.1
"""Lives differ by up to this share, so that what was read together does not end together."""
L1_MAX = 50_000

log = structlog.get_logger("novadex.cache")


class Loaded(NamedTuple):
    """What PostgreSQL said: a record as bytes, None where there is none, and ``read_mark()`` of that statement."""

    document: bytes | None
    mark: str


class _Stored(NamedTuple):
    """An entry as it lies in the cache server, behind the eight bytes of its xmax."""

    mark: str
    document: bytes | None


class Beside(NamedTuple):
    """An entry of a cache server, and what PostgreSQL says now."""

    snapshot: Snapshot | None
    """What the entry was read in; None where it cannot be read: then nobody uses it."""
    document: bytes | None
    truth: Loaded


_STORED = msgspec.msgpack.Decoder(_Stored)


@dataclass(slots=True)
class Counts:
    """How reads of a cache were answered. Plain numbers: a counter with a lock would cost more than the read."""

    l1: int = 0
    l2: int = 0
    loaded: int = 0
    untrusted: int = 0
    """Read from PostgreSQL for want of a lease."""


class Caches:
    """The caches of a process over one connection: one feed of changes, two servers."""

    def __init__(self, db: DatabaseConnection) -> None:
        self.db = db
        self.feed = ChangeFeed(db)
        self.servers: dict[str, CacheServer] = {
            "cache": CacheServer("cache", db.endpoints.cache),
            "sessions": CacheServer("sessions", db.endpoints.sessions),
        }
        self.by_namespace: dict[str, Cache[Any]] = {}

    async def close(self) -> None:
        for namespace, cache in self.by_namespace.items():
            if metrics.cache_counts.get(namespace) is cache.counts:  # not those of another connection
                del metrics.cache_counts[namespace]
        await self.feed.close()
        for server in self.servers.values():
            await server.close()


class Cache(Generic[V]):
    """Records of one namespace, by key.

    ``load`` reads one record in one statement of the primary; ``decode`` makes of its bytes what callers get, and
    must not change what it is given. What does not decode is loaded anew. ``negative_ttl_s`` is for how long it is
    remembered that there is no such record; 0: not at all.
    """

    def __init__(
        self,
        caches: Caches,
        namespace: str,
        *,
        load: Callable[[str], Awaitable[Loaded]],
        decode: Callable[[bytes], V],
        server: Literal["cache", "sessions"] = "cache",
        ttl_s: float = 300.0,
        negative_ttl_s: float = 30.0,
        l1_max: int = L1_MAX,
    ) -> None:
        self.namespace = namespace
        self.counts = Counts()
        self._caches = caches
        self._feed = caches.feed
        self._server = caches.servers[server]
        self._load, self._decode = load, decode
        self._ttl_s, self._negative_ttl_s = ttl_s, negative_ttl_s
        self._l1: Any = cachebox.LRUCache(l1_max)
        """Key to (value, end by the monotonic clock, snapshot)."""
        self._find = self._l1.get
        self._loading: dict[str, asyncio.Task[tuple[V | None, bool]]] = {}
        caches.by_namespace[namespace] = self
        metrics.cache_counts[namespace] = self.counts
        self._feed.listen(namespace, self._forget_older, self._forget_all)

    def __repr__(self) -> str:
        return f"Cache({self.namespace!r})"

    def peek(self, key: str) -> V | None:
        """From this process alone, without waiting; None where it cannot say."""
        entry = self._find(key)
        if entry is not None:
            now = time.monotonic()
            if now < self._feed.trusted_until and now < entry[1]:
                self.counts.l1 += 1
                return entry[0]
        return None

    async def get(self, key: str) -> V | None:
        """The record, or None where there is none."""
        entry = self._find(key)
        if entry is not None:
            now = time.monotonic()
            if now < self._feed.trusted_until and now < entry[1]:
                self.counts.l1 += 1
                return entry[0]
        if time.monotonic() >= self._feed.trusted_until:
            if not await self._feed.confirm():
                self.counts.untrusted += 1
                return self._decoded((await self._load(key)).document)
            # Whatever was committed before this call has been heard.
            entry = self._find(key)
            if entry is not None and time.monotonic() < entry[1]:
                self.counts.l1 += 1
                return entry[0]
        stored = await self._server.get(self._key(key))
        entry = self._find(key)
        if entry is not None and time.monotonic() < entry[1]:
            self.counts.l1 += 1  # somebody else found it meanwhile
            return entry[0]
        found = self._taken(key, stored) if stored is not None else None
        if found is not None:
            self.counts.l2 += 1
            return found[0]
        loading = self._loading.get(key)
        if loading is None:
            loading = asyncio.get_running_loop().create_task(
                self._load_and_keep(key), name=f"novadex {self.namespace} read"
            )
            if time.monotonic() < self._feed.trusted_until:  # else nobody would forget it as the lease begins anew
                self._loading[key] = loading
            loading.add_done_callback(lambda done: self._after_load(key, done))
        return (await asyncio.shield(loading))[0]

    async def load(self, key: str) -> V | None:
        """From PostgreSQL, whatever is cached; it is cached then."""
        return (await self._load_and_keep(key))[0]

    async def beside_truth(self, key: str, entry: bytes) -> Beside:
        """An entry of the cache server beside what PostgreSQL says, for who compares them."""
        truth = await self._load(key)
        try:
            mark, document = msgspec.msgpack.decode(memoryview(entry)[8:], type=_Stored)
            snapshot = Snapshot.parse(mark)
            self._decoded(document)
        except Exception:  # noqa: BLE001 - whatever lies there
            return Beside(None, None, truth)
        return Beside(snapshot, document, truth)

    async def refill(self, key: str) -> bool:
        """From PostgreSQL into the caches; returns whether the cache server keeps it."""
        return (await self._load_and_keep(key))[1]

    async def changed(self, key: str, xid: int) -> None:
        """What the writer calls after its commit, with the id of its transaction: this process does not serve
        what it read before, and the cache server need not keep it."""
        self._feed.note_own(self.namespace, key, xid)
        await self._server.delete(self._key(key))

    def _after_load(self, key: str, done: asyncio.Task[tuple[V | None, bool]]) -> None:
        if self._loading.get(key) is done:
            del self._loading[key]
        if not done.cancelled():
            done.exception()  # its callers raise it; where all of them went away, nobody does

    def _taken(self, key: str, stored: bytes) -> tuple[V | None] | None:
        """What an entry of the cache server says, kept in this process; None where it is old or not to be read."""
        try:
            mark, document = _STORED.decode(memoryview(stored)[8:])
            snapshot = Snapshot.parse(mark)
            if self._feed.fresh(self.namespace, key, snapshot):
                value = self._decoded(document)
                self._keep(key, value, snapshot)
                return (value,)
        except Exception as error:  # noqa: BLE001 - whatever lies there, PostgreSQL has the record
            log.warning("cached entry unreadable", namespace=self.namespace, error=type(error).__name__)
        return None

    async def _load_and_keep(self, key: str) -> tuple[V | None, bool]:
        """The record, and whether the cache server keeps it."""
        document, mark = await self._load(key)
        self.counts.loaded += 1
        value = self._decoded(document)
        snapshot = Snapshot.parse(mark)
        if self._feed.fresh(self.namespace, key, snapshot):
            ttl_s = self._keep(key, value, snapshot)
            entry = snapshot.xmax.to_bytes(8, "big") + msgspec.msgpack.encode(_Stored(mark, document))
            if ttl_s:
                life_ms = max(int(ttl_s * 1000), 1)
                return value, await self._server.set_unless_newer(self._key(key), entry, life_ms)
        return value, False

    def _keep(self, key: str, value: V | None, snapshot: Snapshot) -> float:
        """Keep it in this process; returns for how many seconds."""
        ttl_s = self._ttl_s if value is not None else self._negative_ttl_s
        if not ttl_s:
            return 0.0
        ttl_s *= random.uniform(1 - TTL_JITTER, 1)  # noqa: S311 - no secret
        self._l1[key] = (value, time.monotonic() + ttl_s, snapshot)
        return ttl_s

    def _decoded(self, document: bytes | None) -> V | None:
        return None if document is None else self._decode(document)

    def _key(self, key: str) -> str:
        return f"{KEY_START}{self._feed.life}:{self.namespace}:{key}"

    def _forget_older(self, key: str, xid: int) -> None:
        entry = self._find(key)
        if entry is not None and not entry[2].sees(xid):
            self._l1.pop(key, None)
        # Whoever asks from now on must not be given what a read that began before is going to find.
        self._loading.pop(key, None)

    def _forget_all(self) -> None:
        self._l1.clear()
        self._loading.clear()


def single(rows: list[Any]) -> Loaded:
    """``Loaded`` from a query of one row: its columns as one document, without ``mark`` and ``found``.

    A query that finds nothing must still give these: ``... FROM (SELECT 1) AS one LEFT JOIN ...``.
    """
    [row] = rows
    fields = dict(row)
    mark, found = fields.pop("mark"), fields.pop("found")
    return Loaded(msgspec.msgpack.encode(fields) if found else None, mark)
