-- What is cached beside what it was read from.

-- name: changed_by
-- The transactions that wrote the rows as they are, by their lower 32 bits: of users ($1), and of the session or key ($2)
-- which an entry is made of.
SELECT 'user' AS of, xmin::text::bigint AS xid FROM users WHERE id = ANY($1::uuid[])
UNION ALL SELECT 'user', xmin::text::bigint FROM wallets WHERE user_id = ANY($1::uuid[])
UNION ALL SELECT 'user', xmin::text::bigint FROM user_keys WHERE user_id = ANY($1::uuid[])
UNION ALL SELECT 'record', xmin::text::bigint FROM user_sessions WHERE id = $2::uuid
UNION ALL SELECT 'record', xmin::text::bigint FROM api_keys WHERE id = $2::uuid;
