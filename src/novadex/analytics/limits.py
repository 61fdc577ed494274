"""Bounds for rebuild and verify, which may take hours where a request takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from novadex.storage.queries import load_queries

if TYPE_CHECKING:
    from novadex.storage.session import Session

SQL = load_queries(Path(__file__).with_name("limits.sql"))


async def allow_long_work(session: Session) -> None:
    """Raise the timeouts of this transaction: a day for statements, ten minutes of idling, a minute for locks."""
    await session.query(SQL.allow_long_work)
