"""The same trades in every format and packing give the same rows; what is there already is not added again."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uuid_utils.compat import uuid7

from novadex.storage.connection import DatabaseConnection
from novadex.trading.importing import import_trades
from tests.integration.importing import dumps
from tests.integration.importing.conftest import Load, counts
from tests.integration.importing.dumps import MARKET, PACKINGS, Dumped, dumped, expected, recorded

TRADES = dumped(1_200)
FORMATS = {
    "binance with a header": (dumps.binance(TRADES, header=True), "binance"),
    "binance without a header": (dumps.binance(TRADES), "binance"),
    "ccxt array": (dumps.ccxt_array(TRADES), "ccxt"),
    "ccxt array on many lines": (dumps.ccxt_array(TRADES, between="\n  "), "ccxt"),
    "ccxt lines": (dumps.ccxt_lines(TRADES), "ccxt"),
}


async def test_the_real_trades_arrive_exactly(
    db: DatabaseConnection, main_url: Callable[..., str], shared_data: Path
):
    file = str(shared_data / "BTCUSDT-trades-2024-08-08.csv")
    said: list[str] = []
    report = await import_trades(db, file, MARKET, create_market=True, on_opened=said.append)
    assert counts(report) == (9757, 9757, 0, 0)
    assert said == ["BTCUSDT-trades-2024-08-08.csv: binance, with a header"]
    with psycopg.connect(main_url("readonly")) as connection:
        row = connection.execute(
            "SELECT count(*), sum(base_amount), sum(quote_amount), count(DISTINCT user_id), min(sequence) FROM trades"
        ).fetchone()
        assert row == (9757, Decimal("212.03315"), Decimal("13084074.1123886"), 1, 3735683259)
    with psycopg.connect(main_url("owner")) as connection:
        assert connection.execute("SELECT DISTINCT kind, username FROM users").fetchall() == [
            ("system", "source:binance")
        ]
    assert counts(await import_trades(db, file, MARKET)) == (9757, 0, 9757, 0)


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("kind", FORMATS)
async def test_every_format_in_every_packing_gives_the_same_rows(
    load: Load, main_url: Callable[..., str], kind: str, packing: str
):
    content, format_name = FORMATS[kind]
    report = await load(PACKINGS[packing](content), source="venue")
    assert counts(report) == (1_200, 1_200, 0, 0)
    assert (report.format, report.source, report.market, report.rejects_file) == (format_name, "venue", MARKET, None)
    assert recorded(main_url("readonly")) == expected(TRADES, source="venue")
    assert counts(await load(PACKINGS[packing](content), source="venue")) == (1_200, 0, 1_200, 0)


async def test_the_formats_of_one_source_know_each_others_trades(load: Load, main_url: Callable[..., str]):
    assert counts(await load(dumps.ccxt_array(TRADES[:900]), source="binance")) == (900, 900, 0, 0)
    assert counts(await load(dumps.binance(TRADES[300:]))) == (900, 300, 600, 0)
    assert counts(await load(dumps.ccxt_lines(TRADES), source="binance")) == (1_200, 0, 1_200, 0)
    assert recorded(main_url("readonly")) == expected(TRADES)


async def test_a_dump_in_microseconds_knows_the_trades_of_one_in_milliseconds(
    load: Load, main_url: Callable[..., str]
):
    fine = [Dumped(t.number, t.price, t.base, t.moment_us + 217, t.buyer_is_maker) for t in TRADES]
    assert counts(await load(dumps.binance(fine[:600], micros=True))) == (600, 600, 0, 0)
    assert recorded(main_url("readonly")) == expected(fine[:600], micros=True)
    assert counts(await load(dumps.binance(fine))) == (1_200, 600, 600, 0)


async def test_novadexs_own_csv_keeps_users_ids_and_times(
    load: Load, main_url: Callable[..., str], users: Callable[[int], list]
):
    user = users(1)[0]
    content = dumps.novadex(TRADES, user)
    assert counts(await load(content)) == (1_200, 1_200, 0, 0)
    assert recorded(main_url("readonly")) == expected(TRADES, micros=True)
    with psycopg.connect(main_url("readonly")) as connection:
        assert connection.execute("SELECT DISTINCT user_id FROM trades").fetchall() == [(user,)]
    assert counts(await load(content)) == (1_200, 0, 1_200, 0)


async def test_trades_of_several_months_get_their_partitions(load: Load, main_url: Callable[..., str]):
    months = [Dumped(n, Decimal(5), Decimal(2), (1_500_000_000 + n * 40 * 86_400) * 10**6, True) for n in range(30)]
    assert counts(await load(dumps.binance(months))) == (30, 30, 0, 0)
    assert recorded(main_url("readonly")) == expected(months)


async def test_two_markets_of_one_source_may_have_the_same_trade_ids(
    load: Load, make_market: Callable[..., object], main_url: Callable[..., str]
):
    make_market("ETH/USDT-PERP", 18, 18)
    await load(dumps.binance(TRADES))
    assert counts(await load(dumps.binance(TRADES), into="ETH/USDT-PERP")) == (1_200, 1_200, 0, 0)
    with psycopg.connect(main_url("readonly")) as connection:
        assert connection.execute("SELECT type, count(*) FROM trades GROUP BY type ORDER BY type").fetchall() == [
            ("perpetual", 1_200),
            ("spot", 1_200),
        ]


KINDS = ["binance", "binance us", "array", "lines", "own"]
amounts = st.decimals("0.00000001", "99999999.99999999", places=8)
any_trades = st.lists(
    st.builds(
        Dumped,
        number=st.integers(0, 2**63 - 1),
        price=amounts,
        base=amounts,
        moment_us=st.integers(1_700_000_000_000_000, 1_708_000_000_000_000) | st.just(1_000_000_000_000_000),
        buyer_is_maker=st.booleans(),
    ),
    max_size=12,
    unique_by=lambda trade: trade.number,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(trades=any_trades, kind=st.sampled_from(KINDS), packing=st.sampled_from(sorted(PACKINGS)))
async def test_any_trades_in_any_format_arrive_as_they_are(  # noqa: PLR0917
    trades: list[Dumped],
    kind: str,
    packing: str,
    load: Load,
    users: Callable[[int], list],
    main_url: Callable[..., str],
):
    source = f"s{uuid7().hex[:20]}"  # examples share a database
    micros = kind in ("binance us", "own")
    content = {
        "binance": lambda: dumps.binance(trades, header=True),
        "binance us": lambda: dumps.binance(trades, micros=True) or b"\n",
        "array": lambda: dumps.ccxt_array(trades),
        "lines": lambda: dumps.ccxt_lines(trades) or b"\n",
        "own": lambda: dumps.novadex(trades, users(1)[0], source),
    }[kind]()
    options = {"format": {"array": "ccxt", "lines": "ccxt", "own": "novadex"}.get(kind, "binance")}
    if kind != "own":
        options["source"] = source
    report = await load(PACKINGS[packing](content), **options)
    assert counts(report) == (len(trades), len(trades), 0, 0)
    assert {row for row in recorded(main_url("readonly")) if row[9] == source} == expected(
        trades, source=source, micros=micros
    )
    assert counts(await load(PACKINGS[packing](content), **options)) == (len(trades), 0, len(trades), 0)
