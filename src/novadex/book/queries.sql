-- Books: what the projection follows, and what they are rebuilt from.

-- name: life
-- Which life of the database this is, as keys of the cache server name it.
SELECT concat_ws('-',
    coalesce(to_hex(nullif(system_identifier(), 0)), current_database()),
    (SELECT oid FROM pg_database WHERE datname = current_database()),
    left(pg_walfile_name(pg_current_wal_lsn()), 8),
    (SELECT epoch FROM recovery_epoch));

-- name: own
-- One projector for a shard: true for the first who asks, for as long as their connection lives.
SELECT pg_try_advisory_lock(1651470187, $1);

-- name: read_by_index
-- For the session of a projector: a plan that was made while a table was small stays when it is not any more, and must
-- not be one that reads it whole.
SELECT set_config('enable_seqscan', 'off', false), set_config('enable_bitmapscan', 'off', false),
    set_config('enable_sort', 'off', false), set_config('jit', 'off', false);

-- name: own_market
-- One import into a market at a time.
SELECT pg_try_advisory_lock(1651470188, $1);

-- name: news
-- How a shard stands, which moves whenever a market of it has a new event: one row however many markets there are; and
-- beside it, by the same look, the next events of some markets, a bounded number of each. What rests is looked up order
-- by order, whatever the planner believes of their number; orders that left the book are not looked up at all.
SELECT pulse.*, e.*
FROM (
    SELECT coalesce(sum(sequence), 0)::bigint AS events, count(*) AS markets, (SELECT epoch FROM recovery_epoch) AS epoch
    FROM market_sequences
    WHERE market_id % $2 = $1
) AS pulse
LEFT JOIN (
    SELECT e.market_id, e.market_sequence, e.order_id::text, e.type, e.status, e.price::text,
        (e.quantity - e.filled_quantity)::text, o.side, coalesce(o.may_rest, false)
    FROM unnest($3::integer[], $4::bigint[]) AS known (market_id, sequence)
    CROSS JOIN LATERAL (
        SELECT * FROM order_events
        WHERE market_id = known.market_id AND market_sequence > known.sequence
        ORDER BY market_sequence
        LIMIT $5
    ) AS e
    LEFT JOIN LATERAL (
        SELECT side, type IN ('limit', 'stop_limit') AND time_in_force IN ('gtc', 'gtt') AS may_rest
        FROM orders WHERE id = e.order_id AND e.status IN ('open', 'partially_filled') LIMIT 1
    ) AS o ON true
) AS e ON true
ORDER BY e.market_id, e.market_sequence;

-- name: moved
-- The markets of the shard whose number is not the known one.
SELECT s.market_id, s.sequence
FROM market_sequences s
LEFT JOIN unnest($3::integer[], $4::bigint[]) AS known (market_id, sequence) ON known.market_id = s.market_id
WHERE s.market_id % $2 = $1 AND s.sequence <> coalesce(known.sequence, 0)
ORDER BY s.market_id;

-- name: market
-- A market, the number of its last event, and the decimals of the finest price among its live orders and its tick size.
SELECT m.id, m.symbol, m.base_decimals, s.sequence,
    EXISTS (SELECT FROM book_snapshots b WHERE b.market_id = m.id) AS external,
    greatest(
        coalesce(min_scale(m.tick_size), 0),
        coalesce((
            SELECT max(min_scale(o.price)) FROM orders o
            WHERE o.market_id = m.id AND o.status IN ('untriggered', 'open', 'partially_filled')
        ), 0)
    ) AS price_decimals
FROM markets m
JOIN market_sequences s ON s.market_id = m.id
WHERE m.id = $1;

-- name: mark
-- What a market's book follows from: the same mark, the same book.
SELECT concat_ws(' ', s.sequence,
    (SELECT b.id FROM book_snapshots b WHERE b.market_id = s.market_id ORDER BY b.id DESC LIMIT 1))
FROM market_sequences s WHERE s.market_id = $1;

-- name: resting_orders
-- The orders in a market's book, each with the number of the event that gave it its place.
SELECT o.id::text, o.side, o.price::text, (o.quantity - o.filled_quantity)::text, place.sequence
FROM orders o
CROSS JOIN LATERAL (
    SELECT max(e.market_sequence) AS sequence
    FROM (
        SELECT market_sequence, type, price, quantity,
            lag(status) OVER chain AS status_before, lag(price) OVER chain AS price_before,
            lag(quantity) OVER chain AS quantity_before
        FROM order_events WHERE order_id = o.id
        WINDOW chain AS (ORDER BY version)
    ) AS e
    WHERE e.status_before IS NULL OR e.status_before NOT IN ('open', 'partially_filled')
        OR (e.type = 'amended' AND (e.price <> e.price_before OR e.quantity > e.quantity_before))
) AS place
WHERE o.market_id = $1 AND o.status IN ('open', 'partially_filled') AND o.type IN ('limit', 'stop_limit')
    AND o.time_in_force IN ('gtc', 'gtt');

-- name: resting_levels
-- The levels of a market's book.
SELECT side, price::text, sum(quantity - filled_quantity)::text
FROM orders
WHERE market_id = $1 AND status IN ('open', 'partially_filled') AND type IN ('limit', 'stop_limit')
    AND time_in_force IN ('gtc', 'gtt')
GROUP BY side, price;

-- name: all_markets
-- Every market by symbol.
SELECT id, symbol FROM markets ORDER BY symbol;

-- name: live_orders
-- How many live orders a market has of its own.
SELECT count(*) FROM orders WHERE market_id = $1 AND status IN ('untriggered', 'open', 'partially_filled');

-- name: save_snapshot
-- Keep the book of another exchange.
INSERT INTO book_snapshots (id, market_id, sequence, checksum, bids, asks, source, taken_at)
VALUES ($1, $2, $3, $4, $5::text::jsonb, $6::text::jsonb, $7, $8);

-- name: drop_old_snapshots
-- Keep the newest of a market.
DELETE FROM book_snapshots
WHERE market_id = $1
    AND id <> ALL (ARRAY(SELECT id FROM book_snapshots WHERE market_id = $1 ORDER BY id DESC LIMIT $2));

-- name: newest_snapshot
-- The newest book of another exchange.
SELECT sequence, checksum, bids::text AS bids, asks::text AS asks, source
FROM book_snapshots WHERE market_id = $1 ORDER BY id DESC LIMIT 1;

-- name: newest_snapshots
-- Which books of other exchanges there are in the shard, and the newest of each.
SELECT DISTINCT ON (market_id) market_id, id::text AS id
FROM book_snapshots WHERE market_id % $2 = $1
ORDER BY market_id, id DESC;

-- name: forget_snapshots
-- The market shows its own orders again.
DELETE FROM book_snapshots WHERE market_id = $1;

-- name: next_market
-- The market after one that has had orders.
SELECT m.id, m.symbol FROM markets m JOIN market_sequences s ON s.market_id = m.id
WHERE m.id > $1 AND s.sequence > 0 ORDER BY m.id LIMIT 1;
