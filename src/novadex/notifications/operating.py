"""What the staff does: notices, deliveries that were given up, the words of notifications."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from uuid_utils.compat import uuid7

from novadex.audit.acts import record_act
from novadex.errors import ConflictError, NotFoundError, ValidationError
from novadex.ids import parse_id
from novadex.notifications.causes import notice_data
from novadex.notifications.checks import LIMIT, check_channel, check_limit, check_new_id, check_text, check_way
from novadex.notifications.making import Maker, count_made
from novadex.notifications.records import Delivery, Draft, Kind, Notice, Template
from novadex.notifications.store import QUERIES
from novadex.notifications.texts import TITLE_MAX, check_template
from novadex.roles.actor import Actor, act_as
from novadex.roles.roles import Roles
from novadex.trading.records import Page

if TYPE_CHECKING:
    from novadex.storage.connection import DatabaseConnection

NOTICE_MAX = 5_000
REPLAYED_AT_ONCE_MAX = 1_000
LAST_CURSOR = (UUID(int=(1 << 128) - 1), "")


class Notices:
    """What the venue tells its users."""

    def __init__(self, db: DatabaseConnection, actor: Actor) -> None:
        self._db = db
        self._actor = actor

    async def send(self, title: str, text: str, *, role: str | None = None, id: UUID | str | None = None) -> Notice:
        """Tell all users, or all of a role; the worker does it, in batches. Needs ``notifications.send``. With the
        caller's own ``id`` (UUIDv7) a retry sends nothing twice."""
        self._actor.require("notifications.send")
        title, text = check_text(title, "title", TITLE_MAX), check_text(text, "text", NOTICE_MAX)
        if role is not None and not (isinstance(role, str) and await self._db.companion(Roles).permissions_of(role)):
            raise ValidationError("There is no such role.", field="role", hint="novadex roles list shows them.")
        notice_id = check_new_id(id) if id is not None else uuid7()
        async with self._db.transaction() as session:
            await act_as(session, self._actor)
            await session.execute(QUERIES.insert_notice, (notice_id, role, title, text))
            [found] = await session.made(Notice, QUERIES.notice, (notice_id,))
        if (found.role, found.title, found.text) != (role, title, text):
            raise ConflictError(f"The id {notice_id} is that of another notice.", hint="Use another id.", field="id")
        return found

    async def send_to(self, user_id: UUID | str, title: str, text: str, *, id: UUID | str | None = None) -> bool:
        """Tell one user, now; returns whether they were told: not a second time with the same ``id``. Needs
        ``notifications.send``."""
        self._actor.require("notifications.send")
        user = parse_id(user_id, "user_id")
        title, text = check_text(title, "title", TITLE_MAX), check_text(text, "text", NOTICE_MAX)
        cause = check_new_id(id) if id is not None else uuid7()
        draft = Draft(user, "system_notice", str(cause), notice_data(title, text))
        async with self._db.transaction() as session:
            await act_as(session, self._actor)
            if await session.one(QUERIES.user_role, (user,)) is None:
                raise NotFoundError(f"There is no user {user}.", hint="Is it the id of this instance?", user_id=user)
            made = await Maker(self._db.settings).make(session, [draft])
            detail = {"user": str(user), "notice": str(cause)}
            await record_act(session, self._actor, "notifications.sent", f"user:{user}", detail)
        count_made(made)
        return made.total() > 0


class Deliveries:
    """Deliveries that were given up. Needs ``notifications.replay``."""

    def __init__(self, db: DatabaseConnection, actor: Actor) -> None:
        self._db = db
        self._actor = actor

    async def dead(
        self, *, channel: str | None = None, limit: int = LIMIT, cursor: str | None = None
    ) -> Page[Delivery]:
        """A page of them, the newest first, without words and addresses."""
        self._actor.require("notifications.replay")
        count, way = check_limit(limit), check_way(channel) if channel is not None else None
        below = LAST_CURSOR if cursor is None else _cursor_of(cursor)
        found = await self._db.main.made(Delivery, QUERIES.deliveries, (*below, way, count + 1), read_only=True)
        items = found[:count]
        more = len(found) > count
        return Page(items, f"{items[-1].notification_id}/{items[-1].channel}" if more else None)

    async def replay(self, notification_id: UUID | str | None = None, *, channel: str | None = None) -> int:
        """Begin another series of attempts: for one notification, else for the oldest, at most
        ``REPLAYED_AT_ONCE_MAX``. Returns how many; a notification without any raises ``NotFoundError``."""
        self._actor.require("notifications.replay")
        wanted = parse_id(notification_id, "notification_id") if notification_id is not None else None
        way = check_way(channel) if channel is not None else None
        async with self._db.transaction() as session:
            await act_as(session, self._actor)
            replayed = await session.query(QUERIES.replay, (wanted, way, REPLAYED_AT_ONCE_MAX))
            if replayed:
                subject = f"notification:{wanted}" if wanted else "notifications"
                detail = {"count": len(replayed), "channel": way or "all"}
                await record_act(session, self._actor, "notifications.replayed", subject, detail)
        if wanted is not None and not replayed:
            raise NotFoundError(
                f"Nothing of notification {wanted} was given up.", hint="novadex notifications dead lists them."
            )
        return len(replayed)


class TemplateDesk:
    """The words of notifications. Needs ``notifications.edit_templates``; every change is audited."""

    def __init__(self, db: DatabaseConnection, actor: Actor) -> None:
        self._db = db
        self._actor = actor

    async def list(self) -> list[Template]:
        """All of them."""
        self._actor.require("notifications.edit_templates")
        return await self._db.main.made(Template, QUERIES.templates, read_only=True)

    async def kinds(self) -> list[Kind]:
        """What users can be told of, and the placeholders."""
        self._actor.require("notifications.edit_templates")
        return await self._db.main.made(Kind, QUERIES.kinds, read_only=True)

    async def put(
        self, kind: str, channel: str, locale: str, *, subject: str, body: str, html: str | None = None
    ) -> Template:
        """Add words, or change them. Raises ``ValidationError`` for placeholders that the kind does not know."""
        self._actor.require("notifications.edit_templates")
        known = await self._db.main.made(Kind, QUERIES.kind, (str(kind)[:64],), read_only=True)
        if not known:
            raise NotFoundError(f"There is no kind {str(kind)[:40]!r}.", hint="List the kinds.")
        template = check_template(
            Template(known[0].name, check_channel(channel), locale, subject, body, html), known[0].fields
        )
        async with self._db.transaction() as session:
            await act_as(session, self._actor)
            await session.execute(
                QUERIES.put_template, (template.kind, template.channel, locale, subject, body, html)
            )
        return template

    async def delete(self, kind: str, channel: str, locale: str) -> None:
        """Take words away; those of the app in English stay."""
        self._actor.require("notifications.edit_templates")
        if (channel, locale) == ("in_app", "en"):
            raise ConflictError("These words are what all others fall back to.", hint="Change them instead.")
        async with self._db.transaction() as session:
            await act_as(session, self._actor)
            deleted = await session.execute(QUERIES.delete_template, (kind, check_channel(channel), locale))
        if not deleted:
            raise NotFoundError("There is no such template.", hint="List them to see which there are.")


def _cursor_of(text: str) -> tuple[UUID, str]:
    id, _, channel = text.partition("/")
    return parse_id(id, "cursor"), check_way(channel)
