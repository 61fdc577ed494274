"""How fast the projection drains, and how soon a trade is in its candle."""

from __future__ import annotations

import asyncio
import random
import time
from datetime import UTC, datetime, timedelta

from benchmarks.figures import Figure, quantile
from benchmarks.trades import USERS, Connect, add_records, waiting_line
from novadex import DatabaseConnection, TradingService
from novadex.analytics.projection import Outcome, TradeProjection
from novadex.trading.markets import QUERIES

WAITING_TRADES = 500_000
COPY_TRADES = 10_000
DRAIN_WANTED = 20_000
LIVE_RATE = 3_000
LIVE_SECONDS = 20
WARM_UP_S = 3.0
VISIBLE_WANTED_MS = 1_000


async def drain(connect: Connect) -> Figure:
    """Trades that wait, projected with nothing else running."""
    async with connect("app") as app, connect("worker") as worker, connect("owner") as owner:
        await add_records(owner)
        await _add_waiting(app)
        projection = TradeProjection(worker.main, worker.analytics, worker.settings)
        began, applied = time.perf_counter(), 0
        while (step := await projection.step()).outcome is Outcome.APPLIED or applied < WAITING_TRADES:
            applied += step.applied
        spent = time.perf_counter() - began
        assert applied == WAITING_TRADES, applied
        assert await owner.analytics.value("SELECT sum(trades) FROM candles") == WAITING_TRADES
    note = f"in batches of {worker.settings.projection_batch_max}: facts, candles, daily figures and position"
    return Figure(
        f"the projection drains {WAITING_TRADES:,} trades",
        applied / spent,
        "trades/s",
        wanted=DRAIN_WANTED,
        note=note,
    )


async def _add_waiting(app: DatabaseConnection) -> None:
    draw = random.Random(1)
    start = datetime.now(UTC) - timedelta(hours=2)
    for chunk in range(WAITING_TRADES // COPY_TRADES):
        lines = [
            waiting_line(draw, start + timedelta(milliseconds=7 * (chunk * COPY_TRADES + n)), draw.choice(USERS))
            for n in range(COPY_TRADES)
        ]
        async with app.main.copy_in(QUERIES.copy_trades) as copy:
            await copy.write("".join(lines))


async def visible(connect: Connect) -> Figure:
    """From the acknowledgement of a trade to its candle, while trades come at a steady rate."""
    async with connect("app") as app, connect("owner") as owner:
        await add_records(owner)
        acknowledged: list[float] = []
        seen: list[float] = []
        written = asyncio.Event()

        async def look() -> None:
            while not written.is_set() or len(seen) < len(acknowledged):
                count = await owner.analytics.value("SELECT coalesce(sum(trades), 0)::bigint FROM candles")
                seen.extend([time.perf_counter()] * (count - len(seen)))
                await asyncio.sleep(0.005)

        looking = asyncio.create_task(look())
        async with TradingService(app) as service:
            await _write_steadily(service, acknowledged)
        written.set()
        await asyncio.wait_for(looking, 60)
    spent = acknowledged[-1] - acknowledged[0]
    # The n-th acknowledged and the n-th visible trade: the projection keeps the order of commits.
    warm = int(WARM_UP_S * LIVE_RATE)
    waits = [max(0.0, late - soon) * 1e3 for soon, late in zip(acknowledged[warm:], seen[warm:], strict=True)]
    return Figure(
        "from acknowledgement to visible candle, p99",
        quantile(waits, 0.99),
        "ms",
        wanted=VISIBLE_WANTED_MS,
        note=f"p50 {quantile(waits, 0.5):.0f} ms, at {len(acknowledged) / spent:,.0f} trades/s, everything running",
        smaller_is_better=True,
    )


async def _write_steadily(service: TradingService, acknowledged: list[float]) -> None:
    tasks: set[asyncio.Task[None]] = set()
    began, sent = time.perf_counter(), 0

    async def write() -> None:
        await service.create_trade(
            user_id=random.choice(USERS),
            side="buy",
            market="BTC/USDT",
            base_amount="0.5",
            quote_amount="30918.815",
            price="61837.63",
        )
        acknowledged.append(time.perf_counter())

    while sent < LIVE_RATE * LIVE_SECONDS:
        due = min(int((time.perf_counter() - began) * LIVE_RATE), LIVE_RATE * LIVE_SECONDS)
        for _ in range(due - sent):
            task = asyncio.create_task(write())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        sent = due
        await asyncio.sleep(0.002)
    await asyncio.gather(*tasks)
