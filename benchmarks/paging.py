"""Pages of a user's trades: the first and the ten thousandth."""

from __future__ import annotations

import random
import statistics
import time
from datetime import UTC, datetime, timedelta

from benchmarks.figures import Figure
from benchmarks.trades import USERS, Connect, add_records, waiting_line
from novadex import DatabaseConnection, TradingService
from novadex.trading.markets import QUERIES

PAGE, PAGES = 100, 10_000
COPY_TRADES = 10_000
OTHERS = 0.2
"""Share of trades between them that are other users'."""
STEP = timedelta(seconds=6)
SPAN = STEP * (PAGE * PAGES * 1.3)
ROUNDS = 300
TARGET = 2.0
USER = USERS[0]


async def run(connect: Connect) -> list[Figure]:
    """Both pages are read in turn, many times; medians."""
    async with connect("owner") as owner, connect("app") as app:
        await add_records(owner)
        now = datetime.now(UTC)
        await owner.query(QUERIES.ensure_trade_partitions, [now - SPAN, now])
        await _add_trades(app)
        await owner.query("VACUUM (ANALYZE) trades")
        service = TradingService(app)
        cursor: str | None = None
        for _ in range(PAGES - 1):
            cursor = (await service.list_trades(user_id=USER, limit=PAGE, cursor=cursor)).next
        took_ms: dict[str | None, list[float]] = {None: [], cursor: []}
        for _ in range(ROUNDS):
            for place, spent in took_ms.items():
                began = time.perf_counter()
                page = await service.list_trades(user_id=USER, limit=PAGE, cursor=place)
                spent.append((time.perf_counter() - began) * 1e3)
                assert len(page.items) == PAGE
    first, last = (statistics.median(spent) for spent in took_ms.values())
    return [
        Figure(
            f"page {PAGES:,} of a user's trades, {PAGE} a page",
            last,
            "ms",
            "page 1",
            first,
            last / first,
            TARGET,
            f"medians of {ROUNDS}, read in turn",
            smaller_is_better=True,
        )
    ]


async def _add_trades(db: DatabaseConnection) -> None:
    draw = random.Random(1)
    moment, mine = datetime.now(UTC) - timedelta(hours=1), 0
    while mine < PAGE * PAGES:
        lines: list[str] = []
        for _ in range(COPY_TRADES):
            moment -= STEP
            other = draw.random() < OTHERS
            mine += not other
            lines.append(waiting_line(draw, moment, draw.choice(USERS[1:]) if other else USER))
        async with db.main.copy_in(QUERIES.copy_trades) as copy:
            await copy.write("".join(lines))
