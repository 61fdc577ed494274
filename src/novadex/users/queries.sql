-- Users and their wallets.

-- name: user_by_key
-- A user with wallets and wrapped data key, and what the statement sees.
SELECT read_mark() AS mark, u.id IS NOT NULL AS found, u.id, u.kind, u.username, u.email_ciphertext, u.personal_ciphertext,
    u.role, u.status, u.preferences, u.version, u.created_at, u.updated_at, k.wrapped_key, k.master_version,
    (SELECT coalesce(jsonb_agg(jsonb_build_object('id', w.id, 'chain', w.chain, 'address', w.address, 'is_primary', w.is_primary)
        ORDER BY w.is_primary DESC, w.id), '[]') FROM wallets w WHERE w.user_id = u.id) AS wallets
FROM (SELECT 1) AS one
LEFT JOIN (users u LEFT JOIN user_keys k ON k.user_id = u.id) ON u.id = $1::text::uuid;

-- name: users_newest
-- Users below an id, the newest first, of a role and a status where they are given; without personal data.
SELECT u.id, u.kind, u.username, u.role, u.status, u.version, u.created_at, u.updated_at,
    (SELECT coalesce(jsonb_agg(jsonb_build_object('id', w.id, 'chain', w.chain, 'address', w.address, 'is_primary', w.is_primary)
        ORDER BY w.is_primary DESC, w.id), '[]') FROM wallets w WHERE w.user_id = u.id) AS wallets
FROM users u
WHERE u.id < $1 AND ($2::text IS NULL OR u.role = $2) AND ($3::text IS NULL OR u.status = $3)
ORDER BY u.id DESC
LIMIT $4;

-- name: users_newest_of_rare_role
-- The same for another role than user, of which there are few: by their index.
SELECT u.id, u.kind, u.username, u.role, u.status, u.version, u.created_at, u.updated_at,
    (SELECT coalesce(jsonb_agg(jsonb_build_object('id', w.id, 'chain', w.chain, 'address', w.address, 'is_primary', w.is_primary)
        ORDER BY w.is_primary DESC, w.id), '[]') FROM wallets w WHERE w.user_id = u.id) AS wallets
FROM users u
WHERE u.id < $1 AND u.role = $2 AND u.role <> 'user' AND ($3::text IS NULL OR u.status = $3)
ORDER BY u.id DESC
LIMIT $4;

-- name: users_newest_of_rare_status
-- The same for another status than active, by their index.
SELECT u.id, u.kind, u.username, u.role, u.status, u.version, u.created_at, u.updated_at,
    (SELECT coalesce(jsonb_agg(jsonb_build_object('id', w.id, 'chain', w.chain, 'address', w.address, 'is_primary', w.is_primary)
        ORDER BY w.is_primary DESC, w.id), '[]') FROM wallets w WHERE w.user_id = u.id) AS wallets
FROM users u
WHERE u.id < $1 AND ($2::text IS NULL OR u.role = $2) AND u.status = $3 AND u.status <> 'active'
ORDER BY u.id DESC
LIMIT $4;

-- name: id_by_username
-- Whose name it is.
SELECT read_mark() AS mark, (SELECT id::text FROM users WHERE username = $1) AS id;

-- name: id_by_email
-- Whose email address it is, by its keyed hash.
SELECT read_mark() AS mark, (SELECT id::text FROM users WHERE email_index = decode($1, 'hex')) AS id;

-- name: id_by_wallet
-- Whose wallet it is.
SELECT read_mark() AS mark, (SELECT user_id::text FROM wallets WHERE chain = $1 AND address = $2) AS id;

-- name: look_ups
-- Under which keys the caches may have something of a user.
SELECT u.username, encode(u.email_index, 'hex') AS email_index,
    ARRAY(SELECT w.chain || ':' || w.address FROM wallets w WHERE w.user_id = u.id) AS wallets,
    ARRAY(SELECT encode(s.token_hash, 'hex') FROM user_sessions s
        WHERE s.user_id = u.id AND s.expires_at > now() ORDER BY s.id DESC LIMIT 1000) AS sessions,
    ARRAY(SELECT encode(k.key_hash, 'hex') FROM api_keys k
        WHERE k.user_id = u.id AND k.expires_at > now() ORDER BY k.id DESC LIMIT 1000) AS api_keys
FROM users u WHERE u.id = $1;

-- name: insert_user
-- A new user.
INSERT INTO users (id, kind, username, email_ciphertext, email_index, personal_ciphertext, role, preferences)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8);

-- name: insert_user_key
-- The wrapped data key of a user.
INSERT INTO user_keys (user_id, wrapped_key, master_version) VALUES ($1, $2, $3);

-- name: insert_wallet
-- A wallet; the first one of a user is the primary one.
INSERT INTO wallets (id, user_id, chain, address, is_primary)
SELECT $1, $2, $3, $4, NOT EXISTS (SELECT FROM wallets WHERE user_id = $2 AND is_primary);

-- name: lock_user
-- A user, for a change, with the wrapped data key, and whether anything is encrypted with one.
SELECT u.role, u.status, u.kind, u.version, k.wrapped_key, k.master_version,
    u.email_ciphertext IS NOT NULL OR u.personal_ciphertext IS NOT NULL AS sealed
FROM users u LEFT JOIN user_keys k ON k.user_id = u.id
WHERE u.id = $1 FOR NO KEY UPDATE OF u;

-- name: update_username
-- Another name.
UPDATE users SET username = $2 WHERE id = $1;

-- name: update_email
-- Another email address.
UPDATE users SET email_ciphertext = $2, email_index = $3 WHERE id = $1;

-- name: update_personal
-- Other personal data.
UPDATE users SET personal_ciphertext = $2 WHERE id = $1;

-- name: update_preferences
-- Other preferences.
UPDATE users SET preferences = $2 WHERE id = $1;

-- name: update_role
-- Another role.
UPDATE users SET role = $2 WHERE id = $1 AND role <> $2;

-- name: update_status
-- Active or deactivated.
UPDATE users SET status = $2 WHERE id = $1 AND status <> $2;

-- name: delete_wallet
-- Removes a wallet.
DELETE FROM wallets WHERE user_id = $1 AND chain = $2 AND address = $3 RETURNING is_primary;

-- name: wallet_count
-- How many wallets a user has.
SELECT count(*) FROM wallets WHERE user_id = $1;

-- name: promote_oldest_wallet
-- The wallet that was added first becomes the primary one.
UPDATE wallets SET is_primary = true WHERE id = (SELECT id FROM wallets WHERE user_id = $1 ORDER BY id LIMIT 1);

-- name: unset_primary_wallet
-- No primary wallet, for the moment.
UPDATE wallets SET is_primary = false WHERE user_id = $1 AND is_primary AND NOT (chain = $2 AND address = $3);

-- name: set_primary_wallet
-- The primary wallet.
UPDATE wallets SET is_primary = true WHERE user_id = $1 AND chain = $2 AND address = $3 AND NOT is_primary;

-- name: has_wallet
-- Whether the wallet is the user's.
SELECT true FROM wallets WHERE user_id = $1 AND chain = $2 AND address = $3;
