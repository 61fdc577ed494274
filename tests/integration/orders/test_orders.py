"""Placing, changing and filling orders on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import psycopg
import pytest

from novadex import TradingService
from novadex.errors import ConflictError, NotFoundError, ValidationError
from novadex.ids import id_at, uuid7
from novadex.portfolio.projection import PortfolioProjection
from novadex.roles.actor import Actor
from novadex.roles.roles import Roles
from tests.integration.analytics.records import drain
from tests.integration.orders.checks import violations
from tests.integration.orders.conftest import fill_of, limit


async def test_an_order_is_placed_filled_and_cancelled_through_all_layers(service, db, users):
    buyer, seller = users(2)
    bid = await service.place_order(limit(buyer, client_order_id="first"))
    assert bid == await service.get_order(bid.id) == await service.place_order(limit(buyer, client_order_id="first"))
    ask = await service.place_order(limit(seller, "sell", quantity="1"))
    match = await service.record_fill(fill_of(ask, bid, source="venue", source_match_id="1"))
    again = await service.record_fill(fill_of(ask, bid, source="venue", source_match_id="1"))
    assert match == again == await service.get_match(match.id)
    bid, ask = await service.get_order(bid.id), await service.get_order(ask.id)
    assert (bid.status, bid.filled_quantity, ask.status) == ("partially_filled", 1, "filled")
    cancelled = await service.cancel_order(bid.id, reason="enough")
    assert cancelled == await service.get_order(bid.id) == await service.cancel_order(bid.id)
    events = (await service.list_order_events(bid.id)).items
    assert [(event.version, event.type, event.status, event.reason) for event in events] == [
        (1, "placed", "open", None),
        (2, "filled", "partially_filled", None),
        (3, "cancelled", "cancelled", "enough"),
    ]
    assert events[1].trade_id == match.maker_trade_id
    trades = (await service.list_trades(market="SOL/USDC")).items
    assert {(trade.user_id, trade.side, trade.liquidity, trade.order_id) for trade in trades} == {
        (buyer, "buy", "maker", bid.id),
        (seller, "sell", "taker", ask.id),
    }
    assert await violations(db) == {}


async def test_the_same_order_again_is_the_first_one_and_another_is_a_conflict(service, db, users):
    [user] = users(1)
    order = limit(user, id=uuid7(), client_order_id="mine")
    first = await service.place_order(order)
    many = await asyncio.gather(*(service.place_order(order) for _ in range(20)))
    assert set(many) == {first}
    await service.amend_order(first.id, quantity="5", price="99")
    assert (await service.place_order(order)).quantity == 5
    with pytest.raises(ConflictError, match="client order id"):
        await service.place_order(limit(user, client_order_id="mine", quantity="3"))
    with pytest.raises(ConflictError, match="belongs to another order"):
        await service.place_order({**order, "price": "7"})
    other = await service.place_order(limit(users(1)[0], client_order_id="mine"))
    assert other.id != first.id
    assert await db.main.value("SELECT count(*) FROM orders") == 2


async def test_one_bad_command_of_a_batch_fails_alone(service, db, users):
    [user] = users(1)
    ghost, full = uuid7(), await service.place_order(limit(user))
    outcomes = await asyncio.gather(
        *(service.place_order(limit(ghost if n % 7 == 3 else user)) for n in range(50)),
        *(service.cancel_order(uuid7() if n else full.id) for n in range(5)),
        return_exceptions=True,
    )
    refused = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    assert len(refused) == 7 + 4
    assert all(isinstance(error, NotFoundError) for error in refused)
    assert await db.main.value("SELECT count(*) FROM orders") == 44
    assert await violations(db) == {}


async def test_many_clients_fill_one_order_and_never_over_fill_it(service, db, fresh_databases, users):
    """Two services, as two processes have: their writers meet in the same market."""
    maker, *takers = users(5)
    bid = await service.place_order(limit(maker, quantity="10"))
    async with fresh_databases.connection("app") as other_db, TradingService(other_db) as other:
        asks = await service.place_orders([limit(taker, "sell", quantity="5") for taker in takers])
        outcomes = await asyncio.gather(
            *(
                (service if n % 2 else other).record_fill(
                    fill_of(asks[n % 4], bid, base_amount="0.3", source="venue", source_match_id=str(n // 2))
                )
                for n in range(0, 160, 1)
            ),
            return_exceptions=True,
        )
    matches = {outcome.id for outcome in outcomes if not isinstance(outcome, BaseException)}
    assert all(isinstance(outcome, ConflictError) for outcome in outcomes if isinstance(outcome, Exception))
    bid = await service.get_order(bid.id)
    assert (len(matches), bid.filled_quantity) == (33, Decimal("9.9"))
    assert await violations(db) == {}


async def test_fees_are_those_of_the_users_tier(service, users):
    buyer, seller = users(2)
    await service.markets.set_fees("SOL/USDC", 0, "0.001", "0.002")
    await service.markets.set_fees("SOL/USDC", 3, "-0.0001", "0.001")
    await service.markets.set_fee_tier(seller, 5)
    bid, ask = await service.place_order(limit(buyer)), await service.place_order(limit(seller, "sell"))
    match = await service.record_fill(fill_of(bid, ask, base_amount="0.333333333", price="100"))
    assert match.quote_amount == Decimal("33.333333")
    assert (match.taker_fee, match.maker_fee) == (Decimal("0.066667"), Decimal("-0.003333"))
    trade = await service.get_trade(match.maker_trade_id)
    assert (trade.fee_amount, trade.fee_asset) == (match.maker_fee, "USDC")
    assert [rates.tier for rates in await service.markets.fees("SOL/USDC")] == [0, 3]


async def test_a_fill_against_a_pool_has_one_side(service, db, users):
    bid = await service.place_order(limit(users(1)[0], time_in_force="ioc"))
    match = await service.record_fill(
        fill_of(bid, None, chain="evm:1", block_number=7, source="evm", source_match_id="0xab:3")
    )
    assert (match.maker_order_id, match.maker_trade_id, match.maker_fee) == (None, None, None)
    assert (await service.get_trade(match.taker_trade_id)).type == "swap"
    assert await violations(db) == {}


async def test_a_busted_match_is_undone_by_compensating_trades(service, db, users):
    buyer, seller = users(2)
    bid, ask = await service.place_order(limit(buyer)), await service.place_order(limit(seller, "sell"))
    fill = fill_of(ask, bid, base_amount="2", taker_fee="0.3", maker_fee="-0.1", source="v", source_match_id="9")
    match = await service.record_fill(fill)
    busted, again = await asyncio.gather(*(service.bust_trade(match.id, reason="typo") for _ in range(2)))
    assert busted == again == await service.get_match(match.id) == await service.record_fill(fill)
    assert (busted.undone, busted.undone_reason, busted.undone_by) == ("busted", "typo", "program:service")
    for order in (bid, ask):
        after = await service.get_order(order.id)
        assert (after.status, after.quantity, after.filled_quantity) == ("cancelled", 2, 0)
    trades = (await service.list_trades(user_id=buyer)).items
    [original] = [trade for trade in trades if trade.reverses is None]
    [reversal] = [trade for trade in trades if trade.reverses is not None]
    assert (reversal.reverses, reversal.side, reversal.fee_amount) == (original.id, "sell", Decimal("0.1"))
    assert (reversal.match_id, reversal.executed_at, reversal.order_id) == (match.id, match.executed_at, bid.id)
    entries = await db.query("SELECT actor, subject FROM audit_log WHERE action = 'matches.updated'")
    assert [(row.actor, row.subject) for row in entries] == [("program:service", f"match:{match.id}")]
    assert await violations(db) == {}
    with pytest.raises(NotFoundError):
        await service.bust_trade(uuid7(), reason="no")


async def test_a_reverted_block_lets_orders_live_again_and_its_ids_come_again(service, db, users):
    buyer, seller = users(2)
    bid, ask = await service.place_order(limit(buyer)), await service.place_order(limit(seller, "sell", quantity="1"))
    when = datetime.now(UTC) - timedelta(minutes=1)
    log = {"source": "evm", "source_match_id": "0xab:3", "executed_at": when}
    first = await service.record_fill(fill_of(ask, bid, chain="evm:1", block_number=7, **log))
    assert await service.revert_block("evm:1", 8, reason="fork") == 0
    assert await service.revert_block("evm:1", 7, reason="fork") == 1
    assert await service.revert_block("evm:1", 7, reason="fork") == 0
    bid, ask = await service.get_order(bid.id), await service.get_order(ask.id)
    assert {(order.status, order.filled_quantity) for order in (bid, ask)} == {("open", 0)}
    # The same log entry, at the same time, in the block that took its place.
    second = await service.record_fill(fill_of(ask, bid, chain="evm:1", block_number=7, **log))
    assert second.id != first.id
    assert (await service.get_order(ask.id)).status == "filled"
    with pytest.raises(ConflictError, match="reverted"):
        await service.bust_trade(first.id, reason="late")
    assert await violations(db) == {}


async def test_a_fill_is_not_taken_for_the_one_of_a_block_that_was_dropped(service, users):
    buyer, seller = users(2)
    bid, ask = await service.place_order(limit(buyer)), await service.place_order(limit(seller, "sell"))
    fill = fill_of(ask, bid, id=uuid7(), chain="evm:1", block_number=7, source="evm", source_match_id="0xab:3")
    await service.record_fill(fill)
    await service.revert_block("evm:1", 7, reason="fork")
    with pytest.raises(ConflictError, match="the id is taken"):
        await service.record_fill(fill)
    del fill["id"]
    assert (await service.record_fill(fill)).undone is None


async def test_what_the_venue_takes_back_has_a_reason(service, users):
    buyer, seller = users(2)
    bid, ask = await service.place_order(limit(buyer)), await service.place_order(limit(seller, "sell"))
    match = await service.record_fill(fill_of(ask, bid))
    for call in (
        service.reject_order(bid.id, reason=None),
        service.bust_trade(match.id, reason=None),
        service.revert_block("evm:1", 7, reason=None),
    ):
        with pytest.raises(ValidationError, match="reason is missing"):
            await call


async def test_old_executions_make_their_partitions(service, users):
    buyer, seller = users(2)
    orders = [await service.place_order(limit(buyer)), await service.place_order(limit(seller, "sell"))]
    when = datetime(2021, 3, 4, 5, 6, tzinfo=UTC)
    match = await service.record_fill(fill_of(*orders, executed_at=when))
    assert (await service.get_match(match.id)).executed_at == when
    old = await service.place_order(limit(buyer, id=id_at(datetime(2020, 2, 3, tzinfo=UTC))))
    assert (await service.list_order_events(old.id)).items[0].id == old.id


async def test_reduce_only_counts_executions_as_of_its_transaction(service, db, users):
    holder, seller = users(2)
    bid, ask = (
        await service.place_order(limit(holder, quantity="5")),
        await service.place_order(limit(seller, "sell", quantity="5")),
    )
    match = await service.record_fill(fill_of(bid, ask, base_amount="3"))
    outcomes = await asyncio.gather(
        *(service.place_order(limit(holder, "sell", quantity="1", reduce_only=True)) for _ in range(6)),
        return_exceptions=True,
    )
    assert sum(not isinstance(outcome, Exception) for outcome in outcomes) == 3
    assert all(isinstance(outcome, ValidationError) for outcome in outcomes if isinstance(outcome, Exception))
    await service.cancel_all_orders(user_id=holder)
    await service.bust_trade(match.id, reason="typo")
    with pytest.raises(ValidationError, match="0 SOL/USDC can be sold, of a holding of 0"):
        await service.place_order(limit(holder, "sell", quantity="1", reduce_only=True))


@pytest.mark.parametrize(
    "unusable",
    [
        "UPDATE main_projections SET rebuilt_to = $1",
        "UPDATE recovery_epoch SET epoch = epoch + 1 WHERE $1 IS NOT NULL",
        "UPDATE main_projections SET timeline = timeline + 1 WHERE $1 IS NOT NULL",
        "UPDATE main_projections SET system_identifier = 1 WHERE $1 IS NOT NULL",
        "UPDATE main_projections SET xid = '9000000000' WHERE $1 IS NOT NULL",
        "DELETE FROM main_projections WHERE $1 IS NOT NULL",
    ],
)
async def test_reduce_only_is_measured_by_the_portfolio_and_what_is_behind_it(
    service, fresh_databases, worker_db, users, unusable
):
    holder, seller = users(2)
    bid, ask = (
        await service.place_order(limit(holder, quantity="9")),
        await service.place_order(limit(seller, "sell", quantity="9")),
    )
    undone = await service.record_fill(fill_of(bid, ask, base_amount="4"))
    await service.record_fill(fill_of(bid, ask, base_amount="3"))
    await service.bust_trade(undone.id, reason="typo")
    await drain(PortfolioProjection(worker_db.main, worker_db.settings))
    await service.record_fill(fill_of(bid, ask, base_amount="2"))

    async def holding() -> str:
        with pytest.raises(ValidationError) as refused:
            await service.place_order(limit(holder, "sell", quantity="1000", reduce_only=True))
        return str(refused.value).partition("of a holding of ")[2].partition(" ")[0]

    assert await holding() == "5"
    with psycopg.connect(fresh_databases.main_url(None), autocommit=True) as superuser:
        superuser.execute("UPDATE portfolio_holdings SET amount = amount + 100 WHERE kind = 'bought'")
        assert await holding() == "105", "it was not by the portfolio"
        superuser.execute("SET session_replication_role = replica")
        psycopg.RawCursor(superuser).execute(unusable, [holder])  # type: ignore[arg-type]
        assert await holding() == "5"


async def test_reduce_only_is_measured_where_the_server_keeps_its_identity_to_itself(
    service, fresh_databases, worker_db, users
):
    with psycopg.connect(fresh_databases.main_url(None), autocommit=True) as superuser:
        superuser.execute("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await worker_db.main.query("SELECT system_identifier FROM pg_control_system()")
    holder, seller = users(2)
    bid, ask = await service.place_order(limit(holder)), await service.place_order(limit(seller, "sell"))
    await service.record_fill(fill_of(bid, ask))
    await drain(PortfolioProjection(worker_db.main, worker_db.settings))
    sale = await service.place_order(limit(holder, "sell", quantity="1", reduce_only=True))
    assert sale.status == "open"
    with pytest.raises(ValidationError, match="of a holding of 1 "):
        await service.place_order(limit(holder, "sell", quantity="1", reduce_only=True))


async def test_all_orders_of_a_user_or_a_market_are_cancelled(service, users, make_market):
    make_market("ETH/USDC", 18, 6)
    one, other = users(2)
    await service.place_orders([limit(one) for _ in range(600)])
    await service.place_orders([limit(other), limit(one, market="ETH/USDC")])
    assert await service.cancel_all_orders(user_id=one, market="SOL/USDC", reason="kill") == 600
    assert await service.cancel_all_orders(market="ETH/USDC") == 1
    assert [order.user_id for order in (await service.list_orders(live=True)).items] == [other]
    assert await service.cancel_all_orders() == 1
    assert await service.cancel_all_orders() == 0


async def test_a_halted_market_takes_nothing_from_the_moment_it_is_halted(service, users):
    user = users(1)[0]
    order = await service.place_order(limit(user))
    placing = asyncio.gather(*(service.place_order(limit(user)) for _ in range(200)), return_exceptions=True)
    assert (await service.markets.set_status("SOL/USDC", "halted")).status == "halted"
    before = len((await service.list_orders(user_id=user, limit=1000)).items)
    outcomes = await placing
    assert len((await service.list_orders(user_id=user, limit=1000)).items) == before
    assert all(isinstance(error, ConflictError) for error in outcomes if isinstance(error, Exception))
    with pytest.raises(ConflictError, match="halted"):
        await service.amend_order(order.id, quantity="1")
    await service.markets.set_status("SOL/USDC", "active")
    await service.markets.set_venue_status("post_only")
    with pytest.raises(ConflictError, match="post_only"):
        await service.place_order(limit(user))
    await service.place_order(limit(user, post_only=True))
    await service.markets.set_venue_status("active")
    market = await service.markets.set_sizes("SOL/USDC", "0.5", "0.1")
    assert (market.tick_size, market.lot_size) == (Decimal("0.5"), Decimal("0.1"))
    with pytest.raises(ValidationError, match="tick size"):
        await service.place_order(limit(user, price="100.3"))
    with pytest.raises(ValidationError, match="lot size"):
        await service.amend_order(order.id, quantity="1.15")


async def test_users_are_told_which_of_their_orders_a_halted_market_keeps(service, db, users, make_market):
    make_market("ETH/USDC", 18, 6)
    [user] = users(1)
    mine = service.acting_as(await trader(db, user))
    await service.place_orders([limit(user), limit(user), limit(user, market="ETH/USDC")])
    await service.markets.set_status("SOL/USDC", "halted")
    with pytest.raises(
        ConflictError, match="SOL/USDC: halted, so orders live on: 2; cancelled elsewhere: 1"
    ) as caught:
        await mine.cancel_all_orders()
    assert (caught.value.details["left"], caught.value.details["cancelled"]) == (2, 1)
    assert await service.cancel_all_orders() == 2


async def test_stops_wait_while_their_market_takes_no_orders(service, users):
    buyer, seller = users(2)
    stop = await service.place_order({**limit(buyer, type="stop", stop_price="120"), "price": None})
    bid, ask = (
        await service.place_order(limit(seller, price="120")),
        await service.place_order(limit(buyer, "sell", price="120")),
    )
    await service.record_fill(fill_of(ask, bid, price="120"))
    await service.markets.set_status("SOL/USDC", "cancel_only")
    assert await service.trigger_stops() == await service.set_mark_price("SOL/USDC", "120") == 0
    await service.markets.set_status("SOL/USDC", "active")
    await service.markets.set_venue_status("halted")
    assert await service.set_mark_price("SOL/USDC", "120") == 0
    await service.markets.set_venue_status("active")
    assert await service.set_mark_price("SOL/USDC", "120") == 1
    assert (await service.get_order(stop.id)).status == "open"


async def test_orders_expire_and_stops_are_triggered(service, db, users, market):
    buyer, seller = users(2)
    soon = datetime.now(UTC) + timedelta(seconds=60)
    short = await service.place_order(limit(buyer, time_in_force="gtt", expires_at=soon))
    await service.place_order(limit(buyer, time_in_force="gtt", expires_at=soon + timedelta(hours=1)))
    assert await service.expire_orders() == 0
    assert await service.expire_orders(soon + timedelta(seconds=1)) == 1
    assert (await service.get_order(short.id)).status == "expired"

    async def trade(price: str, when: datetime | None = None, source: str | None = "venue") -> None:
        await service.create_trade(
            user_id=seller,
            market="SOL/USDC",
            side="sell",
            base_amount="1",
            quote_amount=price,
            price=price,
            **({"executed_at": when} if when else {}),
            **({"source": source, "source_trade_id": str(uuid7())} if source else {}),
        )

    await trade("130")
    buy = await service.place_order({**limit(buyer, type="stop", stop_price="120"), "price": None})
    sell = await service.place_order(limit(seller, "sell", type="stop_limit", stop_price="80", price="79"))
    await trade("130", when=datetime.now(UTC) - timedelta(hours=1))
    assert await service.trigger_stops() == 0
    await trade("119.9")
    assert await service.trigger_stops() == 0
    await trade("120", source=None)
    assert await service.trigger_stops() == await TradingService(db).trigger_stops() == 0
    await trade("120")
    assert await service.trigger_stops() == 1
    assert [(await service.get_order(order.id)).status for order in (buy, sell)] == ["open", "untriggered"]
    assert await service.set_mark_price("SOL/USDC", "80.5") == 0
    assert await service.set_mark_price("SOL/USDC", "80") == 1
    assert (await service.list_order_events(sell.id)).items[-1].reason == "the mark price 80 reached it"
    # Another worker, that saw none of it: what it finds is triggered already.
    assert await TradingService(db).trigger_stops() == 0
    assert (await service.reject_order(sell.id, reason="no funds")).status == "rejected"


async def test_an_execution_that_was_undone_triggers_no_stop(service, db, users):
    buyer, seller = users(2)
    stop = await service.place_order(limit(buyer, type="stop_limit", stop_price="120", price="130"))
    for busted in (True, False):
        assert await service.trigger_stops() == 0
        bid = await service.place_order(limit(buyer, price="120"))
        ask = await service.place_order(limit(seller, "sell", price="120"))
        match = await service.record_fill(fill_of(ask, bid, price="120"))
        if busted:
            await service.bust_trade(match.id, reason="typo")
            await service.create_trade(
                user_id=seller, market="SOL/USDC", side="sell", base_amount="1", quote_amount="119", price="119",
                source="venue", source_trade_id="1",
            )  # fmt: skip
        assert await TradingService(db).trigger_stops() == (not busted)
    assert await service.trigger_stops() == 0
    assert (await service.get_order(stop.id)).status == "open"


async def test_pages_of_orders_and_events_are_whole(service, users):
    one, other = users(2)
    placed = await service.place_orders([limit(one if n % 3 else other) for n in range(30)])
    found, cursor = [], None
    while True:
        page = await service.list_orders(user_id=one, limit=7, cursor=cursor)
        found += page.items
        cursor = page.next
        if cursor is None:
            break
    assert [order.id for order in found] == [order.id for order in reversed(placed) if order.user_id == one]
    order = found[0]
    for n in range(5):
        await service.amend_order(order.id, quantity=str(3 + n))
    first = await service.list_order_events(order.id, limit=4)
    rest = await service.list_order_events(order.id, limit=4, cursor=first.next)
    assert [event.version for event in first.items + rest.items] == [1, 2, 3, 4, 5, 6]
    assert rest.next is None
    assert (await service.list_orders(market="SOL/USDC", limit=3)).next


async def trader(db, user) -> Actor:
    """The user as one who trades."""
    return Actor(f"user:{user}", user, "trader", await db.companion(Roles).permissions_of("trader"))


async def test_users_touch_their_own_orders_only(service, db, users):
    me, somebody = users(2)
    mine = service.acting_as(await trader(db, me))
    order = await mine.place_order({key: value for key, value in limit(me).items() if key != "user_id"})
    assert (order.user_id, order.placed_by) == (me, f"user:{me}")
    theirs = await service.place_order(limit(somebody, client_order_id="x"))
    for call in (
        mine.get_order(theirs.id),
        mine.cancel_order(theirs.id),
        mine.amend_order(theirs.id, quantity="3"),
        mine.amend_order(theirs.id, price="3"),
        mine.list_order_events(theirs.id),
        mine.cancel_order(user_id=somebody, client_order_id="x"),
    ):
        with pytest.raises(NotFoundError):
            await call
    assert await mine.cancel_all_orders() == 1
    assert (await service.get_order(theirs.id)).status == "open"


async def test_the_worker_has_the_rights_for_its_jobs(service, worker_db, users):
    buyer, seller = users(2)
    soon = datetime.now(UTC) + timedelta(seconds=60)
    short = await service.place_order(limit(buyer, time_in_force="gtt", expires_at=soon))
    stop = await service.place_order(limit(seller, "sell", type="stop_limit", stop_price="80", price="79"))
    async with TradingService(worker_db) as worker:
        assert await worker.expire_orders(soon) == 1
        assert await worker.set_mark_price("SOL/USDC", "70") == 1
    assert [(await service.get_order(order.id)).status for order in (short, stop)] == ["expired", "open"]
