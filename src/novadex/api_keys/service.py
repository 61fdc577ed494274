"""``ApiKeyService``: keys by which programs act for a user."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TYPE_CHECKING, Any
from uuid import UUID

from uuid_utils.compat import uuid7

from novadex import metrics
from novadex.api_keys.records import ApiKey, ApiKeyPage, NewApiKey
from novadex.api_keys.store import QUERIES, ApiKeyStore, CachedKey
from novadex.audit.acts import record_look
from novadex.errors import AccessError, ConflictError, NotFoundError, PermissionDeniedError, ValidationError
from novadex.ids import parse_id
from novadex.roles.actor import SERVICE, Actor, act_as
from novadex.roles.reasons import check_reason
from novadex.roles.roles import NO_PERMISSIONS, Roles
from novadex.roles.tokens import Randomness, cache_key_of, check_form, hash_of, make_token, not_authenticated
from novadex.storage.connection import DatabaseConnection

if TYPE_CHECKING:
    from collections.abc import Sequence

KEY_START = "ndk_"
START_LENGTH = 12
NAME_LENGTH_MAX = 100
PERMISSIONS_MAX = 100
NETWORKS_MAX = 100
MAPPED_BITS = 96
"""What comes before an IPv4 address in IPv6."""
LIFE_DAYS, LIFE_DAYS_MAX = 90, 366
OVERLAP_S, OVERLAP_S_MAX = 86_400, 7 * 86_400
"""How long a key lives on beside the one that takes its place."""
DAY_S = 86_400
NOT_BY_KEY = frozenset(
    {
        "api_keys.manage_own",
        "api_keys.revoke_any",
        "api_keys.revoke_own",
        "keys.rotate",
        "sessions.create_any",
        "users.change_role",
        "users.deactivate_any",
        "users.deactivate_own",
        "users.erase_any",
        "users.erase_own",
        "users.update_any",
        "wallets.manage_any",
        "wallets.manage_own",
    }
)
"""What a program may not do with a key, whatever its user may: a leaked key must not make itself at home, nor decide
who can sign in."""
_LAST_ID = UUID(int=(1 << 128) - 1)


class ApiKeyService:
    """API keys of an instance. A key is shown once, when it is made; only its hash is stored.

    It may do what it was given, as far as the role of its user may do it at that moment.
    """

    def __init__(
        self,
        db: DatabaseConnection | None = None,
        *,
        actor: Actor = SERVICE,
        randomness: Randomness = secrets.token_bytes,
    ) -> None:
        self._db = db or DatabaseConnection.get_instance()
        self._actor = actor
        self._randomness = randomness
        self._store = self._db.companion(ApiKeyStore)
        self._roles = self._db.companion(Roles)

    def acting_as(self, actor: Actor) -> ApiKeyService:
        """This service on behalf of somebody."""
        return ApiKeyService(self._db, actor=actor, randomness=self._randomness)

    async def create(
        self,
        user_id: UUID | str,
        *,
        name: str,
        permissions: Iterable[str],
        allowed_addresses: Iterable[str] = (),
        life_days: int = LIFE_DAYS,
    ) -> NewApiKey:
        """Make a key for oneself (``api_keys.manage_own``); a trusted program makes it for anybody.

        ``permissions`` are among those of the user's role. ``allowed_addresses`` are networks such as
        ``192.0.2.0/24``; none: it may be used from everywhere. It ends after ``life_days``, 366 at most.
        """
        user = parse_id(user_id, "user_id")
        self._require_own(user)
        name = check_name(name)
        wanted = check_permissions(permissions)
        networks = check_networks(allowed_addresses)
        if type(life_days) is not int or not 1 <= life_days <= LIFE_DAYS_MAX:
            raise ValidationError(f"life_days must be 1 to {LIFE_DAYS_MAX}, got {life_days!r}.", field="life_days")
        key, key_id = make_token(KEY_START, self._randomness), uuid7()
        async with self._db.transaction() as session:
            await act_as(session, self._actor)
            owner = await session.one(QUERIES.lock_user, (user,))
            if owner is None:
                raise NotFoundError(f"There is no user {user}.", hint="Is it the id of this instance?", user_id=user)
            if owner.status != "active":
                raise AccessError(f"The user {user} is {owner.status}.", hint="Only active users have keys.")
            await self._check_allowed(wanted, owner.role)
            limit = self._db.settings.api_keys_per_user_max
            if await session.value(QUERIES.live_count, (user,)) >= limit:
                raise ConflictError(
                    f"The user {user} has {limit} API keys, and no more are possible.", hint="Revoke one first."
                )
            [made] = await session.made(
                ApiKey,
                QUERIES.insert_key,
                (key_id, user, name, hash_of(key), key[:START_LENGTH], wanted, networks, life_days * DAY_S),
            )
        return NewApiKey(key, made)

    async def validate(self, key: str, address: str | None = None) -> Actor:
        """Who acts by a key that is shown from a network address.

        Raises ``NotAuthenticatedError`` for what is no key, for one that ended, and from an address that is not
        allowed: the same for all, so that it tells nothing.
        """
        try:
            digest = cache_key_of(key)
        except (AttributeError, UnicodeEncodeError):
            raise not_authenticated() from None
        found = self._store.cache.peek(digest)
        if found is None:
            check_form(key, KEY_START)
            found = await self._store.cache.get(digest)
        now = time.time()
        if found is None or now >= found.valid_until:
            metrics.api_keys_refused.labels("unknown" if found is None else "ended").inc()
            raise not_authenticated()
        if found.networks and not found.allows(address):
            metrics.api_keys_refused.labels("address").inc()
            raise not_authenticated()
        actor = found.actor
        if actor is None or found.rights is None or found.rights is not self._roles.known():
            actor = await self._actor_of(found)
        if now >= found.touch_at:
            self._store.touch(found, now)
        return actor

    async def list(self, user_id: UUID | str, *, limit: int = 100, cursor: str | None = None) -> ApiKeyPage:
        """A page of the keys of a user, the newest first, those that ended too; to staff that sees no personal data
        (``users.read_personal``) without their names and networks."""
        user = parse_id(user_id, "user_id")
        self._actor.require_for(user, "api_keys.read_own", "api_keys.read_any")
        if type(limit) is not int or not 1 <= limit <= 1_000:
            raise ValidationError(f"limit must be 1 to 1000, got {limit!r}.", field="limit")
        above = parse_id(cursor, "cursor") if cursor is not None else _LAST_ID
        await record_look(self._db, self._actor, "api_keys.listed", user)
        keys = await self._db.main.made(ApiKey, QUERIES.keys_of_user, (user, above, limit + 1), read_only=True)
        if not self._actor.sees_personal_of(user):
            keys = [replace(key, name=None, allowed_addresses=None) for key in keys]
        return ApiKeyPage(keys[:limit], str(keys[limit - 1].id) if len(keys) > limit else None)

    async def rotate(self, key_id: UUID | str, *, overlap_s: int = OVERLAP_S) -> NewApiKey:
        """A new key in the place of another, with the same name, permissions, networks and length of life. The
        old one lives on for ``overlap_s``, so that its program can change over. With those that live on, a user may
        have twice as many keys as NOVADEX_API_KEYS_PER_USER_MAX."""
        wanted = parse_id(key_id, "key_id")
        owner = self._owner_or_anybody("api_keys.manage_own", None)
        if type(overlap_s) is not int or not 0 <= overlap_s <= OVERLAP_S_MAX:
            raise ValidationError(f"overlap_s must be 0 to {OVERLAP_S_MAX}, got {overlap_s!r}.", field="overlap_s")
        key, new_id = make_token(KEY_START, self._randomness), uuid7()
        async with self._db.transaction() as session:
            await act_as(session, self._actor)
            # The user first, as everybody does who changes keys: two never wait for each other.
            user_id = await session.value(QUERIES.owner_of_key, (wanted, owner))
            await session.one(QUERIES.lock_user, (user_id,))
            old = await session.one(QUERIES.lock_key, (wanted, owner))
            if old is None:
                raise _unknown(wanted)
            if old.replaced_by is not None:
                raise ConflictError(
                    f"The API key {wanted} was replaced by {old.replaced_by} already.", hint="Rotate that one."
                )
            limit = 2 * self._db.settings.api_keys_per_user_max
            if await session.value(QUERIES.live_count, (user_id,)) >= limit:
                raise ConflictError(
                    f"The user {user_id} has {limit} API keys with those that were replaced and live on.",
                    hint="Revoke one of those first.",
                )
            [made] = await session.made(
                ApiKey,
                QUERIES.insert_key,
                (
                    new_id,
                    old.user_id,
                    old.name,
                    hash_of(key),
                    key[:START_LENGTH],
                    old.permissions,
                    old.allowed_addresses,
                    old.life_s,
                ),
            )
            [row] = await session.query(QUERIES.replace_key, (wanted, new_id, overlap_s))
        await self._forget([row])
        return NewApiKey(key, made)

    async def revoke(self, key_id: UUID | str, *, reason: str = "revoked") -> None:
        """End a key: one's own, whatever one's role has become (``api_keys.revoke_own``), or with
        ``api_keys.revoke_any`` anybody's. It is refused everywhere within 250 ms."""
        wanted = parse_id(key_id, "key_id")
        owner = self._owner_or_anybody("api_keys.revoke_own", "api_keys.revoke_any")
        reason = check_reason(reason)
        async with self._db.transaction() as session:
            await act_as(session, self._actor)
            ended = await session.query(QUERIES.revoke_key, (wanted, owner, reason))
            known = ended or await session.value(QUERIES.owner_of_key, (wanted, owner))
        if not known:
            raise _unknown(wanted)
        await self._forget(ended)

    def _require_own(self, user: UUID) -> None:
        self._actor.require("api_keys.manage_own")
        if not self._actor.trusted and self._actor.user_id != user:
            raise PermissionDeniedError(
                f"{self._actor.name} may not make API keys for others.", hint="Everybody makes their own."
            )

    def _owner_or_anybody(self, own: str, any_: str | None) -> UUID | None:
        """Whose key it must be; None: anybody's."""
        if self._actor.trusted or (any_ is not None and self._actor.may(any_)):
            return None
        self._actor.require(own)
        if self._actor.user_id is None:
            raise PermissionDeniedError(f"{self._actor.name} has no API keys of its own.")
        return self._actor.user_id

    async def _check_allowed(self, wanted: Sequence[str], role: str) -> None:
        allowed = await self._roles.permissions_of(role) - NOT_BY_KEY
        beyond = sorted(set(wanted) - allowed)
        if beyond:
            raise PermissionDeniedError(
                f"An API key of a {role} cannot have {', '.join(beyond)[:200]}.",
                hint=f"Possible are: {', '.join(sorted(allowed))}.",
            )

    async def _actor_of(self, found: CachedKey) -> Actor:
        rights = await self._roles.all()
        allowed = rights.get(found.role, NO_PERMISSIONS)
        found.rights = rights
        found.actor = actor = Actor(
            f"api_key:{found.id}", found.user_id, found.role, (found.permissions & allowed) - NOT_BY_KEY
        )
        return actor

    async def _forget(self, ended: Sequence[Any]) -> None:
        for row in ended:
            await self._store.cache.changed(row.key, row.xid)


def _unknown(key_id: UUID) -> NotFoundError:
    return NotFoundError(f"There is no API key {key_id} that is in use.", hint="List them to see which there are.")


def check_name(name: str) -> str:
    """What the user calls the key."""
    if not isinstance(name, str) or not 1 <= len(name) <= NAME_LENGTH_MAX or not name.isprintable():
        raise ValidationError(f"name must be 1 to {NAME_LENGTH_MAX} characters that can be printed.", field="name")
    return name


def check_permissions(permissions: Iterable[str]) -> list[str]:
    """Permissions, each once, in order."""
    wanted = list(permissions) if isinstance(permissions, Iterable) and not isinstance(permissions, str) else []
    if not all(isinstance(one, str) and one.isprintable() and len(one) <= 65 for one in wanted):
        raise ValidationError("permissions must be names such as trades.read_own.", field="permissions")
    if not 1 <= len(set(wanted)) <= PERMISSIONS_MAX:
        raise ValidationError(f"permissions must be a list of 1 to {PERMISSIONS_MAX} names.", field="permissions")
    return sorted(set(wanted))


def check_networks(networks: Iterable[str]) -> list[str]:
    """Networks in their usual form; an address is a network of one.

    >>> check_networks(["192.0.2.7", "2001:db8::/32", "::ffff:198.51.100.0/120"])
    ['192.0.2.7/32', '2001:db8::/32', '198.51.100.0/24']
    """
    given = list(networks) if isinstance(networks, Iterable) and not isinstance(networks, str) else [networks]
    if len(given) > NETWORKS_MAX:
        raise ValidationError(
            f"allowed_addresses has {len(given)} networks; {NETWORKS_MAX} are possible.", field="allowed_addresses"
        )
    found = []
    for network in given:
        try:
            found.append(str(_network(network)))
        except ValueError:
            raise ValidationError(
                f"allowed_addresses has {str(network)[:50]!r}, which is no network.",
                field="allowed_addresses",
                hint="Write it like 192.0.2.0/24 or 2001:db8::/32, without host bits.",
            ) from None
    return found


def _network(text: object) -> IPv4Network | IPv6Network:
    # A number or bytes would be taken for an address, and of a zone PostgreSQL knows nothing.
    if not isinstance(text, str) or "%" in text:
        raise ValueError
    network = ip_network(text)
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is not None and network.prefixlen >= MAPPED_BITS:
        return IPv4Network((mapped, network.prefixlen - MAPPED_BITS))
    return network
