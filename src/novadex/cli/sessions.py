"""``novadex sessions``: who is signed in, from where, and signing them out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from novadex.cli.manners import AsJson, DataDir, new_app, on_instance, print_json

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from novadex.sessions.service import SessionService

T = TypeVar("T")
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the record.")]
UserId = Annotated[str, typer.Argument(metavar="USER", help="Id of the user.")]


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    group = new_app("Who is signed in, from where, and signing them out.")
    group.command("list")(list_sessions)
    group.command("revoke")(revoke)
    group.command("revoke-all")(revoke_all)
    group.command("revoke-everybody")(revoke_everybody)
    app.add_typer(group, name="sessions")


def list_sessions(user: UserId, as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """The sessions of a user that have not ended, the last used first."""
    sessions = _with_service(data_dir, lambda service: service.list(user))
    if as_json:
        print_json(sessions)
        return
    for session in sessions:
        ends = min(session.idle_expires_at, session.expires_at)
        print(
            f"{session.id}  {session.method:<8}  used {session.last_used_at:%Y-%m-%d %H:%M}"
            f"  ends {ends:%Y-%m-%d %H:%M}  {session.address or '-':<15}  {session.device or '-'}"
        )


def revoke(
    session: Annotated[str, typer.Argument(metavar="SESSION", help="Id of the session.")],
    reason: Reason = "revoked by an operator",
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """End one session. Every process refuses it within 250 ms."""
    _with_service(data_dir, lambda service: service.revoke(session, reason=reason))
    if as_json:
        print_json({"session": session, "revoked": True})
    else:
        print(f"Session {session} has ended.")


def revoke_all(
    user: UserId,
    reason: Reason = "revoked by an operator",
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """End all sessions of a user."""
    revoked = _with_service(data_dir, lambda service: service.revoke_all(user, reason=reason))
    if as_json:
        print_json({"user": user, "revoked": revoked})
    else:
        print(f"{revoked} sessions of {user} have ended.")


def revoke_everybody(
    yes: Annotated[bool, typer.Option("--yes", help="Yes, all users.")] = False,
    reason: Reason = "revoked by an operator",
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """End all sessions of all users. API keys stay."""
    from novadex.errors import UsageError

    if not yes:
        raise UsageError("Everybody has to sign in again.", hint="If you mean it, add --yes.")
    revoked = _with_service(data_dir, lambda service: service.revoke_everybody(reason=reason))
    if as_json:
        print_json({"revoked": revoked})
    else:
        print(f"{revoked} sessions have ended.")


def _with_service(data_dir: Path | None, work: Callable[[SessionService], Awaitable[T]]) -> T:
    from novadex.sessions.service import SessionService

    return on_instance(data_dir, lambda db, actor: work(SessionService(db, actor=actor)))
