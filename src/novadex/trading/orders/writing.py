"""Writing a batch of commands to orders: all of them in one transaction, each with its own outcome.

A batch of nothing but new orders is a COPY; triggers do the rest. All else holds the markets of the batch,
loads what it names, lets the state machine decide, and writes what came of it set by set.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psycopg import errors

from novadex import metrics
from novadex.errors import NovaDexError, ValidationError
from novadex.ids import time_of
from novadex.money import EXACT, plain
from novadex.roles.actor import Actor, act_as
from novadex.storage.queries import load_queries
from novadex.trading.careful import FastThenCareful, is_missing_partition, unwritten
from novadex.trading.lines import NULL, escaped
from novadex.trading.markets import QUERIES as TRADE_QUERIES
from novadex.trading.orders.commands import ChangeOrder, Command, Fill, FillWhole, Place, Undo
from novadex.trading.orders.machine import Known, Machine, MarketState, Reducing, Standing
from novadex.trading.orders.records import Match, Order

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from decimal import Decimal
    from uuid import UUID

    import psycopg

    from novadex.storage.database import Database
    from novadex.storage.queries import Query
    from novadex.storage.session import Session
    from novadex.trading.orders.machine import Event

QUERIES = load_queries(Path(__file__).with_name("queries.sql"))
Done = Order | Match | list[Match]
Outcome = Done | Exception
BYTEA = r"\\x"
"""How COPY's text format begins a bytea."""


class OrderWriter(FastThenCareful[Command, Done]):
    """Writes batches of commands on a connection of its own."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._again = False
        """Whether the batch was tried before, so that some of it may be written."""

    async def write(self, batch: Sequence[Command]) -> Sequence[Outcome]:
        """One outcome for each command: the order or the match as it then stands, or the command's error."""
        metrics.order_batch_commands.observe(len(batch))
        self._again = False
        items = list(batch)
        now = datetime.now(UTC)
        fast = all(isinstance(item, Place) and _is_simple(item.order, now) for item in items)
        outcomes = await self._carry_out(items, fast=fast)
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                metrics.order_commands_refused.labels(getattr(outcome, "code", "UNKNOWN")).inc()
        return outcomes

    def _unwritten(self, error: Exception, item: Command) -> Exception:
        match item:
            case Place():
                details: dict[str, Any] = {"order_id": item.order.id}
            case ChangeOrder():
                details = {"order_id": item.order_id}
            case Fill():
                details = {"match_id": item.id}
            case FillWhole():
                details = {"order_id": item.fills[0].taker_order_id}
            case Undo():
                details = {"match_id": item.match_id}
        return unwritten(error, self._database.name, **details)

    async def _fast(self, batch: list[Command]) -> list[Outcome]:
        session = await self._session()
        self._again = True
        placed = [item for item in batch if isinstance(item, Place)]
        if any(item.id_given or item.order.client_order_id is not None for item in placed):
            # Another process may be placing the same orders: all writers hold markets first, then take keys.
            async with session.transaction():
                await session.query(QUERIES.hold_markets, [[], [], list({item.market.id for item in placed})])
                await _copy_orders(session, placed)
        else:
            await _copy_orders(session, placed)
        metrics.orders_placed.inc(len(placed))
        return [item.order for item in placed]

    async def _careful(self, batch: list[Command]) -> list[Outcome]:
        session = await self._session()
        again, self._again = self._again, True
        try:
            return await self._transaction(session, batch, again=again)
        except (errors.IntegrityError, errors.DataError) as error:
            if is_missing_partition(error):
                made, failed = await _make_partitions(session, batch)
                if failed:
                    rest = [item for index, item in enumerate(batch) if index not in failed]
                    outcomes = iter(await self._careful(rest) if rest else [])
                    return [
                        self._unwritten(failed[index], item) if index in failed else next(outcomes)
                        for index, item in enumerate(batch)
                    ]
                if made:
                    return await self._careful(batch)
            if len(batch) == 1:
                return [_refusal(error)]
            middle = len(batch) // 2
            return await self._careful(batch[:middle]) + await self._careful(batch[middle:])

    async def _transaction(self, session: Session, batch: list[Command], *, again: bool) -> list[Outcome]:
        undoing: list[Command] = [item for item in batch if isinstance(item, Undo)]
        if undoing and len(undoing) < len(batch):
            # What undoes comes in a later transaction than what it undoes: the log of trades is ordered by them.
            parts: tuple[list[Command], ...] = ([item for item in batch if not isinstance(item, Undo)], undoing)
            done = [iter(await self._transaction(session, part, again=again)) for part in parts]
            return [next(done[isinstance(item, Undo)]) for item in batch]
        settled = await _settled(session, batch)
        async with session.transaction():
            machine = await _load(session, batch, settled)
            written = await _written_before(session, batch) if again else frozenset()
            outcomes = [_carry_out(machine, item, written) for item in batch]
            await _write(session, machine)
        metrics.orders_placed.inc(len(machine.writes.placed))
        metrics.order_fills_recorded.inc(len(machine.writes.filled))
        metrics.order_matches_undone.inc(len(machine.writes.undone))
        return outcomes


def _is_simple(order: Order, now: datetime) -> bool:
    """Whether nothing but the database's own rules decides whether it is placed."""
    return not order.reduce_only and (order.expires_at is None or order.expires_at > now)


def _carry_out(machine: Machine, item: Command, written: frozenset[UUID]) -> Outcome:
    try:
        match item:
            case Place():
                return machine.place(item)
            case ChangeOrder():
                if item.event_id in written:
                    return machine.orders[item.order_id].order
                return machine.change(item)
            case Fill():
                return machine.fill(item)
            case FillWhole():
                return machine.fill_whole(item)
            case Undo():
                return machine.undo(item)
    except NovaDexError as error:
        return error


def _fills(batch: list[Command]) -> list[Fill]:
    fills: list[Fill] = []
    for item in batch:
        match item:
            case Fill():
                fills.append(item)
            case FillWhole():
                fills += item.fills
            case _:
                pass
    return fills


# Loading


@dataclass(slots=True)
class _Settled:
    """Holdings as of some transaction: summed up before the markets are held, for the sum may take its time."""

    horizon: str = ""
    holdings: dict[tuple[UUID, int], Decimal] = field(default_factory=dict)


async def _settled(session: Session, batch: list[Command]) -> _Settled:
    """The holdings that reduce-only orders of the batch are measured by."""
    pairs = {
        (item.order.user_id, item.market.id) for item in batch if isinstance(item, Place) and item.order.reduce_only
    }
    raised = [item.order_id for item in batch if isinstance(item, ChangeOrder) and item.quantity is not None]
    return await _sum_up(session, pairs, raised)


async def _sum_up(session: Session, pairs: set[tuple[UUID, int]], orders: list[UUID]) -> _Settled:
    if not pairs and not orders:
        return _Settled()
    rows = await session.query(QUERIES.settled_holdings, [*_columns(pairs), orders])
    if not rows:
        return _Settled()
    settled = _Settled(rows[0].horizon, {(row.user_id, row.market_id): row.holding for row in rows})
    without_portfolio = [pair for pair, holding in settled.holdings.items() if holding is None]
    if without_portfolio:
        rows = await session.query(QUERIES.summed_holdings, [*_columns(without_portfolio), settled.horizon])
        settled.holdings |= {(row.user_id, row.market_id): row.holding for row in rows}
    return settled


def _columns(pairs: Iterable[tuple[UUID, int]]) -> tuple[list[UUID], list[int]]:
    pairs = list(pairs)
    return [user for user, _ in pairs], [market for _, market in pairs]


async def _load(session: Session, batch: list[Command], settled: _Settled) -> Machine:
    """Everything that the commands name, as it stands once the markets are held."""
    machine = Machine(datetime.now(UTC))
    placed = [item for item in batch if isinstance(item, Place)]
    changes = [item for item in batch if isinstance(item, ChangeOrder)]
    fills = _fills(batch)
    undone = [item.match_id for item in batch if isinstance(item, Undo)]
    named = {item.order_id for item in changes}
    for fill in fills:
        named.add(fill.taker_order_id)
        if fill.maker_order_id is not None:
            named.add(fill.maker_order_id)
    markets = {item.market.id for item in placed} | {item.market.id for item in fills}
    # Orders of fills are of the fill's market, else they are refused.
    unplaced = [item.order_id for item in changes]
    held = await session.query(QUERIES.hold_markets, [unplaced, undone, sorted(markets)])
    sequences = {row.market_id: row.sequence for row in held}
    for row in await session.query(QUERIES.market_states, [list(sequences)]):
        machine.markets[row.id] = MarketState(
            row.id,
            row.symbol,
            sequences[row.id],
            row.status,
            row.tick_size,
            row.lot_size,
            row.base_asset_id,
            row.quote_asset_id,
        )
    if fills or undone:
        await _load_matches(session, machine, fills, undone)
        for match, _ in machine.matches.values():
            named.add(match.taker_order_id)
            if match.maker_order_id is not None:
                named.add(match.maker_order_id)
    if placed:
        await _load_placed(session, machine, placed)
    await _load_orders(session, machine, named)
    if fills:
        await _load_rates(session, machine, fills, placed)
        await _load_loosest(session, machine, fills)
    await _load_reducing(session, machine, settled, placed, changes)
    return machine


async def _load_orders(session: Session, machine: Machine, ids: Iterable[UUID]) -> None:
    wanted = [id for id in ids if id not in machine.orders]
    if not wanted:
        return
    for standing in await session.made(_standing, QUERIES.standing_orders, [wanted]):
        machine.orders[standing.order.id] = standing


def _standing(*columns: Any) -> Standing:
    return Standing(Order(*columns[:-1]), columns[-1])


async def _load_placed(session: Session, machine: Machine, placed: list[Place]) -> None:
    named = [item.order for item in placed if item.order.client_order_id is not None]
    known = await session.made(
        lambda *columns: Known(Order(*columns[:-2]), columns[-2], columns[-1]),
        QUERIES.known_orders,
        [
            [item.order.id for item in placed],
            [order.user_id for order in named],
            [order.client_order_id for order in named],
        ],
    )
    for entry in known:
        machine.known[entry.order.id] = entry
        if entry.order.client_order_id is not None:
            machine.by_client[entry.order.user_id, entry.order.client_order_id] = entry.order.id
    users = list({item.order.user_id for item in placed})
    machine.placers = {row.id: row.status for row in await session.query(QUERIES.placers, [users])}


async def _load_matches(session: Session, machine: Machine, fills: list[Fill], undone: list[UUID]) -> None:
    ids = {item.id for item in fills} | set(undone)
    sourced = [item for item in fills if item.source is not None]
    if sourced:
        found = await session.query(
            QUERIES.matches_by_source,
            [
                [item.market.id for item in sourced],
                [item.source for item in sourced],
                [item.source_match_id for item in sourced],
            ],
        )
        ids.update(row.id for row in found)
    rows = await session.made(
        lambda *columns: (Match(*columns[:-2]), columns[-2], bytes(columns[-1])), QUERIES.matches_by_ids, [list(ids)]
    )
    for match, market_id, request_hash in rows:
        machine.matches[match.id] = (match, request_hash)
        if match.source is not None and match.source_match_id is not None and match.undone != "reverted":
            machine.by_source[market_id, match.source, match.source_match_id] = match.id


async def _load_rates(session: Session, machine: Machine, fills: list[Fill], placed: list[Place]) -> None:
    owners = {item.order.id: item.order.user_id for item in placed}
    owners |= {id: standing.order.user_id for id, standing in machine.orders.items()}
    wanted: set[tuple[UUID, int]] = set()
    for fill in fills:
        for fee, order_id in ((fill.taker_fee, fill.taker_order_id), (fill.maker_fee, fill.maker_order_id)):
            owner = owners.get(order_id) if order_id is not None else None
            if fee is None and owner is not None:
                wanted.add((owner, fill.market.id))
    if not wanted:
        return
    users, markets = zip(*wanted, strict=True)
    for row in await session.query(QUERIES.rates, [list(users), list(markets)]):
        machine.rates[row.user_id, row.market_id] = (row.maker_rate, row.taker_rate)


async def _load_loosest(session: Session, machine: Machine, fills: list[Fill]) -> None:
    """Former limits of the orders whose present one a fill does not keep."""
    wanted: set[UUID] = set()
    for fill in fills:
        for id in (fill.taker_order_id, fill.maker_order_id):
            standing = machine.orders.get(id) if id is not None else None
            if standing is None or standing.order.price is None or standing.order.version == 1:
                continue
            limit, buys = standing.order.price, standing.order.side == "buy"
            if (fill.price > limit) if buys else (fill.price < limit):
                wanted.add(standing.order.id)
    if wanted:
        rows = await session.query(QUERIES.loosest_prices, [list(wanted)])
        machine.loosest = {row.id: row.price for row in rows}


async def _load_reducing(
    session: Session, machine: Machine, settled: _Settled, placed: list[Place], changes: list[ChangeOrder]
) -> None:
    pairs = {(item.order.user_id, item.market.id) for item in placed if item.order.reduce_only}
    for change in changes:
        standing = machine.orders.get(change.order_id)
        if change.quantity is not None and standing is not None and standing.order.reduce_only:
            pairs.add((standing.order.user_id, standing.market_id))
    if not pairs:
        return
    if pairs - settled.holdings.keys():
        # An order that was committed meanwhile.
        settled = await _sum_up(session, pairs, [])
    users, markets = _columns(pairs)
    for user, market in pairs:
        machine.reducing[user, market] = Reducing(settled.holdings[user, market])
    for row in await session.query(QUERIES.newer_holdings, [users, markets, settled.horizon]):
        reducing = machine.reducing[row.user_id, row.market_id]
        reducing.holding = EXACT.add(reducing.holding, row.amount)
    ids = [row.id for row in await session.query(QUERIES.reducing_orders, [users, markets])]
    await _load_orders(session, machine, ids)
    for id in ids:
        standing = machine.orders[id]
        machine.reducing[standing.order.user_id, standing.market_id].orders.add(id)


async def _written_before(session: Session, batch: list[Command]) -> frozenset[UUID]:
    ids = [item.event_id for item in batch if isinstance(item, ChangeOrder)]
    return frozenset(row.id for row in await session.query(QUERIES.written_events, [ids])) if ids else frozenset()


# Writing


async def _write(session: Session, machine: Machine) -> None:
    writes = machine.writes
    placed_in: dict[int, int] = defaultdict(int)
    if writes.placed:
        await _copy_orders(session, writes.placed)
        for item in writes.placed:
            placed_in[item.market.id] += 1
    if writes.trades:
        async with session.copy_in(TRADE_QUERIES.copy_trades) as copy:
            await copy.write("".join(writes.trades))
    if writes.filled:
        async with session.copy_in(QUERIES.copy_matches) as copy:
            await copy.write("".join([_match_line(fill) for fill in writes.filled]))
    if writes.reversals:
        trades, reversals = zip(*writes.reversals, strict=True)
        await session.execute(QUERIES.reverse_trades, [list(trades), list(reversals)])
    await _write_undone(session, writes.undone, machine.now)
    if writes.events:
        async with session.copy_in(QUERIES.copy_events) as copy:
            await copy.write("".join(_event_lines(machine, placed_in)))


async def _copy_orders(session: Session, placed: list[Place]) -> None:
    # All writers take keys in this order: of the client's own name, else of the id.
    ordered = sorted(
        placed, key=lambda item: (item.order.user_id.int, item.order.client_order_id or "", item.order.id.int)
    )
    async with session.copy_in(QUERIES.copy_orders) as copy:
        await copy.write("".join([item.line for item in ordered]))


def _event_lines(machine: Machine, placed_in: dict[int, int]) -> list[str]:
    """The events with their numbers: after those of the orders that were placed."""
    now = machine.now.isoformat()
    last = {id: state.sequence + placed_in.get(id, 0) for id, state in machine.markets.items()}
    lines: list[str] = []
    for event in machine.writes.events:
        last[event.market_id] += 1
        lines.append(_event_line(event, last[event.market_id], now))
    return lines


def _event_line(event: Event, sequence: int, now: str) -> str:
    price = NULL if event.price is None else plain(event.price)
    return (
        f"{event.id}\t{event.order_id}\t{event.version}\t{event.market_id}\t{sequence}\t{event.type}\t{event.status}"
        f"\t{plain(event.quantity)}\t{plain(event.filled_quantity)}\t{price}"
        f"\t{NULL if event.reason is None else escaped(event.reason)}\t{escaped(event.actor)}\t{now}"
        f"\t{event.trade_id or NULL}\n"
    )


def _match_line(fill: Fill) -> str:
    return (
        f"{fill.id}\t{fill.market.id}\t{fill.taker_trade_id}\t{fill.maker_trade_id or NULL}\t{fill.source or NULL}"
        f"\t{NULL if fill.source_match_id is None else escaped(fill.source_match_id)}\t{fill.chain or NULL}"
        f"\t{NULL if fill.block_number is None else fill.block_number}\t{BYTEA}{fill.request_hash.hex()}"
        f"\t{fill.executed_at.isoformat()}\n"
    )


async def _write_undone(session: Session, undone: list[Undo], now: datetime) -> None:
    by_actor: dict[str, list[Undo]] = defaultdict(list)
    for command in undone:
        by_actor[command.actor].append(command)
    for actor, commands in by_actor.items():
        await act_as(session, Actor(actor))
        await session.execute(
            QUERIES.undo_matches,
            [
                [command.match_id for command in commands],
                [command.undone for command in commands],
                [command.reason for command in commands],
                now,
                actor,
            ],
        )


async def _make_partitions(session: Session, batch: list[Command]) -> tuple[bool, dict[int, Exception]]:
    """Whether some were missing and are made, and which commands are of a month whose own cannot be made."""
    wanted: dict[tuple[str, int, int], tuple[Query, datetime, list[int]]] = {}
    for index, item in enumerate(batch):
        executed = [fill.executed_at for fill in _fills([item])]
        written = [*executed, time_of(item.order.id)] if isinstance(item, Place) else executed
        for query, moments in (
            (TRADE_QUERIES.ensure_trade_partitions, executed),
            (QUERIES.ensure_event_partitions, written),
        ):
            for moment in moments:
                wanted.setdefault((query.name, moment.year, moment.month), (query, moment, []))[-1].append(index)
    made = 0
    failed: dict[int, Exception] = {}
    for query, moment, indexes in wanted.values():
        try:
            made += await session.value(query, [moment, moment])
        except errors.DataError as error:
            failed |= dict.fromkeys(indexes, _refusal(error))
        except errors.LockNotAvailable as error:
            failed |= dict.fromkeys(indexes, error)
    return made > 0, failed


def _refusal(error: psycopg.Error) -> Exception:
    """The database's own refusal of one command: the last guard, behind the machine."""
    return ValidationError(
        f"The database refused it: {error.diag.message_primary}.",
        field=error.diag.constraint_name or "order",
        sqlstate=error.sqlstate,
    )
