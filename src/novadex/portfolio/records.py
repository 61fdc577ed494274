"""What the portfolio services give back: frozen records, amounts as ``Decimal``, times in UTC."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Literal
from uuid import UUID

from novadex.money import EXACT

TransferKind = Literal["deposit", "withdrawal", "funding"]


@dataclass(frozen=True, slots=True)
class Transfer:
    """A deposit, a withdrawal or a funding payment that the venue reported.

    ``amount`` is above 0; of a funding payment it is negative where the user paid. A row that undoes another
    (``reverses``) has the other sign.
    """

    id: UUID
    user_id: UUID
    kind: TransferKind
    asset: str
    market: str | None
    amount: Decimal
    executed_at: datetime
    sequence: int | None
    source: str | None
    source_transfer_id: str | None
    reverses: UUID | None
    note: str | None


@dataclass(frozen=True, slots=True)
class Holding:
    """What a user holds of an asset: what came in less what went out."""

    asset: str
    amount: Decimal
    deposits: Decimal
    withdrawals: Decimal
    traded: Decimal
    """What trades brought, less what they took; without fees."""
    fees: Decimal
    """What fees took; negative: rebates brought more."""
    funding: Decimal
    """What funding payments brought, less what they took."""
    pools: Decimal
    """What came out of pools, fees included, less what was put in."""


@dataclass(frozen=True, slots=True)
class Position:
    """What a user's trades in a market come to, counted in its quote asset, before fees."""

    market: str
    quantity: Decimal
    """Units of the base asset, bought less sold; negative: sold more than bought."""
    cost: Decimal
    """What the quantity cost, by average cost; negative: what was received for it."""
    realized: Decimal
    """Realized profit by average cost."""
    fifo_cost: Decimal
    """What the open lots cost: first in, first out."""
    fifo_realized: Decimal
    """Realized profit by lots."""
    trades: int
    price: Decimal | None
    """Of one unit now: the feed's, or that of the last trade; None where there is none."""
    unrealized: Decimal | None
    """``quantity * price - cost``; None without a price."""
    fees: dict[str, Decimal] = field(default_factory=dict)
    """Fees of trades in this market, by asset."""
    funding: dict[str, Decimal] = field(default_factory=dict)
    """Funding received for positions in this market, less what was paid, by asset."""


@dataclass(frozen=True, slots=True)
class Lot:
    """What a trade opened, and what is left of it."""

    trade_id: UUID
    market: str
    opened_at: datetime
    opened_quantity: Decimal
    opened_cost: Decimal
    quantity: Decimal
    cost: Decimal


@dataclass(frozen=True, slots=True)
class Closing:
    """How much of a lot a trade closed, and what that earned."""

    trade_id: UUID
    lot_id: UUID
    """The trade that opened the lot."""
    market: str
    closed_at: datetime
    quantity: Decimal
    cost: Decimal
    proceeds: Decimal
    realized: Decimal


@dataclass(frozen=True, slots=True)
class HoldingValue:
    """A holding at a moment, and its value."""

    asset: str
    amount: Decimal
    price: Decimal | None
    """Of one unit, in the valuation asset; None where nothing says it: it then counts as 0."""
    value: Decimal


@dataclass(frozen=True, slots=True)
class PositionValue:
    """A position at a moment, in the quote asset of its market."""

    market: str
    quantity: Decimal
    cost: Decimal
    realized: Decimal
    fifo_cost: Decimal
    fifo_realized: Decimal
    price: Decimal | None
    unrealized: Decimal | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A portfolio at a moment, from all movements with ``executed_at`` before it that were recorded.

    All sums are in ``valuation_asset``, at the prices of the moment, and exact:
    ``total_value = net_transfers + realized + unrealized - fees + funding + pool_profit``.
    """

    user_id: UUID
    taken_at: datetime
    valuation_asset: str
    total_value: Decimal
    net_transfers: Decimal
    realized: Decimal
    unrealized: Decimal
    fees: Decimal
    funding: Decimal
    pool_value: Decimal
    pool_profit: Decimal
    holdings: list[HoldingValue]
    positions: list[PositionValue]

    @property
    def profit(self) -> Decimal:
        """Everything that was earned: the value less what was brought in."""
        return EXACT.subtract(self.total_value, self.net_transfers)
