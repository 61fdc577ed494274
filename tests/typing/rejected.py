"""What may not reach a database: text that could come from outside. Each marked line is an error, no other is."""

from __future__ import annotations

from novadex import DatabaseConnection
from novadex.storage.queries import Query
from novadex.storage.session import Session


async def rejected(db: DatabaseConnection, session: Session, user_id: str, lines: list[str]) -> None:
    """Each call as it is not meant."""
    await db.query(f"SELECT * FROM users WHERE id = '{user_id}'")  # rejected
    await db.query("SELECT * FROM users WHERE id = '%s'" % user_id)  # rejected
    await db.query("SELECT * FROM users WHERE id = '{}'".format(user_id))  # rejected
    await db.query("SELECT * FROM users WHERE id = " + user_id)  # rejected
    statement: str = "SELECT 1"
    await db.query(input(statement))  # rejected
    await db.query("\n".join(lines))  # rejected
    await db.query(b"SELECT 1")  # rejected
    await db.query("SELECT $1", user_id=user_id)  # rejected
    await db.analytics_query(user_id)  # rejected
    await db.read_query(user_id)  # rejected
    await db.main.query(user_id)  # rejected
    await db.main.one(user_id)  # rejected
    await db.main.value(user_id)  # rejected
    await db.main.records(dict, user_id)  # rejected
    await db.main.made(dict, user_id)  # rejected
    await db.main.execute(user_id)  # rejected
    await session.query(user_id)  # rejected
    await session.one(user_id)  # rejected
    await session.value(user_id)  # rejected
    await session.records(dict, user_id)  # rejected
    await session.made(dict, user_id)  # rejected
    await session.execute(user_id)  # rejected
    async for _ in db.main.stream(user_id):  # rejected
        pass
    async for _ in session.stream(user_id):  # rejected
        pass
    async for _ in db.main.copy_out(user_id):  # rejected
        pass
    async for _ in session.copy_out(user_id):  # rejected
        pass
    async with db.main.copy_in(user_id):  # rejected
        pass
    async with session.copy_in(user_id):  # rejected
        pass
    Query("name", "purpose", user_id)  # rejected
    db.transaction("snapshot")  # rejected

    async def add(session: Session, symbol: str) -> None:
        await session.value("SELECT $1", [symbol])

    await db.main.run(add, 1)  # rejected
    await db.main.run(add)  # rejected
