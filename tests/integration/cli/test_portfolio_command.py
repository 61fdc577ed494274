"""``novadex portfolio``, ``transfers`` and ``liquidity`` over this test's databases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import DatabasePair
from tests.integration.cli.command import Command


class WorkerCommand(Command):
    """With the rights of the worker, which makes what portfolios are read from."""

    def _start(self, command: list[str], **kwargs: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(DatabasePair, "main_url", lambda pair, _: pair._url(pair.main, "worker"))
            return super()._start(command, **kwargs)


@pytest.fixture
def command(fresh_databases: DatabasePair, tmp_path: Path, market: Any) -> Command:
    return Command(fresh_databases, tmp_path)


@pytest.fixture
def worker(fresh_databases: DatabasePair, tmp_path: Path) -> Command:
    return WorkerCommand(fresh_databases, tmp_path)


def test_from_a_deposit_to_a_verified_portfolio(command, worker, users, main_url):
    user = str(users(1)[0])
    deposit = ["--user", user, "--kind", "deposit", "--asset", "USDT", "--amount", "100.5", "--source", "evm"]
    made = command.json("transfers", "record", *deposit, "--source-id", "0xa:1")
    assert command.json("transfers", "record", *deposit, "--source-id", "0xa:1") == made
    assert made["amount"] == "100.5"
    other = command.json("transfers", "record", *deposit[:-3], "7", *deposit[-2:], "--source-id", "0xa:1", code=2)
    assert other["error"]["code"] == "CONFLICT"

    verified = worker.json("portfolio", "verify")
    assert (verified["difference_count"], verified["differences"]) == (0, [])
    assert verified["compared"]["portfolio_holdings"] == 1
    shown = command.json("portfolio", "show", user)
    assert (shown["value"]["total_value"], shown["value"]["net_transfers"]) == ("100.5", "100.5")
    assert [(h["asset"], h["amount"], h["deposits"]) for h in shown["holdings"]] == [("USDT", "100.5", "100.5")]
    assert "100.5 USDT" in command.run("portfolio", "show", user).stdout
    taken = command.json("portfolio", "snapshot", user)
    assert command.json("portfolio", "snapshots", user)["items"] == [taken]

    with psycopg.connect(main_url("owner")) as connection:
        connection.execute("UPDATE portfolio_holdings SET amount = 99")
    (difference,) = worker.json("portfolio", "verify", code=3)["differences"]
    assert (difference["what"], difference["stored"]) == ("portfolio_holdings", {"amount": "99"})
    assert difference["key"] == {"user_id": user, "asset": "USDT", "kind": "deposit"}
    assert "stored amount=99" in worker.run("portfolio", "verify", code=3).stdout
    assert worker.json("portfolio", "rebuild")["users"] == 1
    assert worker.json("portfolio", "verify")["difference_count"] == 0

    undone = command.json("transfers", "reverse", made["id"], "--note", "never came")
    assert (undone["amount"], undone["reverses"]) == ("-100.5", made["id"])
    assert len(command.json("transfers", "list", user)["items"]) == 2
    assert len(command.run("transfers", "list", user, "--limit", "1").stdout.splitlines()) == 1


def test_prices_lots_and_wrong_words(command, users):
    user = str(users(1)[0])
    command.run("portfolio", "price", "BTC/USDT", "61000.5", "--at", "2026-01-05T10:00:00Z")
    again = command.run("portfolio", "price", "BTC/USDT", "7", "--at", "2026-01-05T10:00:00Z", code=2)
    assert "61000.5" in again.stderr
    assert command.json("portfolio", "lots", user, "--market", "BTC/USDT") == {"items": [], "next": None}
    assert command.json("portfolio", "show", user, code=1)["error"]["code"] == "UNAVAILABLE"
    assert command.json("portfolio", "show", "nobody", code=2)["error"]["code"] == "NOT_FOUND"


def test_how_a_constant_product_stands(command, users):
    user = str(users(1)[0])
    command.run(
        "liquidity", "add-pool", "pair", "--market", "BTC/USDT", "--fee", "0.003", "--kind", "constant_product"
    )
    share = (
        "--pool",
        "pair",
        "--liquidity",
        "1000",
        "--base",
        "5",
        "--quote",
        "2000",
        "--at",
        "2026-01-05T10:00:00Z",
    )
    position = command.json("liquidity", "open", user, *share)
    asked = command.json("liquidity", "value", position["id"], code=1)
    assert "novadex liquidity snapshot" in asked["error"]["hint"]
    state = ("--liquidity", "4000", "--base-reserve", "20", "--quote-reserve", "8000", "--at", "2026-01-05T10:30:00Z")
    assert "pair: 20 and 8000" in command.run("liquidity", "snapshot", "pair", *state).stdout
    assert command.json("liquidity", "snapshot", "pair", *state)["quote_reserve"] == "8000"
    assert command.json("liquidity", "value", position["id"])["value"] == "4000"


def test_a_position_from_its_opening_to_its_end(command, users):
    user = str(users(1)[0])
    command.run("liquidity", "add-pool", "0xpool", "--market", "BTC/USDT", "--fee", "0.003", "--tick-spacing", "60")
    assert "0.3 %" in command.run("liquidity", "pools").stdout
    most = str(2**256 - 1)
    opened = command.run(
        "liquidity",
        *("open", user, "--pool", "0xpool", "--liquidity", most, "--base", "1", "--quote", "2"),
        *("--tick-lower=-60", "--tick-upper", "60", "--at", "2026-01-05T10:00:00Z", "--json"),
    )
    assert f'"liquidity": {most}' in opened.stdout
    position = json.loads(opened.stdout)
    id = position["id"]
    command.run(
        "liquidity", "decrease", id, "--liquidity", "5", "--base", "0.5", "--quote", "0", "--quote-fees", "0.1"
    )
    command.run("liquidity", "collect", id, "--base-fees", "0.01")
    closed = command.json("liquidity", "close", id, "--base", "0.5", "--quote", "2")
    assert (closed["status"], closed["base_withdrawn"], closed["base_fees"]) == ("closed", "1", "0.01")
    shown = command.json("liquidity", "show", id)
    assert [event["type"] for event in shown["events"]["items"]] == ["opened", "decreased", "collected", "closed"]
    assert "closed" in command.run("liquidity", "list", user).stdout
    assert command.json("liquidity", "value", id, code=1)["error"]["code"] == "UNAVAILABLE"
    wrong = command.json("liquidity", "increase", id, "--liquidity", "x", "--base", "1", "--quote", "1", code=2)
    assert wrong["error"]["code"] == "INVALID_VALUE"
