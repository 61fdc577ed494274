"""A bad line is named; with ``stop`` all before it is in and nothing after it, with ``skip`` it is set aside."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import psycopg
import pytest
from uuid_utils.compat import uuid7

from novadex.errors import ConflictError, NotFoundError, UsageError, ValidationError
from novadex.trading.importing import ImportFailedError, chunks
from tests.integration.importing import dumps
from tests.integration.importing.conftest import Load, counts
from tests.integration.importing.dumps import Dumped, count, dumped, expected, recorded

TRADES = dumped(1_000)
LINES = [dumps.binance_line(trade) for trade in TRADES]


def spoiled(*places: int, line: str = "1,NaN,1,1,1723161255342,True,True\n") -> bytes:
    """The trades with bad lines before those at these places."""
    lines = list(LINES)
    for place in sorted(places, reverse=True):
        lines.insert(place, line)
    return "".join(lines).encode()


def rejects(path: Path | None) -> list[dict[str, str]]:
    assert path is not None
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


async def test_the_first_bad_line_stops_and_all_before_it_is_in(load: Load, main_url: Callable[..., str]):
    with pytest.raises(ImportFailedError) as caught:
        await load(spoiled(617, 800))
    assert "trades.csv, line 618, price 'NaN': price must be a finite number" in caught.value.message
    assert "617 were added" in caught.value.message
    assert caught.value.details == {
        "file": "trades.csv", "line": 618, "field": "price", "value": "NaN",
        "read": 617, "added": 617, "duplicates": 0, "rejected": 0,
    }  # fmt: skip
    assert recorded(main_url("readonly")) == expected(TRADES[:617])
    # Corrected, it continues.
    assert counts(await load("".join(LINES).encode())) == (1_000, 383, 617, 0)
    with pytest.raises(ImportFailedError, match="0 were added, 617 were there before"):
        await load(spoiled(617))


async def test_skipped_lines_go_to_a_file_beside_the_imported_one(
    load: Load, main_url: Callable[..., str], tmp_path: Path
):
    report = await load(spoiled(0, 617, 1_000), on_error="skip")
    assert counts(report) == (1_003, 1_000, 0, 3)
    assert report.rejects_file == tmp_path / "trades.csv.rejects.csv"
    found = rejects(report.rejects_file)
    assert [(row["line"], row["field"], row["value"], row["raw"]) for row in found] == [
        (line, "price", "NaN", "1,NaN,1,1,1723161255342,True,True") for line in ("1", "619", "1003")
    ]
    assert recorded(main_url("readonly")) == expected(TRADES)


async def test_the_elements_of_an_array_have_numbers_too(load: Load, main_url: Callable[..., str]):
    content = dumps.ccxt_array(TRADES[:9]).replace(b'"side": "', b'"side": "x', 1)
    with pytest.raises(ImportFailedError, match="line 1, element 1, side"):
        await load(content)
    report = await load(content, on_error="skip")
    assert counts(report) == (9, 8, 0, 1)
    assert [(row["line"], row["element"]) for row in rejects(report.rejects_file)] == [("1", "1")]
    with pytest.raises(ImportFailedError, match="line 1, element 1, side"):
        await load(content)
    assert count(main_url("readonly")) == 8


async def test_an_array_that_is_cut_off_fails_and_what_is_whole_is_in(load: Load, main_url: Callable[..., str]):
    whole = dumps.ccxt_array(TRADES[:50])
    for on_error in ("stop", "skip"):
        with pytest.raises(ImportFailedError, match="not a whole JSON array"):
            await load(whole[:-30], on_error=on_error)
        assert count(main_url("readonly")) == 49
    assert counts(await load(whole)) == (50, 1, 49, 0)


@pytest.mark.parametrize("packing", ["gzip", "zip"])
async def test_a_packed_file_that_is_cut_off_fails(load: Load, main_url: Callable[..., str], packing: str):
    packed = dumps.PACKINGS[packing](dumps.binance(TRADES))
    with pytest.raises(ImportFailedError, match="cannot be read to its end"):
        await load(packed[: len(packed) // 2])
    # Whole lines that could be unpacked before the break may be in; not one of them is cut.
    assert recorded(main_url("readonly")) <= expected(TRADES)
    report = await load(packed)
    assert (report.read, report.added + report.duplicates) == (1_000, 1_000)
    assert recorded(main_url("readonly")) == expected(TRADES)


def changed(trade: Dumped, **fields: Any) -> Dumped:
    return Dumped(**{name: getattr(trade, name) for name in Dumped.__slots__} | fields)


async def test_a_trade_that_is_recorded_otherwise_is_a_conflict(load: Load, main_url: Callable[..., str]):
    await load(dumps.binance(TRADES[:500]))
    other = list(TRADES)
    other[100] = changed(other[100], base=Decimal(7))
    other[700] = changed(other[100], buyer_is_maker=not other[100].buyer_is_maker, base=Decimal(7))
    with pytest.raises(
        ImportFailedError, match=r"line 101, base_amount '7': the trade .* another base_amount"
    ) as caught:
        await load(dumps.binance(other))
    assert caught.value.details["duplicates"] == 100
    assert recorded(main_url("readonly")) == expected(TRADES[:500])
    report = await load(dumps.binance(other), on_error="skip")
    assert counts(report) == (1_000, 499, 499, 2)
    assert [row["line"] for row in rejects(report.rejects_file)] == ["101", "701"]
    assert recorded(main_url("readonly")) == expected([*TRADES[:700], *TRADES[701:]])


async def test_a_conflict_far_into_a_chunk_stops_exactly_there(load: Load, main_url: Callable[..., str]):
    await load(dumps.binance([changed(TRADES[640], base=Decimal(7))]))
    with pytest.raises(ImportFailedError, match=r"line 641, base_amount"):
        await load(dumps.binance(TRADES))
    assert count(main_url("readonly")) == 641  # 640 before it, and the one it conflicts with


async def test_lines_that_stand_there_twice_count_as_duplicates(load: Load, main_url: Callable[..., str]):
    content = dumps.binance([*TRADES, *TRADES[::-1], TRADES[3], TRADES[3]])
    assert counts(await load(content)) == (2_002, 1_000, 1_002, 0)
    assert recorded(main_url("readonly")) == expected(TRADES)


async def test_two_lines_of_one_file_that_contradict_each_other_keep_the_first(
    load: Load, main_url: Callable[..., str]
):
    other = changed(TRADES[5], price=Decimal(9))
    report = await load(dumps.binance([*TRADES[:10], other, TRADES[5], other]), on_error="skip")
    assert counts(report) == (13, 10, 1, 2)
    assert [(row["line"], row["field"]) for row in rejects(report.rejects_file)] == [("11", "price"), ("13", "price")]
    assert recorded(main_url("readonly")) == expected(TRADES[:10])


async def test_users_must_exist_and_orders_are_not_imported(
    load: Load, main_url: Callable[..., str], users: Callable[[int], list[UUID]]
):
    user, nobody = users(1)[0], uuid7()
    lines = dumps.novadex(TRADES[:20], user).decode().splitlines(keepends=True)
    lines[7] = lines[7].replace(str(user), str(nobody))
    with pytest.raises(ImportFailedError, match=f"line 8, user_id '{nobody}': there is no user {nobody}"):
        await load("".join(lines).encode())
    assert count(main_url("readonly")) == 6
    report = await load("".join(lines).encode(), on_error="skip")
    assert counts(report) == (20, 13, 6, 1)
    with_order = [lines[0].replace("\n", ",order_id\n")] + [line.replace("\n", f",{nobody}\n") for line in lines[1:3]]
    with pytest.raises(ImportFailedError, match="order_id"):
        await load("".join(with_order).encode(), on_error="skip")


async def test_own_trades_are_compared_to_the_microsecond(load: Load, users: Callable[[int], list[UUID]]):
    user = users(1)[0]
    await load(dumps.novadex(TRADES[:5], user))
    later = [changed(trade, moment_us=trade.moment_us + 1) for trade in TRADES[:5]]
    report = await load(dumps.novadex(later, user), on_error="skip")
    assert counts(report) == (5, 0, 0, 5)
    assert {row["field"] for row in rejects(report.rejects_file)} == {"executed_at"}


async def test_what_only_the_database_refuses_is_found_line_by_line(load: Load, main_url: Callable[..., str]):
    with psycopg.connect(main_url("owner"), autocommit=True) as connection:
        connection.execute("ALTER TABLE trades ADD CONSTRAINT trades_no_dozen CHECK (base_amount <> 12)")
    trades = [changed(t, base=Decimal(12)) if n in (3, 400, 999) else t for n, t in enumerate(TRADES)]
    report = await load(dumps.binance(trades), on_error="skip")
    assert counts(report) == (1_000, 997, 0, 3)
    assert [(row["line"], row["field"]) for row in rejects(report.rejects_file)] == [
        ("4", "trades_no_dozen"), ("401", "trades_no_dozen"), ("1000", "trades_no_dozen"),
    ]  # fmt: skip
    with pytest.raises(ImportFailedError, match="line 4, trades_no_dozen: the database refuses it"):
        await load(dumps.binance(trades))


async def test_many_bad_lines_are_counted_in_bounded_chunks(load: Load, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(chunks, "REJECTS_MAX", 100)
    report = await load(b"".join([b"x\n"] * 70_000), format="binance", on_error="skip")
    assert counts(report) == (70_000, 0, 0, 70_000)
    assert len(rejects(report.rejects_file)) == 70_000


HOSTILE = {
    "binary": bytes(range(256)) * 50,
    "zeros": b"\0" * 5_000,
    "utf-16": dumps.binance(TRADES[:9]).decode().encode("utf-16"),
    "prose": b"This is no trade.\n" * 9,
    "klines": b"1723161240000,1,2,3,4,5,1723161299999,6,7,8,9,0\n",
    "aggregate trades": b"1,61837.63,0.02,1,1,1723161255342,True,True\n",
    "empty": b"",
}


@pytest.mark.parametrize("kind", HOSTILE)
async def test_what_is_no_list_of_trades_fails_whole(load: Load, main_url: Callable[..., str], kind: str):
    for on_error in ("stop", "skip"):
        with pytest.raises(ImportFailedError):
            await load(HOSTILE[kind], on_error=on_error)
    assert count(main_url("readonly")) == 0


async def test_what_a_file_says_reaches_no_terminal_unescaped(load: Load):
    for content in (
        LINES[0].replace("True,", "\x1b[2J,").encode() + b"1,\xff,3,6,1723161255342,True,True\n",
        b'{"id": 1, "symbol": "\x7f\\u001b[2J\\ud800"}\n',
        b"id,\x1b[2J,\xff,user_id,base_amount\n",
    ):
        with pytest.raises(ImportFailedError) as caught:
            await load(content)
        said = json.loads(msgspec.json.encode(caught.value.as_dict()))
        assert "\\x1b" in said["message"]
        assert all(text.isprintable() for text in (said["message"], *said["details"].values()))


@pytest.mark.parametrize("content", [dumps.BINANCE_HEADER.encode(), b"[]", b" [ \n ] "])
async def test_a_file_without_trades_is_no_error(load: Load, content: bytes):
    assert counts(await load(content)) == (0, 0, 0, 0)


async def test_byte_order_marks_line_ends_and_a_missing_last_one_change_nothing(
    load: Load, main_url: Callable[..., str]
):
    content = b"\xef\xbb\xbf" + dumps.binance(TRADES, header=True).replace(b"\n", b"\r\n")[:-2]
    assert counts(await load(content)) == (1_000, 1_000, 0, 0)
    assert recorded(main_url("readonly")) == expected(TRADES)


async def test_a_line_that_is_too_long_is_one_bad_line(load: Load, main_url: Callable[..., str]):
    content = "".join(LINES[:400]).encode() + b"9" * 3_000_000 + b"\n" + "".join(LINES[400:]).encode()
    with pytest.raises(ImportFailedError, match=r"line 401, line '99999.*longer than"):
        await load(content)
    assert count(main_url("readonly")) == 400
    report = await load(content, on_error="skip")
    assert counts(report) == (1_001, 600, 400, 1)


async def test_wrong_calls_are_named_and_change_nothing(load: Load, main_url: Callable[..., str]):
    content = dumps.binance(TRADES)
    with pytest.raises(NotFoundError, match=r"no market ETH/USDT.*--create-market"):
        await load(content, into="ETH/USDT")
    with pytest.raises(ValidationError, match="BASE/QUOTE"):
        await load(content, into="BTCUSDT", create_market=True)
    for option in ("format", "on_error"):
        with pytest.raises(ValidationError, match=option):
            await load(content, **{option: "other"})
    with pytest.raises(ValidationError, match="small letters"):
        await load(content, source="Binance!")
    with pytest.raises(UsageError, match="names the source on each line"):
        await load(dumps.novadex(TRADES, uuid7()), source="desk")
    with pytest.raises(ImportFailedError):
        await load(b"garbage", into="ETH/USDT", create_market=True)
    with psycopg.connect(main_url("owner")) as connection:
        assert connection.execute("SELECT count(*) FROM markets").fetchone() == (1,)
        assert connection.execute("SELECT count(*) FROM trades").fetchone() == (0,)


async def test_the_name_of_a_sources_account_must_be_free(load: Load, main_url: Callable[..., str]):
    with psycopg.connect(main_url("owner"), autocommit=True) as connection:
        connection.execute("INSERT INTO users (id, username) VALUES (%s, 'source:binance')", (uuid7(),))
    with pytest.raises(ConflictError, match="source:binance"):
        await load(dumps.binance(TRADES))


async def test_new_assets_have_18_decimals_and_known_ones_keep_theirs(
    load: Load, make_market: Callable[..., object], main_url: Callable[..., str]
):
    make_market("SOL/USDC", 9, 6)
    await load(dumps.binance(TRADES[:3]), into="ETH/USDC-PERP", create_market=True, on_error="skip")
    with psycopg.connect(main_url("readonly")) as connection:
        row = connection.execute(
            "SELECT base_decimals, quote_decimals FROM markets WHERE symbol = 'ETH/USDC-PERP'"
        ).fetchone()
    assert row == (18, 6)
