"""Records that contradict each other are named, and left as they are."""

import json

import psycopg
import pytest

from novadex.cli.reconcile import _line
from novadex.errors import UnavailableError, ValidationError
from novadex.reconciliation.records import Finding, Slice
from novadex.reconciliation.service import Reconciler
from tests.integration.reconciliation.conftest import look, sql

LIVE = "WHERE status = 'open' AND type = 'limit' AND version = 1 AND time_in_force = 'gtc'"
FILLED = "WHERE status = 'filled' AND version = 2"
FILL_EVENT = "WHERE type = 'filled' AND version = 2 AND status = 'filled'"
MAKER = "WHERE liquidity = 'maker' AND reverses IS NULL"
TAKER = (
    "WHERE liquidity = 'taker' AND reverses IS NULL AND EXISTS (SELECT FROM matches m WHERE m.taker_trade_id = t.id)"
)
WHOLE = "WHERE undone IS NULL AND maker_trade_id IS NOT NULL"
RECORDS = ("orders", "events", "fills", "sequences", "matches")
# Table, which row, what is done to it, and the invariants that must name it.
CORRUPTIONS = [
    ("orders", LIVE, "status = 'cancelled'", {"orders"}),
    ("orders", LIVE, "quantity = quantity * 2", {"orders"}),
    ("orders", LIVE, "placed_by = 'somebody'", {"orders"}),
    (
        "orders",
        FILLED,
        "filled_quantity = round(filled_quantity / 2, 8), status = 'partially_filled'",
        {"orders", "fills"},
    ),
    ("orders", FILLED, "version = 3", {"orders"}),
    ("orders", LIVE, "DELETE", {"orders"}),
    ("orders", FILLED, "DELETE", {"orders", "fills"}),
    (
        "order_events",
        "WHERE type = 'placed' AND EXISTS (SELECT FROM order_events e WHERE e.order_id = t.order_id AND version = 2)",
        "DELETE",
        {"events", "sequences", "orders"},
    ),
    ("order_events", FILL_EVENT, "DELETE", {"orders", "fills", "sequences"}),
    ("order_events", FILL_EVENT, "version = 3", {"events", "orders"}),
    ("order_events", FILL_EVENT, "status = 'untriggered'", {"events", "orders"}),
    ("order_events", FILL_EVENT, "market_sequence = market_sequence + 1", {"sequences"}),
    (
        "order_events",
        FILL_EVENT,
        "market_id = (SELECT max(id) FROM markets) + (SELECT min(id) FROM markets) - market_id",
        {"events", "sequences"},
    ),
    ("market_sequences", "WHERE true", "sequence = sequence + 5", {"sequences"}),
    ("market_sequences", "WHERE true", "DELETE", {"sequences"}),
    ("trades", MAKER, "base_amount = base_amount * 2", {"fills", "matches"}),
    ("trades", MAKER, "side = CASE side WHEN 'buy' THEN 'sell' ELSE 'buy' END", {"fills", "matches"}),
    ("trades", MAKER, "quote_amount = quote_amount * 2", {"matches"}),
    ("trades", MAKER, "match_id = NULL", {"matches"}),
    ("trades", MAKER, "match_id = uuid_at(now())", {"matches"}),
    ("trades", MAKER, "order_id = (SELECT id FROM orders WHERE status = 'open' LIMIT 1)", {"fills"}),
    ("trades", MAKER, "DELETE", {"fills", "matches"}),
    ("trades", TAKER, "DELETE", {"fills", "matches"}),
    ("trades", "WHERE reverses IS NOT NULL", "DELETE", {"fills", "matches"}),
    ("matches", WHOLE, "DELETE", {"matches"}),
    ("matches", WHOLE, "maker_trade_id = NULL", {"matches"}),
    ("matches", WHOLE, "undone = 'busted', undone_at = now(), undone_by = 'nobody'", {"matches"}),
]


async def test_every_broken_record_is_named_by_its_invariants_and_left(kept, breaker, fresh_databases):
    with psycopg.connect(fresh_databases.main_url(None), autocommit=True) as superuser:
        # As a broken disk or a careless superuser would: constraints do not stand in the way.
        for table, name in superuser.execute(
            "SELECT conrelid::regclass::text, conname FROM pg_constraint WHERE contype = 'c' AND conparentid = 0"
            " AND coninhcount = 0 AND conrelid IN ('orders'::regclass, 'order_events'::regclass,"
            " 'trades'::regclass, 'matches'::regclass)"
        ).fetchall():
            superuser.execute(sql(f"ALTER TABLE {table} DROP CONSTRAINT {name}"))
    assert not await look(kept), "a clean venue has no finding"
    for table, which, change, expected in CORRUPTIONS:
        with breaker.broken(table, which, change) as row:
            found = await look(kept, *RECORDS)
            assert expected <= {finding.invariant for finding in found}, (table, change, found)
            subjects = {str(value) for value in row.values() if value is not None}
            told = json.dumps([[finding.key, finding.stored, finding.expected] for finding in found])
            assert any(subject in told for subject in subjects if len(subject) == 36) or table == "market_sequences"
            report = await kept.reconciler.run(only=sorted(expected), repair=True)
            assert report.differences > 0, "a record is not repaired"
            assert {check.repaired for check in report.checks} == {False}
        assert not await look(kept, *RECORDS), f"{table} is as before"


async def test_an_execution_that_nobody_reported_is_named(kept, fresh_databases):
    with psycopg.connect(fresh_databases.main_url(None), autocommit=True) as superuser:
        superuser.execute("SET session_replication_role = replica")
        superuser.execute(
            "INSERT INTO trades SELECT (jsonb_populate_record(t, jsonb_build_object('id', id_with_last_bit))).*"
            " FROM (SELECT t, overlay(t.id::text placing 'ffff' from 33) AS id_with_last_bit FROM trades t"
            " WHERE order_id IS NOT NULL LIMIT 1) AS one"
        )
    found = await look(kept, "fills", "matches")
    assert {(finding.invariant, finding.what) for finding in found} == {("fills", "trades"), ("matches", "trades")}
    assert all(finding.key["id"].endswith("ffff") for finding in found)


async def test_an_unknown_invariant_is_refused(kept):
    with pytest.raises(ValidationError, match="no invariant"):
        await kept.reconciler.run(only=["horoscope"])


class Unanswered:
    """A derived record that is wrong, of which nobody knows whether the repair helped: the server went away."""

    name = "unanswered"
    invariant = "Nothing is wrong."
    repaired = False

    async def slice(self, after, found):
        del after
        if self.repaired:
            raise UnavailableError("The server went away.")
        found(Finding(self.name, "things", {"id": "1"}, None, None))
        return Slice(1)

    async def repair(self, findings):
        del findings
        self.repaired = True
        return True


async def test_a_repair_that_could_not_be_looked_at_again_is_not_said_to_have_left_nothing(db):
    reconciler = Reconciler(db, db)
    reconciler.checks = [Unanswered()]  # pyright: ignore[reportAttributeAccessIssue]
    report = await reconciler.run(repair=True)
    [check] = report.checks
    assert (check.repaired, check.left, check.skipped) == (True, None, "The server went away.")
    assert (report.differences, report.skipped) == (1, ["unanswered"])
    assert _line(check) == (
        "unanswered 1 differences, 1 compared; derived anew; not all could be asked: The server went away."
    )
