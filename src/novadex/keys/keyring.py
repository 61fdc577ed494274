"""The keyring of a process: master keys in memory, the data keys of users, the blind index of email addresses."""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from novadex.errors import TimeoutExceededError, UsageError
from novadex.keys.email_address import normalise_email
from novadex.keys.encryption import KEY_BYTES, DataKey, MasterKey
from novadex.keys.master_keys import MasterKeys, compare_with_database, load_master_keys
from novadex.keys.single_flight import SingleFlight
from novadex.roles.actor import Actor, act_as
from novadex.storage.queries import load_queries

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from novadex.storage.connection import DatabaseConnection

SQL = load_queries(Path(__file__).with_suffix(".sql"))
ACTOR = Actor.program("keyring")
EMAIL_INDEX = "email_index"
USER_KEY = "user_keys.wrapped_key"
SYSTEM_KEY = "system_keys.wrapped_key"
READ_S_MAX = 10.0
"""How long reading the master keys may take: the file can be on a network's disk."""
VIEW_S_MAX = 1.0
"""How old the knowledge may be of which master key is to be used for new keys."""
UNKNOWN_S = 1.0
"""How long a version that was not found is not looked for again."""


class Keyring:
    """Encrypts and decrypts personal data; ``db.companion(Keyring)`` is the one of a connection.

    Await ``ready`` before anything else. A master key that another process made since then is found by itself:
    ``data_key`` and ``new_data_key`` read the file again where they meet a version that is not known here.
    """

    def __init__(self, db: DatabaseConnection, *, randomness: Callable[[int], bytes] = secrets.token_bytes) -> None:
        self._db = db
        self._randomness = randomness
        self._masters: MasterKeys | None = None
        self._active = 0
        self._viewed_at = 0.0
        self._index: hmac.HMAC | None = None
        self._index_wrapped: bytes | None = None
        self._missing: dict[int, float] = {}
        self._beginning = SingleFlight(self._begin)
        self._reading = SingleFlight(self._read)
        self._viewing = SingleFlight(self._view)

    def __repr__(self) -> str:
        return f"Keyring(master keys {sorted(self._masters.versions) if self._masters else 'not read yet'})"

    async def ready(self) -> None:
        """Read the master keys, and make what this database needs of keys where it is new.

        Raises ``ConfigurationError`` where the master keys are missing, wrong, or not those of this database.
        """
        if self._index is None:
            await self._beginning.join()

    async def close(self) -> None:
        """Forget every key."""
        for flight in (self._beginning, self._reading, self._viewing):
            await flight.close()
        self._masters = self._index = self._index_wrapped = None

    # Fields

    def seal(self, field: str, user_id: UUID, data_key: DataKey, plaintext: str) -> bytes:
        """Encrypt a field (``TABLE.COLUMN``, such as ``encryption.EMAIL``) of a user."""
        self._check_owner(user_id, data_key)
        return data_key.seal(field, plaintext, self._randomness)

    def open_(self, field: str, user_id: UUID, data_key: DataKey, ciphertext: bytes) -> str:
        """Decrypt a field of a user.

        Raises ``IntegrityFaultError`` where it was sealed for another user or field, or changed.
        """
        self._check_owner(user_id, data_key)
        return data_key.open(field, ciphertext)

    def email_index(self, email: str) -> bytes:
        """The keyed hash by which an email address is looked up: HMAC-SHA-256 of its normalised form."""
        if self._index is None:
            raise UsageError("The keyring is not ready.", hint="Await ready() first.")
        index = self._index.copy()
        index.update(normalise_email(email).encode())
        return index.digest()

    # Data keys

    async def new_data_key(self, user_id: UUID) -> tuple[DataKey, bytes, int]:
        """A new key for a user: the key, and what to store of it in ``user_keys`` (wrapped key, master version)."""
        await self.ready()
        if time.monotonic() - self._viewed_at > VIEW_S_MAX:
            await self._viewing.join()
        key = self._randomness(KEY_BYTES)
        wrapped = self._known(self._active).wrap(USER_KEY, str(user_id), key, self._randomness)
        return DataKey(user_id, key), wrapped, self._active

    async def data_key(self, user_id: UUID, wrapped: bytes, master_version: int) -> DataKey:
        """The key of a user, from its row in ``user_keys``; reads the master keys again where the version is new.

        Raises ``KeyUnknownError`` where the version is not there either, ``IntegrityFaultError`` where the wrapped
        key is another user's, or was changed.
        """
        await self.know(master_version)
        return self.unwrap(user_id, wrapped, master_version)

    def unwrap(self, user_id: UUID, wrapped: bytes, master_version: int) -> DataKey:
        """``data_key`` without waiting: with the master keys in memory.

        Raises ``KeyUnknownError`` where the version is not among them: ``await know(master_version)``, and try again.
        """
        return DataKey(user_id, self._known(master_version).unwrap(USER_KEY, str(user_id), wrapped))

    async def know(self, master_version: int) -> None:
        """Have this version of the master key in memory.

        Raises ``KeyUnknownError`` where neither the file nor the setting has it.
        """
        await self.ready()
        await self._know(master_version)

    # Master keys

    async def _know(self, version: int) -> None:
        if version in self._loaded().versions:
            return
        # It stands in the database, so it was in the file before: reading from now on finds it if it is there at all.
        if time.monotonic() - self._missing.get(version, -UNKNOWN_S) >= UNKNOWN_S:
            await self._reading.join_new(lambda: version in self._loaded().versions)
            if version not in self._loaded().versions:
                self._missing[version] = time.monotonic()
        self._known(version)

    def _known(self, version: int) -> MasterKey:
        return self._loaded().known(version)

    def _loaded(self) -> MasterKeys:
        if self._masters is None:
            raise UsageError("The keyring is not ready.", hint="Await ready() first.")
        return self._masters

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(READ_S_MAX):
                self._masters = await asyncio.to_thread(
                    load_master_keys, self._db.settings, self._db.endpoints.data_dir
                )
        except TimeoutError:
            raise TimeoutExceededError(
                f"The master keys could not be read within {READ_S_MAX:.0f} s.",
                hint="Does the disk that holds them answer?",
            ) from None

    async def _begin(self) -> None:
        await self._reading.join_new()
        await self._view()

    async def _view(self) -> None:
        """See which master key is in use, and that the keys here are those of this database."""
        asked_at = time.monotonic()
        rows = await self._db.main.query(SQL.master_keys, read_only=True)
        if not rows:
            await self._add_master_key(self._known(self._loaded().newest))
            rows = await self._db.main.query(SQL.master_keys, read_only=True)
        active = max((row.version for row in rows if not row.retired), default=rows[-1].version)
        await self._know(active)
        compare_with_database(self._loaded(), rows)
        await self._load_index(self._known(active))
        self._active, self._viewed_at = active, asked_at

    async def _add_master_key(self, key: MasterKey) -> None:
        async with self._db.main.transaction() as session:
            await act_as(session, ACTOR)
            await session.execute(SQL.add_master_key, (key.version, key.check_value))

    async def _load_index(self, active: MasterKey) -> None:
        row = await self._db.main.one(SQL.system_key, (EMAIL_INDEX,), read_only=True)
        if row is None:
            # Several processes may do this at the same moment: the first key that is committed is the one.
            wrapped = active.wrap(SYSTEM_KEY, EMAIL_INDEX, self._randomness(KEY_BYTES), self._randomness)
            async with self._db.main.transaction() as session:
                await act_as(session, ACTOR)
                await session.execute(SQL.add_system_key, (EMAIL_INDEX, wrapped, active.version))
            row = await self._db.main.one(SQL.system_key, (EMAIL_INDEX,), read_only=True)
        assert row is not None  # noqa: S101 - system keys are not deleted
        if row.wrapped_key != self._index_wrapped:
            await self._know(row.master_version)
            key = self._known(row.master_version).unwrap(SYSTEM_KEY, EMAIL_INDEX, row.wrapped_key)
            self._index, self._index_wrapped = hmac.new(key, digestmod=sha256), row.wrapped_key

    def _check_owner(self, user_id: UUID, data_key: DataKey) -> None:
        if data_key.user_id != user_id:
            raise UsageError(f"This is the data key of user {data_key.user_id}, not of {user_id}.")
