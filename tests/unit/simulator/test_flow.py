"""The stream of commands of a simulated market follows from its plan alone."""

from datetime import UTC, datetime
from itertools import islice, pairwise

import pytest

from novadex.simulator.flow import MarketFlow
from novadex.simulator.records import Plan

PLAN = Plan(datetime(2026, 1, 2, tzinfo=UTC), 600)


def some(plan=PLAN, number=0, count=4_000):
    return list(islice(MarketFlow(plan, number).commands(), count))


def placed(commands):
    return {command.fields["id"] for command in commands if command.kind == "place"}


def test_the_same_plan_gives_the_same_commands():
    assert some() == some()
    other = Plan(PLAN.start, 600, seed=2)
    assert placed(some()).isdisjoint(placed(some(other)))


def test_each_command_has_a_later_moment_and_new_orders_have_higher_ids():
    commands = some()
    assert all(one.at_ms < two.at_ms for one, two in pairwise(commands))
    ids = [command.fields["id"] for command in commands if command.kind == "place"]
    assert ids == sorted(set(ids))


def test_the_rate_is_about_what_was_asked_for():
    commands = some(count=8_000)
    rate = len(commands) / (commands[-1].at_ms - commands[0].at_ms) * 1000
    assert rate == pytest.approx(PLAN.rate / PLAN.markets, rel=0.15)


@pytest.mark.parametrize("number", [0, 4, 20])
def test_the_venue_keeps_the_rules_that_it_reports_by(number):
    """A model of the orders that knows nothing of the engine."""
    orders, matches = {}, {}
    for kind, fields in ((command.kind, command.fields) for command in some(number=number)):
        match kind:
            case "place":
                orders[fields["id"]] = dict(fields) | {"filled": 0, "live": True}
            case "fill":
                taker, maker = orders[fields["taker_order_id"]], orders.get(fields.get("maker_order_id"))
                assert not taker.get("post_only")
                if taker["time_in_force"] == "fok":
                    assert fields["base_amount"] == taker["quantity"]
                both = (taker, maker) if maker else (taker,)
                matches[fields["id"]] = fields["base_amount"], both
                for order in both:
                    assert order["live"]
                    order["filled"] += fields["base_amount"]
                    assert order["filled"] <= order["quantity"]
                    order["live"] = order["filled"] < order["quantity"]
                    limit = order.get("price")
                    if limit is not None:
                        assert fields["price"] <= limit if order["side"] == "buy" else fields["price"] >= limit
                if maker:
                    assert (taker["side"], taker["user_id"]) != (maker["side"], maker["user_id"])
                    assert taker["user_id"] != maker["user_id"]
            case "amend":
                order = orders[fields["id"]]
                assert order["live"]
                order |= {name: fields[name] for name in ("price", "quantity") if name in fields}
                assert order["quantity"] > order["filled"]
            case "cancel" | "reject" | "expire":
                assert orders[fields["id"]]["live"]
                orders[fields["id"]]["live"] = False
            case "trigger":
                assert orders[fields["id"]]["live"]
            case "bust":
                amount, both = matches.pop(fields["match_id"])
                for order in both:
                    order["filled"] -= amount
                    order["quantity"] -= amount
