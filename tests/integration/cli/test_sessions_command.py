"""``novadex sessions`` and ``novadex api-keys``."""

from __future__ import annotations

import json
from collections.abc import Callable
from uuid import UUID

import pytest

from novadex.api_keys.service import ApiKeyService
from novadex.errors import NotAuthenticatedError, SessionEndedError
from novadex.sessions.service import SessionService
from novadex.storage.connection import DatabaseConnection
from novadex.users.service import UserService
from tests.integration.cli.command import Command

UNKNOWN = "0190a0b0-0000-7000-8000-000000000001"


async def test_sessions_are_listed_and_ended(
    novadex: Command, db: DatabaseConnection, users: Callable[[int], list[UUID]]
):
    [user] = users(1)
    service = SessionService(db)
    first, second, third = [await service.create(user, device=f"Device {n}", address="192.0.2.7") for n in range(3)]
    listed = novadex.json("sessions", "list", str(user))
    assert {one["device"] for one in listed} == {"Device 0", "Device 1", "Device 2"}
    assert "token" not in json.dumps(listed)
    assert "Device 1" in novadex.run("sessions", "list", str(user)).stdout
    novadex.run("sessions", "revoke", str(first.session.id), "--reason", "lost laptop")
    with pytest.raises(SessionEndedError):
        await service.validate(first.token)
    [row] = await db.query("SELECT revoked_reason FROM user_sessions WHERE id = $1", [first.session.id])
    assert row.revoked_reason == "lost laptop"
    assert novadex.json("sessions", "revoke-all", str(user)) == {"user": str(user), "revoked": 2}
    for session in (second, third):
        with pytest.raises(SessionEndedError):
            await service.validate(session.token)
    [row] = await db.query("SELECT DISTINCT actor FROM audit_log WHERE action = 'user_sessions.updated'")
    assert row.actor == "program:cli"


async def test_everybody_is_signed_out_by_whoever_says_yes(
    novadex: Command, db: DatabaseConnection, users: Callable[[int], list[UUID]]
):
    service = SessionService(db)
    made = [await service.create(user) for user in users(3) for _ in range(2)]
    assert novadex.json("sessions", "revoke-everybody", code=2)["error"]["code"] == "USAGE"
    await service.validate(made[0].token)
    done = novadex.json("sessions", "revoke-everybody", "--yes", "--reason", "keys leaked")
    assert done == {"revoked": 6}
    for session in made:
        with pytest.raises(SessionEndedError):
            await service.validate(session.token)
    assert "0 sessions have ended" in novadex.run("sessions", "revoke-everybody", "--yes").stdout
    rows = await db.query(
        "SELECT actor, detail FROM audit_log WHERE action = 'sessions.revoked_everywhere' ORDER BY id"
    )
    assert [(row.actor, row.detail["reason"]) for row in rows] == [
        ("program:cli", "keys leaked"),
        ("program:cli", "revoked by an operator"),
    ]


async def test_api_keys_are_made_listed_rotated_and_ended(novadex: Command, db: DatabaseConnection):
    user = str((await UserService(db).create_user(role="trader")).id)
    service = ApiKeyService(db)
    command = ("api-keys", "create", user, "--name", "bot", "--permission", "trades.read_own")
    made = novadex.json(*command, "--from", "192.0.2.0/24", "--days", "7")
    actor = await service.validate(made["key"], "192.0.2.9")
    assert actor.permissions == {"trades.read_own"}
    with pytest.raises(NotAuthenticatedError):
        await service.validate(made["key"], "198.51.100.1")
    shown = novadex.run(*command)
    assert (await service.validate(shown.stdout.strip())).user_id == UUID(user)
    key_id = made["api_key"]["id"]
    rotated = novadex.json("api-keys", "rotate", key_id, "--overlap", "0")
    await service.validate(rotated["key"], "192.0.2.9")
    with pytest.raises(NotAuthenticatedError):
        await service.validate(made["key"], "192.0.2.9")
    novadex.run("api-keys", "revoke", rotated["api_key"]["id"], "--reason", "leaked")
    with pytest.raises(NotAuthenticatedError):
        await service.validate(rotated["key"], "192.0.2.9")
    page = novadex.json("api-keys", "list", user, "--limit", "2")
    assert len(page["items"]) == 2
    rest = novadex.json("api-keys", "list", user, "--limit", "2", "--cursor", page["next"])
    assert (len(rest["items"]), rest["next"]) == (1, None)
    assert made["key"] not in json.dumps([page, rest])
    assert "revoked (leaked)" in novadex.run("api-keys", "list", user).stdout


def test_what_is_wrong_is_said(novadex: Command, users: Callable[[int], list[UUID]]):
    [user] = users(1)
    for arguments, code in (
        (("sessions", "list", "x"), "INVALID_VALUE"),
        (("sessions", "revoke", UNKNOWN), "NOT_FOUND"),
        (("sessions", "revoke-all", "' OR 1=1 --"), "INVALID_VALUE"),
        (("api-keys", "revoke", UNKNOWN), "NOT_FOUND"),
        (("api-keys", "rotate", UNKNOWN), "NOT_FOUND"),
        (("api-keys", "create", UNKNOWN, "--name", "x", "--permission", "trades.read_own"), "NOT_FOUND"),
        (("api-keys", "create", str(user), "--name", "x", "--permission", "users.erase_any"), "PERMISSION_DENIED"),
        (
            ("api-keys", "create", str(user), "--name", "x", "--permission", "trades.read_own", "--from", "x"),
            "INVALID_VALUE",
        ),
    ):
        assert novadex.json(*arguments, code=2)["error"]["code"] == code, arguments
    novadex.run("api-keys", "create", str(user), code=2)
