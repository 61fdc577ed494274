"""The hash chain: what is hashed, and in which order.

A row's hash is SHA-256 over its id, time in microseconds, transaction id, and then the length in characters and the
text of actor, action, subject, detail (as PostgreSQL prints it) and database role, joined by commas, in UTF-8. A
link's hash is SHA-256 over the hash of the link before it, its position and the row's id (eight bytes each,
big-endian), and the row's hash.
"""

from __future__ import annotations

from hashlib import sha256

GENESIS = bytes(32)
"""Before the first link."""
POSITIONS_END = 1 << 62
"""No chain gets here: such a link was put in. ``seal_audit`` has the same bound."""


def content_of(  # noqa: PLR0917 - the columns in their order
    id: str, occurred_at_us: str, xid: str, actor: str, action: str, subject: str, detail: str, database_role: str
) -> str:
    """What is hashed of a row, from the texts of its columns.

    >>> content_of("7", "1700000000000000", "812", "cli", "market.created", "market:BTC/USDT", "{}", "novadex_app")
    '7,1700000000000000,812,3,cli,14,market.created,15,market:BTC/USDT,2,{},11,novadex_app'
    """
    texts = (actor, action, subject, detail, database_role)
    return ",".join([id, occurred_at_us, xid, *(f"{len(text)},{text}" for text in texts)])


def row_hash(content: str) -> bytes:
    """The hash of a row of the audit log."""
    return sha256(content.encode()).digest()


def link_hash(before: bytes, position: int, audit_id: int, hash_of_row: bytes) -> bytes:
    """The hash of a link."""
    numbers = position.to_bytes(8, "big", signed=True) + audit_id.to_bytes(8, "big", signed=True)
    return sha256(before + numbers + hash_of_row).digest()
