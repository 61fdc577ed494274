"""``SessionService``: tokens and what they stand for, durable in PostgreSQL, quick in every process."""

from __future__ import annotations

import secrets
import time
import unicodedata
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import structlog
from uuid_utils.compat import uuid7

from novadex import metrics
from novadex.audit.acts import record_act, record_look
from novadex.errors import (
    AccessError,
    NotFoundError,
    PermissionDeniedError,
    ReauthenticationNeededError,
    RenewalNeededError,
    SessionEndedError,
    UnavailableError,
    ValidationError,
)
from novadex.ids import parse_id
from novadex.roles.actor import SERVICE, Actor, act_as
from novadex.roles.reasons import check_reason
from novadex.roles.roles import NO_PERMISSIONS, Roles
from novadex.roles.tokens import Randomness, cache_key_of, check_form, hash_of, make_token, not_authenticated
from novadex.sessions.records import NewSession, SessionRecord, SessionView
from novadex.sessions.store import ASK_AGAIN_S, ROTATED, CachedSession, SessionStore
from novadex.storage.connection import DatabaseConnection
from novadex.storage.queries import load_queries

if TYPE_CHECKING:
    from collections.abc import Sequence

    from novadex.storage.rows import Row
    from novadex.storage.session import Session

TOKEN_START = "nds_"  # noqa: S105 - what every token begins with
REUSE_GRACE_S = 10.0
"""Requests that were under way while a session was refreshed are refused, and not taken for theft."""
DEVICE_LENGTH_MAX = 500
USERS_PER_BATCH = 100
STOLEN = "token reused"
SIGNED_OUT = "signed out"
METHODS = ("service", "ethereum", "solana")

QUERIES = load_queries(Path(__file__).with_name("queries.sql"))
log = structlog.get_logger("novadex.sessions")


class SessionService:
    """Sessions of an instance.

    ``create`` gives a token, ``validate`` says whom it stands for. ``acting_as`` gives the same service on
    behalf of somebody: every method checks what they may do.
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
        self._store = self._db.companion(SessionStore)
        self._roles = self._db.companion(Roles)

    def acting_as(self, actor: Actor) -> SessionService:
        """This service on behalf of somebody."""
        return SessionService(self._db, actor=actor, randomness=self._randomness)

    async def create(
        self,
        user_id: UUID | str,
        *,
        device: str | None = None,
        address: str | None = None,
        method: str = "service",
        wallet: tuple[str, str] | None = None,
    ) -> NewSession:
        """Begin a session of an active user: a new sign-in. Needs ``sessions.create_any``. ``wallet``: chain and
        address by which the user proved who they are.

        One session more than NOVADEX_SESSIONS_PER_USER_MAX ends the one that was not used for longest.
        Raises ``NotFoundError`` for an unknown user, ``AccessError`` for one who is not active,
        ``PermissionDeniedError`` where the wallet is not theirs any more.
        """
        self._actor.require("sessions.create_any")
        user = parse_id(user_id, "user_id")
        device, address, method = check_device(device), check_address(address), check_method(method)
        settings = self._db.settings
        token, session_id = make_token(TOKEN_START, self._randomness), uuid7()
        async with self._db.transaction() as session:
            await act_as(session, self._actor)
            role = await self._lock_active_user(session, user)
            await self._roles.refuse_upwards(self._actor, user, role)
            await self._check_wallet(session, user, wallet)
            ended = await session.query(QUERIES.end_surplus, (user, settings.sessions_per_user_max - 1))
            [record] = await session.records(
                SessionRecord,
                QUERIES.insert_session,
                (
                    session_id,
                    user,
                    session_id,
                    hash_of(token),
                    device,
                    address,
                    method,
                    settings.session_idle_s,
                    settings.session_absolute_s,
                ),
            )
        await self._forget(ended)
        metrics.sessions_created.labels(method).inc()
        return NewSession(token, record)

    async def validate(self, token: str) -> SessionView:
        """Whom a token stands for.

        Raises ``NotAuthenticatedError`` for what is no token of a session, ``SessionEndedError`` for one that
        expired or was revoked, ``RenewalNeededError`` where the rights of the user changed: ``refresh`` it.
        A token that was replaced by a refresh was stolen by or from whoever shows it: its family ends.
        """
        try:
            key = cache_key_of(token)
        except (AttributeError, UnicodeEncodeError):
            raise not_authenticated() from None
        found = self._store.cache.peek(key)
        if found is not None:
            now = time.time()
            if now < found.good_until:
                view = found.view
                if view is not None and found.rights is not None and found.rights is self._roles.known():
                    if now >= found.touch_at:
                        self._store.touch(found, now)
                    return view
        return await self._validate_slowly(token, key)

    async def _validate_slowly(self, token: str, key: str) -> SessionView:
        check_form(token, TOKEN_START)
        found = await self._store.cache.get(key)
        now = time.time()
        if (
            found is not None
            and now >= max(found.good_until, found.ask_again_at)
            and found.revoked_at is None
            and not found.must_renew
        ):
            # It may have been used by another process meanwhile: PostgreSQL knows.
            found = await self._store.cache.load(key)
            now = time.time()
            if found is not None:
                found.ask_again_at = now + ASK_AGAIN_S
        if found is None:
            metrics.sessions_refused.labels("unknown").inc()
            raise not_authenticated()
        if found.revoked_at is not None:
            await self._refuse_ended(found, now)
        if found.status != "active":
            raise _ended()
        if now >= found.good_until and not found.must_renew:
            metrics.sessions_refused.labels("expired").inc()
            raise _ended()
        if found.must_renew:
            metrics.sessions_refused.labels("renewal").inc()
            raise RenewalNeededError(
                "What the user may do has changed since the session began.", hint="Refresh the session."
            )
        rights = await self._roles.all()
        permissions = rights.get(found.role, NO_PERMISSIONS)
        found.rights = rights
        found.view = view = SessionView(
            found.id,
            found.user_id,
            found.role,
            found.family_id,
            found.method,
            found.authenticated_at,
            found.expires_at,
            Actor(
                f"user:{found.user_id}",
                found.user_id,
                found.role,
                permissions,
                authenticated_at=found.authenticated_at,
            ),
        )
        if now >= found.touch_at:
            self._store.touch(found, now)
        return view

    async def _refuse_ended(self, found: CachedSession | Row, now: float) -> None:
        if _is_reuse(found, now):
            await self._revoke_family(found.family_id, found.user_id)
        metrics.sessions_refused.labels("revoked").inc()
        raise _ended()

    async def owner_of(self, token: str) -> UUID:
        """Whose token it is, also where it is good for a refresh alone, or for nothing any more.

        Raises ``NotAuthenticatedError`` for what is no token of a session.
        """
        found = await self._store.cache.get(hash_of(check_form(token, TOKEN_START)).hex())
        if found is None:
            raise not_authenticated()
        return found.user_id

    async def refresh(self, token: str, *, device: str | None = None, address: str | None = None) -> NewSession:
        """A new token in the place of the old one, which ends. The absolute end stays.

        An old token shown again revokes every session that descends from the same sign-in. So ``UnavailableError``
        means that the old one still stands; where that is not known, it is ``SessionEndedError``.
        """
        return await self._replace(token, device=check_device(device), address=check_address(address))

    async def reauthenticated(self, token: str, *, method: str, wallet: tuple[str, str] | None = None) -> NewSession:
        """A new token after the user proved again who they are, as in ``create``. Needs ``sessions.create_any``:
        whoever calls it has seen the proof."""
        self._actor.require("sessions.create_any")
        return await self._replace(token, method=check_method(method), wallet=wallet)

    async def _replace(
        self,
        token: str,
        *,
        device: str | None = None,
        address: str | None = None,
        method: str | None = None,
        wallet: tuple[str, str] | None = None,
    ) -> NewSession:
        digest = hash_of(check_form(token, TOKEN_START))
        new_token, new_id = make_token(TOKEN_START, self._randomness), uuid7()
        found = await self._db.main.one(QUERIES.session_of_token, (digest,), read_only=True)
        if found is None:
            raise not_authenticated()
        owner = found.user_id
        old: Row | None = None
        record: SessionRecord | None = None
        xid = 0
        try:
            async with self._db.transaction() as session:
                await act_as(session, Actor(f"user:{owner}", owner))
                # The user first, as everybody does who changes sessions: two never wait for each other.
                user = await session.one(QUERIES.lock_user, (owner,))
                if method is not None and user is not None:
                    await self._roles.refuse_upwards(self._actor, owner, user.role)
                await self._check_wallet(session, owner, wallet)
                old = await session.one(QUERIES.lock_session, (digest,))
                alive = old is not None and user is not None and user.status == "active" and not old.expired
                if alive and old is not None and old.revoked_at is None:
                    idle_s = self._db.settings.session_idle_s
                    [record] = await session.records(
                        SessionRecord,
                        QUERIES.insert_successor,
                        (old.id, new_id, hash_of(new_token), device, address, method, idle_s),
                    )
                    xid = await session.value(QUERIES.rotate, (old.id, new_id))
        except UnavailableError:
            # A retry after a commit whose answer was lost would be taken for a thief's.
            if not xid or not await self._is_there(owner, new_id):
                raise
        if old is None:
            raise not_authenticated()
        if record is None:
            if old.revoked_reason == ROTATED:
                await self._revoke_family(old.family_id, owner)
            raise _ended()
        await self._store.cache.changed(old.key, xid)
        metrics.sessions_refreshed.inc()
        return NewSession(new_token, record)

    async def _is_there(self, owner: UUID, session_id: UUID) -> bool:
        """Whether a session was committed by a transaction whose answer was lost."""
        try:
            async with self._db.transaction() as session:
                await session.one(QUERIES.lock_user, (owner,))  # it has ended: it held this
                return await session.value(QUERIES.is_session, (session_id,)) is not None
        except UnavailableError as error:
            raise SessionEndedError(
                "The database went away, and whether the session was replaced is not known.", hint="Sign in again."
            ) from error

    def require_recent(self, view: SessionView, max_age_s: float | None = None) -> None:
        """Raise ``ReauthenticationNeededError`` unless the user proved who they are lately, by default within
        NOVADEX_REAUTHENTICATION_S: for sensitive actions."""
        limit_s = self._db.settings.reauthentication_s if max_age_s is None else max_age_s
        age_s = (datetime.now(UTC) - view.authenticated_at).total_seconds()
        if age_s > limit_s:
            raise ReauthenticationNeededError(
                f"The last sign-in was {age_s:.0f} s ago, and this action wants one within {limit_s:g} s.",
                hint="Sign in again.",
            )

    async def list(self, user_id: UUID | str) -> list[SessionRecord]:
        """The sessions of a user that have not ended, the last used first; to staff that sees no personal data
        (``users.read_personal``) without device and address."""
        user = parse_id(user_id, "user_id")
        self._actor.require_for(user, "sessions.read_own", "sessions.read_any")
        await record_look(self._db, self._actor, "sessions.listed", user)
        limit = self._db.settings.sessions_per_user_max + 1_000  # the setting may have been higher
        found = await self._db.main.records(SessionRecord, QUERIES.live_of_user, (user, limit), read_only=True)
        if self._actor.sees_personal_of(user):
            return found
        return [replace(session, device=None, address=None) for session in found]

    async def revoke(self, session_id: UUID | str, *, reason: str = SIGNED_OUT) -> None:
        """End one session; no process accepts it any more within 250 ms, most within 50. Where it was refreshed
        meanwhile, what took its place ends: whoever names a session means the device, or the thief, that has it.

        One's own with ``sessions.revoke_own``, anybody's with ``sessions.revoke_any``. A session that ended
        already stays so. ``NotFoundError`` where there is none, or it is not one's own.
        """
        wanted = parse_id(session_id, "session_id")
        owner = self._owner_or_anybody()
        reason = _check_reason(reason)
        async with self._db.transaction() as session:
            await act_as(session, self._actor)
            found = await session.one(QUERIES.family_of_session, (wanted, owner))
            if found is None:
                raise NotFoundError(f"There is no session {wanted}.", hint="List them to see which there are.")
            await session.one(QUERIES.lock_user, (found.user_id,))  # no refresh beside it
            ended = await session.query(QUERIES.revoke_family, (found.family_id, reason))
        await self._forget(ended)
        metrics.sessions_revoked.inc(len(ended))

    async def revoke_token(self, token: str) -> None:
        """Sign out: end the session of a token, also of one that must be renewed, and of one that was replaced a
        moment ago by a refresh: then the one in its place.

        Raises ``NotAuthenticatedError`` for what is no token of a session, ``SessionEndedError`` where all ended.
        """
        digest = hash_of(check_form(token, TOKEN_START))
        found = await self._db.main.one(QUERIES.session_of_token, (digest,), read_only=True)
        if found is None:
            raise not_authenticated()
        async with self._db.transaction() as session:
            await act_as(session, Actor(f"user:{found.user_id}", found.user_id))
            await session.one(QUERIES.lock_user, (found.user_id,))
            old = await session.one(QUERIES.lock_session, (digest,))
            ended: Sequence[Any] = ()
            now = time.time()
            if old is not None and (
                (old.revoked_at is None and not old.expired)
                or (old.revoked_reason == ROTATED and not _is_reuse(old, now))
            ):
                ended = await session.query(QUERIES.revoke_family, (old.family_id, SIGNED_OUT))
        if not ended:
            if old is not None and old.revoked_at is not None:
                await self._refuse_ended(old, now)
            raise _ended()
        await self._forget(ended)
        metrics.sessions_revoked.inc(len(ended))

    async def revoke_all(
        self, user_id: UUID | str, *, but: UUID | str | None = None, reason: str = "signed out everywhere"
    ) -> int:
        """End all sessions of a user, but one; returns how many."""
        user = parse_id(user_id, "user_id")
        self._actor.require_for(user, "sessions.revoke_own", "sessions.revoke_any")
        kept = parse_id(but, "but") if but is not None else None
        reason = _check_reason(reason)
        async with self._db.transaction() as session:
            await act_as(session, self._actor)
            await session.one(QUERIES.lock_user, (user,))
            ended = await session.query(QUERIES.revoke_of_user, (user, kept, reason))
        await self._forget(ended)
        metrics.sessions_revoked.inc(len(ended))
        return len(ended)

    async def revoke_everybody(self, *, reason: str = "everybody signed out") -> int:
        """End all sessions of all users that there are now; returns how many. Needs ``sessions.revoke_any``.

        It goes on in transactions of ``USERS_PER_BATCH`` users, in the order of their ids: what was ended stays so
        where it is cut off, and another call ends the rest. API keys stay.
        """
        self._actor.require("sessions.revoke_any")
        reason = _check_reason(reason)
        async with self._db.transaction() as session:
            await act_as(session, self._actor)
            await record_act(session, self._actor, "sessions.revoked_everywhere", "users", {"reason": reason})
        last, revoked = UUID(int=0), 0
        while True:
            async with self._db.transaction() as session:
                await act_as(session, self._actor)
                users = [row.id for row in await session.query(QUERIES.lock_users_signed_in, (last, USERS_PER_BATCH))]
                if not users:
                    return revoked
                ended = await session.query(QUERIES.revoke_of_users, (users, reason))
            await self._forget(ended)
            metrics.sessions_revoked.inc(len(ended))
            last, revoked = users[-1], revoked + len(ended)

    def _owner_or_anybody(self) -> UUID | None:
        if self._actor.may("sessions.revoke_any"):
            return None
        self._actor.require("sessions.revoke_own")
        if self._actor.user_id is None:
            raise PermissionDeniedError(f"{self._actor.name} has no sessions of its own.")
        return self._actor.user_id

    async def _lock_active_user(self, session: Session, user_id: UUID) -> str:
        user = await session.one(QUERIES.lock_user, (user_id,))
        if user is None:
            raise NotFoundError(
                f"There is no user {user_id}.", hint="Is it the id of this instance?", user_id=user_id
            )
        if user.status != "active":
            raise AccessError(
                f"The user {user_id} is {user.status}.", hint="Only active users have sessions.", user_id=user_id
            )
        return user.role

    async def _check_wallet(self, session: Session, user_id: UUID, wallet: tuple[str, str] | None) -> None:
        """What caches said of the wallet may have changed before the user was locked."""
        if wallet is not None and not await session.value(QUERIES.has_wallet, (user_id, *wallet)):
            raise PermissionDeniedError("This wallet is not the user's any more.", hint="Sign in again.")

    async def _revoke_family(self, family_id: UUID, user_id: UUID) -> None:
        async with self._db.transaction() as session:
            await act_as(session, self._actor)
            await session.one(QUERIES.lock_user, (user_id,))
            ended = await session.query(QUERIES.revoke_family, (family_id, STOLEN))
        await self._forget(ended)
        if ended:
            metrics.sessions_revoked.inc(len(ended))
            metrics.session_tokens_reused.inc()
            log.warning(
                "a replaced token was shown again: its sessions ended", user_id=str(user_id), ended=len(ended)
            )

    async def _forget(self, ended: Sequence[Any]) -> None:
        for row in ended:
            await self._store.cache.changed(row.key, row.xid)


def _is_reuse(found: CachedSession | Row, now: float) -> bool:
    """Whether the token of this session is shown although it was replaced, and not just a moment ago."""
    at = found.revoked_at
    return at is not None and found.revoked_reason == ROTATED and now - at.timestamp() > REUSE_GRACE_S


def _ended() -> SessionEndedError:
    return SessionEndedError("The session has ended.", hint="Sign in again.")


def check_device(device: str | None) -> str | None:
    """What a client calls itself: at most 500 characters that can be shown; longer ones are cut."""
    if device is None:
        return None
    if not isinstance(device, str):
        raise ValidationError(f"device must be text, got {type(device).__name__}.", field="device")
    shown = "".join(c for c in device[: DEVICE_LENGTH_MAX * 2] if unicodedata.category(c)[0] != "C")
    return shown[:DEVICE_LENGTH_MAX] or None


def check_address(address: str | None) -> str | None:
    """A network address in its usual form, without the zone that only the machine itself knows.

    >>> check_address("2001:DB8::1"), check_address("::ffff:192.0.2.7"), check_address("fe80::1%eth0")
    ('2001:db8::1', '192.0.2.7', 'fe80::1')
    """
    if address is None:
        return None
    try:
        parsed = ip_address(address.partition("%")[0])
        return str(getattr(parsed, "ipv4_mapped", None) or parsed)
    except (AttributeError, TypeError, ValueError):
        raise ValidationError(
            "address is not a network address.", field="address", hint="Write it like 192.0.2.1."
        ) from None


def check_method(method: str) -> str:
    """How the user proved who they are."""
    if method not in METHODS:
        raise ValidationError(
            f"method must be one of {', '.join(METHODS)}, got {str(method)[:40]!r}.", field="method"
        )
    return method


def _check_reason(reason: str) -> str:
    if check_reason(reason) == ROTATED:
        raise ValidationError(f"reason must not be {ROTATED!r}: that is what a refresh writes.", field="reason")
    return reason
