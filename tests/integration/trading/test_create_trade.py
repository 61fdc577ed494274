"""``TradingService`` on a real PostgreSQL."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from uuid_utils.compat import uuid7

from novadex import TradingService
from novadex.errors import ConflictError, NotFoundError, OverloadedError, UnavailableError, ValidationError
from novadex.ids import id_at
from novadex.trading.records import Trade


@pytest.fixture
async def service(db, sol_market):
    async with TradingService(db) as service:
        yield service


@pytest.fixture
def user(users):
    return users(1)[0]


def sol_trade(user, **changes) -> Any:
    return {
        "user_id": user,
        "type": "spot",
        "side": "buy",
        "base_asset": "SOL",
        "quote_asset": "USDC",
        "base_amount": "1.0",
        "quote_amount": "100.0",
        "price": "100.0",
        **changes,
    }


async def count(db):
    return await db.main.value("SELECT count(*) FROM trades")


async def test_a_trade_is_recorded_and_read_back_as_it_was_returned(service, user):
    created = await service.create_trade(sol_trade(user, fee_amount="-0.25", fee_asset="USDC", sequence=7))
    assert created == await service.get_trade(created.id)
    assert created == await service.get_trade(str(created.id))
    assert (created.market, created.base_amount, created.fee_amount) == ("SOL/USDC", 1, Decimal("-0.25"))


async def test_amounts_at_the_bounds_are_exact(service, user, make_market):
    make_market("WEI/ATTO", 18, 18)
    largest = str(2**256 - 1)
    created = await service.create_trade(
        sol_trade(user, base_asset="WEI", quote_asset="ATTO", base_amount=largest, quote_amount=largest, price="1")
    )
    smallest = await service.create_trade(
        sol_trade(
            user,
            base_asset="WEI",
            quote_asset="ATTO",
            base_amount="1e-18",
            quote_amount="0",
            price="0.000000000000000001",
        )
    )
    assert (await service.get_trade(created.id)).base_amount == 2**256 - 1
    assert (await service.get_trade(smallest.id)).base_amount == Decimal("1e-18")


async def test_many_callers_share_transactions_and_each_gets_its_own_trade(service, db, user):
    trades = await asyncio.gather(
        *(service.create_trade(sol_trade(user, base_amount=n, quote_amount=n * 100)) for n in range(1, 301))
    )
    assert [trade.base_amount for trade in trades] == list(range(1, 301))
    assert await count(db) == 300
    assert await db.main.value("SELECT count(DISTINCT xid) FROM trades") < 150


async def test_a_retry_with_the_same_id_finds_the_first_trade(service, db, user):
    id = uuid7()
    first = await service.create_trade(sol_trade(user, id=id))
    again = await service.create_trade(sol_trade(user, id=str(id), base_amount="1", quote_amount="100.00"))
    assert first == again
    assert await count(db) == 1


async def test_the_same_id_with_another_trade_is_a_conflict(service, db, user):
    id = uuid7()
    await service.create_trade(sol_trade(user, id=id))
    with pytest.raises(ConflictError, match=str(id)):
        await service.create_trade(sol_trade(user, id=id, side="sell"))
    assert await count(db) == 1


async def test_a_retry_with_the_same_key_finds_the_first_trade(service, db, user, users):
    first = await service.create_trade(sol_trade(user, idempotency_key="order 1\t\\N\n\u00fc"))
    again = await service.create_trade(sol_trade(user, idempotency_key="order 1\t\\N\n\u00fc"))
    assert first == again
    other_user = await service.create_trade(sol_trade(users(1)[0], idempotency_key="order 1\t\\N\n\u00fc"))
    assert other_user.id != first.id
    assert await count(db) == 2


async def test_the_same_key_with_another_trade_is_a_conflict(service, db, user):
    await service.create_trade(sol_trade(user, idempotency_key="k"))
    with pytest.raises(ConflictError, match="'k'"):
        await service.create_trade(sol_trade(user, idempotency_key="k", side="sell"))
    assert await count(db) == 1


async def test_a_refused_trade_does_not_keep_its_key(service, db, user):
    id = uuid7()
    await service.create_trade(sol_trade(user, id=id))
    with pytest.raises(ConflictError):
        await service.create_trade(sol_trade(user, id=id, side="sell", idempotency_key="k"))
    assert (await service.create_trade(sol_trade(user, side="sell", idempotency_key="k"))).side == "sell"
    assert await db.main.value("SELECT count(*) FROM idempotency_keys") == 1


async def test_repeats_of_an_id_or_key_in_one_batch_are_one_trade(service, db, user):
    id = uuid7()
    by_id = [service.create_trade(sol_trade(user, id=id)) for _ in range(20)]
    by_key = [service.create_trade(sol_trade(user, idempotency_key="k")) for _ in range(20)]
    trades = await asyncio.gather(*by_id, *by_key)
    assert len({trade.id for trade in trades[:20]}) == 1
    assert len({trade.id for trade in trades[20:]}) == 1
    assert await count(db) == 2


async def test_one_bad_trade_fails_alone(service, db, user):
    ghost = uuid7()
    outcomes = await asyncio.gather(
        *(service.create_trade(sol_trade(ghost if n % 10 == 3 else user)) for n in range(100)), return_exceptions=True
    )
    failed = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    assert len(failed) == 10
    assert all(isinstance(error, NotFoundError) and str(ghost) in error.message for error in failed)
    assert await count(db) == 90


async def test_an_unknown_market_order_or_fee_asset_says_so(service, user):
    with pytest.raises(NotFoundError, match="BTC/EUR"):
        await service.create_trade(sol_trade(user, base_asset="BTC", quote_asset="EUR"))
    with pytest.raises(ValidationError, match="record_fill"):
        await service.create_trade(sol_trade(user, order_id=uuid7()))
    with pytest.raises(NotFoundError, match="XYZ"):
        await service.create_trade(sol_trade(user, fee_amount="1", fee_asset="XYZ"))


async def test_what_only_the_database_refuses_fails_alone_and_says_why(service, db, owner_db, user, users):
    refused = users(1)[0]
    await owner_db.main.execute(
        "CREATE FUNCTION pg_temp_guard() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF NEW.sequence = 13 THEN RAISE check_violation USING CONSTRAINT = 'no_thirteen', "
        "MESSAGE = 'thirteen'; END IF; RETURN NEW; END $$"
    )
    await owner_db.main.execute(
        "CREATE TRIGGER guard BEFORE INSERT ON trades FOR EACH ROW EXECUTE FUNCTION pg_temp_guard()"
    )
    outcomes = await asyncio.gather(
        *(service.create_trade(sol_trade(refused, sequence=n)) for n in range(40)), return_exceptions=True
    )
    failed = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    assert len(failed) == 1
    assert isinstance(failed[0], ValidationError)
    assert failed[0].field == "no_thirteen"
    assert await count(db) == 39


async def test_past_trades_get_their_partitions(service, db, user):
    moments = [datetime(2017 + n, 8, 1 + n, tzinfo=UTC) for n in range(8)]
    await asyncio.gather(*(service.create_trade(sol_trade(user, executed_at=moment)) for moment in moments))
    rows = await db.query("SELECT tableoid::regclass::text AS part, executed_at FROM trades ORDER BY executed_at")
    assert [row.part for row in rows] == [f"trades_{moment:%Y_%m}" for moment in moments]


async def test_bulk_gives_one_outcome_for_each(service, db, user):
    ghost = uuid7()
    inputs = [sol_trade(user), sol_trade(user, price=1.5), sol_trade(ghost), sol_trade(user, side="sell")]
    outcomes = await service.create_trades(inputs)
    assert [type(outcome) for outcome in outcomes] == [Trade, ValidationError, NotFoundError, Trade]
    assert await count(db) == 2


async def test_bulk_is_idempotent_over_several_transactions(service, db, user):
    start = datetime(2026, 1, 1, tzinfo=UTC)
    inputs = [sol_trade(user, id=id_at(start + timedelta(seconds=n))) for n in range(12_000)]
    first = await service.create_trades(inputs)
    assert first == await service.create_trades(inputs)
    assert await count(db) == 12_000


async def test_a_cancelled_caller_leaves_a_whole_trade_or_none(service, db, user):
    ids = [uuid7() for _ in range(200)]
    tasks = [asyncio.create_task(service.create_trade(sol_trade(user, id=id))) for id in ids]
    for turn, task in enumerate(tasks[::2]):
        if turn % 10 == 0:
            await asyncio.sleep(0)
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    acknowledged = {outcome.id for outcome in outcomes if isinstance(outcome, Trade)}
    assert set(ids[1::2]) <= acknowledged
    await service.close()
    recorded = {row.id for row in await db.query("SELECT id FROM trades")}
    assert acknowledged <= recorded <= set(ids)


async def test_a_full_queue_waits_then_refuses_and_loses_nothing(fresh_databases, sol_market, user, proxy):
    link = await proxy(fresh_databases.main_url("app"))
    connection = fresh_databases.connection(
        "app", group_commit_queue_max=10, group_commit_batch_max=5, group_commit_wait_s_max=0.2
    )
    direct = fresh_databases.connection("app")
    connection.main._url = link.url
    service = TradingService(connection)
    await service.create_trade(sol_trade(user))
    link.stall()
    tasks = [asyncio.create_task(service.create_trade(sol_trade(user))) for _ in range(40)]
    done, waiting = await asyncio.wait(tasks, timeout=5, return_when=asyncio.ALL_COMPLETED)
    refused = [error for error in (task.exception() for task in done) if isinstance(error, OverloadedError)]
    assert len(refused) == 40 - 10 - 10  # ten are being written by two writers, ten wait
    assert all(error.retryable for error in refused)
    link.resume()
    trades = await asyncio.wait_for(asyncio.gather(*waiting), 30)
    assert len({trade.id for trade in trades}) == 20
    assert await direct.main.value("SELECT count(*) FROM trades") == 21
    await service.close()
    await direct.close()
    await connection.close()


async def test_a_connection_cut_during_the_write_loses_and_doubles_nothing(fresh_databases, sol_market, user, proxy):
    link = await proxy(fresh_databases.main_url("app"))
    connection = fresh_databases.connection("app")
    connection.main._url = link.url
    async with connection, TradingService(connection) as service:
        acknowledged = []
        milestones: asyncio.Queue[int] = asyncio.Queue()

        async def caller(number):
            for n in range(40):
                trade = await service.create_trade(sol_trade(user, sequence=number * 1000 + n))
                acknowledged.append(trade.id)
                if len(acknowledged) in {40, 100, 180, 250}:
                    milestones.put_nowait(len(acknowledged))

        callers = [asyncio.create_task(caller(n)) for n in range(8)]
        for _ in range(4):
            await asyncio.wait_for(milestones.get(), 30)
            link.cut()
        await asyncio.wait_for(asyncio.gather(*callers), 60)
        async with fresh_databases.connection("app") as direct:
            recorded = [row.id for row in await direct.query("SELECT id FROM trades")]
    assert len(recorded) == len(set(recorded)) == 320
    assert set(recorded) == set(acknowledged)


async def test_after_close_a_call_says_so(db, sol_market, user):
    service = TradingService(db)
    await service.create_trade(sol_trade(user))
    await service.close()
    with pytest.raises(UnavailableError, match="closing"):
        await service.create_trade(sol_trade(user))


async def test_a_server_that_is_away_is_unavailable_and_nothing_is_acknowledged(
    fresh_databases, sol_market, user, proxy
):
    link = await proxy(fresh_databases.main_url("app"))
    connection = fresh_databases.connection("app", connect_timeout_s=1, pool_wait_s_max=1.0)
    connection.main._url = link.url
    async with connection, TradingService(connection) as service:
        await service.create_trade(sol_trade(user))
        await link.refuse()
        link.cut()
        with pytest.raises(UnavailableError) as caught:
            await asyncio.wait_for(service.create_trade(sol_trade(user)), 30)
        assert caught.value.retryable
        await link.accept()
        await service.create_trade(sol_trade(user))
