"""Orders and their events by plain SQL, as the services write them: the triggers make it honest."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import dict_row
from uuid_utils.compat import uuid7

from novadex.ids import time_of
from tests.conftest import MarketRow


@dataclass
class Orders:
    """The orders of one user in one market."""

    url: str
    """Of main, as a role that may write orders and trades."""
    market: MarketRow
    user: UUID
    connection: psycopg.Connection[Any] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.connection = psycopg.connect(self.url, autocommit=True)

    def close(self) -> None:
        self.connection.close()

    def place(self, side: str, price: object, quantity: object, **more: Any) -> UUID:
        """Place one; returns its id. Without a price it is a market order."""
        return self.place_many([(side, price, quantity)], **more)[0]

    def place_many(self, orders: list[tuple[str, object, object]], **more: Any) -> list[UUID]:
        """Place several in one transaction."""
        ids = [uuid7() for _ in orders]
        fields = {"time_in_force": "gtc", "stop_price": None, "expires_at": None, "type": None} | more
        with self.connection.transaction(), self.connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO orders (id, user_id, market_id, base_decimals, quote_decimals, side, type,"
                " time_in_force, quantity, price, stop_price, status, expires_at)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                [
                    (
                        order_id,
                        self.user,
                        self.market.id,
                        self.market.base_decimals,
                        self.market.quote_decimals,
                        side,
                        fields["type"] or ("limit" if price is not None else "market"),
                        fields["time_in_force"],
                        quantity,
                        price,
                        fields["stop_price"],
                        "untriggered" if fields["stop_price"] is not None else "open",
                        fields["expires_at"],
                    )
                    for order_id, (side, price, quantity) in zip(ids, orders, strict=True)
                ],
            )
        return ids

    def cancel(self, order_id: UUID) -> None:
        self.change(order_id, "cancelled", status="cancelled")

    def trigger(self, order_id: UUID) -> None:
        self.change(order_id, "triggered", status="open")

    def amend(self, order_id: UUID, **changed: Any) -> None:
        self.change(order_id, "amended", **changed)

    def fill(self, order_id: UUID, quantity: object) -> UUID:
        """Fill it by so much; returns the id of the execution."""
        order = self.order(order_id)
        filled = order["filled_quantity"] + Decimal(str(quantity))
        trade = self._trade(order_id, order, Decimal(str(quantity)), order["side"])
        status = "filled" if filled == order["quantity"] else "partially_filled"
        self.change(order_id, "filled", status=status, filled_quantity=filled, trade_id=trade)
        return trade

    def bust(self, order_id: UUID, trade_id: UUID) -> None:
        """Undo a fill."""
        order = self.order(order_id)
        row = self.connection.execute("SELECT base_amount, price FROM trades WHERE id = %s", (trade_id,)).fetchone()
        assert row is not None
        filled = order["filled_quantity"] - row[0]
        other = "sell" if order["side"] == "buy" else "buy"
        undoing = self._trade(order_id, order | {"price": row[1]}, row[0], other, reverses=trade_id)
        status = "partially_filled" if filled else "open"
        self.change(order_id, "busted", status=status, filled_quantity=filled, trade_id=undoing)

    def change(self, order_id: UUID, type: str, **changed: Any) -> None:
        """Write an event of an order."""
        with self.connection.transaction():
            sequence = self.connection.execute(
                "SELECT sequence FROM market_sequences WHERE market_id = %s FOR UPDATE", (self.market.id,)
            ).fetchone()
            assert sequence is not None
            order = self.order(order_id)
            after = {name: order[name] for name in ("status", "quantity", "filled_quantity", "price")} | changed
            self.connection.execute(
                "INSERT INTO order_events (id, order_id, version, market_id, market_sequence, type, status,"
                " quantity, filled_quantity, price, actor, trade_id)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 'test', %s)",
                (
                    changed.get("trade_id") or uuid7(),
                    order_id,
                    order["version"] + 1,
                    self.market.id,
                    sequence[0] + 1,
                    type,
                    after["status"],
                    after["quantity"],
                    after["filled_quantity"],
                    after["price"],
                    changed.get("trade_id"),
                ),
            )

    def order(self, order_id: UUID) -> dict[str, Any]:
        with self.connection.cursor(row_factory=dict_row) as cursor:
            row = cursor.execute("SELECT * FROM orders WHERE id = %s", (order_id,)).fetchone()
        assert row is not None
        return row

    def _trade(
        self, order_id: UUID, order: dict[str, Any], quantity: Decimal, side: str, reverses: UUID | None = None
    ) -> UUID:
        # What undoes a trade has its time.
        trade_id = UUID(int=reverses.int ^ 1) if reverses is not None else uuid7()
        price = order["price"] or Decimal(1)
        self.connection.execute(
            "INSERT INTO trades (id, user_id, market_id, base_decimals, quote_decimals, side, base_amount,"
            " quote_amount, price, executed_at, order_id, reverses)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (
                trade_id,
                self.user,
                self.market.id,
                self.market.base_decimals,
                self.market.quote_decimals,
                side,
                quantity,
                quantity * price,
                price,
                time_of(trade_id),
                order_id,
                reverses,
            ),
        )
        return trade_id
