"""The channel email: one message an attempt, by the mail server of the settings."""

from __future__ import annotations

import asyncio
import smtplib
import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from novadex.notifications.outcomes import DeliveryFailedError
from novadex.notifications.texts import Words

if TYPE_CHECKING:
    from novadex.settings import Settings

THREADS = 4
PORTS = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}
PERMANENT = range(500, 600)


class MailSender:
    """Sends emails. ``smtplib`` blocks, so it runs in threads of its own; an attempt that takes too long has its
    connection cut, so that none of them is lost to it."""

    def __init__(
        self, settings: Settings, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC), threads: int = THREADS
    ) -> None:
        self._url = settings.smtp_url
        self._from = settings.smtp_from
        self._timeout_s = settings.notification_timeout_s
        self._clock = clock
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="novadex-mail")

    def close(self) -> None:
        """Let go of the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def send(self, address: str, id: str, words: Words) -> None:
        """One attempt. Raises ``DeliveryFailedError`` unless the mail server took the message in time."""
        if self._url is None:
            raise DeliveryFailedError("NOVADEX_SMTP_URL is not set")
        message = self.compose(address, id, words)
        client = _Client(self._url.get_secret_value(), self._timeout_s)
        loop = asyncio.get_running_loop()
        sending = loop.run_in_executor(self._threads, client.send, message, self._from, address)
        try:
            async with asyncio.timeout(self._timeout_s):
                await asyncio.shield(sending)
        except TimeoutError:
            raise DeliveryFailedError(f"the mail server took longer than {self._timeout_s:g} s") from None
        finally:
            if not sending.done():
                client.cut()
                sending.add_done_callback(_look_away)

    def compose(self, address: str, id: str, words: Words) -> EmailMessage:
        """The message. Its Message-ID is the same in every attempt, so that a doubled one can be told."""
        message = EmailMessage(SMTP)
        message["Subject"] = words.title
        message["From"] = self._from
        message["To"] = address
        message["Date"] = format_datetime(self._clock())
        message["Message-ID"] = f"<{id}@{self._from.rpartition('@')[2]}>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(words.body or words.title)
        if words.html is not None:
            message.add_alternative(words.html, subtype="html")
        return message


def _look_away(done: asyncio.Future[None]) -> None:
    if not done.cancelled():
        done.exception()  # it was cut: whatever it says


class _Client:
    """One connection to the mail server, in a thread; ``cut`` ends it from another."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self._parts = urlsplit(url)
        self._timeout_s = timeout_s
        self._cut = False
        self._smtp: smtplib.SMTP | None = None

    def cut(self) -> None:
        self._cut = True
        connected = getattr(self._smtp, "sock", None)
        if connected is not None:
            with suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)

    def send(self, message: EmailMessage, sender: str, address: str) -> None:
        if self._cut:
            return
        try:
            self._deliver(message, sender, address)
        except smtplib.SMTPRecipientsRefused as error:
            code = next(iter(error.recipients.values()), (0, b""))[0]
            raise DeliveryFailedError(
                f"the mail server refused the address: {code}", permanent=code in PERMANENT
            ) from None
        except smtplib.SMTPDataError as error:
            raise DeliveryFailedError(
                f"the mail server refused the message: {error.smtp_code}", permanent=error.smtp_code in PERMANENT
            ) from None
        except smtplib.SMTPResponseException as error:
            raise DeliveryFailedError(f"the mail server refused: {error.smtp_code}") from None
        except (smtplib.SMTPException, OSError, UnicodeError) as error:
            raise DeliveryFailedError(f"the mail server failed: {type(error).__name__}") from None

    def _deliver(self, message: EmailMessage, sender: str, address: str) -> None:
        parts = self._parts
        host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
        context = None if parts.scheme == "smtp" else ssl.create_default_context()
        if parts.scheme == "smtps":
            smtp = smtplib.SMTP_SSL(timeout=self._timeout_s, context=context)
        else:
            smtp = smtplib.SMTP(timeout=self._timeout_s)
        self._smtp = smtp
        smtp._host = host  # noqa: SLF001  # pyright: ignore[reportAttributeAccessIssue] - what TLS compares with
        try:
            smtp.connect(host, port)
            smtp.ehlo_or_helo_if_needed()
            if parts.scheme == "smtp+starttls":
                smtp.starttls(context=context)
                smtp.ehlo()
            if parts.username is not None:
                smtp.login(unquote(parts.username), unquote(parts.password or ""))
            smtp.send_message(message, sender, [address])
            with suppress(smtplib.SMTPException, OSError):
                smtp.quit()  # the message is taken: nothing that follows takes it back
        finally:
            smtp.close()
