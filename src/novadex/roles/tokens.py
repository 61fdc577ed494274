"""Secrets that stand for somebody: 256 random bits, of which only the hash is kept."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable
from typing import Final

from novadex.errors import NotAuthenticatedError

BYTES: Final = 32
TOKEN_LENGTH: Final = 47
"""``nds_`` and 43 characters of base64url."""
_TOKEN = re.compile(r"nd[sk]_[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]")

Randomness = Callable[[int], bytes]


def make_token(start: str, randomness: Randomness = secrets.token_bytes) -> str:
    """A token: ``nds_...`` of a session, ``ndk_...`` of an API key.

    >>> make_token("nds_", lambda count: bytes(count))
    'nds_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'
    """
    import base64

    return start + base64.urlsafe_b64encode(randomness(BYTES)).decode().rstrip("=")


def hash_of(token: str) -> bytes:
    """SHA-256: what is stored. It needs no salt, for there is nothing to guess in 256 random bits."""
    return hashlib.sha256(token.encode()).digest()


def cache_key_of(token: str) -> str:
    """The same, as caches name what it stands for."""
    return hashlib.sha256(token.encode()).hexdigest()


def check_form(token: object, start: str) -> str:
    """The token, if it can be one; else the error that every wrong token gets, before any server is asked."""
    if isinstance(token, str) and len(token) == TOKEN_LENGTH and token.startswith(start) and _TOKEN.fullmatch(token):
        return token
    raise not_authenticated()


def not_authenticated() -> NotAuthenticatedError:
    """The same for a token that never was, and for one that is not given out any more."""
    return NotAuthenticatedError("The session or key is not valid.", hint="Sign in again, or use another key.")
