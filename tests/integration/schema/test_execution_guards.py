"""Executions, what undoes them and their matches, by plain SQL of the role that the services have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import errors

from novadex.ids import id_at, time_of, uuid7
from tests.conftest import DatabasePair
from tests.integration.schema.attacks import INACTIVE, MAIN_ROWS, MARKET, MONEY, SETUP_MAIN, insert

OTHER_MARKET = MARKET + 1
OTHER_USER = INACTIVE
REVERSED = {"buy": "sell", "sell": "buy"}
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Venue:
    """One that writes as novadex_app does, each statement in a transaction of its own."""

    connection: psycopg.Connection[Any]

    def place(self, side: str = "buy", **changes: Any) -> UUID:
        order = uuid7()
        row = {**MAIN_ROWS["orders"], "id": order, "side": side, "quantity": Decimal(2), "client_order_id": None}
        insert(self.connection, "orders", {**row, **changes})
        return order

    def trade(self, **changes: Any) -> Row:
        """An execution that is written."""
        row = self.execution(**changes)
        insert(self.connection, "trades", row)
        return row

    def execution(self, **changes: Any) -> Row:
        id = changes.get("id") or uuid7()
        row = {**MAIN_ROWS["trades"], "id": id, "executed_at": time_of(id), "fee_amount": Decimal("0.1")}
        return {**row, "fee_asset_id": MONEY, "order_id": None, "match_id": None, **changes}

    def undo(self, trade: Row, **changes: Any) -> Row:
        row = mirrored(trade, **changes)
        insert(self.connection, "trades", row)
        return row

    def event(self, order: UUID, type: str, status: str, **changes: Any) -> None:
        """The next event of an order, that of an execution where a trade_id is given."""
        with self.connection.transaction():
            number = self.connection.execute(
                "SELECT sequence + 1 FROM market_sequences WHERE market_id = %s FOR UPDATE", (MARKET,)
            ).fetchone()
            stands = self.connection.execute(
                "SELECT version + 1, quantity, filled_quantity, price FROM orders WHERE id = %s", (order,)
            ).fetchone()
            assert number is not None
            assert stands is not None
            version, quantity, filled, price = stands
            row = {
                "id": changes.get("trade_id") or uuid7(),
                "order_id": order,
                "version": version,
                "market_id": MARKET,
                "market_sequence": number[0],
                "type": type,
                "status": status,
                "quantity": quantity,
                "filled_quantity": filled,
                "price": price,
                "actor": "test",
            }
            insert(self.connection, "order_events", {**row, **changes})

    def match(self, **changes: Any) -> UUID:
        """A match that is written, with both executions."""
        match, taker, maker = self.executions()
        insert(self.connection, "matches", match_row(match, taker, maker, **changes))
        return match

    def executions(self) -> tuple[UUID, Row, Row]:
        """An id for a match, and its executions."""
        match = uuid7()
        taker = self.trade(match_id=match)
        maker = self.trade(id=beside(taker["id"]), side="sell", liquidity="maker", match_id=match)
        return match, taker, maker

    def mark_undone(self, match: UUID) -> None:
        self.connection.execute(
            "UPDATE matches SET undone = 'busted', undone_at = now(), undone_by = 'test' WHERE id = %s", (match,)
        )


def beside(id: UUID, number: int = 1) -> UUID:
    """Another id of the same moment."""
    return UUID(int=id.int ^ number)


def mirrored(trade: Row, **changes: Any) -> Row:
    row = {**trade, "id": beside(trade["id"], 2), "side": REVERSED[trade["side"]], "fee_amount": -trade["fee_amount"]}
    return {**row, "reverses": trade["id"], **changes}


def match_row(match: UUID, taker: Row, maker: Row | None, **changes: Any) -> Row:
    row = {**MAIN_ROWS["matches"], "id": match, "taker_trade_id": taker["id"], "executed_at": taker["executed_at"]}
    return {**row, "maker_trade_id": maker["id"] if maker else None, "source_match_id": str(match), **changes}


@pytest.fixture(scope="module")
def database(make_databases: Any) -> DatabasePair:
    pair: DatabasePair = make_databases()
    with psycopg.connect(pair.main_url("owner"), autocommit=True) as owner:
        owner.execute(SETUP_MAIN.encode())
        insert(owner, "markets", {**MAIN_ROWS["markets"], "id": OTHER_MARKET})
    return pair


@pytest.fixture
def venue(database: DatabasePair) -> Iterator[Venue]:
    with psycopg.connect(database.main_url("app"), autocommit=True) as connection:
        yield Venue(connection)


# Executions of orders

FOREIGN: dict[str, Row] = {
    "another user": {"user_id": OTHER_USER},
    "another market": {"market_id": OTHER_MARKET, "base_decimals": 6, "quote_decimals": 9},
    "the other side": {"side": "sell"},
}


@pytest.mark.parametrize("what", FOREIGN)
def test_an_execution_of_another_user_market_or_side_fills_no_order(venue: Venue, what: str) -> None:
    order = venue.place("buy")
    foreign = venue.trade(order_id=order, **FOREIGN[what])
    with pytest.raises(errors.CheckViolation, match="cannot be filled") as caught:
        venue.event(order, "filled", "partially_filled", filled_quantity=Decimal(1), trade_id=foreign["id"])
    assert caught.value.diag.constraint_name == "order_events_follow"
    own = venue.trade(order_id=order)
    venue.event(order, "filled", "partially_filled", filled_quantity=Decimal(1), trade_id=own["id"])


@pytest.mark.parametrize("side", ["buy", "sell"])
def test_a_fill_is_undone_by_what_undoes_its_execution(venue: Venue, side: str) -> None:
    order = venue.place(side)
    trade = venue.trade(order_id=order, side=side)
    venue.event(order, "filled", "partially_filled", filled_quantity=Decimal(1), trade_id=trade["id"])
    undoing = venue.undo(trade)
    venue.event(order, "busted", "open", filled_quantity=Decimal(0), trade_id=undoing["id"])
    row = venue.connection.execute("SELECT status, filled_quantity FROM orders WHERE id = %s", (order,)).fetchone()
    assert row == ("open", 0)


@pytest.mark.parametrize("what", FOREIGN)
def test_what_undoes_an_execution_that_is_not_the_orders_busts_nothing(venue: Venue, what: str) -> None:
    order = venue.place("buy")
    own = venue.trade(order_id=order)
    venue.event(order, "filled", "partially_filled", filled_quantity=Decimal(1), trade_id=own["id"])
    undoing = venue.undo(venue.trade(order_id=order, **FOREIGN[what]))
    with pytest.raises(errors.CheckViolation, match="cannot be busted") as caught:
        venue.event(order, "busted", "open", filled_quantity=Decimal(0), trade_id=undoing["id"])
    assert caught.value.diag.constraint_name == "order_events_follow"


# Rows that undo others

NO_MIRROR: dict[str, Row] = {
    "another user": {"user_id": OTHER_USER},
    "another market": {"market_id": OTHER_MARKET, "base_decimals": 6, "quote_decimals": 9},
    "the same side": {"side": "buy"},
    "a part of it": {"base_amount": Decimal("0.5"), "quote_amount": Decimal(50)},
    "more than it": {"base_amount": Decimal(2), "quote_amount": Decimal(200)},
    "another quote": {"quote_amount": Decimal("100.000001")},
    "another price": {"price": Decimal("100.0000001")},
    "the fee kept": {"fee_amount": Decimal("0.1")},
    "the fee in another asset": {"fee_asset_id": MONEY - 1},
    "another match": {"match_id": uuid7()},
    "no trade": {"reverses": uuid7()},
    "itself": {"reverses": "id"},
}


@pytest.mark.parametrize("what", NO_MIRROR)
def test_a_row_that_undoes_a_trade_mirrors_it(venue: Venue, what: str) -> None:
    # Of a price of which two quotes are right.
    trade = venue.trade(price=Decimal("100.0000005" if what == "another quote" else 100))
    row = mirrored(trade, **NO_MIRROR[what])
    if row["reverses"] == "id":
        row["reverses"] = row["id"]
    with pytest.raises(errors.CheckViolation) as caught:
        insert(venue.connection, "trades", row)
    assert caught.value.diag.constraint_name == "trades_mirror"
    assert caught.value.diag.message_hint
    venue.undo(trade)


def test_a_row_that_undoes_a_trade_has_its_time_and_its_order(venue: Venue) -> None:
    order, other = venue.place(), venue.place()
    trade = venue.trade(order_id=order)
    later = id_at(trade["executed_at"].replace(microsecond=0))
    for changes in ({"order_id": other}, {"order_id": None}, {"id": later, "executed_at": time_of(later)}):
        with pytest.raises(errors.CheckViolation) as caught:
            venue.undo(trade, **changes)
        assert caught.value.diag.constraint_name == "trades_mirror"


def test_what_undoes_a_trade_cannot_be_undone(venue: Venue) -> None:
    undoing = venue.undo(venue.trade())
    with pytest.raises(errors.CheckViolation, match="does not undo") as caught:
        venue.undo(undoing, id=beside(undoing["id"], 4))
    assert caught.value.diag.constraint_name == "trades_mirror"


def test_a_trade_is_undone_once_also_by_two_sessions_at_once(venue: Venue, database: DatabasePair) -> None:
    trade = venue.trade()
    row = mirrored(trade, id=beside(trade["id"], 4))
    with psycopg.connect(database.main_url("app"), autocommit=True) as other:
        other.execute("SET lock_timeout = '50ms'")
        with venue.connection.transaction():
            venue.undo(trade)
            with pytest.raises(errors.LockNotAvailable):  # it waits for the first one
                insert(other, "trades", row)
        with pytest.raises(errors.CheckViolation, match="undone already"):
            insert(other, "trades", row)


def test_two_rows_of_one_statement_do_not_undo_the_same_trade(venue: Venue) -> None:
    trade = venue.trade()
    venue.connection.execute("CREATE TEMP TABLE two AS SELECT * FROM trades WHERE id = %s", (trade["id"],))
    with pytest.raises(errors.CheckViolation, match="undone already"):
        venue.connection.execute(
            "INSERT INTO trades (id, user_id, market_id, base_decimals, quote_decimals, side, base_amount,"
            " quote_amount, price, fee_amount, fee_asset_id, executed_at, reverses)"
            " SELECT new_id, user_id, market_id, base_decimals, quote_decimals, 'sell', base_amount, quote_amount,"
            " price, -fee_amount, fee_asset_id, executed_at, id FROM two, unnest(%s::uuid[]) AS new_id",
            ([beside(trade["id"], 2), beside(trade["id"], 4)],),
        )


def test_copied_rows_that_undo_are_held_to_the_same(venue: Venue) -> None:
    trade = venue.trade()
    row = mirrored(trade, user_id=OTHER_USER)
    columns = ", ".join(row)
    with (
        pytest.raises(errors.CheckViolation) as caught,
        venue.connection.cursor() as cursor,
        cursor.copy(f"COPY trades ({columns}) FROM STDIN".encode()) as copy,
    ):
        copy.write_row(list(row.values()))
    assert caught.value.diag.constraint_name == "trades_mirror"


# Matches


def test_a_match_with_its_executions_is_accepted_and_undone_after_them(venue: Venue) -> None:
    match, taker, maker = venue.executions()
    insert(venue.connection, "matches", match_row(match, taker, maker))
    venue.undo(taker)
    with pytest.raises(errors.CheckViolation, match="cannot be undone before") as caught:
        venue.mark_undone(match)
    assert caught.value.diag.constraint_name == "matches_reversed"
    venue.undo(maker)
    venue.mark_undone(match)


def test_a_match_against_a_pool_has_one_execution(venue: Venue) -> None:
    match = uuid7()
    taker = venue.trade(match_id=match)
    insert(venue.connection, "matches", match_row(match, taker, None))
    with pytest.raises(errors.CheckViolation) as caught:
        venue.mark_undone(match)
    assert caught.value.diag.constraint_name == "matches_reversed"
    venue.undo(taker)
    venue.mark_undone(match)


def test_of_several_matches_each_is_undone_with_its_executions(venue: Venue) -> None:
    first, *executions = venue.executions()
    insert(venue.connection, "matches", match_row(first, *executions))
    for trade in executions:
        venue.undo(trade)
    second = venue.match()
    with pytest.raises(errors.CheckViolation, match=str(second)):
        venue.connection.execute(
            "UPDATE matches SET undone = 'reverted', undone_at = now(), undone_by = 'test' WHERE id = ANY(%s)",
            ([first, second],),
        )


@pytest.mark.parametrize("side", ["taker", "maker"])
def test_a_match_without_an_execution_is_refused(venue: Venue, side: str) -> None:
    match, taker, maker = venue.executions()
    row = match_row(match, taker, maker, **{f"{side}_trade_id": uuid7()})
    with pytest.raises(errors.CheckViolation) as caught:
        insert(venue.connection, "matches", row)
    assert caught.value.diag.constraint_name == "matches_executed"


WRONG_MAKERS: dict[str, Row] = {
    "of another match": {"match_id": uuid7()},
    "of no match": {"match_id": None},
    "of another market": {"market_id": OTHER_MARKET, "base_decimals": 6, "quote_decimals": 9},
    "on the same side": {"side": "buy"},
    "of another amount": {"base_amount": Decimal(2), "quote_amount": Decimal(200)},
    "who takes": {"liquidity": "taker"},
}


@pytest.mark.parametrize("what", WRONG_MAKERS)
def test_a_match_whose_executions_do_not_mirror_each_other_is_refused(venue: Venue, what: str) -> None:
    match = uuid7()
    taker = venue.trade(match_id=match)
    wrong = {"side": "sell", "liquidity": "maker", "match_id": match} | WRONG_MAKERS[what]
    maker = venue.trade(id=beside(taker["id"]), **wrong)
    with pytest.raises(errors.CheckViolation) as caught:
        insert(venue.connection, "matches", match_row(match, taker, maker))
    assert caught.value.diag.constraint_name == "matches_executed"


@pytest.mark.parametrize("what", ["another id", "another market", "another time", "sides exchanged", "what undoes"])
def test_a_match_is_what_its_executions_say(venue: Venue, what: str) -> None:
    match, taker, maker = venue.executions()
    undoing = venue.undo(maker)
    changes: dict[str, Row] = {
        "another id": {"id": uuid7()},
        "another market": {"market_id": OTHER_MARKET},
        "another time": {"executed_at": MAIN_ROWS["matches"]["executed_at"]},
        "sides exchanged": {"taker_trade_id": maker["id"], "maker_trade_id": taker["id"]},
        "what undoes": {"maker_trade_id": undoing["id"]},
    }
    with pytest.raises(errors.CheckViolation) as caught:
        insert(venue.connection, "matches", match_row(match, taker, maker, **changes[what]))
    assert caught.value.diag.constraint_name == "matches_executed"
    insert(venue.connection, "matches", match_row(match, taker, maker))


# Orders


def test_an_order_is_rejected_with_a_reason(venue: Venue) -> None:
    order = venue.place()
    for reason in (None, ""):
        with pytest.raises(errors.CheckViolation) as caught:
            venue.event(order, "rejected", "rejected", reason=reason)
        assert str(caught.value.diag.constraint_name).endswith("rejected_why")
    venue.event(order, "rejected", "rejected", reason="no funds")


def test_a_gtt_order_expires_after_it_was_placed(venue: Venue) -> None:
    placed = "2024-08-08 12:00:00+00"
    for expires in (placed, "2024-08-08 11:59:59.999999+00"):
        with pytest.raises(errors.CheckViolation) as caught:
            venue.place(time_in_force="gtt", created_at=placed, expires_at=expires)
        assert caught.value.diag.constraint_name == "orders_expire_later"
    venue.place(time_in_force="gtt", created_at=placed, expires_at="2024-08-08 12:00:00.000001+00")
