"""All records that a simulation leaves, without what differs from run to run: when it was written, and by which
transaction."""

from __future__ import annotations

import hashlib
from typing import Any

RECORDS = {
    "users": "SELECT id, kind, username, role, status FROM users WHERE kind = 'person' ORDER BY id",
    "markets": "SELECT symbol, tick_size, lot_size FROM markets ORDER BY symbol",
    "fees": "SELECT f.* FROM fee_rates f ORDER BY market_id, tier",
    "tiers": "SELECT * FROM user_fee_tiers ORDER BY user_id",
    "orders": """
        SELECT o.id, user_id, m.symbol, side, type, time_in_force, post_only, reduce_only, quantity, price,
            stop_price, filled_quantity, o.status, version, expires_at, placed_by
        FROM orders o JOIN markets m ON m.id = o.market_id ORDER BY o.id
    """,
    "events": """
        SELECT m.symbol, e.market_sequence, e.order_id, e.version, e.type, e.status, e.quantity, e.filled_quantity,
            e.price, e.reason, e.actor, t.match_id
        FROM order_events e JOIN markets m ON m.id = e.market_id LEFT JOIN trades t ON t.id = e.trade_id
        ORDER BY m.symbol, e.market_sequence
    """,
    "transfers": """
        SELECT t.id, user_id, kind, a.symbol, amount, executed_at, source
        FROM transfers t JOIN assets a ON a.id = t.asset_id ORDER BY t.id
    """,
    "matches": """
        SELECT h.id, m.symbol, source, source_match_id, executed_at, undone, undone_by, undone_reason
        FROM matches h JOIN markets m ON m.id = h.market_id ORDER BY h.id
    """,
    "trades": """
        SELECT match_id, liquidity, reverses IS NULL AS counts, user_id, order_id, type, side, base_amount,
            quote_amount, price, fee_amount, executed_at
        FROM trades ORDER BY match_id, liquidity, reverses IS NULL
    """,
}


async def hashes(db: Any) -> dict[str, str]:
    """A hash of each kind of records."""
    found = {}
    for name, statement in RECORDS.items():
        digest = hashlib.blake2b(digest_size=16)
        async for row in db.main.stream(statement):
            digest.update(repr(tuple(row)).encode())
        found[name] = digest.hexdigest()
    return found
