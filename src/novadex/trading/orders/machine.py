"""The state machine of orders, without a server: commands in order of arrival onto orders as they stand.

Each command is carried out whole or raises; one that raises changes nothing. What came of them is collected,
to be written set by set. The database has the same rules as triggers and constraints.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from novadex.errors import ConflictError, NotFoundError, NovaDexError, UsageError, ValidationError
from novadex.ids import id_at
from novadex.money import EXACT, plain, rounded
from novadex.trading.lines import copy_line
from novadex.trading.orders.records import LIVE, EventType, Match, Order, OrderStatus

if TYPE_CHECKING:
    from novadex.trading.orders.commands import ChangeOrder, Fill, FillWhole, Place, Undo
    from novadex.trading.records import Side

STRICTNESS = {"active": 1, "post_only": 2, "cancel_only": 3, "halted": 4}
_ZERO = Decimal(0)
_FROM: dict[str, frozenset[OrderStatus]] = {
    "triggered": frozenset({"untriggered"}),
    "rejected": frozenset({"untriggered", "open"}),
    "amended": LIVE,
    "cancelled": LIVE,
    "expired": LIVE,
}
_TO: dict[str, OrderStatus] = {
    "triggered": "open",
    "rejected": "rejected",
    "cancelled": "cancelled",
    "expired": "expired",
}


@dataclass(slots=True)
class MarketState:
    """A market as it stands while the batch holds it."""

    id: int
    symbol: str
    sequence: int
    status: str
    """The stricter one of the market's and the venue's."""
    tick_size: Decimal | None
    lot_size: Decimal | None
    base_asset_id: int
    quote_asset_id: int


@dataclass(frozen=True, slots=True)
class Standing:
    """An order and its market's key."""

    order: Order
    market_id: int


@dataclass(frozen=True, slots=True)
class Known:
    """An order that is there already, with what it was placed as."""

    order: Order
    quantity: Decimal
    price: Decimal | None


@dataclass(frozen=True, slots=True)
class Event:
    """A step to be written; the writer numbers it within its market."""

    id: UUID
    order_id: UUID
    version: int
    market_id: int
    type: EventType
    status: OrderStatus
    quantity: Decimal
    filled_quantity: Decimal
    price: Decimal | None
    reason: str | None
    actor: str
    trade_id: UUID | None


@dataclass(slots=True)
class Reducing:
    """What a user holds of a market by executions, and the live reduce-only orders that claim it."""

    holding: Decimal = _ZERO
    orders: set[UUID] = field(default_factory=set)


@dataclass(slots=True)
class Writes:
    """What a batch comes to."""

    placed: list[Place] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    trades: list[str] = field(default_factory=list)
    filled: list[Fill] = field(default_factory=list)
    reversals: list[tuple[UUID, UUID]] = field(default_factory=list)
    """The trade, and the id of the row that undoes it."""
    undone: list[Undo] = field(default_factory=list)


class Machine:
    """Orders, matches and markets that a batch names, as they stand and as the commands leave them."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.markets: dict[int, MarketState] = {}
        self.orders: dict[UUID, Standing] = {}
        self.known: dict[UUID, Known] = {}
        self.by_client: dict[tuple[UUID, str], UUID] = {}
        self.placers: dict[UUID, str] = {}
        """Status of the users who place orders."""
        self.rates: dict[tuple[UUID, int], tuple[Decimal, Decimal]] = {}
        """Maker and taker rates by user and market."""
        self.matches: dict[UUID, tuple[Match, bytes]] = {}
        self.by_source: dict[tuple[int, str, str], UUID] = {}
        self.loosest: dict[UUID, Decimal] = {}
        """The best price for the other side that an amended order ever had: a fill may be reported late."""
        self.reducing: dict[tuple[UUID, int], Reducing] = {}
        self.writes = Writes()

    # Placing

    def place(self, command: Place) -> Order:
        """A new order; the same again gives the one that is there."""
        order = command.order
        known_id = order.id if order.id in self.known else None
        if known_id is None and order.client_order_id is not None:
            known_id = self.by_client.get((order.user_id, order.client_order_id))
        if known_id is not None:
            return self._placed_before(command, self.known[known_id])
        market = self.markets[command.market.id]
        placer = self.placers.get(order.user_id)
        if placer is None:
            raise NotFoundError(f"There is no user {order.user_id}.", hint="Create the user first.", field="user_id")
        if placer != "active":
            raise ConflictError(
                f"The user {order.user_id} is {placer} and places no orders.", user_id=order.user_id, status=placer
            )
        _require_open(market, post_only=order.post_only)
        _check_steps(market, order.quantity, (("price", order.price), ("stop_price", order.stop_price)))
        if order.expires_at is not None and order.expires_at <= self.now:
            raise ValidationError(f"expires_at is in the past: {order.expires_at.isoformat()}.", field="expires_at")
        if order.reduce_only:
            self._require_reducing(order, market.id, order.quantity)
            self.reducing[order.user_id, market.id].orders.add(order.id)
        self.orders[order.id] = Standing(order, market.id)
        self.known[order.id] = Known(order, order.quantity, order.price)
        if order.client_order_id is not None:
            self.by_client[order.user_id, order.client_order_id] = order.id
        self.writes.placed.append(command)
        return order

    def _placed_before(self, command: Place, known: Known) -> Order:
        wanted, placed = command.order, known.order
        same = (
            (wanted.id == placed.id or not command.id_given)
            and (known.quantity, known.price) == (wanted.quantity, wanted.price)
            and _terms(wanted) == _terms(placed)
        )
        if same:
            standing = self.orders.get(placed.id)
            return standing.order if standing is not None else placed
        if placed.id == wanted.id:
            raise ConflictError(
                f"The id {wanted.id} belongs to another order.",
                hint="A retry must send the same order; a new order needs a new id.",
                order_id=wanted.id,
            )
        raise ConflictError(
            f"The client order id {wanted.client_order_id!r} stands for another order, {placed.id}.",
            hint="Send the same order as the first time, or use a new client_order_id.",
            client_order_id=wanted.client_order_id,
            order_id=placed.id,
        )

    def _require_reducing(self, order: Order, market_id: int, quantity: Decimal) -> None:
        """Raise unless this much of the order, with what others claim already, only reduces the holding."""
        reducing = self.reducing[order.user_id, market_id]
        claimed = _ZERO
        for id in reducing.orders:
            other = self.orders[id].order
            if other.id != order.id and other.side == order.side and other.live:
                claimed = EXACT.add(claimed, other.remaining_quantity)
        holding = reducing.holding if order.side == "sell" else EXACT.minus(reducing.holding)
        available = EXACT.subtract(holding, claimed)
        if EXACT.subtract(quantity, order.filled_quantity) > available:
            raise ValidationError(
                f"quantity {plain(quantity)} is more than reduces the holding: {plain(max(available, _ZERO))}"
                f" {order.market} can be {'sold' if order.side == 'sell' else 'bought back'}, of a holding of"
                f" {plain(reducing.holding)} with {plain(claimed)} claimed by other reduce-only orders.",
                field="quantity",
                hint="Place less, or without reduce_only.",
            )

    # Steps that move no assets

    def change(self, command: ChangeOrder) -> Order:
        """Amend, cancel, reject, trigger or expire; what is so already stays as it is."""
        standing = self.orders.get(command.order_id)
        # Its market is not held where it was placed after the markets of the batch were looked up.
        if standing is None or standing.market_id not in self.markets:
            raise no_order(command.order_id)
        if command.owner is not None and standing.order.user_id != command.owner:
            raise no_order(command.order_id)
        order, market = standing.order, self.markets[standing.market_id]
        change = command.change
        if change == "amended":
            return self._amend(command, order, market)
        triggered_before = change == "triggered" and order.stop_price is not None and order.live
        if order.status != "untriggered" and (order.status == _TO[change] or triggered_before):
            return order
        if order.status not in _FROM[change]:
            raise _cannot(order, change)
        if command.by_user and market.status == "halted":
            raise _refused_by(market, "cancels nothing")
        if change == "expired" and (order.expires_at is None or order.expires_at > self.now) and not command.reason:
            raise ConflictError(
                f"The order {order.id} does not expire"
                + (f" before {order.expires_at.isoformat()}." if order.expires_at else ": it is no gtt order."),
                hint="Where the venue expired it, give its reason.",
                order_id=order.id,
            )
        command.happened = True
        return self._step(
            standing,
            command.event_id,
            change,
            status=_TO[change],
            reason=command.reason,
            actor=command.actor,
        )

    def _amend(self, command: ChangeOrder, order: Order, market: MarketState) -> Order:
        quantity = command.quantity if command.quantity is not None else order.quantity
        price = command.price if command.price is not None else order.price
        if order.status not in LIVE:
            raise _cannot(order, "amended")
        if price is not None and order.price is None:
            raise ValidationError(f"A {order.type} order has no price to amend.", field="price")
        if (quantity, price) == (order.quantity, order.price):
            return order
        if quantity <= order.filled_quantity:
            raise ValidationError(
                f"quantity {plain(quantity)} is not above what is filled already, {plain(order.filled_quantity)}.",
                field="quantity",
                hint="Cancel the order instead.",
            )
        _require_open(market, post_only=order.post_only)
        _check_steps(
            market,
            quantity if quantity != order.quantity else None,
            (("price", price if price != order.price else None),),
        )
        if order.reduce_only and quantity > order.quantity:
            self._require_reducing(order, market.id, quantity)
        if price is not None and price != order.price:
            before = self.loosest.get(order.id, order.price)
            if before is not None:
                self.loosest[order.id] = (max if order.side == "buy" else min)(before, price)
        return self._step(
            self.orders[order.id],
            command.event_id,
            "amended",
            quantity=quantity,
            price=price,
            reason=command.reason,
            actor=command.actor,
        )

    # Fills

    def fill(self, command: Fill, *, in_part: bool = False) -> Match:
        """Both orders, both executions; the same again gives the match that is there. ``in_part``: the others that
        fill a fok taker whole come with it."""
        known = self._matched_before(command)
        if known is not None:
            return known
        taker = self._order_to_fill(command, command.taker_order_id, "taker_order_id")
        maker = None
        if command.maker_order_id is not None:
            maker = self._order_to_fill(command, command.maker_order_id, "maker_order_id")
            self._check_pair(command, taker.order, maker.order)
            _require_whole(maker.order, command.base_amount)
        self._check_taker(taker.order)
        if not in_part:
            _require_whole(taker.order, command.base_amount)
        market = self.markets[taker.market_id]
        taker_fee = self._fee(command, command.taker_fee, taker.order.user_id, taker=True)
        maker_fee = self._fee(command, command.maker_fee, maker.order.user_id, taker=False) if maker else None
        self._execute(command, taker, command.taker_trade_id, taker_fee, liquidity="taker")
        if maker is not None and command.maker_trade_id is not None and maker_fee is not None:
            self._execute(command, maker, command.maker_trade_id, maker_fee, liquidity="maker")
        match = Match(
            command.id,
            command.market.symbol,
            taker.order.side,
            command.price,
            command.base_amount,
            command.quote_amount,
            command.taker_order_id,
            command.maker_order_id,
            command.taker_trade_id,
            command.maker_trade_id,
            taker_fee,
            maker_fee,
            command.executed_at,
            command.source,
            command.source_match_id,
            command.chain,
            command.block_number,
        )
        self.matches[match.id] = (match, command.request_hash)
        if match.source is not None and match.source_match_id is not None:
            self.by_source[market.id, match.source, match.source_match_id] = match.id
        self.writes.filled.append(command)
        return match

    def fill_whole(self, command: FillWhole) -> list[Match]:
        """The fills of one fok order, which it met several makers by: all of them, or none."""
        writes, order_id = self.writes, command.fills[0].taker_order_id
        rows: tuple[list[Any], ...] = (writes.events, writes.trades, writes.filled)
        lengths = [len(written) for written in rows]
        orders = {
            id: self.orders[id]
            for fill in command.fills
            for id in (fill.taker_order_id, fill.maker_order_id)
            if id is not None and id in self.orders
        }
        holdings = {key: reducing.holding for key, reducing in self.reducing.items()}
        try:
            matches = [self.fill(fill, in_part=True) for fill in command.fills]
            if len(writes.filled) > lengths[-1]:
                _require_whole(self.orders[order_id].order, _ZERO)
        except NovaDexError:
            for fill in writes.filled[lengths[-1] :]:
                del self.matches[fill.id]
                if fill.source is not None and fill.source_match_id is not None:
                    del self.by_source[fill.market.id, fill.source, fill.source_match_id]
            for written, length in zip(rows, lengths, strict=True):
                del written[length:]
            self.orders |= orders
            for key, holding in holdings.items():
                self.reducing[key].holding = holding
            raise
        return matches

    def _matched_before(self, command: Fill) -> Match | None:
        known = self.matches.get(command.id)
        if known is None and command.source is not None and command.source_match_id is not None:
            id = self.by_source.get((command.market.id, command.source, command.source_match_id))
            known = self.matches.get(id) if id is not None else None
        if known is None:
            return None
        match, request_hash = known
        if match.undone == "reverted":
            raise ConflictError(
                f"The match {match.id} was reverted with its block: the id is taken.",
                hint="Report the fill of the other block without an id, or with a new one.",
                match_id=match.id,
            )
        if request_hash == command.request_hash:
            return match
        name = f"{command.source} {command.source_match_id}" if command.source is not None else f"the id {command.id}"
        raise ConflictError(
            f"{name} was reported before with other contents, as the match {match.id}.",
            hint="A retry must report the same; bust the match where the first report was wrong.",
            match_id=match.id,
        )

    def _order_to_fill(self, command: Fill, id: UUID, role: str) -> Standing:
        standing = self.orders.get(id)
        if standing is None:
            raise no_order(id, field=role)
        order = standing.order
        if order.market != command.market.symbol:
            raise ValidationError(
                f"{role} {id} is an order of {order.market}, the fill is of {command.market.symbol}.", field=role
            )
        if order.status not in {"open", "partially_filled"}:
            raise _cannot(order, "filled", "Report its trigger first." if order.status == "untriggered" else None)
        if command.base_amount > order.remaining_quantity:
            raise ConflictError(
                f"The order {id} has {plain(order.remaining_quantity)} left, less than the fill of"
                f" {plain(command.base_amount)}.",
                hint="Was it reported before under another id?",
                order_id=id,
            )
        if order.price is not None:
            limit = self.loosest.get(id, order.price)
            if (command.price > limit) if order.side == "buy" else (command.price < limit):
                raise ValidationError(
                    f"price {plain(command.price)} is worse than {plain(limit)}, the limit of the {order.side} order"
                    f" {id}.",
                    field="price",
                )
        return standing

    @staticmethod
    def _check_pair(command: Fill, taker: Order, maker: Order) -> None:
        if taker.side == maker.side:
            raise ValidationError(f"taker {taker.id} and maker {maker.id} both {taker.side}.", field="maker_order_id")
        if taker.user_id == maker.user_id and not command.allow_self_trade:
            raise ConflictError(
                f"Both orders are of the user {taker.user_id}: {taker.id} and {maker.id}.",
                hint="Where the venue lets users trade with themselves, report it with allow_self_trade.",
                user_id=taker.user_id,
            )

    @staticmethod
    def _check_taker(taker: Order) -> None:
        if taker.post_only:
            raise ConflictError(
                f"The order {taker.id} is post_only: it is never the taker.",
                hint="Are taker and maker exchanged?",
                order_id=taker.id,
            )

    def _fee(self, command: Fill, given: Decimal | None, user_id: UUID, *, taker: bool) -> Decimal:
        """By the user's tier where it is not given; rounded up, in favour of the venue: a rebate towards zero."""
        if given is not None:
            return given
        maker_rate, taker_rate = self.rates.get((user_id, command.market.id), (_ZERO, _ZERO))
        rate = taker_rate if taker else maker_rate
        if not rate:
            return _ZERO
        return rounded(EXACT.multiply(command.quote_amount, rate), command.market.quote_decimals, ROUND_CEILING)

    def _execute(self, command: Fill, standing: Standing, trade_id: UUID, fee: Decimal, *, liquidity: str) -> None:
        order, market = standing.order, self.markets[standing.market_id]
        filled = EXACT.add(order.filled_quantity, command.base_amount)
        status: OrderStatus = "filled" if filled == order.quantity else "partially_filled"
        self.writes.trades.append(
            copy_line(
                id=str(trade_id),
                user_id=str(order.user_id),
                market_id=market.id,
                base_decimals=command.market.base_decimals,
                quote_decimals=command.market.quote_decimals,
                type=command.type,
                side=order.side,
                liquidity=liquidity,
                base_amount=plain(command.base_amount),
                quote_amount=plain(command.quote_amount),
                price=plain(command.price),
                fee_amount=plain(fee),
                fee_asset_id=market.quote_asset_id,
                executed_at=command.executed_at.isoformat(),
                sequence=None,
                match_id=str(command.id),
                order_id=str(order.id),
                source=None,
                source_trade_id=None,
            )
        )
        self._hold(order.user_id, market.id, order.side, command.base_amount)
        self._step(
            standing,
            trade_id,
            "filled",
            filled=filled,
            status=status,
            actor=command.actor,
            trade_id=trade_id,
        )

    # Undoing

    def undo(self, command: Undo) -> Match:
        """Reverse a match by compensating rows; one that is undone in that way already stays as it is."""
        known = self.matches.get(command.match_id)
        if known is None or self.orders[known[0].taker_order_id].market_id not in self.markets:
            raise no_match(command.match_id)
        match, request_hash = known
        if match.undone == command.undone:
            return match
        if match.undone is not None:
            raise ConflictError(
                f"The match {match.id} was {match.undone} already, at {match.undone_at}.", match_id=match.id
            )
        for order_id, trade_id in (
            (match.taker_order_id, match.taker_trade_id),
            (match.maker_order_id, match.maker_trade_id),
        ):
            if order_id is not None and trade_id is not None:
                self._reverse(command, match, self.orders[order_id], trade_id)
        undone = replace(
            match,
            undone=command.undone,
            undone_at=self.now,
            undone_by=command.actor,
            undone_reason=command.reason,
        )
        self.matches[match.id] = (undone, request_hash)
        if command.undone == "reverted" and match.source is not None and match.source_match_id is not None:
            # The chain may hold it again, in another block.
            market_id = self.orders[match.taker_order_id].market_id
            self.by_source.pop((market_id, match.source, match.source_match_id), None)
        self.writes.undone.append(command)
        return undone

    def _reverse(self, command: Undo, match: Match, standing: Standing, trade_id: UUID) -> None:
        order, amount = standing.order, match.base_amount
        filled = EXACT.subtract(order.filled_quantity, amount)
        quantity = order.quantity
        status: OrderStatus = order.status
        if order.status in {"partially_filled", "filled"}:
            status = "partially_filled" if filled else "open"
            if command.undone == "busted":
                # The venue took the execution away, and does not put its quantity back into the book.
                if order.status == "filled":
                    status = "cancelled"
                else:
                    quantity = EXACT.subtract(quantity, amount)
        reversal_id = id_at(match.executed_at)
        self.writes.reversals.append((trade_id, reversal_id))
        self._hold(order.user_id, standing.market_id, order.side, EXACT.minus(amount))
        self._step(
            standing,
            reversal_id,
            "busted",
            status=status,
            quantity=quantity,
            filled=filled,
            reason=command.reason,
            actor=command.actor,
            trade_id=reversal_id,
        )

    # Shared

    def _hold(self, user_id: UUID, market_id: int, side: Side, amount: Decimal) -> None:
        reducing = self.reducing.get((user_id, market_id))
        if reducing is not None:
            reducing.holding = EXACT.add(reducing.holding, amount if side == "buy" else EXACT.minus(amount))

    def _step(
        self,
        standing: Standing,
        event_id: UUID,
        type: EventType,
        *,
        actor: str,
        status: OrderStatus | None = None,
        quantity: Decimal | None = None,
        filled: Decimal | None = None,
        price: Decimal | None = None,
        reason: str | None = None,
        trade_id: UUID | None = None,
    ) -> Order:
        """The order as the event leaves it; what is not given stays."""
        order = standing.order
        # Not by dataclasses.replace(), which takes ten times as long: every fill comes through here twice.
        after = Order(
            order.id,
            order.user_id,
            order.market,
            order.client_order_id,
            order.side,
            order.type,
            order.time_in_force,
            order.post_only,
            order.reduce_only,
            order.quantity if quantity is None else quantity,
            order.price if price is None else price,
            order.stop_price,
            order.filled_quantity if filled is None else filled,
            status or order.status,
            order.version + 1,
            order.expires_at,
            order.placed_by,
            order.created_at,
            self.now,
        )
        self.orders[after.id] = Standing(after, standing.market_id)
        self.writes.events.append(
            Event(
                event_id,
                after.id,
                after.version,
                standing.market_id,
                type,
                after.status,
                after.quantity,
                after.filled_quantity,
                after.price,
                reason,
                actor,
                trade_id,
            )
        )
        return after


def no_order(id: UUID | str, field: str = "order_id") -> NovaDexError:
    return NotFoundError(f"There is no order {id}.", hint="Is it the id of this instance?", field=field, order_id=id)


def no_match(id: UUID | str) -> NovaDexError:
    return NotFoundError(f"There is no match {id}.", hint="Is it the id of this instance?", match_id=id)


def _terms(order: Order) -> tuple[object, ...]:
    """What of an order never changes, but its id."""
    return (
        order.user_id,
        order.market,
        order.client_order_id,
        order.side,
        order.type,
        order.time_in_force,
        order.post_only,
        order.reduce_only,
        order.stop_price,
        order.expires_at,
    )


def _cannot(order: Order, change: str, hint: str | None = None) -> UsageError:
    return ConflictError(
        f"The order {order.id} is {order.status}: it cannot be {change}.",
        hint=hint or "Look at its events: novadex orders events ID",
        order_id=order.id,
        status=order.status,
    )


def _require_whole(order: Order, amount: Decimal) -> None:
    """Raise where a fok order would be filled in part. What was taken back by a reverted block may come again."""
    if order.time_in_force == "fok" and amount != order.remaining_quantity:
        raise ConflictError(
            f"The order {order.id} is fok: it is filled whole, {plain(order.quantity)}, or not at all.",
            hint="Where it met several makers, report all its fills in one call of record_fills.",
            order_id=order.id,
        )


def _require_open(market: MarketState, *, post_only: bool) -> None:
    if STRICTNESS[market.status] > (2 if post_only else 1):
        takes = "takes post_only orders only" if market.status == "post_only" else "takes no orders"
        raise _refused_by(market, takes)


def _refused_by(market: MarketState, takes: str) -> UsageError:
    return ConflictError(
        f"{market.symbol} is {market.status}: it {takes}.",
        hint="Try again when the market is open: novadex markets list",
        market=market.symbol,
        status=market.status,
    )


def _check_steps(
    market: MarketState, quantity: Decimal | None, prices: tuple[tuple[str, Decimal | None], ...]
) -> None:
    if quantity is not None and market.lot_size is not None and EXACT.remainder(quantity, market.lot_size):
        raise ValidationError(
            f"quantity {plain(quantity)} is no multiple of the lot size {plain(market.lot_size)}.",
            field="quantity",
        )
    for name, price in prices:
        if price is not None and market.tick_size is not None and EXACT.remainder(price, market.tick_size):
            raise ValidationError(
                f"{name} {plain(price)} is no multiple of the tick size {plain(market.tick_size)}.",
                field=name,
            )
