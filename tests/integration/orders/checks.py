"""What must hold of orders, whatever happened: asked of the database itself."""

from __future__ import annotations

from typing import Any

REBUILT = """
    -- Each order from its events: the last one, and what the first one says.
    SELECT count(*) FROM orders o
    LEFT JOIN LATERAL (
        SELECT * FROM order_events e WHERE e.order_id = o.id ORDER BY e.version DESC LIMIT 1
    ) AS last ON true
    WHERE (o.version, o.status, o.quantity, o.filled_quantity, o.price, o.updated_at) IS DISTINCT FROM
        (last.version, last.status, last.quantity, last.filled_quantity, last.price, last.occurred_at)
"""
GAPS_OF_ORDERS = """
    SELECT count(*) FROM (
        SELECT version, row_number() OVER (PARTITION BY order_id ORDER BY version) AS place FROM order_events
    ) AS numbered WHERE version <> place
"""
GAPS_OF_MARKETS = """
    SELECT count(*) FROM (
        SELECT e.market_sequence, row_number() OVER (PARTITION BY e.market_id ORDER BY e.market_sequence) AS place
        FROM order_events e
    ) AS numbered WHERE market_sequence <> place
"""
SEQUENCES_BEHIND = """
    SELECT count(*) FROM market_sequences s
    WHERE s.sequence <> (SELECT coalesce(max(market_sequence), 0) FROM order_events e WHERE e.market_id = s.market_id)
"""
FILLED_OTHERWISE = """
    SELECT count(*) FROM orders o WHERE o.filled_quantity <> (
        SELECT coalesce(sum(CASE WHEN t.reverses IS NULL THEN t.base_amount ELSE -t.base_amount END), 0)
        FROM trades t WHERE t.order_id = o.id
    )
"""
ONE_SIDED = """
    SELECT count(*) FROM matches m
    WHERE (SELECT count(*) FROM trades t WHERE t.match_id = m.id)
        <> (CASE WHEN m.maker_trade_id IS NULL THEN 1 ELSE 2 END) * (CASE WHEN m.undone IS NULL THEN 1 ELSE 2 END)
"""
ILLEGAL = """
    SELECT count(*) FROM (
        SELECT type, status, lag(status) OVER (PARTITION BY order_id ORDER BY version) AS before FROM order_events
    ) AS steps
    WHERE type <> 'placed' AND NOT EXISTS (
        SELECT FROM order_transitions n WHERE (n.type, n.from_status, n.to_status) = (steps.type, before, status)
    )
"""
INVARIANTS = {
    "orders that are not as their events say": REBUILT,
    "gaps in the versions of orders": GAPS_OF_ORDERS,
    "gaps in the sequences of markets": GAPS_OF_MARKETS,
    "sequences that are not the last event's": SEQUENCES_BEHIND,
    "orders that are not filled by their trades": FILLED_OTHERWISE,
    "matches without both sides": ONE_SIDED,
    "steps that the state machine has not": ILLEGAL,
}


async def violations(db: Any) -> dict[str, int]:
    """The invariants that do not hold, and how often."""
    counts = {name: await db.main.value(statement) for name, statement in INVARIANTS.items()}
    return {name: count for name, count in counts.items() if count}
