-- Notifications as their users and the staff see them.

-- name: newest
-- Notifications of a user below an id, the newest first: all, or those that were not read; of a kind where one is given.
SELECT id, user_id, kind, title, body, data, created_at, read_at
FROM notifications
WHERE user_id = $1 AND id < $2 AND in_app AND (read_at IS NULL OR NOT $3) AND ($4::text IS NULL OR kind = $4)
ORDER BY id DESC
LIMIT $5;

-- name: unread
-- How many a user has not read, counted up to a limit, and what the statement sees.
SELECT read_mark() AS mark, (SELECT count(*) FROM (
    SELECT FROM notifications WHERE user_id = $1::text::uuid AND in_app AND read_at IS NULL LIMIT $2) AS counted) AS unread;

-- name: mark_read
-- One was read; once more changes nothing. No row where the user has none of this id.
WITH mine AS (
    SELECT id FROM notifications WHERE id = $2 AND user_id = $1 AND in_app
), changed AS (
    UPDATE notifications n SET read_at = now() FROM mine WHERE n.id = mine.id AND n.read_at IS NULL
)
SELECT id FROM mine;

-- name: mark_all_read
-- Some of those up to an id were read.
UPDATE notifications SET read_at = now()
WHERE id IN (
    SELECT id FROM notifications WHERE user_id = $1 AND id <= $2 AND in_app AND read_at IS NULL
    ORDER BY id LIMIT $3 FOR UPDATE);

-- name: preferences
-- Each kind and channel, and what holds for a user.
SELECT k.name AS kind, k.description, c.channel,
    c.channel = ANY (k.required_channels) OR coalesce(p.enabled, c.channel = ANY (k.default_channels)) AS enabled,
    c.channel = ANY (k.required_channels) AS required, p.enabled IS NOT NULL AS chosen
FROM notification_kinds k
CROSS JOIN unnest(ARRAY['in_app', 'email', 'webhook']) WITH ORDINALITY AS c (channel, place)
LEFT JOIN notification_preferences p ON p.user_id = $1 AND p.kind = k.name AND p.channel = c.channel
ORDER BY k.name, c.place;

-- name: kind
-- One kind.
SELECT name, description, fields, default_channels, required_channels FROM notification_kinds WHERE name = $1;

-- name: kinds
-- What users can be told of.
SELECT name, description, fields, default_channels, required_channels FROM notification_kinds ORDER BY name;

-- name: set_preference
-- What a user wishes.
INSERT INTO notification_preferences (user_id, kind, channel, enabled) VALUES ($1, $2, $3, $4)
ON CONFLICT (user_id, kind, channel) DO UPDATE SET enabled = excluded.enabled;

-- name: unset_preference
-- The default is good enough.
DELETE FROM notification_preferences WHERE user_id = $1 AND kind = $2 AND channel = $3;

-- name: lock_user
-- A user with the wrapped data key, for a change.
SELECT u.status, u.role, k.wrapped_key, k.master_version
FROM users u LEFT JOIN user_keys k ON k.user_id = u.id
WHERE u.id = $1 FOR NO KEY UPDATE OF u;

-- name: insert_user_key
-- The wrapped data key of a user.
INSERT INTO user_keys (user_id, wrapped_key, master_version) VALUES ($1, $2, $3);

-- name: set_webhook
-- Another webhook in the place of the one before.
INSERT INTO notification_webhooks (user_id, url_ciphertext, secret_ciphertext) VALUES ($1, $2, $3)
ON CONFLICT (user_id) DO UPDATE SET url_ciphertext = excluded.url_ciphertext, secret_ciphertext = excluded.secret_ciphertext,
    created_at = now()
RETURNING created_at;

-- name: webhook
-- The webhook of a user, sealed.
SELECT w.url_ciphertext, w.created_at, k.wrapped_key, k.master_version
FROM notification_webhooks w JOIN user_keys k ON k.user_id = w.user_id
WHERE w.user_id = $1;

-- name: delete_webhook
-- No webhook any more.
DELETE FROM notification_webhooks WHERE user_id = $1;

-- name: alert_count
-- How many alerts a user waits for.
SELECT count(*) FROM price_alerts WHERE user_id = $1 AND status <> 'done';

-- name: insert_alert
-- A new alert; one of the same id is left as it is.
INSERT INTO price_alerts (id, user_id, market_id, direction, price, once)
VALUES ($1, $2, $3, $4, $5::text::price, $6)
ON CONFLICT (id) DO NOTHING;

-- name: alert
-- One alert of a user.
SELECT a.id, a.user_id, m.symbol AS market, a.direction, a.price::numeric AS price, a.once, a.status, a.created_at, a.triggered_at
FROM price_alerts a JOIN markets m ON m.id = a.market_id
WHERE a.id = $1 AND a.user_id = $2;

-- name: alerts
-- Alerts of a user below an id, the newest first.
SELECT a.id, a.user_id, m.symbol AS market, a.direction, a.price::numeric AS price, a.once, a.status, a.created_at, a.triggered_at
FROM price_alerts a JOIN markets m ON m.id = a.market_id
WHERE a.user_id = $1 AND a.id < $2
ORDER BY a.id DESC
LIMIT $3;

-- name: delete_alert
-- An alert that is not wanted any more.
DELETE FROM price_alerts WHERE id = $1 AND user_id = $2;

-- name: insert_notice
-- A notice to all, or to a role; one of the same id is left as it is.
INSERT INTO system_notices (id, role, title, body) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO NOTHING;

-- name: notice
-- One notice.
SELECT id, role, title, body, created_at, finished_at FROM system_notices WHERE id = $1;

-- name: deliveries
-- Deliveries of a state below a notification and channel, the newest first; without words.
SELECT d.notification_id, n.user_id, n.kind, d.channel, d.status, d.series, d.attempts, d.last_error, d.created_at, d.finished_at
FROM notification_deliveries d JOIN notifications n ON n.id = d.notification_id
WHERE d.status = 'dead' AND (d.notification_id, d.channel) < ($1::uuid, $2::text) AND ($3::text IS NULL OR d.channel = $3)
ORDER BY d.notification_id DESC, d.channel DESC
LIMIT $4;

-- name: replay
-- Dead deliveries begin another series: of one notification, or the oldest of all, at most so many.
UPDATE notification_deliveries d
SET status = 'pending', series = d.series + 1, attempts = 0, due_at = now(), finished_at = NULL
FROM (
    SELECT notification_id, channel FROM notification_deliveries
    WHERE status = 'dead' AND ($1::uuid IS NULL OR notification_id = $1) AND ($2::text IS NULL OR channel = $2)
    ORDER BY notification_id, channel
    LIMIT $3
    FOR UPDATE SKIP LOCKED
) AS dead
WHERE d.notification_id = dead.notification_id AND d.channel = dead.channel
RETURNING d.notification_id, d.channel;

-- name: templates
-- All words.
SELECT kind, channel, locale, subject, body, html FROM notification_templates ORDER BY kind, channel, locale;

-- name: put_template
-- Words, new or other ones.
INSERT INTO notification_templates (kind, channel, locale, subject, body, html) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (kind, channel, locale) DO UPDATE SET subject = excluded.subject, body = excluded.body, html = excluded.html;

-- name: delete_template
-- Words that are not used any more.
DELETE FROM notification_templates WHERE kind = $1 AND channel = $2 AND locale = $3;

-- name: user_role
-- What a user is.
SELECT role, status FROM users WHERE id = $1;
