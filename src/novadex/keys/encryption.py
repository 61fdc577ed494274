"""AES-256-GCM for fields and for the keys that encrypt them.

A sealed field is ``format byte | nonce (12 bytes) | ciphertext | tag (16 bytes)``. Its associated data names the
field, the user and the format, so what is put into another row, another column or under another format does not
open. A wrapped key is ``nonce | key | tag`` (60 bytes); its associated data names where it stands, whose it is and
the version of the master key that wraps it.

Nonces are random. Under one data key stand a user's few fields; under one master key every wrapped key of a venue,
far below the 2^32 that random nonces of 96 bits are good for.
"""

from __future__ import annotations

import hmac
import re
from hashlib import sha256
from typing import TYPE_CHECKING, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from novadex import metrics
from novadex.errors import IntegrityFaultError, UsageError
from novadex.settings import MASTER_KEY_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
WRAPPED_BYTES = NONCE_BYTES + KEY_BYTES + TAG_BYTES
CHECK_VALUE_BYTES = 16
FORMAT = 1
"""Of sealed fields: AES-256-GCM with a random nonce under the data key of the user."""
EMAIL = "users.email_ciphertext"
PERSONAL = "users.personal_ciphertext"
FIELD_FORM = re.compile(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*")


class SecretKey:
    """What a key of any kind shares: it is not shown, copied or sent to another process."""

    __slots__ = ("_cipher",)

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(***)"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} stays in its process: it is not pickled or copied")


class DataKey(SecretKey):
    """The key of one user's personal data."""

    __slots__ = ("user_id",)

    def __init__(self, user_id: UUID, key: bytes) -> None:
        super().__init__(key)
        self.user_id = user_id

    def __repr__(self) -> str:
        return f"DataKey(user {self.user_id})"

    def seal(self, field: str, plaintext: str, randomness: Callable[[int], bytes]) -> bytes:
        """Encrypt a field of this user."""
        nonce = randomness(NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, plaintext.encode(), _field_data(field, self.user_id, FORMAT))
        return bytes((FORMAT,)) + nonce + sealed

    def open(self, field: str, ciphertext: bytes) -> str:
        """Decrypt a field of this user.

        Raises ``IntegrityFaultError`` where it was sealed for another user or field, under another key, or changed.
        """
        if len(ciphertext) < 1 + NONCE_BYTES + TAG_BYTES:
            _refuse(field, self.user_id, f"it has {len(ciphertext)} bytes and was cut off")
        if ciphertext[0] != FORMAT:
            _refuse(field, self.user_id, f"its format {ciphertext[0]} is not known to this version")
        nonce, sealed = ciphertext[1 : 1 + NONCE_BYTES], ciphertext[1 + NONCE_BYTES :]
        try:
            return self._cipher.decrypt(nonce, sealed, _field_data(field, self.user_id, FORMAT)).decode()
        except InvalidTag:
            _refuse(field, self.user_id, "it was changed, or sealed for another user, field or key")


class MasterKey(SecretKey):
    """One version of the master key: it wraps the other keys, and encrypts nothing else."""

    __slots__ = ("check_value", "version")

    def __init__(self, version: int, key: bytes) -> None:
        if len(key) != MASTER_KEY_BYTES:
            raise ValueError(f"a master key has {MASTER_KEY_BYTES} bytes, not {len(key)}")
        super().__init__(_derived(key, b"novadex wrap"))
        self.version = version
        self.check_value = _derived(key, b"novadex check value")[:CHECK_VALUE_BYTES]
        """Tells another key of the same number apart, and nothing else about it."""

    def __repr__(self) -> str:
        return f"MasterKey(version {self.version})"

    def wrap(self, place: str, owner: str, key: bytes, randomness: Callable[[int], bytes]) -> bytes:
        """Encrypt a key; ``place`` is its column, ``owner`` the key of its row."""
        nonce = randomness(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, key, _key_data(place, owner, self.version))

    def unwrap(self, place: str, owner: str, wrapped: bytes) -> bytes:
        """Decrypt a key.

        Raises ``IntegrityFaultError`` where it is another row's, of another version, or changed.
        """
        if len(wrapped) != WRAPPED_BYTES:
            _refuse(place, owner, f"it has {len(wrapped)} bytes, not {WRAPPED_BYTES}")
        nonce, sealed = wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:]
        try:
            return self._cipher.decrypt(nonce, sealed, _key_data(place, owner, self.version))
        except InvalidTag:
            _refuse(place, owner, f"it was changed, or is not wrapped with master key {self.version} for this row")


def _derived(key: bytes, purpose: bytes) -> bytes:
    return hmac.digest(key, purpose, sha256)


def _field_data(field: str, user_id: UUID, version: int) -> bytes:
    if not FIELD_FORM.fullmatch(field):
        raise UsageError(f"A field is named TABLE.COLUMN, not {field!r}.", hint=f"For example {EMAIL}.")
    return f"{field}\0{user_id}\0{version}".encode()


def _key_data(place: str, owner: str, version: int) -> bytes:
    return f"{place}\0{owner}\0{version}".encode()


def _refuse(field: str, owner: object, reason: str) -> NoReturn:
    metrics.decryption_failures.labels(field).inc()
    raise IntegrityFaultError(
        f"{field} of {owner} cannot be decrypted: {reason}.",
        hint="Look in the audit log for who changed it, and restore the row from a backup.",
        field=field,
        owner=owner,
    ) from None
