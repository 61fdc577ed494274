-- The login roles of an embedded cluster and what only a superuser can give them. Run at every start.
-- The passwords' verifiers come in as settings of the transaction.
DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['owner', 'app', 'worker', 'readonly', 'backup', 'user'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'novadex_' || role_name) THEN
            EXECUTE format('CREATE ROLE %I', 'novadex_' || role_name);
        END IF;
        EXECUTE format(
            'ALTER ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE %s PASSWORD %L',
            'novadex_' || role_name,
            -- Under row-level security COPY and pg_dump are refused: who writes and reads for the services is exempt.
            CASE WHEN role_name IN ('app', 'worker', 'backup') THEN 'BYPASSRLS' ELSE 'NOBYPASSRLS' END,
            current_setting('novadex.verifier_' || role_name)
        );
    END LOOP;
END
$$;
ALTER ROLE novadex_backup REPLICATION;
GRANT pg_read_all_data TO novadex_backup; -- pg_dump
GRANT pg_monitor TO novadex_app, novadex_worker, novadex_backup; -- health sees every session and statement
CREATE EXTENSION IF NOT EXISTS pg_stat_statements; -- in the database postgres: the schemas stay as they are
