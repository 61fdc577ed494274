"""Erasing users: the data key is destroyed, what could be read is emptied, records stay.

The order makes a crash anywhere harmless. Everything happens in one transaction; just before its commit the line in
the list outside the database is made durable. So whatever was acknowledged stands in both, and where only the line
made it, or where a restore took the database back, ``reapply_erasures`` erases again what the list names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import structlog

from novadex import metrics
from novadex.errors import ConflictError, IntegrityFaultError, NotFoundError
from novadex.keys.erasure_list import ErasureLine, append_erasures, erasure_path, read_erasures
from novadex.roles.actor import Actor, act_as
from novadex.storage.queries import load_queries

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from novadex.storage.connection import DatabaseConnection
    from novadex.storage.session import Session

SQL = load_queries(Path(__file__).with_suffix(".sql"))
REAPPLYING = Actor.program("erasures")
BATCH_USERS = 1_000
NO_ID = UUID(int=0)
NAMED_MAX = 20

log = structlog.get_logger("novadex.keys")


@dataclass(frozen=True, slots=True)
class Erasure:
    """A user who was erased."""

    user_id: UUID
    erased_at: datetime
    """When it was done first."""
    xid: int
    """The transaction that did it now, for the caches."""


@dataclass(frozen=True, slots=True)
class Reapplied:
    """What applying the list again did."""

    listed: int
    """Users in the list."""
    erased_again: tuple[UUID, ...]
    """Users who were not erased in the database: it was restored, or their erasure was cut off by a crash."""
    added: int
    """Erasures of the database that the list did not have: it was lost, or they were made on another machine."""
    damaged: tuple[int, ...] = ()
    """Lines of the list that cannot be read: nobody knows whom they named."""


Before = Callable[["Session", str], Awaitable[None]]


async def erase_user(db: DatabaseConnection, actor: Actor, user_id: UUID, *, before: Before | None = None) -> Erasure:
    """Erase a user for good; once more is harmless. Who may do it is for the caller to check: ``before`` is told the
    user's role while nobody can change it, and what it raises keeps the user as they are.

    Raises ``NotFoundError`` where there is no such user, ``ConflictError`` for a system account, and
    ``ConfigurationError`` where the list outside the database cannot be written: then nobody is erased.
    """
    path = erasure_path(db.settings, db.endpoints.data_dir)
    async with db.main.transaction() as session:
        await act_as(session, actor)
        erasure, _ = await _erase(session, user_id, before=before)
        # The last thing before the commit: what was refused is not listed, what is acknowledged is.
        await asyncio.to_thread(append_erasures, path, [ErasureLine(user_id, erasure.erased_at)])
    metrics.users_erased.labels("request").inc()
    return erasure


async def reapply_erasures(db: DatabaseConnection, actor: Actor = REAPPLYING) -> Reapplied:
    """Erase again whom the list names and the database has, and list whom only the database names. To be done
    after every restore; at other times it finds nothing to do. Lines that cannot be read keep no other from being
    applied: ``refuse_damaged`` raises for them.
    """
    path = erasure_path(db.settings, db.endpoints.data_dir)
    found = await asyncio.to_thread(read_erasures, path)
    listed: dict[UUID, datetime] = {}
    for line in found.lines:
        listed.setdefault(line.user_id, line.erased_at)
    again: list[UUID] = []
    for batch in _batches(sorted(listed)):
        for row in await db.main.query(SQL.not_erased, (batch,), read_only=True):
            async with db.main.transaction() as session:
                await act_as(session, actor)
                _, changed = await _erase(session, row.id, listed[row.id])
            if changed:  # else the erasure was under way when it was looked for
                again.append(row.id)
                metrics.users_erased.labels("reapplied").inc()
    if again:
        log.error(
            "users of the list of erasures were not erased in the database: they are now. Was it restored?",
            count=len(again),
            users=[str(user_id) for user_id in again[:NAMED_MAX]],
            list=str(path),
        )
    added = await _list_missing(db, path, listed)
    return Reapplied(len(listed), tuple(again), added, found.damaged)


def refuse_damaged(db: DatabaseConnection, report: Reapplied) -> None:
    """Raise ``IntegrityFaultError`` where lines of the list could not be read."""
    if report.damaged:
        path = erasure_path(db.settings, db.endpoints.data_dir)
        raise IntegrityFaultError(
            f"Lines {', '.join(map(str, report.damaged[:NAMED_MAX]))} of {path} cannot be read; all others"
            " are applied.",
            hint="Restore the file from its copy, or find out from the audit log whom they named.",
        )


async def list_missing(db: DatabaseConnection) -> int:
    """List whom only the database names, such as those who were erased on another machine; returns how many."""
    path = erasure_path(db.settings, db.endpoints.data_dir)
    found = await asyncio.to_thread(read_erasures, path)
    return await _list_missing(db, path, {line.user_id for line in found.lines})


@dataclass(frozen=True, slots=True)
class Life:
    """One life of the database: where it changes, erasures have to be applied again."""

    epoch: int
    system_identifier: int
    timeline: int
    database: int
    """A restore into a new database of the same server raises none of the others."""


async def look_at(db: DatabaseConnection) -> tuple[Life, int]:
    """Which life of the database this is, and how many were erased in it."""
    row = await db.main.one(SQL.life, read_only=True)
    assert row is not None  # noqa: S101 - the table always has its one row
    return Life(row.epoch, row.system_identifier, row.timeline, row.database), row.erasures


async def _erase(
    session: Session, user_id: UUID, erased_at: datetime | None = None, before: Before | None = None
) -> tuple[Erasure, bool]:
    """Returns also whether anything was there to be erased."""
    user = await session.one(SQL.lock_user, (user_id,))
    if user is None:
        raise NotFoundError(f"There is no user {user_id}.", user_id=user_id)
    if before is not None:
        await before(session, user.role)
    if user.kind == "system":
        raise ConflictError(
            f"User {user_id} is a system account: it has no personal data.", hint="Erase persons and programs only."
        )
    changed = 0
    for statement in (
        SQL.empty_user,
        SQL.destroy_data_key,
        SQL.delete_wallets,
        SQL.empty_sessions,
        SQL.empty_api_keys,
        SQL.empty_notifications,
        SQL.cancel_deliveries,
        SQL.delete_webhook,
        SQL.delete_preferences,
        SQL.delete_alerts,
        SQL.forget_devices,
        SQL.forget_sign_ins,
    ):
        changed += await session.execute(statement, (user_id,))
    noted = await session.one(SQL.add_erasure, (user_id, erased_at))
    assert noted is not None  # noqa: S101 - one of the two parts gives a row
    # What would refuse the commit refuses now, before the user is listed.
    await session.execute("SET CONSTRAINTS ALL IMMEDIATE")
    return Erasure(user_id, noted.erased_at, int(noted.xid)), changed > 0


async def _list_missing(db: DatabaseConnection, path: Path, listed: Container[UUID]) -> int:
    after, added = NO_ID, 0
    while rows := await db.main.query(SQL.erasures_after, (after, BATCH_USERS), read_only=True):
        after = rows[-1].user_id
        missing = [ErasureLine(row.user_id, row.erased_at) for row in rows if row.user_id not in listed]
        if missing:
            await asyncio.to_thread(append_erasures, path, missing)
            added += len(missing)
    if added:
        log.warning("erasures of the database were added to the list outside it", count=added, list=str(path))
    return added


def _batches(ids: Sequence[UUID]) -> Sequence[list[UUID]]:
    return [list(ids[start : start + BATCH_USERS]) for start in range(0, len(ids), BATCH_USERS)]
