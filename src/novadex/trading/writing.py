"""Writing a batch of trades: fast where all is well, then carefully, so that one bad trade fails alone.

The fast way is one COPY that is its own transaction. Whatever it meets (an id or a key that is taken, an
unknown user, a missing partition, a lost connection) leads to the careful way, which is safe to take at
any time: it writes only trades whose id is free, and what was there already it compares.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import AsyncRawCursor, errors
from psycopg.rows import args_row

from novadex import metrics
from novadex.errors import ConflictError, NotFoundError, ValidationError
from novadex.trading.careful import FastThenCareful, is_missing_partition, months, unwritten
from novadex.trading.lines import escaped
from novadex.trading.markets import QUERIES
from novadex.trading.prepare import PreparedTrade
from novadex.trading.records import Trade

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    import psycopg

    from novadex.storage.session import Session

Outcome = Trade | Exception
BYTEA = r"\\x"
"""How COPY's text format begins a bytea."""


class _RefusedInsideError(Exception):
    """Some trades of a transaction that is otherwise good are refused; it is undone and run without them."""

    def __init__(self, refused: dict[int, Exception]) -> None:
        self.refused = refused


class TradeWriter(FastThenCareful[PreparedTrade, Trade]):
    """Writes batches on a connection of its own, which it opens when it needs it."""

    async def write(self, batch: Sequence[PreparedTrade]) -> Sequence[Outcome]:
        """One outcome for each trade: the trade as it is recorded, or its error."""
        metrics.group_commit_batch_trades.observe(len(batch))
        first, later = _split_repeated(batch)
        outcomes: list[Outcome | None] = [None] * len(batch)
        for indexes in (first, later):
            if indexes:
                # By id, and keys before trades: all writers take their locks in this order.
                indexes.sort(key=lambda index: batch[index].trade.id.int)
                part = [batch[index] for index in indexes]
                written = await (self._write_distinct(part) if indexes is first else self._one_by_one(part))
                for index, outcome in zip(indexes, written, strict=True):
                    outcomes[index] = outcome
        return [outcome for outcome in outcomes if outcome is not None]

    async def _one_by_one(self, batch: list[PreparedTrade]) -> list[Outcome]:
        return [(await self._write_distinct([item]))[0] for item in batch]

    async def _write_distinct(self, batch: list[PreparedTrade]) -> list[Outcome]:
        """A batch in which no id and no key stands twice."""
        return await self._carry_out(batch)

    def _unwritten(self, error: Exception, item: PreparedTrade) -> Exception:
        return unwritten(error, self._database.name, trade_id=item.trade.id)

    # The fast way

    async def _fast(self, batch: list[PreparedTrade]) -> list[Outcome]:
        session = await self._session()
        keyed = [item for item in batch if item.key is not None]
        if keyed:
            async with session.transaction():
                async with session.copy_in(QUERIES.copy_keys) as copy:
                    await copy.write(_key_lines(keyed))
                await self._copy(session, batch)
        else:
            await self._copy(session, batch)
        metrics.trades_written.inc(len(batch))
        return [item.trade for item in batch]

    @staticmethod
    async def _copy(session: Session, batch: list[PreparedTrade]) -> None:
        async with session.copy_in(QUERIES.copy_trades) as copy:
            await copy.write("".join([item.line for item in batch]))

    # The careful way

    async def _careful(self, batch: list[PreparedTrade]) -> list[Outcome]:
        """Every trade gets its own outcome. Raises only where the server cannot be used."""
        session = await self._session()
        try:
            return await self._careful_transaction(session, batch)
        except _RefusedInsideError as inside:
            refused = inside.refused
        except (errors.IntegrityError, errors.DataError) as error:
            if is_missing_partition(error) and await self._make_partitions(session, batch):
                return await self._careful(batch)
            refused = await self._without_references(session, batch)
            if not refused:
                if len(batch) == 1:
                    return [_refusal(error, batch[0])]
                middle = len(batch) // 2
                return await self._careful(batch[:middle]) + await self._careful(batch[middle:])
        for error in refused.values():
            metrics.trades_refused.labels(getattr(error, "code", "UNKNOWN")).inc()
        rest = [item for index, item in enumerate(batch) if index not in refused]
        outcomes = iter(await self._careful(rest) if rest else [])
        return [refused[index] if index in refused else next(outcomes) for index in range(len(batch))]

    async def _careful_transaction(self, session: Session, batch: list[PreparedTrade]) -> list[Outcome]:
        async with session.transaction():
            await session.execute(QUERIES.make_staging)  # in here: behind a PgBouncer the next server has none
            known_keys = await self._claim_keys(session, [item for item in batch if item.key is not None])
            outcomes: dict[int, Outcome] = {}
            to_load: dict[int, UUID] = {}
            to_write: list[int] = []
            for index, item in enumerate(batch):
                known = known_keys.get((item.trade.user_id, item.key)) if item.key is not None else None
                if known is None:
                    to_write.append(index)
                elif bytes(known.request_hash) == item.request_hash:
                    to_load[index] = known.trade_id
                else:
                    outcomes[index] = ConflictError(
                        f"The idempotency key {item.key!r} stands for another trade, {known.trade_id}.",
                        hint="Send the same request as the first time, or use a new key.",
                        idempotency_key=item.key,
                        trade_id=known.trade_id,
                    )
            added = await self._add(session, [batch[index] for index in to_write])
            for index in to_write:
                if batch[index].trade.id in added:
                    outcomes[index] = batch[index].trade
                else:
                    to_load[index] = batch[index].trade.id
            refused = await self._compare(session, batch, to_load, outcomes)
            if refused and any(batch[index].key is not None for index in refused):
                raise _RefusedInsideError(refused)  # its key must not stay claimed
            outcomes.update(refused)
        metrics.trades_written.inc(len(added))
        metrics.trades_duplicate.inc(len(to_load) - len(refused))
        return [outcomes[index] for index in range(len(batch))]

    @staticmethod
    async def _claim_keys(session: Session, keyed: list[PreparedTrade]) -> dict[tuple[UUID, str | None], Any]:
        """Take the keys; returns those that were taken before, and what they stand for."""
        if not keyed:
            return {}
        users, keys = [item.trade.user_id for item in keyed], [item.key for item in keyed]
        claimed = await session.query(
            QUERIES.claim_keys,
            [users, keys, [item.request_hash for item in keyed], [item.trade.id for item in keyed]],
        )
        if len(claimed) == len(keyed):
            return {}
        ours = {(row.user_id, row.key) for row in claimed}
        known = await session.query(QUERIES.known_keys, [users, keys])
        return {(row.user_id, row.key): row for row in known if (row.user_id, row.key) not in ours}

    @staticmethod
    async def _add(session: Session, items: list[PreparedTrade]) -> set[UUID]:
        if not items:
            return set()
        async with session.copy_in(QUERIES.copy_staging) as copy:
            await copy.write("".join([item.line for item in items]))
        return {row.id for row in await session.query(QUERIES.add_staged)}

    @staticmethod
    async def _compare(
        session: Session, batch: list[PreparedTrade], to_load: dict[int, UUID], outcomes: dict[int, Outcome]
    ) -> dict[int, Exception]:
        """Fill in the trades that were there already; returns the conflicts."""
        if not to_load:
            return {}
        cursor = AsyncRawCursor(session.connection, row_factory=args_row(Trade))
        async with cursor:
            await cursor.execute(QUERIES.trades_by_ids.sql, [list(to_load.values())])
            found = {trade.id: trade for trade in await cursor.fetchall()}
        refused: dict[int, Exception] = {}
        for index, id in to_load.items():
            recorded, item = found.get(id), batch[index]
            if recorded is not None and (item.trade.id != id or recorded == item.trade):
                outcomes[index] = recorded
            else:
                refused[index] = ConflictError(
                    f"The id {id} belongs to another trade.",
                    hint="A retry must send the same trade; a new trade needs a new id.",
                    trade_id=id,
                )
        return refused

    async def _make_partitions(self, session: Session, batch: list[PreparedTrade]) -> bool:
        made = 0
        for moment in months(item.trade.executed_at for item in batch):
            made += await session.value(QUERIES.ensure_trade_partitions, [moment, moment])
        return made > 0

    @staticmethod
    async def _without_references(session: Session, batch: list[PreparedTrade]) -> dict[int, Exception]:
        """The trades whose user does not exist."""
        users = list({item.trade.user_id for item in batch})
        known = {row.id for row in await session.query(QUERIES.known_users, [users])}
        return {
            index: NotFoundError(
                f"There is no user {item.trade.user_id}.", hint="Create the user first.", field="user_id"
            )
            for index, item in enumerate(batch)
            if item.trade.user_id not in known
        }


def _split_repeated(batch: Sequence[PreparedTrade]) -> tuple[list[int], list[int]]:
    """Indexes of the first of each id and key, and of those that repeat one."""
    seen: set[object] = set()
    first: list[int] = []
    later: list[int] = []
    for index, item in enumerate(batch):
        names: list[object] = [item.trade.id]
        if item.key is not None:
            names.append((item.trade.user_id, item.key))
        if any(name in seen for name in names):
            later.append(index)
        else:
            seen.update(names)
            first.append(index)
    return first, later


def _key_lines(keyed: list[PreparedTrade]) -> str:
    ordered = sorted(keyed, key=lambda item: (item.trade.user_id.int, item.key))
    lines: list[str] = []
    for item in ordered:
        key, request_hash = escaped(item.key or ""), (item.request_hash or b"").hex()
        lines.append(f"{item.trade.user_id}\t{key}\t{BYTEA}{request_hash}\t{item.trade.id}\n")
    return "".join(lines)


def _refusal(error: psycopg.Error, item: PreparedTrade) -> Exception:
    """The database's own refusal of one trade: the last guard, behind ``prepare``."""
    return ValidationError(
        f"The database refused the trade {item.trade.id}: {error.diag.message_primary}.",
        field=error.diag.constraint_name or "trade",
        sqlstate=error.sqlstate,
    )
