"""Emails: to a real mail server that takes them, refuses them, is slow, and is away."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from novadex import metrics
from novadex.errors import ConfigurationError, NotFoundError
from novadex.notifications.sending import DeliverySender
from novadex.notifications.service import NotificationService
from novadex.settings import load_settings
from novadex.storage.connection import DatabaseConnection
from novadex.users.service import UserService
from tests.conftest import DatabasePair
from tests.integration.notifications.conftest import Connect
from tests.integration.notifications.sinks import HANG, MailSink, listening, make_certificate
from tests.waiting import until

AddUser = Callable[..., Awaitable[UUID]]
ADDRESS = "ada.lovelace@example.com"


def deliveries(databases: DatabasePair) -> list[tuple[str, str, int, int, str | None]]:
    with psycopg.connect(databases.main_url("owner")) as connection:
        return connection.execute(
            "SELECT channel, status, series, attempts, last_error FROM notification_deliveries"
            " ORDER BY notification_id, channel"
        ).fetchall()


def make_due(databases: DatabasePair) -> None:
    """As if the pauses and leases were over."""
    with psycopg.connect(databases.main_url(None)) as connection:
        connection.execute("SET session_replication_role = replica")  # the triggers would refuse it
        connection.execute("UPDATE notification_deliveries SET due_at = now() - interval '1 second'")


async def drained(sender: DeliverySender, attempts: int) -> None:
    """Until so many attempts were made: they follow each other after milliseconds."""
    made = 0

    async def enough() -> bool:
        nonlocal made
        made += await sender.drain()
        return made >= attempts

    await until(enough)
    assert made == attempts


async def test_an_email_has_the_words_of_its_reader_and_nothing_gets_into_its_head(
    service: NotificationService,
    worker: DatabaseConnection,
    add_user: AddUser,
    mail: MailSink,
    fresh_databases: DatabasePair,
):
    user = await add_user("ada", email=ADDRESS, preferences={"locale": "de-AT"})
    await service.templates.put(
        "system_notice",
        "email",
        "de",
        subject="Mitteilung: {title}",
        body="Guten Tag,\n\n{text}\n",
        html="<p>Guten Tag,</p><p>{text}</p>",
    )
    await service.notices.send_to(user, "Wartung\r\nBcc: all@example.com", "<script>alert(1)</script>\nÜbermorgen")
    sender = DeliverySender(worker, "email")
    assert await sender.drain() == 1
    [message] = mail.messages
    [notification] = (await service.list(user)).items
    assert mail.recipients == [ADDRESS]
    assert message["Subject"] == "Mitteilung: Wartung Bcc: all@example.com"
    assert message["Bcc"] is None
    assert (message["To"], message["From"]) == (ADDRESS, "no-reply@localhost")
    assert message["Message-ID"] == f"<{notification.id}@localhost>"
    text, html = (part.get_content() for part in message.iter_parts())  # type: ignore[union-attr]
    assert text.replace("\r\n", "\n") == "Guten Tag,\n\n<script>alert(1)</script>\nÜbermorgen\n"
    assert html.strip() == "<p>Guten Tag,</p><p>&lt;script&gt;alert(1)&lt;/script&gt;<br>Übermorgen</p>"
    assert deliveries(fresh_databases) == [("email", "delivered", 1, 1, None)]
    assert await sender.drain() == 0


async def test_a_series_of_attempts_ends_and_a_replay_begins_another_under_the_same_id(
    service: NotificationService,
    worker: DatabaseConnection,
    add_user: AddUser,
    mail: MailSink,
    fresh_databases: DatabasePair,
):
    user = await add_user("ada", email=ADDRESS)
    await service.notices.send_to(user, "Hello", "World")
    [notification] = (await service.list(user)).items
    mail.answers = ["data 451", "rcpt 450", "data 452"]
    sender = DeliverySender(worker, "email")
    await drained(sender, 3)
    assert deliveries(fresh_databases) == [("email", "dead", 1, 3, "the mail server refused the message: 452")]
    assert metrics.notification_deliveries_dead.labels("email")._value.get() == 1

    [dead] = (await service.deliveries.dead()).items
    assert (dead.notification_id, dead.user_id, dead.attempts) == (notification.id, user, 3)
    assert await service.deliveries.replay(notification.id) == 1
    with pytest.raises(NotFoundError):
        await service.deliveries.replay(notification.id)
    mail.answers = ["data 451"]
    await drained(sender, 2)
    assert deliveries(fresh_databases) == [("email", "delivered", 2, 2, "the mail server refused the message: 451")]
    assert [message["Message-ID"] for message in mail.messages] == [f"<{notification.id}@localhost>"]
    assert (await service.deliveries.dead()).items == []


async def test_a_refused_address_is_given_up_at_once_and_never_written_down(
    service: NotificationService,
    worker: DatabaseConnection,
    add_user: AddUser,
    mail: MailSink,
    fresh_databases: DatabasePair,
):
    await service.notices.send_to(await add_user("ada", email=ADDRESS), "Hello", "World")
    mail.answers = ["rcpt 550"]
    assert await DeliverySender(worker, "email").drain() == 1
    assert deliveries(fresh_databases) == [("email", "dead", 1, 1, "the mail server refused the address: 550")]


async def test_a_mail_server_that_hangs_or_is_away_costs_an_attempt(
    service: NotificationService, connect: Connect, add_user: AddUser, mail: MailSink, fresh_databases: DatabasePair
):
    await service.notices.send_to(await add_user("ada", email=ADDRESS), "Hello", "World")
    mail.answers = [HANG]
    slow = await connect("worker", notification_timeout_s=0.3, notification_retry_s=60)
    assert await DeliverySender(slow, "email").drain() == 1
    assert deliveries(fresh_databases)[0][4] == "the mail server took longer than 0.3 s"
    away = await connect("worker", smtp_url="smtp://127.0.0.1:1", notification_retry_s=60)
    make_due(fresh_databases)
    assert await DeliverySender(away, "email").drain() == 1
    assert deliveries(fresh_databases) == [
        ("email", "pending", 1, 2, "the mail server failed: ConnectionRefusedError")
    ]
    make_due(fresh_databases)
    assert await DeliverySender(slow, "email").drain() == 1
    assert len(mail.messages) == 1


async def test_tls_is_checked(  # noqa: PLR0917 - fixtures
    service: NotificationService,
    connect: Connect,
    add_user: AddUser,
    fresh_databases: DatabasePair,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    files = make_certificate(tmp_path, "127.0.0.1")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*files)
    await service.notices.send_to(await add_user("ada", email=ADDRESS), "Hello", "World")
    async with listening(MailSink(), context) as sink:
        worker = await connect("worker", smtp_url=sink.url("smtps"), notification_retry_s=60)
        assert await DeliverySender(worker, "email").drain() == 1
        assert sink.messages == []
        assert deliveries(fresh_databases)[0][4] == "the mail server failed: SSLCertVerificationError"
        monkeypatch.setenv("SSL_CERT_FILE", str(files[0]))
        make_due(fresh_databases)
        assert await DeliverySender(worker, "email").drain() == 1
        assert len(sink.messages) == 1


async def test_without_a_mail_server_or_an_address_there_is_nothing_to_deliver(
    service: NotificationService, connect: Connect, add_user: AddUser, fresh_databases: DatabasePair
):
    nobody, ada = await add_user("nobody"), await add_user("ada", email=ADDRESS)
    await service.notices.send_to(nobody, "Hello", "World")
    await NotificationService(await connect("app", smtp_url=None)).notices.send_to(ada, "Hello", "World")
    assert deliveries(fresh_databases) == []


async def test_what_cannot_succeed_is_not_attempted(
    service: NotificationService, connect: Connect, add_user: AddUser, mail: MailSink, fresh_databases: DatabasePair
):
    await service.notices.send_to(await add_user("ada", email=ADDRESS), "Hello", "World")
    assert await DeliverySender(await connect("worker", smtp_url=None), "email").drain() == 0
    keyless = await connect("worker", master_key_file=Path("/nowhere/master_keys.json"))
    with pytest.raises(ConfigurationError):
        await DeliverySender(keyless, "email").drain()
    assert deliveries(fresh_databases) == [("email", "pending", 1, 0, None)]
    assert await DeliverySender(await connect("worker"), "email").drain() == 1
    assert len(mail.messages) == 1


async def test_who_takes_the_address_away_or_is_erased_gets_nothing_more(  # noqa: PLR0917 - fixtures
    service: NotificationService,
    app: DatabaseConnection,
    worker: DatabaseConnection,
    add_user: AddUser,
    mail: MailSink,
    fresh_databases: DatabasePair,
):
    users = [await add_user(f"user{number}", email=f"user{number}@example.com") for number in range(3)]
    for user in users:
        await service.notices.send_to(user, "Hello", "World")
    people = UserService(app)
    await people.update_user(users[0], email=None)
    await people.erase_user(users[1])
    await people.deactivate_user(users[2])
    assert await DeliverySender(worker, "email").drain() == 2
    assert mail.messages == []
    assert {status for _, status, *_ in deliveries(fresh_databases)} == {"cancelled"}


@pytest.mark.parametrize(
    ("url", "wrong"),
    [
        ("http://mail.example", "begin with smtp://"),
        ("smtp://", "names no host"),
        ("smtp://user:secret@mail.example", "in the clear"),
        ("smtps://a.example,b.example", "one host"),
        ("smtps://mail.example:99999", "port"),
    ],
)
def test_a_wrong_url_of_a_mail_server_is_refused_without_quoting_it(url: str, wrong: str):
    with pytest.raises(ConfigurationError, match=wrong) as caught:
        load_settings(smtp_url=url)
    assert "secret" not in str(caught.value)


def test_good_urls_of_mail_servers_are_taken():
    for url in (
        "smtp://user:pw@localhost",
        "smtp://[::1]:25",
        "smtps://u:p%40@mail.example:465",
        "smtp+starttls://m",
    ):
        load_settings(smtp_url=url)
