"""``novadex notifications``: what users are told, what could not be delivered, and the words of it."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from novadex.cli.manners import AsJson, DataDir, new_app, on_instance, print_json, say

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from novadex.notifications.service import NotificationService
    from novadex.roles.actor import Actor
    from novadex.storage.connection import DatabaseConnection

T = TypeVar("T")


class Ways(StrEnum):
    """Channels that leave the house."""

    EMAIL = "email"
    WEBHOOK = "webhook"


Limit = Annotated[int, typer.Option("--limit", help="How many at most.", min=1, max=500)]
Cursor = Annotated[
    str | None, typer.Option("--cursor", metavar="CURSOR", help="The next of the page before this one.")
]
Way = Annotated[Ways | None, typer.Option("--channel", help="Only this channel.")]
Kind = Annotated[str, typer.Argument(metavar="KIND", help="Such as order_filled.")]
ChannelName = Annotated[str, typer.Argument(metavar="CHANNEL", help="in_app, email or webhook.")]
Locale = Annotated[str, typer.Argument(metavar="LOCALE", help="Such as en, de or de-AT.")]


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    group = new_app("What users are told, what could not be delivered, and the words of it.")
    group.command("list")(list_notifications)
    group.command("send")(send)
    group.command("dead")(dead)
    group.command("replay")(replay)
    templates = new_app("The words of notifications.")
    templates.command("list")(list_templates)
    templates.command("put")(put_template)
    templates.command("delete")(delete_template)
    group.add_typer(templates, name="templates")
    app.add_typer(group, name="notifications")


def list_notifications(  # noqa: PLR0917 - typer takes arguments and options as they stand
    user: Annotated[str, typer.Argument(metavar="USER", help="Id of the user.")],
    unread: Annotated[bool, typer.Option("--unread", help="Only what the user has not read.")] = False,
    limit: Limit = 50,
    cursor: Cursor = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """A page of what a user was told, the newest first: that it was looked at is written to the audit log."""

    async def work(db: DatabaseConnection, actor: Actor):
        from novadex.audit.acts import record_act
        from novadex.ids import parse_id
        from novadex.notifications.service import NotificationService
        from novadex.roles.actor import act_as

        page = await NotificationService(db, actor=actor).list(user, unread=unread, limit=limit, cursor=cursor)
        async with db.transaction() as session:
            await act_as(session, actor)
            await record_act(session, actor, "notifications.listed", f"user:{parse_id(user, 'user')}", {})
        return page

    page = on_instance(data_dir, work)
    if as_json:
        print_json(page)
        return
    for item in page.items:
        state = "read" if item.read_at else "new"
        print(f"{item.id}  {item.created_at:%Y-%m-%d %H:%M}  {state:<4}  {item.kind:<22}  {item.title}")
    if page.next is not None:
        say(f"There are more: --cursor {page.next}")


def send(  # noqa: PLR0917 - typer takes arguments and options as they stand
    title: Annotated[str, typer.Argument(metavar="TITLE", help="First line.")],
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Text.")],
    user: Annotated[str | None, typer.Option("--user", metavar="USER", help="To this user.")] = None,
    role: Annotated[str | None, typer.Option("--role", metavar="ROLE", help="To all of this role.")] = None,
    everybody: Annotated[bool, typer.Option("--all", help="To everybody.")] = False,
    id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="A UUIDv7 of your own, so that a retry sends nothing.")
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Send a notice to one user, to all of a role, or to everybody. The worker tells the many, in batches."""
    from novadex.errors import UsageError

    if sum((user is not None, role is not None, everybody)) != 1:
        raise UsageError("To whom?", hint="Name one of --user, --role and --all.")
    if user is not None:
        told = _with_service(data_dir, lambda service: service.notices.send_to(user, title, text, id=id))
        if as_json:
            print_json({"user": user, "told": told})
        else:
            print(
                f"User {user} was told." if told else f"User {user} was not told: it was sent before, or is unwanted."
            )
        return
    notice = _with_service(data_dir, lambda service: service.notices.send(title, text, role=role, id=id))
    if as_json:
        print_json(notice)
    else:
        print(f"Notice {notice.id} to {f'all of the role {role}' if role else 'everybody'}: the worker sends it.")


def dead(
    channel: Way = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """A page of the deliveries that were given up, the newest first."""
    way = channel.value if channel else None
    page = _with_service(data_dir, lambda service: service.deliveries.dead(channel=way, limit=limit, cursor=cursor))
    if as_json:
        print_json(page)
        return
    for item in page.items:
        print(
            f"{item.notification_id}  {item.channel:<7}  user {item.user_id}  {item.kind:<22}"
            f"  {item.attempts} attempts  {item.last_error or '-'}"
        )
    if page.next is not None:
        say(f"There are more: --cursor {page.next}")
    elif not page.items:
        say("Nothing was given up.")


def replay(
    notification: Annotated[
        str | None, typer.Argument(metavar="NOTIFICATION", help="Id of the notification.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="The oldest that were given up, 1,000 at most.")] = False,
    channel: Way = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Begin another series of attempts for what was given up. Receivers see the same id as before."""
    from novadex.errors import UsageError

    if (notification is not None) == every:
        raise UsageError("Replay what?", hint="Name a notification, or --all.")
    way = channel.value if channel else None
    replayed = _with_service(data_dir, lambda service: service.deliveries.replay(notification, channel=way))
    if as_json:
        print_json({"replayed": replayed})
    else:
        print(f"{replayed:,} deliveries begin anew.")


def list_templates(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """All words, and the placeholders of each kind."""

    async def work(service: NotificationService):
        return await service.templates.list(), await service.templates.kinds()

    templates, kinds = _with_service(data_dir, work)
    if as_json:
        print_json({"templates": templates, "kinds": kinds})
        return
    for kind in kinds:
        print(f"{kind.name}: {kind.description}. Placeholders: {', '.join(kind.fields)}")
        for template in templates:
            if template.kind == kind.name:
                print(f"  {template.channel:<7}  {template.locale:<5}  {template.subject}")


def put_template(  # noqa: PLR0917 - typer takes arguments and options as they stand
    kind: Kind,
    channel: ChannelName,
    locale: Locale,
    subject: Annotated[str, typer.Option("--subject", metavar="TEXT", help="First line, with {placeholders}.")],
    body: Annotated[str, typer.Option("--body", metavar="TEXT", help="Plain text, with {placeholders}.")],
    html: Annotated[
        str | None, typer.Option("--html", metavar="HTML", help="The same as HTML, for email only.")
    ] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Add words, or change them."""
    template = _with_service(
        data_dir,
        lambda service: service.templates.put(kind, channel, locale, subject=subject, body=body, html=html),
    )
    if as_json:
        print_json(template)
    else:
        print(f"{template.kind} by {template.channel} in {template.locale}: {template.subject}")


def delete_template(
    kind: Kind, channel: ChannelName, locale: Locale, as_json: AsJson = False, data_dir: DataDir = None
) -> None:
    """Take words away; what they fall back to is used then."""
    _with_service(data_dir, lambda service: service.templates.delete(kind, channel, locale))
    if as_json:
        print_json({"kind": kind, "channel": channel, "locale": locale, "deleted": True})
    else:
        print(f"The words of {kind} by {channel} in {locale} are gone.")


def _with_service(data_dir: Path | None, work: Callable[[NotificationService], Awaitable[T]]) -> T:
    from novadex.notifications.service import NotificationService

    return on_instance(data_dir, lambda db, actor: work(NotificationService(db, actor=actor)))
