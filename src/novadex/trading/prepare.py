"""A trade as a caller gives it, checked whole before anything is sent: every wrong field is named."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, TypedDict
from uuid import UUID

from novadex.errors import UsageError, ValidationError
from novadex.ids import EPOCH, id_at, id_of_source, milliseconds_of, parse_id, time_of_ms, uuid7
from novadex.money import (
    EXACT,
    PRICE_DECIMALS_MAX,
    decimals_of,
    parse_amount,
    parse_signed_amount,
    plain,
    smallest_unit,
)
from novadex.trading.lines import copy_line
from novadex.trading.records import Liquidity, Market, Side, Trade, TradeType

if TYPE_CHECKING:
    from collections.abc import Mapping

SIDES = ("buy", "sell")
LIQUIDITIES = ("taker", "maker")
TYPES = ("spot", "margin", "perpetual", "swap")
AHEAD_MS_MAX = 300_000
"""How far ahead of our clock a venue's clock may be."""
KEY_LENGTH_MAX = 255
SOURCE_ID_LENGTH_MAX = 128
SEQUENCE_BOUND = 2**63


class TradeInput(TypedDict, total=False):
    """What ``create_trade`` takes. Required: ``user_id``, ``side``, ``base_amount``, ``quote_amount``, ``price``,
    and ``market`` or ``base_asset`` with ``quote_asset``."""

    user_id: UUID | str
    market: str
    base_asset: str
    quote_asset: str
    type: TradeType
    side: Side
    liquidity: Liquidity
    base_amount: Decimal | str | int
    quote_amount: Decimal | str | int
    price: Decimal | str | int
    fee_amount: Decimal | str | int
    fee_asset: str
    id: UUID | str
    """A UUIDv7 made by the caller: a retry with the same id finds the first trade."""
    idempotency_key: str
    """A name of the caller's own for the same purpose, unique per user; costs a second row."""
    executed_at: datetime | str
    """When the venue executed it; default: the time of the id, else now."""
    sequence: int
    match_id: UUID | str
    source: str
    source_trade_id: str


FIELDS = frozenset(TradeInput.__annotations__)


@dataclass(slots=True)
class PreparedTrade:
    """A checked trade, ready to be written."""

    trade: Trade
    line: str
    key: str | None
    request_hash: bytes | None


def market_symbol(fields: Mapping[str, Any], known: frozenset[str] = FIELDS, noun: str = "A trade") -> str:
    """The market that a trade or an order names, by ``market`` or by its two assets."""
    unknown = fields.keys() - known
    if unknown:
        if known is FIELDS and "order_id" in unknown:
            raise ValidationError(
                "A trade of an order is a fill of it: create_trade takes no order_id.",
                field="order_id",
                hint="Record it with record_fill, which writes the trades of both sides and moves their orders.",
            )
        raise UsageError(
            f"{noun} has no field {', '.join(sorted(map(str, unknown)))}.",
            hint=f"It can have: {', '.join(sorted(known))}.",
        )
    market = fields.get("market")
    if market is None:
        base, quote = fields.get("base_asset"), fields.get("quote_asset")
        if base is None or quote is None:
            raise ValidationError(
                "market is missing.", field="market", hint="Give market, or base_asset and quote_asset."
            )
        market = f"{base}/{quote}"
    elif "base_asset" in fields or "quote_asset" in fields:
        base, _, quote = str(market).partition("-")[0].partition("/")
        if (fields.get("base_asset", base), fields.get("quote_asset", quote)) != (base, quote):
            raise ValidationError(
                f"market {market} does not have these assets.", field="market", hint="Give one of both."
            )
    if type(market) is not str:
        raise ValidationError(
            f"market must be a string, got {market!r}.", field="market", hint="Write it like BTC/USDT."
        )
    return market


def prepare(fields: Mapping[str, Any], market: Market, fee_asset_id: int | None) -> PreparedTrade:
    """Check a trade against its market; raises ``ValidationError`` that names the first wrong field.

    The three amounts must agree: ``quote_amount`` differs from ``base_amount * price`` by less than the
    smallest unit of the quote asset, so that it is the exact product rounded up or down.
    """
    get = fields.get
    side = one_of(get("side"), "side", SIDES)
    liquidity = one_of(get("liquidity", "taker"), "liquidity", LIQUIDITIES)
    kind = one_of(get("type", "spot"), "type", TYPES)
    base_amount, base_text = parse_amount(required(fields, "base_amount"), "base_amount")
    quote_amount, quote_text = parse_amount(required(fields, "quote_amount"), "quote_amount")
    price, price_text = parse_amount(required(fields, "price"), "price", decimals_max=PRICE_DECIMALS_MAX)
    check_amounts(market, base_amount, base_text, quote_amount, quote_text, price, price_text)
    fee_amount, fee_text = parse_signed_amount(get("fee_amount", 0), "fee_amount")
    fee_asset = get("fee_asset")
    if fee_amount and fee_asset is None:
        raise ValidationError(f"fee_asset is missing for the fee {fee_text}.", field="fee_asset")
    user_id = parse_id(required(fields, "user_id"), "user_id")
    match_id = optional_id(get("match_id"), "match_id")
    source, source_trade_id = source_and_id(get("source"), get("source_trade_id"))
    id, executed_at = id_and_time(get("id"), get("executed_at"), source, market.symbol, source_trade_id)
    sequence = get("sequence")
    if sequence is not None and (type(sequence) is not int or not -SEQUENCE_BOUND <= sequence < SEQUENCE_BOUND):
        raise ValidationError(f"sequence must be an integer of 64 bits, got {sequence!r}.", field="sequence")
    line = copy_line(
        id=str(id),
        user_id=str(user_id),
        market_id=market.id,
        base_decimals=market.base_decimals,
        quote_decimals=market.quote_decimals,
        type=kind,
        side=side,
        liquidity=liquidity,
        base_amount=base_text,
        quote_amount=quote_text,
        price=price_text,
        fee_amount=fee_text,
        fee_asset_id=fee_asset_id,
        executed_at=executed_at.isoformat(),
        sequence=sequence,
        match_id=str(match_id) if match_id else None,
        order_id=None,
        source=source,
        source_trade_id=source_trade_id,
    )
    trade = Trade(
        id,
        user_id,
        market.symbol,
        kind,
        side,
        liquidity,
        base_amount,
        quote_amount,
        price,
        fee_amount,
        fee_asset,
        executed_at,
        sequence,
        match_id,
        None,
        source,
        source_trade_id,
    )
    key = get("idempotency_key")
    if key is None:
        return PreparedTrade(trade, line, None, None)
    check_text(key, "idempotency_key", KEY_LENGTH_MAX)
    return PreparedTrade(trade, line, key, _request_hash(line, fields))


def check_amounts(  # noqa: PLR0917 - three amounts, each with the text that it was checked as; called per trade
    market: Market,
    base_amount: Decimal,
    base_text: str,
    quote_amount: Decimal,
    quote_text: str,
    price: Decimal,
    price_text: str,
) -> None:
    """The invariants of amounts; the table has the same as constraints."""
    if not base_amount:
        raise ValidationError("base_amount must be above 0.", field="base_amount")
    if not price:
        raise ValidationError("price must be above 0.", field="price")
    if decimals_of(base_text) > market.base_decimals:
        raise ValidationError(
            f"base_amount {base_text} has more decimals than {market.base_asset}, which has {market.base_decimals}.",
            field="base_amount",
        )
    if decimals_of(quote_text) > market.quote_decimals:
        raise ValidationError(
            f"quote_amount {quote_text} has more decimals than {market.quote_asset}, which has"
            f" {market.quote_decimals}.",
            field="quote_amount",
        )
    product = EXACT.multiply(base_amount, price)
    if product != quote_amount and EXACT.subtract(product, quote_amount).copy_abs() >= smallest_unit(
        market.quote_decimals
    ):
        raise ValidationError(
            f"quote_amount {quote_text} does not agree with base_amount {base_text} * price {price_text} ="
            f" {plain(product)} within the smallest unit of {market.quote_asset},"
            f" {plain(smallest_unit(market.quote_decimals))}.",
            field="quote_amount",
            hint="Send the exact product, rounded up or down to that unit.",
        )


def required(fields: Mapping[str, Any], name: str) -> Any:
    value = fields.get(name)
    if value is None:
        raise ValidationError(f"{name} is missing.", field=name)
    return value


def one_of(value: Any, field: str, known: tuple[str, ...]) -> Any:
    if value in known:
        return value
    raise ValidationError(f"{field} must be one of {', '.join(known)}, got {value!r}.", field=field)


def optional_id(value: Any, field: str) -> UUID | None:
    return None if value is None else parse_id(value, field)


def check_text(value: Any, field: str, length_max: int) -> None:
    if type(value) is not str or not 1 <= len(value) <= length_max or "\0" in value:
        raise ValidationError(
            f"{field} must be a text of 1 to {length_max} characters without NUL, got {str(value)[:80]!r}.",
            field=field,
        )
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValidationError(f"{field} has characters that are not valid Unicode.", field=field) from None


def source_and_id(source: Any, source_trade_id: Any) -> tuple[str | None, str | None]:
    if source is None and source_trade_id is None:
        return None, None
    if source is None or source_trade_id is None:
        missing = "source" if source is None else "source_trade_id"
        raise ValidationError(f"{missing} is missing: source and source_trade_id go together.", field=missing)
    check_source(source)
    check_text(source_trade_id, "source_trade_id", SOURCE_ID_LENGTH_MAX)
    return source, source_trade_id


def check_source(source: Any) -> None:
    """The name of a source: small letters, digits, ``-`` and ``_``, at most 32."""
    if (
        type(source) is not str
        or not 1 <= len(source) <= 32
        or not source.isascii()
        or not all(c.islower() or c.isdigit() or c in "-_" for c in source)
    ):
        raise ValidationError(
            f"source must be 1 to 32 small letters, digits, - or _, got {str(source)[:80]!r}.", field="source"
        )


def id_and_time(
    id_value: Any, time_value: Any, source: str | None, market: str, source_trade_id: str | None
) -> tuple[UUID, datetime]:
    """The id and the time, each from the other where one is missing."""
    if time_value is None:
        if id_value is None:
            id = uuid7()
        else:
            id = parse_id(id_value, "id")
            check_version(id)
        milliseconds = id.int >> 80
        _check_time(milliseconds)
        return id, time_of_ms(milliseconds)
    executed_at = parse_moment(time_value)
    milliseconds = milliseconds_of(executed_at)
    _check_time(milliseconds)
    if id_value is not None:
        id = parse_id(id_value, "id")
        check_version(id)
        if id.int >> 80 != milliseconds:
            raise ValidationError(
                f"id carries the time {time_of_ms(id.int >> 80).isoformat()}, but executed_at is"
                f" {executed_at.isoformat()}.",
                field="id",
                hint="Make the id of the execution's time: novadex.ids.id_at(executed_at); or leave one of both out.",
            )
    elif source is not None and source_trade_id is not None:
        id = id_of_source(milliseconds, source, market, source_trade_id)
    else:
        id = id_at(executed_at)
    return id, executed_at


def check_version(id: UUID) -> None:
    if id.version != 7:
        raise ValidationError(
            f"id must be a UUID of version 7, got version {id.version}: {id}.",
            field="id",
            hint="Make it with novadex.ids.uuid7(), or for a past execution with novadex.ids.id_at(executed_at).",
        )


def _check_time(milliseconds: int) -> None:
    if milliseconds > time.time() * 1000 + AHEAD_MS_MAX:
        raise ValidationError(
            f"executed_at is {time_of_ms(milliseconds).isoformat() if milliseconds < 10**14 else milliseconds},"
            " more than 5 minutes ahead of this machine's clock.",
            field="executed_at",
            hint="Is it in another unit or time zone, or is a clock wrong?",
        )


def parse_moment(value: Any, field: str = "executed_at") -> datetime:
    """A moment with its zone, in UTC."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ValidationError(
                f"{field} is not a time: {value[:80]!r}.", field=field, hint="Write 2024-08-08T23:54:00Z."
            ) from None
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ValidationError(
            f"{field} must be a time with its zone, got {value!r}.",
            field=field,
            hint="Write 2024-08-08T23:54:00Z, or datetime(..., tzinfo=UTC).",
        )
    if value < EPOCH:
        raise ValidationError(f"{field} must be after 1970, got {value.isoformat()}.", field=field)
    try:
        return value.astimezone(EPOCH.tzinfo)
    except OverflowError:
        raise ValidationError(f"{field} must be before the year 10000, UTC.", field=field) from None


def _request_hash(line: str, fields: Mapping[str, Any]) -> bytes:
    """A hash of what the caller asked for: without what we made up, an id or the time."""
    columns = line.split("\t")
    if fields.get("id") is None:
        columns[0] = ""
        if fields.get("executed_at") is None:
            columns[13] = ""
    return blake2b("\t".join(columns).encode(), digest_size=16).digest()
