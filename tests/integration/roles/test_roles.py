"""What each role may do: expected here by hand, and read from the database by every process."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import psycopg
import pytest

from novadex.errors import NotFoundError, PermissionDeniedError, ValidationError
from novadex.roles.actor import SERVICE, Actor
from novadex.roles.roles import Roles
from novadex.storage.connection import DatabaseConnection
from novadex.users.service import UserService
from tests.conftest import DatabasePair
from tests.integration.cli.command import Command
from tests.waiting import until

ROLES = ("user", "trader", "market_maker", "support", "auditor", "operator", "admin")
ADMIN_ONLY = ("admin",)
EVERYBODY = ROLES
STAFF = ("support", "auditor", "operator", "admin")
CUSTOMERS = ("user", "trader", "market_maker", "admin")
TRADERS = ("trader", "market_maker", "admin")
EXPECTED = {
    "users.create": ADMIN_ONLY,
    "users.read_own": EVERYBODY,
    "users.read_any": STAFF,
    "users.read_personal": ADMIN_ONLY,
    "users.update_own": EVERYBODY,
    "users.update_any": ADMIN_ONLY,
    "users.deactivate_own": CUSTOMERS,
    "users.deactivate_any": ADMIN_ONLY,
    "users.erase_own": CUSTOMERS,
    "users.erase_any": ADMIN_ONLY,
    "users.change_role": ADMIN_ONLY,
    "wallets.manage_own": CUSTOMERS,
    "wallets.manage_any": ADMIN_ONLY,
    "sessions.create_any": ADMIN_ONLY,
    "sessions.read_own": EVERYBODY,
    "sessions.read_any": STAFF,
    "sessions.revoke_own": EVERYBODY,
    "sessions.revoke_any": ("support", "operator", "admin"),
    "api_keys.manage_own": TRADERS,
    "api_keys.read_own": EVERYBODY,
    "api_keys.read_any": STAFF,
    "api_keys.revoke_own": EVERYBODY,
    "api_keys.revoke_any": ("support", "operator", "admin"),
    "markets.manage": ("operator", "admin"),
    "trades.create_own": TRADERS,
    "trades.create_any": ADMIN_ONLY,
    "trades.read_own": EVERYBODY,
    "trades.read_any": STAFF,
    "orders.place_own": TRADERS,
    "orders.place_any": ADMIN_ONLY,
    "orders.cancel_any": ("support", "operator", "admin"),
    "orders.read_own": EVERYBODY,
    "orders.read_any": STAFF,
    "orders.report": ("operator", "admin"),
    "markets.halt": ("operator", "admin"),
    "fees.manage": ("operator", "admin"),
    "pools.manage": ("operator", "admin"),
    "liquidity.report": ("operator", "admin"),
    "liquidity.read_own": EVERYBODY,
    "liquidity.read_any": STAFF,
    "portfolio.read_own": EVERYBODY,
    "portfolio.read_any": STAFF,
    "portfolio.snapshot_own": EVERYBODY,
    "portfolio.snapshot_any": ("operator", "admin"),
    "transfers.record": ("operator", "admin"),
    "prices.record": ("operator", "admin"),
    "roles.read": ("auditor", "operator", "admin"),
    "audit.read": ("auditor", "admin"),
    "audit.verify": ("auditor", "operator", "admin"),
    "keys.rotate": ("operator", "admin"),
    "cache.manage": ("operator", "admin"),
    "notifications.read_own": ROLES,
    "notifications.manage_own": ROLES,
    "notifications.send": ("operator", "admin"),
    "notifications.replay": ("operator", "admin"),
    "notifications.edit_templates": ("admin",),
}
DOCUMENT = Path(__file__).parents[3] / "docs/reference/roles.md"


def expected_of(role: str) -> set[str]:
    return {permission for permission, roles in EXPECTED.items() if role in roles}


async def test_the_table_names_every_role_and_every_permission(db: DatabaseConnection) -> None:
    assert {row.name for row in await db.query("SELECT name FROM roles")} == set(ROLES)
    assert {row.name for row in await db.query("SELECT name FROM permissions")} == set(EXPECTED)


async def test_every_role_has_exactly_the_permissions_of_the_table(db: DatabaseConnection) -> None:
    roles = db.companion(Roles)
    for role in ROLES:
        actor = Actor(f"user:{role}", None, role, await roles.permissions_of(role))
        for permission in EXPECTED:
            allowed = permission in expected_of(role)
            assert actor.may(permission) is allowed, f"{role} {permission}"
            if allowed:
                actor.require(permission)
            else:
                with pytest.raises(PermissionDeniedError) as caught:
                    actor.require(permission)
                assert caught.value.details["permission"] == permission


async def test_a_role_that_is_not_there_may_nothing(db: DatabaseConnection) -> None:
    assert await db.companion(Roles).permissions_of("king") == frozenset()


def test_what_is_written_in_the_reference_is_so() -> None:
    rows = re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \| (.*) \|$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    found = {
        name: tuple(role for role, cell in zip(ROLES, cells.split("|"), strict=True) if cell.strip() == "yes")
        for name, cells in rows
    }
    assert found == EXPECTED


async def test_a_change_is_heard_without_a_restart(db: DatabaseConnection, fresh_databases: DatabasePair) -> None:
    roles = db.companion(Roles)
    assert "audit.read" not in await roles.permissions_of("user")
    with psycopg.connect(fresh_databases.main_url("owner"), autocommit=True) as owner:
        owner.execute("INSERT INTO role_permissions VALUES ('user', 'audit.read')")

        async def allowed() -> bool:
            return "audit.read" in await roles.permissions_of("user")

        await until(allowed)
        owner.execute("DELETE FROM role_permissions WHERE role = 'user' AND permission = 'audit.read'")

        async def refused() -> bool:
            return not await allowed()

        await until(refused)


async def test_a_role_that_may_nothing_is_a_role(db: DatabaseConnection, fresh_databases: DatabasePair) -> None:
    users = UserService(db)
    user = await users.create_user()
    with pytest.raises(ValidationError, match="no role 'guest'"):
        await users.change_role(user.id, "guest")
    with psycopg.connect(fresh_databases.main_url("owner"), autocommit=True) as owner:
        owner.execute("INSERT INTO roles VALUES ('guest', 'Sees nothing yet')")
    await until(lambda: db.companion(Roles).exists("guest"))
    assert (await users.change_role(user.id, "guest")).role == "guest"
    assert [one.id for one in (await users.list_users(role="guest")).items] == [user.id]
    assert await db.companion(Roles).permissions_of("guest") == frozenset()


async def test_only_who_may_see_roles_sees_them(db: DatabaseConnection) -> None:
    roles = db.companion(Roles)
    listed = await roles.list(SERVICE)
    assert {role.name: set(role.permissions) for role in listed} == {role: expected_of(role) for role in ROLES}
    for role in ROLES:
        actor = Actor("user:1", None, role, await roles.permissions_of(role))
        if "roles.read" in expected_of(role):
            assert await roles.get("trader", actor) in listed
        else:
            with pytest.raises(PermissionDeniedError):
                await roles.list(actor)
            with pytest.raises(PermissionDeniedError):
                await roles.get("trader", actor)
    with pytest.raises(NotFoundError, match="novadex roles list"):
        await roles.get("king", SERVICE)


@pytest.fixture
def novadex(fresh_databases: DatabasePair, tmp_path: Path) -> Command:
    return Command(fresh_databases, tmp_path)


def test_the_command_lists_and_shows_roles(novadex: Command) -> None:
    listed: Any = novadex.json("roles", "list")
    assert {role["name"]: set(role["permissions"]) for role in listed} == {role: expected_of(role) for role in ROLES}
    assert novadex.json("roles", "show", "trader") in listed
    assert {line.split()[0] for line in novadex.run("roles", "list").stdout.splitlines()} == set(ROLES)
    shown = novadex.run("roles", "show", "operator").stdout
    assert set(re.findall(r"^  (\S+)$", shown, re.MULTILINE)) == expected_of("operator")
    assert "novadex roles list" in novadex.run("roles", "show", "king", code=2).stderr
