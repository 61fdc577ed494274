"""Checks of the records themselves: orders, their events, executions and matches. Nothing here is repaired: where two
records contradict each other, a person decides which one is right."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from novadex.reconciliation.records import Finding, Slice, differing
from novadex.storage.queries import Query, load_queries

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from novadex.storage.database import Database
    from novadex.storage.session import Session

SQL = load_queries(Path(__file__).with_name("orders.sql"))
PAGE_ROWS = 2_000
PAGE_EVENTS = 20_000
NO_ID = UUID(int=0)


class Part(NamedTuple):
    """Queries over the pages of one table."""

    page: Query
    queries: Sequence[Query]


class PagedCheck:
    """An invariant that is asked page by page, each page in one snapshot: what commits together is seen together."""

    def __init__(self, main: Database, name: str, invariant: str, parts: Sequence[Part]) -> None:
        self.name, self.invariant = name, invariant
        self._main = main
        self._parts = parts

    async def slice(self, after: Any, found: Callable[[Finding], None]) -> Slice:
        number, id = after or (0, NO_ID)
        part = self._parts[number]
        async with self._main.transaction("repeatable read", read_only=True) as session:
            await session.query(SQL.read_by_index)
            (page,) = await session.query(part.page, [id, PAGE_ROWS])
            if page.rows:
                for query in part.queries:
                    await self._look(session, query, [id, page.last], found)
        if page.rows == PAGE_ROWS:
            return Slice(page.rows, (number, page.last))
        return Slice(page.rows, (number + 1, NO_ID) if number + 1 < len(self._parts) else None)

    async def _look(
        self, session: Session, query: Query, range_: list[Any], found: Callable[[Finding], None]
    ) -> None:
        for row in await session.query(query, range_):
            stored, expected = row.stored, row.expected
            if stored is not None and expected is not None:
                stored, expected = differing(stored, expected)
            found(Finding(self.name, row.what, row.key, stored, expected))

    async def repair(self, findings: list[Finding]) -> bool:
        del findings
        return False


class SequenceCheck:
    """The events of each market are numbered without a gap, up to the number that the market has reached."""

    name = "sequences"
    invariant = "The order events of each market are numbered 1, 2, 3 and so on, up to its last number."

    def __init__(self, main: Database) -> None:
        self._main = main

    async def slice(self, after: Any, found: Callable[[Finding], None]) -> Slice:
        market_id, sequence = after or (0, None)
        async with self._main.transaction("repeatable read", read_only=True) as session:
            if sequence is None:
                market, sequence = await session.one(SQL.markets, [market_id]), 0
            else:
                market = await session.one(SQL.market, [market_id])
            if market is None:
                return Slice(0)
            place = [market.market_id, sequence, PAGE_EVENTS]
            for row in await session.query(SQL.gaps_of_sequences, place):
                key = {"market": market.symbol, "id": row.id}
                found(
                    Finding(
                        self.name,
                        "order_events",
                        key,
                        {"market_sequence": row.sequence},
                        {"market_sequence": row.expected},
                    )
                )
            (end,) = await session.query(SQL.end_of_sequences, place)
        if end.events == PAGE_EVENTS:
            return Slice(end.events, (market.market_id, end.last))
        if end.last != market.sequence:
            stored = None if market.sequence is None else {"sequence": market.sequence}
            expected = {"sequence": end.last}
            found(Finding(self.name, "market_sequences", {"market": market.symbol}, stored, expected))
        return Slice(end.events, (market.market_id, None))

    async def repair(self, findings: list[Finding]) -> bool:
        del findings
        return False


def checks_of_orders(main: Database) -> list[PagedCheck | SequenceCheck]:
    """All checks of records."""
    return [
        PagedCheck(
            main,
            "orders",
            "Every order is as its events say, and every event has its order.",
            [Part(SQL.orders_page, [SQL.orders_as_events]), Part(SQL.events_page, [SQL.events_without_order])],
        ),
        PagedCheck(
            main,
            "events",
            "The events of every order are numbered without a gap, and each is a step of the state machine.",
            [Part(SQL.orders_page, [SQL.versions_of_events, SQL.steps_of_events])],
        ),
        PagedCheck(
            main,
            "fills",
            "Every order is filled by the sum of its executions, and every execution of an order is an event of it.",
            [
                Part(SQL.orders_page, [SQL.fills_of_orders]),
                Part(SQL.trades_page, [SQL.fills_without_event]),
            ],
        ),
        SequenceCheck(main),
        PagedCheck(
            main,
            "matches",
            "Every match has two sides that mirror each other, or one and a pool; executions of orders have a match.",
            [
                Part(SQL.matches_page, [SQL.sides_of_matches]),
                Part(SQL.trades_page, [SQL.trades_of_matches]),
            ],
        ),
    ]
