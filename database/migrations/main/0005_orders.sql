-- Orders and fills: markets that are guarded, orders that change only by their events, matches that can be undone.
--
-- An order has two tables. orders is how it stands; order_events is how it came to be, and leads: whoever inserts an
-- order gets its first event from a trigger, whoever inserts events changes the order by a trigger. Neither can be had
-- without the other, by plain SQL neither.

-- squawk-ignore-file prefer-bigint-over-int, prefer-bigint-over-smallint, adding-not-nullable-field, adding-field-with-default

SET ROLE novadex_owner;

-- Markets -------------------------------------------------------------------------------------------------

ALTER TABLE markets ADD COLUMN tick_size price;
ALTER TABLE markets ADD COLUMN lot_size amount CONSTRAINT markets_lot_positive CHECK (lot_size > 0);
-- squawk-ignore constraint-missing-not-valid
ALTER TABLE markets ADD CONSTRAINT markets_lot_scale CHECK (scale(lot_size) <= base_decimals);
COMMENT ON COLUMN markets.tick_size IS 'Prices of orders are multiples of it; none: any price';
COMMENT ON COLUMN markets.lot_size IS 'Quantities of orders are multiples of it; none: the smallest unit of the base asset';

CREATE TABLE venue (
    only_row boolean PRIMARY KEY DEFAULT true CONSTRAINT venue_one_row CHECK (only_row),
    status text NOT NULL DEFAULT 'active'
        CONSTRAINT venue_status_known CHECK (status IN ('active', 'post_only', 'cancel_only', 'halted'))
);
INSERT INTO venue DEFAULT VALUES;
COMMENT ON TABLE venue IS 'One row: the kill switch of all markets';
COMMENT ON COLUMN venue.only_row IS 'Always true: there is one row';
COMMENT ON COLUMN venue.status IS 'The stricter one of this and the market''s own status holds';
CREATE TRIGGER venue_audit AFTER INSERT OR UPDATE OR DELETE ON venue FOR EACH ROW
    EXECUTE FUNCTION audit_change('venue', 'only_row', 'status');
CREATE TRIGGER venue_audit_emptied AFTER TRUNCATE ON venue FOR EACH STATEMENT EXECUTE FUNCTION audit_change();

DROP TRIGGER markets_audit ON markets;
CREATE TRIGGER markets_audit AFTER INSERT OR UPDATE OR DELETE ON markets FOR EACH ROW
    EXECUTE FUNCTION audit_change('market', 'symbol', 'status', 'base_decimals', 'quote_decimals', 'tick_size', 'lot_size');

CREATE FUNCTION strictness(status text) RETURNS integer
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT array_position(ARRAY['active', 'post_only', 'cancel_only', 'halted'], status) $$;
COMMENT ON FUNCTION strictness(text) IS 'Orders the states of markets: 1 takes everything, 4 nothing';

CREATE TABLE market_sequences (
    market_id integer PRIMARY KEY CONSTRAINT market_sequences_market_fkey REFERENCES markets (id),
    sequence bigint NOT NULL DEFAULT 0 CONSTRAINT market_sequences_positive CHECK (sequence >= 0)
) WITH (fillfactor = 50);
COMMENT ON TABLE market_sequences IS 'The number of the last order event of each market; whoever writes events holds this row until the commit, so numbers have no gaps and commits come in their order';
COMMENT ON COLUMN market_sequences.market_id IS 'The market';
COMMENT ON COLUMN market_sequences.sequence IS 'The number';
INSERT INTO market_sequences (market_id) SELECT id FROM markets;

CREATE TRIGGER market_sequences_append_only BEFORE DELETE OR UPDATE OF market_id ON market_sequences FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER market_sequences_never_emptied BEFORE TRUNCATE ON market_sequences FOR EACH STATEMENT EXECUTE FUNCTION refuse_truncate();

CREATE FUNCTION begin_sequence() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public
    AS $$
BEGIN
    INSERT INTO public.market_sequences (market_id) VALUES (NEW.id);
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION begin_sequence() IS 'Trigger of markets: each counts its order events';
REVOKE ALL ON FUNCTION begin_sequence() FROM PUBLIC;
CREATE TRIGGER markets_begin_sequence AFTER INSERT ON markets FOR EACH ROW EXECUTE FUNCTION begin_sequence();

CREATE TABLE fee_rates (
    market_id integer NOT NULL CONSTRAINT fee_rates_market_fkey REFERENCES markets (id),
    tier smallint NOT NULL CONSTRAINT fee_rates_tier_range CHECK (tier BETWEEN 0 AND 100),
    maker_rate numeric NOT NULL CONSTRAINT fee_rates_maker_range CHECK (maker_rate > -1 AND maker_rate < 1 AND scale(maker_rate) <= 18),
    taker_rate numeric NOT NULL CONSTRAINT fee_rates_taker_range CHECK (taker_rate > -1 AND taker_rate < 1 AND scale(taker_rate) <= 18),
    PRIMARY KEY (market_id, tier)
);
COMMENT ON TABLE fee_rates IS 'Fees of each market by tier, as a share of the quote amount; a tier without a row has the fees of the next lower one';
COMMENT ON COLUMN fee_rates.market_id IS 'The market';
COMMENT ON COLUMN fee_rates.tier IS 'The tier of the user; 0 is everybody''s';
COMMENT ON COLUMN fee_rates.maker_rate IS 'Of the maker; negative: a rebate';
COMMENT ON COLUMN fee_rates.taker_rate IS 'Of the taker';

CREATE TABLE user_fee_tiers (
    user_id uuid PRIMARY KEY CONSTRAINT user_fee_tiers_user_fkey REFERENCES users (id),
    tier smallint NOT NULL CONSTRAINT user_fee_tiers_range CHECK (tier BETWEEN 0 AND 100)
);
COMMENT ON TABLE user_fee_tiers IS 'The fee tiers of users; without a row it is 0';
COMMENT ON COLUMN user_fee_tiers.user_id IS 'The user';
COMMENT ON COLUMN user_fee_tiers.tier IS 'The tier';
CREATE TRIGGER fee_rates_audit AFTER INSERT OR UPDATE OR DELETE ON fee_rates FOR EACH ROW
    EXECUTE FUNCTION audit_change('fee_rates', 'market_id', 'market_id', 'tier', 'maker_rate', 'taker_rate');
CREATE TRIGGER fee_rates_audit_emptied AFTER TRUNCATE ON fee_rates FOR EACH STATEMENT EXECUTE FUNCTION audit_change();
CREATE TRIGGER user_fee_tiers_audit AFTER INSERT OR UPDATE OR DELETE ON user_fee_tiers FOR EACH ROW
    EXECUTE FUNCTION audit_change('user', 'user_id', 'tier');
CREATE TRIGGER user_fee_tiers_audit_emptied AFTER TRUNCATE ON user_fee_tiers FOR EACH STATEMENT EXECUTE FUNCTION audit_change();

-- Orders --------------------------------------------------------------------------------------------------

ALTER TABLE orders ADD COLUMN placed_by text NOT NULL
    DEFAULT left(coalesce(nullif(current_setting('novadex.actor', true), ''), 'database:' || session_user), 200)
    CONSTRAINT orders_placed_by_length CHECK (length(placed_by) BETWEEN 1 AND 200);
COMMENT ON COLUMN orders.placed_by IS 'Who placed it, as the audit log names them';
-- squawk-ignore constraint-missing-not-valid
ALTER TABLE orders ADD CONSTRAINT orders_filled_agrees CHECK (
    CASE status
        WHEN 'partially_filled' THEN filled_quantity > 0
        WHEN 'cancelled' THEN true
        WHEN 'expired' THEN true
        WHEN 'filled' THEN true
        ELSE filled_quantity = 0
    END
);
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX orders_market_idx ON orders (market_id, id);
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX orders_live_idx ON orders (market_id, id) WHERE status IN ('untriggered', 'open', 'partially_filled');
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX orders_live_of_user_idx ON orders (user_id, id) WHERE status IN ('untriggered', 'open', 'partially_filled');
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX orders_expiring_idx ON orders (expires_at) WHERE expires_at IS NOT NULL AND status IN ('untriggered', 'open', 'partially_filled');
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX orders_stops_idx ON orders (market_id, side, stop_price) WHERE status = 'untriggered';

CREATE TABLE order_transitions (
    type text NOT NULL,
    from_status text NOT NULL,
    to_status text NOT NULL,
    PRIMARY KEY (type, from_status, to_status)
);
COMMENT ON TABLE order_transitions IS 'The state machine of orders, as data: which event may lead from which state to which';
COMMENT ON COLUMN order_transitions.type IS 'Type of the event';
COMMENT ON COLUMN order_transitions.from_status IS 'State before it';
COMMENT ON COLUMN order_transitions.to_status IS 'State after it';
INSERT INTO order_transitions (type, from_status, to_status) VALUES
    ('triggered', 'untriggered', 'open'),
    ('rejected', 'untriggered', 'rejected'), ('rejected', 'open', 'rejected'),
    ('amended', 'untriggered', 'untriggered'), ('amended', 'open', 'open'), ('amended', 'partially_filled', 'partially_filled'),
    ('filled', 'open', 'partially_filled'), ('filled', 'open', 'filled'),
    ('filled', 'partially_filled', 'partially_filled'), ('filled', 'partially_filled', 'filled'),
    ('cancelled', 'untriggered', 'cancelled'), ('cancelled', 'open', 'cancelled'), ('cancelled', 'partially_filled', 'cancelled'),
    ('expired', 'untriggered', 'expired'), ('expired', 'open', 'expired'), ('expired', 'partially_filled', 'expired'),
    ('busted', 'partially_filled', 'open'), ('busted', 'partially_filled', 'partially_filled'),
    ('busted', 'filled', 'open'), ('busted', 'filled', 'partially_filled'), ('busted', 'filled', 'cancelled'),
    ('busted', 'cancelled', 'cancelled'), ('busted', 'expired', 'expired');

-- Events --------------------------------------------------------------------------------------------------

ALTER TABLE order_events ADD COLUMN trade_id uuid;
-- squawk-ignore constraint-missing-not-valid
ALTER TABLE order_events ADD CONSTRAINT order_events_trade_known CHECK ((type IN ('filled', 'busted')) = (trade_id IS NOT NULL));
-- squawk-ignore constraint-missing-not-valid
ALTER TABLE order_events ADD CONSTRAINT order_events_first CHECK ((type = 'placed') = (version = 1) AND (type = 'placed') = (id = order_id));
-- squawk-ignore constraint-missing-not-valid
ALTER TABLE order_events ADD CONSTRAINT order_events_trade_once CHECK (trade_id = id);
COMMENT ON COLUMN order_events.trade_id IS 'The execution that filled the order, or the row that undoes one; it is the event''s id, so that none fills twice';
-- squawk-ignore require-concurrent-index-deletion
DROP INDEX order_events_log_idx;
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX order_events_market_idx ON order_events (market_id, market_sequence);

ALTER TABLE trades ADD COLUMN reverses uuid;
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX trades_reverses_idx ON trades (reverses) WHERE reverses IS NOT NULL;
COMMENT ON COLUMN trades.reverses IS 'The trade that this row undoes: the other side, the fee negated, the same time; one of each undoes the other';

DO $$
DECLARE
    part record;
BEGIN
    FOR part IN
        SELECT i.inhrelid::regclass AS child, a.attname, col_description(i.inhparent, a.attnum) AS comment
        FROM pg_inherits i JOIN pg_attribute a ON a.attrelid = i.inhparent
        WHERE (i.inhparent, a.attname) IN (('order_events'::regclass, 'trade_id'), ('trades'::regclass, 'reverses'))
    LOOP
        EXECUTE format('COMMENT ON COLUMN %s.%I IS %L', part.child, part.attname, part.comment);
    END LOOP;
END
$$;

CREATE FUNCTION place_orders() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public
    -- Plans are kept while the tables grow: they go by index from the first row on.
    SET enable_seqscan = off
    SET enable_hashjoin = off
    SET enable_mergejoin = off
    AS $$
DECLARE
    wrong record;
BEGIN
    -- Held until the commit: a market that is halted meanwhile waits, and whoever comes after it is refused.
    PERFORM FROM public.market_sequences WHERE market_id IN (SELECT market_id FROM added) ORDER BY market_id FOR UPDATE;
    SELECT o.id, m.symbol, m.status AS market, v.status AS venue, u.status AS placer, o.status, o.version
    INTO wrong
    FROM added o JOIN public.markets m ON m.id = o.market_id JOIN public.users u ON u.id = o.user_id CROSS JOIN public.venue v
    WHERE u.status <> 'active'
        OR o.version <> 1 OR o.filled_quantity <> 0
        OR o.status <> CASE WHEN o.type IN ('stop', 'stop_limit') THEN 'untriggered' ELSE 'open' END
        OR greatest(public.strictness(m.status), public.strictness(v.status)) > CASE WHEN o.post_only THEN 2 ELSE 1 END
        OR o.price % m.tick_size <> 0 OR o.stop_price % m.tick_size <> 0 OR o.quantity % m.lot_size <> 0
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'order % cannot be placed in % as it is: market %, venue %, user %, order % in version %',
            wrong.id, wrong.symbol, wrong.market, wrong.venue, wrong.placer, wrong.status, wrong.version
            USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME,
                HINT = 'Look at the states, the tick size and the lot size.';
    END IF;
    WITH counted AS (
        SELECT market_id, count(*) AS events FROM added GROUP BY market_id
    ), moved AS (
        UPDATE public.market_sequences s SET sequence = s.sequence + c.events FROM counted c
        WHERE s.market_id = c.market_id RETURNING s.market_id, s.sequence - c.events AS before
    )
    INSERT INTO public.order_events (id, order_id, version, market_id, market_sequence, type, status, quantity,
        filled_quantity, price, actor, occurred_at)
    SELECT o.id, o.id, 1, o.market_id, m.before + row_number() OVER (PARTITION BY o.market_id ORDER BY o.id), 'placed',
        o.status, o.quantity, 0, o.price, o.placed_by, o.created_at
    FROM added o JOIN moved m ON m.market_id = o.market_id;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION place_orders() IS 'Trigger of orders: what is placed is allowed, and has its first event, whose id is the order''s';
REVOKE ALL ON FUNCTION place_orders() FROM PUBLIC;
CREATE TRIGGER orders_place AFTER INSERT ON orders REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION place_orders();

CREATE FUNCTION follow_events() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public
    -- Plans are kept while the tables grow: they go by index from the first row on.
    SET enable_seqscan = off
    SET enable_hashjoin = off
    SET enable_mergejoin = off
    AS $$
DECLARE
    wrong record;
    gap boolean;
BEGIN
    -- First events come from place_orders() only: their id is the order's, so there is no second one.
    IF NOT EXISTS (SELECT FROM added WHERE type <> 'placed') THEN
        RETURN NULL;
    END IF;
    -- Whoever holds the market is the only one who can change its orders.
    PERFORM FROM public.market_sequences WHERE market_id IN (SELECT market_id FROM added) ORDER BY market_id FOR UPDATE;

    WITH counted AS (
        SELECT market_id, count(*) AS events, count(DISTINCT market_sequence) AS numbers, min(market_sequence) AS lowest, max(market_sequence) AS highest
        FROM added GROUP BY market_id
    ), moved AS (
        UPDATE public.market_sequences s SET sequence = c.highest FROM counted c
        WHERE s.market_id = c.market_id AND c.lowest = s.sequence + 1 AND c.highest = s.sequence + c.events AND c.numbers = c.events
        RETURNING s.market_id
    )
    SELECT (SELECT count(*) FROM moved) <> (SELECT count(*) FROM counted) INTO gap;
    IF gap THEN
        RAISE EXCEPTION 'order events must go on with the next number of their market, without a gap'
            USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME,
                HINT = 'Read market_sequences FOR UPDATE first.';
    END IF;

    SELECT e.order_id, e.version, e.type, e.from_status, e.status INTO wrong
    FROM (
        SELECT a.*, o.version AS known, o.market_id AS market_of_order, o.post_only,
            row_number() OVER chain AS place,
            lag(a.status, 1, o.status) OVER chain AS from_status,
            lag(a.quantity, 1, o.quantity) OVER chain AS from_quantity,
            lag(a.filled_quantity, 1, o.filled_quantity) OVER chain AS from_filled,
            lag(a.price, 1, o.price) OVER chain AS from_price
        FROM added a LEFT JOIN public.orders o ON o.id = a.order_id
        WINDOW chain AS (PARTITION BY a.order_id ORDER BY a.version)
    ) AS e
    JOIN public.markets m ON m.id = e.market_id
    CROSS JOIN public.venue v
    LEFT JOIN public.trades t ON t.id = e.trade_id AND t.order_id = e.order_id
    WHERE (
        e.version = e.known + e.place
        AND e.market_id = e.market_of_order
        AND EXISTS (
            SELECT FROM public.order_transitions n
            WHERE n.type = e.type AND n.from_status = e.from_status AND n.to_status = e.status
        )
        AND CASE e.type
            WHEN 'filled' THEN e.filled_quantity = e.from_filled + t.base_amount AND e.quantity = e.from_quantity AND t.reverses IS NULL
            WHEN 'busted' THEN e.filled_quantity = e.from_filled - t.base_amount
                AND e.quantity IN (e.from_quantity, e.from_quantity - t.base_amount)
                AND EXISTS (
                    SELECT FROM public.trades u
                    WHERE u.id = t.reverses AND u.order_id = t.order_id AND u.base_amount = t.base_amount AND u.side <> t.side
                        AND u.xid < t.xid -- the log of trades has it after what it undoes
                )
                AND NOT EXISTS (SELECT FROM public.trades w WHERE w.reverses = t.reverses AND w.id <> t.id)
            WHEN 'amended' THEN e.filled_quantity = e.from_filled AND e.quantity > e.filled_quantity
                AND greatest(public.strictness(m.status), public.strictness(v.status)) <= CASE WHEN e.post_only THEN 2 ELSE 1 END
                AND (e.price = e.from_price OR e.price % m.tick_size = 0) IS NOT FALSE
                AND (e.quantity = e.from_quantity OR e.quantity % m.lot_size = 0) IS NOT FALSE
            ELSE e.filled_quantity = e.from_filled AND e.quantity = e.from_quantity
        END
        AND (e.type = 'amended' AND (e.price IS NULL) = (e.from_price IS NULL) OR e.price IS NOT DISTINCT FROM e.from_price)
    ) IS NOT TRUE
    ORDER BY e.order_id, e.version
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'order % cannot be % as version %: from % to %, or its quantities, its price, its trade or its market do not agree',
            wrong.order_id, wrong.type, wrong.version, coalesce(wrong.from_status, 'nothing'), wrong.status
            USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME,
                HINT = 'order_transitions has the state machine.';
    END IF;

    UPDATE public.orders o SET status = e.status, quantity = e.quantity, filled_quantity = e.filled_quantity, price = e.price,
        version = e.version, updated_at = e.occurred_at
    FROM (SELECT DISTINCT ON (order_id) * FROM added ORDER BY order_id, version DESC) AS e
    WHERE o.id = e.order_id;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION follow_events() IS 'Trigger of order_events: each is a legal next step of its order and has the next number of its market; then the order follows';
REVOKE ALL ON FUNCTION follow_events() FROM PUBLIC;
CREATE TRIGGER order_events_follow AFTER INSERT ON order_events REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION follow_events();

CREATE FUNCTION refuse_change_without_event() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF pg_trigger_depth() > 1 AND TG_OP = 'UPDATE' THEN
        RETURN NULL; -- follow_events()
    END IF;
    RAISE EXCEPTION 'orders change by their events only: % refused', TG_OP
        USING ERRCODE = 'integrity_constraint_violation', HINT = 'Insert into order_events.';
END
$$;
COMMENT ON FUNCTION refuse_change_without_event() IS 'Trigger of orders: nobody changes or deletes one by hand';
CREATE TRIGGER orders_only_by_events BEFORE UPDATE OR DELETE OR TRUNCATE ON orders FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_without_event();
CREATE TRIGGER order_events_never_emptied BEFORE TRUNCATE ON order_events FOR EACH STATEMENT EXECUTE FUNCTION refuse_truncate();

-- Matches -------------------------------------------------------------------------------------------------

CREATE TABLE matches (
    id uuid PRIMARY KEY,
    market_id integer NOT NULL CONSTRAINT matches_market_fkey REFERENCES markets (id),
    taker_trade_id uuid NOT NULL,
    maker_trade_id uuid,
    source text CONSTRAINT matches_source_form CHECK (source ~ '^[a-z0-9_-]{1,32}$'),
    source_match_id text CONSTRAINT matches_source_id_length CHECK (length(source_match_id) BETWEEN 1 AND 128),
    chain text CONSTRAINT matches_chain_form CHECK (chain ~ '^[a-z0-9-]{1,32}(:[a-zA-Z0-9-]{1,64})?$'),
    block_number bigint CONSTRAINT matches_block_positive CHECK (block_number >= 0),
    request_hash bytea NOT NULL CONSTRAINT matches_hash_length CHECK (length(request_hash) = 16),
    executed_at timestamptz NOT NULL,
    undone text CONSTRAINT matches_undone_known CHECK (undone IN ('busted', 'reverted')),
    undone_at timestamptz,
    undone_by text CONSTRAINT matches_undone_by_length CHECK (length(undone_by) BETWEEN 1 AND 200),
    undone_reason text CONSTRAINT matches_undone_reason_length CHECK (length(undone_reason) <= 500),
    CONSTRAINT matches_source_whole CHECK ((source IS NULL) = (source_match_id IS NULL)),
    CONSTRAINT matches_block_whole CHECK ((chain IS NULL) = (block_number IS NULL)),
    CONSTRAINT matches_undone_whole CHECK ((undone IS NULL) = (undone_at IS NULL) AND (undone IS NULL) = (undone_by IS NULL)),
    CONSTRAINT matches_two_trades CHECK (maker_trade_id <> taker_trade_id)
);
CREATE UNIQUE INDEX matches_source_key ON matches (market_id, source, source_match_id)
    WHERE source IS NOT NULL AND undone IS DISTINCT FROM 'reverted';
CREATE INDEX matches_block_idx ON matches (chain, block_number) WHERE chain IS NOT NULL AND undone IS NULL;
COMMENT ON TABLE matches IS 'Fills, each once by the venue''s own id: the executions of both sides; not partitioned, for that id is unique over all times';
COMMENT ON COLUMN matches.id IS 'The match_id of its trades';
COMMENT ON COLUMN matches.market_id IS 'Where it happened';
COMMENT ON COLUMN matches.taker_trade_id IS 'The execution of the taker';
COMMENT ON COLUMN matches.maker_trade_id IS 'The execution of the maker; none against a pool';
COMMENT ON COLUMN matches.source IS 'The venue or chain that reported it';
COMMENT ON COLUMN matches.source_match_id IS 'Its id there: of a venue, or transaction and log index of a chain; free again after a reorganisation';
COMMENT ON COLUMN matches.chain IS 'The chain, where it can be reorganised';
COMMENT ON COLUMN matches.block_number IS 'The block';
COMMENT ON COLUMN matches.request_hash IS 'Hash of what was reported: the same id with another report is a conflict';
COMMENT ON COLUMN matches.executed_at IS 'When it happened';
COMMENT ON COLUMN matches.undone IS 'busted by the venue, or reverted with its block';
COMMENT ON COLUMN matches.undone_at IS 'When it was undone';
COMMENT ON COLUMN matches.undone_by IS 'By whom';
COMMENT ON COLUMN matches.undone_reason IS 'Why';

CREATE FUNCTION keep_match() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.undone IS NULL AND (to_jsonb(NEW) - ARRAY['undone', 'undone_at', 'undone_by', 'undone_reason'])
        = (to_jsonb(OLD) - ARRAY['undone', 'undone_at', 'undone_by', 'undone_reason']) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'a match can be undone once, and never changed nor deleted: %', OLD.id
        USING ERRCODE = 'integrity_constraint_violation', HINT = 'Bust it, and record another.';
END
$$;
COMMENT ON FUNCTION keep_match() IS 'Trigger of matches: they are undone once, nothing else';
CREATE TRIGGER matches_keep BEFORE UPDATE OR DELETE ON matches FOR EACH ROW EXECUTE FUNCTION keep_match();
CREATE TRIGGER matches_never_emptied BEFORE TRUNCATE ON matches FOR EACH STATEMENT EXECUTE FUNCTION refuse_truncate();
CREATE TRIGGER matches_audit AFTER UPDATE ON matches FOR EACH ROW
    EXECUTE FUNCTION audit_change('match', 'id', 'undone', 'undone_by', 'undone_reason');
CREATE TRIGGER matches_audit_emptied AFTER TRUNCATE ON matches FOR EACH STATEMENT EXECUTE FUNCTION audit_change();

-- Who may do what -----------------------------------------------------------------------------------------

REVOKE UPDATE ON orders FROM novadex_app, novadex_worker;
REVOKE INSERT ON order_events FROM novadex_app, novadex_worker;
GRANT INSERT (id, order_id, version, market_id, market_sequence, type, status, quantity, filled_quantity, price, reason,
    actor, occurred_at, trade_id) ON order_events TO novadex_app, novadex_worker;
GRANT INSERT (reverses) ON trades TO novadex_app;
GRANT UPDATE (status, tick_size, lot_size) ON markets TO novadex_app;
GRANT SELECT ON venue, market_sequences, fee_rates, user_fee_tiers, order_transitions, matches TO novadex_app, novadex_worker;
GRANT SELECT ON venue, market_sequences, fee_rates, order_transitions, matches TO novadex_readonly;
GRANT SELECT ON venue, fee_rates, order_transitions TO novadex_user;
GRANT UPDATE (status) ON venue TO novadex_app;
-- To hold its rows: nobody can change that column, and only the triggers move the other.
GRANT UPDATE (market_id) ON market_sequences TO novadex_app, novadex_worker;
GRANT INSERT, DELETE ON fee_rates, user_fee_tiers TO novadex_app;
GRANT UPDATE (maker_rate, taker_rate) ON fee_rates TO novadex_app;
GRANT UPDATE (tier) ON user_fee_tiers TO novadex_app;
GRANT INSERT (id, market_id, taker_trade_id, maker_trade_id, source, source_match_id, chain, block_number, request_hash, executed_at)
    ON matches TO novadex_app;
GRANT UPDATE (undone, undone_at, undone_by, undone_reason) ON matches TO novadex_app;

INSERT INTO permissions (name, description) VALUES
    ('orders.place_own', 'Place, amend and cancel one''s own orders'),
    ('orders.place_any', 'Place and amend orders of others'),
    ('orders.cancel_any', 'Cancel orders of others'),
    ('orders.read_own', 'See one''s own orders'),
    ('orders.read_any', 'See orders of others'),
    ('orders.report', 'Report what the venue did with orders: fills, rejections, triggers, expiries, busts, reverted blocks'),
    ('markets.halt', 'Open, restrict and halt markets'),
    ('fees.manage', 'Decide fees and fee tiers');
INSERT INTO role_permissions (role, permission) VALUES
    ('user', 'orders.read_own'),
    ('trader', 'orders.place_own'), ('trader', 'orders.read_own'),
    ('market_maker', 'orders.place_own'), ('market_maker', 'orders.read_own'),
    ('support', 'orders.read_own'), ('support', 'orders.read_any'), ('support', 'orders.cancel_any'),
    ('auditor', 'orders.read_own'), ('auditor', 'orders.read_any'),
    ('operator', 'orders.read_own'), ('operator', 'orders.read_any'), ('operator', 'orders.cancel_any'),
    ('operator', 'orders.report'), ('operator', 'markets.halt'), ('operator', 'fees.manage'),
    ('admin', 'orders.place_own'), ('admin', 'orders.place_any'), ('admin', 'orders.cancel_any'), ('admin', 'orders.read_own'),
    ('admin', 'orders.read_any'), ('admin', 'orders.report'), ('admin', 'markets.halt'), ('admin', 'fees.manage');

CREATE OR REPLACE FUNCTION schema_step() RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT '0005_orders' $$;

RESET ROLE;
