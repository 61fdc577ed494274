"""Acts that leave no trace in a table: they are written to the audit log by hand, in the transaction of the act."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from novadex.roles.actor import act_as

if TYPE_CHECKING:
    from uuid import UUID

    from novadex.roles.actor import Actor
    from novadex.storage.connection import DatabaseConnection
    from novadex.storage.session import Session


async def record_act(session: Session, actor: Actor, action: str, subject: str, detail: Mapping[str, Any]) -> None:
    """Write down who did what to what. ``detail`` holds no personal data and no secrets.

    Changes of users, sessions, keys, roles and markets are written by triggers; this is for the rest, such as
    reading somebody's personal data or taking a backup.
    """
    whole = {**detail, "from": actor.origin} if actor.origin else dict(detail)
    await session.execute(
        "INSERT INTO audit_log (actor, action, subject, detail) VALUES ($1, $2, $3, $4::text::jsonb)",
        (actor.name, action, subject, msgspec.json.encode(whole).decode()),
    )


async def record_look(
    db: DatabaseConnection,
    actor: Actor,
    action: str,
    owner: UUID | None = None,
    detail: Mapping[str, Any] | None = None,
    *,
    subject: str | None = None,
) -> None:
    """Write down that staff looked at what is somebody else's, before it is shown to them; also on the command line.

    Looking at one's own is nobody's business, and a program of the venue that no person runs acts for itself.
    """
    if actor.acts_for_itself or (owner is not None and owner == actor.user_id):
        return
    async with db.transaction() as session:
        await act_as(session, actor)
        await record_act(session, actor, action, subject or (f"user:{owner}" if owner else "users"), detail or {})
