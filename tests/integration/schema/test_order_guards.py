"""The state machine of orders in the database itself: tried by raw SQL, as the owner of the schema."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import errors

from tests.conftest import DatabasePair
from tests.integration.schema.attacks import MAIN_ROWS, OTHER_ID, SETUP_MAIN, TIME, USER, insert

TYPES = ("placed", "triggered", "amended", "filled", "cancelled", "expired", "rejected", "busted")
STATES = ("untriggered", "open", "partially_filled", "filled", "cancelled", "expired", "rejected")
STEPS = list(itertools.product(TYPES, STATES, STATES))
FILLED = {"filled": Decimal(2), "partially_filled": Decimal(1)}
ORDER, TRADE, REVERSAL = UUID(int=OTHER_ID.int + 500), UUID(int=OTHER_ID.int + 501), UUID(int=OTHER_ID.int + 502)


@pytest.fixture(scope="module")
def owner(make_databases: Any) -> Iterator[psycopg.Connection[Any]]:
    pair: DatabasePair = make_databases()
    with psycopg.connect(pair.main_url("owner"), autocommit=True) as connection:
        connection.execute(SETUP_MAIN.encode())
        yield connection


def legal(connection: psycopg.Connection[Any]) -> set[tuple[str, str, str]]:
    return set(connection.execute("SELECT type, from_status, to_status FROM order_transitions").fetchall())


def put(connection: psycopg.Connection[Any], status: str) -> Decimal:
    """An order in some state, put there with the guards off; its trades are there too."""
    filled = FILLED.get(status, Decimal(0))
    connection.execute("ALTER TABLE orders DISABLE TRIGGER orders_place")
    insert(
        connection,
        "orders",
        {**MAIN_ROWS["orders"], "id": ORDER, "quantity": Decimal(2), "status": status, "filled_quantity": filled},
    )
    connection.execute("ALTER TABLE orders ENABLE TRIGGER orders_place")
    placed = event("placed", "open", filled=Decimal(0), market_sequence=1_000)
    insert(connection, "order_events", placed)
    return filled


def event(type: str, status: str, *, filled: Decimal, **changes: Any) -> dict[str, Any]:
    trade = {"filled": TRADE, "busted": REVERSAL}.get(type)
    id = {"placed": ORDER, "filled": TRADE, "busted": REVERSAL}.get(type, OTHER_ID)
    return {
        **MAIN_ROWS["order_events"],
        "id": id,
        "order_id": ORDER,
        "version": 1 if type == "placed" else 2,
        "type": type,
        "status": status,
        "quantity": Decimal(2),
        "filled_quantity": filled,
        "price": Decimal(101),
        "reason": "no funds" if type == "rejected" else None,
        "trade_id": trade,
        **changes,
    }


def put_trades(connection: psycopg.Connection[Any], amount: Decimal) -> None:
    """An execution of the order in a transaction of its own, and a row that undoes it."""
    row = {**MAIN_ROWS["trades"], "base_amount": amount, "quote_amount": amount * 100, "order_id": ORDER}
    insert(connection, "trades", {**row, "id": TRADE, "side": "sell", "xid": "100"})
    insert(connection, "trades", {**row, "id": REVERSAL, "side": "buy", "reverses": TRADE})


@pytest.mark.parametrize("from_status", STATES)
def test_every_step_that_is_not_in_the_table_is_refused(owner: psycopg.Connection[Any], from_status: str) -> None:
    allowed = legal(owner)
    for type, before, after in STEPS:
        if before != from_status or (type, before, after) in allowed:
            continue
        filled = FILLED.get(after, Decimal(0))
        with owner.transaction(force_rollback=True):
            was = put(owner, before)
            amount = abs(filled - was) or Decimal(1)
            put_trades(owner, amount)
            with pytest.raises(errors.IntegrityError), owner.transaction():
                insert(owner, "order_events", event(type, after, filled=filled))


@pytest.mark.parametrize("from_status", STATES)
def test_every_step_that_is_in_the_table_can_be_made(owner: psycopg.Connection[Any], from_status: str) -> None:
    for type, before, after in sorted(legal(owner)):
        if before != from_status:
            continue
        filled = {"partially_filled": Decimal("1.5")}.get(after, FILLED.get(after, Decimal(0)))
        quantity = Decimal(2)
        if type == "busted":
            filled = {"partially_filled": Decimal("0.5")}.get(after, Decimal(0))
        elif type != "filled":
            filled = FILLED.get(before, Decimal(0))
        if type == "amended":
            quantity = Decimal(3)
        with owner.transaction(force_rollback=True):
            was = put(owner, before)
            if type == "busted" and before in {"cancelled", "expired"}:
                owner.execute("ALTER TABLE orders DISABLE TRIGGER USER")
                owner.execute("UPDATE orders SET filled_quantity = 1 WHERE id = %s", (ORDER,))
                owner.execute("ALTER TABLE orders ENABLE TRIGGER USER")
                was = Decimal(1)
            put_trades(owner, abs(filled - was) or Decimal(1))
            insert(owner, "order_events", event(type, after, filled=filled, quantity=quantity))
            row = owner.execute(
                "SELECT status, filled_quantity, quantity, version FROM orders WHERE id = %s", (ORDER,)
            ).fetchone()
            assert row == (after, filled, quantity, 2), (type, before, after)


WRONG: dict[str, dict[str, Any]] = {
    "a version is left out": {"version": 3},
    "a number of the market is left out": {"market_sequence": 3},
    "a number of the market comes twice": {"market_sequence": 1},
    "a cancel changes the quantity": {"quantity": Decimal(1)},
    "a cancel fills": {"filled_quantity": Decimal(1)},
    "a cancel changes the price": {"price": Decimal(100)},
}


@pytest.mark.parametrize("what", WRONG)
def test_an_event_that_does_not_go_on_is_refused(owner: psycopg.Connection[Any], what: str) -> None:
    with owner.transaction(force_rollback=True):
        put(owner, "open")
        with pytest.raises(errors.CheckViolation) as caught, owner.transaction():
            insert(owner, "order_events", event("cancelled", "cancelled", filled=Decimal(0), **WRONG[what]))
        assert caught.value.diag.constraint_name == "order_events_follow"
        insert(owner, "order_events", event("cancelled", "cancelled", filled=Decimal(0)))


WRONG_FILLS: dict[str, tuple[str, dict[str, Any]]] = {
    "more than the trade": ("", {"filled_quantity": Decimal("1.5")}),
    "a trade of another order": (f"UPDATE trades SET order_id = NULL WHERE id = '{TRADE}'", {}),
    "a row that undoes": (f"UPDATE trades SET reverses = '{TRADE}' WHERE id = '{TRADE}'", {}),
}


@pytest.mark.parametrize("what", WRONG_FILLS)
def test_a_fill_is_what_its_trade_says(owner: psycopg.Connection[Any], what: str) -> None:
    before, changes = WRONG_FILLS[what]
    with owner.transaction(force_rollback=True):
        put(owner, "open")
        put_trades(owner, Decimal(1))
        owner.execute("ALTER TABLE trades DISABLE TRIGGER USER")
        owner.execute(before.encode() or b"SELECT 1")
        row = event("filled", "partially_filled", filled=Decimal(1), **changes)
        with pytest.raises(errors.CheckViolation) as caught, owner.transaction():
            insert(owner, "order_events", row)
        assert caught.value.diag.constraint_name == "order_events_follow"


def test_a_trade_is_undone_once_and_by_a_later_transaction(owner: psycopg.Connection[Any]) -> None:
    bust = event("busted", "open", filled=Decimal(0))
    for spoil in (
        f"UPDATE trades SET xid = pg_current_xact_id() WHERE id = '{TRADE}'",
        (
            f"INSERT INTO trades SELECT (jsonb_populate_record(t, jsonb_build_object('id', '{OTHER_ID}'))).*"
            f" FROM trades t WHERE id = '{REVERSAL}'"
        ),
        f"UPDATE trades SET base_amount = 2, quote_amount = 200 WHERE id = '{TRADE}'",
    ):
        with owner.transaction(force_rollback=True):
            put(owner, "partially_filled")
            put_trades(owner, Decimal(1))
            owner.execute("ALTER TABLE trades DISABLE TRIGGER USER")
            owner.execute(spoil.encode())
            with pytest.raises(errors.CheckViolation, match="cannot be busted"), owner.transaction():
                insert(owner, "order_events", bust)


def test_amendments_keep_the_sizes_and_the_status_of_the_market(owner: psycopg.Connection[Any]) -> None:
    for market, changes in (
        ("UPDATE markets SET tick_size = 2", {"price": Decimal(103)}),
        ("UPDATE markets SET lot_size = 2", {"quantity": Decimal(3)}),
        ("UPDATE markets SET status = 'cancel_only'", {"quantity": Decimal(4)}),
        ("UPDATE venue SET status = 'halted'", {"quantity": Decimal(4)}),
    ):
        with owner.transaction(force_rollback=True):
            put(owner, "open")
            owner.execute(market.encode())
            with pytest.raises(errors.CheckViolation, match="cannot be amended"), owner.transaction():
                insert(owner, "order_events", event("amended", "open", filled=Decimal(0), **changes))


def test_two_sessions_number_events_without_a_gap(owner: psycopg.Connection[Any], make_databases: Any) -> None:
    """A rolled-back transaction takes no number with it."""
    with owner.transaction(force_rollback=True):
        insert(owner, "orders", {**MAIN_ROWS["orders"], "id": ORDER, "user_id": USER, "created_at": TIME})
        row = owner.execute("SELECT sequence FROM market_sequences").fetchone()
        assert row == (2,)
    row = owner.execute("SELECT sequence FROM market_sequences").fetchone()
    assert row == (1,)
