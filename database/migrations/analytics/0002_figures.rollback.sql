-- What stands here can be computed again from the records, apart from user_events, page_views and
-- performance_metrics.
--
-- The way back drops what the step made:
-- squawk-ignore-file ban-drop-table, ban-drop-function

SET ROLE novadex_owner;

DROP FUNCTION schema_step();
DROP FUNCTION ensure_partitions(regclass, timestamptz, timestamptz);
DROP TABLE performance_metrics;
DROP TABLE page_views;
DROP TABLE user_events;
DROP TABLE projection_rejects;
DROP TABLE projections;
DROP TABLE trading_other_fees;
DROP TABLE trading_analytics;
DROP TABLE candles;
DROP TABLE trade_facts;
DROP FUNCTION uuid_at(timestamptz);
DROP FUNCTION uuid_time_ms(uuid);

RESET ROLE;
