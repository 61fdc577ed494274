-- One trade in one transaction: the same rows as create_trade writes, by the cheapest statement there is.
\set user random(1, 1000)
INSERT INTO trades (id, user_id, market_id, base_decimals, quote_decimals, type, side, liquidity, base_amount, quote_amount, price, fee_amount, executed_at)
SELECT id, ('019b0000-0000-7000-8000-' || lpad(to_hex(:user::integer), 12, '0'))::uuid, 1, 18, 18, 'spot', 'buy', 'taker', 0.5, 30918.815, 61837.63, 0, uuid_extract_timestamp(id)
FROM (SELECT uuidv7() AS id OFFSET 0) made;
