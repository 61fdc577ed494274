-- Orders, events, fills and matches beside each other. Every query looks at a range of ids: after $1, up to $2.
-- Numbers come as text, for JSON has no exact ones.

-- name: read_by_index
-- For this transaction: other rows are looked up one by one, whatever the planner believes of their number.
SELECT set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
    set_config('enable_seqscan', 'off', true), set_config('jit', 'off', true);

-- name: orders_page
-- The last of the next orders, and how many they are.
SELECT count(*) AS rows, (array_agg(id ORDER BY id DESC))[1] AS last FROM (
    SELECT id FROM orders WHERE id > $1 ORDER BY id LIMIT $2
) AS page;

-- name: events_page
-- The last of the next events, and how many they are.
SELECT count(*) AS rows, (array_agg(id ORDER BY id DESC))[1] AS last FROM (
    SELECT id FROM order_events WHERE id > $1 ORDER BY id LIMIT $2
) AS page;

-- name: trades_page
-- The last of the next trades, and how many they are.
SELECT count(*) AS rows, (array_agg(id ORDER BY id DESC))[1] AS last FROM (
    SELECT id FROM trades WHERE id > $1 ORDER BY id LIMIT $2
) AS page;

-- name: matches_page
-- The last of the next matches, and how many they are.
SELECT count(*) AS rows, (array_agg(id ORDER BY id DESC))[1] AS last FROM (
    SELECT id FROM matches WHERE id > $1 ORDER BY id LIMIT $2
) AS page;

-- name: orders_as_events
-- Orders that are not as their first and their last event say.
SELECT 'orders' AS what, jsonb_build_object('id', o.id) AS key,
    jsonb_build_object('version', o.version, 'status', o.status, 'quantity', trim_scale(o.quantity::numeric)::text,
        'filled_quantity', trim_scale(o.filled_quantity::numeric)::text, 'price', trim_scale(o.price::numeric)::text,
        'updated_at', o.updated_at, 'market_id', o.market_id, 'created_at', o.created_at, 'placed_by', o.placed_by) AS stored,
    CASE WHEN f.id IS NOT NULL THEN jsonb_build_object('version', l.version, 'status', l.status, 'quantity', trim_scale(l.quantity::numeric)::text,
        'filled_quantity', trim_scale(l.filled_quantity::numeric)::text, 'price', trim_scale(l.price::numeric)::text,
        'updated_at', l.occurred_at, 'market_id', f.market_id, 'created_at', f.occurred_at, 'placed_by', f.actor) END AS expected
FROM orders o
LEFT JOIN LATERAL (SELECT * FROM order_events e WHERE e.order_id = o.id ORDER BY e.version LIMIT 1) AS f ON true
LEFT JOIN LATERAL (SELECT * FROM order_events e WHERE e.order_id = o.id ORDER BY e.version DESC LIMIT 1) AS l ON true
WHERE o.id > $1 AND o.id <= $2
    AND (o.version, o.status, o.quantity, o.filled_quantity, o.price, o.updated_at, o.market_id, o.created_at, o.placed_by)
        IS DISTINCT FROM (l.version, l.status, l.quantity, l.filled_quantity, l.price, l.occurred_at, f.market_id, f.occurred_at, f.actor)
ORDER BY o.id;

-- name: events_without_order
-- Orders that are not there, as their events say; each at its first event.
SELECT 'orders' AS what, jsonb_build_object('id', f.order_id) AS key, NULL::jsonb AS stored,
    jsonb_build_object('version', l.version, 'status', l.status, 'quantity', trim_scale(l.quantity::numeric)::text,
        'filled_quantity', trim_scale(l.filled_quantity::numeric)::text, 'price', trim_scale(l.price::numeric)::text,
        'updated_at', l.occurred_at, 'market_id', f.market_id, 'created_at', f.occurred_at, 'placed_by', f.actor) AS expected
FROM order_events f
CROSS JOIN LATERAL (SELECT * FROM order_events e WHERE e.order_id = f.order_id ORDER BY e.version DESC LIMIT 1) AS l
WHERE f.id > $1 AND f.id <= $2
    AND NOT EXISTS (SELECT FROM orders o WHERE o.id = f.order_id)
    AND NOT EXISTS (SELECT FROM order_events e WHERE e.order_id = f.order_id AND (e.version, e.id) < (f.version, f.id))
ORDER BY f.id;

-- name: versions_of_events
-- Orders whose events are not numbered 1, 2, 3 and so on.
SELECT 'order_events' AS what, jsonb_build_object('order_id', v.id) AS key,
    jsonb_build_object('versions', v.versions) AS stored, jsonb_build_object('versions', format('1 to %s, each once', v.highest)) AS expected
FROM (
    SELECT o.id, e.*
    FROM orders o
    CROSS JOIN LATERAL (
        SELECT count(*) AS events, count(DISTINCT version) AS numbers, min(version) AS lowest, max(version) AS highest,
            left(string_agg(version::text, ' ' ORDER BY version), 200) AS versions
        FROM order_events WHERE order_id = o.id
    ) AS e
    WHERE o.id > $1 AND o.id <= $2
) AS v
WHERE v.events > 0 AND (v.lowest <> 1 OR v.highest <> v.events OR v.numbers <> v.events)
ORDER BY v.id;

-- name: steps_of_events
-- Events that the state machine does not have, or that are in another market than their order.
SELECT 'order_events' AS what, jsonb_build_object('order_id', s.order_id, 'version', s.version, 'id', s.id) AS key,
    jsonb_build_object('type', s.type, 'from', s.before, 'status', s.status, 'market_id', s.market_id) AS stored,
    jsonb_build_object('market_id', s.market_of_order, 'steps', (
        SELECT string_agg(concat_ws(' ', n.type, 'to', n.to_status), ', ' ORDER BY n.type, n.to_status)
        FROM order_transitions n WHERE n.from_status = s.before
    )) AS expected
FROM (
    SELECT e.id, e.order_id, e.version, e.type, e.status, e.market_id, o.market_id AS market_of_order,
        lag(e.status) OVER (PARTITION BY e.order_id ORDER BY e.version) AS before
    FROM orders o
    CROSS JOIN LATERAL (SELECT * FROM order_events WHERE order_id = o.id) AS e
    WHERE o.id > $1 AND o.id <= $2
) AS s
WHERE s.market_id <> s.market_of_order
    OR (s.type = 'placed') <> (s.before IS NULL)
    OR (s.before IS NOT NULL AND NOT EXISTS (
        SELECT FROM order_transitions n WHERE (n.type, n.from_status, n.to_status) = (s.type, s.before, s.status)
    ))
ORDER BY s.order_id, s.version;

-- name: fills_of_orders
-- Orders that are not filled by as much as their executions, those that are undone subtracted.
SELECT 'orders' AS what, jsonb_build_object('id', o.id) AS key,
    jsonb_build_object('filled_quantity', trim_scale(o.filled_quantity::numeric)::text,
        'events_without_trade', nullif(f.missing, 0)) AS stored,
    jsonb_build_object('filled_quantity', trim_scale(f.filled)::text, 'events_without_trade', NULL) AS expected
FROM orders o
CROSS JOIN LATERAL (
    SELECT coalesce(sum(CASE WHEN t.reverses IS NULL THEN t.base_amount ELSE -t.base_amount END), 0) AS filled,
        count(*) FILTER (WHERE t.id IS NULL) AS missing
    FROM order_events e
    LEFT JOIN LATERAL (SELECT * FROM trades WHERE id = e.trade_id AND order_id = e.order_id LIMIT 1) AS t ON true
    WHERE e.order_id = o.id AND e.trade_id IS NOT NULL
) AS f
WHERE o.id > $1 AND o.id <= $2 AND (o.filled_quantity <> f.filled OR f.missing > 0)
ORDER BY o.id;

-- name: fills_without_event
-- Executions of orders that no event of the order speaks of, or that are not the order's: another user, market or side.
SELECT 'trades' AS what, jsonb_build_object('id', t.id, 'order_id', t.order_id) AS key,
    jsonb_build_object('event', e.type, 'user_id', t.user_id, 'market_id', t.market_id, 'side', t.side) AS stored,
    jsonb_build_object('event', CASE WHEN t.reverses IS NULL THEN 'filled' ELSE 'busted' END,
        'user_id', o.user_id, 'market_id', o.market_id,
        'side', CASE WHEN t.reverses IS NULL THEN o.side WHEN o.side = 'buy' THEN 'sell' ELSE 'buy' END) AS expected
FROM trades t
LEFT JOIN LATERAL (SELECT * FROM orders WHERE id = t.order_id LIMIT 1) AS o ON true
LEFT JOIN LATERAL (SELECT type FROM order_events WHERE id = t.id AND order_id = t.order_id LIMIT 1) AS e ON true
WHERE t.id > $1 AND t.id <= $2 AND t.order_id IS NOT NULL
    AND (e.type, t.user_id, t.market_id, t.side) IS DISTINCT FROM (
        CASE WHEN t.reverses IS NULL THEN 'filled' ELSE 'busted' END, o.user_id, o.market_id,
        CASE WHEN t.reverses IS NULL THEN o.side WHEN o.side = 'buy' THEN 'sell' ELSE 'buy' END)
ORDER BY t.id;

-- name: sides_of_matches
-- Matches whose executions are missing, do not mirror each other, or are undone otherwise than the match.
SELECT 'matches' AS what, jsonb_build_object('id', m.id) AS key,
    jsonb_build_object('taker', t.id IS NOT NULL, 'maker', k.id IS NOT NULL,
        'taker_is', concat_ws(' ', t.liquidity, t.match_id, t.market_id, t.executed_at), 'maker_is', concat_ws(' ', k.liquidity, k.match_id, k.market_id, k.executed_at),
        'maker_side', k.side, 'maker_base', trim_scale(k.base_amount::numeric)::text, 'maker_quote', trim_scale(k.quote_amount::numeric)::text,
        'maker_price', trim_scale(k.price::numeric)::text, 'taker_undone', u.taker, 'maker_undone', u.maker) AS stored,
    jsonb_build_object('taker', true, 'maker', m.maker_trade_id IS NOT NULL,
        'taker_is', concat_ws(' ', 'taker', m.id, m.market_id, m.executed_at),
        'maker_is', CASE WHEN m.maker_trade_id IS NULL THEN '' ELSE concat_ws(' ', 'maker', m.id, m.market_id, m.executed_at) END,
        'maker_side', CASE WHEN m.maker_trade_id IS NULL THEN NULL WHEN t.side = 'buy' THEN 'sell' ELSE 'buy' END,
        'maker_base', CASE WHEN m.maker_trade_id IS NOT NULL THEN trim_scale(t.base_amount::numeric)::text END,
        'maker_quote', CASE WHEN m.maker_trade_id IS NOT NULL THEN trim_scale(t.quote_amount::numeric)::text END,
        'maker_price', CASE WHEN m.maker_trade_id IS NOT NULL THEN trim_scale(t.price::numeric)::text END,
        'taker_undone', (m.undone IS NOT NULL)::integer, 'maker_undone', (m.undone IS NOT NULL AND m.maker_trade_id IS NOT NULL)::integer) AS expected
FROM matches m
LEFT JOIN LATERAL (SELECT * FROM trades WHERE id = m.taker_trade_id LIMIT 1) AS t ON true
LEFT JOIN LATERAL (SELECT * FROM trades WHERE id = m.maker_trade_id LIMIT 1) AS k ON true
CROSS JOIN LATERAL (
    SELECT
        (SELECT count(*) FROM trades r WHERE r.reverses = m.taker_trade_id AND r.side <> t.side AND r.base_amount = t.base_amount
            AND r.quote_amount = t.quote_amount AND r.price = t.price AND r.fee_amount = -t.fee_amount AND r.match_id = m.id) AS taker,
        (SELECT count(*) FROM trades r WHERE r.reverses = m.maker_trade_id AND r.side <> k.side AND r.base_amount = k.base_amount
            AND r.quote_amount = k.quote_amount AND r.price = k.price AND r.fee_amount = -k.fee_amount AND r.match_id = m.id) AS maker
) AS u
WHERE m.id > $1 AND m.id <= $2
    AND NOT coalesce(
        (t.liquidity, t.match_id, t.market_id, t.executed_at) = ('taker', m.id, m.market_id, m.executed_at)
        AND u.taker = (m.undone IS NOT NULL)::integer
        AND (m.maker_trade_id IS NULL OR (
            (k.liquidity, k.match_id, k.market_id, k.executed_at) = ('maker', m.id, m.market_id, m.executed_at)
            AND k.side <> t.side AND (k.base_amount, k.quote_amount, k.price) = (t.base_amount, t.quote_amount, t.price)
            AND u.maker = (m.undone IS NOT NULL)::integer
        )), false)
ORDER BY m.id;

-- name: trades_of_matches
-- Executions that name a match which does not have them. Those that were recorded without orders may name a match of
-- the caller's own, which is in no table.
SELECT 'trades' AS what, jsonb_build_object('id', t.id, 'match_id', t.match_id) AS key,
    jsonb_build_object('match', m.id, 'of_the_match', coalesce(t.id IN (m.taker_trade_id, m.maker_trade_id)
        OR t.reverses IN (m.taker_trade_id, m.maker_trade_id), false)) AS stored,
    jsonb_build_object('match', t.match_id, 'of_the_match', true) AS expected
FROM trades t
LEFT JOIN LATERAL (SELECT * FROM matches WHERE id = t.match_id LIMIT 1) AS m ON true
WHERE t.id > $1 AND t.id <= $2 AND (t.order_id IS NOT NULL OR m.id IS NOT NULL)
    AND (t.id IN (m.taker_trade_id, m.maker_trade_id) OR t.reverses IN (m.taker_trade_id, m.maker_trade_id)) IS NOT TRUE
ORDER BY t.id;

-- name: markets
-- The market after one, with the number of its last event; without one where that is gone.
SELECT m.id AS market_id, m.symbol, s.sequence FROM markets m LEFT JOIN market_sequences s ON s.market_id = m.id
WHERE m.id > $1 ORDER BY m.id LIMIT 1;

-- name: market
-- A market with the number of its last event; without one where that is gone.
SELECT m.id AS market_id, m.symbol, s.sequence FROM markets m LEFT JOIN market_sequences s ON s.market_id = m.id
WHERE m.id = $1;

-- name: gaps_of_sequences
-- Numbers of a market $1 that do not follow the one before, among the next $3 events after number $2; the row without a
-- number says how far they go.
SELECT n.market_sequence AS sequence, n.before + 1 AS expected, n.id::text AS id
FROM (
    SELECT id, market_sequence, lag(market_sequence, 1, $2) OVER (ORDER BY market_sequence, id) AS before
    FROM (SELECT id, market_sequence FROM order_events WHERE market_id = $1 AND market_sequence > $2 ORDER BY market_sequence, id LIMIT $3) AS page
) AS n
WHERE n.market_sequence <> n.before + 1;

-- name: end_of_sequences
-- How many the next $3 events of a market $1 after number $2 are, and the last number of them.
SELECT count(*) AS events, coalesce(max(market_sequence), $2) AS last FROM (
    SELECT market_sequence FROM order_events WHERE market_id = $1 AND market_sequence > $2 ORDER BY market_sequence, id LIMIT $3
) AS page;
