"""What is undone counts no more: candles and figures are as if it had never been, and verify agrees."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from novadex import TradingService
from novadex.analytics.projection import TradeProjection
from novadex.analytics.rebuild import rebuild_trades
from tests.integration.analytics.records import drain, stored_figures
from tests.integration.analytics.test_verify import verify

WHEN = datetime(2024, 8, 8, 12, 0, 30, tzinfo=UTC)


@pytest.fixture
async def service(db: Any, sol_market: Any):
    async with TradingService(db) as service:
        yield service


async def filled(service: Any, bid: Any, ask: Any, *, amount: str, price: str, seconds: float = 0) -> Any:
    return await service.record_fill(
        market="SOL/USDC",
        price=price,
        base_amount=amount,
        taker_order_id=ask.id,
        maker_order_id=bid.id,
        executed_at=WHEN + timedelta(seconds=seconds),
        chain="evm:1",
        block_number=int(seconds),
        taker_fee="0.01",
        maker_fee="-0.001",
    )


async def candles(db: Any) -> list[tuple[Any, ...]]:
    rows = await db.analytics.query(
        "SELECT start, open, high, low, close, base_volume, trades FROM candles ORDER BY start"
    )
    return [tuple(row.values()) for row in rows]


@pytest.mark.parametrize("together", [False, True])
async def test_figures_are_as_if_a_busted_match_had_never_been(
    service: Any, db: Any, projection: TradeProjection, users: Any, together: bool
) -> None:
    buyer, seller = users(2)
    order = {"market": "SOL/USDC", "type": "limit", "quantity": "100"}
    bid = await service.place_order(user_id=buyer, side="buy", price="200", **order)
    ask = await service.place_order(user_id=seller, side="sell", price="1", **order)
    kept = [
        await filled(service, bid, ask, amount="1", price="100", seconds=0),
        await filled(service, bid, ask, amount="2", price="110", seconds=2),
    ]
    await drain(projection)
    before = await stored_figures(db) if not together else None
    lowest = await filled(service, bid, ask, amount="3", price="50", seconds=1)
    last = await filled(service, bid, ask, amount="4", price="150", seconds=3)
    alone = await filled(service, bid, ask, amount="5", price="120", seconds=90)
    if not together:
        await drain(projection)
        assert len(await candles(db)) == 2
    await service.bust_trade(lowest.id, reason="typo")
    await service.bust_trade(last.id, reason="typo")
    assert await service.revert_block("evm:1", 90, reason="fork") == 1
    await drain(projection)
    [candle] = await candles(db)
    assert candle[1:] == (100, 110, 100, 110, 3, 2)
    if before is not None:
        # The facts stay, with those that undo them.
        assert replace(await stored_figures(db), facts={}) == replace(before, facts={})
    report, found = await verify(db)
    assert found == []
    assert report.compared["trade_facts"] == 2 * (len(kept) + 2 * 3)
    assert (await service.get_match(alone.id)).undone == "reverted"
    figures = await stored_figures(db)
    await rebuild_trades(projection.main, projection.store, projection.settings)
    assert await stored_figures(db) == figures


async def test_a_minute_and_a_day_of_nothing_but_what_is_undone_are_gone(
    service: Any, db: Any, projection: TradeProjection, users: Any
) -> None:
    buyer, seller = users(2)
    order = {"market": "SOL/USDC", "type": "limit", "quantity": "100", "price": "100"}
    bid = await service.place_order(user_id=buyer, side="buy", **order)
    ask = await service.place_order(user_id=seller, side="sell", **order)
    match = await filled(service, bid, ask, amount="1", price="100")
    await drain(projection)
    assert await db.analytics.value("SELECT count(*) FROM trading_analytics") == 2
    await service.bust_trade(match.id, reason="typo")
    await drain(projection)
    assert await candles(db) == []
    assert await db.analytics.value("SELECT count(*) FROM trading_analytics") == 0
    assert await db.analytics.value("SELECT count(*) FROM trade_facts") == 4
    assert (await verify(db))[1] == []
