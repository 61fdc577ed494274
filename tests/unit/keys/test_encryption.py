"""Encryption: what was moved, cut, changed or wrapped with another key does not open; no nonce comes twice."""

from __future__ import annotations

import copy
import pickle
import traceback
from secrets import token_bytes
from uuid import UUID

import pytest

from novadex.errors import IntegrityFaultError, UsageError
from novadex.keys.encryption import (
    EMAIL,
    FORMAT,
    NONCE_BYTES,
    PERSONAL,
    WRAPPED_BYTES,
    DataKey,
    MasterKey,
    SecretKey,
)

ADA, BEA = UUID(int=1), UUID(int=2)
KEY = b"k3y-0f-tests-32-bytes-long-55aa!"
TEXT = "ada.lovelace@example.com"
PLACE = "user_keys.wrapped_key"
ENCRYPTIONS = 20_000


@pytest.fixture
def key() -> DataKey:
    return DataKey(ADA, KEY)


@pytest.fixture
def sealed(key: DataKey) -> bytes:
    return key.seal(EMAIL, TEXT, token_bytes)


@pytest.mark.parametrize("text", ["", TEXT, "Zoë 🦉\0", "x" * 100_000])
def test_what_was_sealed_opens(key: DataKey, text: str):
    sealed = key.seal(EMAIL, text, token_bytes)
    assert key.open(EMAIL, sealed) == text
    assert text == "" or text.encode() not in sealed


def test_the_format_is_what_the_documentation_says():
    """Checked against the library itself, with a nonce that is known."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = bytes(range(NONCE_BYTES))
    sealed = DataKey(ADA, KEY).seal(EMAIL, TEXT, lambda count: nonce[:count])
    data = f"users.email_ciphertext\0{ADA}\0{FORMAT}".encode()
    assert sealed == b"\x01" + nonce + AESGCM(KEY).encrypt(nonce, TEXT.encode(), data)


def test_another_column_another_user_another_key_do_not_open_it(key: DataKey, sealed: bytes):
    for wrong, field in (
        (key, PERSONAL),
        (DataKey(BEA, KEY), EMAIL),
        (DataKey(ADA, bytes(32)), EMAIL),
    ):
        with pytest.raises(IntegrityFaultError) as failure:
            wrong.open(field, sealed)
        assert TEXT not in str(failure.value)


def test_a_flipped_bit_anywhere_is_found(key: DataKey, sealed: bytes):
    for place in range(len(sealed) * 8):
        changed = bytearray(sealed)
        changed[place // 8] ^= 1 << place % 8
        with pytest.raises(IntegrityFaultError):
            key.open(EMAIL, bytes(changed))


def test_every_shorter_and_longer_ciphertext_is_refused(key: DataKey, sealed: bytes):
    for length in range(len(sealed)):
        with pytest.raises(IntegrityFaultError):
            key.open(EMAIL, sealed[:length])
    with pytest.raises(IntegrityFaultError):
        key.open(EMAIL, sealed + b"\0")


def test_an_unknown_format_is_named(key: DataKey, sealed: bytes):
    with pytest.raises(IntegrityFaultError, match="format 2 is not known"):
        key.open(EMAIL, b"\x02" + sealed[1:])


def test_a_field_has_the_form_table_column(key: DataKey):
    """Else two fields could have the same associated data."""
    for field in ("email", "", "users.email\0x", "users.email.x", "Users.email"):
        with pytest.raises(UsageError, match=r"TABLE\.COLUMN"):
            key.seal(field, TEXT, token_bytes)


def test_a_wrapped_key_opens_only_where_and_with_what_it_was_wrapped():
    first, second = MasterKey(1, KEY), MasterKey(2, KEY)
    wrapped = first.wrap(PLACE, str(ADA), bytes(32), token_bytes)
    assert len(wrapped) == WRAPPED_BYTES == 60
    assert first.unwrap(PLACE, str(ADA), wrapped) == bytes(32)
    flipped = bytes([wrapped[0] ^ 1]) + wrapped[1:]
    for master, place, owner, stored in (
        (first, PLACE, str(BEA), wrapped),
        (first, "system_keys.wrapped_key", str(ADA), wrapped),
        (second, PLACE, str(ADA), wrapped),
        (MasterKey(1, bytes(32)), PLACE, str(ADA), wrapped),
        (first, PLACE, str(ADA), flipped),
        (first, PLACE, str(ADA), wrapped[:-1]),
        (first, PLACE, str(ADA), b""),
    ):
        with pytest.raises(IntegrityFaultError):
            master.unwrap(place, owner, stored)


def test_no_nonce_comes_twice(key: DataKey):
    sealed = [key.seal(EMAIL, TEXT, token_bytes) for _ in range(ENCRYPTIONS)]
    assert len({one[1 : 1 + NONCE_BYTES] for one in sealed}) == ENCRYPTIONS
    assert len(set(sealed)) == ENCRYPTIONS
    master = MasterKey(1, KEY)
    wrapped = {master.wrap(PLACE, str(ADA), KEY, token_bytes)[:NONCE_BYTES] for _ in range(ENCRYPTIONS)}
    assert len(wrapped) == ENCRYPTIONS


def test_check_values_tell_keys_apart_and_do_not_tell_the_key():
    one, other = MasterKey(1, KEY), MasterKey(1, bytes(32))
    assert one.check_value != other.check_value
    assert one.check_value == MasterKey(7, KEY).check_value
    assert len(one.check_value) == 16
    assert one.check_value not in KEY


@pytest.mark.parametrize("secret", [DataKey(ADA, KEY), MasterKey(1, KEY), SecretKey(KEY)])
def test_a_key_is_not_shown_pickled_or_copied(secret: SecretKey):
    shown = f"{secret!r} {secret} {[secret]}"
    assert KEY.decode() not in shown
    assert KEY.hex() not in shown
    assert not hasattr(secret, "__dict__")
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="stays in its process"):
            attempt(secret)


def test_a_failure_says_nothing_of_key_or_text(key: DataKey, sealed: bytes):
    with pytest.raises(IntegrityFaultError) as failure:
        DataKey(BEA, KEY).open(EMAIL, sealed)
    told = "".join(traceback.format_exception(failure.value)) + repr(failure.value.as_dict())
    for secret in (TEXT, KEY.decode(), KEY.hex(), sealed.hex()):
        assert secret not in told


def test_a_master_key_has_32_bytes():
    with pytest.raises(ValueError, match="32 bytes, not 16"):
        MasterKey(1, bytes(16))
