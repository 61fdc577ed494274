-- What monitoring reads: answers within milliseconds, whatever the size of the tables.

-- name: health
-- Whether the server answers, takes writes, and has which schema.
SELECT public.schema_step() AS schema_step, current_setting('transaction_read_only') = 'on' AS read_only;

-- name: limit_statements
-- Bounds the statements of this transaction, in milliseconds.
SELECT set_config('statement_timeout', $1, true);

-- name: projections
-- How far each projection has come; the age of its watermark is by this server's clock.
SELECT name, applied, set_aside, xid::text AS xid, id,
    extract(epoch FROM now() - watermark)::double precision AS watermark_age_s
FROM public.projections
ORDER BY name
LIMIT $1;

-- name: oldest_waiting_trade
-- Seconds since the first trade behind a position of the log was written; no row where none waits.
SELECT extract(epoch FROM now() - recorded_at)::double precision
FROM public.trades
WHERE (xid, id) > ($1::text::xid8, $2::uuid)
ORDER BY xid, id
LIMIT 1;

-- name: markets_of_day
-- Matches and volumes of the last 24 hours by market, the busiest first. It steps from market to market
-- through the key of candles and reads one day of each.
WITH RECURSIVE known (market) AS (
    (SELECT market FROM public.candles ORDER BY market LIMIT 1)
    UNION ALL
    SELECT (SELECT c.market FROM public.candles c WHERE c.market > known.market ORDER BY c.market LIMIT 1)
    FROM known
    WHERE known.market IS NOT NULL
)
SELECT known.market, day.trades, day.base_volume, day.quote_volume
FROM known
CROSS JOIN LATERAL (
    SELECT coalesce(sum(c.trades), 0) AS trades, coalesce(sum(c.base_volume), 0) AS base_volume,
        coalesce(sum(c.quote_volume), 0) AS quote_volume
    FROM public.candles c
    WHERE c.market = known.market AND c.start > now() - interval '24 hours'
) AS day
WHERE known.market IS NOT NULL
ORDER BY day.trades DESC, known.market;

-- name: active_users
-- Accounts with a trade in the last 24 hours and in the last 7 days.
SELECT count(DISTINCT user_id) FILTER (WHERE last_trade_at > now() - interval '24 hours') AS day,
    count(DISTINCT user_id) AS week
FROM public.trading_analytics
WHERE day >= (now() AT TIME ZONE 'UTC')::date - 7 AND last_trade_at > now() - interval '7 days';

-- name: record_figures
-- Takes rows of performance_metrics.
COPY public.performance_metrics (id, recorded_at, instance, name, labels, value) FROM STDIN;

-- name: make_metrics_partition
-- Makes the partition that rows of this moment belong into.
SELECT public.ensure_partitions('public.performance_metrics'::regclass, now(), now());
