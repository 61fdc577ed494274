-- Guards: what the service makes sure of holds for plain SQL too. Executions that fill an order are the order's, rows that
-- undo trades mirror them, matches have their executions, rejected orders a reason and GTT orders some time to live; what kind
-- of user somebody is never changes. And servers that keep their identity to themselves are served.
--
-- Orders and order events that are there already stay as they are: the new constraints hold for what is written from now
-- on.

SET ROLE novadex_owner;

-- Orders --------------------------------------------------------------------------------------------------

ALTER TABLE orders ADD CONSTRAINT orders_expire_later CHECK (expires_at > created_at) NOT VALID;
ALTER TABLE order_events ADD CONSTRAINT order_events_rejected_why CHECK (type <> 'rejected' OR reason IS NOT NULL AND reason <> '') NOT VALID;

CREATE OR REPLACE FUNCTION follow_events() RETURNS trigger
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
        SELECT a.*, o.version AS known, o.market_id AS market_of_order, o.user_id AS user_of_order, o.side AS side_of_order, o.post_only,
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
    LEFT JOIN public.trades t ON t.id = e.trade_id AND t.order_id = e.order_id AND t.user_id = e.user_of_order AND t.market_id = e.market_of_order
    WHERE (
        e.version = e.known + e.place
        AND e.market_id = e.market_of_order
        AND EXISTS (
            SELECT FROM public.order_transitions n
            WHERE n.type = e.type AND n.from_status = e.from_status AND n.to_status = e.status
        )
        AND CASE e.type
            WHEN 'filled' THEN e.filled_quantity = e.from_filled + t.base_amount AND e.quantity = e.from_quantity AND t.reverses IS NULL
                AND t.side = e.side_of_order
            WHEN 'busted' THEN e.filled_quantity = e.from_filled - t.base_amount AND t.side <> e.side_of_order
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

-- Trades -------------------------------------------------------------------------------------------------

CREATE FUNCTION check_reversal() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public
    AS $$
BEGIN
    -- Held until the commit: whoever undoes the same trade meanwhile waits, and then finds this row.
    PERFORM FROM public.trades t
    WHERE t.id = NEW.reverses AND t.reverses IS NULL AND t.side <> NEW.side
        AND (t.user_id, t.market_id, t.base_amount, t.quote_amount, t.price, t.fee_amount, t.executed_at)
            = (NEW.user_id, NEW.market_id, NEW.base_amount, NEW.quote_amount, NEW.price, -NEW.fee_amount, NEW.executed_at)
        AND (t.fee_amount = 0 OR t.fee_asset_id = NEW.fee_asset_id)
        AND (t.order_id, t.match_id) IS NOT DISTINCT FROM (NEW.order_id, NEW.match_id)
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'trade % does not undo %: user, market, order, match, amounts, price and time are the same, the side is the other one, the fee is negated', NEW.id, NEW.reverses
            USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME, TABLE = 'trades',
                HINT = 'A row that undoes another cannot be undone itself: record the trade anew.';
    END IF;
    -- Both have the same time, so the other one would be in this partition.
    IF EXISTS (
        SELECT FROM public.trades w
        WHERE w.reverses = NEW.reverses AND w.id <> NEW.id
            AND w.id >= public.uuid_at(NEW.executed_at) AND w.id < public.uuid_at(NEW.executed_at + interval '1 millisecond')
    ) THEN
        RAISE EXCEPTION 'trade % cannot undo %, which is undone already', NEW.id, NEW.reverses
            USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME, TABLE = 'trades', HINT = 'A trade is undone once.';
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION check_reversal() IS 'Trigger of trades: a row that undoes another mirrors it, and is the only one';
REVOKE ALL ON FUNCTION check_reversal() FROM PUBLIC;
-- After the row, not before it: COPY writes many rows at once only where nothing comes before each.
CREATE TRIGGER trades_mirror AFTER INSERT ON trades FOR EACH ROW WHEN (NEW.reverses IS NOT NULL) EXECUTE FUNCTION check_reversal();

-- Matches ------------------------------------------------------------------------------------------------

CREATE FUNCTION require_executions() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public
    -- Plans are kept while the tables grow: they go by index from the first row on.
    SET enable_seqscan = off
    SET enable_hashjoin = off
    SET enable_mergejoin = off
    AS $$
DECLARE
    wrong uuid;
BEGIN
    SELECT a.id INTO wrong
    FROM added a LEFT JOIN public.trades t ON t.id = a.taker_trade_id LEFT JOIN public.trades k ON k.id = a.maker_trade_id
    WHERE (
        (t.match_id, t.market_id, t.executed_at, t.liquidity) = (a.id, a.market_id, a.executed_at, 'taker') AND t.reverses IS NULL
        AND (a.maker_trade_id IS NULL OR (
            (k.match_id, k.market_id, k.executed_at, k.liquidity) = (a.id, a.market_id, a.executed_at, 'maker') AND k.reverses IS NULL
            AND k.side <> t.side AND (k.base_amount, k.quote_amount, k.price) = (t.base_amount, t.quote_amount, t.price)
        ))
    ) IS NOT TRUE
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'match % does not have the executions that it names: a taker and, where there is one, a maker who mirror each other, with its id, market and time', wrong
            USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME, HINT = 'Insert them into trades first.';
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION require_executions() IS 'Trigger of matches: the executions are there, and mirror each other';
REVOKE ALL ON FUNCTION require_executions() FROM PUBLIC;
CREATE TRIGGER matches_executed AFTER INSERT ON matches REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION require_executions();

CREATE FUNCTION require_reversals() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public
    -- Plans are kept while the tables grow: they go by index from the first row on.
    SET enable_seqscan = off
    SET enable_hashjoin = off
    SET enable_mergejoin = off
    AS $$
DECLARE
    wrong uuid;
BEGIN
    SELECT m.id INTO wrong
    FROM changed m CROSS JOIN LATERAL unnest(ARRAY[m.taker_trade_id, m.maker_trade_id]) AS of_match (trade_id)
    WHERE m.undone IS NOT NULL AND of_match.trade_id IS NOT NULL AND NOT EXISTS (
        -- What undoes a trade has its time: one partition is looked at.
        SELECT FROM public.trades r
        WHERE r.reverses = of_match.trade_id
            AND r.id >= public.uuid_at(m.executed_at) AND r.id < public.uuid_at(m.executed_at + interval '1 millisecond')
        OFFSET 0
    )
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'match % cannot be undone before its executions are', wrong
            USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME,
                HINT = 'Insert the rows that undo them into trades first.';
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION require_reversals() IS 'Trigger of matches: what is undone has rows that undo its executions';
REVOKE ALL ON FUNCTION require_reversals() FROM PUBLIC;
CREATE TRIGGER matches_reversed AFTER UPDATE ON matches REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION require_reversals();

-- Users and servers ---------------------------------------------------------------------------------------

-- An account of the system has no portfolio, all others have one from their first trade on.
REVOKE UPDATE (kind) ON users FROM novadex_app;

CREATE FUNCTION system_identifier() RETURNS bigint
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog
    AS $$
BEGIN
    -- In one statement the right would be asked for, whether it is needed or not.
    IF has_function_privilege('pg_control_system()', 'EXECUTE') THEN
        RETURN (SELECT c.system_identifier FROM pg_control_system() c);
    END IF;
    RETURN 0;
END
$$;
COMMENT ON FUNCTION system_identifier() IS 'The cluster that this database is in; 0 where the server does not say';

CREATE OR REPLACE FUNCTION schema_step() RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT '0010_guards' $$;

RESET ROLE;
