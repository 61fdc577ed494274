-- Prices, and the asset that values are counted in.

-- name: prices_at
-- The price of every market just before a moment: the feed's of the last hour, else that of the last trade, else an
-- older one of the feed. Trades that were undone are no prices; of one moment the last by sequence counts.
SELECT m.id, m.symbol, m.base_asset_id, m.quote_asset_id,
    CASE WHEN feed.observed_at >= $1::timestamptz - interval '1 hour' THEN feed.price ELSE coalesce(trade.price, feed.price) END AS price
FROM markets m
LEFT JOIN LATERAL (
    SELECT p.price, p.observed_at FROM prices p
    WHERE p.market_id = m.id AND p.observed_at < $1 ORDER BY p.observed_at DESC, p.source LIMIT 1
) AS feed ON true
LEFT JOIN LATERAL (
    -- Not "= m.id", so that only the index by market has the order that is asked for: by that of ids alone, a market whose
    -- last trade is long ago would cost all trades since.
    SELECT uuid_at(t.executed_at) AS first_id, uuid_at(t.executed_at + interval '1 millisecond') AS end_id FROM trades t
    WHERE t.market_id BETWEEN m.id AND m.id AND t.id < uuid_at($1) AND t.reverses IS NULL
        AND NOT EXISTS (
            SELECT FROM trades r WHERE r.market_id = m.id AND r.reverses = t.id
                AND r.id >= uuid_at(t.executed_at) AND r.id < uuid_at(t.executed_at + interval '1 millisecond'))
    ORDER BY t.market_id DESC, t.id DESC LIMIT 1
) AS newest ON true
LEFT JOIN LATERAL (
    SELECT t.price FROM trades t
    WHERE t.market_id = m.id AND t.reverses IS NULL AND t.id >= newest.first_id AND t.id < newest.end_id
        AND NOT EXISTS (
            SELECT FROM trades r WHERE r.market_id = m.id AND r.reverses = t.id AND r.id >= newest.first_id AND r.id < newest.end_id)
    ORDER BY t.executed_at DESC, coalesce(t.sequence, 0) DESC, t.id DESC LIMIT 1
) AS trade ON true
ORDER BY m.id;

-- name: valuation_asset
-- The asset of this symbol; where none is named, the quote asset of most markets, the oldest of several.
SELECT a.id, a.symbol FROM assets a
WHERE a.symbol = $1 OR ($1::text IS NULL AND a.id = (
    SELECT quote_asset_id FROM markets GROUP BY quote_asset_id ORDER BY count(*) DESC, quote_asset_id LIMIT 1));
