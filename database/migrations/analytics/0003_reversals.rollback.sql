-- What was undone counts again: rebuild after it.
--
-- The way back drops what the step made:
-- squawk-ignore-file ban-drop-column, require-concurrent-index-deletion

SET ROLE novadex_owner;

CREATE OR REPLACE FUNCTION schema_step() RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT '0002_figures' $$;
DROP INDEX trade_facts_id_idx;
DROP INDEX trade_facts_reverses_idx;
ALTER TABLE trade_facts DROP COLUMN reverses;

RESET ROLE;
