"""ccxt's unified trades: exact from the text, the cost computed anew, the side the taker's."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from novadex.ids import id_of_source
from novadex.trading.importing.chunks import Chunk
from tests.unit.trading.importing.conftest import make_market

Parse = Callable[..., Chunk]
TRADE: dict[str, Any] = {
    "info": {"a": 1, "p": "61837.63"},
    "id": "3735683259",
    "timestamp": 1723161255342,
    "datetime": "2024-08-08T23:54:15.342Z",
    "symbol": "BTC/USDT",
    "order": None,
    "type": None,
    "side": "sell",
    "takerOrMaker": None,
    "price": 61837.63,
    "amount": 0.02,
    "cost": 1236.7526,
    "fee": None,
    "fees": [],
}


def trade(**changes: Any) -> str:
    return json.dumps({**TRADE, **changes})


def fields_of(chunk: Chunk) -> list[list[str]]:
    assert chunk.rejects == []
    return [line.removesuffix("\n").split("\t") for line in chunk.lines]


def test_a_trade_becomes_the_takers(ccxt: Parse):
    [fields] = fields_of(ccxt(trade()))
    assert UUID(fields[0]) == id_of_source(1723161255342, "ccxt", "BTC/USDT", "3735683259")
    assert fields[6:11] == ["sell", "taker", "0.02", "1236.7526", "61837.63"]
    assert fields[13:] == ["2024-08-08 23:54:15.342+00", "3735683259", "\\N", "\\N", "ccxt", "3735683259"]


def test_numbers_are_read_from_their_text_and_never_through_a_float(ccxt: Parse):
    line = '{"id": 7, "timestamp": 1723161255342, "side": "buy", "price": 0.1000000000000000055, "amount": 3}'
    [fields] = fields_of(ccxt(line))
    assert fields[8:11] == ["3", "0.300000000000000016", "0.1000000000000000055"]  # rounded half to even


def test_numbers_may_be_texts(ccxt: Parse):
    assert (
        ccxt(trade(price="61837.63", amount="0.02", cost="1236.7526", timestamp="1723161255342")).lines
        == ccxt(trade()).lines
    )


@pytest.mark.parametrize("cost", [1236.7526000000003, 1236.75, 1237, None, "1236.7526"])
def test_a_rounded_cost_is_computed_anew(ccxt: Parse, cost: Any):
    assert ccxt(trade(cost=cost)).lines == ccxt(trade()).lines


@pytest.mark.parametrize("cost", [1236752.6, 12.37, 0, -1, "x"])
def test_a_cost_that_is_not_near_is_refused(ccxt: Parse, cost: Any):
    [bad] = ccxt(trade(cost=cost)).rejects
    assert bad.field == "cost"


def test_the_product_is_rounded_to_the_quote_assets_unit(ccxt: Parse):
    market = make_market(8, 2)
    [fields] = fields_of(ccxt(trade(price="61837.63", amount="0.00012345", cost=None), market=market))
    assert fields[9] == "7.63"  # 7.633855...


@pytest.mark.parametrize(
    ("symbol", "market"), [("BTC/USDT:USDT", "BTC/USDT-PERP"), (None, "BTC/USDT"), ("BTC/USDT", "BTC/USDT")]
)
def test_the_symbol_is_the_markets(ccxt: Parse, symbol: str | None, market: str):
    assert len(ccxt(trade(symbol=symbol), market=make_market(symbol=market)).lines) == 1


def test_a_makers_own_trade_was_the_takers_opposite(ccxt: Parse):
    assert fields_of(ccxt(trade(takerOrMaker="maker", side="buy")))[0][6] == "sell"
    assert fields_of(ccxt(trade(takerOrMaker="taker", side="buy")))[0][6] == "buy"


def test_ids_that_are_no_numbers_keep_the_order_of_the_file_within_a_moment(ccxt: Parse):
    chunk = ccxt(
        trade(id="a"), trade(id="b"), trade(id="c", timestamp=1723161255343), trade(id="d"), trade(id="x\ty\\z")
    )
    fields = fields_of(chunk)
    assert [line[14] for line in fields] == ["0", "1", "0", "2", "3"]
    assert fields[4][18] == "x\\ty\\\\z"


BAD = [
    ("id", None, "missing"),
    ("id", "", "missing"),
    ("id", "x" * 129, "128"),
    ("id", "a\x00b", "NUL"),
    ("id", "\ud800", "Unicode"),
    ("id", ["x"], "number or a text"),
    ("id", True, "number or a text"),
    ("price", None, "missing"),
    ("price", "61,837.63", "not a number"),
    ("price", float("nan"), "finite"),
    ("price", float("inf"), "finite"),
    ("price", -5, "negative"),
    ("price", 0, "above 0"),
    ("price", "1e999999", "out of range"),
    ("price", {}, "number or a text"),
    ("price", True, "number or a text"),
    ("amount", None, "missing"),
    ("amount", "0", "above 0"),
    ("amount", "1e-19", "decimals"),
    ("amount", 10**80, "out of range"),
    ("timestamp", None, "missing"),
    ("timestamp", 1723161255.342, "13 digits"),
    ("timestamp", "2024-08-08", "13 digits"),
    ("timestamp", 9999999999999, "ahead"),
    ("side", None, "buy or sell"),
    ("side", "BUY", "buy or sell"),
    ("symbol", "ETH/USDT", "ETH/USDT"),
    ("symbol", 5, "symbol is"),
    ("symbol", "BTC/USDC:USDC", "BTC/USDC"),
]


@pytest.mark.parametrize(("field", "value", "reason"), BAD, ids=[f"{b[0]}={str(b[1])[:20]!r}" for b in BAD])
def test_a_bad_trade_names_its_field(ccxt: Parse, field: str, value: Any, reason: str):
    chunk = ccxt(trade(), trade(**{field: value}, cost=None), trade())
    [bad] = chunk.rejects
    assert chunk.places == [1, 3]
    assert (bad.line, bad.field) == (2, field)
    assert reason in bad.reason


@pytest.mark.parametrize(
    "line", ["{", '{"id": 1,}', "[1]", "null", "5", '"x"', "{}", "\x00", "\udcff", "[" * 100_000, "1" * 5000, "NaN"]
)
def test_a_line_that_is_no_trade_spoils_no_other(ccxt: Parse, line: str):
    chunk = ccxt(trade(), line, "", trade())
    assert chunk.places == [1, 4]
    assert [bad.line for bad in chunk.rejects] == [2]
