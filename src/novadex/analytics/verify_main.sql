-- What the records say the derived tables must hold, month by month: trades with ids in [$1, $2) up to the
-- position ($3, $4). All values come as text, and all orders are those of bytes, so that the other side, which
-- may be another server with other collations, gives the same.

-- name: ends
-- The first and the last id of all trades.
SELECT
    (SELECT id FROM trades ORDER BY id LIMIT 1) AS first_id,
    (SELECT id FROM trades ORDER BY id DESC LIMIT 1) AS last_id;

-- name: first_from
-- The first of the trades from an id on.
SELECT id FROM trades WHERE id >= $1 ORDER BY id LIMIT 1;

-- name: trade_facts_buckets
-- Count and hash of the trades in each bucket of ids: 24 bits, about 4.7 hours.
SELECT
    substring(uuid_send(t.id) FROM 1 FOR 3) AS bucket, count(*) AS rows,
    sum(hash_record_extended(ROW(
        t.id, t.user_id, m.symbol, t.type, t.side, t.liquidity, t.base_amount::numeric, t.quote_amount::numeric,
        t.price::numeric, t.fee_amount::numeric, a.symbol, t.executed_at, t.sequence, t.match_id, t.source, t.reverses
    ), 0)) AS hash
FROM trades AS t
JOIN markets AS m ON m.id = t.market_id
LEFT JOIN assets AS a ON a.id = t.fee_asset_id
WHERE t.id >= $1 AND t.id < $2 AND (t.xid, t.id) <= ($3::xid8, $4::uuid)
GROUP BY bucket
ORDER BY bucket;

-- name: trade_facts
-- The trades themselves.
SELECT
    t.id::text AS id, t.user_id::text AS user_id, m.symbol AS market, t.type, t.side, t.liquidity,
    trim_scale(t.base_amount)::text AS base_amount, trim_scale(t.quote_amount)::text AS quote_amount,
    trim_scale(t.price)::text AS price, trim_scale(t.fee_amount)::text AS fee_amount, a.symbol AS fee_asset,
    to_char(t.executed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS executed_at,
    t.sequence::text AS sequence, t.match_id::text AS match_id, t.source, t.reverses::text AS reverses
FROM trades AS t
JOIN markets AS m ON m.id = t.market_id
LEFT JOIN assets AS a ON a.id = t.fee_asset_id
WHERE t.id >= $1 AND t.id < $2 AND (t.xid, t.id) <= ($3::xid8, $4::uuid)
ORDER BY t.id;

-- name: candles
-- The candles of these trades.
SELECT
    to_char(start AT TIME ZONE 'UTC', 'YYYY-MM') AS month, market,
    to_char(start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS start,
    trim_scale(max(price) FILTER (WHERE place = 1))::text AS open,
    trim_scale(max(price))::text AS high, trim_scale(min(price))::text AS low,
    trim_scale(max(price) FILTER (WHERE place = places))::text AS close,
    trim_scale(sum(base_amount))::text AS base_volume, trim_scale(sum(quote_amount))::text AS quote_volume,
    trim_scale(coalesce(sum(base_amount) FILTER (WHERE (side = 'buy') = (liquidity = 'taker')), 0))::text
        AS taker_buy_base_volume,
    count(*)::text AS trades,
    to_char(min(executed_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS first_at,
    (min(sequence) FILTER (WHERE place = 1))::text AS first_sequence,
    min(id) FILTER (WHERE place = 1) AS first_id,
    to_char(max(executed_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS last_at,
    (min(sequence) FILTER (WHERE place = places))::text AS last_sequence,
    min(id) FILTER (WHERE place = places) AS last_id
FROM (
    SELECT
        *,
        row_number() OVER (PARTITION BY market, start ORDER BY executed_at, sequence, id) AS place,
        count(*) OVER (PARTITION BY market, start) AS places
    FROM (
        SELECT
            m.symbol COLLATE "C" AS market, date_bin('1 minute', t.executed_at, '1970-01-01 00:00:00+00') AS start,
            t.price::numeric, t.base_amount::numeric, t.quote_amount::numeric, t.side, t.liquidity, t.executed_at,
            coalesce(t.sequence, 0) AS sequence, t.id::text COLLATE "C" AS id
        FROM trades AS t
        JOIN markets AS m ON m.id = t.market_id
        WHERE t.id >= $1 AND t.id < $2 AND (t.xid, t.id) <= ($3::xid8, $4::uuid)
            AND (t.liquidity = 'taker' OR t.match_id IS NULL)
            AND t.reverses IS NULL AND NOT EXISTS (
                SELECT FROM trades AS r
                WHERE r.reverses = t.id AND r.id >= $1 AND r.id < $2 AND (r.xid, r.id) <= ($3::xid8, $4::uuid)
            )
    ) AS matches
) AS placed
GROUP BY market, placed.start
ORDER BY market, placed.start;

-- name: trading_analytics
-- The figures of users, markets and days.
SELECT
    to_char(day, 'YYYY-MM') AS month, user_id::text AS user_id, market, to_char(day, 'YYYY-MM-DD') AS day,
    count(*)::text AS trades,
    (count(*) FILTER (WHERE side = 'buy'))::text AS buys, (count(*) FILTER (WHERE side = 'sell'))::text AS sells,
    (count(*) FILTER (WHERE liquidity = 'maker'))::text AS maker_trades,
    (count(*) FILTER (WHERE liquidity = 'taker'))::text AS taker_trades,
    trim_scale(sum(base_amount))::text AS base_volume, trim_scale(sum(quote_amount))::text AS quote_volume,
    trim_scale(coalesce(sum(fee_amount) FILTER (WHERE fee_asset_id = base_asset_id), 0))::text AS base_fees,
    trim_scale(coalesce(sum(fee_amount) FILTER (WHERE fee_asset_id = quote_asset_id), 0))::text AS quote_fees,
    to_char(min(executed_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS first_trade_at,
    to_char(max(executed_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS last_trade_at
FROM (
    SELECT
        t.user_id, m.symbol COLLATE "C" AS market, (t.executed_at AT TIME ZONE 'UTC')::date AS day, t.side,
        t.liquidity, t.base_amount::numeric, t.quote_amount::numeric, t.fee_amount::numeric, t.fee_asset_id,
        m.base_asset_id, m.quote_asset_id, t.executed_at
    FROM trades AS t
    JOIN markets AS m ON m.id = t.market_id
    WHERE t.id >= $1 AND t.id < $2 AND (t.xid, t.id) <= ($3::xid8, $4::uuid)
        AND t.reverses IS NULL AND NOT EXISTS (
            SELECT FROM trades AS r
            WHERE r.reverses = t.id AND r.id >= $1 AND r.id < $2 AND (r.xid, r.id) <= ($3::xid8, $4::uuid)
        )
) AS executions
GROUP BY executions.user_id, market, executions.day
ORDER BY executions.user_id, market, executions.day;

-- name: trading_other_fees
-- The fees in neither asset of the market.
SELECT
    to_char(day, 'YYYY-MM') AS month, user_id::text AS user_id, market, to_char(day, 'YYYY-MM-DD') AS day, asset,
    trim_scale(sum(fee_amount))::text AS fees
FROM (
    SELECT
        t.user_id, m.symbol COLLATE "C" AS market, (t.executed_at AT TIME ZONE 'UTC')::date AS day,
        a.symbol COLLATE "C" AS asset, t.fee_amount::numeric
    FROM trades AS t
    JOIN markets AS m ON m.id = t.market_id
    JOIN assets AS a ON a.id = t.fee_asset_id
    WHERE t.id >= $1 AND t.id < $2 AND (t.xid, t.id) <= ($3::xid8, $4::uuid)
        AND t.fee_amount <> 0 AND t.fee_asset_id <> m.base_asset_id AND t.fee_asset_id <> m.quote_asset_id
        AND t.reverses IS NULL AND NOT EXISTS (
            SELECT FROM trades AS r
            WHERE r.reverses = t.id AND r.id >= $1 AND r.id < $2 AND (r.xid, r.id) <= ($3::xid8, $4::uuid)
        )
) AS executions
GROUP BY executions.user_id, market, executions.day, asset
ORDER BY executions.user_id, market, executions.day, asset;
