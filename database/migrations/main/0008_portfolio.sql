-- Portfolios: transfers, prices, and what follows from executions, transfers and liquidity: holdings, lots, profits.

-- squawk-ignore-file prefer-bigint-over-int, prefer-bigint-over-smallint, ban-create-domain-with-constraint
-- squawk-ignore-file changing-column-type, constraint-missing-not-valid, require-concurrent-index-creation

SET ROLE novadex_owner;

-- Portfolios ----------------------------------------------------------------------------------------------

CREATE DOMAIN total AS numeric
    CONSTRAINT total_finite CHECK (abs(VALUE) < 'Infinity')
    CONSTRAINT total_scale CHECK (scale(VALUE) <= 18);
COMMENT ON DOMAIN total IS 'A sum of amounts of an asset, however large';

CREATE DOMAIN valuation AS numeric
    CONSTRAINT valuation_finite CHECK (abs(VALUE) < 'Infinity')
    CONSTRAINT valuation_scale CHECK (scale(VALUE) <= 54);
COMMENT ON DOMAIN valuation IS 'A sum of amounts times prices, exact: 18 decimals and 36';

CREATE TABLE transfers (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL CONSTRAINT transfers_user_fkey REFERENCES users (id),
    kind text NOT NULL CONSTRAINT transfers_kind_known CHECK (kind IN ('deposit', 'withdrawal', 'funding')),
    asset_id integer NOT NULL CONSTRAINT transfers_asset_fkey REFERENCES assets (id),
    market_id integer CONSTRAINT transfers_market_fkey REFERENCES markets (id),
    amount signed_amount NOT NULL CONSTRAINT transfers_amount_not_zero CHECK (amount <> 0),
    executed_at timestamptz NOT NULL,
    sequence bigint,
    source text CONSTRAINT transfers_source_form CHECK (source ~ '^[a-z0-9_-]{1,32}$'),
    source_transfer_id text CONSTRAINT transfers_source_id_length CHECK (length(source_transfer_id) BETWEEN 1 AND 128),
    reverses uuid CONSTRAINT transfers_reverses_fkey REFERENCES transfers (id),
    note text CONSTRAINT transfers_note_length CHECK (length(note) BETWEEN 1 AND 500),
    recorded_by text NOT NULL
        DEFAULT left(coalesce(nullif(current_setting('novadex.actor', true), ''), 'database:' || session_user), 200)
        CONSTRAINT transfers_recorded_by_length CHECK (length(recorded_by) BETWEEN 1 AND 200),
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    recorded_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT transfers_id_v7 CHECK (get_byte(uuid_send(id), 6) >> 4 = 7),
    CONSTRAINT transfers_id_time CHECK (uuid_time_ms(id) = floor(extract(epoch FROM executed_at) * 1000)),
    CONSTRAINT transfers_source_whole CHECK ((source IS NULL) = (source_transfer_id IS NULL)),
    CONSTRAINT transfers_funding_market CHECK ((kind = 'funding') = (market_id IS NOT NULL)),
    CONSTRAINT transfers_sign CHECK (kind = 'funding' OR (amount < 0) = (reverses IS NOT NULL)),
    CONSTRAINT transfers_reversal_has_no_source CHECK (reverses IS NULL OR source IS NULL)
);
CREATE UNIQUE INDEX transfers_source_key ON transfers (source, source_transfer_id) WHERE source IS NOT NULL;
CREATE UNIQUE INDEX transfers_reverses_key ON transfers (reverses) WHERE reverses IS NOT NULL;
CREATE INDEX transfers_user_idx ON transfers (user_id, id);
CREATE INDEX transfers_log_idx ON transfers (xid, id);
COMMENT ON TABLE transfers IS 'Deposits, withdrawals and funding payments as the venue reports them, append-only; not partitioned, for a source''s ids are unique over all times';
COMMENT ON COLUMN transfers.id IS 'UUIDv7 whose time is executed_at';
COMMENT ON COLUMN transfers.user_id IS 'Whose transfer it is';
COMMENT ON COLUMN transfers.kind IS 'deposit, withdrawal or funding';
COMMENT ON COLUMN transfers.asset_id IS 'What was moved';
COMMENT ON COLUMN transfers.market_id IS 'The market whose positions a funding payment is for';
COMMENT ON COLUMN transfers.amount IS 'Units of the asset, above 0; of a funding payment negative where the user paid; a reversal has the other sign';
COMMENT ON COLUMN transfers.executed_at IS 'When it happened, by the clock of the venue or chain';
COMMENT ON COLUMN transfers.sequence IS 'Order within one moment, given by the source';
COMMENT ON COLUMN transfers.source IS 'The venue or chain that reported it';
COMMENT ON COLUMN transfers.source_transfer_id IS 'Its id there';
COMMENT ON COLUMN transfers.reverses IS 'The transfer that this row undoes: the amount negated, the same time; each can be undone once';
COMMENT ON COLUMN transfers.note IS 'What somebody wrote beside it, such as why it was undone';
COMMENT ON COLUMN transfers.recorded_by IS 'Who recorded it, as the audit log names them';
COMMENT ON COLUMN transfers.xid IS 'Transaction that wrote it: the table is its own log';
COMMENT ON COLUMN transfers.recorded_at IS 'When it was written here';
CREATE TRIGGER transfers_append_only BEFORE UPDATE OR DELETE ON transfers FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER transfers_never_emptied BEFORE TRUNCATE ON transfers FOR EACH STATEMENT EXECUTE FUNCTION refuse_truncate();

CREATE FUNCTION check_transfer() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public
    AS $$
BEGIN
    IF scale(trim_scale(NEW.amount)) > (SELECT decimals FROM public.assets WHERE id = NEW.asset_id) THEN
        RAISE EXCEPTION 'the amount % has more decimals than its asset', NEW.amount
            USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME, HINT = 'Whole smallest units only.';
    END IF;
    IF NEW.reverses IS NOT NULL AND NOT EXISTS (
        SELECT FROM public.transfers t
        WHERE t.id = NEW.reverses AND t.reverses IS NULL
            AND (t.user_id, t.kind, t.asset_id, t.amount, t.executed_at) = (NEW.user_id, NEW.kind, NEW.asset_id, -NEW.amount, NEW.executed_at)
            AND t.market_id IS NOT DISTINCT FROM NEW.market_id)
    THEN
        RAISE EXCEPTION 'transfer % does not undo %: user, kind, asset, market and time are the same, the amount is negated', NEW.id, NEW.reverses
            USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME,
                HINT = 'A reversal itself cannot be undone: record the transfer anew.';
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION check_transfer() IS 'Trigger of transfers: whole units of the asset, and a reversal mirrors what it undoes';
REVOKE ALL ON FUNCTION check_transfer() FROM PUBLIC;
CREATE TRIGGER transfers_check BEFORE INSERT ON transfers FOR EACH ROW EXECUTE FUNCTION check_transfer();

CREATE TABLE prices (
    market_id integer NOT NULL CONSTRAINT prices_market_fkey REFERENCES markets (id),
    observed_at timestamptz NOT NULL,
    source text NOT NULL CONSTRAINT prices_source_form CHECK (source ~ '^[a-z0-9_-]{1,32}$'),
    price price NOT NULL,
    PRIMARY KEY (market_id, observed_at, source)
);
COMMENT ON TABLE prices IS 'Prices of a feed: what holdings are valued with before the last trades are asked';
COMMENT ON COLUMN prices.market_id IS 'The market';
COMMENT ON COLUMN prices.observed_at IS 'When it was the price';
COMMENT ON COLUMN prices.source IS 'The feed';
COMMENT ON COLUMN prices.price IS 'Units of the quote asset for one of the base asset';
CREATE TRIGGER prices_append_only BEFORE UPDATE OR DELETE ON prices FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TABLE main_projections (
    name text PRIMARY KEY CONSTRAINT main_projections_name_form CHECK (name ~ '^[a-z][a-z0-9_]{0,63}$'),
    epoch bigint NOT NULL CONSTRAINT main_projections_epoch_positive CHECK (epoch > 0),
    system_identifier bigint NOT NULL,
    timeline integer NOT NULL,
    xid xid8 NOT NULL,
    id uuid NOT NULL,
    rebuilt_to uuid,
    watermark timestamptz,
    applied bigint NOT NULL DEFAULT 0 CONSTRAINT main_projections_applied_positive CHECK (applied >= 0),
    set_aside bigint NOT NULL DEFAULT 0 CONSTRAINT main_projections_set_aside_positive CHECK (set_aside >= 0),
    updated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE main_projections IS 'How far each projection whose effect is in this database has read the log; written in the transaction of the effect';
COMMENT ON COLUMN main_projections.name IS 'The projection';
COMMENT ON COLUMN main_projections.epoch IS 'The life of this database that the position belongs to';
COMMENT ON COLUMN main_projections.system_identifier IS 'The cluster of that life';
COMMENT ON COLUMN main_projections.timeline IS 'The timeline of that life';
COMMENT ON COLUMN main_projections.xid IS 'Transaction of the last row that was applied';
COMMENT ON COLUMN main_projections.id IS 'Id of the last row that was applied';
COMMENT ON COLUMN main_projections.rebuilt_to IS 'During a rebuild: the last user whose rows are derived anew';
COMMENT ON COLUMN main_projections.watermark IS 'Every transaction that had begun to write before it is applied';
COMMENT ON COLUMN main_projections.applied IS 'Rows applied';
COMMENT ON COLUMN main_projections.set_aside IS 'Rows that could not be applied';
COMMENT ON COLUMN main_projections.updated_at IS 'When the position was last stored';

CREATE VIEW portfolio_movements AS
    SELECT t.xid, t.id, t.user_id, leg.asset_id, t.market_id, leg.kind, leg.amount, t.executed_at
    FROM trades t
    JOIN markets m ON m.id = t.market_id
    CROSS JOIN LATERAL (VALUES
        (m.base_asset_id, CASE WHEN (t.side = 'buy') = (t.reverses IS NULL) THEN 'bought' ELSE 'sold' END,
            CASE t.side WHEN 'buy' THEN t.base_amount::numeric ELSE -t.base_amount::numeric END),
        (m.quote_asset_id, CASE WHEN (t.side = 'buy') = (t.reverses IS NULL) THEN 'paid' ELSE 'received' END,
            CASE t.side WHEN 'buy' THEN -t.quote_amount::numeric ELSE t.quote_amount::numeric END),
        (t.fee_asset_id, 'fee', -t.fee_amount::numeric)
    ) AS leg (asset_id, kind, amount)
    WHERE leg.amount <> 0
    UNION ALL
    SELECT t.xid, t.id, t.user_id, t.asset_id, coalesce(t.market_id, 0), t.kind,
        CASE t.kind WHEN 'withdrawal' THEN -t.amount::numeric ELSE t.amount::numeric END, t.executed_at
    FROM transfers t
    UNION ALL
    SELECT e.xid, e.id, e.user_id, leg.asset_id, e.market_id, leg.kind, leg.amount, e.executed_at
    FROM liquidity_events e
    JOIN markets m ON m.id = e.market_id
    CROSS JOIN LATERAL (VALUES
        (m.base_asset_id, CASE WHEN e.type IN ('opened', 'increased') THEN 'pool_in' ELSE 'pool_out' END,
            CASE WHEN e.type IN ('opened', 'increased') THEN -e.base_amount::numeric ELSE e.base_amount::numeric END),
        (m.quote_asset_id, CASE WHEN e.type IN ('opened', 'increased') THEN 'pool_in' ELSE 'pool_out' END,
            CASE WHEN e.type IN ('opened', 'increased') THEN -e.quote_amount::numeric ELSE e.quote_amount::numeric END),
        (m.base_asset_id, 'pool_fee', e.base_fees::numeric),
        (m.quote_asset_id, 'pool_fee', e.quote_fees::numeric)
    ) AS leg (asset_id, kind, amount)
    WHERE leg.amount <> 0;
COMMENT ON VIEW portfolio_movements IS 'What every trade, transfer and liquidity event did to the holdings of its user, one row for each asset and kind: holdings are the sums of it';
COMMENT ON COLUMN portfolio_movements.xid IS 'Transaction that wrote the record';
COMMENT ON COLUMN portfolio_movements.id IS 'The record: a trade, a transfer or a liquidity event';
COMMENT ON COLUMN portfolio_movements.user_id IS 'Whose holdings it moved';
COMMENT ON COLUMN portfolio_movements.asset_id IS 'What was moved';
COMMENT ON COLUMN portfolio_movements.market_id IS 'The market that it belongs to; 0 for deposits and withdrawals';
COMMENT ON COLUMN portfolio_movements.kind IS 'bought, sold, paid, received, fee, deposit, withdrawal, funding, pool_in, pool_out or pool_fee';
COMMENT ON COLUMN portfolio_movements.amount IS 'What it adds to the holding; negative: takes from it';
COMMENT ON COLUMN portfolio_movements.executed_at IS 'When it happened';

CREATE TABLE portfolio_holdings (
    user_id uuid NOT NULL,
    asset_id integer NOT NULL,
    market_id integer NOT NULL,
    kind text NOT NULL,
    amount total NOT NULL,
    PRIMARY KEY (user_id, asset_id, market_id, kind)
);
COMMENT ON TABLE portfolio_holdings IS 'What users hold, by where it came from: sums of portfolio_movements as far as the projection has read';
COMMENT ON COLUMN portfolio_holdings.user_id IS 'Who holds it';
COMMENT ON COLUMN portfolio_holdings.asset_id IS 'The asset';
COMMENT ON COLUMN portfolio_holdings.market_id IS 'The market that the movements belong to; 0 for deposits and withdrawals';
COMMENT ON COLUMN portfolio_holdings.kind IS 'Kind of the movements, as in portfolio_movements';
COMMENT ON COLUMN portfolio_holdings.amount IS 'Their sum';

CREATE TABLE portfolio_flows (
    user_id uuid NOT NULL,
    hour timestamptz NOT NULL,
    asset_id integer NOT NULL,
    market_id integer NOT NULL,
    kind text NOT NULL,
    amount total NOT NULL,
    PRIMARY KEY (user_id, hour, asset_id, market_id, kind)
);
COMMENT ON TABLE portfolio_flows IS 'The same sums for each hour (UTC): what users held at any full hour follows';
COMMENT ON COLUMN portfolio_flows.user_id IS 'Whose holdings were moved';
COMMENT ON COLUMN portfolio_flows.hour IS 'The beginning of the hour in which the movements were executed';
COMMENT ON COLUMN portfolio_flows.asset_id IS 'What was moved';
COMMENT ON COLUMN portfolio_flows.market_id IS 'Where the movements belong to; 0 for deposits and withdrawals';
COMMENT ON COLUMN portfolio_flows.kind IS 'What kind of movements, as in portfolio_movements';
COMMENT ON COLUMN portfolio_flows.amount IS 'Their sum in that hour';

CREATE TABLE portfolio_positions (
    user_id uuid NOT NULL,
    market_id integer NOT NULL,
    hour timestamptz NOT NULL,
    quantity total NOT NULL,
    cost total NOT NULL,
    realized total NOT NULL,
    fifo_cost total NOT NULL,
    fifo_realized total NOT NULL,
    trades bigint NOT NULL,
    last_executed_at timestamptz NOT NULL,
    last_sequence bigint NOT NULL,
    last_id uuid NOT NULL,
    PRIMARY KEY (user_id, market_id, hour),
    CONSTRAINT portfolio_positions_signs CHECK (
        CASE sign(quantity) WHEN 0 THEN cost = 0 AND fifo_cost = 0 WHEN 1 THEN cost >= 0 AND fifo_cost >= 0 ELSE cost <= 0 AND fifo_cost <= 0 END),
    CONSTRAINT portfolio_positions_conserve CHECK (realized - cost = fifo_realized - fifo_cost)
);
COMMENT ON TABLE portfolio_positions IS 'Position of a user in a market after the last trade of each hour that has trades; the last row is how it stands';
COMMENT ON COLUMN portfolio_positions.user_id IS 'Whose position it is';
COMMENT ON COLUMN portfolio_positions.market_id IS 'The market, whose quote asset everything is counted in';
COMMENT ON COLUMN portfolio_positions.hour IS 'Beginning of the hour (UTC)';
COMMENT ON COLUMN portfolio_positions.quantity IS 'Units of the base asset, bought less sold; negative: sold more than bought';
COMMENT ON COLUMN portfolio_positions.cost IS 'What the quantity cost by average cost; negative: what was received for it';
COMMENT ON COLUMN portfolio_positions.realized IS 'Realized profit by average cost, before fees';
COMMENT ON COLUMN portfolio_positions.fifo_cost IS 'What the open lots cost: first in, first out';
COMMENT ON COLUMN portfolio_positions.fifo_realized IS 'Realized profit by lots, before fees';
COMMENT ON COLUMN portfolio_positions.trades IS 'Trades that are counted, those that were undone left out';
COMMENT ON COLUMN portfolio_positions.last_executed_at IS 'Time of the last trade in the order of lots';
COMMENT ON COLUMN portfolio_positions.last_sequence IS 'Its sequence, 0 without one; of an undone trade the highest possible';
COMMENT ON COLUMN portfolio_positions.last_id IS 'Its id';

CREATE TABLE portfolio_lots (
    user_id uuid NOT NULL,
    market_id integer NOT NULL,
    trade_id uuid NOT NULL,
    opened_at timestamptz NOT NULL,
    sequence bigint NOT NULL,
    opened_quantity total NOT NULL,
    opened_cost total NOT NULL,
    quantity total NOT NULL,
    cost total NOT NULL,
    PRIMARY KEY (user_id, market_id, trade_id),
    CONSTRAINT portfolio_lots_remainder CHECK (
        CASE sign(opened_quantity)
            WHEN 1 THEN quantity BETWEEN 0 AND opened_quantity AND cost BETWEEN 0 AND opened_cost
            ELSE quantity BETWEEN opened_quantity AND 0 AND cost BETWEEN opened_cost AND 0
        END AND (quantity <> 0 OR cost = 0))
);
CREATE INDEX portfolio_lots_open_idx ON portfolio_lots (user_id, market_id, opened_at, sequence, trade_id) WHERE quantity <> 0;
COMMENT ON TABLE portfolio_lots IS 'What trades opened, and what is left of it: first in, first out';
COMMENT ON COLUMN portfolio_lots.user_id IS 'Whose lot it is';
COMMENT ON COLUMN portfolio_lots.market_id IS 'The market';
COMMENT ON COLUMN portfolio_lots.trade_id IS 'The trade that opened it';
COMMENT ON COLUMN portfolio_lots.opened_at IS 'When that was executed';
COMMENT ON COLUMN portfolio_lots.sequence IS 'Its order within that moment';
COMMENT ON COLUMN portfolio_lots.opened_quantity IS 'Units of the base asset at first; negative: sold';
COMMENT ON COLUMN portfolio_lots.opened_cost IS 'Units of the quote asset that they cost; negative: received';
COMMENT ON COLUMN portfolio_lots.quantity IS 'Units that are left';
COMMENT ON COLUMN portfolio_lots.cost IS 'Cost of what is left';

CREATE TABLE portfolio_closings (
    user_id uuid NOT NULL,
    market_id integer NOT NULL,
    closed_at timestamptz NOT NULL,
    sequence bigint NOT NULL,
    trade_id uuid NOT NULL,
    lot_id uuid NOT NULL,
    quantity total NOT NULL CONSTRAINT portfolio_closings_quantity_not_zero CHECK (quantity <> 0),
    cost total NOT NULL,
    proceeds total NOT NULL,
    PRIMARY KEY (user_id, market_id, closed_at, sequence, trade_id, lot_id)
);
COMMENT ON TABLE portfolio_closings IS 'Which trade closed how much of which lot; proceeds less cost is the realized profit';
COMMENT ON COLUMN portfolio_closings.user_id IS 'Whose lot it was';
COMMENT ON COLUMN portfolio_closings.market_id IS 'The market';
COMMENT ON COLUMN portfolio_closings.closed_at IS 'When the closing trade was executed';
COMMENT ON COLUMN portfolio_closings.sequence IS 'Its order within that moment';
COMMENT ON COLUMN portfolio_closings.trade_id IS 'The closing trade';
COMMENT ON COLUMN portfolio_closings.lot_id IS 'The trade that opened the lot';
COMMENT ON COLUMN portfolio_closings.quantity IS 'Units of the base asset; negative: of a lot that was sold';
COMMENT ON COLUMN portfolio_closings.cost IS 'What they had cost; negative: what had been received';
COMMENT ON COLUMN portfolio_closings.proceeds IS 'What was received for them; negative: what was paid';

ALTER TABLE portfolio_snapshots ALTER COLUMN total_value TYPE valuation;
ALTER TABLE portfolio_snapshots ADD COLUMN net_transfers valuation NOT NULL DEFAULT 0;
ALTER TABLE portfolio_snapshots ADD COLUMN realized valuation NOT NULL DEFAULT 0;
ALTER TABLE portfolio_snapshots ADD COLUMN unrealized valuation NOT NULL DEFAULT 0;
ALTER TABLE portfolio_snapshots ADD COLUMN fees valuation NOT NULL DEFAULT 0;
ALTER TABLE portfolio_snapshots ADD COLUMN funding valuation NOT NULL DEFAULT 0;
ALTER TABLE portfolio_snapshots ADD COLUMN pool_value valuation NOT NULL DEFAULT 0;
ALTER TABLE portfolio_snapshots ADD COLUMN pool_profit valuation NOT NULL DEFAULT 0;
ALTER TABLE portfolio_snapshots ADD COLUMN positions jsonb NOT NULL DEFAULT '[]';
ALTER TABLE portfolio_snapshots ADD COLUMN xid xid8 NOT NULL DEFAULT '0';
ALTER TABLE portfolio_snapshots ADD COLUMN log_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000';
ALTER TABLE portfolio_snapshots ADD COLUMN stale boolean NOT NULL DEFAULT false;
-- Of a snapshot from before, only the value is known.
UPDATE portfolio_snapshots SET net_transfers = total_value;
ALTER TABLE portfolio_snapshots ADD CONSTRAINT portfolio_snapshots_adds_up
    CHECK (total_value = net_transfers + realized + unrealized - fees + funding + pool_profit);
ALTER TABLE portfolio_snapshots ADD CONSTRAINT portfolio_snapshots_positions_array CHECK (jsonb_typeof(positions) = 'array');
COMMENT ON COLUMN portfolio_snapshots.net_transfers IS 'Deposits less withdrawals, at the prices of the moment';
COMMENT ON COLUMN portfolio_snapshots.realized IS 'Realized profit of all markets by average cost, before fees';
COMMENT ON COLUMN portfolio_snapshots.unrealized IS 'Value of all positions less their cost';
COMMENT ON COLUMN portfolio_snapshots.fees IS 'Fees paid, rebates subtracted';
COMMENT ON COLUMN portfolio_snapshots.funding IS 'Funding received, less what was paid';
COMMENT ON COLUMN portfolio_snapshots.pool_value IS 'Value of liquidity positions, which is part of the total';
COMMENT ON COLUMN portfolio_snapshots.pool_profit IS 'That value and all that came out of pools, less what went in';
COMMENT ON COLUMN portfolio_snapshots.positions IS 'Per market: quantity, cost, profits and price, as strings';
COMMENT ON COLUMN portfolio_snapshots.xid IS 'How far the log had been read: everything up to this transaction';
COMMENT ON COLUMN portfolio_snapshots.log_id IS 'And this row of it';
COMMENT ON COLUMN portfolio_snapshots.stale IS 'A movement from before its moment was recorded since: it is about to be taken anew';
CREATE INDEX portfolio_snapshots_stale_idx ON portfolio_snapshots (user_id, taken_at) WHERE stale;

INSERT INTO permissions (name, description) VALUES
    ('portfolio.read_own', 'See one''s own holdings, lots, profits, transfers and snapshots'),
    ('portfolio.read_any', 'See those of others'),
    ('portfolio.snapshot_own', 'Take and keep a snapshot of one''s own portfolio'),
    ('portfolio.snapshot_any', 'Take and keep snapshots of portfolios of others'),
    ('transfers.record', 'Record and undo deposits, withdrawals and funding payments'),
    ('prices.record', 'Record prices of a feed');
INSERT INTO role_permissions (role, permission) VALUES
    ('user', 'portfolio.read_own'), ('trader', 'portfolio.read_own'), ('market_maker', 'portfolio.read_own'),
    ('user', 'portfolio.snapshot_own'), ('trader', 'portfolio.snapshot_own'), ('market_maker', 'portfolio.snapshot_own'),
    ('support', 'portfolio.read_own'), ('support', 'portfolio.read_any'), ('support', 'portfolio.snapshot_own'),
    ('auditor', 'portfolio.read_own'), ('auditor', 'portfolio.read_any'), ('auditor', 'portfolio.snapshot_own'),
    ('operator', 'portfolio.read_own'), ('operator', 'portfolio.read_any'),
    ('operator', 'portfolio.snapshot_own'), ('operator', 'portfolio.snapshot_any'),
    ('operator', 'transfers.record'), ('operator', 'prices.record'),
    ('admin', 'portfolio.read_own'), ('admin', 'portfolio.read_any'),
    ('admin', 'portfolio.snapshot_own'), ('admin', 'portfolio.snapshot_any'),
    ('admin', 'transfers.record'), ('admin', 'prices.record');

GRANT SELECT ON transfers, prices, main_projections, portfolio_movements, portfolio_holdings, portfolio_flows, portfolio_positions,
    portfolio_lots, portfolio_closings TO novadex_app, novadex_worker, novadex_readonly;
GRANT SELECT ON prices TO novadex_user;
GRANT INSERT (id, user_id, kind, asset_id, market_id, amount, executed_at, sequence, source, source_transfer_id, reverses, note)
    ON transfers TO novadex_app;
GRANT INSERT ON prices TO novadex_app;
GRANT INSERT, UPDATE ON main_projections TO novadex_worker;
GRANT INSERT, UPDATE, DELETE ON portfolio_holdings, portfolio_flows, portfolio_positions, portfolio_lots, portfolio_closings TO novadex_worker;
GRANT UPDATE (total_value, holdings, net_transfers, realized, unrealized, fees, funding, pool_value, pool_profit, positions, xid, log_id, stale)
    ON portfolio_snapshots TO novadex_worker;

CREATE OR REPLACE FUNCTION protect_rows() RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    entry record;
    service text;
BEGIN
    FOR entry IN
        SELECT * FROM (VALUES
            ('users', 'id, kind, username, role, status, preferences, version, created_at, updated_at', 'id = current_user_id()'),
            ('wallets', 'id, user_id, chain, address, is_primary, created_at', 'user_id = current_user_id()'),
            ('user_sessions', 'id, user_id, device, address, created_at, last_used_at, idle_expires_at, expires_at, revoked_at, revoked_reason', 'user_id = current_user_id()'),
            ('api_keys', 'id, user_id, name, key_start, permissions, allowed_addresses, created_at, expires_at, last_used_at, revoked_at, revoked_reason', 'user_id = current_user_id()'),
            ('orders', '*', 'user_id = current_user_id()'),
            ('order_events', '*', 'EXISTS (SELECT FROM orders o WHERE o.id = order_events.order_id AND o.user_id = current_user_id())'),
            ('trades', '*', 'user_id = current_user_id()'),
            ('liquidity_positions', '*', 'user_id = current_user_id()'),
            ('portfolio_snapshots', '*', 'user_id = current_user_id()'),
            ('liquidity_events', '*', 'user_id = current_user_id()'),
            ('transfers', '*', 'user_id = current_user_id()'),
            ('portfolio_holdings', '*', 'user_id = current_user_id()'),
            ('portfolio_flows', '*', 'user_id = current_user_id()'),
            ('portfolio_positions', '*', 'user_id = current_user_id()'),
            ('portfolio_lots', '*', 'user_id = current_user_id()'),
            ('portfolio_closings', '*', 'user_id = current_user_id()'),
            ('notifications', '*', 'user_id = current_user_id()')
        ) AS protected (name, columns, own)
    LOOP
        -- Under row-level security COPY is refused to whoever is not exempt: then trades stay as they are,
        -- and novadex_user does not see them.
        IF entry.name = 'trades' AND NOT (SELECT rolbypassrls OR rolsuper FROM pg_roles WHERE rolname = 'novadex_app') THEN
            RAISE WARNING 'novadex_app is not exempt from row-level security, so that novadex_user cannot read trades'
                USING HINT = 'As a superuser: ALTER ROLE novadex_app BYPASSRLS; then SELECT protect_rows() as novadex_owner.';
            CONTINUE;
        END IF;
        IF (SELECT relrowsecurity FROM pg_class WHERE oid = entry.name::regclass) THEN
            CONTINUE;
        END IF;
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', entry.name);
        EXECUTE format('CREATE POLICY own_rows ON %I FOR SELECT TO novadex_user USING (%s)', entry.name, entry.own);
        FOREACH service IN ARRAY ARRAY['app', 'worker', 'readonly', 'backup'] LOOP
            EXECUTE format('CREATE POLICY %I ON %I TO %I USING (true) WITH CHECK (true)', service || '_rows', entry.name, 'novadex_' || service);
        END LOOP;
        IF entry.columns = '*' THEN
            EXECUTE format('GRANT SELECT ON %I TO novadex_user', entry.name);
        ELSE
            EXECUTE format('GRANT SELECT (%s) ON %I TO novadex_user', entry.columns, entry.name);
        END IF;
    END LOOP;
END
$$;
DO $$ BEGIN PERFORM protect_rows(); END $$;

CREATE OR REPLACE FUNCTION schema_step() RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT '0008_portfolio' $$;

RESET ROLE;
