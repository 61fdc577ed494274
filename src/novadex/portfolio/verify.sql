-- What is derived of users, beside what their records say.

-- name: sums
-- Holdings and hours of users ($1) that are not the sums of their movements up to the position ($2, $3).
WITH moved AS MATERIALIZED (
    SELECT m.user_id, date_trunc('hour', m.executed_at, 'UTC') AS hour, m.asset_id, m.market_id, m.kind, sum(m.amount) AS amount
    FROM portfolio_movements m
    JOIN users u ON u.id = m.user_id AND u.kind <> 'system'
    WHERE m.user_id = ANY($1::uuid[]) AND (m.xid, m.id) <= ($2::xid8, $3::uuid)
    GROUP BY 1, 2, 3, 4, 5
), compared AS (
    SELECT 'portfolio_flows' AS what, coalesce(f.user_id, m.user_id) AS user_id, coalesce(f.hour, m.hour) AS hour,
        coalesce(f.asset_id, m.asset_id) AS asset_id, coalesce(f.market_id, m.market_id) AS market_id,
        coalesce(f.kind, m.kind) AS kind, f.amount::numeric AS stored, m.amount AS recomputed
    FROM (SELECT * FROM portfolio_flows WHERE user_id = ANY($1::uuid[])) AS f
    FULL JOIN moved AS m USING (user_id, hour, asset_id, market_id, kind)
    UNION ALL
    SELECT 'portfolio_holdings', coalesce(h.user_id, m.user_id), NULL, coalesce(h.asset_id, m.asset_id),
        coalesce(h.market_id, m.market_id), coalesce(h.kind, m.kind), h.amount::numeric, m.amount
    FROM (SELECT * FROM portfolio_holdings WHERE user_id = ANY($1::uuid[])) AS h
    FULL JOIN (
        SELECT user_id, asset_id, market_id, kind, sum(amount) AS amount FROM moved GROUP BY 1, 2, 3, 4
    ) AS m USING (user_id, asset_id, market_id, kind)
)
SELECT c.what, c.user_id::text AS user_id, to_char(c.hour AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS hour,
    coalesce(a.symbol, c.asset_id::text) AS asset, CASE c.market_id WHEN 0 THEN NULL ELSE coalesce(k.symbol, c.market_id::text) END AS market,
    c.kind, trim_scale(c.stored)::text AS stored, trim_scale(c.recomputed)::text AS recomputed
FROM compared c LEFT JOIN assets a ON a.id = c.asset_id LEFT JOIN markets k ON k.id = c.market_id
WHERE c.stored IS DISTINCT FROM c.recomputed
ORDER BY c.what, c.user_id, c.hour NULLS FIRST, c.asset_id, c.market_id, c.kind;

-- name: counted
-- How many sums are derived of users ($1), by table.
SELECT
    (SELECT count(*) FROM portfolio_holdings WHERE user_id = ANY($1::uuid[])) AS portfolio_holdings,
    (SELECT count(*) FROM portfolio_flows WHERE user_id = ANY($1::uuid[])) AS portfolio_flows;

-- name: markets_of_users
-- The markets in which users ($1) have trades up to the position ($2, $3), or anything derived.
SELECT k.user_id, k.market_id, coalesce(m.symbol, k.market_id::text) AS symbol
FROM (
    SELECT user_id, market_id FROM trades WHERE user_id = ANY($1::uuid[]) AND (xid, id) <= ($2::xid8, $3::uuid)
    UNION SELECT user_id, market_id FROM portfolio_positions WHERE user_id = ANY($1::uuid[])
    UNION SELECT user_id, market_id FROM portfolio_lots WHERE user_id = ANY($1::uuid[])
    UNION SELECT user_id, market_id FROM portfolio_closings WHERE user_id = ANY($1::uuid[])
) AS k
LEFT JOIN markets m ON m.id = k.market_id
ORDER BY k.user_id, k.market_id;

-- name: positions
-- The positions of a user in a market at the end of hours [$3, $4].
SELECT hour, quantity, cost, realized, fifo_cost, fifo_realized, trades, last_executed_at, last_sequence, last_id
FROM portfolio_positions WHERE user_id = $1 AND market_id = $2 AND hour BETWEEN $3 AND $4;

-- name: lots
-- Some lots of a user in a market.
SELECT trade_id, opened_at, sequence, opened_quantity, opened_cost, quantity, cost
FROM portfolio_lots WHERE user_id = $1 AND market_id = $2 AND trade_id = ANY($3::uuid[]);

-- name: closings
-- What a user closed in a market by the trades behind ($3, $4, $5) up to ($6, $7, $8) in the order of lots.
SELECT closed_at, sequence, trade_id, lot_id, quantity, cost, proceeds
FROM portfolio_closings WHERE user_id = $1 AND market_id = $2
    AND (closed_at, sequence, trade_id) > ($3, $4, $5) AND (closed_at, sequence, trade_id) <= ($6, $7, $8);

-- name: counts
-- How many rows are derived of a user in a market.
SELECT
    (SELECT count(*) FROM portfolio_positions WHERE user_id = $1 AND market_id = $2) AS portfolio_positions,
    (SELECT count(*) FROM portfolio_lots WHERE user_id = $1 AND market_id = $2) AS portfolio_lots,
    (SELECT count(*) FROM portfolio_closings WHERE user_id = $1 AND market_id = $2) AS portfolio_closings;

-- name: trades
-- The trades of a user in a market up to the position ($3, $4), in the order of lots.
SELECT t.user_id, t.market_id, t.id, t.executed_at, coalesce(t.sequence, 0) AS sequence, t.side, t.base_amount,
    t.quote_amount, t.reverses IS NOT NULL AS undoes,
    EXISTS (
        SELECT FROM trades r
        WHERE r.user_id = t.user_id AND r.reverses = t.id AND (r.xid, r.id) <= ($3::xid8, $4::uuid)
            AND r.id >= uuid_at(t.executed_at) AND r.id < uuid_at(t.executed_at + interval '1 millisecond')
    ) AS undone
FROM trades t
WHERE t.user_id = $1 AND t.market_id = $2 AND (t.xid, t.id) <= ($3::xid8, $4::uuid)
ORDER BY t.executed_at, coalesce(t.sequence, 0), t.id;

-- name: of_nobody
-- How many derived rows belong to users who are not there or have no portfolio, by table.
SELECT what, user_id::text AS user_id, count(*) AS rows FROM (
    SELECT 'portfolio_holdings' AS what, user_id FROM portfolio_holdings
    UNION ALL SELECT 'portfolio_flows', user_id FROM portfolio_flows
    UNION ALL SELECT 'portfolio_positions', user_id FROM portfolio_positions
    UNION ALL SELECT 'portfolio_lots', user_id FROM portfolio_lots
    UNION ALL SELECT 'portfolio_closings', user_id FROM portfolio_closings
) AS derived
WHERE NOT EXISTS (SELECT FROM users u WHERE u.id = derived.user_id AND u.kind <> 'system')
GROUP BY what, user_id
ORDER BY what, user_id
LIMIT $1;
