"""Tells users what became of their orders: it follows the events of each market by their sequence, and commits its
position together with the notifications. So every event is told once, wherever a worker is killed."""

from __future__ import annotations

from collections import Counter
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING

from novadex.notifications.making import Maker, count_made
from novadex.notifications.records import Draft
from novadex.storage.queries import load_queries

if TYPE_CHECKING:
    from novadex.storage.connection import DatabaseConnection
    from novadex.storage.rows import Row

QUERIES = load_queries(Path(__file__).with_suffix(".sql"))
BATCH_EVENTS = 5_000
"""Looked at in one transaction."""
BATCH_TOLD = 250
"""Told in one transaction. What is done at once is short: books are published from the same process."""
BATCHES_MAX = 1_000
"""Of one market in one run; what is left is for the next."""
TOLD = {
    "busted": "order_busted",
    "cancelled": "order_cancelled",
    "expired": "order_expired",
    "rejected": "order_rejected",
}


class OrderNotifier:
    """The projection. Several workers may run it: each market has one at a time."""

    def __init__(
        self, db: DatabaseConnection, *, batch_events: int = BATCH_EVENTS, batch_told: int = BATCH_TOLD
    ) -> None:
        self._db = db
        self._maker = Maker(db.settings)
        self._batch = batch_events, batch_told

    async def catch_up(self) -> int:
        """Tell everything that nobody was told; returns how many events were looked at."""
        looked_at = 0
        for row in await self._db.main.query(QUERIES.markets_behind, read_only=True):
            for _ in range(BATCHES_MAX):
                count, more = await self._next_batch(row.market_id)
                looked_at += count
                if not more:
                    break
        return looked_at

    async def _next_batch(self, market_id: int) -> tuple[int, bool]:
        """Returns how many events were looked at, and whether there may be more."""
        made: Counter[str] = Counter()
        async with self._db.transaction() as session:
            position = await session.value(QUERIES.lock_position, (market_id,))
            if position is None:
                # Another worker is at it, or the market is new.
                await session.execute(QUERIES.follow_markets)
                position = await session.value(QUERIES.lock_position, (market_id,))
            if position is None:
                return 0, False
            rows = await session.query(QUERIES.next_events, (market_id, position, *self._batch))
            up_to, more = rows[0].up_to, rows[0].more
            if up_to is not None:
                made = await self._maker.make(session, [draft_of(row) for row in rows if row.id is not None])
                await session.execute(QUERIES.move_position, (market_id, up_to))
        count_made(made)
        return (0 if up_to is None else up_to - position), more


def draft_of(event: Row) -> Draft:
    """What the owner of an order is told of an event."""
    kind = TOLD.get(event.type) or ("order_filled" if event.status == "filled" else "order_partially_filled")
    fields = {
        "order_id": event.order_id,
        "client_order_id": event.client_order_id,
        "market": event.market,
        "side": event.side,
        "quantity": event.quantity,
        "filled_quantity": event.filled_quantity,
        "occurred_at": event.occurred_at.astimezone(UTC).isoformat(timespec="milliseconds"),
        "reason": event.reason,
        "amount": event.amount,
        "price": event.price,
        "trade_id": event.trade_id,
    }
    data = {name: str(value) for name, value in fields.items() if value is not None}
    return Draft(event.user_id, kind, str(event.id), data)
