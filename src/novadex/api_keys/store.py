"""Where API keys are looked up: this process, the cache server, PostgreSQL; and where their use is noted."""

from __future__ import annotations

from datetime import datetime
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from novadex.cache.cache import Cache, Caches, Loaded, single
from novadex.roles.last_use import LastUse
from novadex.storage.queries import load_queries

if TYPE_CHECKING:
    from novadex.roles.actor import Actor
    from novadex.storage.connection import DatabaseConnection

TTL_S = 300.0
TOUCH_INTERVAL_S = 60.0

QUERIES = load_queries(Path(__file__).with_name("queries.sql"))


class _Stored(msgspec.Struct):
    """The fields that travel."""

    id: UUID
    user_id: UUID
    permissions: list[str]
    allowed_addresses: list[str]
    expires_at: datetime
    revoked_at: datetime | None
    role: str
    status: str


class CachedKey:
    """A key as this process keeps it."""

    __slots__ = ("actor", "id", "networks", "permissions", "rights", "role", "touch_at", "user_id", "valid_until")

    def __init__(self, stored: _Stored) -> None:
        self.id = stored.id
        self.user_id = stored.user_id
        self.role = stored.role
        self.permissions = frozenset(stored.permissions)
        self.networks: list[IPv4Network | IPv6Network] = [ip_network(network) for network in stored.allowed_addresses]
        alive = stored.revoked_at is None and stored.status == "active"
        self.valid_until = stored.expires_at.timestamp() if alive else 0.0
        self.touch_at = 0.0
        self.actor: Actor | None = None
        self.rights: object | None = None
        """The permissions of all roles that the actor was made of."""

    def allows(self, address: str | None) -> bool:
        """Whether it may be used from there."""
        if not self.networks:
            return True
        if address is None:
            return False
        try:
            host = ip_address(address)
        except ValueError:
            return False
        mapped = getattr(host, "ipv4_mapped", None)
        return any((mapped or host) in network for network in self.networks)


class ApiKeyStore:
    """``db.companion(ApiKeyStore)`` gives the one of a connection."""

    def __init__(self, db: DatabaseConnection) -> None:
        self._db = db
        self._last_use = LastUse("API keys", lambda ids, moments: db.main.execute(QUERIES.touch, (ids, moments)))
        self.cache: Cache[CachedKey] = Cache(
            db.companion(Caches),
            "api_key",
            load=self._load,
            decode=lambda document: CachedKey(msgspec.msgpack.decode(document, type=_Stored)),
            ttl_s=TTL_S,
            negative_ttl_s=0,  # guesses must not fill the cache server
        )

    def touch(self, key: CachedKey, now: float) -> None:
        """Note that a key was used; it is written soon, with others."""
        key.touch_at = now + TOUCH_INTERVAL_S
        self._last_use.note(key.id, now)

    async def close(self) -> None:
        """Write what was noted."""
        await self._last_use.close()

    async def _load(self, key: str) -> Loaded:
        return single(await self._db.main.query(QUERIES.key_by_hash, (key,), read_only=True))
