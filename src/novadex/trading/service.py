"""``TradingService``: trades are recorded exactly once and durably, and listed by key."""

from __future__ import annotations

import copy
import itertools
from datetime import datetime
from typing import TYPE_CHECKING, Any, Unpack
from uuid import UUID

from novadex import metrics
from novadex.audit.acts import record_look
from novadex.errors import NotFoundError, NovaDexError, PermissionDeniedError, UsageError, ValidationError
from novadex.ids import milliseconds_of, parse_id
from novadex.roles.actor import SERVICE, Actor
from novadex.storage.connection import DatabaseConnection
from novadex.storage.group_commit import GroupCommitter
from novadex.trading.markets import QUERIES, Markets, check_limit
from novadex.trading.orders.prepare import FillInput, OrderInput
from novadex.trading.orders.records import Match, Order, OrderEvent
from novadex.trading.orders.service import Orders
from novadex.trading.prepare import PreparedTrade, TradeInput, market_symbol, parse_moment, prepare
from novadex.trading.records import Page, Trade
from novadex.trading.writing import TradeWriter

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from decimal import Decimal

BULK_BATCH_TRADES = 5_000
CREATED_FOR = "trades.created_for"
OWNERS_NAMED_MAX = 20
LIST_LIMIT = 100
_LAST_ID = UUID(int=(1 << 128) - 1)
_FIRST_ID = UUID(int=0)


class TradingService:
    """Trades of an instance.

    ``create_trade`` may be called by thousands of tasks at once: they share transactions (group commit), and
    each returns only after its trade is on disk. ``acting_as`` gives the same service on behalf of somebody:
    every method checks what they may do.
    """

    def __init__(self, db: DatabaseConnection | None = None, *, actor: Actor = SERVICE) -> None:
        self._db = db or DatabaseConnection.get_instance()
        self._actor = actor
        settings = self._db.settings
        self.markets = Markets(self._db, actor=actor)
        self._committer: GroupCommitter[PreparedTrade, Trade] = GroupCommitter(
            lambda: TradeWriter(self._db.main),
            batch_max=settings.group_commit_batch_max,
            queue_max=settings.group_commit_queue_max,
            wait_s_max=settings.group_commit_wait_s_max,
        )
        metrics.group_commit_waiting.set_function(self._committer.waiting)
        self.orders = Orders(self._db, self.markets, actor=actor)

    def acting_as(self, actor: Actor) -> TradingService:
        """This service on behalf of somebody. They share everything: closing one closes the other."""
        service = copy.copy(self)
        service._actor = actor  # noqa: SLF001 - of the same class
        service.markets = self.markets.acting_as(actor)
        service.orders = self.orders.on_behalf_of(actor)
        return service

    async def create_trade(self, trade: TradeInput | None = None, /, **fields: Unpack[TradeInput]) -> Trade:
        """Record one trade; returns it once it is committed.

        Amounts are ``Decimal``, ``str`` or ``int`` in units of the asset (``"1.5"`` SOL), never a float.
        With the caller's own ``id`` (UUIDv7) or ``idempotency_key`` a retry returns the first trade; the same
        id or key with another trade raises ``ConflictError``.

        One's own trades need ``trades.create_own``, those of others, and those of a ``source``,
        ``trades.create_any``. Whoever may only record their own may leave out ``user_id``.

        Raises ``ValidationError`` (names the field), ``NotFoundError`` (market, user, order),
        ``OverloadedError`` and ``UnavailableError``: try again with the same id, which ``details["trade_id"]``
        names where NovaDex made it.
        """
        given = {**trade, **fields} if trade is not None else fields
        prepared = await (self._prepare(given) if self._actor.trusted else self._prepare_allowed(given))
        if not self._actor.trusted:
            await self._record_for_others([prepared])
        return await self._committer.submit(prepared)

    async def create_trades(self, trades: Iterable[TradeInput]) -> list[Trade | NovaDexError]:
        """Record many; one outcome for each, in order: the trade, or the error that it alone has.

        They are written in transactions of at most 5,000 trades. ``PermissionDeniedError`` is raised where the
        actor may record none at all.
        """
        checked = self._prepare if self._actor.trusted else self._prepare_allowed
        self._require_one_of("trades.create_own", "trades.create_any")
        outcomes: list[Any] = []
        waiting: list[tuple[int, PreparedTrade]] = []
        writer = TradeWriter(self._db.main)
        try:
            for index, fields in enumerate(trades):
                try:
                    waiting.append((index, await checked(fields)))
                    outcomes.append(None)
                except UsageError as error:
                    outcomes.append(error)
                if len(waiting) >= BULK_BATCH_TRADES:
                    await self._write_bulk(writer, waiting, outcomes)
            await self._write_bulk(writer, waiting, outcomes)
        finally:
            await writer.close()
        return outcomes

    async def get_trade(self, id: UUID | str) -> Trade:
        """A trade by its id; ``NotFoundError`` where there is none, or it is not one that the actor may see:
        one's own with ``trades.read_own``, all with ``trades.read_any``."""
        own = self._require_one_of("trades.read_own", "trades.read_any")
        wanted = parse_id(id, "id")
        found = await self._db.main.made(Trade, QUERIES.trades_by_ids, [[wanted]], read_only=True)
        if not found or (own is not None and found[0].user_id != own):
            raise NotFoundError(f"There is no trade {wanted}.", hint="Is it the id of this instance?", id=wanted)
        await record_look(self._db, self._actor, "trades.read", found[0].user_id)
        return found[0]

    async def list_trades(
        self,
        *,
        user_id: UUID | str | None = None,
        market: str | None = None,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        limit: int = LIST_LIMIT,
        cursor: str | None = None,
    ) -> Page[Trade]:
        """A page of trades, newest first, of a user, a market, or both, executed in [``start``, ``end``).

        ``cursor`` is the ``next`` of the page before. Page 10,000 costs what page 1 costs. Whoever has
        ``trades.read_own`` only sees their own, and may leave out ``user_id``.
        """
        owner = parse_id(user_id, "user_id") if user_id is not None else None
        if (own := self._require_one_of("trades.read_own", "trades.read_any")) is not None:
            self._actor.require_for(owner or own, "trades.read_own", "trades.read_any")
            owner = own
        limit = check_limit(limit)
        above = _bound(end) if end is not None else _LAST_ID
        if cursor is not None:
            above = min(above, parse_id(cursor, "cursor"))
        below = _bound(start) if start is not None else _FIRST_ID
        market_id = (await self._market(market)).id if market is not None else None
        page: list[Any] = [above, below, limit + 1]
        if owner is not None:
            query, page = QUERIES.trades_of_user, [*page, market_id, owner]
        elif market_id is not None:
            query, page = QUERIES.trades_of_market, [*page, market_id]
        else:
            query = QUERIES.trades_newest
        await record_look(self._db, self._actor, "trades.listed", owner, {"market": market} if market else {})
        trades = await self._db.main.made(Trade, query, page, read_only=True)
        return Page(trades[:limit], str(trades[limit - 1].id) if len(trades) > limit else None)

    # Orders

    async def place_order(self, order: OrderInput | None = None, /, **fields: Unpack[OrderInput]) -> Order:
        """Place an order; returns it once it is committed.

        Amounts are ``Decimal``, ``str`` or ``int`` in units of the base asset, prices quote units for one of it,
        never a float. With the caller's own ``id`` (UUIDv7) or ``client_order_id`` a retry returns the first order;
        the same with another order raises ``ConflictError``.

        One's own orders need ``orders.place_own``, those of others ``orders.place_any``. Raises ``ValidationError``
        (names the field), ``NotFoundError`` (market, user), ``ConflictError`` (the market takes none at the moment),
        ``OverloadedError`` and ``UnavailableError``: try again with the same id.
        """
        return await self.orders.place({**order, **fields} if order is not None else fields)

    async def place_orders(self, orders: Iterable[OrderInput]) -> list[Order | NovaDexError]:
        """Place many, in transactions of at most 500; one outcome for each, in order."""
        return await self.orders.place_many(orders)

    async def amend_order(
        self,
        id: UUID | str | None = None,
        *,
        quantity: Decimal | str | int | None = None,
        price: Decimal | str | int | None = None,
        reason: str | None = None,
        user_id: UUID | str | None = None,
        client_order_id: str | None = None,
    ) -> Order:
        """Change the quantity or the limit price of a live order; what it is already is no change.

        The quantity is the whole one, and above what is filled. Name the order by ``id``, or by
        ``client_order_id`` and its user. ``ConflictError`` where it has ended, or the market takes none.
        """
        return await self.orders.amend(
            id, quantity=quantity, price=price, reason=reason, user_id=user_id, client_order_id=client_order_id
        )

    async def cancel_order(
        self,
        id: UUID | str | None = None,
        *,
        reason: str | None = None,
        user_id: UUID | str | None = None,
        client_order_id: str | None = None,
    ) -> Order:
        """Cancel a live order; one that is cancelled already is given back as it is.

        One's own need ``orders.place_own`` and a market that is not halted, those of others ``orders.cancel_any``.
        ``ConflictError`` where it ended otherwise.
        """
        return await self.orders.cancel(id, reason=reason, user_id=user_id, client_order_id=client_order_id)

    async def cancel_all_orders(
        self, *, user_id: UUID | str | None = None, market: str | None = None, reason: str | None = None
    ) -> int:
        """Cancel the orders of a user, of a market, of both, or all that live when it begins, 500 in a transaction;
        returns how many."""
        return await self.orders.cancel_all(user_id=user_id, market=market, reason=reason)

    async def reject_order(self, id: UUID | str, *, reason: str) -> Order:
        """The venue does not take an order. This and all reports need ``orders.report``."""
        return await self.orders.reject(id, reason=reason)

    async def trigger_order(self, id: UUID | str, *, reason: str | None = None) -> Order:
        """The venue triggered a stop: from now on it is open."""
        return await self.orders.trigger(id, reason=reason)

    async def expire_order(self, id: UUID | str, *, reason: str) -> Order:
        """The venue expired an order."""
        return await self.orders.expire(id, reason=reason)

    async def expire_orders(self, now: datetime | None = None) -> int:
        """Expire the orders whose time is over; returns how many. The worker does it all the time."""
        return await self.orders.expire_due(now)

    async def trigger_stops(self) -> int:
        """Trigger the stops that fills, or trades of a source, reached since they were placed: buys at or above their
        price, sells at or below. Returns how many. The worker does it all the time."""
        return await self.orders.trigger_stops()

    async def set_mark_price(self, market: str, price: Decimal | str | int) -> int:
        """Trigger the stops that a price of the venue's own reaches now; returns how many."""
        return await self.orders.set_mark_price(market, price)

    async def record_fill(self, fill: FillInput | None = None, /, **fields: Unpack[FillInput]) -> Match:
        """Record what the venue executed: both orders move and both executions are written, in one transaction.

        With the caller's own ``id``, or the venue's ``source`` and ``source_match_id``, a retry returns the first
        match; the same with another report raises ``ConflictError``, as does a fill of more than is left. Fees that
        are not given are those of the users' tiers, rounded up to the quote asset's smallest unit.
        """
        return await self.orders.record_fill({**fill, **fields} if fill is not None else fields)

    async def record_fills(self, fills: Iterable[FillInput]) -> list[Match | NovaDexError]:
        """Record many, in transactions of at most 500; one outcome for each, in order.

        The fills of one fok order as the taker are recorded all together or not at all.
        """
        return await self.orders.record_fills(fills)

    async def bust_trade(self, match_id: UUID | str, *, reason: str) -> Match:
        """The venue declares a match void: both executions are undone by compensating trades.

        Its quantity does not come back into the book: live orders lose it, and a filled one becomes cancelled. One
        that is busted already is given back as it is.
        """
        return await self.orders.bust(match_id, reason=reason)

    async def revert_block(self, chain: str, block_number: int, *, reason: str) -> int:
        """A chain dropped a block: all its matches are undone, and their orders live as before. The chain's own ids
        are free again. Returns how many."""
        return await self.orders.revert_block(chain, block_number, reason=reason)

    async def get_order(self, id: UUID | str) -> Order:
        """An order by its id: one's own with ``orders.read_own``, all with ``orders.read_any``."""
        return await self.orders.get(id)

    async def list_orders(
        self,
        *,
        user_id: UUID | str | None = None,
        market: str | None = None,
        live: bool | None = None,
        limit: int = LIST_LIMIT,
        cursor: str | None = None,
    ) -> Page[Order]:
        """A page of orders, newest first, of a user, a market, or both; ``live``: only those that can be filled."""
        return await self.orders.list(user_id=user_id, market=market, live=live, limit=limit, cursor=cursor)

    async def list_order_events(
        self, order_id: UUID | str, *, limit: int = LIST_LIMIT, cursor: str | None = None
    ) -> Page[OrderEvent]:
        """A page of what happened to an order, oldest first."""
        return await self.orders.events(order_id, limit=limit, cursor=cursor)

    async def get_match(self, id: UUID | str) -> Match:
        """A fill by its id; needs ``orders.read_any``, for it names both sides."""
        return await self.orders.match(id)

    async def close(self) -> None:
        """Write what waits and end; a later call raises ``UnavailableError``."""
        await self._committer.close()
        await self.orders.close()

    async def __aenter__(self) -> TradingService:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _require_one_of(self, own: str, any_: str) -> UUID | None:
        """Whose trades only the actor may touch; None: anybody's."""
        actor = self._actor
        if actor.may(any_):
            return None
        actor.require(own)
        if actor.user_id is None:
            raise PermissionDeniedError(f"{actor.name} has no trades of its own.", permission=any_)
        return actor.user_id

    async def _market(self, symbol: str) -> Any:
        return self.markets.remembered(symbol) or await self.markets.get(symbol)

    async def _prepare_allowed(self, fields: Mapping[str, Any]) -> PreparedTrade:
        """As ``_prepare``, for an actor who may not do everything."""
        own = self._require_one_of("trades.create_own", "trades.create_any")
        if own is None:
            return await self._prepare(fields)
        if fields.get("source") is not None:
            # A source's own trade ids are the same for everybody: one user could take them from all others.
            self._actor.require("trades.create_any")
        prepared = await self._prepare({"user_id": own, **fields})
        self._actor.require_for(prepared.trade.user_id, "trades.create_own", "trades.create_any")
        return prepared

    async def _prepare(self, fields: Mapping[str, Any]) -> PreparedTrade:
        try:
            market = await self._market(market_symbol(fields))
            fee_asset = fields.get("fee_asset")
            fee_asset_id = None
            if fee_asset is not None:
                if type(fee_asset) is not str:
                    raise ValidationError(f"fee_asset must be a symbol, got {fee_asset!r}.", field="fee_asset")
                fee_asset_id = (await self.markets.asset(fee_asset)).id
            return prepare(fields, market, fee_asset_id)
        except UsageError as error:
            metrics.trades_refused.labels(error.code).inc()
            raise

    async def _record_for_others(self, prepared: Sequence[PreparedTrade]) -> None:
        """Staff that records trades of others is written down, before they are: one row a call, or a batch of it."""
        owners = {each.trade.user_id: None for each in prepared if each.trade.user_id != self._actor.user_id}
        if not owners:
            return
        if len(prepared) == 1:
            detail: dict[str, Any] = {"trade": str(prepared[0].trade.id)}
            await record_look(self._db, self._actor, CREATED_FOR, prepared[0].trade.user_id, detail)
            return
        named = [str(owner) for owner in itertools.islice(owners, OWNERS_NAMED_MAX)]
        detail = {"trades": len(prepared), "users": named, "more_users": len(owners) - len(named)}
        await record_look(self._db, self._actor, CREATED_FOR, detail=detail)

    async def _write_bulk(
        self, writer: TradeWriter, waiting: list[tuple[int, PreparedTrade]], outcomes: list[Any]
    ) -> None:
        if waiting:
            if not self._actor.trusted:
                await self._record_for_others([prepared for _, prepared in waiting])
            written: Sequence[Any] = await writer.write([prepared for _, prepared in waiting])
            for (index, _), outcome in zip(waiting, written, strict=True):
                outcomes[index] = outcome
            waiting.clear()


def _bound(moment: datetime | str) -> UUID:
    """The lowest id at or after a moment. Ids carry whole milliseconds."""
    return UUID(int=milliseconds_of(parse_moment(moment)) << 80)
