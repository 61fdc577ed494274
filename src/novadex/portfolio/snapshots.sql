-- Portfolios as they were at a moment, as far as the projection has read.

-- name: sums_at
-- What users ($1) held just before a moment ($2), by asset, market and kind: the totals less what came later, whole hours
-- from $3 on and the rest of the moment's own hour from the records, up to the position ($4, $5).
SELECT user_id, asset_id, market_id, kind, sum(amount) AS amount
FROM (
    SELECT h.user_id, h.asset_id, h.market_id, h.kind, h.amount::numeric AS amount
    FROM portfolio_holdings h WHERE h.user_id = ANY($1::uuid[])
    UNION ALL
    SELECT f.user_id, f.asset_id, f.market_id, f.kind, -f.amount::numeric
    FROM portfolio_flows f WHERE f.user_id = ANY($1::uuid[]) AND f.hour >= $3::timestamptz
    UNION ALL
    SELECT m.user_id, m.asset_id, m.market_id, m.kind, -m.amount
    FROM portfolio_movements m
    WHERE $2::timestamptz < $3 AND m.user_id = ANY($1::uuid[]) AND m.id >= uuid_at($2) AND m.id < uuid_at($3)
        AND m.executed_at >= $2 AND (m.xid, m.id) <= ($4::xid8, $5::uuid)
) AS moved
GROUP BY user_id, asset_id, market_id, kind
HAVING sum(amount) <> 0;

-- name: positions_at
-- How positions of users ($1) stood at the end of the last hour that began before a moment ($2), and whether that hour has
-- trades from the moment on.
SELECT k.user_id, k.market_id, p.quantity, p.cost, p.realized, p.fifo_cost, p.fifo_realized, p.trades, p.last_executed_at,
    p.last_sequence, p.last_id, p.hour, p.last_executed_at >= $2 AS too_late
FROM (SELECT DISTINCT user_id, market_id FROM portfolio_positions WHERE user_id = ANY($1::uuid[])) AS k
CROSS JOIN LATERAL (
    SELECT * FROM portfolio_positions p
    WHERE p.user_id = k.user_id AND p.market_id = k.market_id AND p.hour < $2 ORDER BY p.hour DESC LIMIT 1
) AS p;

-- name: lots_before
-- The lots of a user in a market that were open at the beginning of an hour ($3), in the order of lots.
SELECT * FROM (
    SELECT l.trade_id, l.opened_at, l.sequence, l.opened_quantity, l.opened_cost,
        l.quantity + coalesce(sum(c.quantity), 0) AS quantity, l.cost + coalesce(sum(c.cost), 0) AS cost
    FROM portfolio_lots l
    LEFT JOIN portfolio_closings c ON c.user_id = l.user_id AND c.market_id = l.market_id AND c.lot_id = l.trade_id AND c.closed_at >= $3
    WHERE l.user_id = $1 AND l.market_id = $2 AND l.opened_at < $3
    GROUP BY l.user_id, l.market_id, l.trade_id
) AS lots
WHERE quantity <> 0
ORDER BY opened_at, sequence, trade_id;

-- name: standing_before
-- How the position of a user in a market stood at the beginning of an hour ($3).
SELECT quantity, cost, realized, fifo_cost, fifo_realized, trades, last_executed_at, last_sequence, last_id
FROM portfolio_positions WHERE user_id = $1 AND market_id = $2 AND hour < $3 ORDER BY hour DESC LIMIT 1;

-- name: markets_of
-- Symbols and assets of markets.
SELECT id, symbol, base_asset_id, quote_asset_id FROM markets WHERE id = ANY($1::integer[]);

-- name: assets_of
-- Symbols of assets.
SELECT id, symbol FROM assets WHERE id = ANY($1::integer[]);

-- name: users_with_portfolios
-- The next users who have a portfolio.
SELECT DISTINCT user_id FROM portfolio_holdings WHERE user_id > $1 ORDER BY user_id LIMIT $2;

-- name: add_snapshots
-- Snapshots; where there is one of that moment already, it stays.
INSERT INTO portfolio_snapshots (id, user_id, taken_at, valuation_asset_id, total_value, holdings, net_transfers, realized,
    unrealized, fees, funding, pool_value, pool_profit, positions, xid, log_id)
SELECT *, $15::xid8, $16::uuid FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::integer[], $5::numeric[], $6::jsonb[],
    $7::numeric[], $8::numeric[], $9::numeric[], $10::numeric[], $11::numeric[], $12::numeric[], $13::numeric[], $14::jsonb[])
ON CONFLICT (user_id, taken_at) DO NOTHING;

-- name: replace_snapshots
-- Snapshots that are taken anew.
UPDATE portfolio_snapshots s SET total_value = n.total_value, holdings = n.holdings, net_transfers = n.net_transfers,
    realized = n.realized, unrealized = n.unrealized, fees = n.fees, funding = n.funding, pool_value = n.pool_value,
    pool_profit = n.pool_profit, positions = n.positions, xid = $15::xid8, log_id = $16::uuid, stale = false
FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::integer[], $5::numeric[], $6::jsonb[], $7::numeric[], $8::numeric[],
    $9::numeric[], $10::numeric[], $11::numeric[], $12::numeric[], $13::numeric[], $14::jsonb[])
    AS n (id, user_id, taken_at, valuation_asset_id, total_value, holdings, net_transfers, realized, unrealized, fees, funding,
        pool_value, pool_profit, positions)
WHERE s.user_id = n.user_id AND s.taken_at = n.taken_at;

-- name: stale_moments
-- Moments of which snapshots are to be taken anew, and what they are valued in.
SELECT DISTINCT s.taken_at, a.id AS asset_id, a.symbol FROM (
    SELECT taken_at, valuation_asset_id FROM portfolio_snapshots WHERE stale ORDER BY user_id, taken_at LIMIT $1
) AS s
JOIN assets a ON a.id = s.valuation_asset_id
ORDER BY s.taken_at;

-- name: stale_users
-- The users whose snapshots of a moment, valued in this asset, are to be taken anew.
SELECT user_id FROM portfolio_snapshots WHERE stale AND taken_at = $1 AND valuation_asset_id = $2 ORDER BY user_id LIMIT $3;

-- name: last_hour
-- The last hour whose snapshots are all taken.
SELECT watermark FROM main_projections WHERE name = 'portfolio_snapshots';

-- name: store_hour
-- The snapshots of this hour are all taken.
INSERT INTO main_projections AS p (name, epoch, system_identifier, timeline, xid, id, watermark)
SELECT 'portfolio_snapshots', epoch, system_identifier, timeline, xid, id, $1 FROM main_projections WHERE name = 'portfolio'
ON CONFLICT (name) DO UPDATE SET epoch = excluded.epoch, system_identifier = excluded.system_identifier,
    timeline = excluded.timeline, xid = excluded.xid, id = excluded.id, watermark = greatest(p.watermark, excluded.watermark),
    updated_at = clock_timestamp();
