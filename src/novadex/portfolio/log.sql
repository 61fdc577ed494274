-- The three logs that portfolios follow, trades, transfers and liquidity events, read as one: ordered by (xid, id).

-- name: sample
-- Who main is, where its logs are final, and whether rows wait behind the position ($1, $2). As the sample of
-- novadex/analytics/log.sql, which says how.
SELECT
    transaction_timestamp() AS sampled_at,
    pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS horizon,
    pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS committed_below,
    pg_snapshot_xmax(pg_current_snapshot())::text::bigint
        + ((age('3'::xid)::bigint + 3 - pg_snapshot_xmax(pg_current_snapshot())::text::bigint) & 4294967295) AS next_xid,
    (SELECT epoch FROM recovery_epoch) AS epoch,
    system_identifier() AS system_identifier,
    ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer AS timeline,
    EXISTS (SELECT FROM trades WHERE (xid, id) > ($1::xid8, $2::uuid) AND xid < pg_snapshot_xmin(pg_current_snapshot()))
    OR EXISTS (SELECT FROM transfers WHERE (xid, id) > ($1::xid8, $2::uuid) AND xid < pg_snapshot_xmin(pg_current_snapshot()))
    OR EXISTS (SELECT FROM liquidity_events WHERE (xid, id) > ($1::xid8, $2::uuid) AND xid < pg_snapshot_xmin(pg_current_snapshot()))
        AS waiting;

-- name: count_rows
-- How many rows stand behind the position ($1, $2) and below the horizon $3; counts to $4 at most.
SELECT count(*) FROM (
    (SELECT FROM trades WHERE (xid, id) > ($1::xid8, $2::uuid) AND xid < $3::xid8 LIMIT $4)
    UNION ALL
    (SELECT FROM transfers WHERE (xid, id) > ($1::xid8, $2::uuid) AND xid < $3::xid8 LIMIT $4)
    UNION ALL
    (SELECT FROM liquidity_events WHERE (xid, id) > ($1::xid8, $2::uuid) AND xid < $3::xid8 LIMIT $4)
    LIMIT $4
) AS waiting;

-- name: page
-- Of the next rows behind the position ($1, $2) and below the horizon $3, at most $4: how many, and which is the last.
SELECT count(*) AS rows, (array_agg(xid ORDER BY n DESC))[1]::text::bigint AS xid,
    (array_agg(id ORDER BY n DESC))[1] AS id
FROM (
    SELECT xid, id, row_number() OVER (ORDER BY xid, id) AS n
    FROM (
        (SELECT xid, id FROM trades WHERE (xid, id) > ($1::xid8, $2::uuid) AND xid < $3::xid8 ORDER BY xid, id LIMIT $4)
        UNION ALL
        (SELECT xid, id FROM transfers WHERE (xid, id) > ($1::xid8, $2::uuid) AND xid < $3::xid8 ORDER BY xid, id LIMIT $4)
        UNION ALL
        (SELECT xid, id FROM liquidity_events WHERE (xid, id) > ($1::xid8, $2::uuid) AND xid < $3::xid8
            ORDER BY xid, id LIMIT $4)
    ) AS logs
) AS page
WHERE n <= $4;

-- name: last_row
-- The last row below a horizon: where a rebuild begins to follow.
SELECT xid::text::bigint AS xid, id FROM (
    (SELECT xid, id FROM trades WHERE xid < $1::xid8 ORDER BY xid DESC, id DESC LIMIT 1)
    UNION ALL
    (SELECT xid, id FROM transfers WHERE xid < $1::xid8 ORDER BY xid DESC, id DESC LIMIT 1)
    UNION ALL
    (SELECT xid, id FROM liquidity_events WHERE xid < $1::xid8 ORDER BY xid DESC, id DESC LIMIT 1)
) AS ends
ORDER BY xid DESC, id DESC
LIMIT 1;

-- name: trades_of_page
-- The trades of users behind the position ($1, $2) up to ($3, $4), in the order of lots.
SELECT t.user_id, t.market_id, t.id, t.executed_at, coalesce(t.sequence, 0) AS sequence, t.side, t.base_amount,
    t.quote_amount, false AS undone, t.reverses IS NOT NULL AS undoes
FROM trades t
JOIN users u ON u.id = t.user_id AND u.kind <> 'system'
WHERE (t.xid, t.id) > ($1::xid8, $2::uuid) AND (t.xid, t.id) <= ($3::xid8, $4::uuid)
ORDER BY t.user_id, t.market_id, t.executed_at, coalesce(t.sequence, 0), t.id;
