"""Where a projection stands in the log of the main database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from novadex.storage.rows import Row

NO_ID = UUID(int=0)


@dataclass(frozen=True, slots=True)
class MainIdentity:
    """One life of the main database. Positions of another life mean nothing: transaction ids are reused."""

    epoch: int
    system_identifier: int
    timeline: int


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in the log, ordered by (xid, id): all rows up to it have been read.

    >>> Position(7) < Position(7, UUID(int=1)) < Position(8)
    True
    """

    xid: int
    id: UUID = NO_ID


START = Position(0)


@dataclass(frozen=True, slots=True)
class ProjectionState:
    """A projection as the analytics database has it."""

    identity: MainIdentity
    position: Position
    watermark: datetime | None
    """Every transaction of main that had begun to write before this moment is applied."""
    applied: int
    set_aside: int
    updated_at: datetime
    age_s: float
    """Seconds since ``updated_at``, by the clock of the analytics database."""

    @classmethod
    def of(cls, row: Row) -> ProjectionState:
        return cls(
            identity_of(row),
            Position(row.xid, row.id),
            row.watermark,
            row.applied,
            row.set_aside,
            row.updated_at,
            float(row.age_s),
        )


def identity_of(row: Row) -> MainIdentity:
    return MainIdentity(row.epoch, row.system_identifier, row.timeline)
