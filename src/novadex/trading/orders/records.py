"""What the calls of orders give back: frozen records, amounts as ``Decimal``, times in UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal
from uuid import UUID

from novadex.money import EXACT
from novadex.trading.records import Side

OrderType = Literal["limit", "market", "stop", "stop_limit"]
TimeInForce = Literal["gtc", "ioc", "fok", "gtt"]
OrderStatus = Literal["untriggered", "open", "partially_filled", "filled", "cancelled", "expired", "rejected"]
EventType = Literal["placed", "triggered", "amended", "filled", "cancelled", "expired", "rejected", "busted"]
Undone = Literal["busted", "reverted"]

LIVE: frozenset[OrderStatus] = frozenset({"untriggered", "open", "partially_filled"})


@dataclass(frozen=True, slots=True)
class Order:
    """An order as it stands.

    ``quantity`` and ``filled_quantity`` are units of the market's base asset, ``price`` and ``stop_price`` quote
    units for one base unit. ``version`` is the number of its last event.
    """

    id: UUID
    user_id: UUID
    market: str
    client_order_id: str | None
    side: Side
    type: OrderType
    time_in_force: TimeInForce
    post_only: bool
    reduce_only: bool
    quantity: Decimal
    price: Decimal | None
    stop_price: Decimal | None
    filled_quantity: Decimal
    status: OrderStatus
    version: int
    expires_at: datetime | None
    placed_by: str
    created_at: datetime
    updated_at: datetime

    @property
    def remaining_quantity(self) -> Decimal:
        """What can still be filled while it lives."""
        return EXACT.subtract(self.quantity, self.filled_quantity)

    @property
    def live(self) -> bool:
        return self.status in LIVE


@dataclass(frozen=True, slots=True)
class OrderEvent:
    """One step of an order: what happened, and how the order stood after it.

    ``version`` counts the events of the order, ``market_sequence`` those of its market, both without a gap.
    ``trade_id`` is the execution that filled it, or the one that undoes such an execution.
    """

    id: UUID
    order_id: UUID
    version: int
    market: str
    market_sequence: int
    type: EventType
    status: OrderStatus
    quantity: Decimal
    filled_quantity: Decimal
    price: Decimal | None
    reason: str | None
    actor: str
    occurred_at: datetime
    trade_id: UUID | None


@dataclass(frozen=True, slots=True)
class Match:
    """A fill: the executions of a taker and a maker, or of a taker against a pool.

    Fees are units of the quote asset, negative for a rebate. ``source_match_id`` is the venue's own id.
    """

    id: UUID
    market: str
    taker_side: Side
    price: Decimal
    base_amount: Decimal
    quote_amount: Decimal
    taker_order_id: UUID
    maker_order_id: UUID | None
    taker_trade_id: UUID
    maker_trade_id: UUID | None
    taker_fee: Decimal
    maker_fee: Decimal | None
    executed_at: datetime
    source: str | None = None
    source_match_id: str | None = None
    chain: str | None = None
    block_number: int | None = None
    undone: Undone | None = None
    undone_at: datetime | None = None
    undone_by: str | None = None
    undone_reason: str | None = None
