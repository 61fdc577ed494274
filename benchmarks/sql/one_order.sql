-- One order in one transaction: what place_order writes, by the cheapest statement there is; the trigger writes its event.
\set user random(1, 1000)
\set market random(1, 16)
INSERT INTO orders (id, user_id, market_id, base_decimals, quote_decimals, side, type, quantity, price, created_at, updated_at, placed_by)
SELECT uuidv7(), ('019b0000-0000-7000-8000-' || lpad(to_hex(:user::integer), 12, '0'))::uuid, :market::integer, 18, 18, 'buy', 'limit', 0.5, 61837.63, now(), now(), 'pgbench';
