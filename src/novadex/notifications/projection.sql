-- What orders tell their users: the events of each market, in their sequence.

-- name: follow_markets
-- Each market has a position.
INSERT INTO notification_positions (market_id)
SELECT id FROM markets m WHERE NOT EXISTS (SELECT FROM notification_positions p WHERE p.market_id = m.id)
ON CONFLICT (market_id) DO NOTHING;

-- name: markets_behind
-- Markets with events that nobody looked at.
SELECT s.market_id
FROM market_sequences s LEFT JOIN notification_positions p ON p.market_id = s.market_id
WHERE s.sequence > coalesce(p.market_sequence, 0)
ORDER BY s.market_id;

-- name: lock_position
-- The position of a market, held until the commit; no row where another worker holds it.
SELECT market_sequence FROM notification_positions WHERE market_id = $1 FOR NO KEY UPDATE SKIP LOCKED;

-- name: next_events
-- What users are told of the next events of a market, in order, at most $4 of them: a row each, and the first columns say up
-- to which event was looked, of $3 at most, and whether there may be more; a row without id where nothing is told. Commits
-- come in the order of the sequence, so what is seen has no gap. What the user did is not told: by a session or an API
-- key, or by the same hand that placed the order.
WITH batch AS (
    SELECT * FROM order_events WHERE market_id = $1 AND market_sequence > $2 ORDER BY market_sequence LIMIT $3
), told AS (
    SELECT e.id, e.market_sequence, e.type, e.status, e.order_id, o.user_id, o.client_order_id, m.symbol AS market, o.side,
        trim_scale(e.quantity)::text AS quantity, trim_scale(e.filled_quantity)::text AS filled_quantity,
        e.reason, e.occurred_at, e.trade_id, trim_scale(t.base_amount)::text AS amount, trim_scale(t.price)::text AS price
    FROM batch e
    JOIN orders o ON o.id = e.order_id
    JOIN markets m ON m.id = e.market_id
    LEFT JOIN trades t ON t.id = e.trade_id
    WHERE e.type IN ('filled', 'busted', 'expired', 'rejected')
        OR e.type = 'cancelled' AND e.actor <> o.placed_by AND e.actor <> 'user:' || o.user_id::text
            AND NOT EXISTS (SELECT FROM api_keys k WHERE k.user_id = o.user_id AND e.actor = 'api_key:' || k.id::text)
    ORDER BY e.market_sequence
    LIMIT $4
), looked_at AS (
    SELECT
        CASE WHEN told.number = $4 THEN told.last ELSE batch.last END AS up_to,
        told.number = $4 OR batch.number = $3 AS more
    FROM (SELECT count(*) AS number, max(market_sequence) AS last FROM batch) AS batch,
        (SELECT count(*) AS number, max(market_sequence) AS last FROM told) AS told
)
SELECT looked_at.*, told.* FROM looked_at LEFT JOIN told ON true ORDER BY told.market_sequence;

-- name: move_position
-- Users were told up to this event.
UPDATE notification_positions SET market_sequence = $2 WHERE market_id = $1;
