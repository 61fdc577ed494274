"""``create_trade`` beside pgbench, which writes the same rows into the same tables, one trade a transaction."""

from __future__ import annotations

import asyncio
import random
import re
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

import uvloop

from benchmarks.figures import Figure, quantile
from novadex import DatabaseConnection, TradingService
from novadex.ids import id_at
from novadex.instance import Role, find_endpoints
from novadex.settings import load_settings
from novadex.trading.lines import copy_line
from novadex.trading.markets import Markets
from novadex.trading.prepare import TradeInput

Connect = Callable[[Role], DatabaseConnection]

SQL = Path(__file__).with_name("sql")
USERS = [f"019b0000-0000-7000-8000-{n:012x}" for n in range(1, 1001)]
PGBENCH_CLIENTS = 64
TARGETS = {64: 2.0, 1024: 3.0}


@dataclass
class Run:
    """One run: how many trades a second, and how long a caller waited."""

    rate: float
    p50_ms: float
    p99_ms: float


async def add_records(db: DatabaseConnection) -> None:
    """The market and the users that all benchmarks write for."""
    await Markets(db).add("BTC/USDT")
    await db.query("INSERT INTO users (id) SELECT unnest($1::uuid[]) ON CONFLICT DO NOTHING", [USERS])


def waiting_line(draw: random.Random, moment: datetime, user: str) -> str:
    """A line of COPY: a trade of any amount and price."""
    price = 6_100_000 + draw.randrange(100_000)
    amount = draw.randrange(1, 1000)
    return copy_line(
        id=str(id_at(moment)),
        user_id=user,
        market_id=1,
        base_decimals=18,
        quote_decimals=18,
        type="spot",
        side=draw.choice(("buy", "sell")),
        liquidity="taker",
        base_amount=str(amount),
        quote_amount=f"{amount * price // 100}.{amount * price % 100:02}",
        price=f"{price // 100}.{price % 100:02}",
        fee_amount="0",
        fee_asset_id=None,
        executed_at=moment.isoformat(),
        sequence=None,
        match_id=None,
        order_id=None,
        source=None,
        source_trade_id=None,
    )


def run_pgbench(pgbench: Path, url: str, script: Path, seconds: int) -> Run:
    """pgbench with prepared statements, 64 clients, two threads."""
    parts = urlsplit(url)
    command = [str(pgbench), "-n", "-M", "prepared", "-c", str(PGBENCH_CLIENTS), "-j", "2", "-T", str(seconds)]
    command += ["-f", str(script), "-h", str(parts.hostname), "-p", str(parts.port), "-U", str(parts.username)]
    done = subprocess.run(
        [*command, parts.path.lstrip("/")],
        capture_output=True,
        text=True,
        check=True,
        env={"PGPASSWORD": parts.password or ""},
    )
    rate, latency = re.search(r"tps = ([\d.]+)", done.stdout), re.search(r"latency average = ([\d.]+)", done.stdout)
    if rate is None or latency is None:
        raise RuntimeError(done.stdout + done.stderr)
    return Run(float(rate[1]), float(latency[1]), float("nan"))


async def run_callers(db: DatabaseConnection, callers: int, seconds: float, *, keys: bool) -> Run:
    """So many callers, each creating one trade after another, validation and all."""
    waited: list[float] = []
    prefix = f"{callers} {time.time_ns()}"
    async with TradingService(db) as service:
        await service.markets.get("BTC/USDT")
        ends = time.perf_counter() + seconds

        async def call(caller: int) -> None:
            number = 0
            while (began := time.perf_counter()) < ends:
                number += 1
                if keys:
                    await service.create_trade(_trade(), idempotency_key=f"{prefix} {caller} {number}")
                else:
                    await service.create_trade(_trade())
                waited.append(time.perf_counter() - began)

        began = time.perf_counter()
        await asyncio.gather(*(call(number) for number in range(callers)))
        spent = time.perf_counter() - began
    return Run(len(waited) / spent, quantile(waited, 0.5) * 1e3, quantile(waited, 0.99) * 1e3)


def _trade() -> TradeInput:
    return {
        "user_id": random.choice(USERS),
        "type": "spot",
        "side": "buy",
        "base_asset": "BTC",
        "quote_asset": "USDT",
        "base_amount": "0.5",
        "quote_amount": "30918.815",
        "price": "61837.63",
    }


def run(data_dir: Path, pgbench: Path, connect: Connect, rounds: int = 3, seconds: int = 8) -> list[Figure]:
    """The peers in turn, so many rounds; medians, and the median of the ratios."""
    figures: list[Figure] = []
    url = find_endpoints(load_settings(), data_dir, "app").main
    for keys, script in ((False, "one_trade.sql"), (True, "one_trade_with_key.sql")):
        peers: list[Run] = []
        ours: dict[int, list[Run]] = {callers: [] for callers in TARGETS}
        for _ in range(rounds):
            peers.append(run_pgbench(pgbench, url, SQL / script, seconds))
            for callers, runs in ours.items():
                runs.append(uvloop.run(_one_run(connect, callers, seconds, keys=keys)))
        what = "create_trade with string keys" if keys else "create_trade"
        peer_rate = statistics.median(peer.rate for peer in peers)
        peer_ms = statistics.median(peer.p50_ms for peer in peers)
        for callers, runs in ours.items():
            ratio = statistics.median(run.rate / peer.rate for run, peer in zip(runs, peers, strict=True))
            p50 = statistics.median(run.p50_ms for run in runs)
            p99 = statistics.median(run.p99_ms for run in runs)
            figures.append(
                Figure(
                    f"{what}, {callers} callers",
                    statistics.median(run.rate for run in runs),
                    "trades/s",
                    f"pgbench -M prepared -c {PGBENCH_CLIENTS} -j 2",
                    peer_rate,
                    ratio,
                    TARGETS[callers],
                    f"p50 {p50:.1f} ms, p99 {p99:.1f} ms; pgbench average {peer_ms:.1f} ms",
                )
            )
    return figures


async def _one_run(connect: Connect, callers: int, seconds: float, *, keys: bool) -> Run:
    async with connect("app") as db:
        return await run_callers(db, callers, seconds, keys=keys)
