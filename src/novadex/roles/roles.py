"""What roles may do: rows of ``role_permissions``, cached in every process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from novadex.cache.cache import Cache, Caches, Loaded
from novadex.errors import NotFoundError, PermissionDeniedError
from novadex.storage.queries import load_queries

if TYPE_CHECKING:
    from uuid import UUID

    from novadex.roles.actor import Actor
    from novadex.storage.connection import DatabaseConnection

QUERIES = load_queries(Path(__file__).with_suffix(".sql"))
ALL = "all"
OWN = "_own"
"""How the names of permissions end that are for one's own records."""
NO_PERMISSIONS: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Role:
    """What a user can be, and may do then."""

    name: str
    description: str
    permissions: list[str]


class Roles:
    """The roles of an instance; ``db.companion(Roles)`` gives the one of a connection."""

    def __init__(self, db: DatabaseConnection) -> None:
        self._db = db
        self._cache: Cache[dict[str, frozenset[str]]] = Cache(
            db.companion(Caches), "roles", load=self._load, decode=_decode
        )

    async def permissions_of(self, role: str) -> frozenset[str]:
        """What a role may do; nothing, where there is no such role."""
        return (await self.all()).get(role, NO_PERMISSIONS)

    async def all(self) -> dict[str, frozenset[str]]:
        """What each role may do. Whoever keeps what follows from it keeps this object too: that of ``known`` may be
        newer by the time this is awaited."""
        return self._cache.peek(ALL) or await self._cache.get(ALL) or {}

    async def exists(self, role: str) -> bool:
        """Whether there is such a role; one that may do nothing is one, too."""
        known = self._cache.peek(ALL) or await self._cache.get(ALL)
        return role in (known or {})

    def known(self) -> dict[str, frozenset[str]] | None:
        """The permissions of all roles as this process knows them now; None where it cannot say. The same object
        as long as nothing changed."""
        return self._cache.peek(ALL)

    async def refuse_upwards(self, actor: Actor, user_id: UUID, role: str) -> None:
        """Raise ``PermissionDeniedError`` where the user may do to others what the actor may not: who changes them,
        or signs in as them, would be more than they are. What is for one's own records alone raises nobody."""
        if actor.trusted or actor.user_id == user_id:
            return
        reach = {name for name in await self.permissions_of(role) if not name.endswith(OWN)}
        if reach - actor.permissions:
            raise PermissionDeniedError(
                f"{actor.name} may not do this to anybody who is {role}: that role may do more to others.",
                hint="Ask an administrator.",
            )

    async def list(self, actor: Actor) -> list[Role]:
        """All roles with their permissions; needs ``roles.read``."""
        actor.require("roles.read")
        return await self._db.main.made(Role, QUERIES.roles, read_only=True)

    async def get(self, name: str, actor: Actor) -> Role:
        """One role; needs ``roles.read``."""
        for role in await self.list(actor):
            if role.name == name:
                return role
        raise NotFoundError(f"There is no role {name[:40]!r}.", hint="novadex roles list shows them.", role=name[:40])

    async def close(self) -> None:
        """Nothing of its own to close."""

    async def _load(self, _: str) -> Loaded:
        [row] = await self._db.main.query(QUERIES.permissions_by_role, read_only=True)
        return Loaded(msgspec.msgpack.encode(row.permissions), row.mark)


def _decode(document: bytes) -> dict[str, frozenset[str]]:
    return msgspec.msgpack.decode(document, type=dict[str, frozenset[str]])
