-- Erasing a user: personal data goes, records stay.

-- name: lock_user
-- The user, held until the end of the transaction.
SELECT id, kind, status, role FROM public.users WHERE id = $1 FOR UPDATE;

-- name: empty_user
-- Nothing personal is left in the row; triggers end the user's sessions and API keys.
UPDATE public.users
SET status = 'erased', username = NULL, email_ciphertext = NULL, email_index = NULL, personal_ciphertext = NULL,
    preferences = '{}'
WHERE id = $1 AND status <> 'erased';

-- name: destroy_data_key
-- What was encrypted for the user cannot be decrypted with what this database has. A backup from before still has
-- this row: it opens with the master key of its time, until that is rotated and forgotten.
DELETE FROM public.user_keys WHERE user_id = $1;

-- name: delete_wallets
-- Addresses tell who somebody is.
DELETE FROM public.wallets WHERE user_id = $1;

-- name: empty_sessions
-- Sessions stay as records, without device and address.
UPDATE public.user_sessions SET device = NULL, address = NULL
WHERE user_id = $1 AND (device IS NOT NULL OR address IS NOT NULL);

-- name: empty_api_keys
-- API keys stay as records, revoked, without the name and the networks that the user gave them.
UPDATE public.api_keys SET name = 'erased', allowed_addresses = '{}'
WHERE user_id = $1 AND (name <> 'erased' OR allowed_addresses <> '{}');

-- name: empty_notifications
-- Notifications stay as records, without their words and what they were about.
UPDATE public.notifications SET title = 'erased', body = '', data = '{}'
WHERE user_id = $1 AND (title <> 'erased' OR body <> '' OR data <> '{}');

-- name: cancel_deliveries
-- Nothing more is sent.
UPDATE public.notification_deliveries d SET status = 'cancelled', lease = NULL, finished_at = now()
FROM (
    SELECT d.notification_id, d.channel FROM public.notification_deliveries d JOIN public.notifications n ON n.id = d.notification_id
    WHERE n.user_id = $1 AND d.status IN ('pending', 'sending', 'dead')
    ORDER BY d.notification_id, d.channel FOR UPDATE OF d
) AS left_over
WHERE d.notification_id = left_over.notification_id AND d.channel = left_over.channel;

-- name: delete_webhook
-- An address tells who somebody is.
DELETE FROM public.notification_webhooks WHERE user_id = $1;

-- name: delete_preferences
-- Wishes are personal.
DELETE FROM public.notification_preferences WHERE user_id = $1;

-- name: delete_alerts
-- What prices somebody waits for is personal.
DELETE FROM public.price_alerts WHERE user_id = $1;

-- name: forget_devices
-- Devices that the user signed in from.
DELETE FROM public.known_devices WHERE user_id = $1;

-- name: forget_sign_ins
-- Sign-ins whose devices nobody looked at yet.
DELETE FROM public.new_sign_ins WHERE session_id IN (SELECT id FROM public.user_sessions WHERE user_id = $1);

-- name: add_erasure
-- Notes the erasure; returns when it was, the first time.
WITH added AS (
    INSERT INTO public.erasures (user_id, erased_at) VALUES ($1, coalesce($2::timestamptz, now())) ON CONFLICT (user_id) DO NOTHING RETURNING erased_at
)
SELECT erased_at, pg_current_xact_id()::text AS xid FROM added
UNION ALL
SELECT erased_at, pg_current_xact_id()::text FROM public.erasures WHERE user_id = $1 AND NOT EXISTS (SELECT FROM added);

-- name: erasures_after
-- Erasures as this database knows them, by user.
SELECT user_id, erased_at FROM public.erasures WHERE user_id > $1 ORDER BY user_id LIMIT $2;

-- name: not_erased
-- Those of these users of whom something is there that an erasure takes away.
SELECT u.id
FROM public.users u
WHERE u.id = ANY ($1::uuid[])
    AND u.kind <> 'system'
    AND (u.status <> 'erased'
        OR EXISTS (SELECT FROM public.user_keys k WHERE k.user_id = u.id)
        OR EXISTS (SELECT FROM public.wallets w WHERE w.user_id = u.id)
        OR EXISTS (SELECT FROM public.user_sessions s
            WHERE s.user_id = u.id AND (s.device IS NOT NULL OR s.address IS NOT NULL))
        OR EXISTS (SELECT FROM public.api_keys a
            WHERE a.user_id = u.id AND (a.name <> 'erased' OR a.allowed_addresses <> '{}'))
        OR EXISTS (SELECT FROM public.notifications n
            WHERE n.user_id = u.id AND (n.title <> 'erased' OR n.body <> '' OR n.data <> '{}'))
        OR EXISTS (SELECT FROM public.notification_webhooks h WHERE h.user_id = u.id)
        OR EXISTS (SELECT FROM public.notification_preferences p WHERE p.user_id = u.id)
        OR EXISTS (SELECT FROM public.price_alerts l WHERE l.user_id = u.id)
        OR EXISTS (SELECT FROM public.known_devices d WHERE d.user_id = u.id)
        OR NOT EXISTS (SELECT FROM public.erasures e WHERE e.user_id = u.id))
ORDER BY u.id;

-- name: life
-- Which life of the database this is: a restore raises the epoch, and what was erased since may be back.
SELECT epoch, (SELECT count(*) FROM public.erasures) AS erasures,
    (SELECT oid::bigint FROM pg_database WHERE datname = current_database()) AS database,
    public.system_identifier() AS system_identifier,
    ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer AS timeline
FROM public.recovery_epoch;
