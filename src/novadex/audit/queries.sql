-- The audit log and its chain.

-- name: lock_chain
-- One sealer at a time, in this database.
SELECT pg_advisory_xact_lock(hashtextextended('novadex audit chain', 0));

-- name: head
-- The end of the chain, without what was put in from a position on, where no chain gets.
SELECT position, chain_hash FROM audit_chain WHERE position < $1 ORDER BY position DESC LIMIT 1;

-- name: seal
-- Appends what waits to the chain, at most so many rows.
SELECT taken, added, position, chain_hash FROM seal_audit($1);

-- name: moment
-- The database now: which life of which (0: somebody deleted the number), what runs in it, what waits to be sealed (up to
-- 100,000 rows are counted), how many rows were changed that nobody may change, and which tables in which files it is.
SELECT pg_current_snapshot()::text AS snapshot, clock_timestamp() AS at,
    coalesce((SELECT epoch FROM recovery_epoch), 0) AS epoch,
    coalesce(to_hex(nullif(system_identifier(), 0)), current_database()) AS system,
    (SELECT count(*) FROM (SELECT FROM audit_pending LIMIT 100000) AS counted) AS waiting,
    (SELECT greatest(0, coalesce(extract(epoch FROM clock_timestamp() - min(l.occurred_at)), 0))::float8
        FROM (SELECT audit_id FROM audit_pending ORDER BY audit_id LIMIT 1) AS p JOIN audit_log l ON l.id = p.audit_id)
        AS oldest_waiting_s,
    ARRAY[pg_stat_get_tuples_updated('audit_log'::regclass), pg_stat_get_tuples_deleted('audit_log'::regclass),
        pg_stat_get_tuples_updated('audit_chain'::regclass), pg_stat_get_tuples_deleted('audit_chain'::regclass),
        pg_stat_get_tuples_updated('audit_pending'::regclass)] AS touched,
    ARRAY['audit_log'::regclass::oid::bigint, pg_relation_filenode('audit_log')::bigint,
        'audit_chain'::regclass::oid::bigint, pg_relation_filenode('audit_chain')::bigint,
        'audit_pending'::regclass::oid::bigint, pg_relation_filenode('audit_pending')::bigint] AS files;

-- name: links
-- The chain behind a position in order, each link with what is hashed of its row. A link that has two rows comes twice.
-- Times are numeric: whatever somebody edited them to has a text.
SELECT c.position, c.audit_id, c.row_hash, c.chain_hash,
    CASE WHEN l.id IS NOT NULL THEN concat_ws(',', l.id,
        round(extract(epoch FROM l.occurred_at) * 1000000), l.xid, length(l.actor), l.actor, length(l.action), l.action, length(l.subject), l.subject,
        length(l.detail::text), l.detail::text, length(l.database_role), l.database_role) END AS content
FROM audit_chain c LEFT JOIN audit_log l ON l.id = c.audit_id
WHERE c.position > $1
ORDER BY c.position FETCH FIRST $2 ROWS WITH TIES;

-- name: export
-- The chain behind a position up to another in order, each link with the columns of its row as texts.
SELECT c.position, c.audit_id, encode(c.row_hash, 'hex') AS row_hash, encode(c.chain_hash, 'hex') AS chain_hash,
    l.id::text AS id, round(extract(epoch FROM l.occurred_at) * 1000000)::text AS occurred_at_us, l.xid::text AS xid,
    l.actor, l.action, l.subject, l.detail::text AS detail, l.database_role
FROM audit_chain c LEFT JOIN audit_log l ON l.id = c.audit_id
WHERE c.position > $1 AND c.position <= $2
ORDER BY c.position LIMIT $3;

-- name: unbounded
-- No time limits for this transaction.
SELECT set_config(name, '0', true) FROM pg_settings WHERE name IN ('statement_timeout', 'transaction_timeout');

-- name: strangers
-- Rows of the log that are neither in the chain nor wait for it.
SELECT l.id FROM audit_log l
WHERE NOT EXISTS (SELECT FROM audit_chain c WHERE c.audit_id = l.id)
    AND NOT EXISTS (SELECT FROM audit_pending p WHERE p.audit_id = l.id)
ORDER BY l.id LIMIT $1;

-- name: missing_ids
-- Ids of the log between two that it does not have, the newest first, at most so many.
SELECT id FROM generate_series($1::bigint, $2::bigint, -1) AS id
WHERE NOT EXISTS (SELECT FROM audit_log l WHERE l.id = id.id) LIMIT $3;

-- name: newest_id
-- The newest id that the log has or had.
SELECT greatest((SELECT max(id) FROM audit_log), (SELECT max(audit_id) FROM audit_chain), 0);

-- name: guards
-- What writes the audit log and keeps it from being changed: triggers and rules with their text, functions with a digest.
SELECT format('trigger %s of %s', t.tgname, t.tgrelid::regclass) AS guard,
    format('%s %s', t.tgenabled, pg_get_triggerdef(t.oid)) AS definition
FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
WHERE NOT t.tgisinternal AND t.tgparentid = 0
    AND (p.proname IN ('audit_change', 'queue_for_sealing', 'refuse_change', 'refuse_truncate')
        OR t.tgrelid IN ('audit_log'::regclass, 'audit_chain'::regclass, 'audit_pending'::regclass))
UNION ALL
SELECT format('rule %s of %s', r.rulename, r.ev_class::regclass), format('%s %s', r.ev_enabled, pg_get_ruledef(r.oid))
FROM pg_rewrite r WHERE r.ev_class IN ('audit_log'::regclass, 'audit_chain'::regclass, 'audit_pending'::regclass)
UNION ALL
SELECT format('function %s', p.oid::regprocedure),
    encode(sha256(convert_to(concat_ws(E'\n', l.lanname, p.prosecdef, p.provolatile, p.proconfig, p.prosrc), 'UTF8')), 'hex')
FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
WHERE p.proname IN ('audit_change', 'audit_row_hash', 'queue_for_sealing', 'refuse_change', 'refuse_truncate', 'seal_audit')
ORDER BY 1;

-- name: switches
-- What switches guards off, or the server's counts: triggers of partitions, settings, and names that mean other tables.
SELECT format('trigger %s of %s is switched off', t.tgname, t.tgrelid::regclass) AS "off"
FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
WHERE t.tgparentid <> 0 AND t.tgenabled IN ('D', 'R')
    AND p.proname IN ('audit_change', 'queue_for_sealing', 'refuse_change', 'refuse_truncate')
UNION ALL
SELECT format('the setting %s holds for %s', setting, concat_ws(' in ', coalesce(r.rolname, 'everybody'), d.datname))
FROM pg_db_role_setting s CROSS JOIN unnest(s.setconfig) AS setting
    LEFT JOIN pg_database d ON d.oid = s.setdatabase LEFT JOIN pg_roles r ON r.oid = s.setrole
WHERE (s.setdatabase = 0 OR d.datname = current_database())
    AND split_part(setting, '=', 1) IN ('session_replication_role', 'track_counts')
    AND lower(split_part(setting, '=', 2)) NOT IN ('origin', 'on', 'true', 'yes', '1')
UNION ALL
SELECT format('the setting %s=%s holds here', name, setting) FROM pg_settings
WHERE (name = 'session_replication_role' AND setting <> 'origin') OR (name = 'track_counts' AND setting <> 'on')
UNION ALL
SELECT format('%s means %s.%s, by the setting search_path', c.relname, c.relnamespace::regnamespace, c.relname) FROM pg_class c
WHERE c.oid IN ('audit_log'::regclass, 'audit_chain'::regclass, 'audit_pending'::regclass)
    AND c.relnamespace <> 'public'::regnamespace;

-- name: epochs_written_down
-- How many of the epochs from one to another the log says the beginning of, and the row that says so of the first.
SELECT count(DISTINCT epoch) AS epochs, min(id) FILTER (WHERE epoch = $1::numeric) AS id
FROM (SELECT id, substring(subject FROM '^epoch:([1-9][0-9]{0,18})$')::numeric AS epoch
    FROM audit_log WHERE action = 'recovery_epoch.updated') AS said
WHERE epoch BETWEEN $1::numeric AND $2::numeric;

-- name: too_late
-- The first row before another one that is of such a transaction or a later one, and written after a moment.
SELECT min(id) FROM audit_log WHERE id < $1 AND xid >= $2::text::xid8 AND occurred_at > $3;

-- name: after
-- Rows above an id, the oldest first.
SELECT id, occurred_at, actor, action, subject, detail, database_role FROM audit_log
WHERE id > $1 ORDER BY id LIMIT $2;

-- name: by_subject
-- Rows about a subject, the newest first, below an id.
SELECT id, occurred_at, actor, action, subject, detail, database_role FROM audit_log
WHERE subject = $3 AND id < $1 AND ($4::text IS NULL OR actor = $4) AND ($5::text IS NULL OR action = $5)
    AND ($6::timestamptz IS NULL OR occurred_at >= $6) AND ($7::timestamptz IS NULL OR occurred_at < $7)
ORDER BY id DESC LIMIT $2;

-- name: by_actor
-- Rows of an actor, the newest first, below an id.
SELECT id, occurred_at, actor, action, subject, detail, database_role FROM audit_log
WHERE actor = $4 AND id < $1 AND ($3::text IS NULL OR subject = $3) AND ($5::text IS NULL OR action = $5)
    AND ($6::timestamptz IS NULL OR occurred_at >= $6) AND ($7::timestamptz IS NULL OR occurred_at < $7)
ORDER BY id DESC LIMIT $2;

-- name: by_action
-- Rows of an action, the newest first, below an id.
SELECT id, occurred_at, actor, action, subject, detail, database_role FROM audit_log
WHERE action = $5 AND id < $1 AND ($3::text IS NULL OR subject = $3) AND ($4::text IS NULL OR actor = $4)
    AND ($6::timestamptz IS NULL OR occurred_at >= $6) AND ($7::timestamptz IS NULL OR occurred_at < $7)
ORDER BY id DESC LIMIT $2;

-- name: by_time
-- Rows of a time, the newest first, below an id.
SELECT id, occurred_at, actor, action, subject, detail, database_role FROM audit_log
WHERE id < $1 AND ($3::text IS NULL OR subject = $3) AND ($4::text IS NULL OR actor = $4) AND ($5::text IS NULL OR action = $5)
    AND ($6::timestamptz IS NULL OR occurred_at >= $6) AND ($7::timestamptz IS NULL OR occurred_at < $7)
ORDER BY id DESC LIMIT $2;

-- name: last_settings
-- The settings that a program recorded last.
SELECT detail FROM audit_log WHERE subject = $1 AND action = $2 ORDER BY id DESC LIMIT 1;
