"""``novadex orders`` and the markets' status, sizes and fees, as child processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import DatabasePair
from tests.integration.cli.command import Command


@pytest.fixture
def novadex(fresh_databases: DatabasePair, tmp_path: Path) -> Command:
    return Command(fresh_databases, tmp_path)


def test_orders_are_placed_shown_and_cancelled(novadex: Command, sol_market: Any, users: Any) -> None:
    user = str(users(1)[0])
    order = ["orders", "place", "--user", user, "--market", "SOL/USDC", "--side", "buy", "--quantity", "2"]
    placed = novadex.json(*order, "--price", "150.25", "--client-order-id", "mine")
    assert (placed["status"], placed["price"], placed["placed_by"]) == ("open", "150.25", "program:cli")
    assert novadex.json("orders", "show", placed["id"]) == placed
    assert novadex.json("orders", "list", "--user", user, "--live")["items"] == [placed]
    assert "open" in novadex.run("orders", "list").stdout
    cancelled = novadex.json("orders", "cancel", placed["id"], "--reason", "enough")
    assert cancelled["status"] == "cancelled"
    events = novadex.json("orders", "events", placed["id"])["items"]
    assert [(event["type"], event["reason"]) for event in events] == [("placed", None), ("cancelled", "enough")]
    assert novadex.json("orders", "cancel-all", "--user", user) == {"cancelled": 0}
    assert "--everything" in novadex.run("orders", "cancel-all", code=2).stderr
    assert novadex.json(*order, "--price", "x", code=2)["error"]["code"] == "INVALID_VALUE"


def test_markets_are_halted_sized_and_priced(novadex: Command, sol_market: Any) -> None:
    assert novadex.json("markets", "status", "SOL/USDC", "post-only")["status"] == "post_only"
    assert novadex.json("markets", "halt-all") == {"venue": "halted"}
    assert novadex.run("markets", "resume-all").stdout == "All markets: active\n"
    sized = novadex.json("markets", "sizes", "SOL/USDC", "--tick", "0.01", "--lot", "0.1")
    assert (sized["tick_size"], sized["lot_size"]) == ("0.01", "0.1")
    fees = novadex.json("markets", "fees", "SOL/USDC", "--tier", "0", "--maker", "-0.0001", "--taker", "0.002")
    assert fees == [{"market": "SOL/USDC", "tier": 0, "maker_rate": "-0.0001", "taker_rate": "0.002"}]
    assert "go together" in novadex.run("markets", "fees", "SOL/USDC", "--tier", "1", code=2).stderr
    assert "active" in novadex.run("markets", "status", "SOL/USDC", "gone", code=2).stderr
