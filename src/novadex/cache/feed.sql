-- The feed of changes.

-- name: listen
-- Hear what is announced, on the channel whose name only the database knows.
SELECT listen_to_changes();

-- name: floor
-- From here on everything is heard; and which life of the database this is: its system identifier, timeline and epoch.
SELECT
    pg_current_snapshot()::text || '@' || (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS mark,
    concat_ws('-',
        CASE WHEN has_function_privilege('pg_control_system()', 'EXECUTE')
            THEN (SELECT to_hex(system_identifier) FROM pg_control_system()) ELSE current_database() END,
        (SELECT oid FROM pg_database WHERE datname = current_database()),
        left(pg_walfile_name(pg_current_wal_lsn()), 8),
        (SELECT epoch FROM recovery_epoch)) AS life;
