-- Deliveries: claimed under a lease, counted before they are sent, ended by whoever holds the lease.

-- name: claim
-- Deliveries of a channel that are due, at most so many and few of one user, so that one slow receiver does not keep the
-- others waiting. Each attempt is counted here, before anything is sent. $5: users who have enough under way. Holders of
-- a lease that is over are taken for lost. What waits has an attempt left, also where the most of them became fewer since.
WITH waiting AS (
    SELECT d.notification_id, d.due_at FROM notification_deliveries d
    WHERE d.channel = $1 AND d.status IN ('pending', 'sending') AND d.due_at <= now()
        AND (d.status = 'pending' OR d.attempts < $6)
    ORDER BY d.due_at
    LIMIT 1000
), fair AS (
    SELECT w.notification_id, row_number() OVER (PARTITION BY n.user_id ORDER BY w.due_at, w.notification_id) AS place
    FROM waiting w JOIN notifications n ON n.id = w.notification_id
    WHERE n.user_id <> ALL ($5::uuid[])
), claimed AS (
    SELECT d.notification_id, d.channel
    FROM notification_deliveries d JOIN fair f ON f.notification_id = d.notification_id
    WHERE d.channel = $1 AND f.place <= $7 AND d.status IN ('pending', 'sending') AND d.due_at <= now()
        AND (d.status = 'pending' OR d.attempts < $6)
    ORDER BY d.due_at
    LIMIT $2
    FOR UPDATE OF d SKIP LOCKED
)
UPDATE notification_deliveries d
SET status = 'sending', attempts = d.attempts + 1, lease = $3, due_at = now() + make_interval(secs => $4)
FROM claimed c JOIN notifications n ON n.id = c.notification_id
WHERE d.notification_id = c.notification_id AND d.channel = c.channel
RETURNING d.notification_id AS id, d.attempts, n.user_id;

-- name: bury_lost
-- Whose sender was lost in the last attempt that it had is dead.
UPDATE notification_deliveries d SET status = 'dead', lease = NULL, finished_at = now(), last_error = 'its sender ended in the last attempt'
FROM (
    SELECT notification_id, channel FROM notification_deliveries
    WHERE channel = $1 AND status = 'sending' AND due_at <= now() AND attempts >= $2
    ORDER BY due_at
    LIMIT 100
    FOR UPDATE SKIP LOCKED
) AS lost
WHERE d.notification_id = lost.notification_id AND d.channel = lost.channel;

-- name: content
-- What is sent, and where to, sealed.
SELECT n.id, n.user_id, n.kind, n.title, n.body, n.data, n.created_at, u.status, u.email_ciphertext,
    u.preferences ->> 'locale' AS locale, k.wrapped_key, k.master_version, w.url_ciphertext, w.secret_ciphertext
FROM notifications n
JOIN users u ON u.id = n.user_id
LEFT JOIN user_keys k ON k.user_id = u.id
LEFT JOIN notification_webhooks w ON w.user_id = u.id
WHERE n.id = $1;

-- name: record_delivered
-- It was taken.
UPDATE notification_deliveries SET status = 'delivered', lease = NULL, finished_at = now()
WHERE notification_id = $1 AND channel = $2 AND lease = $3 AND status = 'sending';

-- name: record_failed
-- It was not: another attempt later, or none any more ($4: pending or dead).
UPDATE notification_deliveries
SET status = $4, lease = NULL, last_error = $5, due_at = now() + make_interval(secs => $6),
    finished_at = CASE WHEN $4 = 'dead' THEN now() END
WHERE notification_id = $1 AND channel = $2 AND lease = $3 AND status = 'sending';

-- name: record_cancelled
-- There is no way to the user any more.
UPDATE notification_deliveries SET status = 'cancelled', lease = NULL, finished_at = now()
WHERE notification_id = $1 AND channel = $2 AND lease = $3 AND status = 'sending';

-- name: figures
-- How many wait and are dead, counted up to $2, and how long the first that is due has waited.
SELECT (SELECT count(*) FROM (
        SELECT FROM notification_deliveries WHERE channel = $1 AND status IN ('pending', 'sending') LIMIT $2) AS q) AS queued,
    (SELECT count(*) FROM (
        SELECT FROM notification_deliveries WHERE channel = $1 AND status = 'dead' LIMIT $2) AS q) AS dead,
    greatest(0, coalesce(extract(epoch FROM now() - (SELECT min(due_at) FROM notification_deliveries
        WHERE channel = $1 AND status IN ('pending', 'sending'))), 0))::double precision AS oldest_s;
