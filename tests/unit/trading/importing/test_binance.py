"""Binance's lines: the plain way and the strict way agree, and a bad line names its field."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novadex.ids import id_of_source
from novadex.money import EXACT
from novadex.trading.importing.binance import FIELDS, BinanceLines
from novadex.trading.importing.chunks import Chunk
from novadex.trading.importing.market_trades import MarketTrades
from novadex.trading.importing.records import printable
from novadex.trading.importing.text_lines import Block
from tests.unit.trading.importing.conftest import ACCOUNT, NOW_S, make_market

Parse = Callable[..., Chunk]
PLAIN = "3735683259,61837.63000000,0.02000000,1236.7526000000000000,1723161255342,True,True"


def fields_of(chunk: Chunk) -> list[list[str]]:
    assert chunk.rejects == []
    return [line.removesuffix("\n").split("\t") for line in chunk.lines]


def test_a_line_becomes_the_takers_trade(binance: Parse):
    [fields] = fields_of(binance(PLAIN))
    assert UUID(fields[0]) == id_of_source(1723161255342, "binance", "BTC/USDT", "3735683259")
    assert fields[1:] == [
        str(ACCOUNT), "7", "18", "18", "spot", "sell", "taker", "0.02", "1236.7526", "61837.63", "0", "\\N",
        "2024-08-08 23:54:15.342+00", "3735683259", "\\N", "\\N", "binance", "3735683259",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("maker", "side"), [("True", "sell"), ("true", "sell"), ("1", "sell"), ("False", "buy"), ("0", "buy")]
)
def test_the_side_is_what_the_taker_did(binance: Parse, maker: str, side: str):
    line = PLAIN.replace(",True,True", f",{maker},true")
    assert fields_of(binance(line))[0][6] == side


def test_futures_have_no_column_of_the_best_match_and_a_perpetual_market_has_perpetual_trades(binance: Parse):
    perpetual = make_market(symbol="BTC/USDT-PERP")
    [fields] = fields_of(binance(PLAIN.removesuffix(",True"), market=perpetual))
    assert fields[5] == "perpetual"


def test_microseconds_and_milliseconds_give_the_same_id(binance: Parse):
    precise = PLAIN.replace("1723161255342", "1723161255342789")
    [plain], [fine] = fields_of(binance(PLAIN)), fields_of(binance(precise))
    assert fine[0] == plain[0]
    assert fine[13] == "2024-08-08 23:54:15.342789+00"


def test_both_units_may_stand_in_one_file(binance: Parse):
    chunk = binance(PLAIN, PLAIN.replace("1723161255342", "1723161255342789"))
    moments = [fields[13] for fields in fields_of(chunk)]
    assert moments == ["2024-08-08 23:54:15.342+00", "2024-08-08 23:54:15.342789+00"]


def test_empty_lines_and_the_header_are_no_trades(binance: Parse):
    chunk = binance("id,price,qty,quote_qty,time,is_buyer_maker,is_best_match", PLAIN, "", "   ", header=True)
    assert chunk.places == [2]
    assert chunk.rejects == []


@pytest.mark.parametrize(
    ("line", "same"),
    [
        ('"3735683259","61837.63","0.02","1236.7526","1723161255342","True","True"', PLAIN),
        ("3735683259,6.183763e4,2E-2,1236.7526,1723161255342,True,True", PLAIN),
        ("3735683259,061837.63,00.02,+1236.7526,1723161255342,True,True", PLAIN),
    ],
)
def test_what_is_written_unusually_is_the_same_trade(binance: Parse, line: str, same: str):
    assert binance(line).lines == binance(same).lines


BAD = [
    ("id", "3735683259", "x1", "'x1'"),
    ("id", "3735683259", "", "''"),
    ("id", "3735683259", "-5", "'-5'"),
    ("id", "3735683259", "9223372036854775808", "64 bits"),
    ("price", "61837.63000000", "NaN", "finite"),
    ("price", "61837.63000000", "-61837.63", "negative"),
    ("price", "61837.63000000", "0", "above 0"),
    ("price", "61837.63000000", "1e999999", "out of range"),
    ("price", "61837.63000000", "1e999999999999999999999", "not a number"),
    ("price", "61837.63000000", "Infinity", "finite"),
    ("price", "61837.63000000", "61_837.63", "plain number"),
    ("price", "61837.63000000", "\uff16\uff11", "plain number"),
    ("price", "61837.63000000", "61837.63\x00", "not a number"),
    ("price", "61837.63000000", "61837.63.0", "not a number"),
    ("price", "61837.63000000", "1" + "0" * 60, "agree"),
    ("qty", "0.02000000", "0.00000000", "above 0"),
    ("qty", "0.02000000", "", "not a number"),
    ("qty", "0.02000000", "0.0200000000000000001", "decimals"),
    ("quote_qty", "1236.7526000000000000", "1236.7527", "does not agree"),
    ("quote_qty", "1236.7526000000000000", str(2**256), "2^256"),
    ("time", "1723161255342", "1723161255", "13 digits"),
    ("time", "1723161255342", "1723161255342000000", "13 digits"),
    ("time", "1723161255342", "-723161255342", "13 digits"),
    ("time", "1723161255342", "9999999999999", "ahead"),
    ("time", "1723161255342", "9999999999999999", "ahead"),
    ("is_buyer_maker", "True,True", "Maybe,True", "True or False"),
    ("is_best_match", "True,True", "True,Tru", "True or False"),
]  # fmt: skip


@pytest.mark.parametrize(("field", "good", "bad", "reason"), BAD, ids=[f"{b[0]}={b[2][:25]}" for b in BAD])
def test_a_bad_line_names_its_number_its_field_and_its_value(
    binance: Parse, field: str, good: str, bad: str, reason: str
):
    line = PLAIN.replace(good, bad, 1)
    chunk = binance(PLAIN, line, PLAIN)
    [reject] = chunk.rejects
    assert chunk.places == [1, 3]
    wrong = "quote_qty" if reason == "agree" else field
    assert (reject.line, reject.field, reject.raw) == (2, wrong, line)
    assert reason in reject.reason
    if reason != "agree":
        assert reject.value == printable(bad.split(",")[1 if field == "is_best_match" else 0])


@pytest.mark.parametrize(
    "line", ["1,2,3", "a,b,c,d,e,f,g,h", '1,"2', "\x00\x01\x02", "\udcff\udcfe", "61,837.63," * 3]
)
def test_a_line_that_is_no_trade_spoils_no_other(binance: Parse, line: str):
    chunk = binance(PLAIN, line, PLAIN)
    assert chunk.places == [1, 3]
    assert [(bad.line, bad.raw) for bad in chunk.rejects] == [(2, line)]


def test_an_asset_with_fewer_decimals_takes_no_more(binance: Parse):
    cents = make_market(8, 2)
    assert len(binance("1,100.50,0.5,50.25,1723161255342,True,True", market=cents).lines) == 1
    rejects = binance(
        "1,100.50,0.123456789,12.41,1723161255342,True,True",
        "2,100.55,0.5,50.275,1723161255342,True,True",
        "3,100.55,0.5,50.27,1723161255342,True,True",
        market=cents,
    ).rejects
    assert [(bad.line, bad.field) for bad in rejects] == [(1, "qty"), (2, "quote_qty")]


def test_an_asset_without_decimals_takes_whole_numbers(binance: Parse):
    whole = make_market(0, 0)
    chunk = binance("1,3,5.000,15,1723161255342,True,True", "2,3,5.5,16,1723161255342,True,True", market=whole)
    assert chunk.places == [1]
    assert chunk.rejects[0].field == "qty"


numbers = st.decimals("0.00000001", "10000000000", places=8)
zeros = st.integers(0, 8)


@given(
    id=st.integers(0, 2**63 - 1),
    price=numbers,
    base=numbers,
    padding=zeros,
    moment=st.integers(1_000_000_000_000, int(NOW_S * 1000)),
    micros=st.none() | st.integers(0, 999),
    maker=st.booleans(),
)
def test_the_plain_way_and_the_strict_way_give_the_same_line(
    *, id: int, price: Decimal, base: Decimal, padding: int, moment: int, micros: int | None, maker: bool
):
    trades = MarketTrades(make_market(), "binance", ACCOUNT, FIELDS, now=lambda: NOW_S)
    time = f"{moment}{'' if micros is None else f'{micros:03}'}"
    quote = f"{EXACT.multiply(price, base):f}"
    columns = [str(id), f"{price:f}" + "0" * padding, f"{base:f}" + "0" * padding, quote, time, str(maker), "True"]
    plain, strict = Chunk(), Chunk()
    lines = BinanceLines(trades, header=False)
    lines.parse(Block(1, [",".join(columns)]), plain)
    # A quote is all that the pattern of plain lines needs to step aside.
    lines.parse(Block(1, [",".join([*columns[:-1], '"True"'])]), strict)
    assert plain.rejects == strict.rejects == []
    assert plain.lines == strict.lines
    assert plain.months == strict.months
    assert UUID(plain.lines[0].partition("\t")[0]) == id_of_source(moment, "binance", "BTC/USDT", str(id))
