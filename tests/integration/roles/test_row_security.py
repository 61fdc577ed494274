"""A user-scoped connection sees one user's rows, whatever is asked and however."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import UUID

import psycopg
import pytest
from psycopg import errors

from novadex.errors import ConfigurationError, UnavailableError, ValidationError
from novadex.storage.connection import DatabaseConnection
from novadex.storage.migrations import migrate
from tests.conftest import DatabasePair
from tests.integration.schema.attacks import MAIN_ROWS, ORDER, SETUP_MAIN, USER, insert
from tests.servers import PostgresServer

OTHER = UUID(int=USER.int + 1_000)
NOBODY = UUID(int=USER.int + 2_000)
SCOPED = (
    "users",
    "wallets",
    "user_sessions",
    "api_keys",
    "orders",
    "order_events",
    "trades",
    "liquidity_positions",
    "liquidity_events",
    "transfers",
    "portfolio_holdings",
    "portfolio_flows",
    "portfolio_positions",
    "portfolio_lots",
    "portfolio_closings",
    "portfolio_snapshots",
    "notifications",
    "notification_preferences",
    "price_alerts",
)
OF_A_USER = [table for table in SCOPED if table not in ("users", "order_events", "liquidity_events")]
NO_SETTING: list[LiteralString] = ["SELECT 1", "SET novadex.user_id = ''", "RESET novadex.user_id"]


@dataclass(frozen=True)
class TwoUsers:
    """A database in which two users have a row in every table."""

    pair: DatabasePair

    def connect(self, user: UUID | None) -> psycopg.Connection[Any]:
        connection = psycopg.connect(self.pair.main_url("user"), autocommit=True)
        if user is not None:
            connection.execute("SELECT set_config('novadex.user_id', %s, false)", (str(user),))
        return connection


def fill(connection: psycopg.Connection[Any]) -> None:
    """Rows of USER and of OTHER, one of each in every table."""
    connection.execute(SETUP_MAIN.encode())
    connection.execute("INSERT INTO users (id, username) VALUES (%s, 'other')", (OTHER,))
    for number, user in enumerate((USER, OTHER)):
        shift = number * 50
        for table in OF_A_USER:
            row = {**MAIN_ROWS[table], "user_id": user}
            if "id" in row:
                row["id"] = UUID(int=row["id"].int + shift)
            for column in ("token_hash", "key_hash"):
                if column in row:
                    row[column] = bytes([number]) * 32
            if table == "wallets":
                row["address"] = f"0x{number:040x}"
            insert(connection, table, row)
        event = MAIN_ROWS["order_events"]
        changes = {
            "id": UUID(int=event["id"].int + shift + 1),
            "order_id": UUID(int=MAIN_ROWS["orders"]["id"].int + shift),
            "market_sequence": 2 * number + 3,
            "quantity": MAIN_ROWS["orders"]["quantity"],
            "price": MAIN_ROWS["orders"]["price"],
        }
        insert(connection, "order_events", {**event, **changes})


@pytest.fixture(scope="module")
def two(make_databases: Callable[[], DatabasePair]) -> Iterator[TwoUsers]:
    pair = make_databases()
    with psycopg.connect(pair.main_url("owner"), autocommit=True) as owner:
        fill(owner)
    with psycopg.connect(pair.main_url(None), autocommit=True) as superuser:
        superuser.execute(
            "CREATE FUNCTION tell(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001"
            " AS $$ BEGIN RAISE NOTICE '%', $1; RETURN true; END $$"
        )
        superuser.execute("ANALYZE")
    yield TwoUsers(pair)
    pair.server.drop_database(pair.main)
    pair.server.drop_database(pair.analytics)


def count(connection: psycopg.Connection[Any], table: str) -> int:
    row = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
    assert row is not None
    return row[0]


def test_the_list_of_tables_is_that_of_the_schema(two: TwoUsers) -> None:
    with psycopg.connect(two.pair.main_url("owner")) as owner:
        protected = owner.execute("SELECT relname FROM pg_class WHERE relrowsecurity").fetchall()
        of_users = owner.execute(
            "SELECT relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
            " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm') AND attname = 'user_id'"
            " AND has_any_column_privilege('novadex_user', c.oid, 'SELECT')"
        ).fetchall()
    assert {row[0] for row in protected} == set(SCOPED)
    assert {row[0] for row in of_users} <= set(SCOPED)


@pytest.mark.parametrize("table", SCOPED)
@pytest.mark.parametrize("before", NO_SETTING)
def test_without_a_user_there_are_no_rows(two: TwoUsers, table: str, before: LiteralString) -> None:
    with two.connect(None) as connection:
        connection.execute(before)
        assert count(connection, table) == 0


@pytest.mark.parametrize("table", SCOPED)
def test_a_user_sees_their_own_rows_only(two: TwoUsers, table: str) -> None:
    with psycopg.connect(two.pair.main_url("owner")) as owner:
        assert count(owner, table) >= 2
    column = {"users": "id", "order_events": "order_id"}.get(table, "user_id")
    expected = {MAIN_ROWS["orders"]["id"], ORDER} if table == "order_events" else {USER}
    with two.connect(USER) as connection:
        found = {row[0] for row in connection.execute(f"SELECT {column} FROM {table}".encode())}
    assert expected <= found
    if table in ("users", "order_events"):
        assert found == expected
    else:
        assert found == {USER}


@pytest.mark.parametrize("table", SCOPED)
def test_a_user_without_rows_sees_none(two: TwoUsers, table: str) -> None:
    with two.connect(NOBODY) as connection:
        assert count(connection, table) == 0


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT t.user_id FROM trades t JOIN users u ON true JOIN wallets w ON true WHERE t.user_id <> $1",
        "SELECT t.user_id FROM users u LEFT JOIN trades t ON t.user_id <> u.id WHERE t.user_id <> $1",
        "SELECT w.user_id FROM orders o, LATERAL (SELECT * FROM wallets WHERE user_id <> o.user_id) w",
        "WITH every AS MATERIALIZED (SELECT user_id FROM trades) SELECT user_id FROM every WHERE user_id <> $1",
        "SELECT user_id FROM trades WHERE user_id <> $1 UNION ALL SELECT user_id FROM wallets WHERE user_id <> $1",
        "SELECT order_id FROM order_events WHERE order_id NOT IN (SELECT id FROM orders WHERE user_id = $1)",
        "SELECT user_id FROM trades TABLESAMPLE SYSTEM (100) WHERE user_id <> $1",
        "SELECT user_id FROM user_sessions WHERE user_id <> $1 OR true AND user_id <> $1",
        "SELECT id FROM users WHERE username = 'other' AND id <> $1",
    ],
)
def test_no_question_gives_rows_of_others(two: TwoUsers, statement: LiteralString) -> None:
    with two.connect(USER) as connection:
        given = (USER,) if "$1" in statement else ()
        assert psycopg.RawCursor(connection).execute(statement, given).fetchall() == []


@pytest.mark.parametrize(("table", "column"), [("wallets", "address"), ("trades", "user_id"), ("users", "username")])
def test_a_cheap_function_is_not_shown_rows_of_others(two: TwoUsers, table: str, column: str) -> None:
    told: list[str | None] = []
    with two.connect(USER) as connection:
        connection.add_notice_handler(lambda diagnostic: told.append(diagnostic.message_primary))
        connection.execute(f"SELECT 1 FROM {table} WHERE tell({column}::text)".encode()).fetchall()
    assert len(told) == 1
    assert told[0] not in ("0x1", str(OTHER), "other")


def test_an_operator_that_fails_tells_nothing_of_rows_of_others(two: TwoUsers) -> None:
    with two.connect(USER) as connection:
        rows = connection.execute(
            "SELECT 1 FROM wallets WHERE 1 / (CASE WHEN user_id = %s THEN 1 ELSE 0 END) = 1", (USER,)
        ).fetchall()
        assert len(rows) == 1


def test_statistics_tell_nothing(two: TwoUsers) -> None:
    with two.connect(USER) as connection:
        rows = connection.execute(
            "SELECT tablename FROM pg_stats WHERE schemaname = 'public' AND tablename NOT IN"
            " ('assets', 'markets', 'venue', 'fee_rates', 'order_transitions', 'pools', 'pool_snapshots', 'prices')"
        ).fetchall()
    assert rows == []


@pytest.mark.parametrize("statement", ["COPY wallets (user_id) TO STDOUT", "COPY (SELECT * FROM trades) TO STDOUT"])
def test_copy_gives_ones_own_rows(two: TwoUsers, statement: LiteralString) -> None:
    with two.connect(USER) as connection, connection.cursor().copy(statement) as copy:
        lines = b"".join(bytes(piece) for piece in copy).decode().splitlines()
    assert len(lines) == 1
    assert str(USER) in lines[0]


def test_partitions_are_out_of_reach(two: TwoUsers) -> None:
    with two.connect(USER) as connection:
        names = connection.execute("SELECT relname FROM pg_class WHERE relispartition AND relkind = 'r'").fetchall()
        assert names
        for (name,) in names:
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(f"SELECT * FROM {name}".encode())


def test_no_function_and_no_view_goes_around_it(two: TwoUsers) -> None:
    with two.connect(USER) as connection:
        functions = connection.execute(
            "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosecdef"
            " AND has_function_privilege(oid, 'EXECUTE')"
        ).fetchall()
        views = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('v', 'm')"
            " AND has_any_column_privilege(oid, 'SELECT')"
        ).fetchall()
    assert functions == []
    assert views == []


@pytest.mark.parametrize("statement", ["SET row_security = off", "SET SESSION row_security TO off"])
def test_it_cannot_be_turned_off(two: TwoUsers, statement: LiteralString) -> None:
    with two.connect(USER) as connection:
        connection.execute(statement)
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute("SELECT * FROM trades")


# Through the pool ------------------------------------------------------------------------------------------

OWNERS = "SELECT DISTINCT user_id FROM trades UNION SELECT user_id FROM wallets"


async def owners_without_a_user(db: DatabaseConnection) -> int:
    return await db.main.value("SELECT count(*) FROM trades")


def user_connection(two: TwoUsers, **settings: Any) -> DatabaseConnection:
    return two.pair.connection("user", **settings)


async def owners(db: DatabaseConnection, user: UUID) -> set[UUID]:
    async with db.user_transaction(user) as session:
        before = {row.user_id for row in await session.query(OWNERS)}
        await asyncio.sleep(0)
        after = {row.user_id for row in await session.query(OWNERS)}
    assert before == after
    return after


async def test_one_connection_serves_one_user_after_another(two: TwoUsers) -> None:
    async with user_connection(two, pool_size_max=1) as db:
        for user in (USER, OTHER, USER):
            assert await owners(db, user) == {user}
            assert await owners_without_a_user(db) == 0


async def test_many_users_at_once_share_few_connections(two: TwoUsers) -> None:
    async with user_connection(two, pool_size_max=2) as db:
        wanted = [(USER, OTHER, NOBODY)[number % 3] for number in range(60)]
        found = await asyncio.gather(*(owners(db, user) for user in wanted))
        assert found == [set() if user == NOBODY else {user} for user in wanted]
        assert await owners_without_a_user(db) == 0


async def test_an_exception_leaves_no_user_behind(two: TwoUsers) -> None:
    async with user_connection(two, pool_size_max=1) as db:
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                async with db.user_transaction(USER):
                    raise ZeroDivisionError
            with pytest.raises(errors.DivisionByZero):
                async with db.user_transaction(USER) as session:
                    await session.query("SELECT 1 / 0")
            assert await owners_without_a_user(db) == 0


async def test_a_setting_for_the_session_leaves_no_user_behind(two: TwoUsers) -> None:
    async with user_connection(two, pool_size_max=1) as db:
        async with db.user_transaction(USER) as session:
            await session.query("SELECT set_config('novadex.user_id', $1, false)", (str(OTHER),))
        assert await owners_without_a_user(db) == 0
        async with db.user_transaction(USER) as session:
            with pytest.raises(errors.DivisionByZero):
                await session.query("SELECT set_config('novadex.user_id', $1, false), 1 / 0", (str(OTHER),))
        assert await owners_without_a_user(db) == 0


async def test_a_cancelled_task_leaves_no_user_behind(two: TwoUsers) -> None:
    async with user_connection(two, pool_size_max=1) as db:
        for statement in ("SELECT pg_sleep(30)", "SELECT count(*) FROM trades, pg_sleep(30)"):
            inside = asyncio.Event()

            async def work(slow: LiteralString, inside: asyncio.Event = inside) -> None:
                async with db.user_transaction(USER) as session:
                    inside.set()
                    await session.query(slow)

            task = asyncio.create_task(work(statement))
            await asyncio.wait_for(inside.wait(), 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await owners_without_a_user(db) == 0


async def test_a_user_transaction_changes_nothing(two: TwoUsers) -> None:
    async with user_connection(two) as db:
        for statement in (
            "DELETE FROM trades",
            "UPDATE users SET role = 'admin'",
            "INSERT INTO assets (symbol, name, decimals) VALUES ('X', 'X', 1)",
        ):
            with pytest.raises((errors.InsufficientPrivilege, errors.ReadOnlySqlTransaction)):
                async with db.user_transaction(USER) as session:
                    await session.query(statement)


@pytest.mark.parametrize("role", ["app", "worker", "readonly", "backup", "owner"])
async def test_a_connection_of_another_role_is_refused(two: TwoUsers, role: Any) -> None:
    async with two.pair.connection(role) as db:
        with pytest.raises((ConfigurationError, UnavailableError, errors.InsufficientPrivilege)) as caught:
            async with db.user_transaction(USER):
                pytest.fail("it was let in")
        assert isinstance(caught.value, ConfigurationError)


@pytest.mark.parametrize("user", ["", "x", "' OR true --", USER.hex[:-1]])
async def test_what_is_no_user_is_refused(two: TwoUsers, user: str) -> None:
    async with user_connection(two) as db:
        with pytest.raises(ValidationError):
            async with db.user_transaction(user):
                pytest.fail("it was let in")


# Who cannot be exempted ------------------------------------------------------------------------------------


def test_where_the_app_is_not_exempt_trades_stay_as_they_are_and_users_do_not_see_them(
    make_postgres: Callable[..., PostgresServer],
) -> None:
    server = make_postgres()
    with server.superuser() as superuser:
        for role in ("app", "worker", "backup"):
            superuser.execute(f"ALTER ROLE novadex_{role} NOBYPASSRLS".encode())
    server.make_database("plain", owner="novadex_owner")
    migrate(server.url("plain", "novadex_owner"), "main")
    told: list[str] = []

    def connect(role: str) -> psycopg.Connection[Any]:
        connection = psycopg.connect(server.url("plain", f"novadex_{role}"), autocommit=True)
        connection.add_notice_handler(lambda diagnostic: told.append(f"{diagnostic.severity}"))
        return connection

    def copy_a_trade(number: int) -> None:
        columns = list(MAIN_ROWS["trades"])
        row = {**MAIN_ROWS["trades"], "id": UUID(int=MAIN_ROWS["trades"]["id"].int + number)}
        with (
            connect("app") as app,
            app.cursor().copy(f"COPY trades ({', '.join(columns)}) FROM STDIN".encode()) as copy,
        ):
            copy.write_row([row[column] for column in columns])

    with connect("owner") as owner:
        fill(owner)
        owner.execute("SELECT protect_rows()")
        assert told == ["WARNING"]
    copy_a_trade(7)
    with connect("app") as app:
        assert count(app, "trades") == 3
        assert count(app, "wallets") == 2
    with connect("user") as user:
        user.execute("SELECT set_config('novadex.user_id', %s, false)", (str(USER),))
        assert count(user, "wallets") == 1
        with pytest.raises(errors.InsufficientPrivilege):
            user.execute("SELECT * FROM trades")

    with server.superuser() as superuser:
        superuser.execute("ALTER ROLE novadex_app BYPASSRLS")
    told.clear()
    with connect("owner") as owner:
        owner.execute("SELECT protect_rows()")
    assert told == []
    copy_a_trade(8)
    with connect("user") as user:
        assert count(user, "trades") == 0
        user.execute("SELECT set_config('novadex.user_id', %s, false)", (str(OTHER),))
        assert count(user, "trades") == 1
