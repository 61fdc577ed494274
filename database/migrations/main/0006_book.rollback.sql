-- The snapshots go: imports write them again.
--
-- The way back drops what the step made:
-- squawk-ignore-file ban-drop-table

SET ROLE novadex_owner;

CREATE OR REPLACE FUNCTION schema_step() RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT '0005_orders' $$;

DROP TABLE book_snapshots;

RESET ROLE;
