-- What the worker keeps in order.

-- name: partitioned_tables
-- The tables that have a partition for each month.
SELECT c.oid::regclass::text AS table_name
FROM pg_partitioned_table p
JOIN pg_class c ON c.oid = p.partrelid
WHERE c.relnamespace = 'public'::regnamespace AND NOT c.relispartition
ORDER BY c.relname;

-- name: make_partitions_ahead
-- Makes the partitions of a table from now to so many months ahead; returns how many it made.
SELECT public.ensure_partitions($1::text::regclass, now(), now() + make_interval(months => $2::integer));

-- name: delete_old_idempotency_keys
-- Deletes some of the keys that are older than so many days.
DELETE FROM public.idempotency_keys
WHERE ctid = ANY (ARRAY(
    SELECT ctid
    FROM public.idempotency_keys
    WHERE created_at < now() - make_interval(days => $1::integer)
    LIMIT $2
));

-- name: may_delete_figures
-- Whether this role may delete from performance_metrics.
SELECT has_table_privilege('public.performance_metrics', 'DELETE');

-- name: delete_old_figures
-- Deletes some of the figures that are older than so many days.
DELETE FROM public.performance_metrics
WHERE id = ANY (ARRAY(
    SELECT id
    FROM public.performance_metrics
    WHERE id < public.uuid_at(now() - make_interval(days => $1::integer))
    ORDER BY id
    LIMIT $2
));

-- name: delete_old_sessions
-- Deletes some of the sessions whose end in any case was more than so many days ago.
DELETE FROM public.user_sessions
WHERE id = ANY (ARRAY(
    SELECT id
    FROM public.user_sessions
    WHERE expires_at < now() - make_interval(days => $1::integer)
    ORDER BY expires_at, id
    LIMIT $2
    FOR UPDATE SKIP LOCKED
));

-- name: delete_old_nonces
-- Deletes some of the nonces of sign-ins that ended more than so many days ago.
DELETE FROM public.sign_in_nonces
WHERE nonce_hash = ANY (ARRAY(
    SELECT nonce_hash
    FROM public.sign_in_nonces
    WHERE expires_at < now() - make_interval(days => $1::integer)
    ORDER BY expires_at
    LIMIT $2
));
