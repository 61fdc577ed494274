INSERT INTO orders (id, user_id, market_id, base_decimals, quote_decimals, side, type, quantity, price)
SELECT o.id, $1, m.id, m.base_decimals, m.quote_decimals, o.side, 'limit', 1, o.price
FROM unnest($3::uuid[], $4::text[], $5::numeric[]) AS o (id, side, price), markets m
WHERE m.id = $2
