-- What else users are told of: prices, sign-ins, notices.

-- name: lock_alert_position
-- Up to which trade alerts were looked for, held until the commit, and which life of the database this is; no row where
-- another worker holds it.
SELECT p.epoch, p.system_identifier, p.timeline, p.xid::text::bigint AS xid, p.id,
    (SELECT epoch FROM recovery_epoch) AS epoch_now,
    system_identifier() AS system_identifier_now,
    ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer AS timeline_now,
    pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS horizon,
    EXISTS (SELECT FROM price_alerts WHERE status IN ('armed', 'waiting')) AS wanted
FROM price_alert_position p
FOR NO KEY UPDATE SKIP LOCKED;

-- name: move_alert_position
-- Alerts were looked for up to this trade, in this life.
UPDATE price_alert_position SET epoch = $1, system_identifier = $2, timeline = $3, xid = $4::text::xid8, id = $5;

-- name: alert_batch
-- Where the next batch of the log ends: rows behind a position and below the horizon, at most so many.
SELECT xid::text::bigint AS xid, id, count(*) OVER () AS trades
FROM (
    SELECT xid, id FROM trades
    WHERE (xid, id) > ($1::text::xid8, $2::uuid) AND xid < $3::text::xid8
    ORDER BY xid, id
    LIMIT $4
) AS batch
ORDER BY xid DESC, id DESC
LIMIT 1;

-- name: trigger_alerts
-- At most $5 of the alerts that a trade of the batch reached, each with the first of the trades that did; those that were
-- deleted meanwhile come as empty rows. What an alert is compared with is the highest and the lowest price from each
-- moment of the batch on: one look at an alert, however many trades there are.
WITH batch AS MATERIALIZED (
    SELECT t.market_id, t.price, t.id, t.executed_at
    FROM trades t
    WHERE (t.xid, t.id) > ($1::text::xid8, $2::uuid) AND (t.xid, t.id) <= ($3::text::xid8, $4::uuid) AND t.reverses IS NULL
    ORDER BY t.xid, t.id
), fresh AS MATERIALIZED (
    SELECT t.market_id, t.price, t.id, t.executed_at, max(t.price) OVER from_then_on AS high, min(t.price) OVER from_then_on AS low
    FROM batch t
    WHERE EXISTS (SELECT FROM price_alerts a WHERE a.market_id = t.market_id AND a.status = 'armed')
    WINDOW from_then_on AS (PARTITION BY t.market_id ORDER BY t.executed_at DESC)
), course AS MATERIALIZED (
    SELECT market_id, max(price) AS highest, min(price) AS lowest, array_agg(executed_at ORDER BY executed_at) AS moments,
        array_agg(high ORDER BY executed_at) AS highs, array_agg(low ORDER BY executed_at) AS lows
    FROM fresh GROUP BY market_id
), reached AS MATERIALIZED (
    (SELECT a.id
    FROM course c JOIN price_alerts a ON a.market_id = c.market_id AND a.direction = 'above' AND a.price <= c.highest
    WHERE a.status = 'armed' AND a.price <= c.highs[width_bucket(a.watched_from - interval '1 microsecond', c.moments) + 1]
    UNION ALL
    SELECT a.id
    FROM course c JOIN price_alerts a ON a.market_id = c.market_id AND a.direction = 'below' AND a.price >= c.lowest
    WHERE a.status = 'armed' AND a.price >= c.lows[width_bucket(a.watched_from - interval '1 microsecond', c.moments) + 1])
    LIMIT $5
), held AS (
    SELECT a.id, a.market_id, a.direction, a.price, a.watched_from FROM price_alerts a
    WHERE a.id = ANY (ARRAY(SELECT id FROM reached)) AND a.status = 'armed' ORDER BY a.id FOR NO KEY UPDATE
), by_trade AS (
    SELECT h.id, f.id AS trade_id, f.price, f.executed_at
    FROM held h, LATERAL (
        SELECT f.id, f.price, f.executed_at FROM fresh f
        WHERE f.market_id = h.market_id AND f.executed_at >= h.watched_from
            AND CASE h.direction WHEN 'above' THEN f.price >= h.price ELSE f.price <= h.price END
        ORDER BY f.executed_at, f.id
        LIMIT 1
    ) AS f
), told AS (
    UPDATE price_alerts a
    SET status = CASE WHEN a.once THEN 'done' ELSE 'waiting' END, triggered_at = now(), watched_from = b.executed_at
    FROM by_trade b, markets m
    WHERE a.id = b.id AND m.id = a.market_id
    RETURNING a.id, a.user_id, m.symbol AS market, a.direction, trim_scale(a.price)::text AS limit_price,
        trim_scale(b.price)::text AS price, b.trade_id, b.executed_at
)
SELECT t.* FROM reached r LEFT JOIN told t ON t.id = r.id;

-- name: rearm_alerts
-- At most $5 of the alerts that wait are armed again where the last trade of the batch in their market is on the other
-- side, for what is executed after it; returns how many.
WITH batch AS MATERIALIZED (
    SELECT t.market_id, t.price, t.id, t.executed_at
    FROM trades t
    WHERE (t.xid, t.id) > ($1::text::xid8, $2::uuid) AND (t.xid, t.id) <= ($3::text::xid8, $4::uuid) AND t.reverses IS NULL
    ORDER BY t.xid, t.id
), last AS MATERIALIZED (
    SELECT DISTINCT ON (t.market_id) t.market_id, t.price, t.executed_at
    FROM batch t
    WHERE EXISTS (SELECT FROM price_alerts a WHERE a.market_id = t.market_id AND a.status = 'waiting')
    ORDER BY t.market_id, t.executed_at DESC, t.id DESC
), back AS MATERIALIZED (
    SELECT a.id
    FROM last l JOIN price_alerts a ON a.market_id = l.market_id AND a.status = 'waiting' AND l.executed_at >= a.watched_from
        AND CASE a.direction WHEN 'above' THEN l.price < a.price ELSE l.price > a.price END
    LIMIT $5
), held AS (
    SELECT a.id, a.market_id FROM price_alerts a
    WHERE a.id = ANY (ARRAY(SELECT id FROM back)) AND a.status = 'waiting' ORDER BY a.id FOR NO KEY UPDATE
), armed AS (
    UPDATE price_alerts a SET status = 'armed', watched_from = l.executed_at + interval '1 microsecond'
    FROM held h JOIN last l ON l.market_id = h.market_id
    WHERE a.id = h.id
)
SELECT count(*) FROM back;

-- name: take_sign_ins
-- Sign-ins that nobody looked at; whoever takes them does so in the transaction that tells of them.
DELETE FROM new_sign_ins
WHERE session_id IN (SELECT session_id FROM new_sign_ins ORDER BY session_id LIMIT $1 FOR UPDATE SKIP LOCKED)
RETURNING session_id;

-- name: new_devices
-- Notes the devices of these sessions; returns the sign-ins of users who were known by other devices. Of erased users
-- nothing is noted.
WITH owners AS (
    SELECT u.id FROM users u
    WHERE u.id IN (SELECT user_id FROM user_sessions WHERE id = ANY ($1::uuid[])) AND u.status <> 'erased'
    ORDER BY u.id FOR KEY SHARE
), signed_in AS (
    SELECT DISTINCT ON (s.user_id, d.hash) s.id, s.user_id, s.method, s.created_at, d.hash
    FROM user_sessions s JOIN owners o ON o.id = s.user_id, LATERAL (SELECT device_hash(s.user_id, s.device) AS hash) AS d
    WHERE s.id = ANY ($1::uuid[])
    ORDER BY s.user_id, d.hash, s.created_at, s.id
), noted AS (
    INSERT INTO known_devices (user_id, device_hash, last_seen_at)
    SELECT user_id, hash, created_at FROM signed_in ORDER BY user_id, hash
    ON CONFLICT (user_id, device_hash) DO UPDATE SET last_seen_at = greatest(known_devices.last_seen_at, excluded.last_seen_at)
    RETURNING user_id, device_hash, xmax = 0 AS new
), first AS (
    -- Who was not known at all: their first sign-in of the batch is no news.
    SELECT DISTINCT ON (s.user_id) s.id FROM signed_in s
    WHERE NOT EXISTS (SELECT FROM known_devices k WHERE k.user_id = s.user_id)
    ORDER BY s.user_id, s.created_at, s.id
)
SELECT s.id, s.user_id, s.method, s.created_at
FROM signed_in s JOIN noted n ON n.user_id = s.user_id AND n.device_hash = s.hash
WHERE n.new AND NOT EXISTS (SELECT FROM first f WHERE f.id = s.id)
ORDER BY s.created_at, s.id;

-- name: take_notice
-- A notice that not everybody was told of, held until the commit.
SELECT id, role, title, body, reached FROM system_notices
WHERE finished_at IS NULL ORDER BY id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED;

-- name: next_readers
-- The next users that a notice is for.
SELECT id FROM users
WHERE id > $1 AND ($2::text IS NULL OR role = $2) AND status = 'active' AND kind <> 'system'
ORDER BY id LIMIT $3;

-- name: move_notice
-- Users up to this id were told; $3: and that was all.
UPDATE system_notices SET reached = $2, finished_at = CASE WHEN $3 THEN now() END WHERE id = $1;

-- name: delete_old_notifications
-- Deletes some of the notifications that are older than so many days, with their deliveries.
DELETE FROM notifications WHERE id IN (
    SELECT id FROM notifications WHERE id < uuid_at(now() - make_interval(days => $1::integer))
    ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED);

-- name: delete_old_devices
-- Forgets some of the devices that nobody signed in from for so many days. The last one of a user stays: without it the
-- next sign-in would be the first one, and no news.
DELETE FROM known_devices WHERE (user_id, device_hash) IN (
    SELECT d.user_id, d.device_hash FROM known_devices d
    WHERE d.last_seen_at < now() - make_interval(days => $1::integer) AND EXISTS (
        SELECT FROM known_devices later
        WHERE later.user_id = d.user_id AND (later.last_seen_at, later.device_hash) > (d.last_seen_at, d.device_hash))
    ORDER BY d.last_seen_at, d.user_id LIMIT $2 FOR UPDATE OF d SKIP LOCKED);
