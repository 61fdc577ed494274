"""What the liquidity service gives back: frozen records, amounts as ``Decimal``, what chains count as ``int``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal
from uuid import UUID

PoolKind = Literal["constant_product", "concentrated"]
PositionStatus = Literal["open", "closed"]
LiquidityEventType = Literal["opened", "increased", "decreased", "collected", "closed"]


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool that liquidity is provided to."""

    id: UUID
    market: str
    kind: PoolKind
    address: str
    fee_ppm: int
    """Millionths of what swaps pay in that go to the providers."""
    tick_spacing: int | None
    base_is_token0: bool
    base_decimals: int
    quote_decimals: int

    @property
    def decimals0(self) -> int:
        return self.base_decimals if self.base_is_token0 else self.quote_decimals

    @property
    def decimals1(self) -> int:
        return self.quote_decimals if self.base_is_token0 else self.base_decimals


@dataclass(frozen=True, slots=True)
class LiquidityPosition:
    """A position as it stands: what went in, what came out, and the liquidity that is left."""

    id: UUID
    user_id: UUID
    pool: str
    """Address of the pool."""
    market: str
    kind: PoolKind
    tick_lower: int | None
    tick_upper: int | None
    liquidity: int
    base_amount: Decimal
    """Put in, altogether."""
    quote_amount: Decimal
    base_withdrawn: Decimal
    """Taken out again, altogether."""
    quote_withdrawn: Decimal
    base_fees: Decimal
    """Fees collected, altogether."""
    quote_fees: Decimal
    status: PositionStatus
    version: int
    opened_at: datetime
    closed_at: datetime | None


@dataclass(frozen=True, slots=True)
class LiquidityEvent:
    """One change of a position."""

    id: UUID
    position_id: UUID
    version: int
    type: LiquidityEventType
    liquidity: int
    """Of the position after it."""
    base_amount: Decimal
    """Put in by opened and increased, taken out by decreased and closed."""
    quote_amount: Decimal
    base_fees: Decimal
    quote_fees: Decimal
    executed_at: datetime
    source: str | None
    source_event_id: str | None
    actor: str


@dataclass(frozen=True, slots=True)
class LiquidityValue:
    """What a position is worth at a moment, in the quote asset of its market."""

    position: UUID
    market: str
    price: Decimal
    """Quote units for one base unit, by the pool itself, rounded to 36 decimals."""
    base_amount: Decimal
    """In the pool now, rounded down to whole units as the pool pays it out."""
    quote_amount: Decimal
    value: Decimal
    held_value: Decimal
    """What all that was put in would be worth now, had it been held."""
    withdrawn_value: Decimal
    """What was taken out, fees left aside, at the price of now."""
    impermanent_loss: Decimal
    """``value + withdrawn_value - held_value``: below 0 where holding would have been better, fees left aside."""
    base_fees: Decimal
    """Collected so far."""
    quote_fees: Decimal
    fees_value: Decimal
    base_fees_accrued: Decimal
    """Earned since and not collected, as the pool's snapshots tell; whole units, rounded down. Those of a constant
    product stay in its reserves: they are part of ``value`` too."""
    quote_fees_accrued: Decimal
    accrued_value: Decimal


@dataclass(frozen=True, slots=True)
class PoolSnapshot:
    """What a pool did in a span, such as a minute, and how it stood at its end."""

    pool: str
    taken_at: datetime
    liquidity: int
    open_tick: int | None
    close_tick: int | None
    lowest_tick: int | None
    highest_tick: int | None
    base_reserve: Decimal | None
    quote_reserve: Decimal | None
    net_amount0: int
    net_amount1: int
    in_amount0: int
    in_amount1: int
    source: str


@dataclass(frozen=True, slots=True)
class PoolImportReport:
    """What an import of a pool's minutes did, and what its file says altogether."""

    file: str
    pool: str
    market: str
    read: int
    added: int
    duplicates: int
    first: datetime | None
    last: datetime | None
    active_minutes: int
    """Minutes with swaps."""
    net_amount0: int
    net_amount1: int
    in_amount0: int
    in_amount1: int
    fees0: int
    """Of what was paid in, the pool's fee, in smallest units, rounded down."""
    fees1: int
    open_tick: int | None
    close_tick: int | None
    lowest_tick: int | None
    highest_tick: int | None
    liquidity: int | None
    """In range after the last minute."""
    seconds: float
