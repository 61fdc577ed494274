-- NovaDex analytics database: facts and figures that follow from the records. PostgreSQL 14 to 18.
--
--     psql -d novadex_analytics -f database/analytics/01_analytics_schema.sql
--
-- Plain SQL on an empty database, by the database's owner or a superuser; also as a container's init script.
-- `novadex migrate` reaches the same schema step by step (database/migrations/analytics).
-- Markets and assets stand here by their symbols, so that a table can be read by itself.

\set ON_ERROR_STOP on
BEGIN;

-- Roles ---------------------------------------------------------------------------------------------------

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

-- A dump reads every table and sequence, also partitions that do not exist yet.
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO novadex_backup;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON SEQUENCES TO novadex_backup;

-- Ids carry time ------------------------------------------------------------------------------------------

CREATE FUNCTION uuid_time_ms(id uuid) RETURNS bigint
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT ('x' || translate(left(id::text, 13), '-', ''))::bit(48)::bigint $$;
COMMENT ON FUNCTION uuid_time_ms(uuid) IS 'Milliseconds since 1970 in the first 48 bits of a UUIDv7';

CREATE FUNCTION uuid_at(moment timestamptz) RETURNS uuid
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT (lpad(to_hex(floor(extract(epoch FROM moment) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid $$;
COMMENT ON FUNCTION uuid_at(timestamptz) IS 'The lowest id of a moment: a bound for partitions and for reads by time';

-- Trades --------------------------------------------------------------------------------------------------

CREATE TABLE trade_facts (
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    market text NOT NULL,
    type text NOT NULL,
    side text NOT NULL CONSTRAINT trade_facts_side_known CHECK (side IN ('buy', 'sell')),
    liquidity text NOT NULL CONSTRAINT trade_facts_liquidity_known CHECK (liquidity IN ('maker', 'taker')),
    base_amount numeric NOT NULL CONSTRAINT trade_facts_base_positive CHECK (base_amount > 0 AND base_amount < 'Infinity'),
    quote_amount numeric NOT NULL CONSTRAINT trade_facts_quote_in_range CHECK (quote_amount >= 0 AND quote_amount < 'Infinity'),
    price numeric NOT NULL CONSTRAINT trade_facts_price_positive CHECK (price > 0 AND price < 'Infinity'),
    fee_amount numeric NOT NULL CONSTRAINT trade_facts_fee_finite CHECK (abs(fee_amount) < 'Infinity'),
    fee_asset text,
    executed_at timestamptz NOT NULL,
    sequence bigint,
    match_id uuid,
    source text,
    reverses uuid,
    PRIMARY KEY (user_id, id)
) PARTITION BY RANGE (id);
CREATE INDEX trade_facts_reverses_idx ON trade_facts (reverses) WHERE reverses IS NOT NULL;
CREATE INDEX trade_facts_id_idx ON trade_facts USING brin (id) WITH (autosummarize = on);
COMMENT ON TABLE trade_facts IS 'Trades as the records have them, partitioned by the time in the id; the key can be distributed by user';
COMMENT ON COLUMN trade_facts.id IS 'Id of the trade';
COMMENT ON COLUMN trade_facts.user_id IS 'Whose execution it is';
COMMENT ON COLUMN trade_facts.market IS 'Symbol of the market';
COMMENT ON COLUMN trade_facts.type IS 'spot, margin, perpetual or swap';
COMMENT ON COLUMN trade_facts.side IS 'What the user did: buy or sell';
COMMENT ON COLUMN trade_facts.liquidity IS 'maker or taker';
COMMENT ON COLUMN trade_facts.base_amount IS 'Units of the base asset';
COMMENT ON COLUMN trade_facts.quote_amount IS 'Units of the quote asset';
COMMENT ON COLUMN trade_facts.price IS 'Units of the quote asset for one of the base asset';
COMMENT ON COLUMN trade_facts.fee_amount IS 'Fee that the user paid; negative for a rebate';
COMMENT ON COLUMN trade_facts.fee_asset IS 'Symbol of what the fee was paid in';
COMMENT ON COLUMN trade_facts.executed_at IS 'When it was executed';
COMMENT ON COLUMN trade_facts.sequence IS 'Order within one moment, given by the source';
COMMENT ON COLUMN trade_facts.match_id IS 'The match that both sides share';
COMMENT ON COLUMN trade_facts.source IS 'Where it was imported from';
COMMENT ON COLUMN trade_facts.reverses IS 'The trade that this one undoes; neither counts in candles and figures';

CREATE TABLE candles (
    market text NOT NULL,
    start timestamptz NOT NULL CONSTRAINT candles_start_whole_minute CHECK (date_trunc('minute', start, 'UTC') = start),
    open numeric NOT NULL,
    high numeric NOT NULL CONSTRAINT candles_high_finite CHECK (high < 'Infinity'),
    low numeric NOT NULL CONSTRAINT candles_low_positive CHECK (low > 0),
    close numeric NOT NULL,
    base_volume numeric NOT NULL CONSTRAINT candles_base_volume_positive CHECK (base_volume > 0 AND base_volume < 'Infinity'),
    quote_volume numeric NOT NULL CONSTRAINT candles_quote_volume_in_range CHECK (quote_volume >= 0 AND quote_volume < 'Infinity'),
    taker_buy_base_volume numeric NOT NULL,
    trades bigint NOT NULL CONSTRAINT candles_trades_positive CHECK (trades > 0),
    first_at timestamptz NOT NULL,
    first_sequence bigint NOT NULL,
    first_id uuid NOT NULL,
    last_at timestamptz NOT NULL,
    last_sequence bigint NOT NULL,
    last_id uuid NOT NULL,
    PRIMARY KEY (market, start),
    CONSTRAINT candles_high_low CHECK (low <= open AND low <= close AND open <= high AND close <= high),
    CONSTRAINT candles_taker_share CHECK (taker_buy_base_volume >= 0 AND taker_buy_base_volume <= base_volume),
    CONSTRAINT candles_first_last CHECK (first_at <= last_at AND first_at >= start AND last_at < start + interval '1 minute')
);
COMMENT ON TABLE candles IS 'One row for each market and minute with trades; longer intervals are derived from these';
COMMENT ON COLUMN candles.market IS 'Symbol of the market';
COMMENT ON COLUMN candles.start IS 'Begin of the minute, UTC';
COMMENT ON COLUMN candles.open IS 'Price of the first trade by (executed_at, sequence, id)';
COMMENT ON COLUMN candles.high IS 'Highest price';
COMMENT ON COLUMN candles.low IS 'Lowest price';
COMMENT ON COLUMN candles.close IS 'Price of the last trade by (executed_at, sequence, id)';
COMMENT ON COLUMN candles.base_volume IS 'Sum of base amounts; each match counts once';
COMMENT ON COLUMN candles.quote_volume IS 'Sum of quote amounts; each match counts once';
COMMENT ON COLUMN candles.taker_buy_base_volume IS 'Sum of base amounts that takers bought';
COMMENT ON COLUMN candles.trades IS 'Number of matches';
COMMENT ON COLUMN candles.first_at IS 'When the first trade was executed';
COMMENT ON COLUMN candles.first_sequence IS 'Sequence of the first trade';
COMMENT ON COLUMN candles.first_id IS 'Id of the first trade';
COMMENT ON COLUMN candles.last_at IS 'When the last trade was executed';
COMMENT ON COLUMN candles.last_sequence IS 'Sequence of the last trade';
COMMENT ON COLUMN candles.last_id IS 'Id of the last trade';

CREATE TABLE trading_analytics (
    user_id uuid NOT NULL,
    market text NOT NULL,
    day date NOT NULL,
    trades bigint NOT NULL CONSTRAINT trading_analytics_trades_positive CHECK (trades > 0),
    buys bigint NOT NULL,
    sells bigint NOT NULL,
    maker_trades bigint NOT NULL,
    taker_trades bigint NOT NULL,
    base_volume numeric NOT NULL CONSTRAINT trading_analytics_base_volume_positive CHECK (base_volume > 0 AND base_volume < 'Infinity'),
    quote_volume numeric NOT NULL CONSTRAINT trading_analytics_quote_volume_in_range CHECK (quote_volume >= 0 AND quote_volume < 'Infinity'),
    base_fees numeric NOT NULL CONSTRAINT trading_analytics_base_fees_finite CHECK (abs(base_fees) < 'Infinity'),
    quote_fees numeric NOT NULL CONSTRAINT trading_analytics_quote_fees_finite CHECK (abs(quote_fees) < 'Infinity'),
    first_trade_at timestamptz NOT NULL,
    last_trade_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, market, day),
    CONSTRAINT trading_analytics_sides CHECK (buys >= 0 AND sells >= 0 AND buys + sells = trades),
    CONSTRAINT trading_analytics_liquidity CHECK (maker_trades >= 0 AND taker_trades >= 0 AND maker_trades + taker_trades = trades),
    CONSTRAINT trading_analytics_first_last CHECK (first_trade_at <= last_trade_at),
    CONSTRAINT trading_analytics_within_day CHECK (
        (first_trade_at AT TIME ZONE 'UTC')::date = day AND (last_trade_at AT TIME ZONE 'UTC')::date = day
    )
);
CREATE INDEX trading_analytics_day_idx ON trading_analytics (day, user_id);
COMMENT ON TABLE trading_analytics IS 'Figures of each user, market and day (UTC) with trades';
COMMENT ON COLUMN trading_analytics.user_id IS 'Whose figures they are';
COMMENT ON COLUMN trading_analytics.market IS 'Symbol of the market';
COMMENT ON COLUMN trading_analytics.day IS 'Day, UTC';
COMMENT ON COLUMN trading_analytics.trades IS 'Executions';
COMMENT ON COLUMN trading_analytics.buys IS 'Executions that bought';
COMMENT ON COLUMN trading_analytics.sells IS 'Executions that sold';
COMMENT ON COLUMN trading_analytics.maker_trades IS 'Executions as maker';
COMMENT ON COLUMN trading_analytics.taker_trades IS 'Executions as taker';
COMMENT ON COLUMN trading_analytics.base_volume IS 'Sum of base amounts';
COMMENT ON COLUMN trading_analytics.quote_volume IS 'Sum of quote amounts';
COMMENT ON COLUMN trading_analytics.base_fees IS 'Fees paid in the base asset, rebates subtracted';
COMMENT ON COLUMN trading_analytics.quote_fees IS 'Fees paid in the quote asset, rebates subtracted';
COMMENT ON COLUMN trading_analytics.first_trade_at IS 'First execution of the day';
COMMENT ON COLUMN trading_analytics.last_trade_at IS 'Last execution of the day';

CREATE TABLE trading_other_fees (
    user_id uuid NOT NULL,
    market text NOT NULL,
    day date NOT NULL,
    asset text NOT NULL,
    fees numeric NOT NULL CONSTRAINT trading_other_fees_finite CHECK (abs(fees) < 'Infinity'),
    PRIMARY KEY (user_id, market, day, asset)
);
COMMENT ON TABLE trading_other_fees IS 'Fees that were paid in neither asset of the market, beside trading_analytics';
COMMENT ON COLUMN trading_other_fees.user_id IS 'Who paid';
COMMENT ON COLUMN trading_other_fees.market IS 'Symbol of the market';
COMMENT ON COLUMN trading_other_fees.day IS 'Day, UTC';
COMMENT ON COLUMN trading_other_fees.asset IS 'Symbol of what the fees were paid in';
COMMENT ON COLUMN trading_other_fees.fees IS 'Fees paid, rebates subtracted';

-- Projections ---------------------------------------------------------------------------------------------

CREATE TABLE projections (
    name text PRIMARY KEY,
    epoch bigint NOT NULL,
    system_identifier bigint NOT NULL,
    timeline integer NOT NULL,
    xid xid8 NOT NULL,
    id uuid NOT NULL,
    watermark timestamptz,
    applied bigint NOT NULL DEFAULT 0 CONSTRAINT projections_applied_count CHECK (applied >= 0),
    set_aside bigint NOT NULL DEFAULT 0 CONSTRAINT projections_set_aside_count CHECK (set_aside >= 0),
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE projections IS 'How far each projection has read the log of the main database, stored with what it wrote';
COMMENT ON COLUMN projections.name IS 'Which projection';
COMMENT ON COLUMN projections.epoch IS 'recovery_epoch of the main database that the position belongs to';
COMMENT ON COLUMN projections.system_identifier IS 'System identifier of the main database';
COMMENT ON COLUMN projections.timeline IS 'Timeline of the main database';
COMMENT ON COLUMN projections.xid IS 'Transaction of the last row read; all rows below it are applied';
COMMENT ON COLUMN projections.id IS 'Id of the last row read within that transaction';
COMMENT ON COLUMN projections.watermark IS 'Every transaction of the main database that had begun to write before this moment is applied';
COMMENT ON COLUMN projections.applied IS 'Rows applied';
COMMENT ON COLUMN projections.set_aside IS 'Rows set aside';
COMMENT ON COLUMN projections.updated_at IS 'When the position was stored';

CREATE TABLE projection_rejects (
    projection text NOT NULL,
    row_id uuid NOT NULL,
    row_xid xid8 NOT NULL,
    code text NOT NULL,
    reason text NOT NULL,
    content jsonb NOT NULL,
    rejected_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (projection, row_id)
);
COMMENT ON TABLE projection_rejects IS 'Rows that a projection could not apply, with the reason; the rest went on';
COMMENT ON COLUMN projection_rejects.projection IS 'Which projection';
COMMENT ON COLUMN projection_rejects.row_id IS 'Id of the row';
COMMENT ON COLUMN projection_rejects.row_xid IS 'Transaction that wrote the row';
COMMENT ON COLUMN projection_rejects.code IS 'SQLSTATE of the refusal';
COMMENT ON COLUMN projection_rejects.reason IS 'What the database said';
COMMENT ON COLUMN projection_rejects.content IS 'The row, values as strings';
COMMENT ON COLUMN projection_rejects.rejected_at IS 'When it was set aside';

-- What users and the platform do --------------------------------------------------------------------------

CREATE TABLE user_events (
    id uuid NOT NULL,
    user_id uuid,
    session_id text CONSTRAINT user_events_session_length CHECK (length(session_id) BETWEEN 1 AND 200),
    event_type text NOT NULL CONSTRAINT user_events_type_form CHECK (event_type ~ '^[a-z][a-z0-9_.]{0,99}$'),
    event_data jsonb NOT NULL DEFAULT '{}' CONSTRAINT user_events_data_object CHECK (jsonb_typeof(event_data) = 'object'),
    occurred_at timestamptz NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (id),
    CONSTRAINT user_events_id_v7 CHECK (get_byte(uuid_send(id), 6) >> 4 = 7)
) PARTITION BY RANGE (id);
COMMENT ON TABLE user_events IS 'What users did, partitioned by the time in the id';
COMMENT ON COLUMN user_events.id IS 'UUIDv7';
COMMENT ON COLUMN user_events.user_id IS 'Who, if known';
COMMENT ON COLUMN user_events.session_id IS 'In which session';
COMMENT ON COLUMN user_events.event_type IS 'What, such as trade_executed';
COMMENT ON COLUMN user_events.event_data IS 'Details';
COMMENT ON COLUMN user_events.occurred_at IS 'When it happened';
COMMENT ON COLUMN user_events.received_at IS 'When it was written here';

CREATE TABLE page_views (
    id uuid NOT NULL,
    user_id uuid,
    session_id text CONSTRAINT page_views_session_length CHECK (length(session_id) BETWEEN 1 AND 200),
    path text NOT NULL CONSTRAINT page_views_path_length CHECK (length(path) BETWEEN 1 AND 2000),
    referrer text CONSTRAINT page_views_referrer_length CHECK (length(referrer) <= 2000),
    user_agent text CONSTRAINT page_views_user_agent_length CHECK (length(user_agent) <= 1000),
    viewed_at timestamptz NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (id),
    CONSTRAINT page_views_id_v7 CHECK (get_byte(uuid_send(id), 6) >> 4 = 7)
) PARTITION BY RANGE (id);
COMMENT ON TABLE page_views IS 'Pages that were looked at, partitioned by the time in the id';
COMMENT ON COLUMN page_views.id IS 'UUIDv7';
COMMENT ON COLUMN page_views.user_id IS 'Who, if known';
COMMENT ON COLUMN page_views.session_id IS 'In which session';
COMMENT ON COLUMN page_views.path IS 'Which page';
COMMENT ON COLUMN page_views.referrer IS 'Where from';
COMMENT ON COLUMN page_views.user_agent IS 'What the browser called itself';
COMMENT ON COLUMN page_views.viewed_at IS 'When it was looked at';
COMMENT ON COLUMN page_views.received_at IS 'When it was written here';

CREATE TABLE performance_metrics (
    id uuid NOT NULL,
    recorded_at timestamptz NOT NULL,
    instance text NOT NULL CONSTRAINT performance_metrics_instance_length CHECK (length(instance) BETWEEN 1 AND 200),
    name text NOT NULL CONSTRAINT performance_metrics_name_form CHECK (name ~ '^[a-zA-Z_:][a-zA-Z0-9_:]{0,199}$'),
    labels jsonb NOT NULL DEFAULT '{}' CONSTRAINT performance_metrics_labels_object CHECK (jsonb_typeof(labels) = 'object'),
    value double precision NOT NULL,
    PRIMARY KEY (id),
    CONSTRAINT performance_metrics_id_v7 CHECK (get_byte(uuid_send(id), 6) >> 4 = 7)
) PARTITION BY RANGE (id);
CREATE INDEX performance_metrics_name_idx ON performance_metrics (name, id);
COMMENT ON TABLE performance_metrics IS 'What /api/metrics showed, every few seconds; partitioned by the time in the id';
COMMENT ON COLUMN performance_metrics.id IS 'UUIDv7';
COMMENT ON COLUMN performance_metrics.recorded_at IS 'When it was measured';
COMMENT ON COLUMN performance_metrics.instance IS 'Which process measured it';
COMMENT ON COLUMN performance_metrics.name IS 'Name of the metric';
COMMENT ON COLUMN performance_metrics.labels IS 'Labels of the metric';
COMMENT ON COLUMN performance_metrics.value IS 'Value; the only float column of NovaDex, and no money';

-- Partitions ----------------------------------------------------------------------------------------------

CREATE FUNCTION ensure_partitions(parent regclass, first_moment timestamptz, last_moment timestamptz) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public
    SET timezone = 'UTC' -- else a month later would be counted in the caller's zone
    SET lock_timeout = '4s'
    AS $$
DECLARE
    month timestamptz := date_trunc('month', first_moment, 'UTC');
    child text;
    made integer := 0;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_partitioned_table p JOIN pg_class c ON c.oid = p.partrelid
                   WHERE p.partrelid = parent AND c.relnamespace = 'public'::regnamespace) THEN
        RAISE EXCEPTION '% is not a partitioned table of NovaDex', parent USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF (first_moment >= '1970-01-01 00:00:00+00' AND last_moment <= now() + interval '1 year' AND first_moment <= last_moment) IS NOT TRUE THEN
        RAISE EXCEPTION 'partitions of % cannot be made from % to %: 1970 to a year ahead is possible', parent, first_moment, last_moment
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    WHILE month <= last_moment LOOP
        child := format('%s_%s', (SELECT relname FROM pg_class WHERE oid = parent), to_char(month AT TIME ZONE 'UTC', 'YYYY_MM'));
        IF to_regclass(format('public.%I', child)) IS NULL THEN
            -- One maker at a time; whoever waited looks again. A lock on the table, for it is what lets a session
            -- see what others have made meanwhile.
            EXECUTE format('LOCK TABLE %s IN SHARE UPDATE EXCLUSIVE MODE', parent);
            IF to_regclass(format('public.%I', child)) IS NULL THEN
                -- CREATE, then ATTACH: readers and writers of the parent are not kept waiting.
                EXECUTE format('CREATE TABLE public.%I (LIKE %s INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING COMMENTS)', child, parent);
                EXECUTE format('ALTER TABLE %s ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)', parent, child,
                    public.uuid_at(month), public.uuid_at(month + interval '1 month'));
                made := made + 1;
            END IF;
        END IF;
        month := date_trunc('month', month + interval '32 days', 'UTC');
    END LOOP;
    RETURN made;
END
$$;
COMMENT ON FUNCTION ensure_partitions(regclass, timestamptz, timestamptz) IS 'Makes the missing monthly partitions from one moment to another; returns how many';
REVOKE ALL ON FUNCTION ensure_partitions(regclass, timestamptz, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ensure_partitions(regclass, timestamptz, timestamptz) TO novadex_app, novadex_worker;

DO $$
DECLARE
    parent text;
BEGIN
    FOREACH parent IN ARRAY ARRAY['trade_facts', 'user_events', 'page_views', 'performance_metrics'] LOOP
        PERFORM ensure_partitions(parent::regclass, now(), now() + interval '3 months');
    END LOOP;
END
$$;

CREATE FUNCTION schema_step() RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT '0003_reversals' $$;
COMMENT ON FUNCTION schema_step() IS 'The last migration that this schema contains';

-- Who may do what -----------------------------------------------------------------------------------------

GRANT SELECT ON trade_facts, candles, trading_analytics, trading_other_fees, projections, projection_rejects,
    user_events, page_views, performance_metrics TO novadex_app, novadex_worker, novadex_readonly;
GRANT INSERT ON user_events, page_views, performance_metrics TO novadex_app, novadex_worker;
GRANT INSERT ON trade_facts, projection_rejects TO novadex_worker;
GRANT INSERT, UPDATE ON candles, trading_analytics, trading_other_fees, projections TO novadex_worker;
GRANT DELETE ON trade_facts, candles, trading_analytics, trading_other_fees, projection_rejects, performance_metrics
    TO novadex_worker;

RESET ROLE;
COMMIT;
