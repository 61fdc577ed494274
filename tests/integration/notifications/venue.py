"""A venue in plain SQL: orders, fills and what else becomes of orders. The triggers keep it honest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from novadex.ids import id_at, time_of, uuid7
from tests.conftest import MarketRow

PRICE = Decimal(100)


@dataclass(frozen=True, slots=True)
class Venue:
    """Writes as the owner of the schema."""

    url: str
    market: MarketRow

    @contextmanager
    def writing(self) -> Iterator[psycopg.Connection[Any]]:
        with psycopg.Connection[dict[str, Any]].connect(self.url, row_factory=dict_row) as connection:
            yield connection

    def place(self, user: UUID, quantity: int = 10, *, placed_by: str | None = None) -> UUID:
        order = uuid7()
        with self.writing() as connection:
            connection.execute(
                "INSERT INTO orders (id, user_id, market_id, base_decimals, quote_decimals, side, type, quantity,"
                " price, placed_by) VALUES (%s, %s, %s, %s, %s, 'buy', 'limit', %s, %s, %s)",
                (
                    order,
                    user,
                    self.market.id,
                    self.market.base_decimals,
                    self.market.quote_decimals,
                    quantity,
                    PRICE,
                    placed_by or f"user:{user}",
                ),
            )
        return order

    def fill(self, order: UUID, amount: int, price: int = 100) -> UUID:
        """Returns the id of the event."""
        with self.writing() as connection:
            row = _locked(connection, order)
            trade = self._trade(connection, row["user_id"], Decimal(amount), Decimal(price), order)
            filled = row["filled_quantity"] + amount
            status = "filled" if filled == row["quantity"] else "partially_filled"
            return self._event(connection, row, "filled", status, filled=filled, trade=trade, actor="program:venue")

    def bust(self, order: UUID, fill: UUID, amount: int, price: int = 100) -> UUID:
        """Undo a fill, by the id of its event."""
        with self.writing() as connection:
            row = _locked(connection, order)
            trade = self._trade(connection, row["user_id"], Decimal(amount), Decimal(price), order, reverses=fill)
            filled: Decimal = row["filled_quantity"] - amount
            status = "open" if filled == 0 else "partially_filled"
            return self._event(
                connection,
                row,
                "busted",
                status,
                filled=filled,
                trade=trade,
                reason="wrong price",
                actor="program:venue",
            )

    def end(self, order: UUID, type_: str, *, actor: str = "program:venue", reason: str | None = None) -> UUID:
        """cancelled, expired or rejected."""
        with self.writing() as connection:
            row = _locked(connection, order)
            return self._event(connection, row, type_, type_, reason=reason, actor=actor)

    def trade(self, user: UUID, price: int | str, *, executed_at: datetime | None = None) -> UUID:
        """An execution without an order."""
        with self.writing() as connection:
            return self._trade(connection, user, Decimal(1), Decimal(price), None, executed_at)

    def _trade(  # noqa: PLR0917 - a row
        self,
        connection: psycopg.Connection[Any],
        user: UUID,
        amount: Decimal,
        price: Decimal,
        order: UUID | None,
        executed_at: datetime | None = None,
        reverses: UUID | None = None,
    ) -> UUID:
        # What undoes a trade has its time.
        trade = UUID(int=reverses.int ^ 1) if reverses else id_at(executed_at or datetime.now(UTC))
        connection.execute(
            "INSERT INTO trades (id, user_id, market_id, base_decimals, quote_decimals, side, base_amount,"
            " quote_amount, price, executed_at, order_id, reverses)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (
                trade,
                user,
                self.market.id,
                self.market.base_decimals,
                self.market.quote_decimals,
                "sell" if reverses else "buy",
                amount,
                amount * price,
                price,
                time_of(trade),
                order,
                reverses,
            ),
        )
        return trade

    def _event(
        self,
        connection: psycopg.Connection[Any],
        row: dict[str, Any],
        type_: str,
        status: str,
        *,
        actor: str,
        filled: Decimal | None = None,
        trade: UUID | None = None,
        reason: str | None = None,
    ) -> UUID:
        event = trade or uuid7()  # a fill's event has the id of its execution
        connection.execute(
            "INSERT INTO order_events (id, order_id, version, market_id, market_sequence, type, status, quantity,"
            " filled_quantity, price, reason, actor, trade_id)"
            " SELECT %s, %s, %s, market_id, sequence + 1, %s, %s, %s, %s, %s, %s, %s, %s FROM market_sequences"
            " WHERE market_id = %s",
            (
                event,
                row["id"],
                row["version"] + 1,
                type_,
                status,
                row["quantity"],
                row["filled_quantity"] if filled is None else filled,
                row["price"],
                reason,
                actor,
                trade,
                row["market_id"],
            ),
        )
        return event


def _locked(connection: psycopg.Connection[Any], order: UUID) -> dict[str, Any]:
    connection.execute(
        "SELECT FROM market_sequences WHERE market_id = (SELECT market_id FROM orders WHERE id = %s) FOR UPDATE",
        (order,),
    )
    row = connection.execute("SELECT * FROM orders WHERE id = %s", (order,)).fetchone()
    assert row is not None
    return row
