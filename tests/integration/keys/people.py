"""A person with everything that an erasure takes away, as the services leave it in the database."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import psycopg

from novadex.ids import uuid7
from novadex.keys.encryption import EMAIL, PERSONAL
from novadex.keys.keyring import Keyring
from novadex.storage.connection import DatabaseConnection
from tests.conftest import DatabasePair

ADDRESS = "ada.lovelace.secret@example.com"
NAME = "Ada Augusta King-Noel secret"
WALLET = "0x52908400098527886E0F7030069857D2E4169EE7"
DEVICE = "secret browser of Ada"
NETWORK = "203.0.113.77"
PLAIN = (ADDRESS, NAME)
"""What is never stored in plain text."""


@dataclass(frozen=True, slots=True)
class Person:
    """What the test knows, and the database should not."""

    user_id: UUID
    email_ciphertext: bytes
    wrapped_key: bytes
    master_version: int


async def add_person(db: DatabaseConnection, databases: DatabasePair, address: str = ADDRESS) -> Person:
    """Add a person with email, name, wallet, a session and an API key."""
    keyring = db.companion(Keyring)
    await keyring.ready()
    user_id, notification_id = uuid7(), uuid7()
    key, wrapped, version = await keyring.new_data_key(user_id)
    email = keyring.seal(EMAIL, user_id, key, address)
    personal = keyring.seal(PERSONAL, user_id, key, NAME)
    with psycopg.connect(databases.main_url("app")) as connection:
        connection.execute(
            "INSERT INTO users (id, username, email_ciphertext, email_index, personal_ciphertext, preferences)"
            ' VALUES (%s, %s, %s, %s, %s, \'{"theme": "dark"}\')',
            (user_id, f"u{user_id.hex}", email, keyring.email_index(address), personal),
        )
        connection.execute(
            "INSERT INTO user_keys (user_id, wrapped_key, master_version) VALUES (%s, %s, %s)",
            (user_id, wrapped, version),
        )
        connection.execute(
            "INSERT INTO wallets (id, user_id, chain, address, is_primary) VALUES (%s, %s, 'evm', %s, true)",
            (uuid7(), user_id, f"{WALLET[:-12]}{user_id.hex[-12:]}"),
        )
        connection.execute(
            "INSERT INTO user_sessions (id, user_id, family_id, token_hash, device, address, idle_expires_at,"
            " expires_at) VALUES (%s, %s, %s, sha256(%s), %s, %s, now() + interval '1 hour',"
            " now() + interval '1 day')",
            (uuid7(), user_id, uuid7(), user_id.bytes, DEVICE, NETWORK),
        )
        connection.execute(
            "INSERT INTO api_keys (id, user_id, name, key_hash, key_start, permissions, allowed_addresses,"
            " expires_at) VALUES (%s, %s, %s, sha256(%s), 'nvdx_', '{trades.read_own}', %s,"
            " now() + interval '1 day')",
            (uuid7(), user_id, "secret bot of Ada", user_id.bytes, [NETWORK]),
        )
        connection.execute(
            "INSERT INTO notifications (id, user_id, kind, title, body, data, cause_id)"
            " VALUES (%s, %s, 'system_notice', 'Dear Ada', 'Words for Ada', '{\"title\": \"Dear Ada\"}', 'x')",
            (notification_id, user_id),
        )
        connection.execute(
            "INSERT INTO notification_deliveries (notification_id, channel) VALUES (%s, 'email')", (notification_id,)
        )
        connection.execute(
            "INSERT INTO notification_webhooks (user_id, url_ciphertext, secret_ciphertext) VALUES (%s, %s, %s)",
            (user_id, personal, personal),
        )
        connection.execute(
            "INSERT INTO notification_preferences VALUES (%s, 'order_filled', 'email', true)", (user_id,)
        )
    with psycopg.connect(databases.main_url("owner")) as connection:
        connection.execute("INSERT INTO known_devices SELECT %s, device_hash(%s, %s)", (user_id, user_id, DEVICE))
        connection.execute("INSERT INTO new_sign_ins SELECT id FROM user_sessions WHERE user_id = %s", (user_id,))
    return Person(user_id, email, wrapped, version)


COUNTED = (
    "keys",
    "wallets",
    "sessions",
    "api_keys",
    "notifications",
    "deliveries",
    "webhooks",
    "preferences",
    "alerts",
    "devices",
    "sign_ins",
    "erasures",
)


def left_of(databases: DatabasePair, user_id: UUID) -> dict[str, object]:
    """What is still there of a person, apart from the records."""
    with psycopg.connect(databases.main_url(None)) as connection:
        user = connection.execute(
            "SELECT status, username, email_ciphertext, email_index, personal_ciphertext, preferences FROM users"
            " WHERE id = %s",
            (user_id,),
        ).fetchone()
        counts = connection.execute(
            "SELECT (SELECT count(*) FROM user_keys WHERE user_id = %(id)s),"
            " (SELECT count(*) FROM wallets WHERE user_id = %(id)s),"
            " (SELECT count(*) FROM user_sessions WHERE user_id = %(id)s AND NOT (device IS NULL AND address IS NULL"
            " AND revoked_at IS NOT NULL)),"
            " (SELECT count(*) FROM api_keys WHERE user_id = %(id)s AND NOT (name = 'erased'"
            " AND allowed_addresses = '{}' AND revoked_at IS NOT NULL)),"
            " (SELECT count(*) FROM notifications WHERE user_id = %(id)s AND NOT (title = 'erased' AND body = ''"
            " AND data = '{}')),"
            " (SELECT count(*) FROM notification_deliveries d JOIN notifications n ON n.id = d.notification_id"
            " WHERE n.user_id = %(id)s AND d.status NOT IN ('delivered', 'cancelled')),"
            " (SELECT count(*) FROM notification_webhooks WHERE user_id = %(id)s),"
            " (SELECT count(*) FROM notification_preferences WHERE user_id = %(id)s),"
            " (SELECT count(*) FROM price_alerts WHERE user_id = %(id)s),"
            " (SELECT count(*) FROM known_devices WHERE user_id = %(id)s),"
            " (SELECT count(*) FROM new_sign_ins i JOIN user_sessions s ON s.id = i.session_id"
            " WHERE s.user_id = %(id)s),"
            " (SELECT count(*) FROM erasures WHERE user_id = %(id)s)",
            {"id": user_id},
        ).fetchone()
    assert counts is not None
    return {
        "user": user,
        **dict(zip(COUNTED, counts, strict=True)),
    }


ERASED = {
    "user": ("erased", None, None, None, None, {}),
    **dict.fromkeys(COUNTED, 0),
    "erasures": 1,
}
