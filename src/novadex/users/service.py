"""``UserService``: who trades, and their wallets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import msgspec
from psycopg import errors
from psycopg.types.json import Jsonb
from uuid_utils.compat import uuid7

from novadex.audit.acts import record_look
from novadex.errors import (
    AccessError,
    ConflictError,
    NotFoundError,
    PermissionDeniedError,
    UnavailableError,
    UsageError,
    ValidationError,
)
from novadex.ids import parse_id
from novadex.keys.encryption import EMAIL, PERSONAL, DataKey
from novadex.keys.erasures import erase_user
from novadex.roles.actor import SERVICE, Actor, act_as
from novadex.roles.roles import Roles
from novadex.sessions.records import NewSession
from novadex.sessions.service import SessionService
from novadex.storage.connection import DatabaseConnection
from novadex.users.addresses import chain_of, normalise
from novadex.users.checks import check_email, check_personal, check_preferences, check_username
from novadex.users.records import User, UserPage, Wallet
from novadex.users.store import QUERIES, UserStore, key_is_gone

if TYPE_CHECKING:
    from novadex.storage.rows import Row
    from novadex.storage.session import Session

LIST_LIMIT, LIST_LIMIT_MAX = 100, 1_000
FIELDS = frozenset({"wallet_address", "chain", "email", "username", "role", "kind", "preferences", "personal", "id"})
KINDS = ("person", "program")
STATUSES = ("active", "deactivated", "erased")
WALLETS_MAX = 50
"""Of one user; the trigger ``wallets_few`` has the same number."""
FIELD_OF_CONSTRAINT = {
    "users_pkey": "id",
    "users_username_key": "username",
    "users_email_key": "email",
    "wallets_address_key": "wallet_address",
    "wallets_evm_key": "wallet_address",
}
VERSION_MAX = (1 << 63) - 1
_LAST_ID = UUID(int=(1 << 128) - 1)


class _Unset:
    """What was not given, where None means to take away."""

    def __repr__(self) -> str:
        return "not given"


UNSET: Final = _Unset()


class UserService:
    """Users of an instance.

    >>> import asyncio
    >>> from novadex import DatabaseConnection, UserService
    >>> async def example():
    ...     user_service = UserService()
    ...     user = await user_service.create_user({
    ...         "wallet_address": "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    ...         "email": "user@example.com",
    ...         "username": "trader123",
    ...     })
    ...     session = await user_service.create_session(user.id)
    ...     await DatabaseConnection.get_instance().close()  # at the end of the program
    ...     return user.username, user.wallet_address, session.token[:4]
    >>> asyncio.run(example())
    ('trader123', '0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed', 'nds_')

    ``acting_as`` gives the same service on behalf of somebody: every method checks what they may do, before
    anything is looked up. Without it, the program that uses the service acts, and may do everything.
    """

    def __init__(self, db: DatabaseConnection | None = None, *, actor: Actor = SERVICE) -> None:
        self._db = db or DatabaseConnection.get_instance()
        self._actor = actor
        self._store = self._db.companion(UserStore)
        self._keyring = self._store.keyring
        self._roles = self._db.companion(Roles)

    def acting_as(self, actor: Actor) -> UserService:
        """This service on behalf of somebody."""
        return UserService(self._db, actor=actor)

    # Making users

    async def create_user(self, user: Mapping[str, Any] | None = None, /, **fields: Any) -> User:
        """Add a user: ``wallet_address``, ``email``, ``username``, ``role`` (user), ``kind`` (person, program),
        ``preferences``, ``personal``, ``chain`` (by the address's form) and ``id`` (UUIDv7), all optional.

        With the caller's own ``id`` a retry gives the user who is there, if it is the same. Raises
        ``ValidationError`` and ``ConflictError``, which name the ``field``. Needs ``users.create``, another role
        than ``user`` also ``users.change_role``.
        """
        self._actor.require("users.create")
        given = _fields(user, fields)
        role, kind = given.get("role", "user"), given.get("kind", "person")
        if role != "user":
            self._actor.require("users.change_role")
            await self._check_role(role)
            await self._refuse_to_grant(role)
        if kind not in KINDS:
            raise ValidationError(f"kind must be {' or '.join(KINDS)}, got {_shown(kind)}.", field="kind")
        user_id = parse_id(given["id"], "id") if "id" in given else uuid7()
        if user_id.version != 7:
            raise ValidationError(f"id must be a UUIDv7, got {user_id}.", field="id")
        wallet = _wallet(given["wallet_address"], given.get("chain")) if "wallet_address" in given else None
        if wallet is None and "chain" in given:
            raise ValidationError("chain was given without a wallet_address.", field="wallet_address")
        username = check_username(given["username"]) if "username" in given else None
        email = check_email(given["email"]) if "email" in given else None
        personal = check_personal(given["personal"]) if "personal" in given else None
        preferences = check_preferences(given.get("preferences", {}))

        async def insert() -> None:
            sealed = await self._seal_new(user_id, email, personal)
            columns = (user_id, kind, username, sealed.email, sealed.email_index, sealed.personal, role)
            async with self._writing() as session:
                await session.execute(QUERIES.insert_user, (*columns, Jsonb(preferences)))
                if sealed.wrapped_key is not None:
                    await session.execute(QUERIES.insert_user_key, (user_id, sealed.wrapped_key, sealed.version))
                if wallet is not None:
                    await session.execute(QUERIES.insert_wallet, (uuid7(), user_id, *wallet))

        try:
            await _twice_if_undone(insert)
        except ConflictError as error:
            if "id" not in given or error.details.get("field") != "id":
                raise
            there = await self._store.users.load(str(user_id))
            wanted = (kind, username, email, role, personal, preferences)
            if there is None or not _same(there, wanted, wallet):
                raise
            return await self._view(there)
        return self._shown(await self._after_change(user_id))

    async def create_session(
        self, user_id: UUID | str, *, device: str | None = None, address: str | None = None
    ) -> NewSession:
        """Begin a session of an active user; its ``token`` is seen this once."""
        return await SessionService(self._db, actor=self._actor).create(user_id, device=device, address=address)

    # Finding users

    async def get_user(self, id: UUID | str) -> User:
        """A user by id, cached. ``NotFoundError`` where there is none.

        Personal data is in it for the user themselves, for trusted programs, and with ``users.read_personal``.
        """
        actor = self._actor
        if actor.acts_for_itself:
            found = self._store.users.peek(id if type(id) is str else str(id) if isinstance(id, UUID) else "")
            if found is not None:
                return found
        user_id = parse_id(id, "id")
        actor.require_for(user_id, "users.read_own", "users.read_any")
        found = await self._store.find(str(user_id))
        if found is None:
            await self._record_search("id", f"user:{user_id}")
            raise NotFoundError(
                f"There is no user {user_id}.", hint="Is it the id of this instance?", user_id=user_id
            )
        return await self._view(found)

    async def get_user_by_wallet(self, wallet_address: str, *, chain: str | None = None) -> User:
        """The user who holds a wallet. ``NotFoundError`` where there is none."""
        self._actor.require("users.read_any")
        wallet = _wallet(wallet_address, chain)
        return await self._found(await self._store.wallets.get(":".join(wallet)), "wallet")

    async def get_user_by_username(self, username: str) -> User:
        """The user of a name, however it is capitalised. ``NotFoundError`` where there is none."""
        self._actor.require("users.read_any")
        return await self._found(await self._store.usernames.get(check_username(username)), "username")

    async def get_user_by_email(self, email: str) -> User:
        """The user of an email address. ``NotFoundError`` where there is none. Needs ``users.read_personal``."""
        self._actor.require("users.read_any")
        self._actor.require("users.read_personal")
        checked = check_email(email)
        await self._keyring.ready()
        return await self._found(await self._store.emails.get(self._keyring.email_index(checked).hex()), "email")

    async def list_users(
        self,
        *,
        role: str | None = None,
        status: str | None = None,
        limit: int = LIST_LIMIT,
        cursor: str | None = None,
    ) -> UserPage:
        """A page of users without personal data, the newest first. ``cursor`` is the ``next`` of the page before.
        Needs ``users.read_any``."""
        self._actor.require("users.read_any")
        if type(limit) is not int or not 1 <= limit <= LIST_LIMIT_MAX:
            raise ValidationError(f"limit must be 1 to {LIST_LIMIT_MAX}, got {_shown(limit)}.", field="limit")
        if status is not None and status not in STATUSES:
            raise ValidationError(
                f"status must be one of {', '.join(STATUSES)}, got {_shown(status)}.", field="status"
            )
        if role is not None:
            await self._check_role(role)
        above = parse_id(cursor, "cursor") if cursor is not None else _LAST_ID
        await record_look(self._db, self._actor, "users.listed")
        query = QUERIES.users_newest
        if role not in (None, "user"):
            query = QUERIES.users_newest_of_rare_role
        elif status not in (None, "active"):
            query = QUERIES.users_newest_of_rare_status
        rows = await self._db.main.query(query, (above, role, status, limit + 1), read_only=True)
        users = [_listed(row) for row in rows[:limit]]
        return UserPage(users, str(users[-1].id) if len(rows) > limit else None)

    # Changing users

    async def update_user(
        self,
        id: UUID | str,
        *,
        username: str | _Unset | None = UNSET,
        email: str | _Unset | None = UNSET,
        personal: Mapping[str, str] | _Unset | None = UNSET,
        preferences: Mapping[str, Any] | _Unset | None = UNSET,
        expected_version: int | None = None,
    ) -> User:
        """Change what is given; None takes it away (of preferences, all of them). With
        ``expected_version``, only if nobody changed the user since that version (``ConflictError``)."""
        user_id = parse_id(id, "id")
        self._actor.require_for(user_id, "users.update_own", "users.update_any")
        new_username = check_username(username) if _is_given(username) else None
        new_email = check_email(email) if _is_given(email) else None
        new_personal = check_personal(personal) if _is_given(personal) else None
        new_preferences = None
        if preferences is not UNSET:
            new_preferences = check_preferences({} if preferences is None else preferences)
        if expected_version is not None and not (
            type(expected_version) is int and 0 < expected_version <= VERSION_MAX
        ):
            raise ValidationError(
                f"expected_version must be a positive number, got {_shown(expected_version)}.",
                field="expected_version",
            )
        if new_email is not None:
            await self._keyring.ready()

        async def update() -> None:
            async with self._writing() as session:
                row = await self._lock_active(session, user_id)
                if expected_version is not None and row.version != expected_version:
                    raise ConflictError(
                        f"The user {user_id} has version {row.version}, not {expected_version}: somebody changed it.",
                        hint="Read the user again, and decide anew.",
                        field="version",
                    )
                if username is not UNSET:
                    await session.execute(QUERIES.update_username, (user_id, new_username))
                if new_preferences is not None:
                    await session.execute(QUERIES.update_preferences, (user_id, Jsonb(new_preferences)))
                if email is not UNSET:
                    sealed, index = None, None
                    if new_email is not None:
                        data_key = await self._data_key(session, user_id, row)
                        sealed = self._keyring.seal(EMAIL, user_id, data_key, new_email)
                        index = self._keyring.email_index(new_email)
                    await session.execute(QUERIES.update_email, (user_id, sealed, index))
                if personal is not UNSET:
                    sealed = None
                    if new_personal is not None:
                        data_key = await self._data_key(session, user_id, row)
                        sealed = self._keyring.seal(PERSONAL, user_id, data_key, _as_text(new_personal))
                    await session.execute(QUERIES.update_personal, (user_id, sealed))

        await _twice_if_undone(update)
        return await self._view(await self._after_change(user_id))

    async def change_role(self, id: UUID | str, role: str) -> User:
        """Give a user another role; their sessions must be refreshed then. Nobody changes their own, and nobody
        gives more than they have."""
        user_id = parse_id(id, "id")
        self._actor.require("users.change_role")
        if user_id == self._actor.user_id:
            raise PermissionDeniedError("Nobody changes their own role.", hint="Ask another administrator.")
        await self._check_role(role)
        await self._refuse_to_grant(role)
        async with self._writing() as session:
            row = await self._lock(session, user_id)
            if row.kind == "system":
                raise ConflictError(f"User {user_id} is a system account: it has no role to change.")
            await session.execute(QUERIES.update_role, (user_id, role))
        return await self._view(await self._after_change(user_id))

    async def deactivate_user(self, id: UUID | str) -> User:
        """Deactivate a user: sessions and API keys end in the same transaction. Records stay."""
        return await self._set_status(id, "deactivated", "users.deactivate_own")

    async def reactivate_user(self, id: UUID | str) -> User:
        """Make a deactivated user active again; sessions and keys that ended do not come back."""
        return await self._set_status(id, "active", "users.deactivate_any")

    async def erase_user(self, id: UUID | str) -> None:
        """Erase the personal data of a user for good: email, name, wallets, what they told, devices. The data key
        is destroyed, and a list outside the database has it erased again after any restore. Records stay."""
        user_id = parse_id(id, "id")
        self._actor.require_for(user_id, "users.erase_own", "users.erase_any")
        found: list[Row] = []

        async def look(session: Session, role: str) -> None:
            await self._roles.refuse_upwards(self._actor, user_id, role)
            found.extend(await session.query(QUERIES.look_ups, (user_id,)))

        # Nothing is decrypted: it goes where a ciphertext is damaged or the master keys are lost, too.
        erasure = await erase_user(self._db, self._actor, user_id, before=look)
        await self._store.heard()
        for look_ups in found:
            await self._store.forget(user_id, look_ups, erasure.xid)

    # Wallets

    async def add_wallet(
        self, id: UUID | str, wallet_address: str, *, chain: str | None = None, primary: bool = False
    ) -> User:
        """Add a wallet, 50 at most; the first one is the primary one. A user does it by a signature
        (``SignInService``): who calls this has seen one. Needs ``wallets.manage_any``."""
        user_id = parse_id(id, "id")
        self._actor.require("wallets.manage_any")
        wallet = _wallet(wallet_address, chain)
        async with self._writing() as session:
            await self._lock_active(session, user_id)
            if not await session.value(QUERIES.has_wallet, (user_id, *wallet)):
                if await session.value(QUERIES.wallet_count, (user_id,)) >= WALLETS_MAX:
                    raise ConflictError(
                        f"The user {user_id} has {WALLETS_MAX} wallets, and no more are possible.",
                        hint="Remove one first.",
                        field="wallet_address",
                    )
                await session.execute(QUERIES.insert_wallet, (uuid7(), user_id, *wallet))
            if primary:
                await self._make_primary(session, user_id, wallet)
        return await self._view(await self._after_change(user_id))

    async def remove_wallet(self, id: UUID | str, wallet_address: str, *, chain: str | None = None) -> User:
        """Take a wallet away; if it was the primary one, the one that was added first becomes it. Users keep one:
        without any they could not sign in."""
        user_id = parse_id(id, "id")
        self._actor.require_for(user_id, "wallets.manage_own", "wallets.manage_any")
        wallet = _wallet(wallet_address, chain)
        async with self._writing() as session:
            await self._lock_active(session, user_id)
            if (
                not self._actor.may("wallets.manage_any")
                and await session.value(QUERIES.wallet_count, (user_id,)) == 1
            ):
                raise ConflictError(
                    "This is the only wallet: without it there would be no way to sign in.",
                    hint="Add another wallet first.",
                    field="wallet_address",
                )
            was_primary = await session.value(QUERIES.delete_wallet, (user_id, *wallet))
            if was_primary is None:
                raise NotFoundError(f"User {user_id} has no such wallet.", hint="Look at the user's wallets.")
            if was_primary:
                await session.execute(QUERIES.promote_oldest_wallet, (user_id,))
        return await self._view(await self._after_change(user_id))

    async def set_primary_wallet(self, id: UUID | str, wallet_address: str, *, chain: str | None = None) -> User:
        """Make one of the user's wallets the primary one."""
        user_id = parse_id(id, "id")
        self._actor.require_for(user_id, "wallets.manage_own", "wallets.manage_any")
        wallet = _wallet(wallet_address, chain)
        async with self._writing() as session:
            await self._lock_active(session, user_id)
            if not await session.value(QUERIES.has_wallet, (user_id, *wallet)):
                raise NotFoundError(f"User {user_id} has no such wallet.", hint="Add it first.")
            await self._make_primary(session, user_id, wallet)
        return await self._view(await self._after_change(user_id))

    # What they share

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[Session]:
        """A transaction of this actor. What is taken already becomes a ``ConflictError`` that names the field;
        after the commit this process serves nothing older."""
        try:
            async with self._db.transaction() as session:
                await act_as(session, self._actor)
                yield session
        except errors.CheckViolation as error:
            if error.diag.constraint_name != "users_preferences_size":
                raise
            raise ValidationError(
                "preferences are too large as the database writes them.", field="preferences", hint="Store less."
            ) from None
        except errors.UniqueViolation as error:
            name = FIELD_OF_CONSTRAINT.get(error.diag.constraint_name or "")
            if name is None:
                raise
            await self._store.heard()  # whoever looks next finds who has it
            raise ConflictError(
                f"This {name} is taken by another user.", hint="Use another one.", field=name
            ) from None
        await self._store.heard()

    async def _set_status(self, id: UUID | str, status: str, own: str) -> User:
        user_id = parse_id(id, "id")
        self._actor.require_for(user_id, own, "users.deactivate_any")
        async with self._writing() as session:
            row = await self._lock(session, user_id)
            if row.status == "erased":
                raise ConflictError(f"User {user_id} was erased: that is for good.", hint="Create a new user.")
            if row.kind == "system":
                raise ConflictError(f"User {user_id} is a system account: imports need it.")
            await session.execute(QUERIES.update_status, (user_id, status))
        return await self._view(await self._after_change(user_id))

    async def _lock(self, session: Session, user_id: UUID) -> Row:
        row = await session.one(QUERIES.lock_user, (user_id,))
        if row is None:
            raise NotFoundError(
                f"There is no user {user_id}.", hint="Is it the id of this instance?", user_id=user_id
            )
        await self._roles.refuse_upwards(self._actor, user_id, row.role)
        return row

    async def _lock_active(self, session: Session, user_id: UUID) -> Row:
        row = await self._lock(session, user_id)
        if row.status != "active":
            hint = "That is for good." if row.status == "erased" else "Reactivate the user first."
            raise AccessError(f"The user {user_id} is {row.status}.", hint=hint)
        return row

    async def _refuse_to_grant(self, role: str) -> None:
        actor = self._actor
        more = await self._roles.permissions_of(role) - actor.permissions
        if more and not actor.trusted:
            raise PermissionDeniedError(
                f"{actor.name} may not make anybody {role}: that role may do more than they may themselves.",
                hint="Ask an administrator.",
            )

    async def _check_role(self, role: object) -> None:
        if not isinstance(role, str) or not role.isascii() or not await self._roles.exists(role):
            raise ValidationError(
                f"There is no role {_shown(role)}.", field="role", hint="novadex roles list shows them."
            )

    async def _make_primary(self, session: Session, user_id: UUID, wallet: tuple[str, str]) -> None:
        await session.execute(QUERIES.unset_primary_wallet, (user_id, *wallet))
        await session.execute(QUERIES.set_primary_wallet, (user_id, *wallet))

    async def _seal_new(self, user_id: UUID, email: str | None, personal: dict[str, str] | None) -> _Sealed:
        if email is None and personal is None:
            return _Sealed()
        data_key, wrapped, version = await self._keyring.new_data_key(user_id)
        return _Sealed(
            self._keyring.seal(EMAIL, user_id, data_key, email) if email is not None else None,
            self._keyring.email_index(email) if email is not None else None,
            self._keyring.seal(PERSONAL, user_id, data_key, _as_text(personal)) if personal is not None else None,
            wrapped,
            version,
        )

    async def _data_key(self, session: Session, user_id: UUID, row: Row) -> DataKey:
        if row.wrapped_key is not None:
            return await self._keyring.data_key(user_id, row.wrapped_key, row.master_version)
        if row.sealed:
            raise key_is_gone(user_id)
        data_key, row["wrapped_key"], row["master_version"] = await self._keyring.new_data_key(user_id)
        await session.execute(QUERIES.insert_user_key, (user_id, row.wrapped_key, row.master_version))
        return data_key

    async def _after_change(self, user_id: UUID) -> User:
        """The change is committed: that their personal data cannot be read does not undo it."""
        found = await self._store.find_readable(str(user_id))
        if found is None:
            raise NotFoundError(f"There is no user {user_id}.", user_id=user_id)
        return found

    async def _found(self, user_id: str | None, by: str) -> User:
        found = await self._store.find(user_id) if user_id is not None else None
        if found is None:
            await self._record_search(by)
            raise NotFoundError(f"There is no user of this {by}.", hint="Is it written as it was given?")
        return await self._view(found)

    async def _record_search(self, by: str, subject: str = "users") -> None:
        """Whoever of the staff tries names that nobody has is written down too; what they tried is personal."""
        await record_look(self._db, self._actor, "users.sought", detail={"by": by}, subject=subject)

    async def _view(self, user: User) -> User:
        """As this actor may see it. Whoever of the staff looks at others is written down."""
        detail = {"personal_data": user.has_personal() and self._actor.may("users.read_personal")}
        await record_look(self._db, self._actor, "users.read", user.id, detail)
        return self._shown(user)

    def _shown(self, user: User) -> User:
        return user if self._actor.sees_personal_of(user.id) else user.without_personal()


class _Sealed(msgspec.Struct, frozen=True):
    """What is stored of the personal data of a new user."""

    email: bytes | None = None
    email_index: bytes | None = None
    personal: bytes | None = None
    wrapped_key: bytes | None = None
    version: int | None = None


def _fields(user: object, more: dict[str, Any]) -> dict[str, Any]:
    """What was given of a user; None is as if it was not."""
    if user is not None and not isinstance(user, Mapping):
        raise UsageError(
            f"A user is given as a mapping or by keywords, got {type(user).__name__}.",
            hint='For example create_user({"username": "trader123"}).',
        )
    given = {**dict(user or {}), **more}
    unknown = sorted(str(name)[:40].encode("ascii", "replace").decode() for name in given if name not in FIELDS)
    if unknown:
        raise ValidationError(
            f"A user has no field {', '.join(unknown)[:100]}.",
            field=unknown[0],
            hint=f"There are: {', '.join(sorted(FIELDS))}.",
        )
    return {name: value for name, value in given.items() if value is not None}


def _is_given(value: object) -> bool:
    return value is not None and value is not UNSET


async def _twice_if_undone(work: Callable[[], Awaitable[None]]) -> None:
    """The database undoes what wraps a key with a master key that was retired at that moment: the second time the
    keyring knows the newer one."""
    try:
        await work()
    except errors.SerializationFailure:
        try:
            await work()
        except errors.SerializationFailure as error:
            raise UnavailableError(
                "The database undid this twice, for others change the same.", hint="Try again."
            ) from error


def _wallet(address: object, chain: object) -> tuple[str, str]:
    """Chain and address in their stored form."""
    if chain is not None and not isinstance(chain, str):
        raise ValidationError(f"chain must be text, got {type(chain).__name__}.", field="chain")
    known = chain if chain is not None else chain_of(address)
    return known, normalise(known, address)


def _same(user: User, wanted: tuple[Any, ...], wallet: tuple[str, str] | None) -> bool:
    """Whether a retry meant the user who is there."""
    there = (user.kind, user.username, user.email, user.role, user.personal, user.preferences)
    return there == wanted and (wallet is None or wallet in {(held.chain, held.address) for held in user.wallets})


def _as_text(personal: Mapping[str, str]) -> str:
    return msgspec.json.encode(personal).decode()


def _shown(value: object) -> str:
    """For a message: a part of long text, and no int of more digits than Python writes."""
    if isinstance(value, str):
        return repr(value[:40])
    return str(value) if type(value) is int and abs(value) <= VERSION_MAX else type(value).__name__


def _listed(row: Row) -> User:
    wallets = tuple(Wallet(UUID(w["id"]), w["chain"], w["address"], w["is_primary"]) for w in row.wallets)
    return User(
        row.id,
        row.kind,
        row.username,
        None,
        row.role,
        row.status,
        {},
        None,
        wallets,
        row.version,
        row.created_at,
        row.updated_at,
    )
