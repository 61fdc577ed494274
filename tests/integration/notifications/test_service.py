"""What users see of their notifications and decide about them, on their own behalf and nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import psycopg
import pytest

from novadex.errors import (
    AccessError,
    ConflictError,
    NotFoundError,
    PermissionDeniedError,
    ValidationError,
)
from novadex.ids import uuid7
from novadex.notifications.service import NotificationService
from novadex.notifications.store import UnreadCounts
from novadex.roles.actor import Actor
from novadex.roles.roles import Roles
from novadex.storage.connection import DatabaseConnection
from novadex.users.service import UserService
from tests.conftest import DatabasePair
from tests.integration.notifications.conftest import Connect
from tests.waiting import until

AddUser = Callable[..., Awaitable[UUID]]


async def actor_of(db: DatabaseConnection, role: str, user: UUID) -> Actor:
    return Actor(f"user:{user}", user, role, await db.companion(Roles).permissions_of(role))


async def test_pages_by_key_and_reading_up_to_what_was_seen(service: NotificationService, add_user: AddUser):
    user = await add_user("ada")
    for number in range(7):
        await service.notices.send_to(user, f"Notice {number}", "Text")
    first = await service.list(user, limit=3)
    await service.notices.send_to(user, "Came meanwhile", "Text")
    second = await service.list(user, limit=3, cursor=first.next)
    third = await service.list(user, limit=3, cursor=second.next)
    titles = [item.title for page in (first, second, third) for item in page.items]
    assert titles == [f"Notice {number}" for number in reversed(range(7))]
    assert third.next is None
    assert await service.mark_all_read(user, up_to=first.items[0].id) == 7
    assert await service.mark_all_read(user, up_to=first.items[0].id) == 0
    assert [item.title for item in (await service.list(user, unread=True)).items] == ["Came meanwhile"]
    assert await service.list(user, kind="price_alert") == await service.list(await add_user("bob"))
    for wrong in ({"limit": 0}, {"limit": 501}, {"limit": True}, {"cursor": "x"}):
        with pytest.raises(ValidationError):
            await service.list(user, **wrong)  # type: ignore[arg-type]


async def test_the_unread_count_is_cached_and_right_in_every_process(
    service: NotificationService, connect: Connect, add_user: AddUser, fresh_databases: DatabasePair
):
    user = await add_user("ada")
    other_process = await connect("app")
    elsewhere = NotificationService(other_process)
    counts = other_process.companion(UnreadCounts).cache.counts

    async def both_say(count: int) -> bool:
        return {await service.unread_count(user), await elsewhere.unread_count(user)} == {count}

    assert await both_say(0)
    for number in range(1, 4):
        await service.notices.send_to(user, f"Notice {number}", "Text")
        await until(lambda number=number: both_say(number))
    loaded = counts.loaded
    for _ in range(20):
        assert await elsewhere.unread_count(user) == 3
    assert counts.loaded == loaded, "they came from a cache"
    newest = (await service.list(user)).items[0]
    await service.mark_read(user, newest.id)
    await service.mark_read(user, newest.id)
    assert await service.unread_count(user) == 2, "whoever marked it sees it at once"
    await until(lambda: both_say(2))
    with psycopg.connect(fresh_databases.main_url("owner")) as connection:
        connection.execute("DELETE FROM notifications")
    await until(lambda: both_say(0))


async def test_a_batch_of_one_user_is_announced_once(
    service: NotificationService, app: DatabaseConnection, add_user: AddUser, fresh_databases: DatabasePair
):
    user = await add_user("ada")
    with psycopg.connect(fresh_databases.main_url("owner"), autocommit=True) as connection:
        connection.execute("SELECT listen_to_changes()")
        connection.execute(
            "INSERT INTO notifications (id, user_id, kind, title, body, cause_id)"
            " SELECT gen_random_uuid(), %s, 'order_filled', 'x', '', n::text FROM generate_series(1, 50) AS n",
            (user,),
        )
        connection.execute("UPDATE notifications SET read_at = now()")
        heard = [notice.payload.split(" ") for notice in connection.notifies(timeout=1, stop_after=2)]
    assert [(namespace, key) for namespace, _, key in heard] == [("unread", str(user))] * 2


async def test_preferences_have_defaults_and_what_protects_accounts_stays_on(
    service: NotificationService, add_user: AddUser
):
    user = await add_user("ada")

    async def of(kind: str, channel: str) -> tuple[bool, bool, bool]:
        [found] = [p for p in await service.preferences(user) if (p.kind, p.channel) == (kind, channel)]
        return found.enabled, found.required, found.chosen

    assert await of("order_filled", "in_app") == (True, False, False)
    assert await of("order_filled", "email") == (False, False, False)
    await service.set_preference(user, "order_filled", "email", True)
    assert await of("order_filled", "email") == (True, False, True)
    await service.set_preference(user, "order_filled", "email", None)
    assert await of("order_filled", "email") == (False, False, False)
    assert await of("new_device", "email") == (True, True, False)
    with pytest.raises(ConflictError):
        await service.set_preference(user, "new_device", "email", False)
    with pytest.raises(ValidationError):
        await service.set_preference(user, "order_filled", "fax", True)
    with pytest.raises(ValidationError):
        await service.set_preference(user, "order_filled", "email", "yes")  # type: ignore[arg-type]
    with pytest.raises(NotFoundError):
        await service.set_preference(user, "floor_cleaned", "email", True)


async def test_a_wish_against_a_required_channel_by_plain_sql_has_no_effect(
    service: NotificationService, add_user: AddUser, fresh_databases: DatabasePair
):
    user = await add_user("ada")
    with psycopg.connect(fresh_databases.main_url("app")) as connection:
        connection.execute(
            "INSERT INTO notification_preferences VALUES (%s, 'system_notice', 'in_app', false)", (user,)
        )
    assert await service.notices.send_to(user, "Hello", "World")


async def test_nobody_sees_or_changes_what_others_are_told(
    service: NotificationService, app: DatabaseConnection, add_user: AddUser
):
    user, other = await add_user("ada"), await add_user("bob")
    await service.notices.send_to(other, "For bob", "Text")
    [item] = (await service.list(other)).items
    for role in ("trader", "support", "operator", "admin"):
        mine = service.acting_as(await actor_of(app, role, user))
        calls: list[Awaitable[Any]] = [
            mine.list(other),
            mine.unread_count(other),
            mine.mark_read(other, item.id),
            mine.mark_all_read(other),
            mine.preferences(other),
            mine.set_preference(other, "order_filled", "email", True),
            mine.set_webhook(other, "https://hooks.example/"),
            mine.webhook(other),
            mine.remove_webhook(other),
            mine.alerts.create(other, market="BTC/USDT", direction="above", price=1),
            mine.alerts.list(other),
            mine.alerts.delete(other, uuid7()),
        ]
        for call in calls:
            with pytest.raises(PermissionDeniedError):
                await call
        with pytest.raises(NotFoundError):
            await mine.mark_read(user, item.id)
    assert (await service.list(other)).items == [item]


@pytest.mark.parametrize("role", ["user", "trader", "support", "auditor", "operator", "admin"])
async def test_what_the_staff_may_do(
    service: NotificationService, app: DatabaseConnection, add_user: AddUser, role: str
):
    user = await add_user("ada")
    staff = service.acting_as(await actor_of(app, role, user))
    sends, edits = role in {"operator", "admin"}, role == "admin"
    calls = [
        (sends, lambda: staff.notices.send("Hello", "World")),
        (sends, lambda: staff.notices.send_to(user, "Hello", "World")),
        (sends, staff.deliveries.dead),
        (sends, staff.deliveries.replay),
        (edits, staff.templates.list),
        (edits, staff.templates.kinds),
        (edits, lambda: staff.templates.put("system_notice", "in_app", "de", subject="{title}", body="{text}")),
        (edits, lambda: staff.templates.delete("system_notice", "in_app", "de")),
    ]
    for allowed, call in calls:
        if allowed:
            await call()
        else:
            with pytest.raises(PermissionDeniedError):
                await call()


async def test_templates_are_checked_audited_and_fall_back(
    service: NotificationService, add_user: AddUser, fresh_databases: DatabasePair
):
    reader = await add_user("ada", preferences={"locale": "de-CH"})
    put = service.templates.put
    await put("system_notice", "in_app", "de", subject="Hinweis: {title}", body="{text}")
    await put("system_notice", "in_app", "de", subject="Mitteilung: {title}", body="{text}")
    await service.notices.send_to(reader, "Wartung", "Sonntag")
    await service.templates.delete("system_notice", "in_app", "de")
    await service.notices.send_to(reader, "Maintenance", "Sunday")
    assert [item.title for item in (await service.list(reader)).items] == ["Maintenance", "Mitteilung: Wartung"]
    for wrong in ({"subject": "{password}"}, {"body": "{"}, {"locale": "x"}, {"channel": "fax"}):
        given = {"channel": "in_app", "locale": "de", "subject": "{title}", "body": "{text}", **wrong}
        with pytest.raises(ValidationError):
            await put("system_notice", given.pop("channel"), given.pop("locale"), **given)
    with pytest.raises(NotFoundError):
        await put("floor_cleaned", "in_app", "de", subject="x", body="y")
    with pytest.raises(ConflictError):
        await service.templates.delete("system_notice", "in_app", "en")
    with psycopg.connect(fresh_databases.main_url("owner")) as connection:
        rows = connection.execute(
            "SELECT action, actor, detail -> 'after' ->> 'subject' FROM audit_log"
            " WHERE subject = 'notification_template:system_notice/in_app/de' ORDER BY id"
        ).fetchall()
    assert rows == [
        ("notification_templates.created", "program:service", "Hinweis: {title}"),
        ("notification_templates.updated", "program:service", "Mitteilung: {title}"),
        ("notification_templates.deleted", "program:service", None),
    ]


async def test_only_active_users_decide(service: NotificationService, app: DatabaseConnection, add_user: AddUser):
    away, gone = await add_user("away"), await add_user("gone", email="gone@example.com")
    people = UserService(app)
    await service.notices.send_to(gone, "For gone", "Personal words")
    await service.set_webhook(gone, "https://hooks.example/")
    await service.set_preference(gone, "order_filled", "email", True)
    await people.deactivate_user(away)
    await people.erase_user(gone)
    for user in (away, gone):
        for call in (
            service.set_webhook(user, "https://hooks.example/"),
            service.set_preference(user, "order_filled", "email", True),
            service.alerts.create(user, market="BTC/USDT", direction="above", price=1),
        ):
            with pytest.raises((AccessError, NotFoundError)):
                await call
    with pytest.raises(NotFoundError):
        await service.set_webhook(uuid7(), "https://hooks.example/")
    [left] = (await service.list(gone)).items
    assert (left.title, left.body, left.data) == ("erased", "", {})
    assert await service.webhook(gone) is None
    assert not await service.notices.send_to(gone, "Hello?", "Anybody there?")


async def test_a_notice_to_one_user_is_sent_once_for_an_id(service: NotificationService, add_user: AddUser):
    user, id = await add_user("ada"), uuid7()
    told = await asyncio.gather(*(service.notices.send_to(user, "Hello", "World", id=id) for _ in range(5)))
    assert sorted(told) == [False] * 4 + [True]
    with pytest.raises(NotFoundError):
        await service.notices.send_to(uuid7(), "Hello", "World")
    for title, text in (("", "x"), ("x" * 201, "x"), ("x", ""), ("x", "y" * 5_001), (" ", "x"), ("x", "\x00")):
        with pytest.raises(ValidationError):
            await service.notices.send_to(user, title, text)


async def test_hot_queries_walk_down_indexes(
    service: NotificationService, add_user: AddUser, fresh_databases: DatabasePair
):
    """On a filled table none reads it whole."""
    user = await add_user("ada")
    with psycopg.connect(fresh_databases.main_url("owner"), autocommit=True) as connection:
        connection.execute(
            "INSERT INTO notifications (id, user_id, kind, title, body, cause_id, read_at)"
            " SELECT gen_random_uuid(), %s, 'order_filled', 'x', '', n::text, CASE WHEN n %% 50 > 0 THEN now() END"
            " FROM generate_series(1, 20000) AS n",
            (user,),
        )
        connection.execute(
            "INSERT INTO notification_deliveries (notification_id, channel) SELECT id, 'webhook' FROM notifications"
        )
        connection.execute(
            "UPDATE notification_deliveries SET status = 'sending', attempts = 1, lease = gen_random_uuid()"
        )
        connection.execute(
            "UPDATE notification_deliveries SET status = 'delivered', lease = NULL, finished_at = now()"
        )
        connection.execute("VACUUM ANALYZE notifications")
        connection.execute("VACUUM ANALYZE notification_deliveries")
        from novadex.notifications.sending import QUERIES as SENDING
        from novadex.notifications.store import QUERIES

        nobody = UUID(int=1)
        for query, parameters in (
            (QUERIES.newest, (user, UUID(int=(1 << 128) - 1), True, None, 51)),
            (QUERIES.unread, (str(user), 1_000)),
            (SENDING.claim, ("webhook", 16, nobody, 40.0, [], 8, 2)),
            (SENDING.bury_lost, ("webhook", 8)),
            (SENDING.figures, ("webhook", 1_000)),
        ):
            plan = psycopg.RawCursor(connection).execute(b"EXPLAIN " + query.sql.encode(), parameters).fetchall()
            text = "\n".join(row[0] for row in plan)
            assert "Seq Scan on notification" not in text, f"{query.name}\n{text}"
