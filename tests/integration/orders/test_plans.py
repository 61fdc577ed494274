"""The hot queries of orders on filled tables: by index, few rows, and the last page costs what the first one does."""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

import psycopg
import pytest

from novadex.trading.orders.service import FIRST_ID, LAST_ID
from novadex.trading.orders.writing import QUERIES
from tests.integration.analytics.records import FOREIGN_TRANSACTIONS

ORDERS, LIVE_EVERY = 60_000, 200
FILL = f"""
    SET session_replication_role = replica;
    INSERT INTO orders (id, user_id, market_id, base_decimals, quote_decimals, client_order_id, side, type, quantity,
        price, status, time_in_force, expires_at, created_at)
    SELECT ('019b0000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid,
        (ARRAY[%(a)s, %(b)s]::uuid[])[1 + n %% 2], %(market)s + n %% 2, 9, 6, n::text, 'buy', 'limit', 1, 5,
        CASE n %% {LIVE_EVERY} WHEN 0 THEN 'open' WHEN 1 THEN 'open' ELSE 'cancelled' END,
        CASE n %% 3 WHEN 0 THEN 'gtt' ELSE 'gtc' END, CASE n %% 3 WHEN 0 THEN now() + n * interval '1 s' END, now()
    FROM generate_series(1, {ORDERS}) AS n;
    INSERT INTO order_events (id, order_id, version, market_id, market_sequence, type, status, quantity,
        filled_quantity, price, actor)
    SELECT id, id, 1, market_id, row_number() OVER (PARTITION BY market_id ORDER BY id), 'placed', 'open', 1, 0, 5,
        'test'
    FROM orders;
    INSERT INTO matches (id, market_id, taker_trade_id, source, source_match_id, chain, block_number, request_hash,
        executed_at)
    SELECT id, market_id, id, 'venue', client_order_id, 'evm:1', client_order_id::bigint / 3,
        decode(repeat('00', 16), 'hex'), now() FROM orders;
    INSERT INTO trades (id, user_id, market_id, base_decimals, quote_decimals, side, base_amount, quote_amount, price,
        executed_at)
    SELECT id, user_id, market_id, 9, 6, 'buy', 1, 5, 5, to_timestamp(uuid_time_ms(id) / 1000.0) FROM orders;
    ANALYZE orders, order_events, matches, trades, users, markets;
"""


def order_id(n: int) -> UUID:
    return UUID(f"019b0000-0000-7000-8000-{n:012x}")


def foreign_transactions(connection: Any) -> set[str]:
    [(xids,)] = connection.execute(FOREIGN_TRANSACTIONS)
    return set(xids or ())


@pytest.fixture(scope="module")
def filled(make_databases: Any) -> Any:
    from tests.conftest import add_market, add_users

    pair = make_databases()
    markets = [add_market(pair.main_url("owner"), symbol, 9, 6) for symbol in ("SOL/USDC", "ETH/USDC")]
    users = add_users(pair.main_url("owner"), 2)
    with psycopg.connect(pair.main_url(None), autocommit=True) as superuser:
        superuser.execute(
            "SELECT ensure_partitions(name, '2025-12-01Z', '2025-12-31Z')"
            " FROM unnest('{order_events,trades}'::regclass[]) AS name"
        )
        # Written in by the client: there are several statements.
        values = {"a": users[0], "b": users[1], "market": markets[0].id}
        psycopg.ClientCursor(superuser).execute(FILL, values)  # type: ignore[arg-type]
        under_way = foreign_transactions(superuser)  # they hold back what is final here
        deadline = time.monotonic() + 30
        while under_way & foreign_transactions(superuser):
            assert time.monotonic() < deadline, "another database's transaction does not end"
            time.sleep(0.01)
        yield superuser, markets[0].id, users
    pair.server.drop_database(pair.main)
    pair.server.drop_database(pair.analytics)


def rows_read(connection: Any, query: str, parameters: list[Any]) -> int:
    """How many rows of big tables a query reads; none of them by reading a table whole."""
    cursor = psycopg.RawCursor(connection)
    # The text of the query is a file of the package; EXPLAIN before it keeps it literal.
    cursor.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + QUERIES[query].sql, parameters)
    row = cursor.fetchone()
    assert row is not None

    def nodes(node: Any) -> Any:
        yield node
        for child in node.get("Plans", []):
            yield from nodes(child)

    big = ("orders", "order_events", "matches", "trades")
    scans = [node for node in nodes(row[0][0]["Plan"]) if node.get("Relation Name", "").startswith(big)]
    assert scans, query
    whole = [node for node in scans if node["Node Type"] == "Seq Scan" and node["Actual Loops"] > 0]
    assert not [node for node in whole if node["Actual Rows"] > 0 or node.get("Rows Removed by Filter", 0) > 0], query
    return round(
        sum((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"] for node in scans)
    )


def test_hot_queries_read_few_rows_by_index(filled: Any) -> None:
    connection, market, (user, _) = filled
    known = [order_id(n) for n in range(100, 110)]
    few = {
        "standing_orders": [known],
        "orders_by_ids": [known],
        "known_orders": [known, [user] * 3, ["7", "9", "no"]],
        "written_events": [known],
        "matches_by_source": [[market] * 3, ["venue"] * 3, ["8", "10", "no"]],
        "loosest_prices": [known],
        "events_of_order": [known[0], 0, 11],
        "owner_of_order": [known[0]],
        "order_by_client_id": [user, "7"],
        "standing_in_block": ["evm:1", 50, 100],
        "live_ids": [FIRST_ID, user, market, 10, LAST_ID],
        "last_live_id": [user, market],
        "fok_orders": [known],
        "reducing_orders": [[user], [market]],
    }
    for query, parameters in few.items():
        limit = 700 if query == "reducing_orders" else 60
        assert rows_read(connection, query, parameters) <= limit, query
    assert rows_read(connection, "expired_ids", ["2020-01-01Z", 100]) == 0
    assert rows_read(connection, "hold_markets", [known, [order_id(5)], [market]]) <= 40


def test_what_is_summed_up_while_a_market_is_held_is_new(filled: Any) -> None:
    """However much the user has traded before."""
    connection, market, _ = filled
    horizon = connection.execute("SELECT pg_snapshot_xmin(pg_current_snapshot())::text").fetchone()[0]
    owner = connection.execute("SELECT user_id FROM orders WHERE market_id = %s LIMIT 1", [market]).fetchone()[0]
    assert rows_read(connection, "newer_holdings", [[owner], [market], horizon]) == 0
    cursor = psycopg.RawCursor(connection)
    cursor.execute(QUERIES.settled_holdings.sql, [[owner], [market], []])
    [(*whose, settled, none)] = cursor.fetchall()
    assert (whose, none) == ([owner, market], None), "there are no portfolios"
    assert int(settled) >= int(horizon)
    cursor.execute(QUERIES.summed_holdings.sql, [[owner], [market], settled])
    assert cursor.fetchall() == [(owner, market, ORDERS / 2)]


@pytest.mark.parametrize(
    ("others", "kind", "expected"), [(3_000, "person", 7 + 1_500), (3_000, "system", None), (10_001, "person", None)]
)
def test_the_holding_of_somebody_whose_portfolio_is_kept_is_read_in_few_rows(
    filled: Any, others: int, kind: str, expected: int | None
) -> None:
    """Also where others traded since; where that is much, or there is no portfolio, the query says so."""
    connection, market, _ = filled
    with connection.transaction(force_rollback=True):
        connection.execute(
            "INSERT INTO main_projections (name, epoch, system_identifier, timeline, xid, id)"
            " SELECT 'portfolio', (SELECT epoch FROM recovery_epoch),"
            " system_identifier(),"
            " ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer, xid, id"
            " FROM trades ORDER BY xid DESC, id DESC OFFSET %s LIMIT 1",
            [others],
        )
        [(owner,)] = connection.execute("SELECT user_id FROM trades WHERE market_id = %s LIMIT 1", [market])
        connection.execute(
            "INSERT INTO portfolio_holdings (user_id, asset_id, market_id, kind, amount)"
            " SELECT %s, base_asset_id, id, 'bought', 7 FROM markets WHERE id = %s",
            [owner, market],
        )
        connection.execute("UPDATE users SET kind = %s, username = 'binance' WHERE id = %s", [kind, owner])
        assert rows_read(connection, "settled_holdings", [[owner], [market], []]) <= others
        cursor = psycopg.RawCursor(connection)
        cursor.execute(QUERIES.settled_holdings.sql, [[owner], [market], []])
        [(*_, holding)] = cursor.fetchall()
        assert holding == expected


@pytest.mark.parametrize(
    "query", ["orders_newest", "orders_of_user", "orders_of_market", "orders_live", "live_orders_of_user"]
)
def test_the_last_page_costs_what_the_first_one_does(filled: Any, query: str) -> None:
    connection, market, (user, _) = filled
    more = {
        "orders_newest": [],
        "orders_of_user": [None, user],
        "orders_of_market": [market],
        "orders_live": [market],
        "live_orders_of_user": [None, user],
    }[query]
    first, last = (rows_read(connection, query, [bound, 11, *more]) for bound in (LAST_ID, order_id(20 * LIVE_EVERY)))
    assert first <= 30
    assert last <= 2 * first
