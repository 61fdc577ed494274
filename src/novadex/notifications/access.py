"""Whose notifications they are: nobody sees or changes those of others, staff neither."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from uuid import UUID

from novadex.errors import AccessError, NotFoundError, PermissionDeniedError
from novadex.ids import parse_id
from novadex.notifications.store import QUERIES
from novadex.roles.actor import Actor, act_as

if TYPE_CHECKING:
    from novadex.storage.connection import DatabaseConnection
    from novadex.storage.session import Session

Own = Callable[[UUID | str, str], UUID]
"""The user of an id, who must be the actor and have the permission."""


def own_of(actor: Actor) -> Own:
    """Programs of the venue act for anybody."""

    def own(user_id: UUID | str, permission: str) -> UUID:
        user = parse_id(user_id, "user_id")
        actor.require(permission)
        if not actor.trusted and actor.user_id != user:
            raise PermissionDeniedError(
                f"{actor.name} may not see or change what others are told.", hint="Everybody keeps their own."
            )
        return user

    return own


@asynccontextmanager
async def writing(db: DatabaseConnection, actor: Actor, user: UUID) -> AsyncIterator[Session]:
    """A transaction of the actor that holds an active user."""
    async with db.transaction() as session:
        await act_as(session, actor)
        row = await session.one(QUERIES.lock_user, (user,))
        if row is None:
            raise NotFoundError(f"There is no user {user}.", hint="Is it the id of this instance?", user_id=user)
        if row.status != "active":
            raise AccessError(
                f"The user {user} is {row.status}.", hint="Only active users decide what they are told."
            )
        yield session
