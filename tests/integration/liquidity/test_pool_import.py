"""The minutes of a Uniswap v3 pool: each once, and their totals are those that csv and int give."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from novadex.errors import ConflictError, UsageError, ValidationError
from novadex.liquidity.importing import COLUMNS, import_pool
from tests.conftest import DatabasePair
from tests.integration.cli.command import Command
from tests.integration.liquidity.conftest import ADDRESS

FILE = "uniswap-v3-USDC-WETH-2024-02-16.minute.csv"
MINUTE = "2024-02-16 00:00:00,5,-7,2.0,1.0,0.0,3.0,5,0,9"


@pytest.fixture
def minutes(tmp_path: Path) -> Callable[..., str]:
    def write(
        *lines: str,
        header: str = ",".join(COLUMNS[:3])
        + ",closeTick,openTick,lowestTick,highestTick,inAmount0,inAmount1,currentLiquidity",
    ) -> str:
        path = tmp_path / "minutes.csv"
        path.write_text("\n".join([header, *lines]) + "\n")
        return str(path)

    return write


async def test_the_shared_file_is_imported_once_and_its_totals_are_exact(  # noqa: PLR0917 - fixtures
    db: Any, pool: Any, liquidity: Any, shared_data: Path, fresh_databases: DatabasePair, tmp_path: Path
) -> None:
    path = shared_data / FILE
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    ticks = {
        name: [int(float(row[name])) for row in rows]
        for name in ("openTick", "closeTick", "lowestTick", "highestTick")
    }
    totals = {
        name: sum(int(row[name]) for row in rows) for name in ("netAmount0", "netAmount1", "inAmount0", "inAmount1")
    }
    assert len(rows) == 1440

    command = Command(fresh_databases, tmp_path)
    first = command.json("import", "pool", str(path), "--pool", ADDRESS)
    again = command.json("import", "pool", str(path), "--pool", ADDRESS)
    assert (first["read"], first["added"], first["duplicates"]) == (1440, 1440, 0)
    assert (again["read"], again["added"], again["duplicates"]) == (1440, 0, 1440)
    for report in (first, again):
        assert report["net_amount0"] == totals["netAmount0"]
        assert report["net_amount1"] == totals["netAmount1"]
        assert report["in_amount0"] == totals["inAmount0"]
        assert report["in_amount1"] == totals["inAmount1"]
        assert report["fees0"] == totals["inAmount0"] * 500 // 10**6
        assert report["fees1"] == totals["inAmount1"] * 500 // 10**6
        assert report["active_minutes"] == sum(row["inAmount0"] != "0" or row["inAmount1"] != "0" for row in rows)
        assert (report["open_tick"], report["close_tick"]) == (ticks["openTick"][0], ticks["closeTick"][-1])
        assert (report["lowest_tick"], report["highest_tick"]) == (
            min(ticks["lowestTick"]),
            max(ticks["highestTick"]),
        )
        assert report["liquidity"] == int(rows[-1]["currentLiquidity"])
        assert (report["first"], report["last"]) == ("2024-02-16T00:00:00Z", "2024-02-16T23:59:00Z")
    stored = []
    cursor = None
    while True:
        page = await liquidity.snapshots(ADDRESS, limit=1000, cursor=cursor)
        stored += page.items
        if (cursor := page.next) is None:
            break
    assert [(s.net_amount0, s.in_amount1, s.close_tick, s.liquidity) for s in reversed(stored)] == [
        (int(row["netAmount0"]), int(row["inAmount1"]), int(float(row["closeTick"])), int(row["currentLiquidity"]))
        for row in rows
    ]


async def test_a_pool_is_made_by_the_import_where_it_is_asked_for(fresh_databases, tmp_path, minutes):
    command = Command(fresh_databases, tmp_path)
    options = [
        "--create-pool",
        "--market",
        "WETH/USDC",
        "--fee",
        "0.0005",
        "--tick-spacing",
        "10",
        "--base-is-token1",
    ]
    report = command.json("import", "pool", minutes(MINUTE), "--pool", "0xnew", *options, code=2)
    assert report["error"]["code"] == "NOT_FOUND"
    command.run("markets", "add", "WETH/USDC", "--quote-decimals", "6")
    report = command.json("import", "pool", minutes(MINUTE), "--pool", "0xnew", *options)
    assert (report["added"], report["net_amount1"]) == (1, -7)


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("2024-02-16 00:01:00,5,-7,2.0,1.0,0.0,3.0,5,0,9.5", "currentLiquidity"),
        ("2024-02-16 00:01:00,1e3,-7,2.0,1.0,0.0,3.0,5,0,9", "netAmount0"),
        ("2024-02-16 00:01:00,5,-7,2.0,1.0,0.0,3.0,-5,0,9", "inAmount"),
        ("2024-02-16 00:01:00,5,-7,2.0,1.0,2.0,3.0,5,0,9", "ticks"),
        ("2024-02-16 00:01:00,5,-7,2.0,1.0,-887273.0,3.0,5,0,9", "ticks"),
        (f"2024-02-16 00:01:00,{2**255},-7,2.0,1.0,0.0,3.0,5,0,9", "netAmount"),
        (f"2024-02-16 00:01:00,5,-7,2.0,1.0,0.0,3.0,{2**256},0,9", "inAmount"),
        ("yesterday,5,-7,2.0,1.0,0.0,3.0,5,0,9", "timestamp"),
        ("2024-02-16 00:01:00,5", "netAmount1"),
    ],
)
async def test_a_bad_line_is_named_and_nothing_of_its_batch_is_in(  # noqa: PLR0917 - fixtures
    db, pool, liquidity, minutes, line, field
):
    with pytest.raises(ValidationError, match="Line 3") as caught:
        await import_pool(db, minutes(MINUTE, line), ADDRESS)
    assert caught.value.field == field
    assert (await liquidity.snapshots(ADDRESS)).items == []


async def test_256_bits_survive(db, pool, minutes):
    most, least = 2**255 - 1, -(2**255)
    line = f"2024-02-16 00:00:00,{most},{least},2.0,1.0,0.0,3.0,{2**256 - 1},0,{2**256 - 1}"
    report = await import_pool(db, minutes(line), ADDRESS)
    assert (report.net_amount0, report.net_amount1, report.in_amount0) == (most, least, 2**256 - 1)
    assert report.liquidity == 2**256 - 1


async def test_other_values_of_a_minute_are_a_conflict(db, pool, minutes):
    await import_pool(db, minutes(MINUTE), ADDRESS)
    with pytest.raises(ConflictError, match="other values"):
        await import_pool(db, minutes(MINUTE.replace(",-7,", ",-8,")), ADDRESS)
    with pytest.raises(ConflictError, match="other values"):
        twice = "2024-02-17 00:00:00,1,1,2.0,1.0,0.0,3.0,5,0,9"
        await import_pool(db, minutes(twice, twice.replace(",5,", ",6,")), ADDRESS)


async def test_a_file_that_is_none_is_refused(db, pool, minutes):
    with pytest.raises(ValidationError, match="no column"):
        await import_pool(db, minutes(MINUTE, header="a,b"), ADDRESS)
    with pytest.raises(UsageError, match="cannot be read"):
        await import_pool(db, "/nowhere.csv", ADDRESS)
