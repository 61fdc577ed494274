"""What portfolios must be, worked out from all records at once by fractions: nothing of the services is used here."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import namedtuple_row

ATOM = 10**18
"""Parts of costs are rounded to 10^-18 of a unit, half to even."""


@dataclass
class Records:
    """The records of some users, as they stand in the tables."""

    trades: list[Any] = field(default_factory=list)
    transfers: list[Any] = field(default_factory=list)
    liquidity: list[Any] = field(default_factory=list)
    assets: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Base and quote asset of each market."""

    @classmethod
    def read(cls, url: str, users: list[UUID]) -> Records:
        with psycopg.connect(url) as connection:

            def rows(query: str) -> list[Any]:
                cursor = connection.cursor(row_factory=namedtuple_row)
                return cursor.execute(query.encode(), {"users": users}).fetchall()

            markets = rows("SELECT id, base_asset_id, quote_asset_id FROM markets")
            return cls(
                rows("SELECT * FROM trades WHERE user_id = ANY(%(users)s)"),
                rows("SELECT * FROM transfers WHERE user_id = ANY(%(users)s)"),
                rows("SELECT * FROM liquidity_events WHERE user_id = ANY(%(users)s)"),
                {m.id: (m.base_asset_id, m.quote_asset_id) for m in markets},
            )


def holdings(records: Records, before: datetime | None = None) -> dict[tuple[UUID, int], Fraction]:
    """What each user holds of each asset: every record moves it, also those that undo others."""
    held: dict[tuple[UUID, int], Fraction] = defaultdict(Fraction)
    for trade in records.trades:
        if before is None or trade.executed_at < before:
            base, quote = records.assets[trade.market_id]
            sign = 1 if trade.side == "buy" else -1
            held[trade.user_id, base] += sign * Fraction(trade.base_amount)
            held[trade.user_id, quote] -= sign * Fraction(trade.quote_amount)
            if trade.fee_amount:
                held[trade.user_id, trade.fee_asset_id] -= Fraction(trade.fee_amount)
    for transfer in records.transfers:
        if before is None or transfer.executed_at < before:
            sign = -1 if transfer.kind == "withdrawal" else 1
            held[transfer.user_id, transfer.asset_id] += sign * Fraction(transfer.amount)
    for event in records.liquidity:
        if before is None or event.executed_at < before:
            base, quote = records.assets[event.market_id]
            sign = -1 if event.type in {"opened", "increased"} else 1
            held[event.user_id, base] += sign * Fraction(event.base_amount) + Fraction(event.base_fees)
            held[event.user_id, quote] += sign * Fraction(event.quote_amount) + Fraction(event.quote_fees)
    return {key: amount for key, amount in held.items() if amount}


def rounded(value: Fraction) -> Fraction:
    return Fraction(round(value * ATOM), ATOM)


@dataclass
class Position:
    """One user in one market."""

    quantity: Fraction = Fraction(0)
    cost: Fraction = Fraction(0)
    realized: Fraction = Fraction(0)
    fifo_realized: Fraction = Fraction(0)
    trades: int = 0
    lots: list[list[Any]] = field(default_factory=list)
    """Open ones: trade, quantity, cost."""
    closings: list[tuple[Any, ...]] = field(default_factory=list)
    """Closing trade, lot, quantity, cost, proceeds."""

    def trade(self, id: UUID, quantity: Fraction, paid: Fraction) -> None:
        """``quantity`` bought (negative: sold) for ``paid`` (negative: received)."""
        self.trades += 1
        if self.quantity * quantity < 0:
            part = min(abs(quantity), abs(self.quantity))
            out = part if self.quantity > 0 else -part
            got = rounded(-paid * part / abs(quantity))
            cost = rounded(self.cost * out / self.quantity)
            self._close(id, out, got)
            self.realized += got - cost
            self.cost -= cost
            self.quantity -= out
            quantity, paid = quantity + out, paid + got
        if quantity:
            self.quantity += quantity
            self.cost += paid
            self.lots.append([id, quantity, paid])

    def _close(self, id: UUID, out: Fraction, got: Fraction) -> None:
        while out:
            lot = self.lots[0]
            take = lot[1] if abs(lot[1]) <= abs(out) else out
            cost, proceeds = rounded(lot[2] * take / lot[1]), rounded(got * take / out)
            self.closings.append((id, lot[0], take, cost, proceeds))
            self.fifo_realized += proceeds - cost
            lot[1], lot[2] = lot[1] - take, lot[2] - cost
            if not lot[1]:
                self.lots.pop(0)
            out, got = out - take, got - proceeds


def positions(records: Records, before: datetime | None = None) -> dict[tuple[UUID, int], Position]:
    """Trades in the order of lots; of those that were undone, and the rows that undid them, nothing is left."""
    undone = {trade.reverses for trade in records.trades if trade.reverses}
    found: dict[tuple[UUID, int], Position] = {}
    for trade in sorted(records.trades, key=lambda t: (t.executed_at, t.sequence or 0, t.id)):
        if before is not None and trade.executed_at >= before:
            continue
        position = found.setdefault((trade.user_id, trade.market_id), Position())
        if trade.reverses is None and trade.id not in undone:
            sign = 1 if trade.side == "buy" else -1
            position.trade(trade.id, sign * Fraction(trade.base_amount), sign * Fraction(trade.quote_amount))
    return found


# What is stored


def stored_holdings(url: str, users: list[UUID]) -> dict[tuple[UUID, int], Fraction]:
    """Both by their totals and by their hours, which must agree."""
    with psycopg.connect(url) as connection:
        totals, hours = (
            {
                (user, asset): Fraction(amount)
                for user, asset, amount in connection.execute(
                    f"SELECT user_id, asset_id, sum(amount) FROM {table} WHERE user_id = ANY(%s)"
                    " GROUP BY 1, 2 HAVING sum(amount) <> 0".encode(),
                    (users,),
                )
            }
            for table in ("portfolio_holdings", "portfolio_flows")
        )
    assert totals == hours
    return totals


def stored_positions(url: str, users: list[UUID]) -> dict[tuple[UUID, int], Position]:
    """The last rows, with lots and closings."""
    found: dict[tuple[UUID, int], Position] = {}
    with psycopg.connect(url) as connection:
        for user, market, quantity, cost, realized, fifo_realized, trades in connection.execute(
            "SELECT DISTINCT ON (user_id, market_id) user_id, market_id, quantity, cost, realized, fifo_realized,"
            " trades FROM portfolio_positions WHERE user_id = ANY(%s) ORDER BY user_id, market_id, hour DESC",
            (users,),
        ):
            amounts = (Fraction(value) for value in (quantity, cost, realized, fifo_realized))
            found[user, market] = Position(*amounts, trades=trades)
        for user, market, trade, quantity, cost in connection.execute(
            "SELECT user_id, market_id, trade_id, quantity, cost FROM portfolio_lots"
            " WHERE user_id = ANY(%s) AND quantity <> 0 ORDER BY opened_at, sequence, trade_id",
            (users,),
        ):
            found[user, market].lots.append([trade, Fraction(quantity), Fraction(cost)])
        for user, market, trade, lot, *amounts in connection.execute(
            "SELECT c.user_id, c.market_id, c.trade_id, c.lot_id, c.quantity, c.cost, c.proceeds"
            " FROM portfolio_closings c JOIN portfolio_lots l USING (user_id, market_id)"
            " WHERE c.user_id = ANY(%s) AND l.trade_id = c.lot_id"
            " ORDER BY c.closed_at, c.sequence, c.trade_id, l.opened_at, l.sequence, l.trade_id",
            (users,),
        ):
            found[user, market].closings.append((trade, lot, *map(Fraction, amounts)))
    return found


def everything_stored(url: str, users: list[UUID]) -> dict[str, list[tuple[Any, ...]]]:
    """Every derived row of users."""
    tables = ("holdings", "flows", "positions", "lots", "closings")
    with psycopg.connect(url) as connection:
        return {
            table: sorted(
                tuple(value.normalize() if isinstance(value, Decimal) else value for value in row)
                for row in connection.execute(
                    f"SELECT * FROM portfolio_{table} WHERE user_id = ANY(%s)".encode(), (users,)
                )
            )
            for table in tables
        }
