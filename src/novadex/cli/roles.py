"""``novadex roles``: what users can be, and what they may do then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from novadex.cli.manners import AsJson, DataDir, new_app, on_instance, print_json

if TYPE_CHECKING:
    from novadex.roles.roles import Roles
    from novadex.storage.connection import DatabaseConnection


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    group = new_app("What users can be, and what they may do then.")
    group.command("list")(list_roles)
    group.command("show")(show)
    app.add_typer(group, name="roles")


def list_roles(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """All roles, the one that may do least first."""
    roles = on_instance(data_dir, lambda db, actor: _roles(db).list(actor))
    if as_json:
        print_json(roles)
        return
    for role in roles:
        print(f"{role.name:<14} {len(role.permissions):>3} permissions  {role.description}")


def show(
    name: Annotated[str, typer.Argument(metavar="ROLE", help="Such as trader.")],
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """One role and its permissions."""
    role = on_instance(data_dir, lambda db, actor: _roles(db).get(name, actor))
    if as_json:
        print_json(role)
        return
    print(f"{role.name}: {role.description}")
    for permission in role.permissions:
        print(f"  {permission}")


def _roles(db: DatabaseConnection) -> Roles:
    from novadex.roles.roles import Roles

    return db.companion(Roles)
