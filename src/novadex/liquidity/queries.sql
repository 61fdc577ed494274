-- Pools, positions in them, and what they did.

-- name: add_pool
-- A new pool of a market; nothing where the address is taken.
INSERT INTO pools (id, market_id, kind, address, fee_ppm, tick_spacing, base_is_token0)
SELECT $1, m.id, $3, $4, $5, $6, $7 FROM markets m WHERE m.symbol = $2
ON CONFLICT (address) DO NOTHING;

-- name: pool
-- A pool by its address.
SELECT p.id, m.symbol AS market, p.kind, p.address, p.fee_ppm, p.tick_spacing, p.base_is_token0, m.base_decimals, m.quote_decimals
FROM pools p JOIN markets m ON m.id = p.market_id
WHERE p.address = $1;

-- name: pools
-- A page of pools by address, of one market where it is given.
SELECT p.id, m.symbol AS market, p.kind, p.address, p.fee_ppm, p.tick_spacing, p.base_is_token0, m.base_decimals, m.quote_decimals
FROM pools p JOIN markets m ON m.id = p.market_id
WHERE p.address > $1 AND ($2::text IS NULL OR m.symbol = $2)
ORDER BY p.address
LIMIT $3;

-- name: open_position
-- A new position; nothing where its id or its source is taken. Its first event comes by itself.
INSERT INTO liquidity_positions (id, user_id, market_id, pool_id, kind, tick_lower, tick_upper, liquidity, base_amount, quote_amount,
    opened_at, source, source_position_id)
SELECT $1, $2, p.market_id, p.id, p.kind, $4, $5, $6, $7, $8, $9, $10, $11 FROM pools p WHERE p.id = $3
ON CONFLICT DO NOTHING;

-- name: add_event
-- The next event of a position, whose liquidity it raises or lowers by $3.
INSERT INTO liquidity_events (id, position_id, version, user_id, market_id, type, liquidity, base_amount, quote_amount, base_fees,
    quote_fees, executed_at, sequence, source, source_event_id)
SELECT $1, p.id, p.version + 1, p.user_id, p.market_id, $4,
    CASE $4 WHEN 'increased' THEN p.liquidity + $3::numeric WHEN 'decreased' THEN p.liquidity - $3::numeric WHEN 'closed' THEN 0
        ELSE p.liquidity END,
    $5, $6, $7, $8, $9, $10, $11, $12
FROM liquidity_positions p WHERE p.id = $2;

-- name: known_event
-- An event by its id ($1) or its source's id ($2, $3), and what it did to the liquidity.
SELECT e.id, e.position_id, e.version, e.type, e.liquidity::numeric AS liquidity, e.base_amount, e.quote_amount, e.base_fees,
    e.quote_fees, e.executed_at, e.source, e.source_event_id, e.actor,
    abs(e.liquidity - coalesce((SELECT b.liquidity FROM liquidity_events b
        WHERE b.position_id = e.position_id AND b.version = e.version - 1), 0))::numeric AS change
FROM liquidity_events e
WHERE e.id = $1 OR (e.source = $2 AND e.source_event_id = $3);

-- name: position
-- A position by its id ($1) or its source's id ($2, $3).
SELECT l.id, l.user_id, p.address AS pool, m.symbol AS market, l.kind, l.tick_lower, l.tick_upper, l.liquidity::numeric AS liquidity,
    trim_scale(l.base_amount) AS base_amount, trim_scale(l.quote_amount) AS quote_amount, trim_scale(l.base_withdrawn) AS base_withdrawn,
    trim_scale(l.quote_withdrawn) AS quote_withdrawn, trim_scale(l.base_fees) AS base_fees, trim_scale(l.quote_fees) AS quote_fees,
    l.status, l.version, l.opened_at,
    l.closed_at
FROM liquidity_positions l
JOIN pools p ON p.id = l.pool_id
JOIN markets m ON m.id = l.market_id
WHERE l.id = $1 OR (l.source = $2 AND l.source_position_id = $3);

-- name: positions_of_user
-- A page of a user's positions, newest first, before the id $2; of one status where $3 is given.
SELECT l.id, l.user_id, p.address AS pool, m.symbol AS market, l.kind, l.tick_lower, l.tick_upper, l.liquidity::numeric AS liquidity,
    trim_scale(l.base_amount) AS base_amount, trim_scale(l.quote_amount) AS quote_amount, trim_scale(l.base_withdrawn) AS base_withdrawn,
    trim_scale(l.quote_withdrawn) AS quote_withdrawn, trim_scale(l.base_fees) AS base_fees, trim_scale(l.quote_fees) AS quote_fees,
    l.status, l.version, l.opened_at,
    l.closed_at
FROM liquidity_positions l
JOIN pools p ON p.id = l.pool_id
JOIN markets m ON m.id = l.market_id
WHERE l.user_id = $1 AND l.id < $2 AND ($3::text IS NULL OR l.status = $3)
ORDER BY l.id DESC
LIMIT $4;

-- name: events_of_position
-- A page of a position's events, in order, behind the version $2.
SELECT id, position_id, version, type, liquidity::numeric AS liquidity, base_amount, quote_amount, base_fees, quote_fees, executed_at,
    source, source_event_id, actor
FROM liquidity_events WHERE position_id = $1 AND version > $2 ORDER BY version LIMIT $3;

-- name: position_at
-- How a position stood just before a moment ($2): by all its events before it, in whatever order they were reported.
SELECT greatest(sum(change), 0) AS liquidity,
    coalesce(sum(base_amount) FILTER (WHERE type IN ('opened', 'increased')), 0) AS base_in,
    coalesce(sum(quote_amount) FILTER (WHERE type IN ('opened', 'increased')), 0) AS quote_in,
    coalesce(sum(base_amount) FILTER (WHERE type IN ('decreased', 'closed')), 0) AS base_out,
    coalesce(sum(quote_amount) FILTER (WHERE type IN ('decreased', 'closed')), 0) AS quote_out,
    coalesce(sum(base_fees), 0) AS base_fees, coalesce(sum(quote_fees), 0) AS quote_fees,
    max(executed_at) FILTER (WHERE type IN ('collected', 'closed') OR base_fees > 0 OR quote_fees > 0) AS collected_at
FROM (
    SELECT *, liquidity::numeric - lag(liquidity::numeric, 1, 0::numeric) OVER (ORDER BY version) AS change
    FROM liquidity_events WHERE position_id = $1
) AS e
WHERE executed_at < $2
HAVING count(*) > 0;

-- name: liquidity_changes
-- What liquidity a position had from which moment on, before a moment ($2).
SELECT executed_at, greatest(sum(sum(change)) OVER (ORDER BY executed_at), 0) AS liquidity
FROM (
    SELECT executed_at, liquidity::numeric - lag(liquidity::numeric, 1, 0::numeric) OVER (ORDER BY version) AS change
    FROM liquidity_events WHERE position_id = $1
) AS e
WHERE executed_at < $2 AND change <> 0
GROUP BY executed_at
ORDER BY executed_at;

-- name: pool_state
-- How a pool stood just before a moment: its last span that was over.
SELECT taken_at, liquidity::numeric AS liquidity, close_tick, base_reserve, quote_reserve
FROM pool_snapshots WHERE pool_id = $1 AND taken_at < $2 ORDER BY taken_at DESC LIMIT 1;

-- name: fee_growth
-- Fees of a pool in its spans in [$2, $3) that closed in the ticks [$4, $5), for each unit of the liquidity in range, by how
-- many of the moments $6 had come; $7 is the fee in ppm times the unit of the result.
SELECT width_bucket(taken_at, $6::timestamptz[]) AS come, sum(div(in_amount0 * $7::numeric, liquidity * 1000000)) AS growth0,
    sum(div(in_amount1 * $7::numeric, liquidity * 1000000)) AS growth1
FROM pool_snapshots
WHERE pool_id = $1 AND taken_at >= $2 AND taken_at < $3 AND liquidity > 0
    AND ($4::integer IS NULL OR close_tick >= $4 AND close_tick < $5::integer)
GROUP BY 1;

-- name: snapshots_of_pool
-- A page of a pool's snapshots, newest first: taken in [$2, $3).
SELECT p.address AS pool, s.taken_at, s.liquidity::numeric AS liquidity, s.open_tick, s.close_tick, s.lowest_tick, s.highest_tick,
    s.base_reserve, s.quote_reserve, s.net_amount0::numeric AS net_amount0, s.net_amount1::numeric AS net_amount1,
    s.in_amount0::numeric AS in_amount0, s.in_amount1::numeric AS in_amount1, s.source
FROM pool_snapshots s JOIN pools p ON p.id = s.pool_id
WHERE s.pool_id = $1 AND s.taken_at >= $2 AND s.taken_at < $3
ORDER BY s.taken_at DESC
LIMIT $4;

-- name: add_snapshots
-- Snapshots of a pool ($1); those of moments that are there already stay.
INSERT INTO pool_snapshots (pool_id, taken_at, liquidity, open_tick, close_tick, lowest_tick, highest_tick, base_reserve, quote_reserve,
    net_amount0, net_amount1, in_amount0, in_amount1, source)
SELECT $1, * FROM unnest($2::timestamptz[], $3::numeric[], $4::integer[], $5::integer[], $6::integer[], $7::integer[], $8::numeric[],
    $9::numeric[], $10::numeric[], $11::numeric[], $12::numeric[], $13::numeric[], $14::text[])
ON CONFLICT (pool_id, taken_at) DO NOTHING;

-- name: other_snapshots
-- Of these snapshots of a pool ($1), the first that is there with other values.
SELECT s.taken_at FROM pool_snapshots s
JOIN unnest($2::timestamptz[], $3::numeric[], $4::integer[], $5::integer[], $6::integer[], $7::integer[], $8::numeric[],
    $9::numeric[], $10::numeric[], $11::numeric[], $12::numeric[], $13::numeric[], $14::text[])
    AS n (taken_at, liquidity, open_tick, close_tick, lowest_tick, highest_tick, base_reserve, quote_reserve, net_amount0, net_amount1,
        in_amount0, in_amount1, source) ON s.taken_at = n.taken_at
WHERE s.pool_id = $1 AND (s.liquidity, s.net_amount0, s.net_amount1, s.in_amount0, s.in_amount1) IS DISTINCT FROM
        (n.liquidity, n.net_amount0, n.net_amount1, n.in_amount0, n.in_amount1)
    OR s.pool_id = $1 AND (s.open_tick, s.close_tick, s.lowest_tick, s.highest_tick, s.base_reserve, s.quote_reserve) IS DISTINCT FROM
        (n.open_tick, n.close_tick, n.lowest_tick, n.highest_tick, n.base_reserve, n.quote_reserve)
ORDER BY s.taken_at
LIMIT 1;

-- name: totals
-- What a pool did from one moment to another, both inclusive.
SELECT count(*) FILTER (WHERE in_amount0 > 0 OR in_amount1 > 0) AS active_minutes,
    coalesce(sum(net_amount0), 0)::numeric AS net_amount0, coalesce(sum(net_amount1), 0)::numeric AS net_amount1,
    coalesce(sum(in_amount0), 0)::numeric AS in_amount0, coalesce(sum(in_amount1), 0)::numeric AS in_amount1,
    (array_agg(open_tick ORDER BY taken_at))[1] AS open_tick, (array_agg(close_tick ORDER BY taken_at DESC))[1] AS close_tick,
    min(lowest_tick) AS lowest_tick, max(highest_tick) AS highest_tick,
    (array_agg(liquidity::numeric ORDER BY taken_at DESC))[1] AS liquidity
FROM pool_snapshots WHERE pool_id = $1 AND taken_at BETWEEN $2 AND $3;

-- name: open_positions_at
-- The positions of users ($1) that had liquidity just before a moment ($2), with the last state of their pools then, from
-- events up to the position ($3, $4) of the log.
SELECT l.user_id, l.tick_lower, l.tick_upper, e.liquidity, p.id AS pool_id, m.symbol AS market, p.kind,
    p.address, p.fee_ppm, p.tick_spacing, p.base_is_token0, m.base_decimals, m.quote_decimals, m.base_asset_id, m.quote_asset_id,
    s.liquidity::numeric AS pool_liquidity, s.close_tick, s.base_reserve, s.quote_reserve,
    e.base_left, e.quote_left
FROM liquidity_positions l
JOIN pools p ON p.id = l.pool_id
JOIN markets m ON m.id = l.market_id
CROSS JOIN LATERAL (
    SELECT sum(v.change) AS liquidity,
        sum(CASE WHEN v.type IN ('opened', 'increased') THEN v.base_amount::numeric ELSE -v.base_amount::numeric END) AS base_left,
        sum(CASE WHEN v.type IN ('opened', 'increased') THEN v.quote_amount::numeric ELSE -v.quote_amount::numeric END) AS quote_left
    FROM (
        SELECT *, liquidity::numeric - lag(liquidity::numeric, 1, 0::numeric) OVER (ORDER BY version) AS change
        FROM liquidity_events WHERE position_id = l.id
    ) AS v
    WHERE v.executed_at < $2 AND (v.xid, v.id) <= ($3::xid8, $4::uuid)
) AS e
LEFT JOIN LATERAL (
    SELECT * FROM pool_snapshots s WHERE s.pool_id = p.id AND s.taken_at < $2 ORDER BY s.taken_at DESC LIMIT 1
) AS s ON true
WHERE l.user_id = ANY($1::uuid[]) AND e.liquidity > 0
ORDER BY l.user_id, l.id;
