"""Who acts: a user by a session or an API key, or a program that is trusted as a whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from novadex.errors import PermissionDeniedError

if TYPE_CHECKING:
    from novadex.storage.session import Session


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts, and what they may do. Services check it in every call.

    >>> Actor.program("cli").may("users.erase_any")
    True
    >>> trader = Actor("user:0191", UUID(int=7), "trader", frozenset({"trades.read_own"}))
    >>> trader.may("trades.read_any")
    False
    """

    name: str
    """As the audit log names it: ``user:ID``, ``api_key:ID``, ``program:NAME``."""
    user_id: UUID | None = None
    role: str | None = None
    permissions: frozenset[str] = frozenset()
    trusted: bool = field(default=False, repr=False)
    """A program of the venue itself, which may do everything; never made from a request."""
    authenticated_at: datetime | None = None
    """When the user last proved who they are; None for API keys and programs."""
    origin: str = ""
    """Who runs the program, as ``OS_USER@HOST``, where a person does: the audit log says so beside the name."""

    @classmethod
    def program(cls, name: str, *, origin: str = "") -> Actor:
        """A program of the venue itself: the worker, the command line, or code that embeds the services."""
        return cls(f"program:{name}", trusted=True, origin=origin)

    @property
    def acts_for_itself(self) -> bool:
        """Whether no person is behind it, so that what it looks at is nobody's curiosity."""
        return self.trusted and not self.origin

    def may(self, permission: str) -> bool:
        return self.trusted or permission in self.permissions

    def sees_personal_of(self, owner: UUID) -> bool:
        """Whether what is personal of this user is for the actor's eyes."""
        return owner == self.user_id or self.may("users.read_personal")

    def require(self, permission: str) -> None:
        """Raise ``PermissionDeniedError`` unless the actor may do it."""
        if not self.may(permission):
            raise PermissionDeniedError(
                f"{self.name} ({self.role or 'no role'}) may not do this: it needs {permission}.",
                hint="An administrator decides what roles may do.",
                permission=permission,
            )

    def require_for(self, owner: UUID, own: str, any_: str) -> None:
        """Raise unless the actor may do it to records of this owner: ``own`` for their own, ``any_`` for
        anybody's. It is checked before the record is looked up, so that the answer tells nothing of it."""
        self.require(own if owner == self.user_id and not self.may(any_) else any_)


SERVICE = Actor.program("service")
"""Who acts where nobody was named: the program that embeds the services."""


async def act_as(session: Session, actor: Actor) -> None:
    """Tell the database who acts in this transaction: the triggers of the audit log write it down."""
    await session.execute(
        "SELECT set_config('novadex.actor', $1, true), set_config('novadex.origin', $2, true)",
        (actor.name, actor.origin),
    )
