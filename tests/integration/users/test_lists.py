"""Lists of users by key pages: each user once, whatever is added meanwhile; no personal data."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.sql import SQL

from novadex.errors import ValidationError
from novadex.ids import uuid7
from novadex.users.service import LIST_LIMIT_MAX, UserService
from novadex.users.store import QUERIES
from tests.conftest import DatabasePair
from tests.integration.users.people import EVM
from tests.payloads import PAYLOADS


def add_many(databases: DatabasePair, count: int) -> set[UUID]:
    ids = [uuid7() for _ in range(count)]
    with psycopg.connect(databases.main_url("owner"), autocommit=True) as connection:
        connection.execute(
            "INSERT INTO users (id, role, status) SELECT id, CASE WHEN n %% 3 = 0 THEN 'trader' ELSE 'user' END,"
            " CASE WHEN n %% 2 = 0 THEN 'deactivated' ELSE 'active' END"
            " FROM unnest(%s::uuid[]) WITH ORDINALITY AS given (id, n)",
            (ids,),
        )
    return set(ids)


async def pages(service: UserService, **filters: Any) -> list[UUID]:
    found: list[UUID] = []
    cursor = None
    for _ in range(1_000):
        page = await service.list_users(cursor=cursor, **filters)
        found += [user.id for user in page.items]
        if page.next is None:
            return found
        assert page.items
        cursor = page.next
    raise AssertionError("the pages do not end")


@pytest.mark.parametrize("limit", [1, 2, 7, 100, LIST_LIMIT_MAX])
async def test_every_user_is_in_one_page_the_newest_first(
    service: UserService, fresh_databases: DatabasePair, limit: int
):
    ids = add_many(fresh_databases, 21)
    found = await pages(service, limit=limit)
    assert found == sorted(ids, reverse=True)


async def test_a_page_that_is_just_full_is_the_last(service: UserService, fresh_databases: DatabasePair):
    add_many(fresh_databases, 10)
    page = await service.list_users(limit=10)
    assert (len(page.items), page.next) == (10, None)
    page = await service.list_users(limit=9)
    assert len(page.items) == 9
    assert page.next is not None
    assert await service.list_users(cursor=str(uuid7()), limit=1000) != page
    assert (await service.list_users(cursor=str(min(user.id for user in page.items)))).next is None


async def test_there_may_be_nobody(service: UserService):
    page = await service.list_users()
    assert (page.items, page.next) == ([], None)


async def test_every_user_once_while_others_are_added_and_erased(
    service: UserService, elsewhere: UserService, fresh_databases: DatabasePair
):
    ids = add_many(fresh_databases, 300)
    reading = True

    async def disturb() -> int:
        number = 0
        while reading:
            number += 1
            added = await elsewhere.create_user(username=f"new{number}", wallet_address=f"0x{number:040x}")
            if number % 3 == 0:
                await elsewhere.erase_user(added.id)
        return number

    disturbing = asyncio.create_task(disturb())
    for _ in range(5):
        found = await pages(service, limit=7)
        assert len(found) == len(set(found))
        assert ids <= set(found)
        assert found == sorted(found, reverse=True)
    reading = False
    assert await disturbing > 5


async def test_roles_and_states_are_picked(service: UserService, fresh_databases: DatabasePair):
    add_many(fresh_databases, 60)
    everybody = (await service.list_users(limit=1000)).items
    for role in ("user", "trader", "admin"):
        for status in ("active", "deactivated", "erased"):
            wanted = [user.id for user in everybody if (user.role, user.status) == (role, status)]
            assert await pages(service, role=role, status=status, limit=4) == wanted
    assert len(await pages(service, role="trader")) == 20
    assert len(await pages(service, status="active")) == 30


async def test_a_list_has_wallets_and_names_and_no_personal_data(service: UserService):
    user = await service.create_user(
        username="ada",
        email="ada@example.com",
        wallet_address=EVM[0],
        personal={"full_name": "Ada Lovelace"},
        preferences={"theme": "dark"},
    )
    [listed] = (await service.list_users()).items
    assert listed == user.without_personal()
    assert (listed.email, listed.personal, listed.preferences) == (None, None, {})
    assert (listed.username, listed.wallets) == ("ada", user.wallets)


async def test_another_limit_is_refused(service: UserService):
    wrong: list[Any] = [0, -1, LIST_LIMIT_MAX + 1, 10**5000, 1.0, True, "10", None, [], "1; DROP TABLE users"]
    for limit in wrong:
        with pytest.raises(ValidationError) as refused:
            await service.list_users(limit=limit)
        assert refused.value.field == "limit"


@pytest.mark.parametrize("field", ["cursor", "role", "status"])
async def test_malformed_cursors_roles_and_states_are_refused(service: UserService, field: str):
    await service.create_user()
    wrong: list[Any] = [*PAYLOADS, "", 0, 1.5, [], {}, b"", "00000000-0000-0000-0000-00000000000", "source", "ACTIVE"]
    for value in wrong:
        with pytest.raises(ValidationError) as refused:
            await service.list_users(**{field: value})
        assert refused.value.field == field
        assert len(str(refused.value)) < 500
        str(refused.value).encode()
    assert len((await service.list_users()).items) == 1


async def test_a_cursor_is_any_id(service: UserService, fresh_databases: DatabasePair):
    ids = sorted(add_many(fresh_databases, 5), reverse=True)
    assert (await service.list_users(cursor=str(UUID(int=0)))).items == []
    assert [user.id for user in (await service.list_users(cursor=str(UUID(int=(1 << 128) - 1)))).items] == ids
    assert [user.id for user in (await service.list_users(cursor=ids[1].hex)).items] == ids[2:]


@pytest.mark.parametrize("prepared", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize(
    ("query", "role", "status", "index"),
    [
        ("users_newest", None, None, "users_pkey"),
        ("users_newest_of_rare_role", "admin", None, "users_role_idx"),
        ("users_newest_of_rare_role", "admin", "erased", "users_(role|status)_idx"),
        ("users_newest_of_rare_status", None, "erased", "users_status_idx"),
        ("users_newest_of_rare_status", "user", "erased", "users_status_idx"),
    ],
)
def test_a_page_of_few_among_many_is_read_by_an_index(  # noqa: PLR0917 - parameters
    many: str, query: str, role: str | None, status: str | None, index: str, prepared: str
):
    with psycopg.connect(many, autocommit=True) as connection:
        connection.execute("SELECT set_config('plan_cache_mode', %s, false)", (prepared,))
        connection.execute(f"PREPARE page (uuid, text, text, bigint) AS {getattr(QUERIES, query).sql}".encode())
        statement = SQL("EXPLAIN EXECUTE page ({}, {}, {}, 101)").format(UUID(int=(1 << 128) - 1), role, status)
        plan = "\n".join(line for (line,) in connection.execute(statement))
    assert re.search(index, plan)
    assert "Seq Scan on users" not in plan


@pytest.fixture(scope="module")
def many(make_databases: Callable[[], DatabasePair]) -> str:
    """A database with 60,000 users, few of them staff or erased."""
    url = make_databases().main_url("owner")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER TABLE users DISABLE TRIGGER USER")
        connection.execute(
            "INSERT INTO users (id, role, status) SELECT gen_random_uuid(),"
            " CASE n % 9000 WHEN 0 THEN 'admin' ELSE 'user' END, CASE n % 9000 WHEN 1 THEN 'erased' ELSE 'active' END"
            " FROM generate_series(1, 60000) n"
        )
        connection.execute("ANALYZE users")
    return url
