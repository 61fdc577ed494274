"""Nonces: 128 random bits, good for one sign-in and five minutes at most; only their hash is stored."""

from __future__ import annotations

import hashlib
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

from novadex.errors import NotAuthenticatedError, OverloadedError
from novadex.storage.queries import load_queries

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from novadex.storage.connection import DatabaseConnection
    from novadex.storage.session import Session

QUERIES = load_queries(Path(__file__).with_name("queries.sql"))
NONCE_BYTES = 16
COUNT_INTERVAL_S = 1.0


class Nonces:
    """``db.companion(Nonces)`` makes those of a connection.

    How many wait is counted once a second at most, and what this process adds is counted on: the limit is there so
    that the table stays small, and need not be exact.
    """

    def __init__(self, db: DatabaseConnection) -> None:
        self._db = db
        self._waiting = 0
        self._counted_at = -math.inf

    async def new(
        self, random_bytes: Callable[[int], bytes], lifetime_s: float, nonces_max: int
    ) -> tuple[str, datetime]:
        """A nonce and when it ends. Raises ``OverloadedError`` where ``nonces_max`` wait to be used."""
        if time.monotonic() - self._counted_at >= COUNT_INTERVAL_S:
            self._counted_at = time.monotonic()
            self._waiting = await self._db.main.value(QUERIES.count_waiting, (nonces_max,))
        if self._waiting >= nonces_max:
            raise OverloadedError(
                f"{nonces_max} sign-ins have been begun and not been ended.",
                hint="Try again in a minute. NOVADEX_SIGN_IN_NONCES_MAX is the limit.",
            )
        self._waiting += 1
        nonce = random_bytes(NONCE_BYTES).hex()
        return nonce, await self._db.main.value(QUERIES.add_nonce, (_hash_of(nonce), lifetime_s))

    async def close(self) -> None:
        """Nothing of its own to close."""


async def use_nonce(session: Session, nonce: str) -> None:
    """Use it up in this transaction. Raises ``NotAuthenticatedError`` where it is not ours, was used or ended."""
    if not await session.value(QUERIES.use_nonce, (_hash_of(nonce),)):
        raise NotAuthenticatedError(
            "The nonce of the message is unknown, was used already, or ended.",
            hint="Ask for a new nonce and sign a new message.",
        )


def _hash_of(nonce: str) -> bytes:
    return hashlib.sha256(nonce.encode()).digest()
