-- What the projections read of the main database: the trades are their own log, ordered by (xid, id).
-- Rows below the horizon, the oldest transaction id that is still open, are final: no row can appear among
-- them any more, so reading on from a position misses none.

-- name: read_in_order
-- For this transaction: only plans that walk down the index of the log. A partition that was empty when the plan
-- was made, or when statistics were last taken, would be read whole otherwise.
SELECT
    set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
    set_config('enable_sort', 'off', true);

-- name: sample
-- Who main is, where its log is final, and whether rows wait behind the position ($1, $2).
-- next_xid is the next id to be given out: age() counts from it, and the snapshot lends the bits above 32. The
-- snapshot's own xmax is only above what was completed.
SELECT
    transaction_timestamp() AS sampled_at,
    pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS horizon,
    pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS committed_below,
    pg_snapshot_xmax(pg_current_snapshot())::text::bigint
        + ((age('3'::xid)::bigint + 3 - pg_snapshot_xmax(pg_current_snapshot())::text::bigint) & 4294967295) AS next_xid,
    (SELECT epoch FROM recovery_epoch) AS epoch,
    system_identifier() AS system_identifier,
    ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer AS timeline,
    EXISTS (
        SELECT FROM trades
        WHERE (xid, id) > ($1::xid8, $2::uuid) AND xid < pg_snapshot_xmin(pg_current_snapshot())
    ) AS waiting;

-- name: copy_rows
-- The rows behind a position and below a horizon, at most so many, in the columns of trade_staging.
-- (COPY takes no parameters of the server; the driver writes them in, by %s.)
COPY (
    SELECT
        (row_number() OVER (ORDER BY t.xid, t.id))::integer,
        t.xid, t.id, t.user_id, m.symbol, t.type, t.side, t.liquidity,
        t.base_amount::numeric, t.quote_amount::numeric, t.price::numeric, t.fee_amount::numeric, a.symbol,
        CASE t.fee_asset_id WHEN m.base_asset_id THEN 'base' WHEN m.quote_asset_id THEN 'quote' ELSE 'other' END,
        t.executed_at, t.sequence, t.match_id, t.source, t.reverses
    FROM (
        SELECT * FROM trades
        WHERE (xid, id) > (%s::xid8, %s::uuid) AND xid < %s::xid8
        ORDER BY xid, id
        LIMIT %s
    ) AS t
    JOIN markets AS m ON m.id = t.market_id
    LEFT JOIN assets AS a ON a.id = t.fee_asset_id
) TO STDOUT (FORMAT binary);

-- name: count_rows
-- How many rows stand behind the position ($1, $2) and below the horizon $3; counts to $4 at most.
SELECT count(*) FROM (
    SELECT FROM trades WHERE (xid, id) > ($1::xid8, $2::uuid) AND xid < $3::xid8 LIMIT $4
) AS waiting;

-- name: months
-- The months that trades have partitions for.
SELECT to_date(right(c.relname, 7), 'YYYY_MM')::timestamp AT TIME ZONE 'UTC' AS month
FROM pg_inherits AS i
JOIN pg_class AS c ON c.oid = i.inhrelid
WHERE i.inhparent = 'trades'::regclass
ORDER BY month;
