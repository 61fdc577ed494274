-- Executions that are undone: facts say what they undo, and figures count what stands.

SET ROLE novadex_owner;

ALTER TABLE trade_facts ADD COLUMN reverses uuid;
COMMENT ON COLUMN trade_facts.reverses IS 'The trade that this one undoes; neither counts in candles and figures';
-- To find what was undone, and to read a minute of all users again.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX trade_facts_reverses_idx ON trade_facts (reverses) WHERE reverses IS NOT NULL;
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX trade_facts_id_idx ON trade_facts USING brin (id) WITH (autosummarize = on);

DO $$
DECLARE
    part regclass;
BEGIN
    FOR part IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'trade_facts'::regclass LOOP
        EXECUTE format('COMMENT ON COLUMN %s.reverses IS %L', part, 'The trade that this one undoes; neither counts in candles and figures');
    END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION schema_step() RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT '0003_reversals' $$;

RESET ROLE;
