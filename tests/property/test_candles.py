"""Any trades in any transactions and batches give what the definitions give, in plain Python."""

from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from novadex.analytics.projection import TradeProjection
from novadex.analytics.verify import verify_trades
from tests.conftest import add_users
from tests.integration.analytics.records import (
    NOON,
    TradeRow,
    copy_trades,
    drain,
    expected_figures,
    make_partitions,
    matched,
    stored_figures,
    wide_decimals,
)

USERS = 3
OPEN_MAX = 3

amounts = st.integers(1, 10**24).map(lambda n: Decimal(n).scaleb(-18))
prices = st.integers(1, 10**12).map(lambda n: Decimal(n).scaleb(-6))
trades = st.fixed_dictionaries(
    {
        "user": st.integers(0, USERS - 1),
        "market": st.integers(0, 1),
        # Few moments, so that many trades share one; some at the ends of minutes and days.
        "second": st.sampled_from([0, 1, 59.999999, 60, 3600, 43_199.999999, 43_200, 86_400]),
        "side": st.sampled_from(["buy", "sell"]),
        "liquidity": st.sampled_from(["maker", "taker"]),
        "amount": amounts,
        "price": prices,
        "fee": st.integers(-(10**6), 10**6).map(lambda n: Decimal(n).scaleb(-9)),
        "fee_asset": st.integers(0, 3),
        "sequence": st.none() | st.integers(-2, 2),
        "maker": st.none() | st.integers(0, USERS - 1),
    }
)
actions = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, OPEN_MAX - 1), st.lists(trades, min_size=1, max_size=6)),
        st.tuples(st.sampled_from(["commit", "roll back"]), st.integers(0, OPEN_MAX - 1), st.none()),
        st.tuples(st.just("project"), st.integers(1, 7), st.none()),
    ),
    max_size=20,
)


@pytest.fixture
def venues(fresh_databases, market, sol_market):
    url = fresh_databases.main_url("owner")
    make_partitions(url, NOON, NOON + timedelta(days=1))
    assets = [None, *((m, s) for m, s in ((market.base_asset_id, "BTC"), (market.quote_asset_id, "USDT")))]
    assets.append((sol_market.base_asset_id, "SOL"))
    return [market, sol_market], add_users(url, USERS), assets


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=actions)
async def test_any_trades_in_any_transactions_and_batches_give_what_the_definitions_give(
    actions, fresh_databases, venues
):
    main, analytics = fresh_databases.main_url("owner"), fresh_databases.analytics_url("owner")
    _empty(main, "trades")
    _empty(analytics, "trade_facts, candles, trading_analytics, trading_other_fees, projections, projection_rejects")
    committed: list[TradeRow] = []
    open_rows: list[list[TradeRow]] = [[] for _ in range(OPEN_MAX)]
    async with fresh_databases.connection("worker") as db:
        with ExitStack() as stack:
            writers = [stack.enter_context(psycopg.connect(main)) for _ in range(OPEN_MAX)]
            for action, number, specs in actions:
                if action == "write":
                    rows = [row for spec in specs for row in _rows(spec, venues)]
                    copy_trades(writers[number], rows)
                    open_rows[number] += rows
                elif action == "project":
                    await _project(db, rows_max=number)
                else:
                    if action == "commit":
                        writers[number].commit()
                        committed += open_rows[number]
                    else:
                        writers[number].rollback()
                    open_rows[number] = []
            for writer in writers:
                writer.rollback()
        await drain(TradeProjection(db.main, db.analytics, db.settings))
        assert await stored_figures(db) == expected_figures(committed)
        found = []
        await verify_trades(db.main, db.analytics, found.append)
        assert not found


async def _project(db, rows_max):
    """One batch, by a projector that knows nothing of those before it."""
    batch = db.settings.model_copy(update={"projection_batch_max": rows_max})
    await TradeProjection(db.main, db.analytics, batch).step()


def _rows(spec, venues):
    markets, users, assets = venues
    market = markets[spec["market"]]
    decimals = Decimal(1).scaleb(-market.base_decimals)
    row = TradeRow(
        users[spec["user"]],
        market,
        NOON + timedelta(seconds=spec["second"]),
        side=spec["side"],
        liquidity=spec["liquidity"],
        base_amount=max(spec["amount"].quantize(decimals), decimals),
        price=spec["price"],
        fee_amount=spec["fee"] if assets[spec["fee_asset"]] else Decimal(0),
        fee_asset=assets[spec["fee_asset"]],
        sequence=spec["sequence"],
    )
    row = replace(row, quote_amount=_quote(row))
    if spec["maker"] is None:
        return [row]
    return matched(replace(row, liquidity="taker"), users[spec["maker"]], UUID(int=row.id.int ^ 1))


def _quote(row):
    """Of the smallest unit of the quote asset, as the records demand."""
    with wide_decimals():
        return row.quote_amount.quantize(Decimal(1).scaleb(-row.market.quote_decimals))


def _empty(url, tables):
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"TRUNCATE {tables}")  # type: ignore[arg-type]
