"""The check of what is cached: every entry that a reader would believe says what PostgreSQL says.

Old entries may lie in a cache server: who reads them recognises them by the snapshot that they carry. So one that
differs is wrong only where no row that it was made of was written since that snapshot.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import RedisClusterException, RedisError

from novadex.api_keys.store import ApiKeyStore
from novadex.cache.cache import KEY_START, Beside, Caches
from novadex.cache.contents import COMMAND_S_MAX, life_of
from novadex.cache.servers import SCAN_BEGINNING, ScanPlace, close_client, open_client, scan_some
from novadex.cache.snapshots import Snapshot
from novadex.errors import UnavailableError
from novadex.reconciliation.records import Finding, Slice, differing
from novadex.sessions.store import SessionStore
from novadex.storage.queries import load_queries
from novadex.users.store import UserStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from novadex.storage.connection import DatabaseConnection

SQL = load_queries(Path(__file__).with_name("cache.sql"))
KEYS_AT_ONCE = 500
SERVERS = ("cache", "sessions")
NAMESPACES = frozenset({"user", "username", "email", "wallet", "session", "api_key"})
"""What is compared: of other entries it is not known which rows they were made of, so not whether one is old."""
NEVER_CHANGED = frozenset({"id", "user_id", "family_id", "method"})
"""Of a session or key."""
OF_USERS = frozenset({"role", "status"})
"""Which they have of their user."""
_LOW_BITS = (1 << 32) - 1


class CacheCheck:
    """Users, sessions, API keys and look-ups in the cache and the session server, some of them in each part."""

    name = "cache"
    invariant = "Every cached record that readers would believe is as PostgreSQL has it."

    def __init__(self, db: DatabaseConnection) -> None:
        self._db = db
        for store in (UserStore, SessionStore, ApiKeyStore):
            db.companion(store)
        self._caches = db.companion(Caches)
        self._urls = {"cache": db.endpoints.cache, "sessions": db.endpoints.sessions}

    async def slice(self, after: Any, found: Callable[[Finding], None]) -> Slice:
        number, place = after or (0, SCAN_BEGINNING)
        if not any(self._urls.values()):
            raise UnavailableError("There is no cache server.", hint="Set REDIS_URL and REDIS_SESSION_URL.")
        server = SERVERS[number]
        checked, place = await self._some(server, place, found) if self._urls[server] else (0, None)
        if place is not None:
            return Slice(checked, (number, place))
        return Slice(checked, (number + 1, SCAN_BEGINNING) if number + 1 < len(SERVERS) else None)

    async def repair(self, findings: list[Finding]) -> bool:
        life = await life_of(self._db)
        for finding in findings:
            client = open_client(self._urls[finding.key["server"]], command_s_max=COMMAND_S_MAX)
            try:
                await client.delete(f"{KEY_START}{life}:{finding.key['namespace']}:{finding.key['key']}")
            finally:
                await close_client(client)
        return True

    async def _some(
        self, server: str, place: ScanPlace, found: Callable[[Finding], None]
    ) -> tuple[int, ScanPlace | None]:
        """Some entries of a server; returns how many, and where it goes on (None: that was all)."""
        start = f"{KEY_START}{await life_of(self._db)}:"
        client = open_client(self._urls[server], command_s_max=COMMAND_S_MAX)
        try:
            keys, place_after = await scan_some(client, f"{start}*", KEYS_AT_ONCE, place)
            return await self._portion(server, client, start, keys, found), place_after
        except (RedisError, RedisClusterException, OSError) as error:
            raise UnavailableError(
                f"The {server} server does not answer.", hint="Is it running? See novadex status."
            ) from error
        finally:
            await close_client(client)

    async def _portion(
        self, server: str, client: Any, start: str, keys: list[bytes], found: Callable[[Finding], None]
    ) -> int:
        named = [(namespace, key) for text in keys if (namespace := self._namespace(text, start)) for key in [text]]
        if not named:
            return 0
        names = [key for _, key in named]
        read = client.mget_nonatomic if isinstance(client, RedisCluster) else client.mget
        for (namespace, text), entry in zip(named, await read(names), strict=True):
            if entry is not None:
                key = text.decode()[len(start) + len(namespace) + 1 :]
                await self._entry(server, namespace, key, entry, found)
        return len(named)

    def _namespace(self, key: bytes, start: str) -> str | None:
        namespace = key.decode(errors="replace")[len(start) :].partition(":")[0]
        return namespace if namespace in NAMESPACES else None

    async def _entry(
        self, server: str, namespace: str, key: str, entry: bytes, found: Callable[[Finding], None]
    ) -> None:
        place = {"server": server, "namespace": namespace, "key": key}
        beside = await self._caches.by_namespace[namespace].beside_truth(key, entry)
        if beside.snapshot is None:
            found(Finding(self.name, f"cached {namespace}", place, {"readable": False}, {"readable": True}))
            return
        if beside.document == beside.truth.document or await self._is_old(namespace, key, beside.snapshot, beside):
            return
        stored, expected = _fields(beside.document), _fields(beside.truth.document)
        if stored is not None and expected is not None:
            stored, expected = differing(stored, expected)
            # What is sealed or personal is not told.
            stored, expected = _told(stored), _told(expected)
        else:
            stored, expected = (None if values is None else {"there": True} for values in (stored, expected))
        found(Finding(self.name, f"cached {namespace}", place, stored, expected))

    async def _is_old(self, namespace: str, key: str, snapshot: Snapshot, beside: Beside) -> bool:
        """Whether each difference comes of a row that was written since: then readers do not believe it, or, where
        only the use of a session was noted, it makes no difference to them."""
        stored, true = _fields(beside.document), _fields(beside.truth.document)
        users: set[str] = {key} if namespace == "user" else set()
        record = None
        for fields in (stored or {}, true or {}):
            users |= {str(fields[name]) for name in ("user_id", "id_found") if name in fields}
            record = fields.get("id") if "user_id" in fields else record
        ids = [id for id in users if _is_id(id)]
        now = Snapshot.parse(beside.truth.mark)
        rows = await self._db.main.query(SQL.changed_by, [ids, record if _is_id(record) else None], read_only=True)
        written = {row.of for row in rows if not snapshot.sees(_whole_xid(row.xid, now))}
        if namespace not in {"session", "api_key"}:
            return bool(written)
        if stored is None or true is None:
            return "user" in written  # erased with their user; else they stay for long after they ended
        names = set(differing(stored, true)[1])
        if names & NEVER_CHANGED:
            return False
        needed = {"user"} if names & OF_USERS else set()
        return written >= (needed | {"record"} if names - OF_USERS else needed)


def _whole_xid(low_bits: int, now: Snapshot) -> int:
    """The transaction id of a row, which keeps 32 bits of it, seen from now.

    >>> now = Snapshot.parse("4294967400:4294967400:@1")
    >>> _whole_xid(50, now), _whole_xid(4294967000, now)
    (4294967346, 4294967000)
    """
    xid = (now.xmax & ~_LOW_BITS) | low_bits
    return xid - (1 << 32) if xid > now.xmax else xid


def _fields(document: bytes | None) -> dict[str, Any] | None:
    """A record, or the id that a look-up gives."""
    if document is None:
        return None
    try:
        decoded = msgspec.msgpack.decode(document)
    except msgspec.DecodeError:
        decoded = None
    return decoded if isinstance(decoded, dict) else {"id_found": bytes(document).decode(errors="replace")}


def _told(values: dict[str, Any]) -> dict[str, Any]:
    public = (
        "kind",
        "role",
        "status",
        "version",
        "id",
        "user_id",
        "id_found",
        "expires_at",
        "revoked_at",
        "must_renew",
    )
    return {name: value if name in public else "(not told)" for name, value in values.items()}


def _is_id(text: Any) -> bool:
    try:
        UUID(str(text))
    except ValueError:
        return False
    return True
