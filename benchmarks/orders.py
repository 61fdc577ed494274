"""``place_order`` and ``record_fill`` beside pgbench, which writes the same rows, one order or fill a transaction.

Both go to the same tables with the same triggers, over the same markets.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

from benchmarks.figures import Figure, quantile
from benchmarks.trades import PGBENCH_CLIENTS, USERS, Connect, Run, run_pgbench
from novadex import DatabaseConnection, TradingService
from novadex.instance import find_endpoints
from novadex.settings import load_settings
from novadex.trading.markets import Markets
from novadex.trading.orders.prepare import FillInput, OrderInput

SQL = Path(__file__).with_name("sql")
MARKETS = [f"C{number}/USDT" for number in range(1, 17)]
ORDERS_A_SIDE = 64
"""Of each market: large ones, which fills never fill up."""
CALLERS = 256
TARGET = 2.0
_numbers = itertools.count(1)


async def add_records(db: DatabaseConnection) -> None:
    """Markets 1 to 16, users, and the orders that are filled."""
    for symbol in MARKETS:
        await Markets(db).add(symbol)
    await db.query("INSERT INTO users (id) SELECT unnest($1::uuid[]) ON CONFLICT DO NOTHING", [USERS])
    await db.query("SELECT ensure_partitions('order_events', '2025-12-01Z', '2025-12-31Z')")
    orders: list[OrderInput] = [
        {
            "id": _order_id(market, sells, number),
            "user_id": random.choice(USERS),
            "market": MARKETS[market - 1],
            "side": "sell" if sells else "buy",
            "type": "limit",
            "quantity": "1000000000",
            "price": "61837.63",
        }
        for market in range(1, len(MARKETS) + 1)
        for sells in (0, 1)
        for number in range(1, ORDERS_A_SIDE + 1)
    ]
    async with TradingService(db) as service:
        for outcome in await service.place_orders(orders):
            if isinstance(outcome, Exception):
                raise outcome
    await db.query("ANALYZE orders, order_events, markets, users")


def _order_id(market: int, sells: int, number: int) -> str:
    return f"019b0000-0000-7000-9000-{market:04x}{sells}{number:07x}"


def _order() -> OrderInput:
    return {
        "user_id": random.choice(USERS),
        "market": random.choice(MARKETS),
        "side": "buy",
        "type": "limit",
        "quantity": "0.5",
        "price": "61837.63",
    }


def _fill() -> FillInput:
    market = random.randint(1, len(MARKETS))
    return {
        "market": MARKETS[market - 1],
        "price": "61837.63",
        "base_amount": "0.5",
        "quote_amount": "30918.815",
        "taker_order_id": _order_id(market, 0, random.randint(1, ORDERS_A_SIDE)),
        "maker_order_id": _order_id(market, 1, random.randint(1, ORDERS_A_SIDE)),
        "taker_fee": "30.918815",
        "maker_fee": "30.918815",
        "source": "benchmark",
        "source_match_id": f"{time.time_ns()} {next(_numbers)}",
        "allow_self_trade": True,
    }


async def _place(service: TradingService) -> object:
    return await service.place_order(_order())


async def _record(service: TradingService) -> object:
    return await service.record_fill(_fill())


async def run_callers(
    db: DatabaseConnection, seconds: float, call: Callable[[TradingService], Awaitable[object]]
) -> Run:
    """256 callers, each doing one after another, validation and all."""
    waited: list[float] = []
    async with TradingService(db) as service:
        for symbol in MARKETS:
            await service.markets.get(symbol)
        ends = time.perf_counter() + seconds

        async def again_and_again() -> None:
            while (began := time.perf_counter()) < ends:
                await call(service)
                waited.append(time.perf_counter() - began)

        began = time.perf_counter()
        await asyncio.gather(*(again_and_again() for _ in range(CALLERS)))
        spent = time.perf_counter() - began
    return Run(len(waited) / spent, quantile(waited, 0.5) * 1e3, quantile(waited, 0.99) * 1e3)


def run(data_dir: Path, pgbench: Path, connect: Connect, rounds: int = 3, seconds: int = 8) -> list[Figure]:
    """The peers in turn, so many rounds; medians, and the median of the ratios."""
    url = find_endpoints(load_settings(), data_dir, "app").main
    figures: list[Figure] = []
    for what, unit, script, call in (
        ("place_order", "orders/s", "one_order.sql", _place),
        ("record_fill", "fills/s", "one_fill.sql", _record),
    ):
        peers: list[Run] = []
        ours: list[Run] = []
        for _ in range(rounds):
            peers.append(run_pgbench(pgbench, url, SQL / script, seconds))
            ours.append(uvloop.run(_one_run(connect, seconds, call)))
        ratio = statistics.median(run.rate / peer.rate for run, peer in zip(ours, peers, strict=True))
        p50, p99 = (statistics.median(getattr(run, name) for run in ours) for name in ("p50_ms", "p99_ms"))
        peer_ms = statistics.median(peer.p50_ms for peer in peers)
        figures.append(
            Figure(
                f"{what}, {CALLERS} callers, {len(MARKETS)} markets",
                statistics.median(run.rate for run in ours),
                unit,
                f"pgbench -M prepared -c {PGBENCH_CLIENTS} -j 2",
                statistics.median(peer.rate for peer in peers),
                ratio,
                TARGET,
                f"p50 {p50:.1f} ms, p99 {p99:.1f} ms; pgbench average {peer_ms:.1f} ms",
            )
        )
    return figures


async def _one_run(connect: Connect, seconds: float, call: Callable[[TradingService], Awaitable[object]]) -> Run:
    async with connect("app") as db:
        return await run_callers(db, seconds, call)
