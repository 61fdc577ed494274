"""``novadex markets`` and ``novadex assets``."""

from __future__ import annotations

import json

from tests.integration.cli.command import Command


def test_markets_are_added_once_and_listed_by_symbol(novadex: Command):
    assert novadex.json("markets", "list") == []
    assert "novadex markets add" in novadex.run("markets", "list").stdout
    added = novadex.json("markets", "add", "ETH/USDT-PERP", "--quote-decimals", "6")
    assert (added["symbol"], added["base_decimals"], added["quote_decimals"]) == ("ETH/USDT-PERP", 18, 6)
    assert novadex.json("markets", "add", "ETH/USDT-PERP") == added
    novadex.run("markets", "add", "BTC/USDT", "--base-decimals", "8")
    listed = novadex.json("markets", "list")
    assert [market["symbol"] for market in listed] == ["BTC/USDT", "ETH/USDT-PERP"]
    assert listed[0]["quote_decimals"] == 6  # a known asset keeps its decimals
    lines = novadex.run("markets", "list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["BTC/USDT", "ETH/USDT-PERP"]


def test_assets_are_added_once_and_their_decimals_never_change(novadex: Command):
    assert novadex.json("assets", "list") == []
    assert "novadex assets add" in novadex.run("assets", "list").stdout
    added = novadex.json("assets", "add", "BTC", "--decimals", "8", "--name", "Bitcoin")
    assert (added["symbol"], added["decimals"], added["name"]) == ("BTC", 8, "Bitcoin")
    assert novadex.json("assets", "add", "BTC", "--decimals", "8") == added
    conflict = novadex.run("assets", "add", "BTC", "--decimals", "18", "--json", code=2)
    assert json.loads(conflict.stdout)["error"]["code"] == "CONFLICT"
    assert novadex.json("assets", "list") == [added]
    assert "Bitcoin" in novadex.run("assets", "list").stdout


def test_wrong_symbols_and_decimals_are_wrong_usage(novadex: Command):
    for arguments in (
        ("markets", "add", "BTCUSDT"),
        ("markets", "add", "BTC/BTC"),
        ("markets", "add", "btc/usdt"),
        ("markets", "add", "BTC/USDT", "--base-decimals", "19"),
        ("assets", "add", "btc", "--decimals", "8"),
        ("assets", "add", "BTC", "--decimals", "-1"),
        ("assets", "add", "BTC"),
    ):
        novadex.run(*arguments, code=2)
    assert novadex.json("markets", "list") == novadex.json("assets", "list") == []
