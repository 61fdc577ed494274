"""Every call of ``DatabaseConnection``, ``Database`` and ``Session`` gives what it says."""

from __future__ import annotations

import dataclasses
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, LiteralString
from uuid import UUID, uuid4

import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

from novadex.storage.connection import DatabaseConnection
from novadex.storage.queries import Query
from novadex.storage.rows import Row


@dataclasses.dataclass(frozen=True, slots=True)
class Asset:
    """A record as a service has it."""

    symbol: str
    decimals: int


ADD_ASSETS = """
    INSERT INTO assets (symbol, name, decimals)
    SELECT * FROM unnest($1::text[], $1::text[], $2::integer[])
"""
NAMED = Query("assets_by_symbol", "Assets in order.", "SELECT symbol, decimals FROM assets ORDER BY symbol")


@pytest.fixture
async def assets(db: DatabaseConnection) -> None:
    await db.main.execute(ADD_ASSETS, [["BTC", "ETH", "USDC"], [8, 18, 6]])


async def test_the_short_way_of_both_databases(db: DatabaseConnection, assets: None) -> None:
    rows = await db.query("SELECT symbol FROM assets WHERE decimals > $1 ORDER BY symbol", [7])
    assert [row.symbol for row in rows] == ["BTC", "ETH"]
    assert await db.analytics_query("SELECT * FROM user_events") == []


async def test_rows_are_mappings_with_attributes(db: DatabaseConnection) -> None:
    (row,) = await db.query("SELECT 1 AS id, 'BTC' AS symbol, NULL AS nothing")
    assert isinstance(row, Row)
    assert row == {"id": 1, "symbol": "BTC", "nothing": None}
    assert (row.id, row["symbol"], row.nothing) == (1, "BTC", None)
    assert list(row) == ["id", "symbol", "nothing"]
    assert {**row}["symbol"] == "BTC"
    with pytest.raises(AttributeError, match="no column 'price'; it has id, symbol, nothing"):
        _ = row.price


async def test_one(db: DatabaseConnection, assets: None) -> None:
    row = await db.main.one("SELECT symbol FROM assets ORDER BY symbol")
    assert row is not None
    assert row.symbol == "BTC"
    assert await db.main.one("SELECT symbol FROM assets WHERE false") is None


async def test_value(db: DatabaseConnection, assets: None) -> None:
    assert await db.main.value("SELECT count(*) FROM assets") == 3
    assert await db.main.value("SELECT 1 WHERE false") is None
    assert await db.main.value("UPDATE users SET role = 'admin' WHERE false") is None


async def test_records_of_a_type(db: DatabaseConnection, assets: None) -> None:
    assert await db.main.records(Asset, NAMED) == [Asset("BTC", 8), Asset("ETH", 18), Asset("USDC", 6)]


async def test_made_by_a_function(db: DatabaseConnection, assets: None) -> None:
    assert await db.main.made(lambda symbol, decimals: f"{symbol}:{decimals}", NAMED) == ["BTC:8", "ETH:18", "USDC:6"]


async def test_execute_counts_rows(db: DatabaseConnection, assets: None) -> None:
    assert await db.main.execute("UPDATE markets SET status = 'halted'") == 0
    assert await db.main.execute("SELECT * FROM assets") == 3
    assert await db.main.execute(ADD_ASSETS, [["SOL"], [9]]) == 1


async def test_a_statement_without_a_result_has_no_rows(db: DatabaseConnection) -> None:
    assert await db.query("SET LOCAL timezone = 'UTC'") == []


async def test_a_session_has_the_same_calls(db: DatabaseConnection, assets: None) -> None:
    async with db.main.session() as session:
        assert [row.symbol for row in await session.query(NAMED)] == ["BTC", "ETH", "USDC"]
        first = await session.one(NAMED)
        assert first is not None
        assert first.decimals == 8
        assert await session.value("SELECT sum(decimals) FROM assets") == 32
        assert await session.records(Asset, NAMED) == [Asset("BTC", 8), Asset("ETH", 18), Asset("USDC", 6)]
        assert await session.made(Asset, NAMED) == await session.records(Asset, NAMED)
        assert await session.execute("SELECT 1") == 1


@pytest.mark.parametrize(
    "value",
    [
        Decimal(2**256 - 1),
        Decimal("0.000000000000000001"),
        uuid4(),
        datetime(2024, 8, 8, 23, 54, tzinfo=UTC),
        date(2024, 8, 8),
        b"\x00\xff",
        "drop table users; -- 🦀 'quoted' $1 %s",
        True,
        [1, 2, None],
        10**18,
        None,
    ],
    ids=lambda value: type(value).__name__,
)
async def test_values_go_there_and_back(db: DatabaseConnection, value: Any) -> None:
    kinds: dict[type, LiteralString] = {
        Decimal: "SELECT $1::numeric",
        UUID: "SELECT $1::uuid",
        datetime: "SELECT $1::timestamptz",
        date: "SELECT $1::date",
        bytes: "SELECT $1::bytea",
        str: "SELECT $1::text",
        bool: "SELECT $1::boolean",
        list: "SELECT $1::bigint[]",
        int: "SELECT $1::bigint",
        type(None): "SELECT $1::text",
    }
    assert await db.main.value(kinds[type(value)], [value]) == value


async def test_json_goes_there_and_back(db: DatabaseConnection) -> None:
    content = {"price": "0.1", "parts": [1, None, "ü"]}
    assert await db.main.value("SELECT $1::jsonb", [Jsonb(content)]) == content


async def test_parameters_are_never_sql(db: DatabaseConnection, assets: None) -> None:
    rows = await db.query("SELECT symbol FROM assets WHERE symbol = $1", ["BTC' OR '1'='1"])
    assert rows == []


async def test_a_mistake_in_sql_is_the_databases_own_error(db: DatabaseConnection) -> None:
    with pytest.raises(errors.UndefinedTable):
        await db.query("SELECT * FROM nothing_of_that_name")
    with pytest.raises(errors.UniqueViolation):
        await db.main.execute(ADD_ASSETS, [["BTC", "BTC"], [8, 8]])
    assert await db.main.value("SELECT count(*) FROM assets") == 0


async def test_worker_and_owner_reach_the_same_databases(
    db: DatabaseConnection, worker_db: DatabaseConnection, owner_db: DatabaseConnection, assets: None
) -> None:
    for connection, user in ((db, "app"), (worker_db, "worker"), (owner_db, "owner")):
        assert await connection.main.value("SELECT current_user::text") == f"novadex_{user}"
        assert await connection.analytics.value("SELECT current_user::text") == f"novadex_{user}"
        assert await connection.main.value("SELECT count(*) FROM assets") == 3


async def test_the_server_sees_who_connects(db: DatabaseConnection) -> None:
    assert await db.main.value("SELECT current_setting('application_name')") == "novadex main"
    assert await db.analytics.value("SELECT current_setting('application_name')") == "novadex analytics"
