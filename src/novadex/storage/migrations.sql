-- name: let_backups_read_marks
-- A dump reads every table, also those in which yoyo notes what it applied.
DO $$
DECLARE
    marks regclass;
BEGIN
    FOR marks IN
        SELECT oid FROM pg_class
        WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND relname LIKE '%yoyo%'
            AND pg_has_role(relowner, 'USAGE') AND NOT has_table_privilege('novadex_backup', oid, 'SELECT')
    LOOP
        EXECUTE format('GRANT SELECT ON %s TO novadex_backup', marks);
    END LOOP;
END
$$;
