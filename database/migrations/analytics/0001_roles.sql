-- The roles of least privilege, and the right of their owner to make tables.

DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['novadex_owner', 'novadex_app', 'novadex_worker', 'novadex_readonly', 'novadex_backup'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role_name) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', role_name);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL; -- another database of this cluster made it at the same moment
            END;
        END IF;
    END LOOP;
    IF current_user <> 'novadex_owner' THEN
        IF NOT pg_has_role(current_user, 'novadex_owner', 'USAGE') THEN
            EXECUTE format('GRANT novadex_owner TO %I', current_user);
        END IF;
        GRANT ALL ON SCHEMA public TO novadex_owner;
    END IF;
    IF has_schema_privilege('public', 'public', 'CREATE') THEN
        REVOKE CREATE ON SCHEMA public FROM PUBLIC; -- PostgreSQL 14 lets everybody make tables
    END IF;
END
$$;

SET ROLE novadex_owner;

CREATE FUNCTION schema_step() RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT '0001_roles' $$;
COMMENT ON FUNCTION schema_step() IS 'The last migration that this schema contains';

RESET ROLE;
