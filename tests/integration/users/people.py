"""Who the tests of users act as, and what they compare."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any
from uuid import UUID

import base58

from novadex.errors import NovaDexError
from novadex.ids import uuid7
from novadex.roles.actor import Actor
from novadex.roles.roles import Roles
from novadex.storage.connection import DatabaseConnection
from novadex.users.records import User
from novadex.users.service import UserService

EVM = (
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
    "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
    "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
)
SOLANA = "So11111111111111111111111111111111111111112"


def solana_address(number: int) -> str:
    return base58.b58encode(number.to_bytes(32, "big")).decode()


def evm_address(number: int) -> str:
    """In small letters, as many write it."""
    return f"0x{number:040x}"


async def actor_of(db: DatabaseConnection, user_id: UUID, role: str) -> Actor:
    """A user who signed in."""
    return Actor(f"user:{user_id}", user_id, role, await db.companion(Roles).permissions_of(role))


async def as_role(service: UserService, db: DatabaseConnection, role: str) -> tuple[User, UserService]:
    """A new user of a role, and the service on their behalf."""
    user = await service.create_user(username=f"{role}-{uuid7().hex[-12:]}", role=role)
    return user, service.acting_as(await actor_of(db, user.id, role))


async def outcome(call: Awaitable[Any]) -> Any:
    """The answer, or the error that this package raised: nothing of the driver gets through."""
    try:
        return await call
    except NovaDexError as error:
        return error
