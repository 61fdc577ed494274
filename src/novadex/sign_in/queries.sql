-- name: count_waiting
-- How many nonces wait to be used, as far as so many. The worker deletes those that ended.
SELECT count(*) FROM (SELECT FROM sign_in_nonces WHERE expires_at >= now() LIMIT $1) AS waiting;

-- name: add_nonce
-- A new nonce.
INSERT INTO sign_in_nonces (nonce_hash, expires_at)
VALUES ($1, now() + $2::double precision * interval '1 second')
RETURNING expires_at;

-- name: use_nonce
-- Takes a nonce away, once: whether it was still good.
DELETE FROM sign_in_nonces WHERE nonce_hash = $1 RETURNING expires_at > clock_timestamp() AS good;
