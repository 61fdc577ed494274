"""``novadex api-keys``: keys by which programs act for a user."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from novadex.cli.manners import AsJson, DataDir, new_app, on_instance, print_json, say

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from novadex.api_keys.records import NewApiKey
    from novadex.api_keys.service import ApiKeyService

T = TypeVar("T")
UserId = Annotated[str, typer.Argument(metavar="USER", help="Id of the user.")]
KeyId = Annotated[str, typer.Argument(metavar="KEY", help="Id of the key, not the key itself.")]


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    group = new_app("Keys by which programs act for a user.")
    group.command("create")(create)
    group.command("list")(list_keys)
    group.command("rotate")(rotate)
    group.command("revoke")(revoke)
    app.add_typer(group, name="api-keys")


def create(
    user: UserId,
    *,
    name: Annotated[str, typer.Option("--name", metavar="TEXT", help="What it is for.")],
    permissions: Annotated[
        list[str], typer.Option("--permission", metavar="NAME", help="What it may do; give it once for each.")
    ],
    networks: Annotated[
        list[str] | None,
        typer.Option("--from", metavar="NETWORK", help="From where, such as 192.0.2.0/24. Default: everywhere."),
    ] = None,
    days: Annotated[int, typer.Option("--days", min=1, max=366, help="How long it lives.")] = 90,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Make a key. It is printed this once, and only its hash is stored."""
    made = _with_service(
        data_dir,
        lambda service: service.create(
            user, name=name, permissions=permissions, allowed_addresses=networks or [], life_days=days
        ),
    )
    _show_new(made, as_json)


def list_keys(
    user: UserId,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1_000)] = 100,
    cursor: Annotated[str | None, typer.Option("--cursor", help="The next of the page before.")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """The keys of a user, the newest first, those that ended too."""
    page = _with_service(data_dir, lambda service: service.list(user, limit=limit, cursor=cursor))
    if as_json:
        print_json(page)
        return
    for key in page.items:
        state = f"revoked ({key.revoked_reason})" if key.revoked_at else f"until {key.expires_at:%Y-%m-%d}"
        print(f"{key.id}  {key.key_start}...  {state:<24}  {key.name or '-'}  {', '.join(key.permissions)}")
    if page.next:
        say(f"More: --cursor {page.next}")


def rotate(
    key: KeyId,
    overlap_s: Annotated[
        int, typer.Option("--overlap", min=0, max=604_800, metavar="SECONDS", help="How long the old one lives on.")
    ] = 86_400,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """A new key in the place of another, with the same rights. It is printed this once."""
    _show_new(_with_service(data_dir, lambda service: service.rotate(key, overlap_s=overlap_s)), as_json)


def revoke(
    key: KeyId,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the record.")] = "revoked",
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """End a key. Every process refuses it within 250 ms."""
    _with_service(data_dir, lambda service: service.revoke(key, reason=reason))
    if as_json:
        print_json({"key": key, "revoked": True})
    else:
        print(f"API key {key} has ended.")


def _show_new(made: NewApiKey, as_json: bool) -> None:
    if as_json:
        print_json(made)
        return
    print(made.key)
    say(f"API key {made.api_key.id}, until {made.api_key.expires_at:%Y-%m-%d}. It is not shown again.")


def _with_service(data_dir: Path | None, work: Callable[[ApiKeyService], Awaitable[T]]) -> T:
    from novadex.api_keys.service import ApiKeyService

    return on_instance(data_dir, lambda db, actor: work(ApiKeyService(db, actor=actor)))
