"""Whose portfolio somebody may see."""

from __future__ import annotations

from typing import Any, Literal, overload
from uuid import UUID

from novadex.errors import PermissionDeniedError, ValidationError
from novadex.ids import parse_id
from novadex.roles.actor import Actor

OWN, ANY = "portfolio.read_own", "portfolio.read_any"
SNAPSHOT_OWN, SNAPSHOT_ANY = "portfolio.snapshot_own", "portfolio.snapshot_any"


@overload
def owner_for(actor: Actor, user_id: UUID | str | None, *, needed: Literal[True]) -> UUID: ...
@overload
def owner_for(actor: Actor, user_id: UUID | str | None) -> UUID | None: ...
def owner_for(actor: Actor, user_id: Any, *, needed: bool = False) -> UUID | None:
    """The user who is asked about: the one that is named, else the actor. Without ``needed``: whose rows alone the
    actor may see, None: anybody's. Raises ``PermissionDeniedError``."""
    owner = parse_id(user_id, "user_id") if user_id is not None else None
    if actor.may(ANY):
        if needed and owner is None:
            owner = actor.user_id
            if owner is None:
                raise ValidationError("user_id is missing.", field="user_id", hint="Name whose portfolio it is.")
        return owner
    actor.require(OWN)
    if actor.user_id is None:
        raise PermissionDeniedError(f"{actor.name} has no portfolio of its own.", permission=ANY)
    actor.require_for(owner or actor.user_id, OWN, ANY)
    return actor.user_id
