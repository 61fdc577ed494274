-- API keys.

-- name: lock_user
-- The user, so that keys of one user are made one after the other, and none beside a deactivation.
SELECT role, status FROM users WHERE id = $1 FOR NO KEY UPDATE;

-- name: live_count
-- How many keys a user has that have not ended.
SELECT count(*) FROM api_keys WHERE user_id = $1 AND revoked_at IS NULL AND expires_at > now();

-- name: insert_key
-- A new key: id, user, name, hash, start, permissions, networks, seconds of its life.
INSERT INTO api_keys (id, user_id, name, key_hash, key_start, permissions, allowed_addresses, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7::text[]::cidr[], now() + make_interval(secs => $8))
RETURNING id, user_id, name, key_start, permissions, allowed_addresses::text[], created_at, expires_at, last_used_at,
    replaced_by, revoked_at, revoked_reason;

-- name: lock_key
-- A key that has not ended, of this user where one is named, for a change.
SELECT id, user_id, name, permissions, allowed_addresses::text[] AS allowed_addresses, replaced_by,
    extract(epoch FROM expires_at - created_at)::float8 AS life_s
FROM api_keys
WHERE id = $1 AND ($2::uuid IS NULL OR user_id = $2) AND revoked_at IS NULL AND expires_at > now()
FOR UPDATE;

-- name: owner_of_key
-- Whose key it is.
SELECT user_id FROM api_keys WHERE id = $1 AND ($2::uuid IS NULL OR user_id = $2);

-- name: replace_key
-- The old key lives on for so many seconds, and names the one that takes its place.
UPDATE api_keys SET replaced_by = $2, expires_at = least(expires_at, now() + make_interval(secs => $3))
WHERE id = $1
RETURNING encode(key_hash, 'hex') AS key, pg_current_xact_id()::text::bigint AS xid;

-- name: revoke_key
-- Ends a key, of this user where one is named.
UPDATE api_keys SET revoked_at = now(), revoked_reason = $3
WHERE id = $1 AND ($2::uuid IS NULL OR user_id = $2) AND revoked_at IS NULL
RETURNING encode(key_hash, 'hex') AS key, pg_current_xact_id()::text::bigint AS xid;

-- name: keys_of_user
-- Keys of a user, the newest first, below an id.
SELECT id, user_id, name, key_start, permissions, allowed_addresses::text[], created_at, expires_at, last_used_at,
    replaced_by, revoked_at, revoked_reason
FROM api_keys WHERE user_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3;

-- name: key_by_hash
-- What a key stands for, with what the statement sees.
SELECT read_mark() AS mark, k.id IS NOT NULL AS found, k.id, k.user_id, k.permissions,
    k.allowed_addresses::text[] AS allowed_addresses, k.expires_at, k.revoked_at, u.role, u.status
FROM (SELECT 1) AS one
LEFT JOIN (api_keys k JOIN users u ON u.id = k.user_id) ON k.key_hash = decode($1, 'hex');

-- name: touch
-- Keys that were used meanwhile, but for those that are being changed.
UPDATE api_keys k SET last_used_at = greatest(k.last_used_at, used.at)
FROM (
    SELECT l.id, given.at FROM unnest($1::uuid[], $2::timestamptz[]) AS given (id, at)
    JOIN api_keys l ON l.id = given.id ORDER BY l.id FOR UPDATE OF l SKIP LOCKED
) AS used
WHERE k.id = used.id;
