"""``LiquidityService``: positions in pools, event by event, and what they are worth."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg

from novadex.audit.acts import record_look
from novadex.errors import (
    ConflictError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    UnavailableError,
    ValidationError,
)
from novadex.ids import EPOCH, id_at, id_of_source, milliseconds_of, parse_id, time_of, uuid7
from novadex.liquidity.pools import Pools
from novadex.liquidity.records import (
    LiquidityEvent,
    LiquidityEventType,
    LiquidityPosition,
    LiquidityValue,
    Pool,
    PoolSnapshot,
)
from novadex.liquidity.uniswap_v3 import MAX_TICK, MIN_TICK, Q128, UINT256_BOUND
from novadex.liquidity.valuation import (
    PoolState,
    amount_of_atoms,
    amounts_in_pool,
    atoms_of,
    fees_of_growth,
    price_of,
    rounded_price,
)
from novadex.money import EXACT, decimals_of, parse_amount, trimmed
from novadex.roles.actor import SERVICE, Actor, act_as
from novadex.storage.connection import DatabaseConnection
from novadex.storage.queries import load_queries
from novadex.trading.markets import check_limit
from novadex.trading.prepare import check_source, parse_moment
from novadex.trading.records import Page

if TYPE_CHECKING:
    from novadex.storage.rows import Row

SQL = load_queries(Path(__file__).with_name("queries.sql"))
OWN, ANY = "liquidity.read_own", "liquidity.read_any"
ATTEMPTS_MAX = 20
"""How often the next version is asked for, where others write events of the same position."""
SOURCE_ID_LENGTH_MAX = 128
_LAST_ID = UUID(int=(1 << 128) - 1)
_LAST_MOMENT = datetime(9999, 12, 31, tzinfo=UTC)

Amount = Decimal | str | int


class LiquidityService:
    """Liquidity positions of an instance, as the chain or venue reports them.

    To record what they did needs ``liquidity.report``; to see them ``liquidity.read_own`` or ``liquidity.read_any``.
    Every event is recorded once by its ``id`` (UUIDv7), or by ``source`` and the id there: a retry gives what is
    there, the same with other values is a ``ConflictError``.
    """

    def __init__(self, db: DatabaseConnection | None = None, *, actor: Actor = SERVICE) -> None:
        self._db = db or DatabaseConnection.get_instance()
        self._actor = actor
        self.pools = Pools(self._db, actor=actor)

    def acting_as(self, actor: Actor) -> LiquidityService:
        """This service on behalf of somebody."""
        service = copy.copy(self)
        service._actor = actor  # noqa: SLF001 - of the same class
        service.pools = self.pools.acting_as(actor)
        return service

    # What positions do

    async def open(
        self,
        user_id: UUID | str,
        *,
        pool: str,
        liquidity: int,
        base_amount: Amount,
        quote_amount: Amount,
        tick_lower: int | None = None,
        tick_upper: int | None = None,
        executed_at: datetime | str | None = None,
        id: UUID | str | None = None,
        source: str | None = None,
        source_position_id: str | None = None,
    ) -> LiquidityPosition:
        """Open a position: so much of both assets goes into the pool for so much liquidity (below 2^256).

        Raises ``ValidationError`` (names the field) and ``NotFoundError`` (user, pool).
        """
        self._actor.require("liquidity.report")
        owner = parse_id(user_id, "user_id")
        where = await self.pools.get(pool)
        ticks = _ticks(where, tick_lower, tick_upper)
        amount = _liquidity(liquidity)
        base, quote = _amounts(where, base_amount, quote_amount, "amount")
        _check_source(source, source_position_id, "source_position_id")
        event_id, moment = _id_and_time(id, executed_at, source, where.address, source_position_id)
        wanted = (owner, where.address, *ticks, amount, base, quote)
        try:
            async with self._db.transaction() as session:
                await act_as(session, self._actor)
                row = [event_id, owner, where.id, *ticks, amount, base, quote, moment, source, source_position_id]
                await session.execute(SQL.open_position, row)
        except psycopg.IntegrityError as error:
            raise _refusal(error, owner) from error
        position = await self._position(event_id, source, source_position_id)
        first = await self._known_event(position.id, None, None)
        there = (position.user_id, position.pool, position.tick_lower, position.tick_upper)
        if (*there, int(first.liquidity), first.base_amount, first.quote_amount) != wanted or (
            executed_at is not None and first.executed_at != moment
        ):
            raise _conflict("position", position.id)
        return position

    async def increase(
        self, position_id: UUID | str, *, liquidity: int, base_amount: Amount, quote_amount: Amount, **event: Any
    ) -> LiquidityPosition:
        """Put more in. ``event``: ``executed_at``, ``sequence``, ``id``, ``source`` and ``source_event_id``."""
        return await self._change("increased", position_id, liquidity, base_amount, quote_amount, 0, 0, event)

    async def decrease(
        self,
        position_id: UUID | str,
        *,
        liquidity: int,
        base_amount: Amount,
        quote_amount: Amount,
        base_fees: Amount = 0,
        quote_fees: Amount = 0,
        **event: Any,
    ) -> LiquidityPosition:
        """Take so much liquidity out, for so much of both assets; fees that are collected with it are apart."""
        return await self._change(
            "decreased", position_id, liquidity, base_amount, quote_amount, base_fees, quote_fees, event
        )

    async def collect(
        self, position_id: UUID | str, *, base_fees: Amount = 0, quote_fees: Amount = 0, **event: Any
    ) -> LiquidityPosition:
        """Take fees out, and leave the liquidity."""
        return await self._change("collected", position_id, 0, 0, 0, base_fees, quote_fees, event)

    async def close_position(
        self,
        position_id: UUID | str,
        *,
        base_amount: Amount,
        quote_amount: Amount,
        base_fees: Amount = 0,
        quote_fees: Amount = 0,
        **event: Any,
    ) -> LiquidityPosition:
        """Take everything out, for so much of both assets. What is closed stays closed."""
        return await self._change("closed", position_id, 0, base_amount, quote_amount, base_fees, quote_fees, event)

    async def _change(  # noqa: PLR0917 - what an event has
        self,
        type: LiquidityEventType,
        position_id: UUID | str,
        liquidity: int,
        base_amount: Amount,
        quote_amount: Amount,
        base_fees: Amount,
        quote_fees: Amount,
        event: dict[str, Any],
    ) -> LiquidityPosition:
        self._actor.require("liquidity.report")
        unknown = event.keys() - {"executed_at", "sequence", "id", "source", "source_event_id"}
        if unknown:
            name = min(unknown)
            raise ValidationError(f"An event has no field {name}.", field=name)
        position = await self._position(parse_id(position_id, "position_id"))
        pool = await self.pools.get(position.pool)
        change = _liquidity(liquidity) if type in {"increased", "decreased"} else 0
        amounts = _amounts(pool, base_amount, quote_amount, "amount")
        fees = _amounts(pool, base_fees, quote_fees, "fees")
        source, source_id = event.get("source"), event.get("source_event_id")
        _check_source(source, source_id, "source_event_id")
        id, moment = _id_and_time(event.get("id"), event.get("executed_at"), source, str(position.id), source_id)
        row = [id, position.id, change, type, *amounts, *fees, moment, event.get("sequence"), source, source_id]
        await self._write_event(row, position.id)
        known = await self._known_event(id, source, source_id)
        there = (
            known.position_id,
            known.type,
            known.base_amount,
            known.quote_amount,
            known.base_fees,
            known.quote_fees,
        )
        same_change = type not in {"increased", "decreased"} or int(known.change) == change
        if (
            there != (position.id, type, *amounts, *fees)
            or not same_change
            or (event.get("executed_at") is not None and known.executed_at != moment)
        ):
            raise _conflict("event", known.id)
        return await self._position(position.id)

    async def _write_event(self, row: Sequence[Any], position_id: UUID) -> None:
        for _ in range(ATTEMPTS_MAX):
            try:
                async with self._db.transaction() as session:
                    await act_as(session, self._actor)
                    await session.execute(SQL.add_event, row)
                    return
            except psycopg.errors.UniqueViolation as error:
                if error.diag.constraint_name != "liquidity_events_once":
                    return  # it is there: the caller looks whether it is the same
            except psycopg.IntegrityError as error:
                # A retry of what closed the position comes here too.
                if await self._db.main.query(SQL.known_event, [row[0], row[10], row[11]], read_only=True):
                    return
                if (await self._position(position_id)).status == "closed":
                    raise ValidationError(
                        f"The position {position_id} is closed already.", field="id", hint="Open another one."
                    ) from error
                raise _refusal(error, position_id) from error
        raise OverloadedError(f"Others keep changing the position {position_id}.", hint="Try again with the same id.")

    # What they are

    async def get(self, id: UUID | str) -> LiquidityPosition:
        """A position by its id; ``NotFoundError`` where there is none, or it is not one that the actor may see."""
        own = self._own()
        wanted = parse_id(id, "id")
        position = await self._position(wanted)
        if own is not None and position.user_id != own:
            raise _no_position(wanted)
        await record_look(self._db, self._actor, "liquidity.read", position.user_id)
        return position

    async def list(
        self,
        user_id: UUID | str | None = None,
        *,
        status: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[LiquidityPosition]:
        """A page of a user's positions, newest first; ``status`` is open or closed."""
        owner = parse_id(user_id, "user_id") if user_id is not None else self._actor.user_id
        if owner is None:
            raise ValidationError("user_id is missing.", field="user_id", hint="Name whose positions they are.")
        self._actor.require_for(owner, OWN, ANY)
        if status not in {None, "open", "closed"}:
            raise ValidationError(f"status must be open or closed, got {str(status)[:40]!r}.", field="status")
        limit = check_limit(limit)
        before = parse_id(cursor, "cursor") if cursor is not None else _LAST_ID
        await record_look(self._db, self._actor, "liquidity.listed", owner)
        rows = await self._db.main.query(SQL.positions_of_user, [owner, before, status, limit + 1], read_only=True)
        found = [_position_of(row) for row in rows]
        return Page(found[:limit], str(found[limit - 1].id) if len(found) > limit else None)

    async def events(self, id: UUID | str, *, limit: int = 100, cursor: str | None = None) -> Page[LiquidityEvent]:
        """A page of a position's events, in order; ``cursor`` is the version of the last one of the page before."""
        position = await self.get(id)
        limit = check_limit(limit)
        if cursor is not None and not cursor.isdecimal():
            raise ValidationError(f"cursor is not a version: {cursor[:40]!r}.", field="cursor")
        rows = await self._db.main.query(
            SQL.events_of_position, [position.id, int(cursor or 0), limit + 1], read_only=True
        )
        found = [LiquidityEvent(**{**row, "liquidity": int(row.liquidity)}) for row in rows]
        return Page(found[:limit], str(found[limit - 1].version) if len(found) > limit else None)

    async def value(self, id: UUID | str, *, at: datetime | str | None = None) -> LiquidityValue:
        """What a position is worth at a moment (default: now), from the state of its pool before it.

        Raises ``UnavailableError`` where the pool has no snapshot from before it, and ``NotFoundError`` where the
        position was not there yet.
        """
        position = await self.get(id)
        pool = await self.pools.get(position.pool)
        moment = parse_moment(at) if at is not None else datetime.now(UTC)
        main = self._db.main
        was = await main.one(SQL.position_at, [position.id, moment], read_only=True)
        if was is None:
            raise NotFoundError(f"The position {position.id} was opened later.", hint="Ask for a later moment.")
        row = await main.one(SQL.pool_state, [pool.id, moment], read_only=True)
        state = state_of(row) if row else None
        price = price_of(pool, state) if state else None
        if row is None or state is None or price is None:
            raise UnavailableError(
                f"Nothing is known of the pool {pool.address} before {moment.isoformat()}.",
                hint="Import its snapshots: novadex import pool FILE --pool ADDRESS"
                if pool.kind == "concentrated"
                else "Record how it stands: novadex liquidity snapshot ADDRESS",
            )
        changes = await main.query(SQL.liquidity_changes, [position.id, moment], read_only=True)
        since = was.collected_at or position.opened_at
        moments = [change.executed_at for change in changes]
        span = [pool.id, since, moment, *(ticks_of(position) or (None, None)), moments, pool.fee_ppm * Q128]
        growth = await main.query(SQL.fee_growth, span, read_only=True)
        fees = fees_of_growth(changes, growth)
        return _valued(position, pool, state, rounded_price(price), was, fees)

    # What pools did

    async def record_snapshot(
        self,
        pool: str,
        *,
        liquidity: int,
        base_reserve: Amount,
        quote_reserve: Amount,
        base_paid_in: Amount = 0,
        quote_paid_in: Amount = 0,
        taken_at: datetime | str | None = None,
        source: str = "feed",
    ) -> PoolSnapshot:
        """Record how a constant product stands: all its shares, its reserves, and what swaps paid in (fees included)
        since the snapshot before. Needs ``pools.manage``.

        The same again gives what is there, others of the same moment (default: now) are a ``ConflictError``. What
        concentrated pools did is imported.
        """
        self._actor.require("pools.manage")
        where = await self.pools.get(pool)
        if where.kind != "constant_product":
            raise ValidationError(
                f"The pool {where.address} is {where.kind}: it has ticks, and no reserves.",
                field="pool",
                hint="Import its snapshots: novadex import pool FILE --pool ADDRESS",
            )
        shares = _liquidity(liquidity)
        reserves = _amounts(where, base_reserve, quote_reserve, "reserve")
        if not all(reserves):
            raise ValidationError(
                "Reserves must be above 0.", field="quote_reserve" if reserves[0] else "base_reserve"
            )
        paid_in = _paid_in(where, base_paid_in, quote_paid_in)
        check_source(source)
        now = datetime.now(UTC)
        moment = parse_moment(taken_at, "taken_at") if taken_at is not None else now
        if moment > now:
            raise ValidationError(f"taken_at must not be in the future, got {moment.isoformat()}.", field="taken_at")
        row = [moment, shares, None, None, None, None, *reserves, 0, 0, *paid_in, source]
        parameters = [where.id, *([value] for value in row)]
        async with self._db.transaction() as session:
            await act_as(session, self._actor)
            await session.execute(SQL.add_snapshots, parameters)
            if await session.value(SQL.other_snapshots, parameters) is not None:
                raise ConflictError(
                    f"The snapshot of {moment.isoformat()} of {where.address} is there with other values.",
                    hint="Snapshots are never changed: record the next one.",
                )
        there = await self.snapshots(pool, start=moment, end=moment + timedelta(microseconds=1), limit=1)
        return there.items[0]

    async def snapshots(
        self,
        pool: str,
        *,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[PoolSnapshot]:
        """A page of what a pool did, the newest first, in [``start``, ``end``)."""
        found = await self.pools.get(pool)
        limit = check_limit(limit)
        below = parse_moment(end) if end is not None else _LAST_MOMENT
        if cursor is not None:
            below = min(below, parse_moment(cursor))
        above = parse_moment(start) if start is not None else EPOCH
        rows = await self._db.main.query(SQL.snapshots_of_pool, [found.id, above, below, limit + 1], read_only=True)
        counted = ("liquidity", "net_amount0", "net_amount1", "in_amount0", "in_amount1")
        items = [PoolSnapshot(**{**row, **{name: int(row[name]) for name in counted}}) for row in rows]
        return Page(items[:limit], items[limit - 1].taken_at.isoformat() if len(items) > limit else None)

    async def _position(self, id: UUID, source: str | None = None, source_id: str | None = None) -> LiquidityPosition:
        rows = await self._db.main.query(SQL.position, [id, source, source_id], read_only=True)
        if not rows:
            raise _no_position(id)
        return _position_of(rows[0])

    async def _known_event(self, id: UUID, source: str | None, source_id: str | None) -> Row:
        rows = await self._db.main.query(SQL.known_event, [id, source, source_id], read_only=True)
        if not rows:
            raise NotFoundError(f"There is no liquidity event {id}.", hint="Is it the id of this instance?")
        return rows[0]

    def _own(self) -> UUID | None:
        """Whose positions alone the actor may see; None: anybody's."""
        if self._actor.may(ANY):
            return None
        self._actor.require(OWN)
        if self._actor.user_id is None:
            raise PermissionDeniedError(f"{self._actor.name} has no positions of its own.", permission=ANY)
        return self._actor.user_id


def state_of(row: Row) -> PoolState:
    return PoolState(int(row.liquidity), row.close_tick, row.base_reserve, row.quote_reserve)


def ticks_of(position: Any) -> tuple[int, int] | None:
    if position.tick_lower is None or position.tick_upper is None:
        return None
    return position.tick_lower, position.tick_upper


def _valued(  # noqa: PLR0917 - what a value follows from
    position: LiquidityPosition, pool: Pool, state: PoolState, price: Decimal, was: Row, fees: tuple[int, int]
) -> LiquidityValue:
    def worth(base: Decimal, quote: Decimal) -> Decimal:
        return trimmed(EXACT.add(EXACT.multiply(base, price), quote))

    base, quote = amounts_in_pool(pool, int(was.liquidity), ticks_of(position), state)
    accrued = [
        amount_of_atoms(atoms, decimals)
        for atoms, decimals in zip(fees, (pool.decimals0, pool.decimals1), strict=True)
    ]
    base_accrued, quote_accrued = accrued if pool.base_is_token0 else accrued[::-1]
    value, held = worth(base, quote), worth(was.base_in, was.quote_in)
    withdrawn = worth(was.base_out, was.quote_out)
    return LiquidityValue(
        position=position.id,
        market=position.market,
        price=price,
        base_amount=base,
        quote_amount=quote,
        value=value,
        held_value=held,
        withdrawn_value=withdrawn,
        impermanent_loss=trimmed(EXACT.subtract(EXACT.add(value, withdrawn), held)),
        base_fees=was.base_fees,
        quote_fees=was.quote_fees,
        fees_value=worth(was.base_fees, was.quote_fees),
        base_fees_accrued=base_accrued,
        quote_fees_accrued=quote_accrued,
        accrued_value=worth(base_accrued, quote_accrued),
    )


def _position_of(row: Row) -> LiquidityPosition:
    return LiquidityPosition(**{**row, "liquidity": int(row.liquidity)})


def _no_position(id: UUID) -> NotFoundError:
    return NotFoundError(f"There is no liquidity position {id}.", hint="Is it the id of this instance?", id=id)


def _conflict(what: str, id: UUID) -> ConflictError:
    return ConflictError(
        f"The {what} {id} is there already with other values.",
        hint="A retry sends the same values; another one needs another id.",
        id=id,
    )


def _refusal(error: psycopg.IntegrityError, id: UUID) -> Exception:
    """What the database refused, in words."""
    constraint = error.diag.constraint_name or ""
    if constraint.endswith("_user_fkey"):
        return NotFoundError(f"There is no user {id}.", hint="Create the user first.", field="user_id")
    if constraint == "uint256_in_range":
        return ValidationError(
            f"The position {id} cannot have less liquidity than 0 or more than 2^256 - 1.",
            field="liquidity",
            hint="Look at what it has.",
        )
    if constraint == "liquidity_events_last":
        return ValidationError(
            f"Nothing would be left of the position {id}.",
            field="liquidity",
            hint="To take everything out is to close it.",
        )
    return ValidationError(
        f"The database refused it: {error.diag.message_primary}.",
        field="liquidity",
        hint=error.diag.message_hint or "Look at the position: is it open, and has it so much liquidity?",
    )


def _liquidity(value: object) -> int:
    if type(value) is not int or not 0 < value < UINT256_BOUND:
        raise ValidationError(
            f"liquidity must be a whole number above 0 and below 2^256, got {str(value)[:80]!r}.", field="liquidity"
        )
    return value


def _ticks(pool: Pool, lower: Any, upper: Any) -> tuple[int | None, int | None]:
    if pool.tick_spacing is None:
        if lower is not None or upper is not None:
            raise ValidationError("A constant product has no ticks.", field="tick_lower")
        return None, None
    for field, tick in (("tick_lower", lower), ("tick_upper", upper)):
        if type(tick) is not int or not MIN_TICK <= tick <= MAX_TICK or tick % pool.tick_spacing:
            raise ValidationError(
                f"{field} must be a multiple of {pool.tick_spacing} from {MIN_TICK} to {MAX_TICK}, got {tick!r}.",
                field=field,
            )
    if lower >= upper:
        raise ValidationError(f"tick_lower {lower} must be below tick_upper {upper}.", field="tick_lower")
    return lower, upper


def _amounts(pool: Pool, base: Amount, quote: Amount, what: str) -> tuple[Decimal, Decimal]:
    found = []
    for name, value, decimals in (("base", base, pool.base_decimals), ("quote", quote, pool.quote_decimals)):
        amount, text = parse_amount(value, f"{name}_{what}")
        if decimals_of(text) > decimals:
            raise ValidationError(
                f"{name}_{what} {text} has more decimals than the asset, which has {decimals}.",
                field=f"{name}_{what}",
            )
        found.append(amount)
    return found[0], found[1]


def _paid_in(pool: Pool, base: Amount, quote: Amount) -> tuple[int, int]:
    """Smallest units of token 0 and token 1."""
    amounts = _amounts(pool, base, quote, "paid_in")
    base_atoms, quote_atoms = atoms_of(amounts[0], pool.base_decimals), atoms_of(amounts[1], pool.quote_decimals)
    for field, atoms in (("base_paid_in", base_atoms), ("quote_paid_in", quote_atoms)):
        if atoms >= UINT256_BOUND:
            raise ValidationError(f"{field} must be below 2^256 smallest units, got {atoms}.", field=field)
    return (base_atoms, quote_atoms) if pool.base_is_token0 else (quote_atoms, base_atoms)


def _check_source(source: Any, source_id: Any, name: str) -> None:
    if (source is None) != (source_id is None):
        missing = "source" if source is None else name
        raise ValidationError(f"{missing} is missing: source and {name} go together.", field=missing)
    if source is not None:
        check_source(source)
        if type(source_id) is not str or not 1 <= len(source_id) <= SOURCE_ID_LENGTH_MAX or "\0" in source_id:
            raise ValidationError(f"{name} must be a text of 1 to {SOURCE_ID_LENGTH_MAX} characters.", field=name)


def _id_and_time(
    id: Any, executed_at: Any, source: str | None, within: str, source_id: str | None
) -> tuple[UUID, datetime]:
    moment = parse_moment(executed_at) if executed_at is not None else None
    if id is not None:
        parsed = parse_id(id, "id")
        if parsed.version != 7 or (moment is not None and milliseconds_of(moment) != parsed.int >> 80):
            raise ValidationError(
                f"id must be a UUIDv7 of the time of the event, got {parsed}.",
                field="id",
                hint="Make it with novadex.ids.id_at(executed_at); or leave one of both out.",
            )
        return parsed, moment or time_of(parsed)
    if moment is None:
        fresh = uuid7()
        return parse_id(fresh, "id"), time_of(parse_id(fresh, "id"))
    if source is not None and source_id is not None:
        return id_of_source(milliseconds_of(moment), source, within, source_id), moment
    return id_at(moment), moment
