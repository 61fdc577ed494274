-- name: copy_orders
-- Orders as text; a trigger gives each its first event. Any bad row refuses them all.
COPY orders (id, user_id, market_id, base_decimals, quote_decimals, client_order_id, side, type, time_in_force,
    post_only, reduce_only, quantity, price, stop_price, status, expires_at, placed_by, created_at, updated_at) FROM STDIN;

-- name: copy_events
-- Order events as text; a trigger checks them and moves their orders.
COPY order_events (id, order_id, version, market_id, market_sequence, type, status, quantity, filled_quantity, price,
    reason, actor, occurred_at, trade_id) FROM STDIN;

-- name: copy_matches
-- Matches as text.
COPY matches (id, market_id, taker_trade_id, maker_trade_id, source, source_match_id, chain, block_number, request_hash,
    executed_at) FROM STDIN;

-- name: hold_markets
-- Holds the markets of a batch until the commit, by the orders, matches and markets that it names: nobody else
-- changes orders of them meanwhile. Gives the number of each market's last event.
SELECT s.market_id, s.sequence
FROM market_sequences s
WHERE s.market_id IN (
    SELECT market_id FROM orders WHERE id = ANY($1::uuid[])
    UNION SELECT market_id FROM matches WHERE id = ANY($2::uuid[])
    UNION SELECT unnest($3::integer[])
)
ORDER BY s.market_id
FOR UPDATE;

-- name: market_states
-- Markets as they stand.
SELECT m.id, m.symbol, m.tick_size, m.lot_size, m.base_asset_id, m.quote_asset_id,
    CASE WHEN strictness(v.status) > strictness(m.status) THEN v.status ELSE m.status END AS status
FROM markets m CROSS JOIN venue v
WHERE m.id = ANY($1::integer[]);

-- name: orders_by_ids
-- Orders by their ids.
SELECT o.id, o.user_id, m.symbol AS market, o.client_order_id, o.side, o.type, o.time_in_force, o.post_only,
    o.reduce_only, o.quantity, o.price, o.stop_price, o.filled_quantity, o.status, o.version, o.expires_at, o.placed_by,
    o.created_at, o.updated_at
FROM orders o
JOIN markets m ON m.id = o.market_id
WHERE o.id = ANY($1::uuid[]);

-- name: standing_orders
-- Orders by their ids, with their market's key.
SELECT o.id, o.user_id, m.symbol AS market, o.client_order_id, o.side, o.type, o.time_in_force, o.post_only,
    o.reduce_only, o.quantity, o.price, o.stop_price, o.filled_quantity, o.status, o.version, o.expires_at, o.placed_by,
    o.created_at, o.updated_at, o.market_id
FROM orders o
JOIN markets m ON m.id = o.market_id
WHERE o.id = ANY($1::uuid[]);

-- name: known_orders
-- Orders that are there already under an id, or under a client's own name, with what they were placed as.
SELECT o.id, o.user_id, m.symbol AS market, o.client_order_id, o.side, o.type, o.time_in_force, o.post_only,
    o.reduce_only, o.quantity, o.price, o.stop_price, o.filled_quantity, o.status, o.version, o.expires_at, o.placed_by,
    o.created_at, o.updated_at, e.quantity AS placed_quantity, e.price AS placed_price
FROM (
    SELECT id FROM orders WHERE id = ANY($1::uuid[])
    UNION
    SELECT o.id FROM unnest($2::uuid[], $3::text[]) AS named (user_id, client_order_id)
    JOIN orders o ON o.user_id = named.user_id AND o.client_order_id = named.client_order_id
) AS known
JOIN orders o ON o.id = known.id
JOIN markets m ON m.id = o.market_id
JOIN order_events e ON e.id = o.id;

-- name: fok_orders
-- Which of some orders are filled whole or not at all.
SELECT id FROM orders WHERE id = ANY($1::uuid[]) AND time_in_force = 'fok';

-- name: placers
-- The status of those who place orders.
SELECT id, status FROM users WHERE id = ANY($1::uuid[]);

-- name: rates
-- Fee rates of users in markets: of their tier, else of the next lower one that the market has.
SELECT wanted.user_id, wanted.market_id, r.maker_rate, r.taker_rate
FROM unnest($1::uuid[], $2::integer[]) AS wanted (user_id, market_id)
LEFT JOIN user_fee_tiers t ON t.user_id = wanted.user_id
JOIN LATERAL (
    SELECT f.maker_rate, f.taker_rate FROM fee_rates f
    WHERE f.market_id = wanted.market_id AND f.tier <= coalesce(t.tier, 0)
    ORDER BY f.tier DESC LIMIT 1
) AS r ON true;

-- name: matches_by_ids
-- Matches by their ids, with their executions.
SELECT x.id, m.symbol AS market, t.side AS taker_side, t.price, t.base_amount, t.quote_amount, t.order_id AS taker_order_id,
    k.order_id AS maker_order_id, x.taker_trade_id, x.maker_trade_id, t.fee_amount AS taker_fee, k.fee_amount AS maker_fee,
    x.executed_at, x.source, x.source_match_id, x.chain, x.block_number, x.undone, x.undone_at, x.undone_by,
    x.undone_reason, x.market_id, x.request_hash
FROM matches x
JOIN markets m ON m.id = x.market_id
JOIN trades t ON t.id = x.taker_trade_id
LEFT JOIN trades k ON k.id = x.maker_trade_id
WHERE x.id = ANY($1::uuid[]);

-- name: matches_by_source
-- The ids of standing and busted matches by the venue's own ids.
SELECT x.id
FROM unnest($1::integer[], $2::text[], $3::text[]) AS wanted (market_id, source, source_match_id)
JOIN matches x ON x.market_id = wanted.market_id AND x.source = wanted.source
    AND x.source_match_id = wanted.source_match_id AND x.undone IS DISTINCT FROM 'reverted' AND x.source IS NOT NULL;

-- name: loosest_prices
-- For orders that were amended: the limit that let in the worst price, over all their life.
SELECT o.id, CASE o.side WHEN 'buy' THEN max(e.price) ELSE min(e.price) END AS price
FROM orders o
JOIN order_events e ON e.order_id = o.id
WHERE o.id = ANY($1::uuid[]) AND e.price IS NOT NULL
GROUP BY o.id;

-- name: settled_holdings
-- What users hold of markets by executions of transactions that are final, signed, and below which transaction those
-- are; also for the users and markets of the reduce-only ones among some orders. By the sums of their portfolios and the
-- log behind these; none where they have no portfolio, or it is of another life of the database, being derived anew or
-- more than 10,000 executions behind.
WITH wanted AS (
    SELECT * FROM unnest($1::uuid[], $2::integer[]) AS named (user_id, market_id)
    UNION SELECT user_id, market_id FROM orders WHERE id = ANY($3::uuid[]) AND reduce_only
), horizon AS MATERIALIZED (
    SELECT pg_snapshot_xmin(pg_current_snapshot()) AS xid
), sums AS MATERIALIZED (
    SELECT p.xid, p.id
    FROM main_projections p
    JOIN recovery_epoch r ON r.epoch = p.epoch
    WHERE p.name = 'portfolio' AND p.rebuilt_to IS NULL AND p.xid < (SELECT xid FROM horizon)
        AND p.timeline = ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer
        AND p.system_identifier = system_identifier()
), behind AS MATERIALIZED (
    SELECT user_id, market_id, CASE side WHEN 'buy' THEN base_amount ELSE -base_amount END AS amount
    FROM trades
    WHERE (xid, id) > ((SELECT xid FROM sums), (SELECT id FROM sums)) AND xid < (SELECT xid FROM horizon)
    ORDER BY xid, id LIMIT 10001 -- ordered, so that the index of the log is what they are read by
), added AS MATERIALIZED (
    SELECT user_id, market_id, sum(amount) AS amount FROM behind GROUP BY user_id, market_id
)
SELECT wanted.user_id, wanted.market_id, horizon.xid::text AS horizon,
    CASE WHEN u.kind <> 'system' AND EXISTS (SELECT FROM sums) AND (SELECT count(*) FROM behind) <= 10000 THEN
        coalesce((SELECT sum(h.amount) FROM portfolio_holdings h JOIN markets m ON m.id = h.market_id AND m.base_asset_id = h.asset_id
            WHERE h.user_id = wanted.user_id AND h.market_id = wanted.market_id AND h.kind IN ('bought', 'sold')), 0)
        + coalesce(added.amount, 0)
    END AS holding
FROM wanted
CROSS JOIN horizon
LEFT JOIN users u ON u.id = wanted.user_id
LEFT JOIN added ON added.user_id = wanted.user_id AND added.market_id = wanted.market_id;

-- name: summed_holdings
-- The same by all executions of transactions below $3.
SELECT wanted.user_id, wanted.market_id,
    coalesce(sum(CASE t.side WHEN 'buy' THEN t.base_amount ELSE -t.base_amount END), 0) AS holding
FROM unnest($1::uuid[], $2::integer[]) AS wanted (user_id, market_id)
LEFT JOIN trades t ON t.user_id = wanted.user_id AND t.market_id = wanted.market_id AND t.xid < $3::text::xid8
GROUP BY wanted.user_id, wanted.market_id;

-- name: newer_holdings
-- What came to the holdings of users in markets by transactions from $3 on.
WITH newer AS MATERIALIZED ( -- by the log of trades, not by all that the users ever traded
    SELECT user_id, market_id, CASE side WHEN 'buy' THEN base_amount ELSE -base_amount END AS amount
    FROM trades WHERE xid >= $3::text::xid8
)
SELECT wanted.user_id, wanted.market_id, sum(newer.amount) AS amount
FROM unnest($1::uuid[], $2::integer[]) AS wanted (user_id, market_id)
JOIN newer ON newer.user_id = wanted.user_id AND newer.market_id = wanted.market_id
GROUP BY wanted.user_id, wanted.market_id;

-- name: reducing_orders
-- The live reduce-only orders of users in markets.
SELECT o.id
FROM unnest($1::uuid[], $2::integer[]) AS wanted (user_id, market_id)
JOIN orders o ON o.user_id = wanted.user_id AND o.market_id = wanted.market_id
WHERE o.reduce_only AND o.status IN ('untriggered', 'open', 'partially_filled');

-- name: written_events
-- Which of these events were written: after a lost connection nobody knows otherwise.
SELECT id FROM order_events WHERE id = ANY($1::uuid[]);

-- name: reverse_trades
-- The rows that undo trades: the other side, the fee negated, all else the same.
INSERT INTO trades (id, user_id, market_id, base_decimals, quote_decimals, type, side, liquidity, base_amount,
    quote_amount, price, fee_amount, fee_asset_id, executed_at, sequence, match_id, order_id, source, source_trade_id, reverses)
SELECT r.reversal_id, t.user_id, t.market_id, t.base_decimals, t.quote_decimals, t.type,
    CASE t.side WHEN 'buy' THEN 'sell' ELSE 'buy' END, t.liquidity, t.base_amount, t.quote_amount, t.price,
    -t.fee_amount, t.fee_asset_id, t.executed_at, t.sequence, t.match_id, t.order_id, t.source, t.source_trade_id, t.id
FROM unnest($1::uuid[], $2::uuid[]) AS r (id, reversal_id)
JOIN trades t ON t.id = r.id
ORDER BY r.reversal_id;

-- name: undo_matches
-- Marks matches as undone.
UPDATE matches m SET undone = u.undone, undone_at = $4, undone_by = $5, undone_reason = u.reason
FROM unnest($1::uuid[], $2::text[], $3::text[]) AS u (id, undone, reason)
WHERE m.id = u.id;

-- name: ensure_event_partitions
-- Partitions for order events from one moment to another.
SELECT ensure_partitions('order_events', $1, $2);

-- name: order_by_client_id
-- The id of an order by the name that its client gave it.
SELECT id FROM orders WHERE user_id = $1 AND client_order_id = $2;

-- name: orders_newest
-- A page of all orders, newest first.
SELECT o.id, o.user_id, m.symbol AS market, o.client_order_id, o.side, o.type, o.time_in_force, o.post_only,
    o.reduce_only, o.quantity, o.price, o.stop_price, o.filled_quantity, o.status, o.version, o.expires_at, o.placed_by,
    o.created_at, o.updated_at
FROM orders o
JOIN markets m ON m.id = o.market_id
WHERE o.id < $1
ORDER BY o.id DESC
LIMIT $2;

-- name: orders_live
-- A page of all live orders, newest first, in one market where $3 is given.
SELECT o.id, o.user_id, m.symbol AS market, o.client_order_id, o.side, o.type, o.time_in_force, o.post_only,
    o.reduce_only, o.quantity, o.price, o.stop_price, o.filled_quantity, o.status, o.version, o.expires_at, o.placed_by,
    o.created_at, o.updated_at
FROM orders o
JOIN markets m ON m.id = o.market_id
WHERE o.id < $1 AND o.status IN ('untriggered', 'open', 'partially_filled') AND ($3::integer IS NULL OR o.market_id = $3)
ORDER BY o.id DESC
LIMIT $2;

-- name: orders_of_market
-- A page of a market's orders, newest first.
SELECT o.id, o.user_id, m.symbol AS market, o.client_order_id, o.side, o.type, o.time_in_force, o.post_only,
    o.reduce_only, o.quantity, o.price, o.stop_price, o.filled_quantity, o.status, o.version, o.expires_at, o.placed_by,
    o.created_at, o.updated_at
FROM orders o
JOIN markets m ON m.id = o.market_id
WHERE o.market_id = $3 AND o.id < $1
ORDER BY o.id DESC
LIMIT $2;

-- name: orders_of_user
-- A page of a user's orders, newest first, in one market where $3 is given.
SELECT o.id, o.user_id, m.symbol AS market, o.client_order_id, o.side, o.type, o.time_in_force, o.post_only,
    o.reduce_only, o.quantity, o.price, o.stop_price, o.filled_quantity, o.status, o.version, o.expires_at, o.placed_by,
    o.created_at, o.updated_at
FROM orders o
JOIN markets m ON m.id = o.market_id
WHERE o.user_id = $4 AND o.id < $1 AND ($3::integer IS NULL OR o.market_id = $3)
ORDER BY o.id DESC
LIMIT $2;

-- name: live_orders_of_user
-- A page of a user's live orders, newest first, in one market where $3 is given.
SELECT o.id, o.user_id, m.symbol AS market, o.client_order_id, o.side, o.type, o.time_in_force, o.post_only,
    o.reduce_only, o.quantity, o.price, o.stop_price, o.filled_quantity, o.status, o.version, o.expires_at, o.placed_by,
    o.created_at, o.updated_at
FROM orders o
JOIN markets m ON m.id = o.market_id
WHERE o.user_id = $4 AND o.id < $1 AND ($3::integer IS NULL OR o.market_id = $3)
    AND o.status IN ('untriggered', 'open', 'partially_filled')
ORDER BY o.id DESC
LIMIT $2;

-- name: owner_of_order
-- Whose an order is.
SELECT user_id FROM orders WHERE id = $1;

-- name: events_of_order
-- A page of an order's events, oldest first.
SELECT e.id, e.order_id, e.version, m.symbol AS market, e.market_sequence, e.type, e.status, e.quantity,
    e.filled_quantity, e.price, e.reason, e.actor, e.occurred_at, e.trade_id
FROM order_events e
JOIN markets m ON m.id = e.market_id
WHERE e.order_id = $1 AND e.version > $2
ORDER BY e.version
LIMIT $3;

-- name: live_ids
-- Some live orders above an id and up to $5, of a user and a market where they are given.
SELECT id FROM orders
WHERE status IN ('untriggered', 'open', 'partially_filled') AND id > $1 AND id <= $5
    AND ($2::uuid IS NULL OR user_id = $2) AND ($3::integer IS NULL OR market_id = $3)
ORDER BY id
LIMIT $4;

-- name: last_live_id
-- The last live order, of a user and a market where they are given.
SELECT id FROM orders
WHERE status IN ('untriggered', 'open', 'partially_filled')
    AND ($1::uuid IS NULL OR user_id = $1) AND ($2::integer IS NULL OR market_id = $2)
ORDER BY id DESC
LIMIT 1;

-- name: expired_ids
-- Some live orders whose time is over.
SELECT id FROM orders
WHERE expires_at <= $1 AND expires_at IS NOT NULL AND status IN ('untriggered', 'open', 'partially_filled')
ORDER BY expires_at
LIMIT $2;

-- name: standing_in_block
-- Some matches of a block that stand.
SELECT id FROM matches WHERE chain = $1 AND block_number = $2 AND undone IS NULL ORDER BY id LIMIT $3;

-- name: log_horizon
-- Trades of transactions below it are final.
SELECT pg_snapshot_xmin(pg_current_snapshot())::text;

-- name: new_prices
-- The lowest and the highest price of what the venue or another source recorded since transaction $1 and what stands, in
-- markets that have stops that wait. What users say of their own trades triggers nothing.
SELECT t.market_id, min(t.executed_at) AS since, min(t.price) AS lowest, max(t.price) AS highest
FROM trades t
WHERE t.xid >= $1::text::xid8 AND t.reverses IS NULL AND (t.order_id IS NOT NULL OR t.source IS NOT NULL)
    AND NOT EXISTS (SELECT FROM matches x WHERE x.id = t.match_id AND x.undone IS NOT NULL)
    AND t.market_id IN (SELECT market_id FROM orders WHERE status = 'untriggered')
GROUP BY t.market_id;

-- name: prices_since_placed
-- The lowest and the highest price of such trades since the oldest of a market's stops that wait was placed.
SELECT s.market_id, s.since, min(t.price) AS lowest, max(t.price) AS highest
FROM (SELECT market_id, min(created_at) AS since FROM orders WHERE status = 'untriggered' GROUP BY market_id) AS s
JOIN trades t ON t.market_id = s.market_id AND t.id >= uuid_at(s.since) AND t.reverses IS NULL AND (t.order_id IS NOT NULL OR t.source IS NOT NULL)
    AND NOT EXISTS (SELECT FROM matches x WHERE x.id = t.match_id AND x.undone IS NOT NULL)
GROUP BY s.market_id, s.since;

-- name: reached_stops
-- Some stops of market $1, while it takes orders, that prices from $2 to $3 reach: buys from below, sells from above,
-- by such trades since $4 and since they were placed.
SELECT o.id
FROM orders o
WHERE o.market_id = $1 AND o.status = 'untriggered'
    AND EXISTS (SELECT FROM markets m, venue v WHERE m.id = $1 AND m.status = 'active' AND v.status = 'active')
    AND CASE o.side WHEN 'buy' THEN o.stop_price <= $3 ELSE o.stop_price >= $2 END
    AND EXISTS (
        SELECT FROM trades t
        WHERE t.market_id = $1 AND t.id >= uuid_at(greatest(o.created_at, $4)) AND t.executed_at >= o.created_at
            AND t.reverses IS NULL AND (t.order_id IS NOT NULL OR t.source IS NOT NULL)
            AND NOT EXISTS (SELECT FROM matches x WHERE x.id = t.match_id AND x.undone IS NOT NULL)
            AND CASE o.side WHEN 'buy' THEN t.price >= o.stop_price ELSE t.price <= o.stop_price END
    )
ORDER BY o.id
LIMIT $5;

-- name: stops_at
-- Some stops of market $1 that price $2 reaches, while it takes orders.
SELECT id
FROM orders
WHERE market_id = $1 AND status = 'untriggered'
    AND EXISTS (SELECT FROM markets m, venue v WHERE m.id = $1 AND m.status = 'active' AND v.status = 'active')
    AND CASE side WHEN 'buy' THEN stop_price <= $2 ELSE stop_price >= $2 END
ORDER BY id
LIMIT $3;
