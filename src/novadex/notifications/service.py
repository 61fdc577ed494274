"""``NotificationService``: what users are told, and how they want to hear of it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import UUID

from novadex.errors import ConflictError, NotFoundError, ValidationError
from novadex.ids import parse_id
from novadex.keys.keyring import Keyring
from novadex.notifications.access import own_of, writing
from novadex.notifications.alerts import PriceAlerts
from novadex.notifications.checks import LIMIT, check_channel, check_cursor, check_limit
from novadex.notifications.operating import Deliveries, Notices, TemplateDesk
from novadex.notifications.records import Kind, NewWebhook, Notification, Preference, Webhook
from novadex.notifications.sending import WEBHOOK_SECRET, WEBHOOK_URL
from novadex.notifications.signing import make_secret
from novadex.notifications.store import QUERIES, UnreadCounts
from novadex.notifications.targets import parse_target
from novadex.roles.actor import SERVICE, Actor, act_as
from novadex.storage.connection import DatabaseConnection
from novadex.trading.records import Page

if TYPE_CHECKING:
    from novadex.keys.encryption import DataKey
    from novadex.storage.session import Session

MARKED_AT_ONCE_MAX = 5_000


class NotificationService:
    """Notifications of an instance.

    Everybody keeps their own; programs of the venue act for anybody. ``alerts`` has the price alerts of users,
    ``notices``, ``deliveries`` and ``templates`` are the staff's.
    """

    def __init__(
        self,
        db: DatabaseConnection | None = None,
        *,
        actor: Actor = SERVICE,
        randomness: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._db = db or DatabaseConnection.get_instance()
        self._actor = actor
        self._randomness = randomness
        self._own = own_of(actor)
        self._unread = self._db.companion(UnreadCounts)
        self._keyring = self._db.companion(Keyring)
        self.alerts = PriceAlerts(self._db, actor, self._own)
        self.notices = Notices(self._db, actor)
        self.deliveries = Deliveries(self._db, actor)
        self.templates = TemplateDesk(self._db, actor)

    def acting_as(self, actor: Actor) -> NotificationService:
        """This service on behalf of somebody."""
        return NotificationService(self._db, actor=actor, randomness=self._randomness)

    # Reading

    async def list(
        self,
        user_id: UUID | str,
        *,
        unread: bool = False,
        kind: str | None = None,
        limit: int = LIMIT,
        cursor: UUID | str | None = None,
    ) -> Page[Notification]:
        """A page of what a user was told, the newest first. ``cursor`` is the ``next`` of the page before."""
        user = self._own(user_id, "notifications.read_own")
        below, count = check_cursor(cursor), check_limit(limit)
        found = await self._db.main.made(
            Notification, QUERIES.newest, (user, below, bool(unread), kind, count + 1), read_only=True
        )
        return Page(found[:count], str(found[count - 1].id) if len(found) > count else None)

    async def unread_count(self, user_id: UUID | str) -> int:
        """How many a user has not read, counted up to 1,000; cached."""
        return await self._unread.of(str(self._own(user_id, "notifications.read_own")))

    async def mark_read(self, user_id: UUID | str, notification_id: UUID | str) -> None:
        """One was read; once more changes nothing."""
        user = self._own(user_id, "notifications.manage_own")
        wanted = parse_id(notification_id, "notification_id")
        found = await self._db.main.value(QUERIES.mark_read, (user, wanted))
        if found is None:
            raise NotFoundError(f"There is no notification {wanted}.", hint="List them to see which there are.")
        await self._unread.heard()

    async def mark_all_read(self, user_id: UUID | str, *, up_to: UUID | str | None = None) -> int:
        """All up to this id were read, or all that there are; returns how many were not before. Name the newest one
        that the user saw, so that one that came since stays unread."""
        user = self._own(user_id, "notifications.manage_own")
        last, marked = check_cursor(up_to, "up_to"), 0
        while True:
            count = await self._db.main.execute(QUERIES.mark_all_read, (user, last, MARKED_AT_ONCE_MAX))
            marked += count
            if count < MARKED_AT_ONCE_MAX:
                break
        await self._unread.heard()
        return marked

    # Preferences

    async def preferences(self, user_id: UUID | str) -> list[Preference]:
        """Each kind and channel, and whether the user hears of it there."""
        user = self._own(user_id, "notifications.read_own")
        return await self._db.main.made(Preference, QUERIES.preferences, (user,), read_only=True)

    async def set_preference(self, user_id: UUID | str, kind: str, channel: str, enabled: bool | None) -> None:
        """Hear of a kind by a channel, or not; None is the default again. Holds for what happens from now on."""
        user = self._own(user_id, "notifications.manage_own")
        wanted = check_channel(channel)
        if enabled is not None and type(enabled) is not bool:
            raise ValidationError("enabled must be true, false or none.", field="enabled")
        known = await self._db.main.made(Kind, QUERIES.kind, (str(kind)[:64],), read_only=True)
        if not known:
            raise NotFoundError(f"There is no kind {str(kind)[:40]!r}.", hint="List the preferences.")
        if enabled is False and wanted in known[0].required_channels:
            raise ConflictError(
                f"Everybody hears of {known[0].name} by {wanted}.", hint="It protects accounts.", field="enabled"
            )
        async with writing(self._db, self._actor, user) as session:
            if enabled is None:
                await session.execute(QUERIES.unset_preference, (user, known[0].name, wanted))
            else:
                await session.execute(QUERIES.set_preference, (user, known[0].name, wanted, enabled))

    # Webhooks

    async def set_webhook(self, user_id: UUID | str, url: str) -> NewWebhook:
        """Where a program of the user hears of notifications, in the place of the one before. Its requests are signed
        with the ``secret``, which is seen this once."""
        user = self._own(user_id, "notifications.manage_own")
        settings = self._db.settings
        parse_target(url, allow_http=settings.webhook_allow_http, allow_private=settings.webhook_allow_private)
        secret = make_secret(self._randomness)
        await self._keyring.ready()
        async with writing(self._db, self._actor, user) as session:
            key = await self._data_key(session, user)
            sealed = (
                self._keyring.seal(WEBHOOK_URL, user, key, url),
                self._keyring.seal(WEBHOOK_SECRET, user, key, secret),
            )
            created_at = await session.value(QUERIES.set_webhook, (user, *sealed))
        return NewWebhook(Webhook(user, url, created_at), secret)

    async def webhook(self, user_id: UUID | str) -> Webhook | None:
        """The webhook of a user, without its secret; None where there is none."""
        user = self._own(user_id, "notifications.read_own")
        row = await self._db.main.one(QUERIES.webhook, (user,), read_only=True)
        if row is None:
            return None
        key = await self._keyring.data_key(user, row.wrapped_key, row.master_version)
        return Webhook(user, self._keyring.open_(WEBHOOK_URL, user, key, row.url_ciphertext), row.created_at)

    async def remove_webhook(self, user_id: UUID | str) -> None:
        """No webhook any more; what is on its way to it is cancelled when its turn comes."""
        user = self._own(user_id, "notifications.manage_own")
        async with self._db.transaction() as session:
            await act_as(session, self._actor)
            removed = await session.execute(QUERIES.delete_webhook, (user,))
        if not removed:
            raise NotFoundError(f"User {user} has no webhook.", hint="Set one first.")

    async def _data_key(self, session: Session, user: UUID) -> DataKey:
        row = await session.one(QUERIES.lock_user, (user,))
        if row is not None and row.wrapped_key is not None:
            return await self._keyring.data_key(user, row.wrapped_key, row.master_version)
        key, wrapped, version = await self._keyring.new_data_key(user)
        await session.execute(QUERIES.insert_user_key, (user, wrapped, version))
        return key
