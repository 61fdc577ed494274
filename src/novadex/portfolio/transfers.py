"""``TransferService``: deposits, withdrawals and funding payments, as the venue reports them, each exactly once."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack
from uuid import UUID

import psycopg

from novadex.audit.acts import record_look
from novadex.errors import ConflictError, NotFoundError, NovaDexError, UsageError, ValidationError
from novadex.ids import id_at, id_of_source, milliseconds_of, parse_id, time_of, uuid7
from novadex.money import decimals_of, parse_amount, parse_signed_amount, plain
from novadex.portfolio.access import owner_for
from novadex.portfolio.records import Transfer, TransferKind
from novadex.roles.actor import SERVICE, Actor, act_as
from novadex.storage.connection import DatabaseConnection
from novadex.storage.queries import load_queries
from novadex.trading.markets import Markets, check_limit
from novadex.trading.prepare import check_source, parse_moment
from novadex.trading.records import Page

if TYPE_CHECKING:
    from novadex.trading.records import Asset, Market

SQL = load_queries(Path(__file__).with_name("queries.sql"))
KINDS = ("deposit", "withdrawal", "funding")
BULK_BATCH_TRANSFERS = 1_000
NOTE_LENGTH_MAX = 500
SOURCE_ID_LENGTH_MAX = 128
_FIRST_ID, _LAST_ID = UUID(int=0), UUID(int=(1 << 128) - 1)


class TransferInput(TypedDict, total=False):
    """What ``record`` takes. Required: ``user_id``, ``kind``, ``asset``, ``amount``; ``market`` for funding."""

    user_id: UUID | str
    kind: TransferKind
    asset: str
    market: str
    """The market whose positions a funding payment is for."""
    amount: Decimal | str | int
    """Above 0; of a funding payment negative where the user paid."""
    id: UUID | str
    """A UUIDv7 made by the caller: a retry with the same id finds the first transfer."""
    executed_at: datetime | str
    """When it happened; default: the time of the id, else now."""
    sequence: int
    source: str
    """The venue or chain that reported it; with ``source_transfer_id`` a retry finds the first transfer."""
    source_transfer_id: str
    note: str


FIELDS = frozenset(TransferInput.__annotations__)


class TransferService:
    """Transfers of an instance. To record them needs ``transfers.record``, to see them ``portfolio.read_own`` or
    ``portfolio.read_any``."""

    def __init__(self, db: DatabaseConnection | None = None, *, actor: Actor = SERVICE) -> None:
        self._db = db or DatabaseConnection.get_instance()
        self._actor = actor
        self._markets = Markets(self._db, actor=actor)

    def acting_as(self, actor: Actor) -> TransferService:
        """This service on behalf of somebody."""
        service = copy.copy(self)
        service._actor = actor  # noqa: SLF001 - of the same class
        return service

    async def record(self, transfer: TransferInput | None = None, /, **fields: Unpack[TransferInput]) -> Transfer:
        """Record one transfer; returns it once it is committed.

        With an ``id``, or ``source`` and ``source_transfer_id``, a retry returns the first one; the same with other
        values is a ``ConflictError``. Raises ``ValidationError`` (names the field) and ``NotFoundError`` (user,
        asset, market).
        """
        (outcome,) = await self.record_many([{**transfer, **fields} if transfer is not None else fields])
        if isinstance(outcome, NovaDexError):
            raise outcome
        return outcome

    async def record_many(self, transfers: Iterable[TransferInput]) -> list[Transfer | NovaDexError]:
        """Record many, in transactions of at most 1,000; one outcome for each, in order: the transfer, or the error
        that it alone has."""
        self._actor.require("transfers.record")
        outcomes: list[Any] = []
        waiting: list[tuple[int, Transfer, Mapping[str, Any]]] = []
        for index, fields in enumerate(transfers):
            try:
                waiting.append((index, await self._prepare(fields), fields))
                outcomes.append(None)
            except UsageError as error:
                outcomes.append(error)
            if len(waiting) >= BULK_BATCH_TRANSFERS:
                await self._write_waiting(waiting, outcomes)
        await self._write_waiting(waiting, outcomes)
        return outcomes

    async def reverse(self, id: UUID | str, *, note: str | None = None) -> Transfer:
        """Undo a transfer by a row with the amount negated; a second time gives the same row.

        Raises ``NotFoundError``, and ``ConflictError`` for a row that itself undoes one.
        """
        self._actor.require("transfers.record")
        _check_note(note)
        wanted = parse_id(id, "id")
        found = await self._known([wanted], [], [])
        if not found:
            raise NotFoundError(f"There is no transfer {wanted}.", hint="Is it the id of this instance?", id=wanted)
        (transfer,) = found
        if transfer.reverses is not None:
            raise ConflictError(
                f"The row {wanted} undoes {transfer.reverses}: it cannot be undone.",
                hint="Record the transfer anew, with another source_transfer_id or none.",
            )
        undoing = replace(
            transfer,
            id=id_at(transfer.executed_at),
            amount=transfer.amount.copy_negate(),
            source=None,
            source_transfer_id=None,
            reverses=transfer.id,
            note=note,
        )
        await self._write([undoing])
        (written,) = await self._known([], [], [], undone=[transfer.id])
        return written

    async def get(self, id: UUID | str) -> Transfer:
        """A transfer by its id; ``NotFoundError`` where there is none, or it is not one that the actor may see."""
        own = owner_for(self._actor, None)
        wanted = parse_id(id, "id")
        found = await self._known([wanted], [], [])
        if not found or (own is not None and found[0].user_id != own):
            raise NotFoundError(f"There is no transfer {wanted}.", hint="Is it the id of this instance?", id=wanted)
        await record_look(self._db, self._actor, "transfers.read", found[0].user_id)
        return found[0]

    async def list(
        self,
        user_id: UUID | str | None = None,
        *,
        kind: str | None = None,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[Transfer]:
        """A page of a user's transfers, newest first, executed in [``start``, ``end``). ``cursor`` is the ``next`` of
        the page before. Whoever has ``portfolio.read_own`` only sees their own, and may leave out ``user_id``."""
        owner = owner_for(self._actor, user_id, needed=True)
        limit = check_limit(limit)
        if kind is not None and kind not in KINDS:
            raise ValidationError(f"kind must be one of {', '.join(KINDS)}, got {kind[:40]!r}.", field="kind")
        above = _bound(end) if end is not None else _LAST_ID
        if cursor is not None:
            above = min(above, parse_id(cursor, "cursor"))
        below = _bound(start) if start is not None else _FIRST_ID
        await record_look(self._db, self._actor, "transfers.listed", owner)
        found = await self._db.main.made(
            Transfer, SQL.transfers_of_user, [owner, above, below, kind, limit + 1], read_only=True
        )
        return Page(found[:limit], str(found[limit - 1].id) if len(found) > limit else None)

    # Checks

    async def _prepare(self, fields: Mapping[str, Any]) -> Transfer:
        unknown = fields.keys() - FIELDS
        if unknown:
            raise UsageError(
                f"A transfer has no field {', '.join(sorted(map(str, unknown)))}.",
                hint=f"It can have: {', '.join(sorted(FIELDS))}.",
            )
        kind = fields.get("kind")
        if kind not in KINDS:
            raise ValidationError(f"kind must be one of {', '.join(KINDS)}, got {str(kind)[:40]!r}.", field="kind")
        asset: Asset = await self._markets.asset(_text(fields, "asset"))
        market: Market | None = None
        if (kind == "funding") != (fields.get("market") is not None):
            raise ValidationError("A funding payment names its market, nothing else does.", field="market")
        if kind == "funding":
            market = await self._markets.get(_text(fields, "market"))
        amount, text = (parse_signed_amount if kind == "funding" else parse_amount)(fields.get("amount"), "amount")
        if not amount:
            raise ValidationError("amount must not be 0.", field="amount")
        if decimals_of(text) > asset.decimals:
            raise ValidationError(
                f"amount {text} has more decimals than {asset.symbol}, which has {asset.decimals}.", field="amount"
            )
        sequence = fields.get("sequence")
        if sequence is not None and (type(sequence) is not int or not -(2**63) <= sequence < 2**63):
            raise ValidationError(f"sequence must be an integer of 64 bits, got {sequence!r}.", field="sequence")
        _check_note(fields.get("note"))
        source, source_id = _source(fields)
        user_id = parse_id(fields.get("user_id"), "user_id")
        id, executed_at = _id_and_time(fields, source, asset.symbol, source_id)
        return Transfer(
            id,
            user_id,
            kind,
            asset.symbol,
            market.symbol if market else None,
            amount,
            executed_at,
            sequence,
            source,
            source_id,
            None,
            fields.get("note"),
        )

    # Writing

    async def _write_waiting(
        self, waiting: list[tuple[int, Transfer, Mapping[str, Any]]], outcomes: list[Any]
    ) -> None:
        if not waiting:
            return
        try:
            await self._write([transfer for _, transfer, _ in waiting])
            failed: dict[int, NovaDexError] = {}
        except psycopg.IntegrityError:
            # One of them is refused: each by itself, so that the others are written.
            failed = {}
            for index, transfer, _ in waiting:
                try:
                    await self._write([transfer])
                except psycopg.IntegrityError as error:
                    failed[index] = _refusal(error, transfer)
        known = await self._known(
            [transfer.id for _, transfer, _ in waiting],
            [transfer.source for _, transfer, _ in waiting if transfer.source],
            [transfer.source_transfer_id for _, transfer, _ in waiting if transfer.source_transfer_id],
        )
        by_id = {transfer.id: transfer for transfer in known}
        by_source: dict[Any, Transfer] = {(t.source, t.source_transfer_id): t for t in known if t.source}
        for index, transfer, fields in waiting:
            there = by_source.get((transfer.source, transfer.source_transfer_id)) or by_id.get(transfer.id)
            outcomes[index] = failed.get(index) or _same(there, transfer, fields)
        waiting.clear()

    async def _write(self, transfers: Sequence[Transfer]) -> None:
        rows: list[tuple[Any, ...]] = []
        for t in transfers:
            asset = await self._markets.asset(t.asset)
            market = await self._markets.get(t.market) if t.market else None
            place = (t.id, t.user_id, t.kind, asset.id, market.id if market else None, t.amount, t.executed_at)
            rows.append((*place, t.sequence, t.source, t.source_transfer_id, t.reverses, t.note))
        async with self._db.transaction() as session:
            await act_as(session, self._actor)
            await session.query(SQL.add_transfers, [list(column) for column in zip(*rows, strict=True)])

    async def _known(
        self,
        ids: Sequence[UUID],
        sources: Sequence[str],
        source_ids: Sequence[str],
        undone: Sequence[UUID] = (),
    ) -> Sequence[Transfer]:
        return await self._db.main.made(
            Transfer,
            SQL.known_transfers,
            [list(ids), list(sources), list(source_ids), list(undone)],
            read_only=True,
        )


def _same(there: Transfer | None, wanted: Transfer, fields: Mapping[str, Any]) -> Transfer | NovaDexError:
    """What is there, where it is what was asked for."""
    if there is None:
        return ConflictError(f"The transfer {wanted.id} is there as something else.", hint="Use a new id.")
    compared = ["user_id", "kind", "asset", "market", "amount", "sequence", "source", "source_transfer_id", "note"]
    if fields.get("executed_at") is not None:
        compared.append("executed_at")
    if fields.get("id") is not None:
        compared.append("id")
    different = [name for name in compared if getattr(there, name) != getattr(wanted, name)]
    if there.reverses is not None or different:
        what = ", ".join(different) or "what it undoes"
        return ConflictError(
            f"The transfer {there.id} is there already, with another {what}: {plain(there.amount)} {there.asset}.",
            hint="A retry sends the same values; another transfer needs another id.",
            transfer_id=there.id,
        )
    return there


def _refusal(error: psycopg.IntegrityError, transfer: Transfer) -> NovaDexError:
    if error.diag.constraint_name == "transfers_user_fkey":
        return NotFoundError(f"There is no user {transfer.user_id}.", hint="Create the user first.", field="user_id")
    return ValidationError(f"The database refused it: {error.diag.message_primary}.", field="transfer")


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if type(value) is not str:
        raise ValidationError(f"{name} must be a symbol, got {value!r}.", field=name)
    return value


def _check_note(note: Any) -> None:
    if note is not None and (type(note) is not str or not 1 <= len(note) <= NOTE_LENGTH_MAX or "\0" in note):
        raise ValidationError(f"note must be a text of 1 to {NOTE_LENGTH_MAX} characters.", field="note")


def _source(fields: Mapping[str, Any]) -> tuple[str | None, str | None]:
    source, source_id = fields.get("source"), fields.get("source_transfer_id")
    if (source is None) != (source_id is None):
        missing = "source" if source is None else "source_transfer_id"
        raise ValidationError(f"{missing} is missing: source and source_transfer_id go together.", field=missing)
    if source is not None:
        check_source(source)
        if type(source_id) is not str or not 1 <= len(source_id) <= SOURCE_ID_LENGTH_MAX or "\0" in source_id:
            raise ValidationError(
                f"source_transfer_id must be a text of 1 to {SOURCE_ID_LENGTH_MAX} characters.",
                field="source_transfer_id",
            )
    return source, source_id


def _id_and_time(
    fields: Mapping[str, Any], source: str | None, asset: str, source_id: str | None
) -> tuple[UUID, datetime]:
    given = fields.get("id")
    executed_at = parse_moment(fields["executed_at"]) if fields.get("executed_at") is not None else None
    if given is not None:
        id = parse_id(given, "id")
        if id.version != 7:
            raise ValidationError(f"id must be a UUID of version 7, got version {id.version}: {id}.", field="id")
        if executed_at is not None and milliseconds_of(executed_at) != id.int >> 80:
            raise ValidationError(
                f"id carries the time {time_of(id).isoformat()}, but executed_at is {executed_at.isoformat()}.",
                field="id",
                hint="Make the id of that time: novadex.ids.id_at(executed_at); or leave one of both out.",
            )
        return id, executed_at or time_of(id)
    if executed_at is None:
        id = uuid7()
        executed_at = time_of(id)
    elif source is None:
        return id_at(executed_at), executed_at
    if source is not None and source_id is not None:
        return id_of_source(milliseconds_of(executed_at), source, asset, source_id), executed_at
    return id_at(executed_at), executed_at


def _bound(moment: datetime | str) -> UUID:
    """The lowest id at or after a moment. Ids carry whole milliseconds."""
    return UUID(int=milliseconds_of(parse_moment(moment)) << 80)
