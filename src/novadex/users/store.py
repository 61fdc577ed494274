"""Where users are looked up: this process, the cache server, PostgreSQL. Personal data is decrypted in the process
alone: the cache server holds what PostgreSQL holds, sealed."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
import structlog

from novadex.api_keys.store import ApiKeyStore
from novadex.cache.cache import Cache, Caches, Loaded, single
from novadex.errors import ConfigurationError, IntegrityFaultError
from novadex.keys.encryption import EMAIL, PERSONAL
from novadex.keys.keyring import Keyring
from novadex.sessions.store import SessionStore
from novadex.storage.queries import Query, load_queries
from novadex.users.frozen import freeze
from novadex.users.records import Kind, Status, User, Wallet

if TYPE_CHECKING:
    from novadex.storage.connection import DatabaseConnection
    from novadex.storage.rows import Row

QUERIES = load_queries(Path(__file__).with_name("queries.sql"))


class _Stored(msgspec.Struct):
    """A user as it travels: sealed."""

    id: UUID
    kind: Kind
    username: str | None
    email_ciphertext: bytes | None
    personal_ciphertext: bytes | None
    role: str
    status: Status
    preferences: dict[str, Any]
    version: int
    created_at: datetime
    updated_at: datetime
    wrapped_key: bytes | None
    master_version: int | None
    wallets: tuple[Wallet, ...]


_STORED = msgspec.msgpack.Decoder(_Stored)
_PERSONAL = msgspec.json.Decoder(dict[str, str])
log = structlog.get_logger("novadex.users")


class UserStore:
    """``db.companion(UserStore)`` gives the one of a connection."""

    def __init__(self, db: DatabaseConnection) -> None:
        self._db = db
        self.caches = db.companion(Caches)
        self.keyring = db.companion(Keyring)
        self.users: Cache[User] = Cache(self.caches, "user", load=self._load_user, decode=self._decode)
        self.usernames: Cache[str] = self._lookup("username", QUERIES.id_by_username)
        self.emails: Cache[str] = self._lookup("email", QUERIES.id_by_email)
        self.wallets: Cache[str] = self._lookup("wallet", QUERIES.id_by_wallet)

    async def find(self, user_id: str) -> User | None:
        """A user by id, cached."""
        with suppress(ConfigurationError):  # who has no personal data is found without the master keys too
            await self.keyring.ready()
        return await self.users.get(user_id)

    async def find_readable(self, user_id: str) -> User | None:
        """The same, without what is encrypted where that cannot be read: for who needs the user all the same."""
        try:
            return await self.find(user_id)
        except (ConfigurationError, IntegrityFaultError) as error:
            log.exception("personal data cannot be read", user_id=user_id, code=error.code)
        document = single(await self._db.main.query(QUERIES.user_by_key, (user_id,), read_only=True)).document
        return None if document is None else _user_of(_STORED.decode(document), None, None)

    async def heard(self) -> None:
        """After a commit: this process serves nothing older from now on."""
        await self.caches.feed.catch_up()

    async def forget(self, user_id: UUID, look_ups: Row, xid: int) -> None:
        """After an erasure in this transaction: nothing personal is left in the cache server."""
        # Overwritten, if it can be, not deleted: what somebody else read before is then not written again.
        if not await self.users.refill(str(user_id)):
            await self.users.changed(str(user_id), xid)
        if look_ups.username is not None:
            await self.usernames.changed(look_ups.username, xid)
        if look_ups.email_index is not None:
            await self.emails.changed(look_ups.email_index, xid)
        for cache, keys in (
            (self.wallets, look_ups.wallets),
            (self._db.companion(SessionStore).cache, look_ups.sessions),
            (self._db.companion(ApiKeyStore).cache, look_ups.api_keys),
        ):
            for key in keys:
                await cache.changed(key, xid)

    async def close(self) -> None:
        """Nothing of its own to close."""

    def _lookup(self, namespace: str, query: Query) -> Cache[str]:
        async def load(key: str) -> Loaded:
            parameters = key.split(":", 1) if namespace == "wallet" else [key]
            [row] = await self._db.main.query(query, parameters, read_only=True)
            return Loaded(row.id.encode() if row.id else None, row.mark)

        return Cache(self.caches, namespace, load=load, decode=lambda document: bytes(document).decode())

    async def _load_user(self, key: str) -> Loaded:
        rows = await self._db.main.query(QUERIES.user_by_key, (key,), read_only=True)
        version = rows[0].master_version
        if version is not None:
            await self.keyring.know(version)  # so that decoding, which cannot wait, finds it
        return single(rows)

    def _decode(self, document: bytes) -> User:
        stored = _STORED.decode(document)
        email = personal = None
        sealed = stored.email_ciphertext is not None or stored.personal_ciphertext is not None
        if sealed and stored.wrapped_key is None:
            raise key_is_gone(stored.id)
        if stored.wrapped_key is not None and stored.master_version is not None:
            data_key = self.keyring.unwrap(stored.id, stored.wrapped_key, stored.master_version)
            if stored.email_ciphertext is not None:
                email = self.keyring.open_(EMAIL, stored.id, data_key, stored.email_ciphertext)
            if stored.personal_ciphertext is not None:
                text = self.keyring.open_(PERSONAL, stored.id, data_key, stored.personal_ciphertext)
                personal = _PERSONAL.decode(text)
        return _user_of(stored, email, personal)


def _user_of(stored: _Stored, email: str | None, personal: dict[str, str] | None) -> User:
    return User(
        stored.id,
        stored.kind,
        stored.username,
        email,
        stored.role,
        stored.status,
        freeze(stored.preferences),
        freeze(personal),
        stored.wallets,
        stored.version,
        stored.created_at,
        stored.updated_at,
    )


def key_is_gone(user_id: UUID) -> IntegrityFaultError:
    """Something is encrypted, and the key to it is not there: never to be taken for nothing, nor given a new key."""
    return IntegrityFaultError(
        f"The data key of user {user_id} is gone, and encrypted data is still there.",
        hint="Look in the audit log for who deleted it, and restore the row of user_keys from a backup.",
        user_id=user_id,
    )
