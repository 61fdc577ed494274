WITH held AS (
    SELECT sequence FROM market_sequences WHERE market_id = $1 FOR UPDATE
)
INSERT INTO order_events (id, order_id, version, market_id, market_sequence, type, status, quantity, filled_quantity, price, actor)
SELECT c.id, c.order_id, 2, $1, held.sequence + c.number, 'cancelled', 'cancelled', 1, 0, c.price, o.placed_by
FROM unnest($2::uuid[], $3::uuid[], $4::numeric[]) WITH ORDINALITY AS c (id, order_id, price, number)
JOIN orders o ON o.id = c.order_id, held
