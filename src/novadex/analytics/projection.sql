-- The projection "trades" in the analytics database: facts, candles and figures, and the position in one transaction.

-- name: make_staging
-- The rows of one batch, private to this session. Nothing is checked here: the tables they go to do that.
CREATE TEMPORARY TABLE IF NOT EXISTS trade_staging (
    n integer, xid xid8, id uuid, user_id uuid, market text, type text, side text, liquidity text,
    base_amount numeric, quote_amount numeric, price numeric, fee_amount numeric, fee_asset text, fee_kind text,
    executed_at timestamptz, sequence bigint, match_id uuid, source text, reverses uuid
) ON COMMIT DELETE ROWS;

-- name: clear_staging
-- Empty it where several batches share a transaction.
TRUNCATE pg_temp.trade_staging;

-- name: copy_staging
-- Fill it.
COPY pg_temp.trade_staging FROM STDIN (FORMAT binary);

-- name: staged
-- How many rows it has, how many of them undo another, and the position after them.
SELECT n AS rows, (SELECT count(reverses) FROM pg_temp.trade_staging) AS reversals, xid::text::bigint AS xid, id FROM pg_temp.trade_staging ORDER BY n DESC LIMIT 1;

-- name: ensure_partitions
-- Makes the partitions that the rows $1 to $2 need and that are missing.
SELECT ensure_partitions('trade_facts', month AT TIME ZONE 'UTC', month AT TIME ZONE 'UTC')
FROM (
    SELECT DISTINCT date_trunc('month', executed_at AT TIME ZONE 'UTC') AS month
    FROM pg_temp.trade_staging WHERE n BETWEEN $1 AND $2
) AS months
WHERE to_regclass('public.trade_facts_' || to_char(month, 'YYYY_MM')) IS NULL;

-- name: ensure_partition
-- Makes the partition of month $1 where it is missing.
SELECT ensure_partitions('trade_facts', $1, $1);

-- name: insert_facts
-- The rows $1 to $2 as facts; those that are facts already are left out.
INSERT INTO trade_facts (
    id, user_id, market, type, side, liquidity, base_amount, quote_amount, price, fee_amount, fee_asset,
    executed_at, sequence, match_id, source, reverses
)
SELECT
    id, user_id, market, type, side, liquidity, base_amount, quote_amount, price, fee_amount, fee_asset,
    executed_at, sequence, match_id, source, reverses
FROM pg_temp.trade_staging WHERE n BETWEEN $1 AND $2
ON CONFLICT (user_id, id) DO NOTHING;

-- name: count_staged
-- How many of the rows $1 to $2 are in the batch.
SELECT count(*) FROM pg_temp.trade_staging WHERE n BETWEEN $1 AND $2;

-- name: forget_applied
-- Takes rows that are facts already out of the batch.
DELETE FROM pg_temp.trade_staging AS s USING trade_facts AS f
WHERE s.n BETWEEN $1 AND $2 AND f.user_id = s.user_id AND f.id = s.id;

-- name: merge_candles
-- The rows $1 to $2 into the candles of their minutes: each match once, by its taker's row or its only row.
INSERT INTO candles AS c (
    market, start, open, high, low, close, base_volume, quote_volume, taker_buy_base_volume, trades,
    first_at, first_sequence, first_id, last_at, last_sequence, last_id
)
SELECT
    market, start,
    max(price) FILTER (WHERE place = 1), max(price), min(price), max(price) FILTER (WHERE place = places),
    sum(base_amount), sum(quote_amount),
    coalesce(sum(base_amount) FILTER (WHERE (side = 'buy') = (liquidity = 'taker')), 0), count(*),
    min(executed_at), min(sequence) FILTER (WHERE place = 1), (array_agg(id) FILTER (WHERE place = 1))[1],
    max(executed_at), max(sequence) FILTER (WHERE place = places), (array_agg(id) FILTER (WHERE place = places))[1]
FROM (
    SELECT
        *,
        row_number() OVER (PARTITION BY market, start ORDER BY executed_at, sequence, id) AS place,
        count(*) OVER (PARTITION BY market, start) AS places
    FROM (
        SELECT
            market, date_bin('1 minute', executed_at, '1970-01-01 00:00:00+00') AS start, price, base_amount,
            quote_amount, side, liquidity, executed_at, coalesce(sequence, 0) AS sequence, id
        FROM pg_temp.trade_staging
        WHERE n BETWEEN $1 AND $2 AND reverses IS NULL AND (liquidity = 'taker' OR match_id IS NULL)
    ) AS matches
) AS placed
GROUP BY market, start
ON CONFLICT (market, start) DO UPDATE SET
    open = CASE WHEN (excluded.first_at, excluded.first_sequence, excluded.first_id)
        < (c.first_at, c.first_sequence, c.first_id) THEN excluded.open ELSE c.open END,
    first_sequence = CASE WHEN (excluded.first_at, excluded.first_sequence, excluded.first_id)
        < (c.first_at, c.first_sequence, c.first_id) THEN excluded.first_sequence ELSE c.first_sequence END,
    first_id = CASE WHEN (excluded.first_at, excluded.first_sequence, excluded.first_id)
        < (c.first_at, c.first_sequence, c.first_id) THEN excluded.first_id ELSE c.first_id END,
    first_at = least(c.first_at, excluded.first_at),
    close = CASE WHEN (excluded.last_at, excluded.last_sequence, excluded.last_id)
        > (c.last_at, c.last_sequence, c.last_id) THEN excluded.close ELSE c.close END,
    last_sequence = CASE WHEN (excluded.last_at, excluded.last_sequence, excluded.last_id)
        > (c.last_at, c.last_sequence, c.last_id) THEN excluded.last_sequence ELSE c.last_sequence END,
    last_id = CASE WHEN (excluded.last_at, excluded.last_sequence, excluded.last_id)
        > (c.last_at, c.last_sequence, c.last_id) THEN excluded.last_id ELSE c.last_id END,
    last_at = greatest(c.last_at, excluded.last_at),
    high = greatest(c.high, excluded.high),
    low = least(c.low, excluded.low),
    base_volume = c.base_volume + excluded.base_volume,
    quote_volume = c.quote_volume + excluded.quote_volume,
    taker_buy_base_volume = c.taker_buy_base_volume + excluded.taker_buy_base_volume,
    trades = c.trades + excluded.trades;

-- name: merge_trading
-- The rows $1 to $2 into the figures of their users, markets and days.
INSERT INTO trading_analytics AS t (
    user_id, market, day, trades, buys, sells, maker_trades, taker_trades, base_volume, quote_volume,
    base_fees, quote_fees, first_trade_at, last_trade_at
)
SELECT
    user_id, market, (executed_at AT TIME ZONE 'UTC')::date AS day, count(*),
    count(*) FILTER (WHERE side = 'buy'), count(*) FILTER (WHERE side = 'sell'),
    count(*) FILTER (WHERE liquidity = 'maker'), count(*) FILTER (WHERE liquidity = 'taker'),
    sum(base_amount), sum(quote_amount),
    coalesce(sum(fee_amount) FILTER (WHERE fee_kind = 'base'), 0),
    coalesce(sum(fee_amount) FILTER (WHERE fee_kind = 'quote'), 0),
    min(executed_at), max(executed_at)
FROM pg_temp.trade_staging WHERE n BETWEEN $1 AND $2 AND reverses IS NULL
GROUP BY user_id, market, day
ON CONFLICT (user_id, market, day) DO UPDATE SET
    trades = t.trades + excluded.trades,
    buys = t.buys + excluded.buys,
    sells = t.sells + excluded.sells,
    maker_trades = t.maker_trades + excluded.maker_trades,
    taker_trades = t.taker_trades + excluded.taker_trades,
    base_volume = t.base_volume + excluded.base_volume,
    quote_volume = t.quote_volume + excluded.quote_volume,
    base_fees = t.base_fees + excluded.base_fees,
    quote_fees = t.quote_fees + excluded.quote_fees,
    first_trade_at = least(t.first_trade_at, excluded.first_trade_at),
    last_trade_at = greatest(t.last_trade_at, excluded.last_trade_at);

-- name: merge_other_fees
-- The fees of the rows $1 to $2 that were paid in neither asset of the market.
INSERT INTO trading_other_fees AS t (user_id, market, day, asset, fees)
SELECT user_id, market, (executed_at AT TIME ZONE 'UTC')::date AS day, fee_asset, sum(fee_amount)
FROM pg_temp.trade_staging
WHERE n BETWEEN $1 AND $2 AND reverses IS NULL AND fee_kind = 'other' AND fee_asset IS NOT NULL AND fee_amount <> 0
GROUP BY user_id, market, day, fee_asset
ON CONFLICT (user_id, market, day, asset) DO UPDATE SET fees = t.fees + excluded.fees;

-- name: forget_candles
-- Takes away the minutes in which the rows $1 to $2 undo executions.
DELETE FROM candles AS c USING pg_temp.trade_staging AS s
WHERE s.n BETWEEN $1 AND $2 AND s.reverses IS NOT NULL
    AND c.market = s.market AND c.start = date_trunc('minute', s.executed_at, 'UTC');

-- name: recompute_candles
-- Those minutes anew, from the facts that stand: neither undone nor undoing.
INSERT INTO candles (
    market, start, open, high, low, close, base_volume, quote_volume, taker_buy_base_volume, trades,
    first_at, first_sequence, first_id, last_at, last_sequence, last_id
)
SELECT
    market, start,
    max(price) FILTER (WHERE place = 1), max(price), min(price), max(price) FILTER (WHERE place = places),
    sum(base_amount), sum(quote_amount),
    coalesce(sum(base_amount) FILTER (WHERE (side = 'buy') = (liquidity = 'taker')), 0), count(*),
    min(executed_at), min(sequence) FILTER (WHERE place = 1), (array_agg(id) FILTER (WHERE place = 1))[1],
    max(executed_at), max(sequence) FILTER (WHERE place = places), (array_agg(id) FILTER (WHERE place = places))[1]
FROM (
    SELECT
        *,
        row_number() OVER (PARTITION BY market, start ORDER BY executed_at, sequence, id) AS place,
        count(*) OVER (PARTITION BY market, start) AS places
    FROM (
        SELECT
            market, date_bin('1 minute', executed_at, '1970-01-01 00:00:00+00') AS start, price, base_amount,
            quote_amount, side, liquidity, executed_at, coalesce(sequence, 0) AS sequence, id
        FROM (
            SELECT DISTINCT s.market AS of_market, date_trunc('minute', s.executed_at, 'UTC') AS minute
            FROM pg_temp.trade_staging AS s WHERE s.n BETWEEN $1 AND $2 AND s.reverses IS NOT NULL
        ) AS touched
        JOIN trade_facts AS f ON f.market = of_market
            AND f.id >= uuid_at(minute) AND f.id < uuid_at(minute + interval '1 minute')
        WHERE f.reverses IS NULL AND (f.liquidity = 'taker' OR f.match_id IS NULL)
            AND NOT EXISTS (SELECT FROM trade_facts AS r WHERE r.reverses = f.id)
    ) AS matches
) AS placed
GROUP BY market, start;

-- name: forget_trading
-- Takes away the figures of users and days in which the rows $1 to $2 undo executions.
DELETE FROM trading_analytics AS t USING pg_temp.trade_staging AS s
WHERE s.n BETWEEN $1 AND $2 AND s.reverses IS NOT NULL
    AND t.user_id = s.user_id AND t.market = s.market AND t.day = (s.executed_at AT TIME ZONE 'UTC')::date;

-- name: recompute_trading
-- Those figures anew, from the facts that stand.
INSERT INTO trading_analytics (
    user_id, market, day, trades, buys, sells, maker_trades, taker_trades, base_volume, quote_volume,
    base_fees, quote_fees, first_trade_at, last_trade_at
)
SELECT
    f.user_id, f.market, touched.day, count(*),
    count(*) FILTER (WHERE f.side = 'buy'), count(*) FILTER (WHERE f.side = 'sell'),
    count(*) FILTER (WHERE f.liquidity = 'maker'), count(*) FILTER (WHERE f.liquidity = 'taker'),
    sum(f.base_amount), sum(f.quote_amount),
    coalesce(sum(f.fee_amount) FILTER (WHERE f.fee_asset = split_part(f.market, '/', 1)), 0),
    coalesce(sum(f.fee_amount) FILTER (WHERE f.fee_asset = split_part(split_part(f.market, '/', 2), '-', 1)), 0),
    min(f.executed_at), max(f.executed_at)
FROM (
    SELECT DISTINCT s.user_id, s.market, (s.executed_at AT TIME ZONE 'UTC')::date AS day
    FROM pg_temp.trade_staging AS s WHERE s.n BETWEEN $1 AND $2 AND s.reverses IS NOT NULL
) AS touched
JOIN trade_facts AS f ON f.user_id = touched.user_id AND f.market = touched.market
    AND f.id >= uuid_at(touched.day::timestamp AT TIME ZONE 'UTC')
    AND f.id < uuid_at((touched.day + 1)::timestamp AT TIME ZONE 'UTC')
WHERE f.reverses IS NULL AND NOT EXISTS (SELECT FROM trade_facts AS r WHERE r.reverses = f.id)
GROUP BY f.user_id, f.market, touched.day;

-- name: forget_other_fees
-- Takes away the fees of users and days in which the rows $1 to $2 undo executions.
DELETE FROM trading_other_fees AS t USING pg_temp.trade_staging AS s
WHERE s.n BETWEEN $1 AND $2 AND s.reverses IS NOT NULL
    AND t.user_id = s.user_id AND t.market = s.market AND t.day = (s.executed_at AT TIME ZONE 'UTC')::date;

-- name: recompute_other_fees
-- Those fees anew, from the facts that stand.
INSERT INTO trading_other_fees (user_id, market, day, asset, fees)
SELECT f.user_id, f.market, touched.day, f.fee_asset, sum(f.fee_amount)
FROM (
    SELECT DISTINCT s.user_id, s.market, (s.executed_at AT TIME ZONE 'UTC')::date AS day
    FROM pg_temp.trade_staging AS s WHERE s.n BETWEEN $1 AND $2 AND s.reverses IS NOT NULL
) AS touched
JOIN trade_facts AS f ON f.user_id = touched.user_id AND f.market = touched.market
    AND f.id >= uuid_at(touched.day::timestamp AT TIME ZONE 'UTC')
    AND f.id < uuid_at((touched.day + 1)::timestamp AT TIME ZONE 'UTC')
WHERE f.reverses IS NULL AND NOT EXISTS (SELECT FROM trade_facts AS r WHERE r.reverses = f.id)
    AND f.fee_amount <> 0 AND f.fee_asset NOT IN (split_part(f.market, '/', 1), split_part(split_part(f.market, '/', 2), '-', 1))
GROUP BY f.user_id, f.market, touched.day, f.fee_asset;

-- name: set_aside
-- Notes that row $1 cannot be applied: SQLSTATE $2, reason $3.
INSERT INTO projection_rejects (projection, row_id, row_xid, code, reason, content)
SELECT 'trades', s.id, s.xid, $2, $3, (
    SELECT jsonb_object_agg(key, value)
    FROM jsonb_each_text(to_jsonb(s) - ARRAY['n', 'xid', 'fee_kind', 'executed_at']
        || jsonb_build_object('executed_at', to_char(s.executed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')))
)
FROM pg_temp.trade_staging AS s WHERE s.n = $1
ON CONFLICT (projection, row_id) DO NOTHING;

-- name: state
-- How far the projection is.
SELECT epoch, system_identifier, timeline, xid::text::bigint AS xid, id, watermark, applied, set_aside, updated_at,
    extract(epoch FROM clock_timestamp() - updated_at) AS age_s
FROM projections WHERE name = 'trades';

-- name: lock_state
-- The same, held until the transaction ends: whoever holds it owns the projection. None where another does.
SELECT epoch, system_identifier, timeline, xid::text::bigint AS xid, id, watermark, applied, set_aside, updated_at,
    extract(epoch FROM clock_timestamp() - updated_at) AS age_s
FROM projections WHERE name = 'trades' FOR UPDATE SKIP LOCKED;

-- name: wait_for_state
-- The same, waiting for another owner as long as lock_timeout allows.
SELECT epoch, system_identifier, timeline, xid::text::bigint AS xid, id, watermark, applied, set_aside, updated_at,
    extract(epoch FROM clock_timestamp() - updated_at) AS age_s
FROM projections WHERE name = 'trades' FOR UPDATE;

-- name: begin
-- The projection's first position, of the main database with this epoch, system identifier and timeline.
INSERT INTO projections (name, epoch, system_identifier, timeline, xid, id)
VALUES ('trades', $1, $2, $3, '0', '00000000-0000-0000-0000-000000000000')
ON CONFLICT (name) DO NOTHING;

-- name: store
-- The position reached, with the effect in the same transaction.
UPDATE projections SET xid = $1::xid8, id = $2, watermark = coalesce($3::timestamptz, watermark),
    applied = applied + $4, set_aside = set_aside + $5, updated_at = clock_timestamp()
WHERE name = 'trades';

-- name: store_rebuilt
-- The position after a rebuild, of the main database with this epoch, system identifier and timeline.
UPDATE projections SET epoch = $1, system_identifier = $2, timeline = $3, xid = $4::xid8, id = $5,
    watermark = $6, applied = $7, set_aside = $8, updated_at = clock_timestamp()
WHERE name = 'trades';

-- name: delete_facts
-- All facts: a rebuild writes them anew before it commits.
DELETE FROM trade_facts;

-- name: delete_candles
-- All candles.
DELETE FROM candles;

-- name: delete_trading
-- All figures of users.
DELETE FROM trading_analytics;

-- name: delete_other_fees
-- All fees in other assets.
DELETE FROM trading_other_fees;

-- name: delete_rejects
-- All rows that were set aside.
DELETE FROM projection_rejects WHERE projection = 'trades';
