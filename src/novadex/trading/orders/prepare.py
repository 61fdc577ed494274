"""Orders and fills as callers give them, checked whole before anything is sent: every wrong field is named."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from decimal import ROUND_DOWN, Decimal
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, TypedDict
from uuid import UUID

from novadex.errors import ValidationError
from novadex.ids import id_at, parse_id, time_of_ms, uuid7
from novadex.money import EXACT, PRICE_DECIMALS_MAX, decimals_of, parse_amount, parse_signed_amount, plain, rounded
from novadex.trading.lines import NULL, escaped
from novadex.trading.orders.commands import Fill, Place
from novadex.trading.orders.records import Order, OrderType, TimeInForce
from novadex.trading.prepare import (
    AHEAD_MS_MAX,
    SIDES,
    TYPES,
    check_amounts,
    check_source,
    check_text,
    check_version,
    id_and_time,
    one_of,
    optional_id,
    parse_moment,
    required,
)
from novadex.trading.records import Market, Side, TradeType

if TYPE_CHECKING:
    from collections.abc import Mapping

ORDER_TYPES = ("limit", "market", "stop", "stop_limit")
TIMES_IN_FORCE = ("gtc", "ioc", "fok", "gtt")
CLIENT_ORDER_ID_LENGTH_MAX = 64
REASON_LENGTH_MAX = 500
SOURCE_MATCH_ID_LENGTH_MAX = 128
BLOCK_BOUND = 2**63
AGE_YEARS_MAX = 10
"""How old a given id of an order may be: each month of them is a partition of events."""
_YEAR_MS = 365.25 * 86_400_000
_CHAIN = re.compile(r"[a-z0-9-]{1,32}(:[a-zA-Z0-9-]{1,64})?")


class OrderInput(TypedDict, total=False):
    """What ``place_order`` takes. Required: ``user_id``, ``side``, ``type``, ``quantity``, and ``market`` or
    ``base_asset`` with ``quote_asset``; ``price`` for limit and stop_limit, ``stop_price`` for stop and stop_limit,
    ``expires_at`` for gtt."""

    user_id: UUID | str
    market: str
    base_asset: str
    quote_asset: str
    side: Side
    type: OrderType
    quantity: Decimal | str | int
    price: Decimal | str | int
    stop_price: Decimal | str | int
    time_in_force: TimeInForce
    """Default: ``gtc``, of a market order ``ioc``."""
    post_only: bool
    reduce_only: bool
    expires_at: datetime | str
    client_order_id: str
    """A name of the client's own, unique per user: a retry with the same name finds the first order."""
    id: UUID | str
    """A UUIDv7 made by the caller, for the same purpose: of the last 10 years, at most 5 minutes ahead."""


class FillInput(TypedDict, total=False):
    """What ``record_fill`` takes. Required: ``price``, ``base_amount``, ``taker_order_id``, and ``market`` or
    ``base_asset`` with ``quote_asset``. Without ``maker_order_id`` the taker traded with a pool."""

    market: str
    base_asset: str
    quote_asset: str
    type: TradeType
    """Default: ``spot``, against a pool ``swap``."""
    price: Decimal | str | int
    base_amount: Decimal | str | int
    quote_amount: Decimal | str | int
    """Default: the exact product, rounded down to the smallest unit."""
    taker_order_id: UUID | str
    maker_order_id: UUID | str
    taker_fee: Decimal | str | int
    """In the quote asset; default: by the user's fee tier."""
    maker_fee: Decimal | str | int
    executed_at: datetime | str
    id: UUID | str
    """A UUIDv7 made by the caller: a retry with the same id finds the first match."""
    source: str
    source_match_id: str
    """The venue's own id, or transaction and log index of a chain: for the same purpose."""
    chain: str
    block_number: int
    """With ``chain``: the block, which may be reverted."""
    allow_self_trade: bool


ORDER_FIELDS = frozenset(OrderInput.__annotations__)
FILL_FIELDS = frozenset(FillInput.__annotations__)


def prepare_order(fields: Mapping[str, Any], market: Market, placed_by: str) -> Place:
    """Check an order; raises ``ValidationError`` that names the first wrong field."""
    get = fields.get
    side = one_of(get("side"), "side", SIDES)
    kind = one_of(get("type"), "type", ORDER_TYPES)
    time_in_force = one_of(
        get("time_in_force", "ioc" if kind == "market" else "gtc"), "time_in_force", TIMES_IN_FORCE
    )
    if kind == "market" and time_in_force in {"gtc", "gtt"}:
        raise ValidationError(
            f"A market order cannot be {time_in_force}: it never rests.", field="time_in_force", hint="ioc or fok."
        )
    post_only, reduce_only = (
        _flag(get("post_only", False), "post_only"),
        _flag(get("reduce_only", False), "reduce_only"),
    )
    if post_only and (kind != "limit" or time_in_force not in {"gtc", "gtt"}):
        raise ValidationError(
            f"post_only is for limit orders that rest (gtc, gtt), got {kind} {time_in_force}.", field="post_only"
        )
    quantity, quantity_text = checked_quantity(required(fields, "quantity"), market)
    price, price_text = _price_if(kind in {"limit", "stop_limit"}, fields, "price", kind)
    stop_price, stop_text = _price_if(kind in {"stop", "stop_limit"}, fields, "stop_price", kind)
    now = datetime.now(UTC)
    expires_at = _expiry(get("expires_at"), time_in_force)
    user_id = parse_id(required(fields, "user_id"), "user_id")
    client_order_id = get("client_order_id")
    if client_order_id is not None:
        check_text(client_order_id, "client_order_id", CLIENT_ORDER_ID_LENGTH_MAX)
    given = get("id")
    id = uuid7() if given is None else _given_id(given)
    status = "untriggered" if kind in {"stop", "stop_limit"} else "open"
    order = Order(
        id,
        user_id,
        market.symbol,
        client_order_id,
        side,
        kind,
        time_in_force,
        post_only,
        reduce_only,
        quantity,
        price,
        stop_price,
        Decimal(0),
        status,
        1,
        expires_at,
        placed_by,
        now,
        now,
    )
    created = now.isoformat()
    line = (
        f"{id}\t{user_id}\t{market.id}\t{market.base_decimals}\t{market.quote_decimals}"
        f"\t{NULL if client_order_id is None else escaped(client_order_id)}\t{side}\t{kind}\t{time_in_force}"
        f"\t{post_only}\t{reduce_only}\t{quantity_text}\t{price_text}\t{stop_text}\t{status}"
        f"\t{expires_at.isoformat() if expires_at else NULL}\t{escaped(placed_by)}\t{created}\t{created}\n"
    )
    return Place(order, market, line, given is not None)


def prepare_fill(fields: Mapping[str, Any], market: Market, actor: str) -> Fill:
    """Check a fill; raises ``ValidationError`` that names the first wrong field."""
    get = fields.get
    base_amount, base_text = parse_amount(required(fields, "base_amount"), "base_amount")
    price, price_text = parse_amount(required(fields, "price"), "price", decimals_max=PRICE_DECIMALS_MAX)
    given_quote = get("quote_amount")
    if given_quote is None:
        given_quote = rounded(EXACT.multiply(base_amount, price), market.quote_decimals, ROUND_DOWN)
    quote_amount, quote_text = parse_amount(given_quote, "quote_amount")
    check_amounts(market, base_amount, base_text, quote_amount, quote_text, price, price_text)
    taker_order_id = parse_id(required(fields, "taker_order_id"), "taker_order_id")
    maker_order_id = optional_id(get("maker_order_id"), "maker_order_id")
    if maker_order_id == taker_order_id:
        raise ValidationError(f"taker and maker are the same order, {taker_order_id}.", field="maker_order_id")
    taker_fee, maker_fee = _fee(get("taker_fee"), "taker_fee", market), _fee(get("maker_fee"), "maker_fee", market)
    if maker_fee is not None and maker_order_id is None:
        raise ValidationError("maker_fee is given, but there is no maker_order_id.", field="maker_fee")
    kind = one_of(get("type", "swap" if maker_order_id is None else "spot"), "type", TYPES)
    source, source_match_id = get("source"), get("source_match_id")
    if (source is None) != (source_match_id is None):
        missing = "source" if source is None else "source_match_id"
        raise ValidationError(f"{missing} is missing: source and source_match_id go together.", field=missing)
    if source is not None:
        check_source(source)
        check_text(source_match_id, "source_match_id", SOURCE_MATCH_ID_LENGTH_MAX)
    chain, block_number = checked_block(get("chain"), get("block_number"), optional=True)
    # Not made from the source's id: after a reorganisation the same fill may come again, at the same time.
    id, executed_at = id_and_time(get("id"), get("executed_at"), None, market.symbol, None)
    allow_self_trade = _flag(get("allow_self_trade", False), "allow_self_trade")
    asked = (
        market.symbol,
        kind,
        base_text,
        price_text,
        quote_text,
        str(taker_order_id),
        str(maker_order_id),
        _shown(taker_fee),
        _shown(maker_fee),
        "" if get("executed_at") is None else executed_at.isoformat(),
        str(source),
        str(source_match_id),
        str(chain),
        str(block_number),
    )
    return Fill(
        id,
        market,
        kind,
        price,
        base_amount,
        quote_amount,
        taker_order_id,
        maker_order_id,
        taker_fee,
        maker_fee,
        executed_at,
        source,
        source_match_id,
        chain,
        block_number,
        allow_self_trade,
        blake2b("\0".join(asked).encode(), digest_size=16).digest(),
        actor,
        id_at(executed_at),
        None if maker_order_id is None else id_at(executed_at),
    )


def checked_quantity(value: Any, market: Market) -> tuple[Decimal, str]:
    """A quantity of an order: above 0, in whole units of the base asset."""
    quantity, text = parse_amount(value, "quantity")
    if not quantity:
        raise ValidationError("quantity must be above 0.", field="quantity")
    if decimals_of(text) > market.base_decimals:
        raise ValidationError(
            f"quantity {text} has more decimals than {market.base_asset}, which has {market.base_decimals}.",
            field="quantity",
        )
    return quantity, text


def checked_price(value: Any, field: str) -> tuple[Decimal, str]:
    """A price: above 0, at most 36 decimals."""
    price, text = parse_amount(value, field, decimals_max=PRICE_DECIMALS_MAX)
    if not price:
        raise ValidationError(f"{field} must be above 0.", field=field)
    return price, text


def checked_reason(reason: Any, *, needed: bool = False) -> str | None:
    """Why something was done, where it is said or ``needed``."""
    if reason is None and needed:
        raise ValidationError("reason is missing: say why.", field="reason")
    if reason is not None:
        check_text(reason, "reason", REASON_LENGTH_MAX)
    return reason


def checked_block(chain: Any, block_number: Any, *, optional: bool = False) -> tuple[Any, Any]:
    """A block of a chain: both or neither."""
    if optional and chain is None and block_number is None:
        return None, None
    if type(chain) is not str or not _CHAIN.fullmatch(chain):
        raise ValidationError(f"chain must be like ethereum or evm:1, got {str(chain)[:80]!r}.", field="chain")
    if type(block_number) is not int or not 0 <= block_number < BLOCK_BOUND:
        raise ValidationError(
            f"block_number must be a whole number from 0, got {block_number!r}.", field="block_number"
        )
    return chain, block_number


def _price_if(wanted: bool, fields: Mapping[str, Any], name: str, kind: str) -> tuple[Decimal | None, str]:
    value = fields.get(name)
    if not wanted:
        if value is not None:
            raise ValidationError(f"A {kind} order has no {name}, got {value!r}.", field=name)
        return None, NULL
    return checked_price(required(fields, name), name)


def _expiry(value: Any, time_in_force: str) -> datetime | None:
    # In the past it may be a retry: only who finds no such order refuses it.
    if time_in_force != "gtt":
        if value is not None:
            raise ValidationError(f"Only gtt orders expire, this one is {time_in_force}.", field="expires_at")
        return None
    if value is None:
        raise ValidationError("expires_at is missing: a gtt order needs it.", field="expires_at")
    return parse_moment(value, "expires_at")


def _given_id(value: Any) -> UUID:
    id = parse_id(value, "id")
    check_version(id)
    milliseconds, now_ms = id.int >> 80, time.time() * 1000
    if milliseconds > now_ms + AHEAD_MS_MAX:
        wrong = "more than 5 minutes ahead of this machine's clock"
    elif milliseconds < now_ms - AGE_YEARS_MAX * _YEAR_MS:
        wrong = f"more than {AGE_YEARS_MAX} years ago"
    else:
        return id
    shown = time_of_ms(milliseconds).isoformat() if milliseconds < 10**14 else milliseconds
    raise ValidationError(
        f"id carries the time {shown}, {wrong}.",
        field="id",
        hint="Make it with novadex.ids.uuid7() when the order is placed. Or is a clock wrong?",
    )


def _flag(value: Any, field: str) -> bool:
    if type(value) is not bool:
        raise ValidationError(f"{field} must be true or false, got {value!r}.", field=field)
    return value


def _fee(value: Any, field: str, market: Market) -> Decimal | None:
    if value is None:
        return None
    fee, text = parse_signed_amount(value, field)
    if decimals_of(text) > market.quote_decimals:
        raise ValidationError(
            f"{field} {text} has more decimals than {market.quote_asset}, which has {market.quote_decimals}.",
            field=field,
        )
    return fee


def _shown(fee: Decimal | None) -> str:
    return "" if fee is None else plain(fee)
