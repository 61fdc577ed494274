"""What clients send: every field with its bounds; what is not named is refused. The services check it again."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Text = Annotated[str, Field(max_length=500)]
Chain = Literal["evm", "solana"]


class Body(BaseModel):
    """The form of a request: strict types, no other fields."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class MessageWanted(Body):
    """For which wallet a message to sign is made."""

    chain: Chain
    address: Annotated[str, Field(max_length=100, examples=["0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"])]
    domain: Annotated[str | None, Field(max_length=255)] = None
    uri: Annotated[str | None, Field(max_length=1_000)] = None
    chain_id: Annotated[str | None, Field(max_length=40)] = None
    statement: Annotated[str | None, Field(max_length=1_000)] = None


class SignedMessage(Body):
    """A message and the wallet's signature of it."""

    message: Annotated[str, Field(max_length=4_096)]
    signature: Annotated[str, Field(max_length=200)]


class WalletToLink(SignedMessage):
    primary: bool = False


class UserChange(Body):
    """What is to be changed; null takes it away, of preferences all."""

    username: Text | None = None
    email: Text | None = None
    personal: dict[str, str] | None = None
    preferences: dict[str, Any] | None = None
    expected_version: int | None = None


class WalletNamed(Body):
    chain: Chain
    address: Annotated[str, Field(max_length=100)]


class RoleChange(Body):
    role: Annotated[str, Field(max_length=40)]


class ApiKeyWanted(Body):
    """A key that a program is to have."""

    name: Annotated[str, Field(max_length=100)]
    permissions: Annotated[list[Annotated[str, Field(max_length=65)]], Field(max_length=100)]
    allowed_addresses: Annotated[list[Annotated[str, Field(max_length=50)]], Field(max_length=100)] = []
    life_days: int = 90


class ApiKeyRotation(Body):
    overlap_s: int = 86_400


Amount = Annotated[str, Field(max_length=200, examples=["1.25"])]
"""An exact amount: a string, for a JSON number is read as a float."""
Whole = Annotated[str, Field(pattern=r"^[0-9]{1,78}$", examples=["1000000000000000000"])]
"""A whole number of up to 256 bits, as a string."""
Moment = Annotated[str, Field(max_length=40, examples=["2024-08-08T23:54:00Z"])]


class TransferToRecord(Body):
    """A deposit, a withdrawal or a funding payment."""

    user_id: Annotated[str, Field(max_length=40)]
    kind: Literal["deposit", "withdrawal", "funding"]
    asset: Annotated[str, Field(max_length=40, examples=["USDT"])]
    amount: Amount
    market: Annotated[str | None, Field(max_length=90)] = None
    id: Annotated[str | None, Field(max_length=40)] = None
    executed_at: Moment | None = None
    sequence: int | None = None
    source: Annotated[str | None, Field(max_length=32)] = None
    source_transfer_id: Annotated[str | None, Field(max_length=128)] = None
    note: Text | None = None


class Reversal(Body):
    note: Text | None = None


class PriceToRecord(Body):
    """A price of a feed."""

    market: Annotated[str, Field(max_length=90)]
    price: Amount
    observed_at: Moment | None = None
    source: Annotated[str, Field(max_length=32)] = "feed"


class SnapshotWanted(Body):
    at: Moment | None = None
    asset: Annotated[str | None, Field(max_length=40)] = None


class PoolToAdd(Body):
    """A pool; what one is never changes."""

    address: Annotated[str, Field(max_length=128)]
    market: Annotated[str, Field(max_length=90)]
    kind: Literal["constant_product", "concentrated"]
    fee: Amount
    tick_spacing: int | None = None
    base_is_token0: bool = True


class PoolStateToRecord(Body):
    """How a constant product stands, and what swaps paid in since the snapshot before."""

    liquidity: Whole
    base_reserve: Amount
    quote_reserve: Amount
    base_paid_in: Amount = "0"
    quote_paid_in: Amount = "0"
    taken_at: Moment | None = None
    source: Annotated[str, Field(max_length=32)] = "feed"


class PositionToOpen(Body):
    """What a user put into a pool."""

    user_id: Annotated[str, Field(max_length=40)]
    pool: Annotated[str, Field(max_length=128)]
    liquidity: Whole
    base_amount: Amount
    quote_amount: Amount
    tick_lower: int | None = None
    tick_upper: int | None = None
    id: Annotated[str | None, Field(max_length=40)] = None
    executed_at: Moment | None = None
    source: Annotated[str | None, Field(max_length=32)] = None
    source_position_id: Annotated[str | None, Field(max_length=128)] = None


class PositionEvent(Body):
    """What happened to a liquidity position."""

    type: Literal["increased", "decreased", "collected", "closed"]
    liquidity: Whole = "0"
    base_amount: Amount = "0"
    quote_amount: Amount = "0"
    base_fees: Amount = "0"
    quote_fees: Amount = "0"
    id: Annotated[str | None, Field(max_length=40)] = None
    executed_at: Moment | None = None
    sequence: int | None = None
    source: Annotated[str | None, Field(max_length=32)] = None
    source_event_id: Annotated[str | None, Field(max_length=128)] = None


class OrderWanted(Body):
    """An order to be placed."""

    market: Annotated[str, Field(max_length=100, examples=["BTC/USDT"])]
    side: Literal["buy", "sell"]
    type: Literal["limit", "market", "stop", "stop_limit"]
    quantity: Amount
    price: Amount | None = None
    stop_price: Amount | None = None
    time_in_force: Literal["gtc", "ioc", "fok", "gtt"] | None = None
    post_only: bool = False
    reduce_only: bool = False
    expires_at: Annotated[str | None, Field(max_length=40)] = None
    client_order_id: Annotated[str | None, Field(max_length=64)] = None
    id: Annotated[str | None, Field(max_length=36)] = None
    user_id: Annotated[str | None, Field(max_length=36)] = None
    """Whose order; for those who may place orders of others."""


class OrderChange(Body):
    """What of an order is to be changed."""

    quantity: Amount | None = None
    price: Amount | None = None
    reason: Text | None = None


class ReadUpTo(Body):
    """The newest notification that the user saw; null: all."""

    up_to: Annotated[str | None, Field(max_length=40)] = None


class Wish(Body):
    """Whether the user wants to hear of it; null: the default."""

    enabled: bool | None


class WebhookWanted(Body):
    url: Annotated[str, Field(max_length=2_000, examples=["https://example.com/novadex"])]


class AlertWanted(Body):
    """A price to be told of."""

    market: Annotated[str, Field(max_length=100, examples=["BTC/USDT"])]
    direction: Literal["above", "below"]
    price: Annotated[str, Field(max_length=120, examples=["65000.5"])]
    once: bool = True
    id: Annotated[str | None, Field(max_length=40)] = None
