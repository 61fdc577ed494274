-- The projection "portfolio" in the main database: sums, positions and lots, and its position, in one transaction.

-- name: state
-- How far the projection is.
SELECT epoch, system_identifier, timeline, xid::text::bigint AS xid, id, watermark, applied, set_aside, updated_at,
    extract(epoch FROM clock_timestamp() - updated_at) AS age_s, rebuilt_to
FROM main_projections WHERE name = 'portfolio';

-- name: lock_state
-- The same, held until the transaction ends: whoever holds it owns the projection. None where another does.
SELECT epoch, system_identifier, timeline, xid::text::bigint AS xid, id, watermark, applied, set_aside, updated_at,
    extract(epoch FROM clock_timestamp() - updated_at) AS age_s, rebuilt_to
FROM main_projections WHERE name = 'portfolio' FOR UPDATE SKIP LOCKED;

-- name: wait_for_state
-- The same, waiting for another owner as long as lock_timeout allows.
SELECT epoch, system_identifier, timeline, xid::text::bigint AS xid, id, watermark, applied, set_aside, updated_at,
    extract(epoch FROM clock_timestamp() - updated_at) AS age_s, rebuilt_to
FROM main_projections WHERE name = 'portfolio' FOR UPDATE;

-- name: move_sums
-- Until the transaction ends nobody values portfolios: whoever takes a snapshot either knows of the rows that are about
-- to be applied, or is seen by them.
SELECT pg_advisory_xact_lock(4702394921427289928);

-- name: hold_sums
-- Until the transaction ends the projection stays where it is.
SELECT pg_advisory_xact_lock_shared(4702394921427289928);

-- name: begin
-- The projection's first position, of the main database with this epoch, system identifier and timeline.
INSERT INTO main_projections (name, epoch, system_identifier, timeline, xid, id)
VALUES ('portfolio', $1, $2, $3, '0', '00000000-0000-0000-0000-000000000000')
ON CONFLICT (name) DO NOTHING;

-- name: store
-- The position reached, with the effect in the same transaction.
UPDATE main_projections SET xid = $1::xid8, id = $2, watermark = coalesce($3::timestamptz, watermark),
    applied = applied + $4, set_aside = set_aside + $5, updated_at = clock_timestamp()
WHERE name = 'portfolio';

-- name: begin_rebuild
-- Every user is to be derived anew, up to the position ($4, $5) in the life of main with this epoch, system identifier
-- and timeline.
UPDATE main_projections SET epoch = $1, system_identifier = $2, timeline = $3, xid = $4::xid8, id = $5,
    watermark = CASE WHEN (epoch, system_identifier, timeline) = ($1, $2, $3) THEN watermark END,
    rebuilt_to = '00000000-0000-0000-0000-000000000000', updated_at = clock_timestamp()
WHERE name = 'portfolio';

-- name: store_rebuilt
-- How far the rebuild is; none at its end.
UPDATE main_projections SET rebuilt_to = $1, updated_at = clock_timestamp() WHERE name = 'portfolio';

-- name: read_by_index
-- For this transaction: the ranges of the logs by their indexes, whatever the statistics say of tables that grow.
SELECT set_config('enable_seqscan', 'off', true);

-- name: add_sums
-- What the rows behind the position ($1, $2) up to ($3, $4) do to the sums.
WITH summed AS MATERIALIZED (
    SELECT m.user_id, date_trunc('hour', m.executed_at, 'UTC') AS hour, m.asset_id, m.market_id, m.kind, sum(m.amount) AS amount
    FROM portfolio_movements m
    JOIN users u ON u.id = m.user_id AND u.kind <> 'system'
    WHERE (m.xid, m.id) > ($1::xid8, $2::uuid) AND (m.xid, m.id) <= ($3::xid8, $4::uuid)
    GROUP BY 1, 2, 3, 4, 5
), flows AS (
    INSERT INTO portfolio_flows AS f (user_id, hour, asset_id, market_id, kind, amount)
    SELECT user_id, hour, asset_id, market_id, kind, amount FROM summed
    ON CONFLICT (user_id, hour, asset_id, market_id, kind) DO UPDATE SET amount = f.amount + excluded.amount
)
INSERT INTO portfolio_holdings AS h (user_id, asset_id, market_id, kind, amount)
SELECT user_id, asset_id, market_id, kind, sum(amount) FROM summed GROUP BY 1, 2, 3, 4
ON CONFLICT (user_id, asset_id, market_id, kind) DO UPDATE SET amount = h.amount + excluded.amount;

-- name: mark_snapshots
-- Snapshots from after the moment of one of these rows do not know of it: they are taken anew.
UPDATE portfolio_snapshots s SET stale = true
FROM (
    SELECT m.user_id, min(m.executed_at) AS executed_at
    FROM portfolio_movements m
    WHERE (m.xid, m.id) > ($1::xid8, $2::uuid) AND (m.xid, m.id) <= ($3::xid8, $4::uuid)
    GROUP BY 1
) AS moved
WHERE s.user_id = moved.user_id AND s.taken_at > moved.executed_at AND NOT s.stale;

-- name: sum_users
-- The sums of whole users, up to the position ($2, $3).
WITH summed AS MATERIALIZED (
    SELECT m.user_id, date_trunc('hour', m.executed_at, 'UTC') AS hour, m.asset_id, m.market_id, m.kind, sum(m.amount) AS amount
    FROM portfolio_movements m
    WHERE m.user_id = ANY($1::uuid[]) AND (m.xid, m.id) <= ($2::xid8, $3::uuid)
    GROUP BY 1, 2, 3, 4, 5
), flows AS (
    INSERT INTO portfolio_flows (user_id, hour, asset_id, market_id, kind, amount)
    SELECT user_id, hour, asset_id, market_id, kind, amount FROM summed
)
INSERT INTO portfolio_holdings (user_id, asset_id, market_id, kind, amount)
SELECT user_id, asset_id, market_id, kind, sum(amount) FROM summed GROUP BY 1, 2, 3, 4;

-- name: users_behind
-- The next users, for a rebuild or a verification.
SELECT id, kind <> 'system' AS has_portfolio FROM users WHERE id > $1 ORDER BY id LIMIT $2;

-- name: count_users
-- How many users there are.
SELECT count(*) FROM users;

-- name: forget_users
-- Everything that is derived of these users.
WITH holdings AS (DELETE FROM portfolio_holdings WHERE user_id = ANY($1::uuid[])),
flows AS (DELETE FROM portfolio_flows WHERE user_id = ANY($1::uuid[])),
positions AS (DELETE FROM portfolio_positions WHERE user_id = ANY($1::uuid[])),
lots AS (DELETE FROM portfolio_lots WHERE user_id = ANY($1::uuid[]))
DELETE FROM portfolio_closings WHERE user_id = ANY($1::uuid[]);

-- name: forget_nobody
-- Everything that is derived of users who are not there.
WITH holdings AS (DELETE FROM portfolio_holdings h WHERE NOT EXISTS (SELECT FROM users u WHERE u.id = h.user_id)),
flows AS (DELETE FROM portfolio_flows h WHERE NOT EXISTS (SELECT FROM users u WHERE u.id = h.user_id)),
positions AS (DELETE FROM portfolio_positions h WHERE NOT EXISTS (SELECT FROM users u WHERE u.id = h.user_id)),
lots AS (DELETE FROM portfolio_lots h WHERE NOT EXISTS (SELECT FROM users u WHERE u.id = h.user_id))
DELETE FROM portfolio_closings h WHERE NOT EXISTS (SELECT FROM users u WHERE u.id = h.user_id);

-- name: standings
-- How the positions of these users in these markets stand.
SELECT k.user_id, k.market_id, p.quantity, p.cost, p.realized, p.fifo_cost, p.fifo_realized, p.trades, p.last_executed_at,
    p.last_sequence, p.last_id
FROM unnest($1::uuid[], $2::integer[]) AS k (user_id, market_id)
CROSS JOIN LATERAL (
    SELECT * FROM portfolio_positions p
    WHERE p.user_id = k.user_id AND p.market_id = k.market_id ORDER BY p.hour DESC LIMIT 1
) AS p;

-- name: oldest_lots
-- The oldest open lots of these users in these markets that hold so much together, in the order of lots.
SELECT l.user_id, l.market_id, l.trade_id, l.opened_at, l.sequence, l.opened_quantity, l.opened_cost, l.quantity, l.cost
FROM unnest($1::uuid[], $2::integer[], $3::numeric[]) AS k (user_id, market_id, needed)
CROSS JOIN LATERAL (
    SELECT *, sum(abs(quantity)) OVER (ORDER BY opened_at, sequence, trade_id ROWS UNBOUNDED PRECEDING) - abs(quantity) AS older
    FROM portfolio_lots o WHERE o.user_id = k.user_id AND o.market_id = k.market_id AND o.quantity <> 0
) AS l
WHERE l.older < k.needed
ORDER BY l.user_id, l.market_id, l.opened_at, l.sequence, l.trade_id;

-- name: write_positions
-- How positions stand at the end of hours.
INSERT INTO portfolio_positions (user_id, market_id, hour, quantity, cost, realized, fifo_cost, fifo_realized, trades,
    last_executed_at, last_sequence, last_id)
SELECT * FROM unnest($1::uuid[], $2::integer[], $3::timestamptz[], $4::numeric[], $5::numeric[], $6::numeric[], $7::numeric[],
    $8::numeric[], $9::bigint[], $10::timestamptz[], $11::bigint[], $12::uuid[])
ON CONFLICT (user_id, market_id, hour) DO UPDATE SET quantity = excluded.quantity, cost = excluded.cost,
    realized = excluded.realized, fifo_cost = excluded.fifo_cost, fifo_realized = excluded.fifo_realized,
    trades = excluded.trades, last_executed_at = excluded.last_executed_at, last_sequence = excluded.last_sequence,
    last_id = excluded.last_id;

-- name: write_lots
-- Lots that were opened, or of which something was closed.
INSERT INTO portfolio_lots (user_id, market_id, trade_id, opened_at, sequence, opened_quantity, opened_cost, quantity, cost)
SELECT * FROM unnest($1::uuid[], $2::integer[], $3::uuid[], $4::timestamptz[], $5::bigint[], $6::numeric[], $7::numeric[],
    $8::numeric[], $9::numeric[])
ON CONFLICT (user_id, market_id, trade_id) DO UPDATE SET quantity = excluded.quantity, cost = excluded.cost;

-- name: write_closings
-- What was closed.
INSERT INTO portfolio_closings (user_id, market_id, closed_at, sequence, trade_id, lot_id, quantity, cost, proceeds)
SELECT * FROM unnest($1::uuid[], $2::integer[], $3::timestamptz[], $4::bigint[], $5::uuid[], $6::uuid[], $7::numeric[],
    $8::numeric[], $9::numeric[]);

-- name: take_back_lots
-- Back to an hour, for each of these users in these markets: lots that were opened since go.
DELETE FROM portfolio_lots l
USING unnest($1::uuid[], $2::integer[], $3::timestamptz[]) AS k (user_id, market_id, hour)
WHERE l.user_id = k.user_id AND l.market_id = k.market_id AND l.trade_id >= uuid_at(k.hour);

-- name: take_back_closings
-- What was closed since is open again.
WITH gone AS (
    DELETE FROM portfolio_closings c
    USING unnest($1::uuid[], $2::integer[], $3::timestamptz[]) AS k (user_id, market_id, hour)
    WHERE c.user_id = k.user_id AND c.market_id = k.market_id AND c.closed_at >= k.hour
    RETURNING c.user_id, c.market_id, c.lot_id, c.quantity, c.cost
)
UPDATE portfolio_lots l SET quantity = l.quantity + g.quantity, cost = l.cost + g.cost
FROM (SELECT user_id, market_id, lot_id, sum(quantity) AS quantity, sum(cost) AS cost FROM gone GROUP BY 1, 2, 3) AS g
WHERE l.user_id = g.user_id AND l.market_id = g.market_id AND l.trade_id = g.lot_id;

-- name: take_back_positions
-- And the position is what it was.
DELETE FROM portfolio_positions p
USING unnest($1::uuid[], $2::integer[], $3::timestamptz[]) AS k (user_id, market_id, hour)
WHERE p.user_id = k.user_id AND p.market_id = k.market_id AND p.hour >= k.hour;

-- name: trades_since
-- The trades of these users in these markets from an hour on, up to the position ($4, $5), in the order of lots.
SELECT t.user_id, t.market_id, t.id, t.executed_at, coalesce(t.sequence, 0) AS sequence, t.side, t.base_amount,
    t.quote_amount, t.reverses IS NOT NULL AS undoes,
    EXISTS (
        SELECT FROM trades r
        WHERE r.user_id = t.user_id AND r.reverses = t.id AND (r.xid, r.id) <= ($4::xid8, $5::uuid)
            AND r.id >= uuid_at(t.executed_at) AND r.id < uuid_at(t.executed_at + interval '1 millisecond')
    ) AS undone
FROM unnest($1::uuid[], $2::integer[], $3::timestamptz[]) AS k (user_id, market_id, hour)
JOIN trades t ON t.user_id = k.user_id AND t.market_id = k.market_id AND t.id >= uuid_at(k.hour)
WHERE (t.xid, t.id) <= ($4::xid8, $5::uuid)
ORDER BY t.user_id, t.market_id, t.executed_at, coalesce(t.sequence, 0), t.id;

-- name: trades_of_users
-- All trades of these users up to the position ($2, $3), in the order of lots.
SELECT t.user_id, t.market_id, t.id, t.executed_at, coalesce(t.sequence, 0) AS sequence, t.side, t.base_amount,
    t.quote_amount, t.reverses IS NOT NULL AS undoes,
    EXISTS (
        SELECT FROM trades r
        WHERE r.user_id = t.user_id AND r.reverses = t.id AND (r.xid, r.id) <= ($2::xid8, $3::uuid)
            AND r.id >= uuid_at(t.executed_at) AND r.id < uuid_at(t.executed_at + interval '1 millisecond')
    ) AS undone
FROM trades t
WHERE t.user_id = ANY($1::uuid[]) AND (t.xid, t.id) <= ($2::xid8, $3::uuid)
ORDER BY t.user_id, t.market_id, t.executed_at, coalesce(t.sequence, 0), t.id;
