"""Webhooks: signed requests to real web servers, and what must never be reached."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from novadex.errors import NotAuthenticatedError, NotFoundError, ValidationError
from novadex.notifications.outcomes import DeliveryFailedError
from novadex.notifications.sending import AT_ONCE, OF_A_USER_MAX, DeliverySender
from novadex.notifications.service import NotificationService
from novadex.notifications.signing import verify_webhook
from novadex.notifications.webhook import WebhookSender
from novadex.settings import Settings
from novadex.storage.connection import DatabaseConnection
from tests.conftest import DatabasePair
from tests.integration.notifications.conftest import Connect
from tests.integration.notifications.sinks import HANG, WebSink, listening, make_certificate
from tests.integration.notifications.test_email import deliveries, drained, make_due
from tests.waiting import until

AddUser = Callable[..., Awaitable[UUID]]


async def wanting_notices(service: NotificationService, user: UUID, url: str) -> str:
    """The secret of a webhook that hears of notices."""
    await service.set_preference(user, "system_notice", "webhook", True)
    return (await service.set_webhook(user, url)).secret


async def test_a_request_is_signed_and_every_attempt_has_the_same_id(
    service: NotificationService,
    worker: DatabaseConnection,
    add_user: AddUser,
    web: WebSink,
    fresh_databases: DatabasePair,
):
    user = await add_user("ada")
    secret = await wanting_notices(service, user, web.url("/hook?key=1"))
    await service.notices.send_to(user, "Hello", "First\nSecond")
    web.answers = [503, b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\nwhatever"]
    await drained(DeliverySender(worker, "webhook"), 2)
    [notification] = (await service.list(user)).items
    assert [request.path for request in web.requests] == ["/hook?key=1"] * 2
    for request in web.requests:
        assert verify_webhook(secret, request.headers, request.body) == str(notification.id)
        assert request.document["id"] == str(notification.id)
        assert request.document["type"] == "system_notice"
        assert (request.document["title"], request.document["text"]) == ("Hello", "First\nSecond")
    request = web.requests[0]
    with pytest.raises(NotAuthenticatedError, match="signature"):
        verify_webhook(secret, request.headers, request.body + b" ")
    with pytest.raises(NotAuthenticatedError, match="signature"):
        verify_webhook(secret, {**request.headers, "webhook-id": "other"}, request.body)
    timestamp = int(request.headers["webhook-timestamp"])
    for moment in (timestamp + 301, timestamp - 301):
        with pytest.raises(NotAuthenticatedError, match="too long ago"):
            verify_webhook(secret, request.headers, request.body, now=lambda moment=moment: moment)
    assert deliveries(fresh_databases) == [("webhook", "delivered", 1, 2, "it answered 503")]


async def test_what_is_stored_is_sealed_and_another_secret_takes_the_place_of_the_old_one(
    service: NotificationService,
    worker: DatabaseConnection,
    add_user: AddUser,
    web: WebSink,
    fresh_databases: DatabasePair,
):
    user = await add_user("ada")
    old = await wanting_notices(service, user, web.url("/old-secret-path"))
    new = await wanting_notices(service, user, web.url("/new"))
    assert old != new
    found = await service.webhook(user)
    assert found is not None
    assert found.url == web.url("/new")
    with psycopg.connect(fresh_databases.main_url("owner")) as connection:
        [row] = connection.execute("SELECT notification_webhooks::text FROM notification_webhooks").fetchall()
        [audited] = connection.execute(
            "SELECT count(*) FROM audit_log WHERE detail::text ~ 'secret-path|whsec'"
        ).fetchall()
    assert "secret-path" not in row[0]
    assert audited == (0,)
    await service.notices.send_to(user, "Hello", "World")
    await DeliverySender(worker, "webhook").drain()
    [request] = web.requests
    verify_webhook(new, request.headers, request.body)
    with pytest.raises(NotAuthenticatedError):
        verify_webhook(old, request.headers, request.body)
    await service.notices.send_to(user, "Hello again", "World")
    await service.remove_webhook(user)
    assert await service.webhook(user) is None
    with pytest.raises(NotFoundError):
        await service.remove_webhook(user)
    await DeliverySender(worker, "webhook").drain()
    assert len(web.requests) == 1
    assert deliveries(fresh_databases)[-1][1] == "cancelled"


@pytest.mark.parametrize(
    ("answer", "error", "status"),
    [
        (410, "it answered 410", "dead"),
        (404, "it answered 404", "pending"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n", "redirects are not followed", "pending"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "no HTTP", "pending"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000, "no HTTP", "pending"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 6, "no HTTP", "pending"),
        (b"", "connection failed", "pending"),
        (HANG, "no answer within", "pending"),
    ],
)
async def test_every_other_answer_is_a_failure(  # noqa: PLR0917 - fixtures
    service: NotificationService,
    connect: Connect,
    add_user: AddUser,
    web: WebSink,
    fresh_databases: DatabasePair,
    answer: Any,
    error: str,
    status: str,
):
    user = await add_user("ada")
    await wanting_notices(service, user, web.url())
    await service.notices.send_to(user, "Hello", "World")
    web.answers = [answer]
    worker = await connect("worker", notification_timeout_s=0.5, notification_retry_s=60)
    assert await DeliverySender(worker, "webhook").drain() == 1
    [(_, found, _, attempts, said)] = deliveries(fresh_databases)
    assert (found, attempts) == (status, 1)
    assert error in (said or "")
    assert len(web.requests) == 1


async def test_tls_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    files = make_certificate(tmp_path, "localhost")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*files)
    secret = "whsec_" + "A" * 44
    async with listening(WebSink(scheme="https"), context) as sink:
        with pytest.raises(DeliveryFailedError, match="certificate"):
            await WebhookSender(_settings()).send(sink.url(host="localhost"), secret, "1", {})
        monkeypatch.setenv("SSL_CERT_FILE", str(files[0]))
        sender = WebhookSender(_settings())
        await sender.send(sink.url(host="localhost"), secret, "2", {})
        with pytest.raises(DeliveryFailedError, match="certificate"):
            await sender.send(sink.url(host="127.0.0.1"), secret, "3", {})
        assert [request.headers["webhook-id"] for request in sink.requests] == ["2"]
        assert sink.requests[0].headers["host"] == f"localhost:{sink.port}"


def _settings(**more: Any) -> Settings:
    return Settings(webhook_allow_private=True, notification_timeout_s=5, **more)  # type: ignore[call-arg]


async def test_a_name_that_leads_into_a_private_network_is_not_connected_to(
    web: WebSink, monkeypatch: pytest.MonkeyPatch
):
    """What was checked is what is connected to: the name is asked once."""
    settings = Settings(webhook_allow_http=True, notification_timeout_s=5)  # type: ignore[call-arg]
    asked = []
    answers: list[list[str]] = [
        ["127.0.0.1"],
        ["93.184.215.14", "10.1.2.3"],
        ["::ffff:169.254.169.254"],
        ["64:ff9b::a00:1"],
    ]

    def getaddrinfo(host: str, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in answers[len(asked) - 1]]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    for number in range(len(answers)):
        with pytest.raises(DeliveryFailedError, match="private network") as caught:
            await WebhookSender(settings).send(web.url(host="hooks.example"), "whsec_" + "A" * 44, str(number), {})
        assert caught.value.permanent
    assert asked == ["hooks.example"] * len(answers)
    assert web.requests == []


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example/",
        "ftp://hooks.example/",
        "https://user:pw@hooks.example/",
        "https://hooks.example/#part",
        "https:///path",
        "https://hooks.example:0/",
        "https://hooks.example:99999/",
        "https://127.0.0.1/",
        "https://127.1/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://169.254.169.254/latest/meta-data",
        "https://100.64.0.1/",
        "https://0.0.0.0/",
        "https://hooks.example/a b",
        "https://hooks.example/\r\nX: y",
        "https://häuser.example/",
        "https://hooks.example/" + "a" * 2_000,
        "",
    ],
)
async def test_where_a_webhook_may_not_lead(connect: Connect, add_user: AddUser, url: str):
    strict = NotificationService(await connect("app", webhook_allow_http=False, webhook_allow_private=False))
    with pytest.raises(ValidationError, match="url is no address") as caught:
        await strict.set_webhook(await add_user("ada"), url)
    assert caught.value.field == "url"


async def test_a_setting_that_got_stricter_counts_for_webhooks_that_are_there(
    service: NotificationService, connect: Connect, add_user: AddUser, web: WebSink, fresh_databases: DatabasePair
):
    user = await add_user("ada")
    await wanting_notices(service, user, web.url())
    await service.notices.send_to(user, "Hello", "World")
    strict = await connect("worker", webhook_allow_private=False)
    await DeliverySender(strict, "webhook").drain()
    assert web.requests == []
    assert deliveries(fresh_databases)[0][1] == "dead"


async def test_one_slow_receiver_does_not_keep_others_waiting(
    service: NotificationService, connect: Connect, add_user: AddUser, web: WebSink, fresh_databases: DatabasePair
):
    slow, quick = await add_user("slow"), await add_user("quick")
    async with listening(WebSink(answers=[HANG] * 100)) as never:
        await wanting_notices(service, slow, never.url())
        await wanting_notices(service, quick, web.url())
        for number in range(AT_ONCE["webhook"] + 4):
            await service.notices.send_to(slow, f"Slow {number}", "World")
        for number in range(4):
            await service.notices.send_to(quick, f"Quick {number}", "World")
        worker = await connect("worker", notification_timeout_s=60)
        draining = asyncio.create_task(DeliverySender(worker, "webhook").drain())
        await until(lambda: len(web.requests) == 4)
        assert len(never.requests) <= OF_A_USER_MAX
        draining.cancel()
        await asyncio.wait([draining])


@pytest.mark.parametrize(("answer", "status"), [(503, "dead"), (200, "delivered")], ids=["refused", "taken"])
async def test_where_fewer_attempts_are_left_than_were_made_one_more_ends_it(  # noqa: PLR0917 - fixtures
    service: NotificationService,
    connect: Connect,
    add_user: AddUser,
    web: WebSink,
    fresh_databases: DatabasePair,
    answer: int,
    status: str,
):
    user = await add_user("ada")
    await wanting_notices(service, user, web.url())
    await service.notices.send_to(user, "Hello", "World")
    web.answers = [503, 503, 503, answer]
    patient = DeliverySender(await connect("worker", notification_attempts_max=8, notification_retry_s=60), "webhook")
    for _ in range(3):
        assert await patient.drain() == 1
        make_due(fresh_databases)
    assert await DeliverySender(await connect("worker", notification_attempts_max=2), "webhook").drain() == 1
    [(_, found, _, attempts, _)] = deliveries(fresh_databases)
    assert (found, attempts) == (status, 4)


async def test_a_name_whose_servers_are_slow_keeps_no_other_waiting(
    web: WebSink, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
):
    """However often it is asked for, and also when nobody waits for the answer any more."""
    asked: Counter[str] = Counter()
    answered = threading.Event()
    request.addfinalizer(answered.set)
    look_up = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **more: Any) -> Any:
        asked[host] += 1
        if host == "slow.example":
            answered.wait()
        return look_up("127.0.0.1" if host == "quick.example" else host, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    settings = Settings(webhook_allow_http=True, webhook_allow_private=True, notification_timeout_s=2)  # type: ignore[call-arg]
    sender, secret = WebhookSender(settings), "whsec_" + "A" * 44
    try:
        slow = [sender.send(web.url(host="slow.example"), secret, str(number), {}) for number in range(60)]
        sending = asyncio.gather(*slow, return_exceptions=True)
        await until(lambda: asked["slow.example"] > 0)
        await sender.send(web.url(host="quick.example"), secret, "quick", {})
        assert {str(error) for error in await sending} == {"no answer within 2 s"}
        with pytest.raises(DeliveryFailedError, match="no answer"):
            await sender.send(web.url(host="slow.example"), secret, "again", {})
        assert asked["slow.example"] == 1
        await sender.send(web.url(host="quick.example"), secret, "quick again", {})
    finally:
        answered.set()
        sender.close()
    assert [sent.headers["webhook-id"] for sent in web.requests] == ["quick", "quick again"]
