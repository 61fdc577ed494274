"""What was acknowledged outlives the server: revocations are on the disk before anybody hears of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from novadex.api_keys.service import ApiKeyService
from novadex.errors import NotAuthenticatedError, SessionEndedError
from novadex.sessions.service import SessionService
from novadex.storage.connection import DatabaseConnection
from novadex.storage.migrations import migrate
from novadex.users.service import UserService
from tests.conftest import DatabasePair
from tests.servers import PostgresServer

pytestmark = pytest.mark.on_redis_too

COMMIT_IN_MEMORY = {"synchronous_commit": "off", "wal_writer_delay": "10s"}
"""A server that acknowledges what it did not write yet, and takes its time."""


async def test_a_revocation_is_durable_before_it_is_acknowledged(make_postgres: Callable[..., PostgresServer]):
    server = make_postgres(**COMMIT_IN_MEMORY)
    pair = DatabasePair(server, server.make_database("main", owner="novadex_owner"), "analytics")
    migrate(pair.main_url("owner"), "main")
    async with pair.connection() as db:
        user = await UserService(db).create_user(role="trader")
        sessions, keys = SessionService(db), ApiKeyService(db)
        one, two, three = [await sessions.create(user.id) for _ in range(3)]
        key = await keys.create(user.id, name="bot", permissions=["trades.read_own"])
        for revoke in (
            lambda: sessions.revoke(one.session.id),
            lambda: sessions.revoke_all(user.id, but=three.session.id),
            lambda: keys.revoke(key.api_key.id),
        ):
            await revoke()
            server.kill()
            server.start()
    async with pair.connection() as db:
        sessions, keys = SessionService(db), ApiKeyService(db)
        for revoked in (one, two):
            with pytest.raises(SessionEndedError):
                await sessions.validate(revoked.token)
        with pytest.raises(NotAuthenticatedError):
            await keys.validate(key.key)
        await sessions.validate(three.token)


@pytest.mark.parametrize(("wanted", "holds"), [("off", "on"), ("local", "local"), ("remote_apply", "remote_apply")])
@pytest.mark.parametrize("pgbouncer", [False, True])
async def test_no_role_commits_in_memory_and_who_waits_for_replicas_still_does(
    fresh_databases: DatabasePair, wanted: str, holds: str, pgbouncer: bool
):
    """``pgbouncer``: as it is done for each transaction."""
    endpoints = fresh_databases.endpoints()
    url = f"{endpoints.main}?options=-csynchronous_commit%3D{wanted}"
    settings = fresh_databases.connection(pgbouncer=pgbouncer).settings
    async with DatabaseConnection(replace(endpoints, main=url), settings) as db:
        assert await db.main.value("SELECT current_setting('synchronous_commit')") == holds
        async with db.transaction() as session:
            assert await session.value("SELECT current_setting('synchronous_commit')") == holds
