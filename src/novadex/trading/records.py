"""What the trading services give back: frozen records, amounts as ``Decimal``, times in UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Generic, Literal, TypeVar
from uuid import UUID

T = TypeVar("T")

Side = Literal["buy", "sell"]
Liquidity = Literal["maker", "taker"]
TradeType = Literal["spot", "margin", "perpetual", "swap"]
MarketStatus = Literal["active", "post_only", "cancel_only", "halted"]


@dataclass(frozen=True, slots=True)
class Asset:
    """A coin or token. ``decimals`` are those of its smallest unit."""

    id: int
    symbol: str
    name: str
    decimals: int


@dataclass(frozen=True, slots=True)
class Market:
    """A pair. ``symbol`` is BASE/QUOTE with an optional suffix."""

    id: int
    symbol: str
    base_asset: str
    quote_asset: str
    base_decimals: int
    quote_decimals: int
    status: MarketStatus
    tick_size: Decimal | None = None
    """Prices of orders are multiples of it; None: any price."""
    lot_size: Decimal | None = None
    """Quantities of orders are multiples of it; None: any quantity."""


@dataclass(frozen=True, slots=True)
class FeeRates:
    """Fees of a market for a tier, as a share of the quote amount; negative: a rebate."""

    market: str
    tier: int
    maker_rate: Decimal
    taker_rate: Decimal


@dataclass(frozen=True, slots=True)
class Trade:
    """One execution of one user.

    ``base_amount`` and ``quote_amount`` are units of the market's assets, ``price`` is quote units for one
    base unit, ``fee_amount`` is what the user paid in ``fee_asset`` (negative: a rebate). ``executed_at`` is
    UTC, ``sequence`` orders executions of one moment.
    """

    id: UUID
    user_id: UUID
    market: str
    type: TradeType
    side: Side
    liquidity: Liquidity
    base_amount: Decimal
    quote_amount: Decimal
    price: Decimal
    fee_amount: Decimal
    fee_asset: str | None
    executed_at: datetime
    sequence: int | None
    match_id: UUID | None
    order_id: UUID | None
    source: str | None
    source_trade_id: str | None
    reverses: UUID | None = None
    """The trade that this one undoes: it has the other side, and the fee negated."""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A page of a list. ``next`` is the cursor of the page after it, None at the end."""

    items: list[T]
    next: str | None
