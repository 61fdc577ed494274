-- Roles belong to the whole cluster, where other databases may use them: they stay.
-- squawk-ignore-file ban-drop-function

SET ROLE novadex_owner;

DROP FUNCTION schema_step();

RESET ROLE;
