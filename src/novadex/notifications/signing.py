"""Signatures of webhooks, by the open specification of standardwebhooks.com, so that receivers find libraries.

Each request carries ``Webhook-Id`` (the same in every attempt: drop what you have seen), ``Webhook-Timestamp``
(seconds since 1970) and ``Webhook-Signature`` (``v1,`` and the base64 of HMAC-SHA-256 over ``ID.TIMESTAMP.BODY``).
"""

from __future__ import annotations

import base64
import binascii
import hmac
import time
from collections.abc import Callable, Mapping
from hashlib import sha256

from novadex.errors import NotAuthenticatedError, ValidationError

ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER = "Webhook-Id", "Webhook-Timestamp", "Webhook-Signature"
SECRET_START = "whsec_"  # noqa: S105 - what every secret begins with
SECRET_BYTES = 32
REPLAY_WINDOW_S = 300.0
"""Receivers refuse what was signed longer ago, or is to be signed in the future."""
SIGNATURES_MAX = 10


def make_secret(randomness: Callable[[int], bytes]) -> str:
    """A new secret: ``whsec_`` and 32 bytes as base64."""
    return SECRET_START + base64.b64encode(randomness(SECRET_BYTES)).decode()


def sign_webhook(secret: str, id: str, timestamp_s: int, body: bytes) -> str:
    """The value of ``Webhook-Signature``."""
    signed = hmac.digest(_key_of(secret), f"{id}.{timestamp_s}.".encode() + body, sha256)
    return "v1," + base64.b64encode(signed).decode()


def verify_webhook(
    secret: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    window_s: float = REPLAY_WINDOW_S,
    now: Callable[[], float] = time.time,
) -> str:
    """For receivers in Python: the id of a request that is authentic and recent; drop it if you have seen the id.

    Raises ``NotAuthenticatedError``.

    >>> secret = make_secret(lambda count: bytes(count))
    >>> signature = sign_webhook(secret, "7", 1000, b"{}")
    >>> headers = {"webhook-id": "7", "webhook-timestamp": "1000", "webhook-signature": signature}
    >>> verify_webhook(secret, headers, b"{}", now=lambda: 1001.0)
    '7'
    """
    given = {name.lower(): value for name, value in headers.items()}
    id, timestamp = given.get(ID_HEADER.lower(), ""), given.get(TIMESTAMP_HEADER.lower(), "")
    if not timestamp.isascii() or not timestamp.isdigit() or len(timestamp) > 12:
        raise _refused("it has no time")
    if abs(now() - int(timestamp)) > window_s:
        raise _refused("it was signed too long ago, or the clocks differ")
    expected = sign_webhook(secret, id, int(timestamp), body).encode()
    candidates = given.get(SIGNATURE_HEADER.lower(), "").split()[:SIGNATURES_MAX]
    if not any(hmac.compare_digest(expected, candidate.encode()) for candidate in candidates):
        raise _refused("its signature is not of this secret and this body")
    return id


def _key_of(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix(SECRET_START), validate=True)
    except (binascii.Error, ValueError):
        raise ValidationError(
            "secret is no secret of a webhook.", field="secret", hint=f"It begins with {SECRET_START}."
        ) from None


def _refused(reason: str) -> NotAuthenticatedError:
    return NotAuthenticatedError(f"This request is not believed: {reason}.", hint="Answer it with 401.")
