-- The rows of the audit log stay; their chain goes.
--
-- The way back drops what the step made:
-- squawk-ignore-file ban-drop-table, ban-drop-function, require-concurrent-index-deletion

SET ROLE novadex_owner;

CREATE OR REPLACE FUNCTION schema_step() RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT '0003_people' $$;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['users', 'wallets', 'user_sessions', 'api_keys', 'roles', 'permissions', 'role_permissions',
        'master_keys', 'system_keys', 'user_keys', 'erasures', 'recovery_epoch', 'assets', 'markets'] LOOP
        EXECUTE format('DROP TRIGGER %I ON %I', name || '_audit', name);
        EXECUTE format('DROP TRIGGER %I ON %I', name || '_audit_emptied', name);
    END LOOP;
END
$$;
DROP TRIGGER audit_log_queue ON audit_log;
DROP TRIGGER audit_log_never_emptied ON audit_log;
DROP INDEX audit_log_actor_idx;
DROP INDEX audit_log_subject_idx;
DROP INDEX audit_log_action_idx;
DROP TABLE audit_chain;
DROP TABLE audit_pending;
DROP FUNCTION audit_change();
DROP FUNCTION seal_audit(integer);
DROP FUNCTION queue_for_sealing();
DROP FUNCTION audit_row_hash(audit_log);
DROP FUNCTION refuse_truncate();
REVOKE INSERT (actor, action, subject, detail) ON audit_log FROM novadex_app, novadex_worker;
GRANT INSERT ON audit_log TO novadex_app, novadex_worker;

RESET ROLE;
