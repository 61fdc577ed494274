"""What can be done with orders. NovaDex does not match: the venue does, and reports."""

from __future__ import annotations

import copy
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from novadex import metrics
from novadex.audit.acts import record_look
from novadex.errors import (
    ConflictError,
    NotFoundError,
    NovaDexError,
    PermissionDeniedError,
    UsageError,
    ValidationError,
)
from novadex.ids import parse_id
from novadex.roles.actor import SERVICE, Actor
from novadex.storage.group_commit import GroupCommitter
from novadex.trading.markets import Markets, check_limit
from novadex.trading.orders.commands import ChangeOrder, Command, Fill, FillWhole, Undo
from novadex.trading.orders.machine import no_match, no_order
from novadex.trading.orders.prepare import (
    FILL_FIELDS,
    ORDER_FIELDS,
    FillInput,
    OrderInput,
    checked_block,
    checked_price,
    checked_quantity,
    checked_reason,
    prepare_fill,
    prepare_order,
)
from novadex.trading.orders.records import Match, Order, OrderEvent
from novadex.trading.orders.writing import QUERIES, Done, OrderWriter
from novadex.trading.prepare import check_text, market_symbol
from novadex.trading.records import Market, Page

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping
    from decimal import Decimal

    from novadex.storage.connection import DatabaseConnection
    from novadex.storage.queries import Query

BULK_BATCH_COMMANDS = 500
"""Commands of a bulk call in one transaction: others wait for its markets meanwhile."""
LIST_LIMIT = 100
LAST_ID = UUID(int=(1 << 128) - 1)
FIRST_ID = UUID(int=0)


class Orders:
    """Orders of an instance; ``TradingService`` has these methods under longer names."""

    def __init__(self, db: DatabaseConnection, markets: Markets, *, actor: Actor = SERVICE) -> None:
        self._db = db
        self._actor = actor
        self._markets = markets
        self._prices_seen: dict[str, str] = {}
        """``xid``: up to which transaction trades were looked at for stops; shared by all who act for somebody."""
        settings = db.settings
        self._committer: GroupCommitter[Command, Done] = GroupCommitter(
            lambda: OrderWriter(db.main),
            batch_max=settings.group_commit_batch_max,
            queue_max=settings.group_commit_queue_max,
            wait_s_max=settings.group_commit_wait_s_max,
        )
        metrics.order_commands_waiting.set_function(self._committer.waiting)

    def on_behalf_of(self, actor: Actor) -> Orders:
        """These orders on behalf of somebody."""
        orders = copy.copy(self)
        orders._actor = actor  # noqa: SLF001 - of the same class
        return orders

    # What users do

    async def place(self, fields: Mapping[str, Any]) -> Order:
        return await self._order(await self._prepare_order(fields))

    async def place_many(self, orders: Iterable[OrderInput]) -> list[Order | NovaDexError]:
        self._whose("orders.place_own", "orders.place_any")
        return await self._bulk(self._prepare_order, orders)

    async def amend(
        self,
        id: UUID | str | None,
        *,
        quantity: Decimal | str | int | None,
        price: Decimal | str | int | None,
        reason: str | None,
        user_id: UUID | str | None,
        client_order_id: str | None,
    ) -> Order:
        owner = self._whose("orders.place_own", "orders.place_any")
        order_id = await self._named(id, owner, user_id, client_order_id)
        if quantity is None and price is None:
            raise ValidationError("Neither quantity nor price is given.", field="quantity", hint="Give one of both.")
        command = self._change(order_id, "amended", reason, owner, by_user=True)
        if price is not None:
            command.price = checked_price(price, "price")[0]
        if quantity is not None:
            found = await self._db.main.made(Order, QUERIES.orders_by_ids, [[order_id]], read_only=True)
            if not found or owner not in {None, found[0].user_id}:
                raise no_order(order_id)
            command.quantity = checked_quantity(quantity, await self.market(found[0].market))[0]
        return await self._order(command)

    async def cancel(
        self,
        id: UUID | str | None,
        *,
        reason: str | None,
        user_id: UUID | str | None,
        client_order_id: str | None,
    ) -> Order:
        owner = self._whose("orders.place_own", "orders.cancel_any")
        order_id = await self._named(id, owner, user_id, client_order_id)
        return await self._order(self._change(order_id, "cancelled", reason, owner, by_user=owner is not None))

    async def cancel_all(self, *, user_id: UUID | str | None, market: str | None, reason: str | None) -> int:
        owner = self._whose("orders.place_own", "orders.cancel_any")
        whose = parse_id(user_id, "user_id") if user_id is not None else owner
        if owner is not None:
            self._actor.require_for(whose or owner, "orders.place_own", "orders.cancel_any")
        market_id = (await self.market(market)).id if market is not None else None

        # Up to the last one of now: else this had no end while orders keep coming.
        last = await self._db.main.value(QUERIES.last_live_id, [whose, market_id])
        if last is None:
            return 0

        async def some(after: UUID) -> list[UUID]:
            rows = await self._db.main.query(QUERIES.live_ids, [after, whose, market_id, BULK_BATCH_COMMANDS, last])
            return [row.id for row in rows]

        halted: list[UsageError] = []
        cancelled = await self._change_all(
            some, lambda id: self._change(id, "cancelled", reason, owner, by_user=owner is not None), halted
        )
        if halted:
            markets = sorted({error.details["market"] for error in halted})
            raise ConflictError(
                f"{', '.join(markets)}: halted, so orders live on: {len(halted)}; cancelled elsewhere: {cancelled}.",
                hint="Try again when the market is open.",
                markets=markets,
                cancelled=cancelled,
                left=len(halted),
            )
        return cancelled

    # What the venue reports

    async def reject(self, id: UUID | str, *, reason: str) -> Order:
        return await self._report(id, "rejected", checked_reason(reason, needed=True))

    async def trigger(self, id: UUID | str, *, reason: str | None) -> Order:
        return await self._report(id, "triggered", reason)

    async def expire(self, id: UUID | str, *, reason: str) -> Order:
        return await self._report(id, "expired", reason)

    async def record_fill(self, fields: Mapping[str, Any]) -> Match:
        self._actor.require("orders.report")
        return cast("Match", await self._committer.submit(await self._prepare_fill(fields)))

    async def record_fills(self, fills: Iterable[FillInput]) -> list[Match | NovaDexError]:
        self._actor.require("orders.report")
        outcomes: list[Any] = []
        prepared: dict[int, Fill] = {}
        for index, fields in enumerate(fills):
            outcomes.append(None)
            try:
                prepared[index] = await self._prepare_fill(fields)
            except UsageError as error:
                outcomes[index] = error
        commands = await self._together(prepared)
        async with _writer(self._db) as writer:
            for start in range(0, len(commands), BULK_BATCH_COMMANDS):
                await _write_waiting(writer, commands[start : start + BULK_BATCH_COMMANDS], outcomes)
        return outcomes

    async def _together(self, fills: dict[int, Fill]) -> list[tuple[list[int], Command]]:
        """The fills as commands: those of one fok order are one."""
        count = Counter(fill.taker_order_id for fill in fills.values())
        several = [id for id, times in count.items() if times > 1]
        rows = await self._db.main.query(QUERIES.fok_orders, [several]) if several else []
        fok: dict[UUID, tuple[list[int], FillWhole]] = {row.id: ([], FillWhole([])) for row in rows}
        commands: list[tuple[list[int], Command]] = []
        for index, fill in fills.items():
            whole = fok.get(fill.taker_order_id)
            if whole is None:
                commands.append(([index], fill))
                continue
            indexes, command = whole
            if not indexes:
                commands.append(whole)
            indexes.append(index)
            command.fills.append(fill)
        return commands

    async def bust(self, match_id: UUID | str, *, reason: str) -> Match:
        self._actor.require("orders.report")
        id = parse_id(match_id, "match_id")
        undo = Undo(id, "busted", checked_reason(reason, needed=True), self._actor.name)
        return cast("Match", await self._committer.submit(undo))

    async def revert_block(self, chain: str, block_number: int, *, reason: str) -> int:
        self._actor.require("orders.report")
        checked_block(chain, block_number)
        why = checked_reason(reason, needed=True)
        undone = 0
        async with _writer(self._db) as writer:
            while True:
                rows = await self._db.main.query(
                    QUERIES.standing_in_block, [chain, block_number, BULK_BATCH_COMMANDS]
                )
                if not rows:
                    return undone
                for outcome in await writer.write([Undo(row.id, "reverted", why, self._actor.name) for row in rows]):
                    if isinstance(outcome, Exception):
                        raise outcome
                    undone += 1

    async def expire_due(self, now: datetime | None) -> int:
        """Expire what is due; the worker's job."""
        self._actor.require("orders.report")
        moment = now or datetime.now(UTC)

        async def some(_: UUID) -> list[UUID]:
            rows = await self._db.main.query(QUERIES.expired_ids, [moment, BULK_BATCH_COMMANDS])
            return [row.id for row in rows]

        return await self._change_all(some, lambda id: self._change(id, "expired", "its time is over", None))

    async def trigger_stops(self) -> int:
        """Trigger the stops that trades since they were placed reach; the worker's job."""
        self._actor.require("orders.report")
        horizon = await self._db.main.value(QUERIES.log_horizon, read_only=True)
        seen = self._prices_seen
        query, parameters = (QUERIES.new_prices, [seen["xid"]]) if seen else (QUERIES.prices_since_placed, [])
        triggered = 0
        for row in await self._db.main.query(query, parameters, read_only=True):
            reached = [row.market_id, row.lowest, row.highest, row.since, BULK_BATCH_COMMANDS]
            triggered += await self._trigger(QUERIES.reached_stops, reached, "a trade reached it")
        # Only now: what failed is looked at again.
        seen["xid"] = horizon
        return triggered

    async def set_mark_price(self, market: str, price: Decimal | str | int) -> int:
        self._actor.require("orders.report")
        mark, text = checked_price(price, "price")
        at = [(await self.market(market)).id, mark, BULK_BATCH_COMMANDS]
        return await self._trigger(QUERIES.stops_at, at, f"the mark price {text} reached it")

    async def _trigger(self, query: Query, parameters: list[Any], reason: str) -> int:
        async def some(_: UUID) -> list[UUID]:
            return [row.id for row in await self._db.main.query(query, parameters)]

        return await self._change_all(some, lambda id: self._change(id, "triggered", reason, None))

    # Looking

    async def get(self, id: UUID | str) -> Order:
        owner = self._whose("orders.read_own", "orders.read_any")
        wanted = parse_id(id, "id")
        found = await self._db.main.made(Order, QUERIES.orders_by_ids, [[wanted]], read_only=True)
        if not found or owner not in {None, found[0].user_id}:
            raise no_order(wanted, field="id")
        await record_look(self._db, self._actor, "orders.read", found[0].user_id)
        return found[0]

    async def list(
        self,
        *,
        user_id: UUID | str | None,
        market: str | None,
        live: bool | None,
        limit: int,
        cursor: str | None,
    ) -> Page[Order]:
        whose = parse_id(user_id, "user_id") if user_id is not None else None
        if (own := self._whose("orders.read_own", "orders.read_any")) is not None:
            self._actor.require_for(whose or own, "orders.read_own", "orders.read_any")
            whose = own
        limit = check_limit(limit)
        below = parse_id(cursor, "cursor") if cursor is not None else LAST_ID
        market_id = (await self.market(market)).id if market is not None else None
        parameters: list[Any] = [below, limit + 1]
        if whose is not None:
            query = QUERIES.live_orders_of_user if live else QUERIES.orders_of_user
            parameters += [market_id, whose]
        elif live:
            query = QUERIES.orders_live
            parameters.append(market_id)
        elif market_id is not None:
            query = QUERIES.orders_of_market
            parameters.append(market_id)
        else:
            query = QUERIES.orders_newest
        await record_look(self._db, self._actor, "orders.listed", whose, {"market": market} if market else {})
        orders = await self._db.main.made(Order, query, parameters, read_only=True)
        return Page(orders[:limit], str(orders[limit - 1].id) if len(orders) > limit else None)

    async def events(self, order_id: UUID | str, *, limit: int, cursor: str | None) -> Page[OrderEvent]:
        owner = self._whose("orders.read_own", "orders.read_any")
        wanted = parse_id(order_id, "order_id")
        limit = check_limit(limit)
        after = _version(cursor)
        whose = await self._db.main.value(QUERIES.owner_of_order, [wanted], read_only=True)
        if whose is None or owner not in {None, whose}:
            raise no_order(wanted)
        await record_look(self._db, self._actor, "orders.read", whose)
        events = await self._db.main.made(
            OrderEvent, QUERIES.events_of_order, [wanted, after, limit + 1], read_only=True
        )
        return Page(events[:limit], str(events[limit - 1].version) if len(events) > limit else None)

    async def match(self, id: UUID | str) -> Match:
        self._actor.require("orders.read_any")
        wanted = parse_id(id, "match_id")
        found = await self._db.main.made(
            lambda *columns: Match(*columns[:-2]), QUERIES.matches_by_ids, [[wanted]], read_only=True
        )
        if not found:
            raise no_match(wanted)
        await record_look(self._db, self._actor, "orders.read")
        return found[0]

    async def close(self) -> None:
        """Write what waits, and end."""
        await self._committer.close()

    # Inside

    async def market(self, symbol: str) -> Market:
        return self._markets.remembered(symbol) or await self._markets.get(symbol)

    def _whose(self, own: str, any_: str) -> UUID | None:
        """Whose orders only the actor may touch; None: anybody's."""
        actor = self._actor
        if actor.may(any_):
            return None
        actor.require(own)
        if actor.user_id is None:
            raise PermissionDeniedError(f"{actor.name} has no orders of its own.", permission=any_)
        return actor.user_id

    async def _prepare_order(self, fields: Mapping[str, Any]) -> Command:
        own = self._whose("orders.place_own", "orders.place_any")
        if own is not None:
            fields = {"user_id": own, **fields}
        command = prepare_order(
            fields, await self.market(market_symbol(fields, ORDER_FIELDS, "An order")), self._actor.name
        )
        if own is not None:
            self._actor.require_for(command.order.user_id, "orders.place_own", "orders.place_any")
        return command

    async def _prepare_fill(self, fields: Mapping[str, Any]) -> Fill:
        market = await self.market(market_symbol(fields, FILL_FIELDS, "A fill"))
        return prepare_fill(fields, market, self._actor.name)

    def _change(
        self, id: UUID, change: Any, reason: str | None, owner: UUID | None, *, by_user: bool = False
    ) -> ChangeOrder:
        return ChangeOrder(id, change, self._actor.name, checked_reason(reason), owner, by_user)

    async def _report(self, id: UUID | str, change: Any, reason: str | None) -> Order:
        self._actor.require("orders.report")
        return await self._order(self._change(parse_id(id, "id"), change, reason, None))

    async def _order(self, command: Command) -> Order:
        return cast("Order", await self._committer.submit(command))

    async def _named(
        self, id: UUID | str | None, owner: UUID | None, user_id: UUID | str | None, client_order_id: str | None
    ) -> UUID:
        """The order that a caller names, by its id or by its client's own name."""
        if id is not None:
            return parse_id(id, "id")
        if client_order_id is None:
            raise ValidationError("id is missing.", field="id", hint="Give id, or client_order_id.")
        check_text(client_order_id, "client_order_id", 64)
        whose = parse_id(user_id, "user_id") if user_id is not None else owner
        if whose is None:
            raise ValidationError("user_id is missing: whose client_order_id is it?", field="user_id")
        if owner is not None and whose != owner:
            raise no_order(client_order_id, field="client_order_id")
        found = await self._db.main.value(QUERIES.order_by_client_id, [whose, client_order_id], read_only=True)
        if found is None:
            raise NotFoundError(
                f"There is no order {client_order_id!r} of the user {whose}.", field="client_order_id"
            )
        return found

    async def _bulk(
        self, prepare: Callable[[Mapping[str, Any]], Awaitable[Command]], inputs: Iterable[Any]
    ) -> list[Any]:
        """Many commands; one outcome for each, in order."""
        outcomes: list[Any] = []
        waiting: list[tuple[list[int], Command]] = []
        async with _writer(self._db) as writer:
            for index, fields in enumerate(inputs):
                outcomes.append(None)
                try:
                    waiting.append(([index], await prepare(fields)))
                except UsageError as error:
                    outcomes[index] = error
                if len(waiting) >= BULK_BATCH_COMMANDS:
                    await _write_waiting(writer, waiting, outcomes)
                    waiting = []
            await _write_waiting(writer, waiting, outcomes)
        return outcomes

    async def _change_all(
        self,
        some: Callable[[UUID], Awaitable[list[UUID]]],
        command: Callable[[UUID], ChangeOrder],
        halted: list[UsageError] | None = None,
    ) -> int:
        """Change orders batch by batch until there are none; those that others ended meanwhile do not count. What a
        halted market refuses is put into ``halted``."""
        changed, after = 0, FIRST_ID
        before: list[UUID] = []
        async with _writer(self._db) as writer:
            # The same again: they cannot be changed, and the next run may know more.
            while (ids := await some(after)) and ids != before:
                before = ids
                commands = [command(id) for id in ids]
                events = {item.order_id: item for item in commands}
                for outcome in await writer.write(commands):
                    if isinstance(outcome, Order):
                        # What had happened already, or happens meanwhile by others, is not counted.
                        changed += events[outcome.id].happened
                    elif isinstance(outcome, UsageError):
                        if halted is not None and outcome.details.get("status") == "halted":
                            halted.append(outcome)
                    else:
                        raise outcome if isinstance(outcome, Exception) else AssertionError("unreachable")
                after = ids[-1]
        return changed


class _writer:  # noqa: N801 - a context manager that reads like a function
    """A writer of one call's own."""

    def __init__(self, db: DatabaseConnection) -> None:
        self._writer = OrderWriter(db.main)

    async def __aenter__(self) -> OrderWriter:
        return self._writer

    async def __aexit__(self, *_: object) -> None:
        await self._writer.close()


async def _write_waiting(writer: OrderWriter, waiting: list[tuple[list[int], Command]], outcomes: list[Any]) -> None:
    """Write commands and put what came of each where its inputs stood."""
    if waiting:
        written = await writer.write([command for _, command in waiting])
        for (indexes, _), outcome in zip(waiting, written, strict=True):
            each = outcome if isinstance(outcome, list) else [outcome] * len(indexes)
            for index, one in zip(indexes, each, strict=True):
                outcomes[index] = one


def _version(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not cursor.isascii() or not cursor.isdigit() or len(cursor) > 18:
        raise ValidationError(f"cursor is not one of this list: {cursor[:40]!r}.", field="cursor")
    return int(cursor)
