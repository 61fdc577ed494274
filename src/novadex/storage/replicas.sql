-- name: primary_position
-- How far the primary has written its log, and which log it is: system identifier and timeline.
SELECT
    system_identifier || '/' || ('x' || left(pg_walfile_name(pg_current_wal_flush_lsn()), 8))::bit(32)::integer,
    pg_current_wal_flush_lsn()::text
FROM pg_control_system();

-- name: replica_position
-- How far a standby has replayed its log; no row where it is no standby. It knows its timeline since its last restartpoint: after a failover it is left alone until the next one.
SELECT system_identifier || '/' || timeline_id, pg_last_wal_replay_lsn()::text
FROM pg_control_system(), pg_control_checkpoint()
WHERE pg_is_in_recovery();
