"""Delivers what is due: one series of attempts for each notification and channel.

An attempt is claimed with a lease and counted, and that is committed, before anything is sent; afterwards it is
recorded. Whoever is killed between the two leaves one attempt in doubt: when the lease is over, the next attempt of
the same series follows, under the same id, by which receivers drop a doubled one.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import structlog

from novadex import metrics
from novadex.keys.encryption import EMAIL
from novadex.keys.keyring import Keyring
from novadex.notifications.backoff import delay_s
from novadex.notifications.machine import after_failure
from novadex.notifications.mail import MailSender
from novadex.notifications.making import QUERIES as MAKING
from novadex.notifications.outcomes import DeliveryFailedError, NoWayError
from novadex.notifications.records import Template, Way
from novadex.notifications.texts import Templates, Words, words_of
from novadex.notifications.webhook import WebhookSender
from novadex.storage.queries import load_queries

if TYPE_CHECKING:
    from novadex.keys.encryption import DataKey
    from novadex.storage.connection import DatabaseConnection
    from novadex.storage.rows import Row

QUERIES = load_queries(Path(__file__).with_suffix(".sql"))
WEBHOOK_URL = "notification_webhooks.url_ciphertext"
WEBHOOK_SECRET = "notification_webhooks.secret_ciphertext"  # noqa: S105 - a column
AT_ONCE: dict[Way, int] = {"email": 4, "webhook": 16}
OF_A_USER_MAX = 2
"""Deliveries to one user that are under way at once, in one process."""
LEASE_GRACE_S = 30.0
"""How long after the end of an attempt its lease ends: the record must be written by then."""
ERROR_MAX = 500
COUNTED_MAX = 100_000

log = structlog.get_logger("novadex.notifications")


class DeliverySender:
    """Sends the deliveries of one channel. Any number of processes may do so."""

    def __init__(
        self,
        db: DatabaseConnection,
        channel: Way,
        *,
        mail: MailSender | None = None,
        webhooks: WebhookSender | None = None,
        jitter: Callable[[], float] = random.random,
        lease_s: float | None = None,
    ) -> None:
        settings = db.settings
        self._db = db
        self.channel: Way = channel
        self._keyring = db.companion(Keyring)
        self._mail = mail or MailSender(settings)
        self._webhooks = webhooks or WebhookSender(settings)
        self._possible = channel != "email" or settings.smtp_url is not None
        self._jitter = jitter
        self._timeout_s = settings.notification_timeout_s
        self._lease_s = settings.notification_timeout_s + LEASE_GRACE_S if lease_s is None else lease_s
        self._attempts_max = settings.notification_attempts_max
        self._retry_s = settings.notification_retry_s

    def close(self) -> None:
        """Let go of threads."""
        self._mail.close()
        self._webhooks.close()

    async def drain(self) -> int:
        """Attempt whatever is due, until nothing is; returns how many attempts were made.

        Nothing is attempted, and no attempt counted, where it could not succeed: without a mail server, or without
        the master keys (``ConfigurationError``).
        """
        await self._db.main.execute(QUERIES.bury_lost, (self.channel, self._attempts_max))
        if not await self.measure() or not self._possible:
            return 0
        await self._keyring.ready()
        under_way: dict[asyncio.Task[None], UUID] = {}
        attempts = 0
        try:
            while True:
                free = AT_ONCE[self.channel] - len(under_way)
                claimed = await self._claim(free, list(under_way.values())) if free else []
                attempts += len(claimed)
                under_way.update(claimed)
                if not under_way:
                    break
                done, _ = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    del under_way[task]
                    task.result()
        finally:
            for task in under_way:
                task.cancel()
            if under_way:
                await asyncio.wait(under_way)
        await self.measure()
        return attempts

    async def measure(self) -> int:
        """Read the figures of the queue into the metrics; returns how many wait or are under way."""
        row = await self._db.main.one(QUERIES.figures, (self.channel, COUNTED_MAX), read_only=True)
        assert row is not None  # noqa: S101 - it selects counts
        metrics.notification_deliveries_queued.labels(self.channel).set(row.queued)
        metrics.notification_deliveries_dead.labels(self.channel).set(row.dead)
        metrics.notification_oldest_waiting_seconds.labels(self.channel).set(row.oldest_s)
        return row.queued

    async def _claim(self, count: int, users: Sequence[UUID]) -> list[tuple[asyncio.Task[None], UUID]]:
        busy = [user for user, under_way in Counter(users).items() if under_way >= OF_A_USER_MAX]
        lease, began = uuid4(), time.monotonic()
        rows = await self._db.main.query(
            QUERIES.claim, (self.channel, count, lease, self._lease_s, busy, self._attempts_max, OF_A_USER_MAX)
        )
        return [
            (asyncio.create_task(self._attempt(row, lease, began), name="novadex delivery"), row.user_id)
            for row in rows
        ]

    async def _attempt(self, claimed: Row, lease: UUID, began: float) -> None:
        key = (claimed.id, self.channel, lease)
        try:
            content = await self._db.main.one(QUERIES.content, (claimed.id,), read_only=True)
            if content is None:
                return  # it was deleted, and its deliveries with it
            if time.monotonic() - began > self._lease_s - self._timeout_s:
                return  # this process stood still for too long: another may have begun the next attempt
            with metrics.notification_attempt_seconds.labels(self.channel).time():
                await (self._send_email(content) if self.channel == "email" else self._send_webhook(content))
        except NoWayError:
            await self._db.main.execute(QUERIES.record_cancelled, key)
            self._count("cancelled")
        except DeliveryFailedError as error:
            await self._record_failure(key, claimed.attempts, error.reason, permanent=error.permanent)
        except Exception as error:
            log.exception("delivery failed", notification=str(claimed.id), channel=self.channel)
            await self._record_failure(key, claimed.attempts, type(error).__name__, permanent=False)
        else:
            await self._db.main.execute(QUERIES.record_delivered, key)
            self._count("sent")

    async def _record_failure(
        self, key: tuple[UUID, Way, UUID], attempts: int, reason: str, *, permanent: bool
    ) -> None:
        status = after_failure(attempts, self._attempts_max, permanent=permanent)
        pause_s = delay_s(attempts, self._retry_s, self._jitter())
        await self._db.main.execute(QUERIES.record_failed, (*key, status, reason[:ERROR_MAX], pause_s))
        self._count("dead" if status == "dead" else "failed")
        if status == "dead":
            log.warning("delivery given up", notification=str(key[0]), channel=self.channel, reason=reason)

    def _count(self, result: str) -> None:
        metrics.notification_attempts.labels(self.channel, result).inc()

    async def _send_email(self, content: Row) -> None:
        if content.status != "active" or content.email_ciphertext is None or content.wrapped_key is None:
            raise NoWayError
        key = await self._data_key(content)
        address = self._keyring.open_(EMAIL, content.user_id, key, content.email_ciphertext)
        await self._mail.send(address, str(content.id), await self._words(content))

    async def _send_webhook(self, content: Row) -> None:
        if content.status != "active" or content.url_ciphertext is None or content.wrapped_key is None:
            raise NoWayError
        key = await self._data_key(content)
        url = self._keyring.open_(WEBHOOK_URL, content.user_id, key, content.url_ciphertext)
        secret = self._keyring.open_(WEBHOOK_SECRET, content.user_id, key, content.secret_ciphertext)
        words = await self._words(content)
        document = {
            "id": content.id,
            "type": content.kind,
            "created_at": content.created_at,
            "title": words.title,
            "text": words.body,
            "data": content.data,
        }
        await self._webhooks.send(url, secret, str(content.id), document)

    async def _data_key(self, content: Row) -> DataKey:
        return await self._keyring.data_key(content.user_id, content.wrapped_key, content.master_version)

    async def _words(self, content: Row) -> Words:
        found = await self._db.main.made(Template, MAKING.templates_of, ([content.kind],), read_only=True)
        template = Templates(found).choose(content.kind, self.channel, content.locale)
        return words_of(template, content.data)
