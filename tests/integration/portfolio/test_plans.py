"""The hot queries of portfolios go by index on filled tables, from the first row on: plans look at a part only."""

from __future__ import annotations

import random
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest

from novadex.portfolio.applying import SQL as PROJECTION
from novadex.portfolio.projection import LOG, PortfolioProjection
from novadex.portfolio.service import SQL as QUERIES
from novadex.portfolio.snapshots import SQL as SNAPSHOTS
from novadex.portfolio.valuation import SQL as VALUATION
from tests.conftest import add_users
from tests.integration.analytics.records import NOON, TradeRow, add_trades, drain

TRADES, USERS = 8_000, 400
BIG = {
    "trades",
    "transfers",
    "portfolio_holdings",
    "portfolio_flows",
    "portfolio_positions",
    "portfolio_lots",
    "portfolio_closings",
}
LAST = UUID(int=(1 << 128) - 1)


@pytest.fixture
async def filled(worker_db: Any, main_url: Any, market: Any, make_market: Any, user: Any) -> tuple[str, UUID]:
    url = main_url("owner")
    users, chance = add_users(url, USERS), random.Random(7)  # noqa: S311
    # A market that nobody trades in any more must not cost all trades since.
    add_trades(url, TradeRow(user, make_market("OLD/USDT", 18, 18), NOON - timedelta(hours=1)))
    fee = {"fee_amount": Decimal("0.1"), "fee_asset": (market.quote_asset_id, "USDT")}
    add_trades(
        url,
        *(
            TradeRow(
                users[n % USERS],
                market,
                NOON + timedelta(seconds=n),
                side="sell" if chance.random() < 0.4 else "buy",
                base_amount=Decimal(chance.randrange(1, 9)),
                **fee,
            )
            for n in range(TRADES)
        ),
    )
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO transfers (id, user_id, kind, asset_id, amount, executed_at)"
            " SELECT overlay(t.id::text PLACING '0' FROM 36)::uuid, user_id, 'deposit', %s, 5, executed_at"
            " FROM trades t ON CONFLICT DO NOTHING",
            (market.quote_asset_id,),
        )
    await drain(PortfolioProjection(worker_db.main, worker_db.settings))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ANALYZE")
    return url, users[5]


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", ()) for node in nodes(child))]


def test_each_reads_a_part_by_index(filled: tuple[str, UUID], market: Any) -> None:
    url, user = filled
    key = [[user], [market.id]]
    hour = NOON + timedelta(hours=1)
    cases = {
        LOG.page: ["0", UUID(int=0), "9000000000000", 100],
        LOG.count_rows: ["0", UUID(int=0), "9000000000000", 100],
        PROJECTION.standings: key,
        PROJECTION.oldest_lots: [*key, [Decimal(5)]],
        PROJECTION.trades_since: [*key, [hour], "9000000000000", LAST],
        QUERIES.holdings: [user],
        QUERIES.positions: [user],
        QUERIES.open_lots: [user, market.id, None, None, None, 10],
        QUERIES.closings: [user, market.id, None, None, None, None, 10],
        QUERIES.snapshots_of_user: [user, NOON, hour, 10],
        QUERIES.transfers_of_user: [user, LAST, UUID(int=0), None, 10],
        SNAPSHOTS.sums_at: [[user], NOON, NOON + timedelta(hours=1), "9000000000000", LAST],
        SNAPSHOTS.positions_at: [[user], hour],
        SNAPSHOTS.lots_before: [user, market.id, hour],
        SNAPSHOTS.users_with_portfolios: [UUID(int=0), 100],
        VALUATION.prices_at: [hour],
    }
    with psycopg.connect(url) as connection:
        cursor = psycopg.RawCursor(connection)
        for query, parameters in cases.items():
            # As the projection and the snapshots run them; services leave it to the planner.
            if query not in QUERIES.values():
                cursor.execute(PROJECTION.read_by_index.sql)
            cursor.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + query.sql, parameters)
            row = cursor.fetchone()
            assert row is not None
            for node in nodes(row[0][0]["Plan"]):
                table = str(node.get("Relation Name", "")).partition("_2")[0]
                if table in BIG:
                    assert node["Node Type"] != "Seq Scan", query.name
                    looked_at = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
                    assert looked_at * node["Actual Loops"] < TRADES / 4, query.name
            connection.rollback()
