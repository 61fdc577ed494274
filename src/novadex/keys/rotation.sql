-- What a rotation of the master key asks and does.

-- name: one_at_a_time
-- Steps of rotations wait for each other; the lock goes with the transaction.
SELECT pg_advisory_xact_lock(hashtextextended('novadex.keys.rotation', 0));

-- name: master_keys
-- Every master key that this database has been used with.
SELECT version, check_value, created_at, retired_at FROM public.master_keys ORDER BY version;

-- name: add_master_key
-- A master key is in use from now on.
INSERT INTO public.master_keys (version, check_value) VALUES ($1, $2);

-- name: keys_of_users_before
-- How many data keys are wrapped with a master key older than this.
SELECT count(*) FROM public.user_keys WHERE master_version < $1;

-- name: uses
-- How many keys are wrapped with each master key.
SELECT master_version, count(*) AS keys
FROM (
    SELECT master_version FROM public.user_keys
    UNION ALL
    SELECT master_version FROM public.system_keys
) AS wrapped
GROUP BY master_version;

-- name: user_keys_before
-- The next data keys that are wrapped with a master key older than this, behind a place in that order.
SELECT user_id, wrapped_key, master_version
FROM public.user_keys
WHERE master_version < $1 AND (master_version, user_id) > ($2, $3)
ORDER BY master_version, user_id
LIMIT $4;

-- name: rewrap_user_keys
-- Puts newly wrapped keys in the place of those that they were made of; one that changed meanwhile stays.
UPDATE public.user_keys AS k
SET wrapped_key = n.wrapped_key, master_version = $4
FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS n (user_id, wrapped_before, wrapped_key)
WHERE k.user_id = n.user_id AND k.wrapped_key = n.wrapped_before;

-- name: system_keys_before
-- The keys of the installation that are wrapped with a master key older than this.
SELECT name, wrapped_key, master_version FROM public.system_keys WHERE master_version < $1 ORDER BY name;

-- name: rewrap_system_key
-- The same for one key of the installation.
UPDATE public.system_keys SET wrapped_key = $3, master_version = $4 WHERE name = $1 AND wrapped_key = $2;

-- name: lock_master_keys_before
-- Older master keys: whoever wraps with one of them right now is waited for, and nobody begins.
SELECT version FROM public.master_keys WHERE version < $1 AND retired_at IS NULL ORDER BY version FOR UPDATE;

-- name: retire_master_keys_before
-- Retires the older master keys that nothing is wrapped with.
UPDATE public.master_keys AS m
SET retired_at = now()
WHERE m.version < $1
    AND m.retired_at IS NULL
    AND NOT EXISTS (SELECT FROM public.user_keys k WHERE k.master_version = m.version)
    AND NOT EXISTS (SELECT FROM public.system_keys s WHERE s.master_version = m.version)
RETURNING m.version;
