"""What shares a batch, and batches that meet: each command gets its own answer, and none waits in a circle."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from novadex.errors import ConflictError, NotFoundError, UnavailableError
from novadex.ids import id_at, uuid7
from novadex.trading.orders import service as orders_service
from novadex.trading.orders.commands import ChangeOrder
from novadex.trading.orders.prepare import prepare_fill, prepare_order
from novadex.trading.orders.writing import QUERIES, OrderWriter
from tests.integration.orders.checks import violations
from tests.integration.orders.conftest import fill_of, limit
from tests.waiting import until

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


@pytest.fixture
async def writer(db: Any) -> Any:
    writer = OrderWriter(db.main)
    yield writer
    await writer.close()


async def insert_order(session: Any, line: str) -> None:
    async with session.copy_in(QUERIES.copy_orders) as copy:
        await copy.write(line)


async def test_an_id_of_another_time_fails_its_own_order_only(service, db, users):
    [user] = users(1)
    now = datetime.now(UTC)
    ids = [
        UUID("ffffffff-ffff-7fff-bfff-ffffffffffff"),
        id_at(now + timedelta(days=700)),
        id_at(datetime(1970, 1, 2, tzinfo=UTC)),
    ]
    outcomes = await asyncio.gather(
        *(service.place_order(limit(user, id=id)) for id in ids),
        *(service.place_order(limit(user)) for _ in range(5)),
        service.place_order(limit(user, id=id_at(now - timedelta(days=3_000)))),
        return_exceptions=True,
    )
    assert [type(outcome).__name__ for outcome in outcomes] == ["ValidationError"] * 3 + ["Order"] * 6
    assert [str(outcome).partition(",")[2][:20] for outcome in outcomes[:3]] == [
        " more than 5 minutes",
        " more than 5 minutes",
        " more than 10 years ",
    ]
    assert await violations(db) == {}


async def test_a_partition_that_cannot_be_made_fails_its_own_order_only(service, db, users, monkeypatch):
    monkeypatch.setattr("novadex.trading.orders.prepare.AHEAD_MS_MAX", 1_000 * 86_400_000)
    [user] = users(1)
    far = id_at(datetime.now(UTC) + timedelta(days=700))
    good = [limit(user), limit(user, id=id_at(datetime(2024, 1, 1, tzinfo=UTC))), limit(user)]
    outcomes = await service.place_orders([good[0], limit(user, id=far), *good[1:]])
    assert [type(outcome).__name__ for outcome in outcomes] == ["Order", "ValidationError", "Order", "Order"]
    assert await violations(db) == {}


async def test_a_partition_that_somebody_is_in_the_way_of_fails_its_own_order_only(service, db, owner_db, users):
    [user] = users(1)
    old = limit(user, id=id_at(datetime(2024, 1, 1, tzinfo=UTC)))
    async with owner_db.main.transaction() as session:
        await session.execute("LOCK TABLE order_events IN SHARE UPDATE EXCLUSIVE MODE")
        good, bad, other = await service.place_orders([limit(user), old, limit(user)])
    assert [good.status, other.status] == ["open", "open"]
    assert isinstance(bad, UnavailableError)
    assert (await service.place_order(old)).id == old["id"]
    assert await violations(db) == {}


async def test_an_order_that_is_committed_while_its_cancel_waits_is_not_there_yet(
    service, db, writer, users, make_market
):
    make_market("ETH/USDC", 9, 6)
    [user] = users(1)
    held = await service.place_order(limit(user))
    late = prepare_order(limit(user, market="ETH/USDC"), await service.markets.get("ETH/USDC"), "test")
    async with db.main.transaction() as session:
        await session.query(QUERIES.hold_markets, [[held.id], [], []])
        cancels = [ChangeOrder(id, "cancelled", "test") for id in (held.id, late.order.id)]
        task = asyncio.create_task(writer.write(cancels))
        await until(lambda: db.main.value(WAITING))
        await service.place_order(limit(user, market="ETH/USDC", id=late.order.id))
    first, second = await task
    assert first.status == "cancelled"
    assert isinstance(second, NotFoundError)
    assert (await service.cancel_order(late.order.id)).status == "cancelled"
    assert await violations(db) == {}


async def test_a_fill_in_the_batch_of_its_orders_has_the_fees_of_their_users(service, writer, users):
    buyer, seller = users(2)
    await service.markets.set_fees("SOL/USDC", 0, "0.001", "0.002")
    market = await service.markets.get("SOL/USDC")
    bid, ask = (
        prepare_order(limit(user, side, id=uuid7()), market, "test")
        for user, side in ((buyer, "buy"), (seller, "sell"))
    )
    *_, match = await writer.write([bid, ask, prepare_fill(fill_of(ask.order, bid.order), market, "test")])
    assert (match.taker_fee, match.maker_fee) == (Decimal("0.2"), Decimal("0.1"))


async def test_a_retry_after_the_orders_time_finds_the_order(service, users):
    [user] = users(1)
    soon = datetime.now(UTC) + timedelta(seconds=0.5)
    order = limit(user, time_in_force="gtt", expires_at=soon, client_order_id="mine")
    placed = await service.place_order(order)
    await until(lambda: datetime.now(UTC) > soon)
    assert await service.place_order(order) == placed
    outcomes = await service.place_orders([order, {**order, "client_order_id": "new"}, limit(user)])
    assert [type(outcome).__name__ for outcome in outcomes] == ["Order", "ValidationError", "Order"]


async def test_markets_are_held_before_keys_are_taken(service, db, users):
    """Whoever holds a market and then takes a key waits for nobody who has the key and waits for the market."""
    [user] = users(1)
    market = await service.markets.get("SOL/USDC")
    first = prepare_order(limit(user, client_order_id="mine"), market, "test")
    async with db.main.transaction() as session:
        await session.query(QUERIES.hold_markets, [[], [], [market.id]])
        task = asyncio.create_task(service.place_order(limit(user, client_order_id="mine")))
        await until(lambda: db.main.value(WAITING))
        await session.execute("SET LOCAL lock_timeout = '500ms'")
        await insert_order(session, first.line)
    assert (await task).id == first.order.id
    assert await violations(db) == {}


async def test_orders_that_keep_coming_do_not_keep_a_cancel_of_all_going(service, users, monkeypatch):
    monkeypatch.setattr(orders_service, "BULK_BATCH_COMMANDS", 2)
    [user] = users(1)
    for _ in range(4):
        await service.place_order(limit(user))
    write, later = OrderWriter.write, []

    async def and_place(self: OrderWriter, batch: Any) -> Any:
        outcomes = await write(self, batch)
        if isinstance(batch[0], ChangeOrder) and len(later) < 20:
            later.append(await service.place_order(limit(user)))
        return outcomes

    monkeypatch.setattr(OrderWriter, "write", and_place)
    assert await service.cancel_all_orders(user_id=user) == 4
    assert [order.id for order in (await service.list_orders(live=True)).items] == [order.id for order in later[::-1]]


async def test_a_fok_order_that_met_several_makers_is_recorded_whole_or_not_at_all(service, db, users):
    buyer, seller = users(2)
    await service.place_order(limit(seller, "sell"))
    asks = [await service.place_order(limit(seller, "sell", quantity="1")) for _ in range(3)]
    taker, other = [await service.place_order(limit(buyer, time_in_force="fok")) for _ in range(2)]
    fills = [fill_of(taker, ask, source="venue", source_match_id=f"1-{ask.id}") for ask in asks]
    with pytest.raises(ConflictError, match="filled whole") as refused:
        await service.record_fill(fills[0])
    assert "record_fills" in (refused.value.hint or "")
    too_little = await service.record_fills(
        [fills[0], fill_of(other, asks[0]), fills[1], {**fills[2], "base_amount": "0.5"}]
    )
    assert all(isinstance(outcome, ConflictError) for outcome in too_little)
    assert await db.main.value("SELECT count(*) FROM trades") == 0
    done = await service.record_fills([fills[0], fill_of(asks[2], asks[2]), fills[1]])
    assert [type(outcome).__name__ for outcome in done] == ["Match", "ValidationError", "Match"]
    assert await service.record_fills(fills[:2]) == [done[0], done[2]]
    assert await service.record_fill(fills[1]) == done[2]
    assert (await service.get_order(taker.id)).status == "filled"
    assert await violations(db) == {}


async def test_a_fok_order_whose_block_was_reverted_is_filled_again(service, db, users):
    buyer, seller = users(2)
    asks = [await service.place_order(limit(seller, "sell", quantity="1")) for _ in range(2)]
    taker = await service.place_order(limit(buyer, time_in_force="fok"))
    fills = [
        fill_of(taker, ask, source="evm", source_match_id=str(n), chain="evm:1", block_number=n)
        for n, ask in enumerate(asks)
    ]
    assert len({match.id for match in await service.record_fills(fills)}) == 2
    await service.revert_block("evm:1", 1, reason="fork")
    await service.record_fill({**fills[1], "block_number": 2})
    assert (await service.get_order(taker.id)).status == "filled"
    assert await violations(db) == {}


async def test_reduce_only_counts_what_is_executed_while_its_market_is_held_by_others(service, db, users):
    holder, seller = users(2)
    bid, ask = await service.place_order(limit(holder)), await service.place_order(limit(seller, "sell"))
    await service.record_fill(fill_of(bid, ask, "2"))
    half = await service.place_order(limit(holder, "sell", quantity="1", reduce_only=True))
    sale = {"user_id": holder, "market": "SOL/USDC", "base_amount": "1", "price": "1", "quote_amount": "1"}
    for side, call, outcome in (
        (
            "sell",
            lambda: service.place_order(limit(holder, "sell", quantity="1", reduce_only=True)),
            "ValidationError",
        ),
        ("sell", lambda: service.amend_order(half.id, quantity="0.6"), "Order"),
        ("buy", lambda: service.amend_order(half.id, quantity="1"), "Order"),
        ("sell", lambda: service.amend_order(half.id, quantity="1.5"), "ValidationError"),
    ):
        async with db.main.transaction() as session:
            await session.query(QUERIES.hold_markets, [[half.id], [], []])
            task = asyncio.create_task(call())
            await until(lambda: db.main.value(WAITING))
            await service.create_trade(**sale, side=side)
        [done] = await asyncio.gather(task, return_exceptions=True)
        assert type(done).__name__ == outcome, (side, done)
