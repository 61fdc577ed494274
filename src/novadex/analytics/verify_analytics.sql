-- What the derived tables hold, in the columns and the orders of verify_main.sql.

-- name: trade_facts_buckets
-- Count and hash of the facts with ids in [$1, $2) in each bucket of ids: 24 bits, about 4.7 hours.
SELECT
    substring(uuid_send(id) FROM 1 FOR 3) AS bucket, count(*) AS rows,
    sum(hash_record_extended(ROW(
        id, user_id, market, type, side, liquidity, base_amount, quote_amount,
        price, fee_amount, fee_asset, executed_at, sequence, match_id, source, reverses
    ), 0)) AS hash
FROM trade_facts
WHERE id >= $1 AND id < $2
GROUP BY bucket
ORDER BY bucket;

-- name: trade_facts
-- The facts with ids in [$1, $2).
SELECT
    id::text AS id, user_id::text AS user_id, market, type, side, liquidity,
    trim_scale(base_amount)::text AS base_amount, trim_scale(quote_amount)::text AS quote_amount,
    trim_scale(price)::text AS price, trim_scale(fee_amount)::text AS fee_amount, fee_asset,
    to_char(executed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS executed_at,
    sequence::text AS sequence, match_id::text AS match_id, source, reverses::text AS reverses
FROM trade_facts
WHERE trade_facts.id >= $1 AND trade_facts.id < $2
ORDER BY trade_facts.id, trade_facts.user_id;

-- name: candles
-- The candles that begin in [$1, $2), or behind $1 where $2 is infinity.
SELECT
    to_char(start AT TIME ZONE 'UTC', 'YYYY-MM') AS month, market,
    to_char(start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS start,
    trim_scale(open)::text AS open, trim_scale(high)::text AS high, trim_scale(low)::text AS low,
    trim_scale(close)::text AS close, trim_scale(base_volume)::text AS base_volume,
    trim_scale(quote_volume)::text AS quote_volume,
    trim_scale(taker_buy_base_volume)::text AS taker_buy_base_volume, trades::text AS trades,
    to_char(first_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS first_at,
    first_sequence::text AS first_sequence, first_id::text AS first_id,
    to_char(last_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS last_at,
    last_sequence::text AS last_sequence, last_id::text AS last_id
FROM candles
WHERE candles.start >= $1::text::timestamptz AND (candles.start < $2::text::timestamptz OR $2 = 'infinity')
ORDER BY date_trunc('month', candles.start AT TIME ZONE 'UTC'), candles.market COLLATE "C", candles.start;

-- name: trading_analytics
-- The figures of users, markets and days in [$1, $2).
SELECT
    to_char(day, 'YYYY-MM') AS month, user_id::text AS user_id, market, to_char(day, 'YYYY-MM-DD') AS day,
    trades::text AS trades, buys::text AS buys, sells::text AS sells, maker_trades::text AS maker_trades,
    taker_trades::text AS taker_trades, trim_scale(base_volume)::text AS base_volume,
    trim_scale(quote_volume)::text AS quote_volume, trim_scale(base_fees)::text AS base_fees,
    trim_scale(quote_fees)::text AS quote_fees,
    to_char(first_trade_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS first_trade_at,
    to_char(last_trade_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS last_trade_at
FROM trading_analytics
WHERE trading_analytics.day >= left($1::text, 10)::date AND (trading_analytics.day < left($2::text, 10)::date OR $2 = 'infinity')
ORDER BY
    date_trunc('month', trading_analytics.day::timestamp), trading_analytics.user_id,
    trading_analytics.market COLLATE "C", trading_analytics.day;

-- name: trading_other_fees
-- The fees in neither asset of the market, of the days in [$1, $2).
SELECT
    to_char(day, 'YYYY-MM') AS month, user_id::text AS user_id, market, to_char(day, 'YYYY-MM-DD') AS day, asset,
    trim_scale(fees)::text AS fees
FROM trading_other_fees
WHERE trading_other_fees.day >= left($1::text, 10)::date AND (trading_other_fees.day < left($2::text, 10)::date OR $2 = 'infinity')
ORDER BY
    date_trunc('month', trading_other_fees.day::timestamp), trading_other_fees.user_id,
    trading_other_fees.market COLLATE "C", trading_other_fees.day, trading_other_fees.asset COLLATE "C";

-- name: projection_rejects
-- The rows that were set aside.
SELECT row_id::text AS id, code, reason FROM projection_rejects WHERE projection = 'trades' ORDER BY row_id;
