-- Sessions: the durable record. now() is the clock of every lifetime.

-- name: lock_user
-- The user, so that sessions of one user are made one after the other, and none beside a deactivation.
SELECT role, status FROM users WHERE id = $1 FOR NO KEY UPDATE;

-- name: has_wallet
-- Whether a wallet is the user's, who is locked: so it stays theirs until the session is there.
SELECT true FROM wallets WHERE user_id = $1 AND chain = $2 AND address = $3;

-- name: end_surplus
-- Ends the sessions that were not used for longest, but for the given number of them.
UPDATE user_sessions SET revoked_at = now(), revoked_reason = 'too many sessions'
WHERE id IN (
    SELECT id FROM (
        SELECT id, row_number() OVER (ORDER BY last_used_at DESC, id DESC) AS place FROM user_sessions
        WHERE user_id = $1 AND revoked_at IS NULL AND expires_at > now() AND idle_expires_at > now()
    ) AS live WHERE place > $2
)
RETURNING encode(token_hash, 'hex') AS key, pg_current_xact_id()::text::bigint AS xid;

-- name: insert_session
-- A new session: id, user, family, hash, device, address, method, seconds idle, seconds in all.
INSERT INTO user_sessions (id, user_id, family_id, token_hash, device, address, method, idle_expires_at, expires_at)
VALUES ($1, $2, $3, $4, $5, $6::inet, $7, now() + make_interval(secs => least($8, $9)), now() + make_interval(secs => $9))
RETURNING id, user_id, family_id, device, host(address) AS address, method, created_at, last_used_at, authenticated_at,
    idle_expires_at, expires_at;

-- name: session_of_token
-- Which session it is, and whose.
SELECT id, user_id FROM user_sessions WHERE token_hash = $1;

-- name: lock_session
-- The session of a token, for a change.
SELECT id, user_id, family_id, revoked_at, revoked_reason, expires_at <= now() OR idle_expires_at <= now() AS expired,
    encode(token_hash, 'hex') AS key
FROM user_sessions WHERE token_hash = $1 FOR UPDATE;

-- name: insert_successor
-- The session that takes the place of another: new id and hash, the old one's family, end and proof; new proof where $6 says so.
INSERT INTO user_sessions (id, user_id, family_id, token_hash, device, address, method, authenticated_at, idle_expires_at, expires_at)
SELECT $2, user_id, family_id, $3, coalesce($4, device), coalesce($5::inet, address),
    CASE WHEN $6::text IS NULL THEN method ELSE $6::text END,
    CASE WHEN $6::text IS NULL THEN authenticated_at ELSE now() END,
    least(expires_at, now() + make_interval(secs => $7)), expires_at
FROM user_sessions WHERE id = $1
RETURNING id, user_id, family_id, device, host(address) AS address, method, created_at, last_used_at, authenticated_at,
    idle_expires_at, expires_at;

-- name: rotate
-- The old session ends, and names the one that took its place.
UPDATE user_sessions SET revoked_at = now(), revoked_reason = 'rotated', replaced_by = $2
WHERE id = $1
RETURNING pg_current_xact_id()::text::bigint AS xid;

-- name: is_session
-- Whether there is a session of this id.
SELECT true FROM user_sessions WHERE id = $1;

-- name: revoke_family
-- Ends every session that descends from one sign-in.
UPDATE user_sessions SET revoked_at = now(), revoked_reason = $2
WHERE id IN (SELECT id FROM user_sessions WHERE family_id = $1 AND revoked_at IS NULL ORDER BY id FOR UPDATE)
RETURNING encode(token_hash, 'hex') AS key, pg_current_xact_id()::text::bigint AS xid;

-- name: family_of_session
-- The sign-in that a session descends from, of this user where one is named.
SELECT user_id, family_id FROM user_sessions WHERE id = $1 AND ($2::uuid IS NULL OR user_id = $2);

-- name: revoke_of_user
-- Ends all sessions of a user but one.
UPDATE user_sessions SET revoked_at = now(), revoked_reason = $3
WHERE id IN (
    SELECT id FROM user_sessions
    WHERE user_id = $1 AND revoked_at IS NULL AND id IS DISTINCT FROM $2::uuid ORDER BY id FOR UPDATE
)
RETURNING encode(token_hash, 'hex') AS key, pg_current_xact_id()::text::bigint AS xid;

-- name: lock_users_signed_in
-- The next users who have sessions, above an id and so many at most: locked in the order of their ids.
SELECT id FROM users WHERE id IN (
    SELECT DISTINCT user_id FROM user_sessions
    WHERE user_id > $1 AND revoked_at IS NULL AND expires_at > now() ORDER BY user_id LIMIT $2
)
ORDER BY id FOR NO KEY UPDATE;

-- name: revoke_of_users
-- Ends all sessions of users.
UPDATE user_sessions SET revoked_at = now(), revoked_reason = $2
WHERE id IN (
    SELECT id FROM user_sessions
    WHERE user_id = ANY($1::uuid[]) AND revoked_at IS NULL AND expires_at > now() ORDER BY id FOR UPDATE
)
RETURNING encode(token_hash, 'hex') AS key, pg_current_xact_id()::text::bigint AS xid;

-- name: live_of_user
-- The sessions of a user that have not ended, the last used first.
SELECT id, user_id, family_id, device, host(address) AS address, method, created_at, last_used_at, authenticated_at,
    idle_expires_at, expires_at
FROM user_sessions
WHERE user_id = $1 AND revoked_at IS NULL AND expires_at > now() AND idle_expires_at > now()
ORDER BY last_used_at DESC, id DESC
LIMIT $2;

-- name: session_by_key
-- What a token stands for, with what the statement sees. It lies in the session server, so it holds no personal data.
SELECT read_mark() AS mark, s.id IS NOT NULL AS found, s.id, s.user_id, s.family_id, s.method, s.authenticated_at,
    s.idle_expires_at, s.expires_at, s.revoked_at, s.revoked_reason, s.must_renew, u.role, u.status
FROM (SELECT 1) AS one
LEFT JOIN (user_sessions s JOIN users u ON u.id = s.user_id) ON s.token_hash = decode($1, 'hex');

-- name: touch
-- Sessions that were used meanwhile: ids, when, and until when they last if they are not used again. One that is being
-- changed is left out: whoever holds several waits for others, and revoking must not wait for this.
UPDATE user_sessions s
SET last_used_at = greatest(s.last_used_at, used.at),
    idle_expires_at = greatest(s.idle_expires_at, least(s.expires_at, used.at + make_interval(secs => $3)))
FROM (
    SELECT l.id, given.at FROM unnest($1::uuid[], $2::timestamptz[]) AS given (id, at)
    JOIN user_sessions l ON l.id = given.id WHERE l.revoked_at IS NULL
    ORDER BY l.id FOR UPDATE OF l SKIP LOCKED
) AS used
WHERE s.id = used.id;

-- name: recent_keys
-- Hashes of live sessions, the last used first: what a cache begins with.
SELECT encode(token_hash, 'hex') AS key FROM user_sessions
WHERE revoked_at IS NULL AND expires_at > now() AND idle_expires_at > now()
ORDER BY last_used_at DESC LIMIT $1;

-- name: recent_users
-- The users of live sessions, the last used first: whom a cache begins with.
SELECT user_id::text AS key FROM user_sessions
WHERE revoked_at IS NULL AND expires_at > now() AND idle_expires_at > now()
GROUP BY user_id ORDER BY max(last_used_at) DESC LIMIT $1;
