"""Reads of people, keys and roles that lose their connection are tried again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from novadex.api_keys.records import NewApiKey
from novadex.api_keys.service import ApiKeyService
from novadex.roles.roles import Roles
from novadex.storage.connection import DatabaseConnection
from novadex.users.records import User
from novadex.users.service import UserService
from tests.conftest import DatabasePair
from tests.integration.users.people import EVM
from tests.waiting import until

END_WHO_WAITS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND usename = 'novadex_app' AND wait_event_type = 'Lock'"
)
Read = Callable[[DatabaseConnection, User, NewApiKey], Awaitable[Any]]
READS: dict[str, tuple[str, Read]] = {
    "a user": ("users", lambda db, user, _: UserService(db).get_user(user.id)),
    "a name": ("users", lambda db, *_: UserService(db).get_user_by_username("ada")),
    "a wallet": ("wallets", lambda db, *_: UserService(db).get_user_by_wallet(EVM[0])),
    "a key": ("api_keys", lambda db, _, key: ApiKeyService(db).validate(key.key)),
    "keys": ("api_keys", lambda db, user, _: ApiKeyService(db).list(user.id)),
    "roles": ("role_permissions", lambda db, *_: db.companion(Roles).permissions_of("user")),
}


@pytest.mark.parametrize("what", READS)
async def test_a_read_that_loses_its_connection_is_tried_again(fresh_databases: DatabasePair, what: str):
    table, read = READS[what]
    async with fresh_databases.connection() as db:
        user = await UserService(db).create_user(username="ada", wallet_address=EVM[0], role="trader")
        key = await ApiKeyService(db).create(user.id, name="bot", permissions=["trades.read_own"])
    async with fresh_databases.connection() as db:
        with (
            psycopg.connect(fresh_databases.main_url(None)) as holder,
            psycopg.connect(fresh_databases.main_url(None), autocommit=True) as superuser,
        ):
            holder.execute(SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(Identifier(table)))
            reading = asyncio.ensure_future(read(db, user, key))
            await until(lambda: superuser.execute(END_WHO_WAITS).fetchall() == [(True,)])
        assert await reading
