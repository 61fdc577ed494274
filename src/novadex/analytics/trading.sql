-- Daily figures of users.

-- name: days
-- Figures of user $1 in market $2 (any, where null) from day $3 to day $4, newest first, after the key ($5, $6).
SELECT
    t.user_id, t.market, t.day, t.trades, t.buys, t.sells, t.maker_trades, t.taker_trades,
    t.base_volume, t.quote_volume, t.base_fees, t.quote_fees,
    coalesce((
        SELECT jsonb_object_agg(f.asset, trim_scale(f.fees)::text)
        FROM trading_other_fees AS f
        WHERE f.user_id = t.user_id AND f.market = t.market AND f.day = t.day
    ), '{}') AS other_fees,
    t.first_trade_at, t.last_trade_at
FROM trading_analytics AS t
WHERE t.user_id = $1 AND ($2::text IS NULL OR t.market = $2) AND t.day BETWEEN $3 AND $4
    AND ($5::date IS NULL OR t.day < $5 OR (t.day = $5 AND t.market > $6))
ORDER BY t.day DESC, t.market
LIMIT $7;
