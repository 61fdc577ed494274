"""NovaDex's own CSV: the fields of a trade, checked as ``create_trade`` checks them."""

from __future__ import annotations

import pytest

from novadex.trading.importing.chunks import Chunk
from novadex.trading.importing.novadex_csv import NovaDexLines, check_header
from novadex.trading.importing.records import ImportFailedError
from novadex.trading.importing.text_lines import Block
from novadex.trading.prepare import prepare
from novadex.trading.records import Asset
from tests.unit.trading.importing.conftest import make_market

USER = "019b0000-0000-7000-8000-000000000001"
TRADE = {
    "id": "019b0000-0000-7000-8000-0000000000ab",
    "user_id": USER,
    "side": "buy",
    "base_amount": "0.5",
    "quote_amount": "30918.815",
    "price": "61837.63",
}
ASSETS = {"USDT": Asset(3, "USDT", "Tether", 18)}


def parse(*rows: dict[str, str]) -> Chunk:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [",".join(columns), *(",".join(row.get(name, "") for name in columns) for row in rows)]
    chunk = Chunk()
    NovaDexLines("trades.csv", columns, make_market(), ASSETS).parse(Block(1, lines), chunk)
    return chunk


def test_a_line_is_what_create_trade_would_write():
    rows = [
        TRADE,
        {**TRADE, "market": "BTC/USDT", "type": "margin", "side": "sell", "liquidity": "maker", "fee_amount": "-0.1"}
        | {"fee_asset": "USDT", "sequence": "-9223372036854775808", "match_id": USER},
        {**TRADE, "executed_at": "2024-08-08T23:54:15.342789+02:00", "id": "", "source": "desk"}
        | {"source_trade_id": '"a,""b"'},
    ]
    chunk = parse(*rows)
    assert chunk.rejects == []
    expected = [dict(row) for row in rows]
    expected[1]["sequence"] = -(2**63)  # type: ignore[assignment] # create_trade takes a number
    expected[2]["source_trade_id"] = 'a,"b'
    for line, fields in zip(chunk.lines, expected, strict=True):
        fee_asset_id = 3 if fields.get("fee_asset") else None
        assert (
            line
            == prepare(
                {name: value for name, value in fields.items() if value != ""}, make_market(), fee_asset_id
            ).line
        )
    assert chunk.months == {(2024, 8), (2025, 12)}
    assert chunk.places == [2, 3, 4]


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("id", "", "id is missing"),
        ("id", "x", "UUID"),
        ("id", "c56a4180-65aa-42ec-a945-5fd21dec0538", "version 7"),
        ("user_id", "", "missing"),
        ("user_id", "me", "UUID"),
        ("side", "hold", "buy, sell"),
        ("market", "ETH/USDT", "BTC/USDT"),
        ("base_amount", "0", "above 0"),
        ("quote_amount", "30918.8", "agree"),
        ("price", "NaN", "finite"),
        ("sequence", "1.5", "64 bits"),
        ("sequence", "9223372036854775808", "64 bits"),
        ("fee_asset", "GLD", "no asset"),
        ("fee_amount", "0.1", "fee_asset"),
        ("executed_at", "yesterday", "not a time"),
        ("executed_at", "2024-08-08T00:00:00", "zone"),
        ("executed_at", "2024-08-08T00:00:00Z", "carries the time"),
        ("source", "desk", "source_trade_id"),
    ],
)
def test_a_bad_line_names_its_field(field: str, value: str, reason: str):
    chunk = parse(TRADE, {**TRADE, field: value}, TRADE)
    [bad] = chunk.rejects
    assert chunk.places == [2, 4]
    assert bad.line == 3
    assert reason in bad.reason


def test_a_line_with_too_few_columns_is_refused():
    chunk = Chunk()
    lines = NovaDexLines("trades.csv", list(TRADE), make_market(), ASSETS)
    lines.parse(Block(2, [",".join(list(TRADE.values())[:-1]), "", ",".join(TRADE.values())]), chunk)
    assert [(bad.line, bad.field) for bad in chunk.rejects] == [(2, "line")]
    assert chunk.places == [4]


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("id,user_id,side,base_amount,quote_amount,price,colour", "unknown columns: 'colour'"),
        ("id,user_id,side,base_amount,quote_amount", "lacks price"),
        ("user_id,side,base_amount,quote_amount,price", "lacks id"),
        ("user_id,side,base_amount,quote_amount,price,executed_at,source", "lacks id"),
        ("id,id,user_id,side,base_amount,quote_amount,price", "twice"),
        ("id,user_id,side,base_amount,quote_amount,price,idempotency_key", "idempotency_key"),
    ],
)
def test_a_header_that_will_not_do_is_refused(header: str, reason: str):
    with pytest.raises(ImportFailedError, match=reason):
        check_header("trades.csv", [*header.split(",")])


def test_a_header_may_have_its_columns_in_any_order():
    names = ["source_trade_id", "price", "executed_at", "user_id", "side", "source", "base_amount", "quote_amount"]
    assert check_header("trades.csv", names) == names
