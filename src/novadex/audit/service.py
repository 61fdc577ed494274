"""``AuditService``: who did what, and whether the record of it is whole."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from novadex.audit.acts import record_act, record_look
from novadex.audit.report import AuditReport
from novadex.audit.sealing import QUERIES, Sealed, acknowledge_up_to, seal
from novadex.audit.verify import Progress, verify
from novadex.errors import UsageError, ValidationError
from novadex.roles.actor import SERVICE, Actor, act_as
from novadex.storage.connection import DatabaseConnection

LIST_LIMIT, LIST_LIMIT_MAX = 100, 1_000
LAST_ID = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Who did what to what, when, and what changed. It holds neither personal data nor secrets."""

    id: int
    occurred_at: datetime
    actor: str
    """``user:ID``, ``api_key:ID``, ``program:NAME``, or ``database:ROLE`` for plain SQL."""
    action: str
    subject: str
    detail: dict[str, Any]
    database_role: str


@dataclass(frozen=True, slots=True)
class AuditPage:
    """A page, the newest first. ``next`` is the cursor of the page after it, None at the end."""

    items: list[AuditEntry]
    next: str | None


class AuditService:
    """The audit log of an instance."""

    def __init__(self, db: DatabaseConnection | None = None, *, actor: Actor = SERVICE) -> None:
        self._db = db or DatabaseConnection.get_instance()
        self._actor = actor

    def acting_as(self, actor: Actor) -> AuditService:
        """This service on behalf of somebody."""
        return AuditService(self._db, actor=actor)

    async def search(
        self,
        *,
        actor: str | None = None,
        action: str | None = None,
        subject: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = LIST_LIMIT,
        cursor: str | None = None,
    ) -> AuditPage:
        """Entries that agree with all that is given, the newest first. Needs ``audit.read``."""
        self._actor.require("audit.read")
        if type(limit) is not int or not 1 <= limit <= LIST_LIMIT_MAX:
            raise ValidationError(f"limit must be 1 to {LIST_LIMIT_MAX}, got {limit!r}.", field="limit")
        query = QUERIES.by_time
        if subject is not None:
            query = QUERIES.by_subject
        elif actor is not None:
            query = QUERIES.by_actor
        elif action is not None:
            query = QUERIES.by_action
        await self._record_look("audit.searched")
        parameters = (_id_of(cursor), limit + 1, _text(subject), _text(actor), _text(action), since, until)
        entries = await self._db.main.made(AuditEntry, query, parameters, read_only=True)
        return AuditPage(entries[:limit], str(entries[limit - 1].id) if len(entries) > limit else None)

    async def after(self, id: int, limit: int = LIST_LIMIT_MAX) -> list[AuditEntry]:
        """Entries behind one, the oldest first: for following the log. Needs ``audit.read``."""
        self._actor.require("audit.read")
        return await self._db.main.made(AuditEntry, QUERIES.after, (id, limit), read_only=True)

    async def export(self) -> AsyncIterator[dict[str, Any]]:
        """Every sealed entry with its link of the chain, in order, as it is hashed: for somebody else to verify.
        What waits is sealed first. Needs ``audit.read``."""
        self._actor.require("audit.read")
        await self._record_look("audit.exported")
        end, position = (await seal(self._db)).position, 0
        while position < end:
            page = await self._db.main.query(QUERIES.export, (position, end, LIST_LIMIT_MAX), read_only=True)
            if not page:
                return
            for row in page:
                yield row
            position = page[-1].position

    async def seal(self) -> Sealed:
        """Seal what waits. Needs ``audit.verify``."""
        self._actor.require("audit.verify")
        return await seal(self._db)

    async def verify(
        self,
        progress: Progress = lambda _, __: None,
        *,
        acknowledge: str | None = None,
        anchors: Path | None = None,
    ) -> AuditReport:
        """Seal what waits, then compare log, chain and anchors. ``progress`` hears how many rows of how many are
        done. Needs ``audit.verify``.

        ``acknowledge`` says why the database was restored, or a table of the log written anew: what is found of that
        is written down beside the anchors as known, by whom, and is a note from then on.

        ``anchors`` is a copy of their file: nothing is sealed then, and the copy stays as it is.
        """
        self._actor.require("audit.verify")
        why = _text(acknowledge)
        if why and anchors is not None:
            raise UsageError(
                "What is acknowledged is written to the anchors, and a copy is not written to.",
                hint="Acknowledge it where the anchors are.",
            )
        await self._record_look("audit.verified")
        report = await verify(self._db, progress, anchors=anchors)
        if not why:
            return report
        if report.last_anchor is None or not report.can_be_acknowledged:
            report.notes.append("there was nothing to acknowledge")
            return report
        async with self._db.transaction() as session:
            await act_as(session, self._actor)
            await record_act(session, self._actor, "audit.acknowledged", "audit_log", {"why": why})
        by = " ".join(filter(None, (self._actor.name, self._actor.origin)))
        await acknowledge_up_to(self._db, report.last_anchor, why, by)
        return await verify(self._db, progress)

    async def _record_look(self, action: str) -> None:
        await record_look(self._db, self._actor, action, subject="audit_log")


def _id_of(cursor: str | None) -> int:
    if cursor is None:
        return LAST_ID
    if not (isinstance(cursor, str) and cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
        raise ValidationError(f"cursor is not one of a page: {str(cursor)[:40]!r}.", field="cursor")
    return int(cursor)


def _text(value: str | None) -> str | None:
    if value is not None and (not isinstance(value, str) or not value.isprintable() or len(value) > 300):
        raise ValidationError("What is searched for or said must be text of up to 300 characters.", field="search")
    return value
