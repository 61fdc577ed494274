-- name: all_assets
-- Every asset, by symbol.
SELECT id, symbol, name, decimals FROM assets ORDER BY symbol LIMIT $1;

-- name: asset_by_symbol
-- One asset.
SELECT id, symbol, name, decimals FROM assets WHERE symbol = $1;

-- name: add_asset
-- A new asset; nothing where the symbol is taken.
INSERT INTO assets (symbol, name, decimals) VALUES ($1, $2, $3)
ON CONFLICT (symbol) DO NOTHING
RETURNING id, symbol, name, decimals;

-- name: all_markets
-- Markets by symbol, a page at a time.
SELECT m.id, m.symbol, b.symbol AS base_asset, q.symbol AS quote_asset, m.base_decimals, m.quote_decimals, m.status,
    m.tick_size, m.lot_size
FROM markets m
JOIN assets b ON b.id = m.base_asset_id
JOIN assets q ON q.id = m.quote_asset_id
WHERE m.symbol > $1
ORDER BY m.symbol
LIMIT $2;

-- name: market_by_symbol
-- One market by its symbol.
SELECT m.id, m.symbol, b.symbol AS base_asset, q.symbol AS quote_asset, m.base_decimals, m.quote_decimals, m.status,
    m.tick_size, m.lot_size
FROM markets m
JOIN assets b ON b.id = m.base_asset_id
JOIN assets q ON q.id = m.quote_asset_id
WHERE m.symbol = $1;

-- name: add_market
-- A new market of two assets; nothing where the symbol is taken.
INSERT INTO markets (symbol, base_asset_id, quote_asset_id, base_decimals, quote_decimals)
SELECT $1, b.id, q.id, b.decimals, q.decimals FROM assets b, assets q WHERE b.symbol = $2 AND q.symbol = $3
ON CONFLICT (symbol) DO NOTHING
RETURNING id;

-- name: hold_market
-- Holds a market until the commit: orders that are being placed in it come first, the next ones after.
SELECT sequence FROM market_sequences WHERE market_id = $1 FOR UPDATE;

-- name: hold_all_markets
-- Holds all markets until the commit.
SELECT market_id FROM market_sequences ORDER BY market_id FOR UPDATE;

-- name: set_status
-- Opens, restricts or halts a market.
UPDATE markets SET status = $2 WHERE id = $1;

-- name: set_venue_status
-- Opens, restricts or halts all markets.
UPDATE venue SET status = $1;

-- name: venue_status
-- The kill switch.
SELECT status FROM venue;

-- name: set_sizes
-- The steps of prices and quantities of a market's orders.
UPDATE markets SET tick_size = $2, lot_size = $3 WHERE id = $1;

-- name: set_fees
-- The fees of a tier.
INSERT INTO fee_rates AS f (market_id, tier, maker_rate, taker_rate) VALUES ($1, $2, $3, $4)
ON CONFLICT (market_id, tier) DO UPDATE SET maker_rate = excluded.maker_rate, taker_rate = excluded.taker_rate
WHERE (f.maker_rate, f.taker_rate) <> (excluded.maker_rate, excluded.taker_rate);

-- name: fees_of_market
-- The fees of a market by tier.
SELECT m.symbol AS market, f.tier, f.maker_rate, f.taker_rate
FROM fee_rates f JOIN markets m ON m.id = f.market_id
WHERE f.market_id = $1 ORDER BY f.tier;

-- name: set_fee_tier
-- The fee tier of a user.
INSERT INTO user_fee_tiers AS t (user_id, tier) VALUES ($1, $2)
ON CONFLICT (user_id) DO UPDATE SET tier = excluded.tier WHERE t.tier <> excluded.tier;

-- name: ensure_system_account
-- The system account of a source of market trades, made where it is missing.
INSERT INTO users (id, kind, username) VALUES ($1, 'system', $2) ON CONFLICT (username) DO NOTHING;

-- name: system_account
-- The id of a system account.
SELECT id FROM users WHERE username = $1 AND kind = 'system';

-- name: copy_trades
-- Trades as text, at COPY's speed; any bad row refuses them all.
COPY trades (id, user_id, market_id, base_decimals, quote_decimals, type, side, liquidity, base_amount, quote_amount,
    price, fee_amount, fee_asset_id, executed_at, sequence, match_id, order_id, source, source_trade_id) FROM STDIN;

-- name: copy_keys
-- Idempotency keys as text; a key that is taken refuses them all.
COPY idempotency_keys (user_id, key, request_hash, trade_id) FROM STDIN;

-- name: make_staging
-- A place for trades that may be there already; it is empty at the end of every transaction.
CREATE TEMPORARY TABLE IF NOT EXISTS staged_trades (
    id uuid, user_id uuid, market_id integer, base_decimals smallint, quote_decimals smallint, type text, side text,
    liquidity text, base_amount numeric, quote_amount numeric, price numeric, fee_amount numeric, fee_asset_id integer,
    executed_at timestamptz, sequence bigint, match_id uuid, order_id uuid, source text, source_trade_id text
) ON COMMIT DELETE ROWS;

-- name: copy_staging
-- Trades as text into the staging table.
COPY staged_trades FROM STDIN;

-- name: add_staged
-- Writes the staged trades whose id is free; returns the ids that were written.
INSERT INTO trades (id, user_id, market_id, base_decimals, quote_decimals, type, side, liquidity, base_amount,
    quote_amount, price, fee_amount, fee_asset_id, executed_at, sequence, match_id, order_id, source, source_trade_id)
SELECT * FROM staged_trades ORDER BY id
ON CONFLICT (id) DO NOTHING
RETURNING id;

-- name: claim_keys
-- Takes the idempotency keys that are free; returns those that were taken.
INSERT INTO idempotency_keys (user_id, key, request_hash, trade_id)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::uuid[]) AS claimed (user_id, key, request_hash, trade_id)
ORDER BY user_id, key
ON CONFLICT (user_id, key) DO NOTHING
RETURNING user_id, key;

-- name: known_keys
-- What idempotency keys stand for.
SELECT k.user_id, k.key, k.request_hash, k.trade_id
FROM idempotency_keys k
JOIN unnest($1::uuid[], $2::text[]) AS wanted (user_id, key) ON k.user_id = wanted.user_id AND k.key = wanted.key;

-- name: known_users
-- Which of these users exist.
SELECT id FROM users WHERE id = ANY($1::uuid[]);

-- name: ensure_trade_partitions
-- Partitions for trades from one moment to another.
SELECT ensure_partitions('trades', $1, $2);

-- name: trades_by_ids
-- Trades by their ids.
SELECT t.id, t.user_id, m.symbol AS market, t.type, t.side, t.liquidity, t.base_amount, t.quote_amount, t.price,
    t.fee_amount, f.symbol AS fee_asset, t.executed_at, t.sequence, t.match_id, t.order_id, t.source, t.source_trade_id, t.reverses
FROM trades t
JOIN markets m ON m.id = t.market_id
LEFT JOIN assets f ON f.id = t.fee_asset_id
WHERE t.id = ANY($1::uuid[]);

-- name: trades_newest
-- A page of all trades, newest first: ids in [$2, $1).
SELECT t.id, t.user_id, m.symbol AS market, t.type, t.side, t.liquidity, t.base_amount, t.quote_amount, t.price,
    t.fee_amount, f.symbol AS fee_asset, t.executed_at, t.sequence, t.match_id, t.order_id, t.source, t.source_trade_id, t.reverses
FROM trades t
JOIN markets m ON m.id = t.market_id
LEFT JOIN assets f ON f.id = t.fee_asset_id
WHERE t.id < $1 AND t.id >= $2
ORDER BY t.id DESC
LIMIT $3;

-- name: trades_of_user
-- A page of a user's trades, newest first, in one market where $4 is given.
SELECT t.id, t.user_id, m.symbol AS market, t.type, t.side, t.liquidity, t.base_amount, t.quote_amount, t.price,
    t.fee_amount, f.symbol AS fee_asset, t.executed_at, t.sequence, t.match_id, t.order_id, t.source, t.source_trade_id, t.reverses
FROM trades t
JOIN markets m ON m.id = t.market_id
LEFT JOIN assets f ON f.id = t.fee_asset_id
WHERE t.user_id = $5 AND t.id < $1 AND t.id >= $2 AND ($4::integer IS NULL OR t.market_id = $4)
ORDER BY t.id DESC
LIMIT $3;

-- name: trades_of_market
-- A page of a market's trades, newest first.
SELECT t.id, t.user_id, m.symbol AS market, t.type, t.side, t.liquidity, t.base_amount, t.quote_amount, t.price,
    t.fee_amount, f.symbol AS fee_asset, t.executed_at, t.sequence, t.match_id, t.order_id, t.source, t.source_trade_id, t.reverses
FROM trades t
JOIN markets m ON m.id = t.market_id
LEFT JOIN assets f ON f.id = t.fee_asset_id
WHERE t.market_id = $4 AND t.id < $1 AND t.id >= $2
ORDER BY t.id DESC
LIMIT $3;
