-- What portfolios are asked for, and transfers.

-- name: assets
-- Symbols of assets.
SELECT id, symbol FROM assets;

-- name: holdings
-- What a user holds, by asset and kind.
SELECT a.symbol AS asset, h.kind, trim_scale(sum(h.amount)) AS amount
FROM portfolio_holdings h
JOIN assets a ON a.id = h.asset_id
WHERE h.user_id = $1
GROUP BY a.symbol, h.kind
ORDER BY a.symbol COLLATE "C";

-- name: positions
-- How a user's positions stand.
SELECT m.id AS market_id, m.symbol AS market, trim_scale(p.quantity) AS quantity, trim_scale(p.cost) AS cost,
    trim_scale(p.realized) AS realized, trim_scale(p.fifo_cost) AS fifo_cost, trim_scale(p.fifo_realized) AS fifo_realized, p.trades
FROM markets m
CROSS JOIN LATERAL (
    SELECT * FROM portfolio_positions p WHERE p.user_id = $1 AND p.market_id = m.id ORDER BY p.hour DESC LIMIT 1
) AS p
ORDER BY m.symbol COLLATE "C";

-- name: sums_of_markets
-- Fees and funding of a user, by market and asset.
SELECT h.market_id, a.symbol AS asset, h.kind, trim_scale(h.amount) AS amount
FROM portfolio_holdings h
JOIN assets a ON a.id = h.asset_id
WHERE h.user_id = $1 AND h.kind IN ('fee', 'funding') AND h.market_id <> 0 AND h.amount <> 0
ORDER BY a.symbol COLLATE "C";

-- name: open_lots
-- A page of a user's open lots in a market, the oldest first, behind the place ($3, $4, $5).
SELECT l.sequence, l.trade_id, m.symbol AS market, l.opened_at, trim_scale(l.opened_quantity) AS opened_quantity,
    trim_scale(l.opened_cost) AS opened_cost, trim_scale(l.quantity) AS quantity, trim_scale(l.cost) AS cost
FROM portfolio_lots l
JOIN markets m ON m.id = l.market_id
WHERE l.user_id = $1 AND l.market_id = $2 AND l.quantity <> 0
    AND ($3::timestamptz IS NULL OR (l.opened_at, l.sequence, l.trade_id) > ($3, $4::bigint, $5::uuid))
ORDER BY l.opened_at, l.sequence, l.trade_id
LIMIT $6;

-- name: closings
-- A page of what a user closed in a market, the newest first, before the place ($3, $4, $5, $6).
SELECT c.sequence, c.trade_id, c.lot_id, m.symbol AS market, c.closed_at, trim_scale(c.quantity) AS quantity,
    trim_scale(c.cost) AS cost, trim_scale(c.proceeds) AS proceeds, trim_scale(c.proceeds - c.cost) AS realized
FROM portfolio_closings c
JOIN markets m ON m.id = c.market_id
WHERE c.user_id = $1 AND c.market_id = $2
    AND ($3::timestamptz IS NULL
        OR (c.closed_at, c.sequence, c.trade_id, c.lot_id) < ($3, $4::bigint, $5::uuid, $6::uuid))
ORDER BY c.closed_at DESC, c.sequence DESC, c.trade_id DESC, c.lot_id DESC
LIMIT $7;

-- name: snapshots_of_user
-- A page of a user's snapshots, the newest first: taken in [$2, $3).
SELECT s.user_id, s.taken_at, a.symbol AS valuation_asset, trim_scale(s.total_value) AS total_value,
    trim_scale(s.net_transfers) AS net_transfers, trim_scale(s.realized) AS realized, trim_scale(s.unrealized) AS unrealized,
    trim_scale(s.fees) AS fees, trim_scale(s.funding) AS funding, trim_scale(s.pool_value) AS pool_value,
    trim_scale(s.pool_profit) AS pool_profit, s.holdings, s.positions
FROM portfolio_snapshots s
JOIN assets a ON a.id = s.valuation_asset_id
WHERE s.user_id = $1 AND s.taken_at >= $2 AND s.taken_at < $3
ORDER BY s.taken_at DESC
LIMIT $4;

-- name: user_exists
-- Whether there is such a user, and whether they have a portfolio.
SELECT kind <> 'system' AS has_portfolio FROM users WHERE id = $1;

-- name: add_price
-- A price of a feed; the same again changes nothing.
INSERT INTO prices (market_id, observed_at, source, price) VALUES ($1, $2, $3, $4)
ON CONFLICT (market_id, observed_at, source) DO NOTHING;

-- name: price_of_feed
-- What a feed said of a moment.
SELECT price FROM prices WHERE market_id = $1 AND observed_at = $2 AND source = $3;

-- name: add_transfers
-- Transfers whose id and source are free; returns the ids that were written.
INSERT INTO transfers (id, user_id, kind, asset_id, market_id, amount, executed_at, sequence, source, source_transfer_id, reverses, note)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::integer[], $5::integer[], $6::numeric[], $7::timestamptz[],
    $8::bigint[], $9::text[], $10::text[], $11::uuid[], $12::text[])
ON CONFLICT DO NOTHING
RETURNING id;

-- name: known_transfers
-- Transfers by their ids ($1), by their sources' ids ($2, $3), or by what they undo ($4).
SELECT t.id, t.user_id, t.kind, a.symbol AS asset, m.symbol AS market, trim_scale(t.amount) AS amount, t.executed_at, t.sequence, t.source,
    t.source_transfer_id, t.reverses, t.note
FROM transfers t
JOIN assets a ON a.id = t.asset_id
LEFT JOIN markets m ON m.id = t.market_id
WHERE t.id = ANY($1::uuid[]) OR t.reverses = ANY($4::uuid[])
    OR (t.source, t.source_transfer_id) IN (SELECT * FROM unnest($2::text[], $3::text[]));

-- name: transfers_of_user
-- A page of a user's transfers, newest first: ids in [$3, $2), of one kind where $4 is given.
SELECT t.id, t.user_id, t.kind, a.symbol AS asset, m.symbol AS market, trim_scale(t.amount) AS amount, t.executed_at, t.sequence, t.source,
    t.source_transfer_id, t.reverses, t.note
FROM transfers t
JOIN assets a ON a.id = t.asset_id
LEFT JOIN markets m ON m.id = t.market_id
WHERE t.user_id = $1 AND t.id < $2 AND t.id >= $3 AND ($4::text IS NULL OR t.kind = $4)
ORDER BY t.id DESC
LIMIT $5;
