"""Sealing: what was written to the audit log since joins the chain, many rows in one transaction."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from novadex import metrics
from novadex.audit.anchors import Acknowledgement, Anchor, anchor_path, append_anchor, last_anchor
from novadex.audit.chain import GENESIS, POSITIONS_END
from novadex.errors import ConflictError
from novadex.storage.queries import load_queries

if TYPE_CHECKING:
    from novadex.storage.connection import DatabaseConnection
    from novadex.storage.rows import Row
    from novadex.storage.session import Session

QUERIES = load_queries(Path(__file__).with_name("queries.sql"))
BATCH_ROWS = 5_000


@dataclass(frozen=True, slots=True)
class Sealed:
    """What sealing did, and where the chain ends now."""

    rows: int
    position: int
    chain_hash: bytes


@dataclass(frozen=True, slots=True)
class _Batch:
    rows: int
    """Taken from what waited."""
    added: int
    """Links."""
    position: int
    chain_hash: bytes
    moment: Row
    """The database just before it was read what waits."""


async def seal(db: DatabaseConnection) -> Sealed:
    """Seal what waits, and anchor the end of the chain outside the database.

    A row is sealed as it was when it was written: whoever changed it meanwhile is found by ``verify``. Many may seal
    at once: they wait for each other. Whoever is killed between the commit and the anchor leaves the anchor to the
    next one.
    """
    rows = 0
    while True:
        batch = await _seal_batch(db)
        rows += batch.added
        if batch.rows < BATCH_ROWS:
            break
        metrics.audit_rows_waiting.set(batch.moment.waiting - batch.rows)
    metrics.audit_rows_sealed.inc(rows)
    position, head = await _anchor(db, batch)
    metrics.audit_rows_waiting.set(0)
    metrics.audit_oldest_waiting_seconds.set(0)
    metrics.audit_sealed_timestamp_seconds.set_to_current_time()
    return Sealed(rows, position, head)


async def _seal_batch(db: DatabaseConnection) -> _Batch:
    async with db.main.transaction() as session:
        await session.execute(QUERIES.lock_chain)
        moment = await session.one(QUERIES.moment)
        assert moment is not None  # noqa: S101 - it selects functions
        metrics.audit_rows_waiting.set(moment.waiting)
        metrics.audit_oldest_waiting_seconds.set(moment.oldest_waiting_s)
        sealed = await session.one(QUERIES.seal, (BATCH_ROWS,))
        assert sealed is not None  # noqa: S101 - it selects from a function
        if 0 < sealed.added == sealed.position:
            await asyncio.to_thread(_anchor_beginning, anchor_path(db.settings, db.endpoints.data_dir), moment)
    return _Batch(sealed.taken, sealed.added, sealed.position, sealed.chain_hash, moment)


def _anchor_beginning(path: Path, moment: Row) -> None:
    """Before the first link is committed, so that a file that begins later is known to have lost its beginning."""
    if last_anchor(path) is None:
        at = moment.at.isoformat()
        append_anchor(path, Anchor(0, GENESIS.hex(), at, moment.system, moment.epoch, files=tuple(moment.files)))


async def _anchor(db: DatabaseConnection, batch: _Batch) -> tuple[int, bytes]:
    """Write down where the chain ends, unless the last anchor says so. Under the lock: anchors are in order."""
    path = anchor_path(db.settings, db.endpoints.data_dir)
    last = await asyncio.to_thread(last_anchor, path)
    if _says(last, batch.position, batch.chain_hash, batch.moment):
        return batch.position, batch.chain_hash
    moment = batch.moment
    async with db.main.transaction() as session:
        await session.execute(QUERIES.lock_chain)
        position, head = await _end_of(session)
        last = await asyncio.to_thread(last_anchor, path)
        if not _says(last, position, head, moment):
            anchor = Anchor(
                position=position,
                chain_hash=head.hex(),
                at=moment.at.isoformat(),
                system=moment.system,
                epoch=moment.epoch,
                since=last.position if last else 0,
                # Without a link of its own the transaction leaves no trace: a standby that takes over may know
                # nothing of it, and use its numbers again.
                snapshot=moment.snapshot if batch.added else "",
                touched=tuple(moment.touched) if any(moment.touched) else (),
                files=tuple(moment.files),
            )
            await asyncio.to_thread(append_anchor, path, anchor)
    return position, head


async def acknowledge_up_to(db: DatabaseConnection, seen: Anchor, why: str, by: str) -> None:
    """Write down beside the anchors that somebody knows of every restore and every rewritten table that was found up
    to the anchor that they saw. Raises ``ConflictError`` where there was another one since."""
    path = anchor_path(db.settings, db.endpoints.data_dir)
    async with db.main.transaction() as session:
        await session.execute(QUERIES.lock_chain)
        at = (await session.value("SELECT clock_timestamp()")).isoformat()
        last = await asyncio.to_thread(last_anchor, path)
        if last is None or (last.system, last.epoch, last.files) != (seen.system, seen.epoch, seen.files):
            raise ConflictError(
                "The database was restored or a table written anew since this was verified.", hint="Verify again."
            )
        line = msgspec.structs.replace(last, since=last.position, acknowledged=Acknowledgement(why, by, at))
        await asyncio.to_thread(append_anchor, path, line)


def _says(anchor: Anchor | None, position: int, head: bytes, moment: Row) -> bool:
    touched = tuple(moment.touched) if any(moment.touched) else ()
    if anchor is None:
        return position == 0 and not touched
    return (anchor.position, anchor.chain_hash, anchor.system, anchor.epoch, anchor.touched, anchor.files) == (
        position,
        head.hex(),
        moment.system,
        moment.epoch,
        touched or anchor.touched,
        tuple(moment.files),
    )


async def _end_of(session: Session) -> tuple[int, bytes]:
    end = await session.one(QUERIES.head, (POSITIONS_END,))
    return (end.position, end.chain_hash) if end is not None else (0, GENESIS)
