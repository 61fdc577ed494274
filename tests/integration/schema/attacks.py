"""A valid row of every table, and for every constraint the change of it that the constraint refuses."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
from psycopg.sql import SQL, Composable, Identifier, Placeholder
from psycopg.types.json import Jsonb

Values = dict[str, Any]

TIME = "2024-08-08 23:54:00.123+00"
"""The moment of all rows; its id prefix is ``01913469e23b``."""
DAY_START = "2024-08-08 00:00:00+00"
ID = UUID("01913469-e23b-7000-8000-000000000001")
OTHER_ID = UUID("01913469-e23b-7000-8000-000000000002")
NOT_V7 = UUID("01913469-e23b-4000-8000-000000000001")
UNKNOWN_ID = UUID("01913469-e23b-7000-8000-00000000ffff")
UNKNOWN_NUMBER = 999_999
NAN, INFINITY = Decimal("NaN"), Decimal("Infinity")
UINT256_BOUND = Decimal(2**256)

USER, ORDER = UUID(int=ID.int + 100), UUID(int=ID.int + 200)
COIN, MONEY, MARKET = 1, 2, 1

SETUP_MAIN = f"""
    SELECT ensure_partitions('trades', '{TIME}', '{TIME}'), ensure_partitions('order_events', '{TIME}', '{TIME}');
    INSERT INTO assets (symbol, name, decimals) VALUES ('SOL', 'Solana', 9), ('USDC', 'USD Coin', 6);
    INSERT INTO markets (symbol, base_asset_id, quote_asset_id, base_decimals, quote_decimals)
        VALUES ('SOL/USDC', {COIN}, {MONEY}, 9, 6);
    INSERT INTO users (id) VALUES ('{USER}');
    INSERT INTO orders (id, user_id, market_id, base_decimals, quote_decimals, side, type, quantity, price)
        VALUES ('{ORDER}', '{USER}', {MARKET}, 9, 6, 'buy', 'limit', 1, 100);
"""

SETUP_ANALYTICS = f"""
    SELECT ensure_partitions(parent::regclass, '{TIME}', '{TIME}')
    FROM unnest(ARRAY['trade_facts', 'user_events', 'page_views', 'performance_metrics']) AS parent;
"""

MAIN_ROWS: dict[str, Values] = {
    "recovery_epoch": {"only_row": True, "epoch": 1},
    "assets": {"symbol": "ETH", "name": "Ether", "decimals": 18},
    "markets": {
        "symbol": "USDC/SOL",
        "base_asset_id": MONEY,
        "quote_asset_id": COIN,
        "base_decimals": 6,
        "quote_decimals": 9,
    },
    "users": {"id": ID, "username": "trader123", "email_ciphertext": b"x", "email_index": b"y"},
    "wallets": {"id": ID, "user_id": USER, "chain": "evm", "address": "0x1234", "is_primary": True},
    "user_sessions": {
        "id": ID,
        "user_id": USER,
        "family_id": ID,
        "token_hash": b"t" * 32,
        "created_at": TIME,
        "idle_expires_at": "2024-08-09 00:00+00",
        "expires_at": "2024-08-09 08:00+00",
    },
    "orders": {
        "id": ID,
        "user_id": USER,
        "market_id": MARKET,
        "base_decimals": 9,
        "quote_decimals": 6,
        "client_order_id": "mine",
        "side": "sell",
        "type": "limit",
        "quantity": Decimal("2.5"),
        "price": Decimal(101),
    },
    "order_events": {
        "id": ID,
        "order_id": ORDER,
        "version": 1,
        "market_id": MARKET,
        "market_sequence": 1,
        "type": "placed",
        "status": "open",
        "quantity": Decimal(1),
        "filled_quantity": Decimal(0),
        "actor": "user",
    },
    "trades": {
        "id": ID,
        "user_id": USER,
        "market_id": MARKET,
        "base_decimals": 9,
        "quote_decimals": 6,
        "side": "buy",
        "base_amount": Decimal("1.0"),
        "quote_amount": Decimal("100.0"),
        "price": Decimal("100.0"),
        "executed_at": TIME,
    },
    "idempotency_keys": {"user_id": USER, "key": "k-1", "request_hash": b"h" * 16, "trade_id": ID},
    "liquidity_positions": {
        "id": ID,
        "user_id": USER,
        "market_id": MARKET,
        "pool": "0xpool",
        "kind": "concentrated",
        "tick_lower": -10,
        "tick_upper": 10,
        "liquidity": Decimal(2**255),
        "base_amount": Decimal(1),
        "quote_amount": Decimal(100),
    },
    "portfolio_snapshots": {
        "id": ID,
        "user_id": USER,
        "taken_at": TIME,
        "valuation_asset_id": MONEY,
        "total_value": Decimal("-12.5"),
        "holdings": Jsonb([]),
    },
    "notifications": {"id": ID, "user_id": USER, "kind": "order_filled", "title": "Filled", "body": "All of it."},
    "audit_log": {"actor": "cli", "action": "market.created", "subject": "market:SOL/USDC"},
}

ANALYTICS_ROWS: dict[str, Values] = {
    "trade_facts": {
        "id": ID,
        "user_id": USER,
        "market": "SOL/USDC",
        "type": "spot",
        "side": "buy",
        "liquidity": "taker",
        "base_amount": Decimal(1),
        "quote_amount": Decimal(100),
        "price": Decimal(100),
        "fee_amount": Decimal(0),
        "executed_at": TIME,
    },
    "candles": {
        "market": "SOL/USDC",
        "start": "2024-08-08 23:54:00+00",
        "open": Decimal(2),
        "high": Decimal(4),
        "low": Decimal(1),
        "close": Decimal(3),
        "base_volume": Decimal(10),
        "quote_volume": Decimal(25),
        "taker_buy_base_volume": Decimal(4),
        "trades": 3,
        "first_at": TIME,
        "first_sequence": 1,
        "first_id": ID,
        "last_at": TIME,
        "last_sequence": 3,
        "last_id": OTHER_ID,
    },
    "trading_analytics": {
        "user_id": USER,
        "market": "SOL/USDC",
        "day": "2024-08-08",
        "trades": 3,
        "buys": 2,
        "sells": 1,
        "maker_trades": 0,
        "taker_trades": 3,
        "base_volume": Decimal(10),
        "quote_volume": Decimal(25),
        "base_fees": Decimal(0),
        "quote_fees": Decimal("-0.1"),
        "first_trade_at": TIME,
        "last_trade_at": TIME,
    },
    "trading_other_fees": {
        "user_id": USER,
        "market": "SOL/USDC",
        "day": "2024-08-08",
        "asset": "BNB",
        "fees": Decimal("0.1"),
    },
    "projections": {
        "name": "trades",
        "epoch": 1,
        "system_identifier": 7_000_000_000_000_000_000,
        "timeline": 1,
        "xid": "760",
        "id": ID,
    },
    "projection_rejects": {
        "projection": "trades",
        "row_id": ID,
        "row_xid": "760",
        "code": "22003",
        "reason": "out of range",
        "content": Jsonb({}),
    },
    "user_events": {"id": ID, "event_type": "trade_executed", "occurred_at": TIME},
    "page_views": {"id": ID, "path": "/trade", "viewed_at": TIME},
    "performance_metrics": {"id": ID, "recorded_at": TIME, "instance": "api-1", "name": "novadex_up", "value": 1.0},
}


@dataclass(frozen=True)
class Attack:
    """A valid row, changed so that exactly one constraint is in the way."""

    constraint: str
    table: str
    changes: Values = field(default_factory=dict)
    twice: bool = False
    """The valid row is inserted first: what is attacked is uniqueness."""
    before: str = ""
    """SQL that runs first, to get other guards out of the way."""

    def __str__(self) -> str:
        return self.constraint + "".join(f"-{column}" for column in self.changes)


def check(constraint: str, table: str, *changes: Values) -> list[Attack]:
    """One attack for each set of changes."""
    return [Attack(constraint, table, change) for change in changes]


def twice(constraint: str, table: str, before: str = "", **changes: Any) -> list[Attack]:
    """The row stands there already, but for ``changes``."""
    return [Attack(constraint, table, changes, twice=True, before=before)]


MAIN_ATTACKS: list[Attack] = [
    # Kinds of numbers
    *check(
        "amount_in_range",
        "trades",
        {"base_amount": Decimal(-1)},
        {"base_amount": NAN},
        {"base_amount": INFINITY},
        {"base_amount": UINT256_BOUND},
    ),
    *check("amount_scale", "trades", {"base_amount": Decimal("1E-19")}),
    *check(
        "signed_amount_in_range",
        "portfolio_snapshots",
        {"total_value": UINT256_BOUND},
        {"total_value": Decimal(-(2**256))},
        {"total_value": NAN},
        {"total_value": -INFINITY},
    ),
    *check("signed_amount_scale", "trades", {"fee_amount": Decimal("-1E-19"), "fee_asset_id": MONEY}),
    *check(
        "price_in_range",
        "trades",
        {"price": Decimal(0)},
        {"price": Decimal(-1)},
        {"price": NAN},
        {"price": INFINITY},
        {"price": UINT256_BOUND},
    ),
    *check("price_scale", "trades", {"price": Decimal("1E-37")}),
    *check(
        "uint256_in_range",
        "liquidity_positions",
        {"liquidity": Decimal(-1)},
        {"liquidity": UINT256_BOUND},
        {"liquidity": NAN},
    ),
    *check("uint256_whole", "liquidity_positions", {"liquidity": Decimal("0.5")}),
    # The epoch
    *check("recovery_epoch_one_row", "recovery_epoch", {"only_row": False}),
    *check("recovery_epoch_positive", "recovery_epoch", {"epoch": 0}),
    *check("recovery_epoch_pkey", "recovery_epoch", {}),
    # Assets and markets
    *check(
        "assets_symbol_form", "assets", {"symbol": "eth"}, {"symbol": ""}, {"symbol": "A" * 33}, {"symbol": "A/B"}
    ),
    *check("assets_symbol_key", "assets", {"symbol": "SOL"}),
    *check("assets_name_length", "assets", {"name": ""}, {"name": "n" * 101}),
    *check("assets_decimals_range", "assets", {"decimals": 19}, {"decimals": -1}),
    *check("assets_pkey", "assets", {"id": COIN}),
    Attack(
        "assets_id_decimals_key",
        "assets",
        {"id": COIN, "decimals": 9},
        before="ALTER TABLE assets DROP CONSTRAINT assets_pkey CASCADE",
    ),
    *check(
        "markets_symbol_form",
        "markets",
        {"symbol": "SOLUSDC"},
        {"symbol": "sol/usdc"},
        {"symbol": "SOL/USDC-"},
        {"symbol": "SOL/USDC-perp"},
    ),
    *check("markets_symbol_key", "markets", {"symbol": "SOL/USDC"}),
    *check("markets_status_known", "markets", {"status": "open"}),
    *check("markets_two_assets", "markets", {"base_asset_id": COIN, "base_decimals": 9}),
    *check("markets_base_asset_fkey", "markets", {"base_asset_id": UNKNOWN_NUMBER}, {"base_decimals": 7}),
    *check("markets_quote_asset_fkey", "markets", {"quote_asset_id": UNKNOWN_NUMBER}, {"quote_decimals": 8}),
    *check("markets_pkey", "markets", {"id": MARKET}),
    Attack(
        "markets_id_decimals_key",
        "markets",
        {
            "id": MARKET,
            "base_decimals": 9,
            "quote_decimals": 6,
            "base_asset_id": COIN,
            "quote_asset_id": MONEY,
        },
        before="ALTER TABLE markets DROP CONSTRAINT markets_pkey CASCADE",
    ),
    # Users
    *check("users_pkey", "users", {"id": USER}),
    *check("users_kind_known", "users", {"kind": "robot"}),
    *check("users_username_form", "users", {"username": "Trader"}, {"username": "x"}, {"username": "a" * 65}),
    *twice("users_username_key", "users", id=OTHER_ID, email_index=b"z"),
    *twice("users_email_key", "users", id=OTHER_ID, username="other"),
    *check("users_email_whole", "users", {"email_index": None}, {"email_ciphertext": None}),
    *check("users_role_known", "users", {"role": "root"}),
    *check("users_status_known", "users", {"status": "gone"}),
    *check("users_preferences_object", "users", {"preferences": Jsonb([])}),
    *check("users_version_positive", "users", {"version": 0}),
    *check("users_system_named", "users", {"kind": "system", "username": None}),
    # Wallets
    *twice("wallets_pkey", "wallets", address="0x5678", is_primary=False),
    *twice("wallets_address_key", "wallets", id=OTHER_ID, is_primary=False),
    *twice("wallets_one_primary", "wallets", id=OTHER_ID, address="0x5678"),
    *check("wallets_user_fkey", "wallets", {"user_id": UNKNOWN_ID}),
    *check("wallets_chain_form", "wallets", {"chain": "EVM"}, {"chain": "evm:"}),
    *check("wallets_address_length", "wallets", {"address": ""}, {"address": "0" * 129}),
    # Sessions
    *twice("user_sessions_pkey", "user_sessions", token_hash=b"u" * 32),
    *twice("user_sessions_token_key", "user_sessions", id=OTHER_ID),
    *check("user_sessions_user_fkey", "user_sessions", {"user_id": UNKNOWN_ID}),
    *check("user_sessions_token_sha256", "user_sessions", {"token_hash": b"t" * 31}),
    *check("user_sessions_device_length", "user_sessions", {"device": "d" * 501}),
    *check(
        "user_sessions_lifetimes",
        "user_sessions",
        {"expires_at": TIME, "idle_expires_at": TIME},
        {"idle_expires_at": "2024-08-10 00:00+00"},
    ),
    *check("user_sessions_revocation_whole", "user_sessions", {"revoked_at": TIME}, {"revoked_reason": "signed out"}),
    # Orders
    *check("orders_pkey", "orders", {"id": ORDER}),
    *check("orders_user_fkey", "orders", {"user_id": UNKNOWN_ID}),
    *check(
        "orders_market_fkey", "orders", {"market_id": UNKNOWN_NUMBER}, {"base_decimals": 8}, {"quote_decimals": 7}
    ),
    *check("orders_client_id_length", "orders", {"client_order_id": ""}, {"client_order_id": "c" * 65}),
    *twice("orders_client_id_key", "orders", id=OTHER_ID),
    *check("orders_side_known", "orders", {"side": "long"}),
    *check("orders_type_known", "orders", {"type": "iceberg", "price": None}),
    *check("orders_time_in_force_known", "orders", {"time_in_force": "day"}),
    *check("orders_status_known", "orders", {"status": "new"}),
    *check("orders_version_positive", "orders", {"version": 0}),
    *check("orders_quantity_positive", "orders", {"quantity": Decimal("1E-10")}),
    Attack("orders_quantity_positive", "orders", {"quantity": Decimal(0), "status": "filled"}),
    *check(
        "orders_not_over_filled", "orders", {"filled_quantity": Decimal(3)}, {"filled_quantity": Decimal("1E-10")}
    ),
    *check("orders_filled_status", "orders", {"status": "filled"}, {"filled_quantity": Decimal("2.5")}),
    *check("orders_limit_price", "orders", {"price": None}, {"type": "market"}),
    *check("orders_stop_price", "orders", {"stop_price": Decimal(1)}, {"type": "stop_limit"}),
    *check("orders_gtt_expires", "orders", {"time_in_force": "gtt"}, {"expires_at": TIME}),
    *check(
        "orders_post_only_rests",
        "orders",
        {"post_only": True, "type": "market", "price": None},
        {"post_only": True, "time_in_force": "ioc"},
    ),
    # Order events
    *twice("order_events_pkey", "order_events"),
    *check("order_events_order_fkey", "order_events", {"order_id": UNKNOWN_ID}),
    *check("order_events_market_fkey", "order_events", {"market_id": UNKNOWN_NUMBER}),
    *check("order_events_version_positive", "order_events", {"version": 0}),
    *check("order_events_sequence_positive", "order_events", {"market_sequence": 0}),
    *check("order_events_type_known", "order_events", {"type": "lost"}),
    *check("order_events_status_known", "order_events", {"status": "lost"}),
    *check("order_events_reason_length", "order_events", {"reason": "r" * 501}),
    *check("order_events_actor_length", "order_events", {"actor": ""}),
    *check("order_events_id_v7", "order_events", {"id": NOT_V7}),
    # Trades
    *twice("trades_pkey", "trades"),
    *check("trades_user_fkey", "trades", {"user_id": UNKNOWN_ID}),
    *check(
        "trades_market_fkey", "trades", {"market_id": UNKNOWN_NUMBER}, {"base_decimals": 8}, {"quote_decimals": 7}
    ),
    *check("trades_order_fkey", "trades", {"order_id": UNKNOWN_ID}),
    *check("trades_fee_asset_fkey", "trades", {"fee_asset_id": UNKNOWN_NUMBER}),
    *check("trades_type_known", "trades", {"type": "gift"}),
    *check("trades_side_known", "trades", {"side": "long"}),
    *check("trades_liquidity_known", "trades", {"liquidity": "giver"}),
    *check("trades_source_form", "trades", {"source": "Binance", "source_trade_id": "1"}),
    *check(
        "trades_source_id_length",
        "trades",
        {"source": "binance", "source_trade_id": ""},
        {"source": "binance", "source_trade_id": "1" * 129},
    ),
    *check("trades_source_whole", "trades", {"source": "binance"}, {"source_trade_id": "1"}),
    *check("trades_id_v7", "trades", {"id": NOT_V7}),
    *check(
        "trades_id_time",
        "trades",
        {"executed_at": "2024-08-08 23:54:00.124+00"},
        {"executed_at": "2024-08-08 23:54:00.122999+00"},
        {"executed_at": "infinity"},
    ),
    *check(
        "trades_base_atoms",
        "trades",
        {"base_amount": Decimal(0), "quote_amount": Decimal(0)},
        {"base_amount": Decimal("1E-10"), "quote_amount": Decimal(0)},
    ),
    *check("trades_quote_atoms", "trades", {"quote_amount": Decimal("100.0000001")}),
    *check(
        "trades_amounts_agree",
        "trades",
        {"quote_amount": Decimal("100.000001")},
        {"quote_amount": Decimal("99.999999")},
        {"price": Decimal("100.000001")},
    ),
    *check("trades_fee_has_asset", "trades", {"fee_amount": Decimal("0.1")}),
    # Idempotency
    *twice("idempotency_keys_pkey", "idempotency_keys", trade_id=OTHER_ID),
    *check("idempotency_keys_length", "idempotency_keys", {"key": ""}, {"key": "k" * 256}),
    *check("idempotency_keys_hash_length", "idempotency_keys", {"request_hash": b"h" * 15}),
    # Liquidity
    *twice("liquidity_positions_pkey", "liquidity_positions"),
    *check("liquidity_positions_user_fkey", "liquidity_positions", {"user_id": UNKNOWN_ID}),
    *check("liquidity_positions_market_fkey", "liquidity_positions", {"market_id": UNKNOWN_NUMBER}),
    *check("liquidity_positions_pool_length", "liquidity_positions", {"pool": ""}, {"pool": "p" * 201}),
    *check(
        "liquidity_positions_kind_known",
        "liquidity_positions",
        {"kind": "stable", "tick_lower": None, "tick_upper": None},
    ),
    *check("liquidity_positions_status_known", "liquidity_positions", {"status": "gone", "liquidity": Decimal(0)}),
    *check("liquidity_positions_version_positive", "liquidity_positions", {"version": 0}),
    *check(
        "liquidity_positions_ticks",
        "liquidity_positions",
        {"tick_upper": -10},
        {"tick_lower": None},
        {"kind": "constant_product"},
    ),
    *check(
        "liquidity_positions_closed_whole",
        "liquidity_positions",
        {"closed_at": TIME},
        {"status": "closed", "liquidity": Decimal(0)},
    ),
    *check("liquidity_positions_closed_empty", "liquidity_positions", {"status": "closed", "closed_at": TIME}),
    # Portfolios
    *twice("portfolio_snapshots_pkey", "portfolio_snapshots", taken_at=DAY_START),
    *twice("portfolio_snapshots_once", "portfolio_snapshots", id=OTHER_ID),
    *check("portfolio_snapshots_user_fkey", "portfolio_snapshots", {"user_id": UNKNOWN_ID}),
    *check("portfolio_snapshots_asset_fkey", "portfolio_snapshots", {"valuation_asset_id": UNKNOWN_NUMBER}),
    *check("portfolio_snapshots_holdings_array", "portfolio_snapshots", {"holdings": Jsonb({})}),
    # Notifications
    *twice("notifications_pkey", "notifications"),
    *check("notifications_user_fkey", "notifications", {"user_id": UNKNOWN_ID}),
    *check("notifications_kind_form", "notifications", {"kind": "Order"}),
    *check("notifications_channel_known", "notifications", {"channel": "fax"}),
    *check("notifications_title_length", "notifications", {"title": ""}, {"title": "t" * 201}),
    *check("notifications_body_length", "notifications", {"body": "b" * 10_001}),
    *check("notifications_status_known", "notifications", {"status": "read"}),
    # Audit
    *twice("audit_log_pkey", "audit_log", id=1, before="ALTER TABLE audit_log ALTER id RESTART WITH 1"),
    *check("audit_log_actor_length", "audit_log", {"actor": ""}, {"actor": "a" * 201}),
    *check("audit_log_action_form", "audit_log", {"action": "Created"}),
    *check("audit_log_subject_length", "audit_log", {"subject": ""}, {"subject": "s" * 301}),
]

ANALYTICS_ATTACKS: list[Attack] = [
    # Facts
    *twice("trade_facts_pkey", "trade_facts"),
    *check("trade_facts_side_known", "trade_facts", {"side": "long"}),
    *check("trade_facts_liquidity_known", "trade_facts", {"liquidity": "giver"}),
    *check(
        "trade_facts_base_positive",
        "trade_facts",
        {"base_amount": Decimal(0)},
        {"base_amount": NAN},
        {"base_amount": INFINITY},
    ),
    *check("trade_facts_quote_in_range", "trade_facts", {"quote_amount": Decimal(-1)}, {"quote_amount": NAN}),
    *check("trade_facts_price_positive", "trade_facts", {"price": Decimal(0)}, {"price": NAN}),
    *check("trade_facts_fee_finite", "trade_facts", {"fee_amount": NAN}, {"fee_amount": -INFINITY}),
    # Candles
    *twice("candles_pkey", "candles"),
    *check("candles_start_whole_minute", "candles", {"start": "2024-08-08 23:54:00.001+00"}),
    *check("candles_low_positive", "candles", {"low": Decimal(0)}),
    *check("candles_high_finite", "candles", {"high": INFINITY}, {"high": NAN}),
    *check(
        "candles_high_low",
        "candles",
        {"open": Decimal("0.5")},
        {"open": Decimal(5)},
        {"close": Decimal("0.5")},
        {"close": Decimal(5)},
    ),
    *check(
        "candles_base_volume_positive",
        "candles",
        {"base_volume": Decimal(0), "taker_buy_base_volume": Decimal(0)},
        {"base_volume": NAN},
    ),
    *check("candles_quote_volume_in_range", "candles", {"quote_volume": Decimal(-1)}, {"quote_volume": NAN}),
    *check(
        "candles_taker_share",
        "candles",
        {"taker_buy_base_volume": Decimal(-1)},
        {"taker_buy_base_volume": Decimal(11)},
        {"taker_buy_base_volume": NAN},
    ),
    *check("candles_trades_positive", "candles", {"trades": 0}),
    *check(
        "candles_first_last",
        "candles",
        {"first_at": "2024-08-08 23:53:59.999+00"},
        {"last_at": "2024-08-08 23:55:00+00"},
        {"first_at": "2024-08-08 23:54:30+00"},
    ),
    # Figures by day
    *twice("trading_analytics_pkey", "trading_analytics"),
    *check(
        "trading_analytics_trades_positive",
        "trading_analytics",
        {"trades": 0, "buys": 0, "sells": 0, "taker_trades": 0},
    ),
    *check(
        "trading_analytics_base_volume_positive",
        "trading_analytics",
        {"base_volume": Decimal(0)},
        {"base_volume": NAN},
        {"base_volume": INFINITY},
    ),
    *check(
        "trading_analytics_quote_volume_in_range",
        "trading_analytics",
        {"quote_volume": Decimal(-1)},
        {"quote_volume": NAN},
    ),
    *check("trading_analytics_base_fees_finite", "trading_analytics", {"base_fees": NAN}),
    *check("trading_analytics_quote_fees_finite", "trading_analytics", {"quote_fees": -INFINITY}),
    *check("trading_analytics_sides", "trading_analytics", {"buys": 3}, {"buys": -1, "sells": 4}),
    *check("trading_analytics_liquidity", "trading_analytics", {"maker_trades": 1}),
    *check("trading_analytics_first_last", "trading_analytics", {"first_trade_at": "2024-08-08 23:59+00"}),
    *check(
        "trading_analytics_within_day",
        "trading_analytics",
        {"last_trade_at": "2024-08-09 00:00+00"},
        {"first_trade_at": "2024-08-07 23:59:59.999+00"},
    ),
    *twice("trading_other_fees_pkey", "trading_other_fees"),
    *check("trading_other_fees_finite", "trading_other_fees", {"fees": NAN}),
    # Projections
    *twice("projections_pkey", "projections"),
    *check("projections_applied_count", "projections", {"applied": -1}),
    *check("projections_set_aside_count", "projections", {"set_aside": -1}),
    *twice("projection_rejects_pkey", "projection_rejects"),
    # What users and the platform do
    *twice("user_events_pkey", "user_events"),
    *check("user_events_id_v7", "user_events", {"id": NOT_V7}),
    *check("user_events_session_length", "user_events", {"session_id": ""}, {"session_id": "s" * 201}),
    *check("user_events_type_form", "user_events", {"event_type": "Trade"}),
    *check("user_events_data_object", "user_events", {"event_data": Jsonb("text")}),
    *twice("page_views_pkey", "page_views"),
    *check("page_views_id_v7", "page_views", {"id": NOT_V7}),
    *check("page_views_session_length", "page_views", {"session_id": ""}),
    *check("page_views_path_length", "page_views", {"path": ""}, {"path": "/" * 2001}),
    *check("page_views_referrer_length", "page_views", {"referrer": "r" * 2001}),
    *check("page_views_user_agent_length", "page_views", {"user_agent": "u" * 1001}),
    *twice("performance_metrics_pkey", "performance_metrics"),
    *check("performance_metrics_id_v7", "performance_metrics", {"id": NOT_V7}),
    *check("performance_metrics_instance_length", "performance_metrics", {"instance": ""}),
    *check("performance_metrics_name_form", "performance_metrics", {"name": "novadex up"}),
    *check("performance_metrics_labels_object", "performance_metrics", {"labels": Jsonb([])}),
]

ROWS = {"main": MAIN_ROWS, "analytics": ANALYTICS_ROWS}
ATTACKS = {"main": MAIN_ATTACKS, "analytics": ANALYTICS_ATTACKS}
SETUP = {"main": SETUP_MAIN, "analytics": SETUP_ANALYTICS}


def insert(connection: psycopg.Connection[Any], table: str, values: Values) -> None:
    """Insert one row, keys that the database would make included."""
    names: Composable = SQL(", ").join(map(Identifier, values))
    connection.execute(
        SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE VALUES ({})").format(
            Identifier(table), names, SQL(", ").join(Placeholder() * len(values))
        ),
        list(values.values()),
    )
