-- Candles of any interval, derived from the minutes. Intervals are $2 long and start on Mondays' midnights, UTC,
-- or a whole number of intervals after one; the origin is before every trade.

-- name: newest
-- The newest $5 intervals of market $1 that start in [$3, $4), oldest first.
-- It steps from interval to interval down the index, so it reads no minute that it does not need.
WITH RECURSIVE intervals (start, number) AS (
    (
        SELECT date_bin($2::interval, c.start, '1969-12-29 00:00:00+00'), 1
        FROM candles AS c
        WHERE c.market = $1 AND c.start >= $3::timestamptz AND c.start < $4::timestamptz
        ORDER BY c.start DESC
        LIMIT 1
    )
    UNION ALL
    SELECT before.start, i.number + 1
    FROM intervals AS i
    CROSS JOIN LATERAL (
        SELECT date_bin($2::interval, c.start, '1969-12-29 00:00:00+00') AS start
        FROM candles AS c
        WHERE c.market = $1 AND c.start >= $3::timestamptz AND c.start < i.start
        ORDER BY c.start DESC
        LIMIT 1
    ) AS before
    WHERE i.number < $5::integer
)
SELECT
    i.start, c.open, c.high, c.low, c.close, c.base_volume, c.quote_volume, c.taker_buy_base_volume, c.trades,
    coalesce(p.watermark >= i.start + $2::interval, false) AS complete
FROM intervals AS i
CROSS JOIN LATERAL (
    SELECT
        (array_agg(m.open ORDER BY m.start))[1] AS open, max(m.high) AS high, min(m.low) AS low,
        (array_agg(m.close ORDER BY m.start DESC))[1] AS close,
        sum(m.base_volume) AS base_volume, sum(m.quote_volume) AS quote_volume,
        sum(m.taker_buy_base_volume) AS taker_buy_base_volume, sum(m.trades)::bigint AS trades
    FROM candles AS m
    WHERE m.market = $1 AND m.start >= i.start AND m.start < i.start + $2::interval
) AS c
LEFT JOIN projections AS p ON p.name = 'trades'
ORDER BY i.start;

-- name: next
-- The first intervals of market $1 that start in [$3, $4), at most $5 of them, oldest first.
WITH RECURSIVE intervals (start, number) AS (
    (
        SELECT date_bin($2::interval, c.start, '1969-12-29 00:00:00+00'), 1
        FROM candles AS c
        WHERE c.market = $1 AND c.start >= $3::timestamptz AND c.start < $4::timestamptz
        ORDER BY c.start
        LIMIT 1
    )
    UNION ALL
    SELECT after.start, i.number + 1
    FROM intervals AS i
    CROSS JOIN LATERAL (
        SELECT date_bin($2::interval, c.start, '1969-12-29 00:00:00+00') AS start
        FROM candles AS c
        WHERE c.market = $1 AND c.start >= i.start + $2::interval AND c.start < $4::timestamptz
        ORDER BY c.start
        LIMIT 1
    ) AS after
    WHERE i.number < $5::integer
)
SELECT
    i.start, c.open, c.high, c.low, c.close, c.base_volume, c.quote_volume, c.taker_buy_base_volume, c.trades,
    coalesce(p.watermark >= i.start + $2::interval, false) AS complete
FROM intervals AS i
CROSS JOIN LATERAL (
    SELECT
        (array_agg(m.open ORDER BY m.start))[1] AS open, max(m.high) AS high, min(m.low) AS low,
        (array_agg(m.close ORDER BY m.start DESC))[1] AS close,
        sum(m.base_volume) AS base_volume, sum(m.quote_volume) AS quote_volume,
        sum(m.taker_buy_base_volume) AS taker_buy_base_volume, sum(m.trades)::bigint AS trades
    FROM candles AS m
    WHERE m.market = $1 AND m.start >= i.start AND m.start < i.start + $2::interval
) AS c
LEFT JOIN projections AS p ON p.name = 'trades'
ORDER BY i.start;

-- name: market_is_known
-- Whether the main database has the market.
SELECT EXISTS (SELECT FROM markets WHERE symbol = $1);
