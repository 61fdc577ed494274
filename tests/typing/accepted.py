"""What may reach a database: literal SQL, and queries from files. Type-checked, never run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import assert_type

from novadex import DatabaseConnection
from novadex.storage.queries import Query, load_queries
from novadex.storage.rows import Row
from novadex.storage.session import Session


@dataclass
class Asset:
    """A record."""

    symbol: str


async def accepted(db: DatabaseConnection, session: Session, user_id: str) -> None:
    """Each call as it is meant."""
    table = "users"
    assert_type(await db.query("SELECT * FROM users WHERE id = $1", [user_id]), list[Row])
    await db.query(f"SELECT * FROM {table}")  # literal through and through
    await db.query("SELECT " + "1")
    await db.query(" ".join(("SELECT", "1")))
    await db.analytics_query("SELECT 1")
    await db.read_query("SELECT 1", after=await db.write_position())
    named: Query = load_queries(Path("queries.sql")).trade_by_id
    assert_type(await db.main.one(named, [user_id]), Row | None)
    assert_type(await db.main.records(Asset, named), list[Asset])
    assert_type(await db.main.execute(named), int)
    assert_type(await session.made(lambda symbol: len(symbol), named), list[int])
    async for row in session.stream(named):
        assert_type(row, Row)

    async def add(session: Session, symbol: str, *, decimals: int) -> bool:
        return bool(await session.value("SELECT $1, $2", [symbol, decimals]))

    assert_type(await db.main.run(add, "BTC", decimals=8), bool)
