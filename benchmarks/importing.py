"""``novadex import`` beside a bare COPY of the same rows into the same table, with its indexes and constraints."""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from uuid import UUID

import psycopg
import uvloop

from benchmarks.figures import Figure
from novadex import DatabaseConnection
from novadex.instance import find_endpoints
from novadex.settings import load_settings
from novadex.trading.importing.binance import FIELDS, BinanceLines
from novadex.trading.importing.chunks import ROWS_MAX, ChunkSize, read_chunks
from novadex.trading.importing.market_trades import MarketTrades
from novadex.trading.importing.source_file import open_source
from novadex.trading.importing.text_lines import blocks
from novadex.trading.markets import QUERIES, Markets

MARKET = "BTC/USDT"
SOURCE = "binance"
TRADES = 1_000_000
START_MS = 1_723_161_255_342
TRADE_EVERY_MS = 35
"""On average: as in a busy hour of a large market."""
RATIO_WANTED = 0.5
PEAK_WANTED_MB = 300
PIECE_BYTES = 65_536


def write_dump(path: Path, trades: int = TRADES, seed: int = 1) -> None:
    """Trades in the format of Binance's dumps, without a header: a price that walks, amounts of up to 3 BTC."""
    draw = random.Random(seed)
    moment, cents = START_MS, 6_183_763
    with path.open("w", encoding="ascii") as file:
        for number in range(trades):
            moment += int(draw.expovariate(1 / TRADE_EVERY_MS))
            cents = max(100, cents + draw.randint(-50, 50))
            units = draw.randint(1, 300_000)  # of 0.00001 BTC
            whole, fraction = divmod(cents * units, 10**7)
            maker = draw.choice(("True", "False"))
            file.write(
                f"{3_735_683_259 + number},{cents // 100}.{cents % 100:02}000000"
                f",{units // 10**5}.{units % 10**5:05}000,{whole}.{fraction:07}000000000,{moment},{maker},True\n"
            )


def run(data_dir: Path, trades: int = TRADES, rounds: int = 3) -> list[Figure]:
    """The peers in turn, so many rounds; medians, and the median of the ratios.

    ``data_dir`` is an instance without trades: the table is emptied before every run.
    """
    with tempfile.TemporaryDirectory(prefix="novadex-bench-") as folder:
        dump, lines = Path(folder) / "trades.csv", Path(folder) / "trades.copy"
        write_dump(dump, trades)
        uvloop.run(_prepare(data_dir, dump, lines))
        copied: list[float] = []
        imported: list[float] = []
        again: list[float] = []
        peaks: list[float] = []
        for _ in range(rounds):
            _empty(data_dir)
            copied.append(trades / _copy(data_dir, lines))
            _empty(data_dir)
            seconds, peak = _import(data_dir, dump, trades)
            imported.append(trades / seconds)
            peaks.append(peak)
            again.append(trades / _import(data_dir, dump, 0)[0])
    ratio = statistics.median(ours / peer for ours, peer in zip(imported, copied, strict=True))
    what = f"novadex import of {trades:,} trades"
    return [
        Figure(
            what,
            statistics.median(imported),
            "trades/s",
            "bare COPY of the same rows into the same table",
            statistics.median(copied),
            ratio,
            RATIO_WANTED,
            "the whole command, from a file in Binance's format",
        ),
        Figure(f"{what}, a second time", statistics.median(again), "trades/s", note="adds nothing"),
        Figure(f"{what}, peak memory", max(peaks), "MB", wanted=PEAK_WANTED_MB, smaller_is_better=True),
    ]


async def _prepare(data_dir: Path, dump: Path, lines: Path) -> None:
    """The market, the source's account, the partitions, and the rows as COPY takes them."""
    async with DatabaseConnection.connect(data_dir=data_dir, role="owner") as db:
        if await db.main.value("SELECT EXISTS (SELECT FROM trades)"):
            raise SystemExit(f"{data_dir} has trades: the benchmark needs an instance of its own.")
        market = await Markets(db).add(MARKET)
        account = UUID("019b0000-0000-7000-8000-00000000b17a")
        await db.main.execute(QUERIES.ensure_system_account, [account, f"source:{SOURCE}"])
        account = await db.main.value(QUERIES.system_account, [f"source:{SOURCE}"])
        parse = BinanceLines(MarketTrades(market, SOURCE, account, FIELDS), header=False).parse
        source = open_source(str(dump))
        with lines.open("wb") as file:
            for chunk in read_chunks(blocks(source.pieces()), parse, ChunkSize(ROWS_MAX), source.position):
                assert not chunk.rejects
                assert chunk.failure is None
                file.write(chunk.copy_data())
                for year, month in chunk.months:
                    moment = f"{year}-{month:02}-01T00:00:00Z"
                    await db.main.execute(QUERIES.ensure_trade_partitions, [moment, moment])
        source.close()


def _empty(data_dir: Path) -> None:
    url = find_endpoints(load_settings(), data_dir, "owner").main
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("TRUNCATE trades")


def _copy(data_dir: Path, lines: Path) -> float:
    """Seconds of one COPY in one transaction."""
    url = find_endpoints(load_settings(), data_dir, "app").main
    with psycopg.connect(url) as connection, lines.open("rb") as file:
        began = time.perf_counter()
        with connection.cursor().copy(QUERIES.copy_trades.sql) as copy:
            while piece := file.read(PIECE_BYTES):
                copy.write(piece)
        connection.commit()
        return time.perf_counter() - began


def _import(data_dir: Path, dump: Path, added: int) -> tuple[float, float]:
    """Seconds of the whole command, and its peak memory in MB."""
    command = [str(Path(sys.executable).with_name("novadex")), "import", "trades", str(dump), "--market", MARKET]
    command += ["--no-wait", "--json", "--data-dir", str(data_dir)]
    with tempfile.TemporaryFile() as output:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        printed = output.read().decode()
    if process.returncode or f'"added": {added},' not in printed:
        raise RuntimeError(f"the import ended with {process.returncode}: {printed}")
    per_mb = 2**20 if sys.platform == "darwin" else 2**10
    return seconds, usage.ru_maxrss / per_mb
