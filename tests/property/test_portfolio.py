"""Any records in any transactions and batches give what all of them together give, by fractions and by a rebuild."""

from contextlib import ExitStack
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from novadex.ids import id_at
from novadex.portfolio.projection import PortfolioProjection
from tests.conftest import add_users
from tests.integration.analytics.records import NOON, TradeRow, copy_trades, drain, make_partitions
from tests.integration.portfolio.naive import (
    Records,
    everything_stored,
    holdings,
    positions,
    stored_holdings,
    stored_positions,
)

USERS = 1
OPEN_MAX = 3
# Few moments, so that many trades share one; some at the ends of hours.
seconds = st.sampled_from([0, 3599.999999, 3600, 3600.0005])
amounts = st.one_of(st.integers(1, 9), st.integers(1, 10**24)).map(lambda n: Decimal(n).scaleb(-18))
prices = st.one_of(st.integers(1, 9), st.integers(1, 10**12)).map(lambda n: Decimal(n).scaleb(-6))
records = st.one_of(
    st.fixed_dictionaries(
        {
            "kind": st.just("trade"),
            "user": st.integers(0, USERS - 1),
            "market": st.integers(0, 1),
            "second": seconds,
            "side": st.sampled_from(["buy", "sell"]),
            "amount": amounts,
            "price": prices,
            "fee": st.integers(-(10**6), 10**6).map(lambda n: Decimal(n).scaleb(-6)),
            "sequence": st.none() | st.integers(-2, 2),
        }
    ),
    st.fixed_dictionaries(
        {
            "kind": st.sampled_from(["deposit", "withdrawal", "funding"]),
            "user": st.integers(0, USERS - 1),
            "market": st.integers(0, 1),
            "second": seconds,
            "amount": st.integers(1, 10**9).map(lambda n: Decimal(n).scaleb(-6)),
            "paid": st.booleans(),
        }
    ),
    st.fixed_dictionaries(
        {
            "kind": st.just("pool"),
            "user": st.integers(0, USERS - 1),
            "market": st.integers(0, 1),
            "second": seconds,
            "amount": st.integers(1, 10**9).map(lambda n: Decimal(n).scaleb(-6)),
        }
    ),
    st.fixed_dictionaries({"kind": st.just("undo"), "which": st.integers(0, 100)}),
)
batches = st.lists(records, min_size=1, max_size=5)
actions = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.none(), batches),
        st.tuples(st.just("hold"), st.integers(0, OPEN_MAX - 1), batches),
        st.tuples(st.sampled_from(["commit", "commit", "roll back"]), st.integers(0, OPEN_MAX - 1), st.none()),
        st.tuples(st.just("project"), st.integers(1, 7), st.none()),
        st.tuples(st.just("write and project"), st.none(), batches),
    ),
    min_size=3,
    max_size=20,
)


@pytest.fixture
def markets(fresh_databases, market, sol_market):
    url = fresh_databases.main_url("owner")
    make_partitions(url, NOON)
    with psycopg.connect(url, autocommit=True) as connection:
        for one in (market, sol_market):
            connection.execute(
                "INSERT INTO pools (id, market_id, kind, address, fee_ppm, base_is_token0)"
                " VALUES (%s, %s, 'constant_product', %s, 3000, true)",
                (id_at(NOON), one.id, one.symbol),
            )
    return [market, sol_market]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=actions)
async def test_any_records_in_any_transactions_and_batches_give_what_all_of_them_give(
    actions, fresh_databases, markets
):
    url = fresh_databases.main_url("owner")
    users, undone = add_users(url, USERS), set()
    async with fresh_databases.connection("worker") as db:
        with ExitStack() as stack:
            writers = [stack.enter_context(psycopg.connect(url)) for _ in range(OPEN_MAX)]
            for action, number, specs in actions:
                if action in {"write", "write and project"}:
                    with psycopg.connect(url) as writer:
                        for spec in specs:
                            _write(writer, spec, users, markets, undone)
                    if action == "write and project":
                        await drain(PortfolioProjection(db.main, db.settings))
                elif action == "hold":
                    for spec in specs:
                        _write(writers[number], spec, users, markets, undone)
                elif action == "project":
                    batch = db.settings.model_copy(update={"projection_batch_max": number})
                    await PortfolioProjection(db.main, batch).step()
                elif action == "commit":
                    writers[number].commit()
                else:
                    writers[number].rollback()
            for writer in writers:
                writer.rollback()
        projection = PortfolioProjection(db.main, db.settings)
        await drain(projection)
        expected = Records.read(url, users)
        assert stored_holdings(url, users) == holdings(expected)
        assert stored_positions(url, users) == positions(expected)
        incremental = everything_stored(url, users)
        await projection.rebuild_whole()
        assert everything_stored(url, users) == incremental


def _write(connection, spec, users, markets, undone):
    if spec["kind"] == "undo":
        _undo(connection, users, spec["which"], undone)
        return
    moment = NOON + timedelta(seconds=spec["second"])
    market, user = markets[spec["market"]], users[spec["user"]]
    base, quote = (Decimal(1).scaleb(-decimals) for decimals in (market.base_decimals, market.quote_decimals))
    if spec["kind"] == "trade":
        amount = max(spec["amount"].quantize(base), base)
        row = TradeRow(user, market, moment, side=spec["side"], base_amount=amount, price=spec["price"])
        quote_amount = row.quote_amount.quantize(quote)
        fee_asset = (market.quote_asset_id, "USDT")
        copy_trades(
            connection,
            [
                TradeRow(
                    user,
                    market,
                    moment,
                    side=spec["side"],
                    base_amount=amount,
                    price=spec["price"],
                    quote_amount=quote_amount,
                    sequence=spec["sequence"],
                    fee_amount=spec["fee"],
                    fee_asset=fee_asset,
                )
            ],
        )
        return
    if spec["kind"] == "pool":
        _provide(connection, user, market, moment, spec["amount"])
        return
    funding = spec["kind"] == "funding"
    amount = -spec["amount"] if funding and spec["paid"] else spec["amount"]
    connection.execute(
        "INSERT INTO transfers (id, user_id, kind, asset_id, market_id, amount, executed_at)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s)",
        (id_at(moment), user, spec["kind"], market.quote_asset_id, market.id if funding else None, amount, moment),
    )


def _provide(connection, user, market, moment, amount):
    """A position is opened, and half of it taken out with some fees."""
    id, next_id = id_at(moment), id_at(moment)
    connection.execute(
        "INSERT INTO liquidity_positions (id, user_id, market_id, pool_id, kind, liquidity, base_amount,"
        " quote_amount, opened_at) SELECT %s, %s, market_id, id, kind, 10, %s, %s, %s FROM pools WHERE address = %s",
        (id, user, amount, amount + 1, moment, market.symbol),
    )
    connection.execute(
        "INSERT INTO liquidity_events (id, position_id, version, user_id, market_id, type, liquidity, base_amount,"
        " quote_amount, base_fees, executed_at) SELECT %s, id, 2, user_id, market_id, 'decreased', 5, base_amount,"
        " 0, quote_amount, opened_at FROM liquidity_positions WHERE id = %s",
        (next_id, id),
    )


def _undo(connection, users, which, undone):
    """One of what this connection sees and nobody undid or is about to."""
    found = connection.execute(
        "SELECT 'trades', id FROM trades t WHERE user_id = ANY(%(users)s) AND reverses IS NULL"
        " AND NOT EXISTS (SELECT FROM trades r WHERE r.reverses = t.id) UNION ALL"
        " SELECT 'transfers', id FROM transfers t WHERE user_id = ANY(%(users)s) AND reverses IS NULL"
        " AND NOT EXISTS (SELECT FROM transfers r WHERE r.reverses = t.id) ORDER BY 2",
        {"users": users},
    ).fetchall()
    found = [(table, id) for table, id in found if id not in undone]
    if not found:
        return
    table, id = found[which % len(found)]
    undone.add(id)
    undoing = UUID(int=id.int ^ 1)
    if table == "trades":
        connection.execute(
            "INSERT INTO trades (id, user_id, market_id, base_decimals, quote_decimals, side, liquidity, base_amount,"
            " quote_amount, price, fee_amount, fee_asset_id, executed_at, sequence, reverses)"
            " SELECT %s, user_id, market_id, base_decimals, quote_decimals,"
            " CASE side WHEN 'buy' THEN 'sell' ELSE 'buy' END, liquidity, base_amount, quote_amount, price,"
            " -fee_amount, fee_asset_id, executed_at, sequence, id FROM trades WHERE id = %s",
            (undoing, id),
        )
    else:
        connection.execute(
            "INSERT INTO transfers (id, user_id, kind, asset_id, market_id, amount, executed_at, reverses)"
            " SELECT %s, user_id, kind, asset_id, market_id, -amount, executed_at, id FROM transfers WHERE id = %s",
            (undoing, id),
        )
