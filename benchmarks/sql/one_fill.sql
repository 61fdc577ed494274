-- One fill in one transaction: the market is held, then both executions, the match and both events are written.
\set market random(1, 16)
\set bid random(1, 64)
\set ask random(1, 64)
BEGIN;
SELECT sequence, taker_trade, left(taker_trade::text, 13) || substr(uuidv7()::text, 14) AS maker_trade, uuidv7() AS match,
    '019b0000-0000-7000-9000-' || lpad(to_hex(:market::integer), 4, '0') || '0' || lpad(to_hex(:bid::integer), 7, '0') AS bid_order,
    '019b0000-0000-7000-9000-' || lpad(to_hex(:market::integer), 4, '0') || '1' || lpad(to_hex(:ask::integer), 7, '0') AS ask_order
FROM market_sequences s, uuidv7() AS taker_trade WHERE market_id = :market::integer FOR UPDATE OF s \gset
INSERT INTO trades (id, user_id, market_id, base_decimals, quote_decimals, side, liquidity, base_amount, quote_amount, price, fee_amount,
    fee_asset_id, executed_at, match_id, order_id)
SELECT t.id, o.user_id, o.market_id, 18, 18, o.side, t.liquidity, 0.5, 30918.815, 61837.63, 30.918815, m.quote_asset_id,
    uuid_extract_timestamp(t.id), :match::uuid, o.id
FROM (VALUES (:taker_trade::uuid, :bid_order::uuid, 'taker'), (:maker_trade::uuid, :ask_order::uuid, 'maker')) AS t (id, order_id, liquidity)
JOIN orders o ON o.id = t.order_id JOIN markets m ON m.id = o.market_id;
INSERT INTO matches (id, market_id, taker_trade_id, maker_trade_id, source, source_match_id, request_hash, executed_at)
VALUES (:match::uuid, :market::integer, :taker_trade::uuid, :maker_trade::uuid, 'pgbench', :match::text, '\x00000000000000000000000000000000',
    uuid_extract_timestamp(:taker_trade::uuid));
INSERT INTO order_events (id, order_id, version, market_id, market_sequence, type, status, quantity, filled_quantity, price, actor, trade_id)
SELECT t.id, o.id, o.version + 1, o.market_id, :sequence::bigint + t.n, 'filled', 'partially_filled', o.quantity, o.filled_quantity + 0.5, o.price,
    'pgbench', t.id
FROM (VALUES (1, :taker_trade::uuid, :bid_order::uuid), (2, :maker_trade::uuid, :ask_order::uuid)) AS t (n, id, order_id)
JOIN orders o ON o.id = t.order_id;
COMMIT;
