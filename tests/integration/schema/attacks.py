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
INT256_BOUND = Decimal(2**255)

USER, ORDER, INACTIVE = UUID(int=ID.int + 100), UUID(int=ID.int + 200), UUID(int=ID.int + 300)
GONE = UUID(int=ID.int + 400)
"""Whoever inserts into ``erasures`` erases this user in the same transaction."""
ADDRESS, OTHER_ADDRESS = f"0x{'ab' * 20}", f"0x{'cd' * 20}"
NOTIFICATION = UUID(int=ID.int + 401)
POOL, POSITION, TRANSFER = UUID(int=ID.int + 500), UUID(int=ID.int + 600), UUID(int=ID.int + 700)
TAKER_TRADE, MAKER_TRADE = UUID(int=ID.int + 800), UUID(int=ID.int + 801)
"""The executions of the match; the rows that undo them have the numbers after them."""
COIN, MONEY, MARKET = 1, 2, 1

SETUP_MAIN = f"""
    SELECT ensure_partitions('trades', '{TIME}', '{TIME}'), ensure_partitions('order_events', '{TIME}', '{TIME}');
    INSERT INTO assets (symbol, name, decimals) VALUES ('SOL', 'Solana', 9), ('USDC', 'USD Coin', 6);
    INSERT INTO markets (symbol, base_asset_id, quote_asset_id, base_decimals, quote_decimals)
        VALUES ('SOL/USDC', {COIN}, {MONEY}, 9, 6);
    INSERT INTO users (id) VALUES ('{USER}'), ('{INACTIVE}'), ('{GONE}');
    UPDATE users SET status = 'deactivated' WHERE id = '{INACTIVE}';
    INSERT INTO master_keys (version, check_value) VALUES (1, '{"c" * 16}');
    INSERT INTO master_keys (version, check_value, retired_at) VALUES (2, '{"d" * 16}', now());
    INSERT INTO orders (id, user_id, market_id, base_decimals, quote_decimals, side, type, quantity, price)
        VALUES ('{ORDER}', '{USER}', {MARKET}, 9, 6, 'buy', 'limit', 1, 100);
    INSERT INTO notifications (id, user_id, kind, title, body, cause_id)
        VALUES ('{NOTIFICATION}', '{USER}', 'order_expired', 'erased', '', 'event 1');
    INSERT INTO pools (id, market_id, kind, address, fee_ppm, tick_spacing, base_is_token0)
        VALUES ('{POOL}', {MARKET}, 'concentrated', '0xpool', 500, 10, true);
    INSERT INTO liquidity_positions (id, user_id, market_id, pool_id, kind, tick_lower, tick_upper, liquidity,
            base_amount, quote_amount, opened_at)
        VALUES ('{POSITION}', '{USER}', {MARKET}, '{POOL}', 'concentrated', -10, 10, 7, 1, 100, '{TIME}');
    INSERT INTO transfers (id, user_id, kind, asset_id, amount, executed_at)
        VALUES ('{TRANSFER}', '{USER}', 'deposit', {MONEY}, 5, '{TIME}');
"""

SETUP_TRADES = f"""
    INSERT INTO trades (id, user_id, market_id, base_decimals, quote_decimals, side, liquidity, base_amount,
            quote_amount, price, executed_at, match_id, reverses)
        VALUES ('{TAKER_TRADE}', '{USER}', {MARKET}, 9, 6, 'buy', 'taker', 1, 100, 100, '{TIME}', '{ID}', NULL),
            ('{MAKER_TRADE}', '{USER}', {MARKET}, 9, 6, 'sell', 'maker', 1, 100, 100, '{TIME}', '{ID}', NULL),
            ('{UUID(int=ID.int + 802)}', '{USER}', {MARKET}, 9, 6, 'sell', 'taker', 1, 100, 100, '{TIME}', '{ID}',
                '{TAKER_TRADE}'),
            ('{UUID(int=ID.int + 803)}', '{USER}', {MARKET}, 9, 6, 'buy', 'maker', 1, 100, 100, '{TIME}', '{ID}',
                '{MAKER_TRADE}');
"""
"""What the match refers to, and the rows that undo it."""

SETUP_ANALYTICS = f"""
    SELECT ensure_partitions(parent::regclass, '{TIME}', '{TIME}')
    FROM unnest(ARRAY['trade_facts', 'user_events', 'page_views', 'performance_metrics']) AS parent;
"""

MAIN_ROWS: dict[str, Values] = {
    "recovery_epoch": {"only_row": True, "epoch": 1},
    "change_channel": {"only_row": True, "name": "novadex_" + "0" * 32},
    "assets": {"symbol": "ETH", "name": "Ether", "decimals": 18},
    "markets": {
        "symbol": "USDC/SOL",
        "base_asset_id": MONEY,
        "quote_asset_id": COIN,
        "base_decimals": 6,
        "quote_decimals": 9,
    },
    "users": {"id": ID, "username": "trader123", "email_ciphertext": b"x", "email_index": b"y"},
    "wallets": {"id": ID, "user_id": USER, "chain": "evm", "address": ADDRESS, "is_primary": True},
    "user_sessions": {
        "id": ID,
        "user_id": USER,
        "family_id": ID,
        "token_hash": b"t" * 32,
        "created_at": TIME,
        "idle_expires_at": "2024-08-09 00:00+00",
        "expires_at": "2024-08-09 08:00+00",
    },
    "roles": {"name": "janitor", "description": "Keeps the place clean"},
    "permissions": {"name": "floors.clean", "description": "Clean floors"},
    "role_permissions": {"role": "user", "permission": "audit.read"},
    "master_keys": {"version": 3, "check_value": b"e" * 16},
    "system_keys": {"name": "email_index", "wrapped_key": b"w" * 60, "master_version": 1},
    "user_keys": {"user_id": USER, "wrapped_key": b"w" * 60, "master_version": 1},
    "erasures": {"user_id": GONE},
    "api_keys": {
        "id": ID,
        "user_id": USER,
        "name": "market making",
        "key_hash": b"k" * 32,
        "key_start": "ndk_abcd",
        "permissions": ["trades.read_own"],
        "created_at": TIME,
        "expires_at": "2024-09-08 00:00+00",
    },
    "book_snapshots": {
        "id": ID,
        "market_id": MARKET,
        "sequence": 1,
        "checksum": 0,
        "bids": Jsonb([["1", "2"]]),
        "asks": Jsonb([]),
        "source": "binance",
    },
    "audit_pending": {"audit_id": 1_000_000, "row_hash": b"h" * 32},
    "audit_chain": {"position": 1, "audit_id": 1_000_000, "row_hash": b"h" * 32, "chain_hash": b"i" * 32},
    "sign_in_nonces": {"nonce_hash": b"n" * 32, "created_at": TIME, "expires_at": "2024-08-08 23:58+00"},
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
        "version": 2,
        "market_id": MARKET,
        "market_sequence": 2,
        "type": "cancelled",
        "status": "cancelled",
        "quantity": Decimal(1),
        "filled_quantity": Decimal(0),
        "price": Decimal(100),
        "actor": "user",
    },
    "venue": {"only_row": True, "status": "active"},
    "market_sequences": {"market_id": MARKET, "sequence": 0},
    "fee_rates": {"market_id": MARKET, "tier": 0, "maker_rate": Decimal("-0.0001"), "taker_rate": Decimal("0.001")},
    "user_fee_tiers": {"user_id": USER, "tier": 3},
    "order_transitions": {"type": "filled", "from_status": "cancelled", "to_status": "filled"},
    "matches": {
        "id": ID,
        "market_id": MARKET,
        "taker_trade_id": TAKER_TRADE,
        "maker_trade_id": MAKER_TRADE,
        "source": "venue",
        "source_match_id": "1",
        "chain": "evm:1",
        "block_number": 5,
        "request_hash": b"h" * 16,
        "executed_at": TIME,
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
        "pool_id": POOL,
        "kind": "concentrated",
        "tick_lower": -10,
        "tick_upper": 10,
        "liquidity": Decimal(2**255),
        "base_amount": Decimal(1),
        "quote_amount": Decimal(100),
        "opened_at": TIME,
    },
    "pools": {
        "id": ID,
        "market_id": MARKET,
        "kind": "concentrated",
        "address": "0xother",
        "fee_ppm": 3000,
        "tick_spacing": 60,
        "base_is_token0": False,
    },
    "liquidity_events": {
        "id": ID,
        "position_id": POSITION,
        "version": 2,
        "user_id": USER,
        "market_id": MARKET,
        "type": "collected",
        "liquidity": Decimal(7),
        "base_amount": Decimal(0),
        "quote_amount": Decimal(0),
        "base_fees": Decimal("0.5"),
        "executed_at": TIME,
        "actor": "user",
    },
    "pool_snapshots": {
        "pool_id": POOL,
        "taken_at": TIME,
        "liquidity": Decimal(9),
        "open_tick": 1,
        "close_tick": 2,
        "lowest_tick": 0,
        "highest_tick": 3,
        "net_amount0": Decimal(5),
        "net_amount1": Decimal(-7),
        "in_amount0": Decimal(5),
        "source": "uniswap-v3",
    },
    "transfers": {
        "id": ID,
        "user_id": USER,
        "kind": "deposit",
        "asset_id": MONEY,
        "amount": Decimal("12.5"),
        "executed_at": TIME,
    },
    "prices": {"market_id": MARKET, "observed_at": TIME, "source": "feed", "price": Decimal(100)},
    "main_projections": {
        "name": "portfolio",
        "epoch": 1,
        "system_identifier": 7_000_000_000_000_000_000,
        "timeline": 1,
        "xid": "760",
        "id": ID,
    },
    "portfolio_holdings": {
        "user_id": USER,
        "asset_id": MONEY,
        "market_id": 0,
        "kind": "deposit",
        "amount": Decimal(10**90),
    },
    "portfolio_flows": {
        "user_id": USER,
        "hour": "2024-08-08 23:00:00+00",
        "asset_id": MONEY,
        "market_id": 0,
        "kind": "deposit",
        "amount": Decimal("-12.5"),
    },
    "portfolio_positions": {
        "user_id": USER,
        "market_id": MARKET,
        "hour": "2024-08-08 23:00:00+00",
        "quantity": Decimal(2),
        "cost": Decimal(200),
        "realized": Decimal(30),
        "fifo_cost": Decimal(190),
        "fifo_realized": Decimal(20),
        "trades": 3,
        "last_executed_at": TIME,
        "last_sequence": 0,
        "last_id": ID,
    },
    "portfolio_lots": {
        "user_id": USER,
        "market_id": MARKET,
        "trade_id": ID,
        "opened_at": TIME,
        "sequence": 0,
        "opened_quantity": Decimal(2),
        "opened_cost": Decimal(200),
        "quantity": Decimal(1),
        "cost": Decimal(100),
    },
    "portfolio_closings": {
        "user_id": USER,
        "market_id": MARKET,
        "closed_at": TIME,
        "sequence": 0,
        "trade_id": OTHER_ID,
        "lot_id": ID,
        "quantity": Decimal(1),
        "cost": Decimal(100),
        "proceeds": Decimal(120),
    },
    "portfolio_snapshots": {
        "id": ID,
        "user_id": USER,
        "taken_at": TIME,
        "valuation_asset_id": MONEY,
        "total_value": Decimal("-12.5"),
        "net_transfers": Decimal("-12.5"),
        "holdings": Jsonb([]),
    },
    "notifications": {
        "id": ID,
        "user_id": USER,
        "kind": "order_filled",
        "title": "Filled",
        "body": "All of it.",
        "cause_id": "event 7",
    },
    "notification_kinds": {
        "name": "floor_cleaned",
        "description": "The floor is clean",
        "fields": ["room"],
        "default_channels": ["in_app"],
    },
    "notification_templates": {
        "locale": "de",
        "kind": "order_filled",
        "channel": "email",
        "subject": "{market} ausgeführt",
        "body": "Ihr Auftrag in {market} ist ausgeführt.",
    },
    "notification_preferences": {"user_id": USER, "kind": "order_filled", "channel": "email", "enabled": True},
    "notification_webhooks": {
        "user_id": USER,
        "url_ciphertext": b"u" * 40,
        "secret_ciphertext": b"s" * 40,
    },
    "notification_deliveries": {"notification_id": NOTIFICATION, "channel": "email"},
    "notification_positions": {"market_id": MARKET, "market_sequence": 7},
    "price_alerts": {
        "id": ID,
        "user_id": USER,
        "market_id": MARKET,
        "direction": "above",
        "price": Decimal(101),
    },
    "price_alert_position": {"only_row": True},
    "known_devices": {"user_id": USER, "device_hash": b"d" * 32},
    "new_sign_ins": {"session_id": ID},
    "system_notices": {"id": ID, "role": "trader", "title": "Maintenance", "body": "On Sunday."},
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
        "transfers",
        {"amount": UINT256_BOUND},
        {"amount": Decimal(-(2**256))},
        {"amount": NAN},
        {"amount": -INFINITY},
    ),
    *check(
        "int256_in_range",
        "pool_snapshots",
        {"net_amount0": INT256_BOUND},
        {"net_amount0": Decimal(-(2**255) - 1)},
        {"net_amount0": NAN},
    ),
    *check("int256_whole", "pool_snapshots", {"net_amount0": Decimal("0.5")}),
    *check("total_finite", "portfolio_holdings", {"amount": NAN}, {"amount": INFINITY}, {"amount": -INFINITY}),
    *check("total_scale", "portfolio_holdings", {"amount": Decimal("1E-19")}),
    *check("valuation_finite", "portfolio_snapshots", {"total_value": NAN}, {"total_value": -INFINITY}),
    *check("valuation_scale", "portfolio_snapshots", {"total_value": Decimal("1E-55")}),
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
    *check("change_channel_one_row", "change_channel", {"only_row": False}),
    *check("change_channel_random", "change_channel", {"name": "novadex_changes"}),
    *check("change_channel_pkey", "change_channel", {}),
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
    *check(
        "users_username_no_id",
        "users",
        {"username": str(USER)},
        {"username": USER.hex},
        {"username": f"0{USER.hex[2:10]}_{USER.hex[10:]}"},
        {"username": f"0x{'1' * 30}"},
        {"username": ADDRESS},
    ),
    *twice("users_username_key", "users", id=OTHER_ID, email_index=b"z"),
    *twice("users_email_key", "users", id=OTHER_ID, username="other"),
    *check("users_email_whole", "users", {"email_index": None}, {"email_ciphertext": None}),
    *check("users_role_fkey", "users", {"role": "root"}),
    *check("users_preferences_size", "users", {"preferences": Jsonb({"theme": "x" * 16_384})}),
    *check(
        "users_erased_empty",
        "users",
        {"status": "erased"},
        {"status": "erased", "username": None},
        {
            "status": "erased",
            "username": None,
            "email_ciphertext": None,
            "email_index": None,
            "personal_ciphertext": b"x",
        },
        {
            "status": "erased",
            "username": None,
            "email_ciphertext": None,
            "email_index": None,
            "preferences": Jsonb({"theme": "dark"}),
        },
    ),
    *check("users_status_known", "users", {"status": "gone"}),
    *check("users_preferences_object", "users", {"preferences": Jsonb([])}),
    *check("users_version_positive", "users", {"version": 0}),
    *check("users_system_named", "users", {"kind": "system", "username": None}),
    # Wallets
    *twice("wallets_pkey", "wallets", address=OTHER_ADDRESS, is_primary=False),
    *twice("wallets_address_key", "wallets", id=OTHER_ID, is_primary=False),
    *twice("wallets_evm_key", "wallets", id=OTHER_ID, is_primary=False, address=f"0x{'AB' * 20}"),
    *twice("wallets_one_primary", "wallets", id=OTHER_ID, address=OTHER_ADDRESS),
    *check(
        "wallets_address_form",
        "wallets",
        {"address": "0x1234"},
        {"address": f"0X{'ab' * 20}"},
        {"address": f"{ADDRESS} "},
        {"address": f"{ADDRESS}\n"},
        {"chain": "solana"},
        {"chain": "solana", "address": "0" * 32},
        {"chain": "solana", "address": "1" * 31},
    ),
    *check("wallets_user_fkey", "wallets", {"user_id": UNKNOWN_ID}),
    *check("wallets_chain_form", "wallets", {"chain": "EVM"}, {"chain": "evm:"}),
    *check(
        "wallets_address_length",
        "wallets",
        {"chain": "near", "address": ""},
        {"chain": "near", "address": "0" * 129},
    ),
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
    *check("user_sessions_reason_length", "user_sessions", {"revoked_at": TIME, "revoked_reason": ""}),
    *check("user_sessions_method_known", "user_sessions", {"method": "password"}),
    *check("user_sessions_replacement_ends", "user_sessions", {"replaced_by": OTHER_ID}),
    # Roles
    *check("roles_pkey", "roles", {"name": "admin"}),
    *check("roles_name_form", "roles", {"name": "Admin"}, {"name": ""}),
    *check("roles_description_length", "roles", {"description": ""}),
    *check("permissions_pkey", "permissions", {"name": "audit.read"}),
    *check("permissions_name_form", "permissions", {"name": "audit"}, {"name": "Audit.read"}),
    *check("permissions_description_length", "permissions", {"description": ""}),
    *twice("role_permissions_pkey", "role_permissions"),
    *check("role_permissions_role_fkey", "role_permissions", {"role": "janitor"}),
    *check("role_permissions_permission_fkey", "role_permissions", {"permission": "floors.clean"}),
    # Keys
    *check("master_keys_pkey", "master_keys", {"version": 1}),
    *check("master_keys_version_positive", "master_keys", {"version": 0}),
    *check("master_keys_check_value_length", "master_keys", {"check_value": b"short"}),
    *twice("system_keys_pkey", "system_keys"),
    *check("system_keys_name_form", "system_keys", {"name": "Email"}),
    *check("system_keys_wrapped_length", "system_keys", {"wrapped_key": b"w" * 59}),
    *check("system_keys_master_fkey", "system_keys", {"master_version": UNKNOWN_NUMBER}),
    *twice("user_keys_pkey", "user_keys"),
    *check("user_keys_user_fkey", "user_keys", {"user_id": UNKNOWN_ID}),
    *check("user_keys_wrapped_length", "user_keys", {"wrapped_key": b"w" * 61}),
    *check("user_keys_master_fkey", "user_keys", {"master_version": UNKNOWN_NUMBER}),
    *twice("erasures_pkey", "erasures"),
    *check("erasures_user_fkey", "erasures", {"user_id": UNKNOWN_ID}),
    # API keys
    *twice("api_keys_pkey", "api_keys", key_hash=b"l" * 32),
    *twice("api_keys_key_key", "api_keys", id=OTHER_ID),
    *check("api_keys_user_fkey", "api_keys", {"user_id": UNKNOWN_ID}),
    *check("api_keys_name_length", "api_keys", {"name": ""}, {"name": "n" * 101}),
    *check("api_keys_key_sha256", "api_keys", {"key_hash": b"k"}),
    *check("api_keys_start_length", "api_keys", {"key_start": "ndk"}, {"key_start": "ndk_abcdefghi"}),
    *check("api_keys_permissions_some", "api_keys", {"permissions": []}),
    *check("api_keys_addresses_few", "api_keys", {"allowed_addresses": ["10.0.0.0/8"] * 101}),
    *check("api_keys_lifetime", "api_keys", {"expires_at": TIME}),
    *check("api_keys_replaced_by_fkey", "api_keys", {"replaced_by": UNKNOWN_ID}),
    *check("api_keys_revocation_whole", "api_keys", {"revoked_at": TIME}, {"revoked_reason": "lost"}),
    *check("api_keys_reason_length", "api_keys", {"revoked_at": TIME, "revoked_reason": ""}),
    # The audit log's chain
    *twice("book_snapshots_pkey", "book_snapshots"),
    *check("book_snapshots_id_v7", "book_snapshots", {"id": NOT_V7}),
    *check("book_snapshots_market_fkey", "book_snapshots", {"market_id": UNKNOWN_NUMBER}),
    *check("book_snapshots_sequence_positive", "book_snapshots", {"sequence": -1}),
    *check("book_snapshots_checksum_range", "book_snapshots", {"checksum": -1}, {"checksum": 2**32}),
    *check("book_snapshots_bids_form", "book_snapshots", {"bids": Jsonb({})}),
    *check("book_snapshots_asks_form", "book_snapshots", {"asks": Jsonb("x")}),
    *check("book_snapshots_source_form", "book_snapshots", {"source": "Binance"}, {"source": ""}),
    *twice("audit_pending_pkey", "audit_pending"),
    *check("audit_pending_sha256", "audit_pending", {"row_hash": b"h"}),
    *twice("audit_chain_pkey", "audit_chain", audit_id=1_000_001),
    *twice("audit_chain_audit_key", "audit_chain", position=2),
    *check("audit_chain_position_positive", "audit_chain", {"position": 0}),
    *check("audit_chain_row_sha256", "audit_chain", {"row_hash": b"h"}),
    *check("audit_chain_chain_sha256", "audit_chain", {"chain_hash": b"h"}),
    # Nonces
    *twice("sign_in_nonces_pkey", "sign_in_nonces"),
    *check("sign_in_nonces_sha256", "sign_in_nonces", {"nonce_hash": b"n"}),
    *check("sign_in_nonces_lifetime", "sign_in_nonces", {"expires_at": TIME}, {"expires_at": "2024-08-09 00:00+00"}),
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
        "orders_not_over_filled",
        "orders",
        {"status": "cancelled", "filled_quantity": Decimal(3)},
        {"status": "cancelled", "filled_quantity": Decimal("1E-10")},
    ),
    *check(
        "orders_filled_status",
        "orders",
        {"status": "filled"},
        {"status": "cancelled", "filled_quantity": Decimal("2.5")},
    ),
    *check(
        "orders_filled_agrees",
        "orders",
        {"filled_quantity": Decimal(1)},
        {"status": "partially_filled"},
        {"status": "rejected", "filled_quantity": Decimal(1)},
    ),
    *check("orders_placed_by_length", "orders", {"placed_by": ""}, {"placed_by": "p" * 201}),
    # Markets, fees and matches
    *check("markets_lot_positive", "markets", {"lot_size": Decimal(0)}),
    *check("markets_lot_scale", "markets", {"lot_size": Decimal("1E-7")}),
    *check("venue_pkey", "venue", {}),
    *check("venue_one_row", "venue", {"only_row": False}),
    *check("venue_status_known", "venue", {"status": "open"}),
    *check("market_sequences_pkey", "market_sequences", {}),
    *check("market_sequences_market_fkey", "market_sequences", {"market_id": UNKNOWN_NUMBER}),
    *check("market_sequences_positive", "market_sequences", {"sequence": -1}),
    *twice("fee_rates_pkey", "fee_rates"),
    *check("fee_rates_market_fkey", "fee_rates", {"market_id": UNKNOWN_NUMBER}),
    *check("fee_rates_tier_range", "fee_rates", {"tier": -1}, {"tier": 101}),
    *check(
        "fee_rates_maker_range",
        "fee_rates",
        {"maker_rate": Decimal(-1)},
        {"maker_rate": Decimal(1)},
        {"maker_rate": NAN},
        {"maker_rate": Decimal("1E-19")},
    ),
    *check("fee_rates_taker_range", "fee_rates", {"taker_rate": Decimal(1)}, {"taker_rate": Decimal("1E-19")}),
    *twice("user_fee_tiers_pkey", "user_fee_tiers"),
    *check("user_fee_tiers_user_fkey", "user_fee_tiers", {"user_id": UNKNOWN_ID}),
    *check("user_fee_tiers_range", "user_fee_tiers", {"tier": -1}, {"tier": 101}),
    *twice("order_transitions_pkey", "order_transitions"),
    *twice("matches_pkey", "matches", source_match_id="2"),
    *twice("matches_source_key", "matches", id=OTHER_ID),
    *check("matches_market_fkey", "matches", {"market_id": UNKNOWN_NUMBER}),
    *check("matches_source_form", "matches", {"source": "Venue"}),
    *check("matches_source_id_length", "matches", {"source_match_id": ""}, {"source_match_id": "1" * 129}),
    *check("matches_source_whole", "matches", {"source": None}, {"source_match_id": None}),
    *check("matches_chain_form", "matches", {"chain": "EVM"}),
    *check("matches_block_positive", "matches", {"block_number": -1}),
    *check("matches_block_whole", "matches", {"chain": None}, {"block_number": None}),
    *check("matches_hash_length", "matches", {"request_hash": b"h"}),
    *check("matches_two_trades", "matches", {"maker_trade_id": TAKER_TRADE}),
    *check("matches_undone_known", "matches", {"undone": "gone", "undone_at": TIME, "undone_by": "venue"}),
    *check("matches_undone_whole", "matches", {"undone": "busted"}, {"undone_at": TIME}, {"undone_by": "venue"}),
    *check("matches_undone_by_length", "matches", {"undone": "busted", "undone_at": TIME, "undone_by": ""}),
    *check("matches_undone_reason_length", "matches", {"undone_reason": "r" * 501}),
    *check("orders_limit_price", "orders", {"price": None}, {"type": "market"}),
    *check("orders_stop_price", "orders", {"stop_price": Decimal(1)}, {"type": "stop_limit"}),
    *check("orders_gtt_expires", "orders", {"time_in_force": "gtt"}, {"expires_at": "2030-01-01 00:00+00"}),
    *check(
        "orders_expire_later",
        "orders",
        {"time_in_force": "gtt", "expires_at": TIME},
        {"time_in_force": "gtt", "expires_at": TIME, "created_at": TIME},
    ),
    *check(
        "orders_post_only_rests",
        "orders",
        {"post_only": True, "type": "market", "price": None},
        {"post_only": True, "time_in_force": "ioc"},
    ),
    # Order events
    *check(
        "order_events_first",
        "order_events",
        {"type": "placed"},
        {"version": 1},
        {"id": ORDER},
    ),
    *check("order_events_trade_known", "order_events", {"type": "filled"}, {"trade_id": ID}),
    *check("order_events_trade_once", "order_events", {"type": "filled", "trade_id": OTHER_ID}),
    *twice("order_events_pkey", "order_events"),
    *check("order_events_order_fkey", "order_events", {"order_id": UNKNOWN_ID}),
    *check("order_events_market_fkey", "order_events", {"market_id": UNKNOWN_NUMBER}),
    *check("order_events_version_positive", "order_events", {"version": 0}),
    *check("order_events_sequence_positive", "order_events", {"market_sequence": 0}),
    *check("order_events_type_known", "order_events", {"type": "lost"}),
    *check("order_events_status_known", "order_events", {"status": "lost"}),
    *check("order_events_reason_length", "order_events", {"reason": "r" * 501}),
    *check(
        "order_events_rejected_why",
        "order_events",
        {"type": "rejected", "status": "rejected"},
        {"type": "rejected", "status": "rejected", "reason": ""},
    ),
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
    *check("liquidity_positions_pool_fkey", "liquidity_positions", {"pool_id": UNKNOWN_ID}),
    *check("liquidity_positions_source_form", "liquidity_positions", {"source": "EVM", "source_position_id": "1"}),
    *check(
        "liquidity_positions_source_id_length",
        "liquidity_positions",
        {"source": "evm", "source_position_id": ""},
        {"source": "evm", "source_position_id": "1" * 129},
    ),
    *check("liquidity_positions_source_whole", "liquidity_positions", {"source": "evm"}, {"source_position_id": "1"}),
    Attack(
        "liquidity_positions_source_key",
        "liquidity_positions",
        {"source": "evm", "source_position_id": "1"},
        before=(
            "INSERT INTO liquidity_positions (id, user_id, market_id, pool_id, kind, tick_lower, tick_upper,"
            " liquidity, base_amount, quote_amount, opened_at, source, source_position_id)"
            f" VALUES ('{OTHER_ID}', '{USER}', 1, '{POOL}', 'concentrated', -10, 10, 7, 1, 100, '{TIME}', 'evm', '1')"
        ),
    ),
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
    # Pools and events
    *twice("pools_pkey", "pools", address="0xthird"),
    *twice("pools_address_key", "pools", id=OTHER_ID),
    *check("pools_market_fkey", "pools", {"market_id": UNKNOWN_NUMBER}),
    *check("pools_kind_known", "pools", {"kind": "stable", "tick_spacing": None}),
    *check("pools_address_length", "pools", {"address": ""}, {"address": "0" * 129}),
    *check("pools_fee_range", "pools", {"fee_ppm": -1}, {"fee_ppm": 1_000_000}),
    *check("pools_tick_spacing_range", "pools", {"tick_spacing": 0}, {"tick_spacing": 32_768}),
    *check("pools_ticks_whole", "pools", {"tick_spacing": None}, {"kind": "constant_product"}),
    Attack(
        "pools_identity_key",
        "pools",
        {"id": POOL},
        before="ALTER TABLE pools DROP CONSTRAINT pools_pkey CASCADE",
    ),
    *twice("liquidity_events_pkey", "liquidity_events", version=3),
    *twice("liquidity_events_once", "liquidity_events", id=OTHER_ID),
    *check("liquidity_events_position_fkey", "liquidity_events", {"position_id": UNKNOWN_ID}),
    *check("liquidity_events_user_fkey", "liquidity_events", {"user_id": UNKNOWN_ID}),
    *check("liquidity_events_market_fkey", "liquidity_events", {"market_id": UNKNOWN_NUMBER}),
    *check("liquidity_events_version_positive", "liquidity_events", {"version": 0}),
    *check("liquidity_events_type_known", "liquidity_events", {"type": "burned"}),
    *check("liquidity_events_source_form", "liquidity_events", {"source": "EVM", "source_event_id": "1"}),
    *check(
        "liquidity_events_source_id_length",
        "liquidity_events",
        {"source": "evm", "source_event_id": ""},
        {"source": "evm", "source_event_id": "1" * 129},
    ),
    *check("liquidity_events_source_whole", "liquidity_events", {"source": "evm"}, {"source_event_id": "1"}),
    Attack(
        "liquidity_events_source_key",
        "liquidity_events",
        {"version": 3, "source": "evm", "source_event_id": "1"},
        before=(
            "INSERT INTO liquidity_events (id, position_id, version, user_id, market_id, type, liquidity,"
            " base_amount, quote_amount, executed_at, source, source_event_id)"
            f" VALUES ('{OTHER_ID}', '{POSITION}', 2, '{USER}', 1, 'collected', 7, 0, 0, '{TIME}', 'evm', '1')"
        ),
    ),
    *check("liquidity_events_actor_length", "liquidity_events", {"actor": ""}, {"actor": "a" * 201}),
    *check("liquidity_events_id_v7", "liquidity_events", {"id": NOT_V7}),
    *check("liquidity_events_id_time", "liquidity_events", {"executed_at": "2024-08-08 23:54:00.124+00"}),
    *check("liquidity_events_first", "liquidity_events", {"version": 1}, {"id": POSITION}),
    *check(
        "liquidity_events_last",
        "liquidity_events",
        {"liquidity": Decimal(0)},
        {"type": "closed", "base_fees": Decimal(0)},
    ),
    *check(
        "liquidity_events_amounts",
        "liquidity_events",
        {"base_amount": Decimal(1)},
        {"type": "increased", "liquidity": Decimal(8)},
    ),
    *twice("pool_snapshots_pkey", "pool_snapshots"),
    *check("pool_snapshots_pool_fkey", "pool_snapshots", {"pool_id": UNKNOWN_ID}),
    *check("pool_snapshots_source_form", "pool_snapshots", {"source": "Uniswap"}),
    *check("pool_snapshots_ticks_whole", "pool_snapshots", {"open_tick": None}),
    *check(
        "pool_snapshots_ticks_ordered",
        "pool_snapshots",
        {"lowest_tick": 2},
        {"highest_tick": 1},
        {"lowest_tick": -887_273},
        {"highest_tick": 887_273},
    ),
    *check(
        "pool_snapshots_state",
        "pool_snapshots",
        {"base_reserve": Decimal(1)},
        {"open_tick": None, "close_tick": None, "lowest_tick": None, "highest_tick": None},
    ),
    # Transfers and prices
    *twice("transfers_pkey", "transfers"),
    *check("transfers_user_fkey", "transfers", {"user_id": UNKNOWN_ID}),
    *check("transfers_kind_known", "transfers", {"kind": "gift"}),
    *check("transfers_asset_fkey", "transfers", {"asset_id": UNKNOWN_NUMBER}),
    *check("transfers_market_fkey", "transfers", {"kind": "funding", "market_id": UNKNOWN_NUMBER}),
    *check("transfers_amount_not_zero", "transfers", {"amount": Decimal(0)}),
    *check("transfers_source_form", "transfers", {"source": "EVM", "source_transfer_id": "1"}),
    *check(
        "transfers_source_id_length",
        "transfers",
        {"source": "evm", "source_transfer_id": ""},
        {"source": "evm", "source_transfer_id": "1" * 129},
    ),
    *check("transfers_source_whole", "transfers", {"source": "evm"}, {"source_transfer_id": "1"}),
    Attack(
        "transfers_source_key",
        "transfers",
        {"source": "evm", "source_transfer_id": "1"},
        before=(
            "INSERT INTO transfers (id, user_id, kind, asset_id, amount, executed_at, source, source_transfer_id)"
            f" VALUES ('{OTHER_ID}', '{USER}', 'deposit', {MONEY}, 1, '{TIME}', 'evm', '1')"
        ),
    ),
    Attack(
        "transfers_reverses_fkey",
        "transfers",
        {"reverses": UNKNOWN_ID, "amount": Decimal(-5)},
        before="ALTER TABLE transfers DISABLE TRIGGER transfers_check",
    ),
    Attack(
        "transfers_reverses_key",
        "transfers",
        {"reverses": TRANSFER, "amount": Decimal(-5)},
        before=(
            "INSERT INTO transfers (id, user_id, kind, asset_id, amount, executed_at, reverses)"
            f" VALUES ('{OTHER_ID}', '{USER}', 'deposit', {MONEY}, -5, '{TIME}', '{TRANSFER}')"
        ),
    ),
    *check("transfers_note_length", "transfers", {"note": ""}, {"note": "n" * 501}),
    *check("transfers_recorded_by_length", "transfers", {"recorded_by": ""}, {"recorded_by": "p" * 201}),
    *check("transfers_id_v7", "transfers", {"id": NOT_V7}),
    *check("transfers_id_time", "transfers", {"executed_at": "2024-08-08 23:54:00.124+00"}),
    *check("transfers_funding_market", "transfers", {"kind": "funding"}, {"market_id": MARKET}),
    *check("transfers_sign", "transfers", {"amount": Decimal(-1)}),
    *check(
        "transfers_reversal_has_no_source",
        "transfers",
        {"reverses": TRANSFER, "amount": Decimal(-5), "source": "evm", "source_transfer_id": "1"},
    ),
    *twice("prices_pkey", "prices"),
    *check("prices_market_fkey", "prices", {"market_id": UNKNOWN_NUMBER}),
    *check("prices_source_form", "prices", {"source": "Feed"}),
    # What is derived
    *twice("main_projections_pkey", "main_projections"),
    *check("main_projections_name_form", "main_projections", {"name": "Portfolio"}),
    *check("main_projections_epoch_positive", "main_projections", {"epoch": 0}),
    *check("main_projections_applied_positive", "main_projections", {"applied": -1}),
    *check("main_projections_set_aside_positive", "main_projections", {"set_aside": -1}),
    *twice("portfolio_holdings_pkey", "portfolio_holdings"),
    *twice("portfolio_flows_pkey", "portfolio_flows"),
    *twice("portfolio_positions_pkey", "portfolio_positions"),
    *check(
        "portfolio_positions_signs",
        "portfolio_positions",
        {"quantity": Decimal(0)},
        {"quantity": Decimal(-2)},
        {"cost": Decimal(-200), "realized": Decimal(-370)},
    ),
    *check("portfolio_positions_conserve", "portfolio_positions", {"realized": Decimal(31)}),
    *twice("portfolio_lots_pkey", "portfolio_lots"),
    *check(
        "portfolio_lots_remainder",
        "portfolio_lots",
        {"quantity": Decimal(3)},
        {"quantity": Decimal(-1)},
        {"cost": Decimal(201)},
        {"quantity": Decimal(0)},
        {"opened_quantity": Decimal(-2)},
    ),
    *twice("portfolio_closings_pkey", "portfolio_closings"),
    *check("portfolio_closings_quantity_not_zero", "portfolio_closings", {"quantity": Decimal(0)}),
    # Portfolios
    *twice("portfolio_snapshots_pkey", "portfolio_snapshots", taken_at=DAY_START),
    *twice("portfolio_snapshots_once", "portfolio_snapshots", id=OTHER_ID),
    *check("portfolio_snapshots_user_fkey", "portfolio_snapshots", {"user_id": UNKNOWN_ID}),
    *check("portfolio_snapshots_asset_fkey", "portfolio_snapshots", {"valuation_asset_id": UNKNOWN_NUMBER}),
    *check("portfolio_snapshots_holdings_array", "portfolio_snapshots", {"holdings": Jsonb({})}),
    *check("portfolio_snapshots_positions_array", "portfolio_snapshots", {"positions": Jsonb({})}),
    *check(
        "portfolio_snapshots_adds_up",
        "portfolio_snapshots",
        {"total_value": Decimal(0)},
        {"fees": Decimal(1)},
        {"pool_profit": Decimal("1E-54")},
    ),
    # Notifications
    *twice("notifications_pkey", "notifications"),
    *check("notifications_user_fkey", "notifications", {"user_id": UNKNOWN_ID}),
    *check("notifications_kind_form", "notifications", {"kind": "Order"}),
    *check("notifications_title_length", "notifications", {"title": ""}, {"title": "t" * 201}),
    *check("notifications_body_length", "notifications", {"body": "b" * 10_001}),
    *twice("notifications_once", "notifications", id=OTHER_ID),
    *check("notifications_cause_length", "notifications", {"cause_id": ""}, {"cause_id": "c" * 201}),
    *check("notifications_kind_fkey", "notifications", {"kind": "floor_cleaned"}),
    *check("notifications_data_size", "notifications", {"data": Jsonb({"text": "x" * 16_384})}),
    *check("notification_kinds_pkey", "notification_kinds", {"name": "order_filled"}),
    *check("notification_kinds_name_form", "notification_kinds", {"name": "Floor"}),
    *check("notification_kinds_description_length", "notification_kinds", {"description": ""}),
    *check("notification_kinds_fields_form", "notification_kinds", {"fields": ["Room"]}, {"fields": [None]}),
    *check("notification_kinds_defaults_known", "notification_kinds", {"default_channels": ["fax"]}),
    *check("notification_kinds_required_known", "notification_kinds", {"required_channels": ["fax"]}),
    *twice("notification_templates_pkey", "notification_templates"),
    Attack(
        "notification_templates_kind_fkey",
        "notification_templates",
        {"kind": "floor_cleaned", "subject": "Clean", "body": "Yes."},
    ),
    *check("notification_templates_channel_known", "notification_templates", {"channel": "fax"}),
    *check("notification_templates_locale_form", "notification_templates", {"locale": "german"}),
    *check("notification_templates_subject_length", "notification_templates", {"subject": ""}),
    *check("notification_templates_subject_one_line", "notification_templates", {"subject": "a\r\nBcc: b"}),
    *check("notification_templates_body_length", "notification_templates", {"body": ""}, {"body": "b" * 5_001}),
    *check("notification_templates_html_length", "notification_templates", {"html": ""}),
    *check("notification_templates_html_email", "notification_templates", {"channel": "webhook", "html": "<p>"}),
    *twice("notification_preferences_pkey", "notification_preferences"),
    *check("notification_preferences_user_fkey", "notification_preferences", {"user_id": UNKNOWN_ID}),
    *check("notification_preferences_kind_fkey", "notification_preferences", {"kind": "floor_cleaned"}),
    *check("notification_preferences_channel_known", "notification_preferences", {"channel": "fax"}),
    *twice("notification_webhooks_pkey", "notification_webhooks"),
    *check("notification_webhooks_user_fkey", "notification_webhooks", {"user_id": UNKNOWN_ID}),
    *check("notification_webhooks_url_length", "notification_webhooks", {"url_ciphertext": b"u" * 29}),
    *check("notification_webhooks_secret_length", "notification_webhooks", {"secret_ciphertext": b"s" * 29}),
    *twice("notification_deliveries_pkey", "notification_deliveries"),
    *check("notification_deliveries_notification_fkey", "notification_deliveries", {"notification_id": UNKNOWN_ID}),
    *check("notification_deliveries_channel_known", "notification_deliveries", {"channel": "in_app"}),
    *check("notification_deliveries_status_known", "notification_deliveries", {"status": "lost", "attempts": 1}),
    *check("notification_deliveries_series_positive", "notification_deliveries", {"series": 0}),
    *check("notification_deliveries_attempts_range", "notification_deliveries", {"attempts": -1}, {"attempts": 101}),
    *check("notification_deliveries_error_length", "notification_deliveries", {"last_error": "e" * 501}),
    *check(
        "notification_deliveries_leased",
        "notification_deliveries",
        {"status": "sending", "attempts": 1},
        {"lease": ID},
    ),
    *check(
        "notification_deliveries_finished",
        "notification_deliveries",
        {"status": "dead", "attempts": 1},
        {"finished_at": TIME},
    ),
    *check("notification_deliveries_attempted", "notification_deliveries", {"status": "sending", "lease": ID}),
    *twice("notification_positions_pkey", "notification_positions"),
    *check("notification_positions_market_fkey", "notification_positions", {"market_id": UNKNOWN_NUMBER}),
    *check("notification_positions_positive", "notification_positions", {"market_sequence": -1}),
    *twice("price_alerts_pkey", "price_alerts"),
    *check("price_alerts_id_v7", "price_alerts", {"id": NOT_V7}),
    *check("price_alerts_user_fkey", "price_alerts", {"user_id": UNKNOWN_ID}),
    *check("price_alerts_market_fkey", "price_alerts", {"market_id": UNKNOWN_NUMBER}),
    *check("price_alerts_direction_known", "price_alerts", {"direction": "sideways"}),
    *check("price_alerts_status_known", "price_alerts", {"status": "lost", "triggered_at": TIME}),
    *check("price_alerts_triggered", "price_alerts", {"status": "done"}),
    *check(
        "price_alerts_once_done",
        "price_alerts",
        {"status": "waiting", "triggered_at": TIME},
        {"status": "done", "once": False, "triggered_at": TIME},
    ),
    *check("price_alert_position_pkey", "price_alert_position", {}),
    *check("price_alert_position_one_row", "price_alert_position", {"only_row": False}),
    *twice("known_devices_pkey", "known_devices"),
    *check("known_devices_user_fkey", "known_devices", {"user_id": UNKNOWN_ID}),
    *check("known_devices_sha256", "known_devices", {"device_hash": b"d"}),
    *twice("new_sign_ins_pkey", "new_sign_ins"),
    *twice("system_notices_pkey", "system_notices"),
    *check("system_notices_id_v7", "system_notices", {"id": NOT_V7}),
    *check("system_notices_role_fkey", "system_notices", {"role": "janitor"}),
    *check("system_notices_title_length", "system_notices", {"title": ""}, {"title": "t" * 201}),
    *check("system_notices_body_length", "system_notices", {"body": ""}, {"body": "b" * 5_001}),
    *check("system_notices_fit", "system_notices", {"body": "\x01" * 3_000}),
    # Audit
    *twice("audit_log_pkey", "audit_log", id=900, before="ALTER TABLE audit_log ALTER id RESTART WITH 900"),
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
SETUP = {"main": SETUP_MAIN + SETUP_TRADES, "analytics": SETUP_ANALYTICS}


def insert(connection: psycopg.Connection[Any], table: str, values: Values) -> None:
    """Insert one row, keys that the database would make included."""
    names: Composable = SQL(", ").join(map(Identifier, values))
    connection.execute(
        SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE VALUES ({})").format(
            Identifier(table), names, SQL(", ").join(Placeholder() * len(values))
        ),
        list(values.values()),
    )
