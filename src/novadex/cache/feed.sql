-- The feed of changes.

-- name: listen
-- Hear what is announced, on the channel whose name only the database knows.
SELECT listen_to_changes();

-- name: floor
-- From here on everything is heard; and which life of the database this is: its system identifier, timeline and epoch.
SELECT
    pg_current_snapshot()::text || '@' || (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS mark,
    concat_ws('-',
        coalesce(to_hex(nullif(system_identifier(), 0)), current_database()),
        (SELECT oid FROM pg_database WHERE datname = current_database()),
        left(pg_walfile_name(pg_current_wal_lsn()), 8),
        (SELECT epoch FROM recovery_epoch)) AS life;
