"""What a batch of the order writer is made of: checked, and with every id that a retry needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Literal
from uuid import UUID

from uuid_utils.compat import uuid7

from novadex.trading.orders.records import Order, Undone
from novadex.trading.records import Market, TradeType

Change = Literal["amended", "cancelled", "rejected", "triggered", "expired"]


@dataclass(slots=True)
class Place:
    """A new order."""

    order: Order
    market: Market
    line: str
    id_given: bool
    """Whether the caller chose the id: else one with the same client order id is the same order."""


@dataclass(slots=True)
class ChangeOrder:
    """A step of an order that moves no assets."""

    order_id: UUID
    change: Change
    actor: str
    reason: str | None = None
    owner: UUID | None = None
    """Only this user's order; None: anybody's."""
    by_user: bool = False
    """Asked for by a user: then what the market takes at the moment matters."""
    quantity: Decimal | None = None
    price: Decimal | None = None
    event_id: UUID = field(default_factory=uuid7)
    happened: bool = False
    """Set by the machine: it was not so already."""


@dataclass(slots=True)
class Fill:
    """What the venue executed."""

    id: UUID
    market: Market
    type: TradeType
    price: Decimal
    base_amount: Decimal
    quote_amount: Decimal
    taker_order_id: UUID
    maker_order_id: UUID | None
    taker_fee: Decimal | None
    maker_fee: Decimal | None
    executed_at: datetime
    source: str | None
    source_match_id: str | None
    chain: str | None
    block_number: int | None
    allow_self_trade: bool
    request_hash: bytes
    actor: str
    taker_trade_id: UUID
    maker_trade_id: UUID | None


@dataclass(slots=True)
class FillWhole:
    """The fills of one fok order: all of them, or none."""

    fills: list[Fill]


@dataclass(slots=True)
class Undo:
    """A match that did not happen after all."""

    match_id: UUID
    undone: Undone
    reason: str | None
    actor: str


Command = Place | ChangeOrder | Fill | FillWhole | Undo
