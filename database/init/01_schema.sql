-- NovaDex main database: the records of the venue. PostgreSQL 14 to 18.
--
--     psql -d novadex_db -f database/init/01_schema.sql
--
-- Plain SQL on an empty database, by the database's owner or a superuser; also as a container's init script.
-- `novadex migrate` reaches the same schema step by step (database/migrations/main).

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

-- Kinds of numbers ----------------------------------------------------------------------------------------
-- numeric without a precision keeps what it is given and never rounds; the checks bound it. The comparison
-- with 2^256 also refuses NaN and infinity, which sort above every number.

CREATE DOMAIN amount AS numeric
    CONSTRAINT amount_in_range CHECK (VALUE >= 0 AND VALUE < 115792089237316195423570985008687907853269984665640564039457584007913129639936)
    CONSTRAINT amount_scale CHECK (scale(VALUE) <= 18);
COMMENT ON DOMAIN amount IS 'Units of an asset, 0 to below 2^256, at most 18 decimals';

CREATE DOMAIN signed_amount AS numeric
    CONSTRAINT signed_amount_in_range CHECK (abs(VALUE) < 115792089237316195423570985008687907853269984665640564039457584007913129639936)
    CONSTRAINT signed_amount_scale CHECK (scale(VALUE) <= 18);
COMMENT ON DOMAIN signed_amount IS 'Units of an asset that may be negative, such as a fee that is a rebate';

CREATE DOMAIN price AS numeric
    CONSTRAINT price_in_range CHECK (VALUE > 0 AND VALUE < 115792089237316195423570985008687907853269984665640564039457584007913129639936)
    CONSTRAINT price_scale CHECK (scale(VALUE) <= 36);
COMMENT ON DOMAIN price IS 'Units of the quote asset for one unit of the base asset, at most 36 decimals';

CREATE DOMAIN uint256 AS numeric
    CONSTRAINT uint256_in_range CHECK (VALUE >= 0 AND VALUE < 115792089237316195423570985008687907853269984665640564039457584007913129639936)
    CONSTRAINT uint256_whole CHECK (scale(VALUE) = 0);
COMMENT ON DOMAIN uint256 IS 'A whole number of 256 bits, as contracts on a chain count';

-- Ids carry time ------------------------------------------------------------------------------------------

CREATE FUNCTION uuid_time_ms(id uuid) RETURNS bigint
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT ('x' || translate(left(id::text, 13), '-', ''))::bit(48)::bigint $$;
COMMENT ON FUNCTION uuid_time_ms(uuid) IS 'Milliseconds since 1970 in the first 48 bits of a UUIDv7';

CREATE FUNCTION uuid_at(moment timestamptz) RETURNS uuid
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT (lpad(to_hex(floor(extract(epoch FROM moment) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid $$;
COMMENT ON FUNCTION uuid_at(timestamptz) IS 'The lowest id of a moment: a bound for partitions and for reads by time';

CREATE FUNCTION refuse_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'integrity_constraint_violation', HINT = 'Write a compensating row instead.';
END
$$;
COMMENT ON FUNCTION refuse_change() IS 'Trigger of tables whose rows are never changed nor deleted';

-- The epoch of the log ------------------------------------------------------------------------------------

CREATE TABLE recovery_epoch (
    only_row boolean PRIMARY KEY DEFAULT true CONSTRAINT recovery_epoch_one_row CHECK (only_row),
    epoch bigint NOT NULL DEFAULT 1 CONSTRAINT recovery_epoch_positive CHECK (epoch > 0),
    raised_at timestamptz NOT NULL DEFAULT now(),
    reason text NOT NULL DEFAULT 'created'
);
INSERT INTO recovery_epoch DEFAULT VALUES;
COMMENT ON TABLE recovery_epoch IS 'One row; every restore raises it, so that a position in the log of another life is recognised';
COMMENT ON COLUMN recovery_epoch.only_row IS 'Always true: there is one row';
COMMENT ON COLUMN recovery_epoch.epoch IS 'How many lives this database has had';
COMMENT ON COLUMN recovery_epoch.raised_at IS 'When this life began';
COMMENT ON COLUMN recovery_epoch.reason IS 'Why this life began';

-- Assets and markets --------------------------------------------------------------------------------------

CREATE TABLE assets (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    symbol text NOT NULL CONSTRAINT assets_symbol_key UNIQUE
        CONSTRAINT assets_symbol_form CHECK (symbol ~ '^[A-Z0-9][A-Z0-9._]{0,31}$'),
    name text NOT NULL CONSTRAINT assets_name_length CHECK (length(name) BETWEEN 1 AND 100),
    decimals smallint NOT NULL CONSTRAINT assets_decimals_range CHECK (decimals BETWEEN 0 AND 18),
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT assets_id_decimals_key UNIQUE (id, decimals)
);
COMMENT ON TABLE assets IS 'What is traded: coins and tokens';
COMMENT ON COLUMN assets.id IS 'Key inside this database';
COMMENT ON COLUMN assets.symbol IS 'Ticker in capitals, such as BTC';
COMMENT ON COLUMN assets.name IS 'Name for people';
COMMENT ON COLUMN assets.decimals IS 'Digits after the point of the smallest unit; never changes';
COMMENT ON COLUMN assets.created_at IS 'When the asset was added';
COMMENT ON CONSTRAINT assets_id_decimals_key ON assets IS 'Lets markets carry the decimals under a foreign key';

CREATE TABLE markets (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    symbol text NOT NULL CONSTRAINT markets_symbol_key UNIQUE
        CONSTRAINT markets_symbol_form CHECK (symbol ~ '^[A-Z0-9][A-Z0-9._]{0,31}/[A-Z0-9][A-Z0-9._]{0,31}(-[A-Z0-9]{1,16})?$'),
    base_asset_id integer NOT NULL,
    quote_asset_id integer NOT NULL,
    base_decimals smallint NOT NULL,
    quote_decimals smallint NOT NULL,
    status text NOT NULL DEFAULT 'active'
        CONSTRAINT markets_status_known CHECK (status IN ('active', 'post_only', 'cancel_only', 'halted')),
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT markets_two_assets CHECK (base_asset_id <> quote_asset_id),
    CONSTRAINT markets_base_asset_fkey FOREIGN KEY (base_asset_id, base_decimals) REFERENCES assets (id, decimals),
    CONSTRAINT markets_quote_asset_fkey FOREIGN KEY (quote_asset_id, quote_decimals) REFERENCES assets (id, decimals),
    CONSTRAINT markets_id_decimals_key UNIQUE (id, base_decimals, quote_decimals)
);
COMMENT ON TABLE markets IS 'Pairs that are traded';
COMMENT ON COLUMN markets.id IS 'Key inside this database';
COMMENT ON COLUMN markets.symbol IS 'BASE/QUOTE with an optional suffix, such as ETH/USDT-PERP; never changes';
COMMENT ON COLUMN markets.base_asset_id IS 'What is bought and sold';
COMMENT ON COLUMN markets.quote_asset_id IS 'What it is paid with';
COMMENT ON COLUMN markets.base_decimals IS 'Decimals of the base asset';
COMMENT ON COLUMN markets.quote_decimals IS 'Decimals of the quote asset';
COMMENT ON COLUMN markets.status IS 'active, post_only, cancel_only or halted';
COMMENT ON COLUMN markets.created_at IS 'When the market was added';
COMMENT ON CONSTRAINT markets_id_decimals_key ON markets IS 'Lets trades and orders carry the decimals under a foreign key';

CREATE FUNCTION refuse_rename() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION 'the symbol and the assets of a market never change: % to %', OLD.symbol, NEW.symbol
        USING ERRCODE = 'integrity_constraint_violation', HINT = 'Add a new market instead.';
END
$$;
COMMENT ON FUNCTION refuse_rename() IS 'Trigger of markets: analytics know a market by its symbol';

CREATE TRIGGER markets_keep_identity BEFORE UPDATE ON markets FOR EACH ROW
    WHEN (OLD.symbol <> NEW.symbol OR OLD.base_asset_id <> NEW.base_asset_id OR OLD.quote_asset_id <> NEW.quote_asset_id)
    EXECUTE FUNCTION refuse_rename();

-- Users ---------------------------------------------------------------------------------------------------

CREATE TABLE users (
    id uuid PRIMARY KEY,
    kind text NOT NULL DEFAULT 'person' CONSTRAINT users_kind_known CHECK (kind IN ('person', 'program', 'system')),
    username text CONSTRAINT users_username_key UNIQUE
        CONSTRAINT users_username_form CHECK (username ~ '^[a-z0-9][a-z0-9_.:-]{1,63}$'),
    email_ciphertext bytea,
    email_index bytea CONSTRAINT users_email_key UNIQUE,
    role text NOT NULL DEFAULT 'user'
        CONSTRAINT users_role_known CHECK (role IN ('user', 'trader', 'market_maker', 'support', 'auditor', 'operator', 'admin')),
    status text NOT NULL DEFAULT 'active' CONSTRAINT users_status_known CHECK (status IN ('active', 'deactivated', 'erased')),
    preferences jsonb NOT NULL DEFAULT '{}' CONSTRAINT users_preferences_object CHECK (jsonb_typeof(preferences) = 'object'),
    version bigint NOT NULL DEFAULT 1 CONSTRAINT users_version_positive CHECK (version > 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT users_email_whole CHECK ((email_ciphertext IS NULL) = (email_index IS NULL)),
    CONSTRAINT users_system_named CHECK (kind <> 'system' OR username IS NOT NULL)
);
COMMENT ON TABLE users IS 'Who trades: people, programs, and one system account per source of market trades';
COMMENT ON COLUMN users.id IS 'UUIDv7';
COMMENT ON COLUMN users.kind IS 'person, program, or system (owner of market trades without a known user)';
COMMENT ON COLUMN users.username IS 'Name in small letters, unique; system accounts are source:NAME';
COMMENT ON COLUMN users.email_ciphertext IS 'Email address, encrypted by the application';
COMMENT ON COLUMN users.email_index IS 'Keyed hash of the email address, for look-up and uniqueness';
COMMENT ON COLUMN users.role IS 'What the user may do';
COMMENT ON COLUMN users.status IS 'active, deactivated or erased (personal data gone, records kept)';
COMMENT ON COLUMN users.preferences IS 'Settings that the user chose';
COMMENT ON COLUMN users.version IS 'Raised by every change; caches compare it';
COMMENT ON COLUMN users.created_at IS 'When the user was added';
COMMENT ON COLUMN users.updated_at IS 'When the row last changed';

CREATE TABLE wallets (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL CONSTRAINT wallets_user_fkey REFERENCES users (id),
    chain text NOT NULL CONSTRAINT wallets_chain_form CHECK (chain ~ '^[a-z0-9-]{1,32}(:[a-zA-Z0-9-]{1,64})?$'),
    address text NOT NULL CONSTRAINT wallets_address_length CHECK (length(address) BETWEEN 1 AND 128),
    is_primary boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT wallets_address_key UNIQUE (chain, address)
);
CREATE INDEX wallets_user_idx ON wallets (user_id);
CREATE UNIQUE INDEX wallets_one_primary ON wallets (user_id) WHERE is_primary;
COMMENT ON TABLE wallets IS 'Addresses that users proved to hold';
COMMENT ON COLUMN wallets.id IS 'UUIDv7';
COMMENT ON COLUMN wallets.user_id IS 'Whose wallet it is';
COMMENT ON COLUMN wallets.chain IS 'Kind of chain, such as evm or solana';
COMMENT ON COLUMN wallets.address IS 'Address in the normal form of its chain';
COMMENT ON COLUMN wallets.is_primary IS 'One wallet of each user is the primary one';
COMMENT ON COLUMN wallets.created_at IS 'When the wallet was added';

CREATE TABLE user_sessions (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL CONSTRAINT user_sessions_user_fkey REFERENCES users (id),
    family_id uuid NOT NULL,
    token_hash bytea NOT NULL CONSTRAINT user_sessions_token_key UNIQUE
        CONSTRAINT user_sessions_token_sha256 CHECK (length(token_hash) = 32),
    device text CONSTRAINT user_sessions_device_length CHECK (length(device) <= 500),
    address inet,
    created_at timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz NOT NULL DEFAULT now(),
    idle_expires_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    revoked_reason text,
    CONSTRAINT user_sessions_lifetimes CHECK (created_at < expires_at AND idle_expires_at <= expires_at),
    CONSTRAINT user_sessions_revocation_whole CHECK ((revoked_at IS NULL) = (revoked_reason IS NULL))
);
CREATE INDEX user_sessions_user_idx ON user_sessions (user_id);
COMMENT ON TABLE user_sessions IS 'The durable record of authentication sessions; tokens are stored as hashes only';
COMMENT ON COLUMN user_sessions.id IS 'UUIDv7';
COMMENT ON COLUMN user_sessions.user_id IS 'Whose session it is';
COMMENT ON COLUMN user_sessions.family_id IS 'The sign-in that it descends from: a reused old token revokes the family';
COMMENT ON COLUMN user_sessions.token_hash IS 'SHA-256 of the token';
COMMENT ON COLUMN user_sessions.device IS 'What the client called itself';
COMMENT ON COLUMN user_sessions.address IS 'Network address of the sign-in';
COMMENT ON COLUMN user_sessions.created_at IS 'When the session began';
COMMENT ON COLUMN user_sessions.last_used_at IS 'When it was last used';
COMMENT ON COLUMN user_sessions.idle_expires_at IS 'When it ends if unused';
COMMENT ON COLUMN user_sessions.expires_at IS 'When it ends in any case';
COMMENT ON COLUMN user_sessions.revoked_at IS 'When it was revoked';
COMMENT ON COLUMN user_sessions.revoked_reason IS 'Why it was revoked';

-- Orders --------------------------------------------------------------------------------------------------

CREATE TABLE orders (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL CONSTRAINT orders_user_fkey REFERENCES users (id),
    market_id integer NOT NULL,
    base_decimals smallint NOT NULL,
    quote_decimals smallint NOT NULL,
    client_order_id text CONSTRAINT orders_client_id_length CHECK (length(client_order_id) BETWEEN 1 AND 64),
    side text NOT NULL CONSTRAINT orders_side_known CHECK (side IN ('buy', 'sell')),
    type text NOT NULL CONSTRAINT orders_type_known CHECK (type IN ('limit', 'market', 'stop', 'stop_limit')),
    time_in_force text NOT NULL DEFAULT 'gtc' CONSTRAINT orders_time_in_force_known CHECK (time_in_force IN ('gtc', 'ioc', 'fok', 'gtt')),
    post_only boolean NOT NULL DEFAULT false,
    reduce_only boolean NOT NULL DEFAULT false,
    quantity amount NOT NULL,
    price price,
    stop_price price,
    filled_quantity amount NOT NULL DEFAULT 0,
    status text NOT NULL DEFAULT 'open'
        CONSTRAINT orders_status_known CHECK (status IN ('untriggered', 'open', 'partially_filled', 'filled', 'cancelled', 'expired', 'rejected')),
    version bigint NOT NULL DEFAULT 1 CONSTRAINT orders_version_positive CHECK (version > 0),
    expires_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT orders_market_fkey FOREIGN KEY (market_id, base_decimals, quote_decimals)
        REFERENCES markets (id, base_decimals, quote_decimals),
    CONSTRAINT orders_client_id_key UNIQUE (user_id, client_order_id),
    CONSTRAINT orders_quantity_positive CHECK (quantity > 0 AND scale(quantity) <= base_decimals),
    CONSTRAINT orders_not_over_filled CHECK (filled_quantity <= quantity AND scale(filled_quantity) <= base_decimals),
    CONSTRAINT orders_filled_status CHECK ((status = 'filled') = (filled_quantity = quantity)),
    CONSTRAINT orders_limit_price CHECK ((price IS NOT NULL) = (type IN ('limit', 'stop_limit'))),
    CONSTRAINT orders_stop_price CHECK ((stop_price IS NOT NULL) = (type IN ('stop', 'stop_limit'))),
    CONSTRAINT orders_gtt_expires CHECK ((expires_at IS NOT NULL) = (time_in_force = 'gtt')),
    CONSTRAINT orders_post_only_rests CHECK (NOT post_only OR (type = 'limit' AND time_in_force IN ('gtc', 'gtt')))
);
CREATE INDEX orders_user_idx ON orders (user_id, id);
COMMENT ON TABLE orders IS 'Orders as they stand now; order_events has how they came to be';
COMMENT ON COLUMN orders.id IS 'UUIDv7';
COMMENT ON COLUMN orders.user_id IS 'Who placed it';
COMMENT ON COLUMN orders.market_id IS 'Where it was placed';
COMMENT ON COLUMN orders.base_decimals IS 'Decimals of the base asset';
COMMENT ON COLUMN orders.quote_decimals IS 'Decimals of the quote asset';
COMMENT ON COLUMN orders.client_order_id IS 'Name given by the client, unique per user';
COMMENT ON COLUMN orders.side IS 'buy or sell';
COMMENT ON COLUMN orders.type IS 'limit, market, stop or stop_limit';
COMMENT ON COLUMN orders.time_in_force IS 'gtc, ioc, fok or gtt (until expires_at)';
COMMENT ON COLUMN orders.post_only IS 'May only add liquidity';
COMMENT ON COLUMN orders.reduce_only IS 'May only reduce the holding';
COMMENT ON COLUMN orders.quantity IS 'Units of the base asset';
COMMENT ON COLUMN orders.price IS 'Limit price';
COMMENT ON COLUMN orders.stop_price IS 'Price at which a stop is triggered';
COMMENT ON COLUMN orders.filled_quantity IS 'Units of the base asset that were filled';
COMMENT ON COLUMN orders.status IS 'State of the order';
COMMENT ON COLUMN orders.version IS 'Number of its last event';
COMMENT ON COLUMN orders.expires_at IS 'When a gtt order ends';
COMMENT ON COLUMN orders.created_at IS 'When it was placed';
COMMENT ON COLUMN orders.updated_at IS 'When it last changed';

CREATE TABLE order_events (
    id uuid NOT NULL,
    order_id uuid NOT NULL CONSTRAINT order_events_order_fkey REFERENCES orders (id),
    version bigint NOT NULL CONSTRAINT order_events_version_positive CHECK (version > 0),
    market_id integer NOT NULL CONSTRAINT order_events_market_fkey REFERENCES markets (id),
    market_sequence bigint NOT NULL CONSTRAINT order_events_sequence_positive CHECK (market_sequence > 0),
    type text NOT NULL
        CONSTRAINT order_events_type_known CHECK (type IN ('placed', 'triggered', 'amended', 'filled', 'cancelled', 'expired', 'rejected', 'busted')),
    status text NOT NULL
        CONSTRAINT order_events_status_known CHECK (status IN ('untriggered', 'open', 'partially_filled', 'filled', 'cancelled', 'expired', 'rejected')),
    quantity amount NOT NULL,
    filled_quantity amount NOT NULL,
    price price,
    reason text CONSTRAINT order_events_reason_length CHECK (length(reason) <= 500),
    actor text NOT NULL CONSTRAINT order_events_actor_length CHECK (length(actor) BETWEEN 1 AND 200),
    occurred_at timestamptz NOT NULL DEFAULT now(),
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    PRIMARY KEY (id),
    CONSTRAINT order_events_id_v7 CHECK (get_byte(uuid_send(id), 6) >> 4 = 7)
) PARTITION BY RANGE (id);
CREATE INDEX order_events_order_idx ON order_events (order_id, version);
CREATE INDEX order_events_log_idx ON order_events (xid, id);
CREATE TRIGGER order_events_append_only BEFORE UPDATE OR DELETE ON order_events FOR EACH ROW EXECUTE FUNCTION refuse_change();
COMMENT ON TABLE order_events IS 'Every change of every order, append-only; partitioned by the time in the id';
COMMENT ON COLUMN order_events.id IS 'UUIDv7';
COMMENT ON COLUMN order_events.order_id IS 'The order';
COMMENT ON COLUMN order_events.version IS 'Number of the event within its order';
COMMENT ON COLUMN order_events.market_id IS 'The market';
COMMENT ON COLUMN order_events.market_sequence IS 'Number of the event within its market, assigned under lock';
COMMENT ON COLUMN order_events.type IS 'What happened';
COMMENT ON COLUMN order_events.status IS 'State of the order after it';
COMMENT ON COLUMN order_events.quantity IS 'Quantity of the order after it';
COMMENT ON COLUMN order_events.filled_quantity IS 'Filled quantity of the order after it';
COMMENT ON COLUMN order_events.price IS 'Limit price of the order after it';
COMMENT ON COLUMN order_events.reason IS 'Why, where there is a reason to give';
COMMENT ON COLUMN order_events.actor IS 'Who did it';
COMMENT ON COLUMN order_events.occurred_at IS 'When it happened';
COMMENT ON COLUMN order_events.xid IS 'Transaction that wrote it: the table is its own log';

-- Trades --------------------------------------------------------------------------------------------------

CREATE TABLE trades (
    id uuid NOT NULL,
    user_id uuid NOT NULL CONSTRAINT trades_user_fkey REFERENCES users (id),
    market_id integer NOT NULL,
    base_decimals smallint NOT NULL,
    quote_decimals smallint NOT NULL,
    type text NOT NULL DEFAULT 'spot' CONSTRAINT trades_type_known CHECK (type IN ('spot', 'margin', 'perpetual', 'swap')),
    side text NOT NULL CONSTRAINT trades_side_known CHECK (side IN ('buy', 'sell')),
    liquidity text NOT NULL DEFAULT 'taker' CONSTRAINT trades_liquidity_known CHECK (liquidity IN ('maker', 'taker')),
    base_amount amount NOT NULL,
    quote_amount amount NOT NULL,
    price price NOT NULL,
    fee_amount signed_amount NOT NULL DEFAULT 0,
    fee_asset_id integer CONSTRAINT trades_fee_asset_fkey REFERENCES assets (id),
    executed_at timestamptz NOT NULL,
    sequence bigint,
    match_id uuid,
    order_id uuid CONSTRAINT trades_order_fkey REFERENCES orders (id),
    source text CONSTRAINT trades_source_form CHECK (source ~ '^[a-z0-9_-]{1,32}$'),
    source_trade_id text CONSTRAINT trades_source_id_length CHECK (length(source_trade_id) BETWEEN 1 AND 128),
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (id),
    CONSTRAINT trades_market_fkey FOREIGN KEY (market_id, base_decimals, quote_decimals)
        REFERENCES markets (id, base_decimals, quote_decimals),
    CONSTRAINT trades_id_v7 CHECK (get_byte(uuid_send(id), 6) >> 4 = 7),
    CONSTRAINT trades_id_time CHECK (uuid_time_ms(id) = floor(extract(epoch FROM executed_at) * 1000)),
    CONSTRAINT trades_base_atoms CHECK (base_amount > 0 AND scale(base_amount) <= base_decimals),
    CONSTRAINT trades_quote_atoms CHECK (scale(quote_amount) <= quote_decimals),
    CONSTRAINT trades_amounts_agree CHECK (trunc(quote_amount - base_amount * price, quote_decimals) = 0),
    CONSTRAINT trades_fee_has_asset CHECK (fee_amount = 0 OR fee_asset_id IS NOT NULL),
    CONSTRAINT trades_source_whole CHECK ((source IS NULL) = (source_trade_id IS NULL))
) PARTITION BY RANGE (id);
CREATE INDEX trades_user_idx ON trades (user_id, id);
CREATE INDEX trades_market_idx ON trades (market_id, id);
CREATE INDEX trades_log_idx ON trades (xid, id);
CREATE TRIGGER trades_append_only BEFORE UPDATE OR DELETE ON trades FOR EACH ROW EXECUTE FUNCTION refuse_change();
COMMENT ON TABLE trades IS 'Executions, one row for each side of a match, append-only; partitioned by the time in the id';
COMMENT ON COLUMN trades.id IS 'UUIDv7 whose time is executed_at: the key that makes a retry or a second import harmless';
COMMENT ON COLUMN trades.user_id IS 'Whose execution it is; market trades belong to the system account of their source';
COMMENT ON COLUMN trades.market_id IS 'Where it was executed';
COMMENT ON COLUMN trades.base_decimals IS 'Decimals of the base asset';
COMMENT ON COLUMN trades.quote_decimals IS 'Decimals of the quote asset';
COMMENT ON COLUMN trades.type IS 'spot, margin, perpetual or swap (against a pool)';
COMMENT ON COLUMN trades.side IS 'What this user did: buy or sell the base asset';
COMMENT ON COLUMN trades.liquidity IS 'maker or taker; without a counterparty it is the taker who is recorded';
COMMENT ON COLUMN trades.base_amount IS 'Units of the base asset, a whole number of its smallest unit';
COMMENT ON COLUMN trades.quote_amount IS 'Units of the quote asset; differs from base_amount * price by less than its smallest unit';
COMMENT ON COLUMN trades.price IS 'Units of the quote asset for one of the base asset';
COMMENT ON COLUMN trades.fee_amount IS 'Fee that the user paid; negative for a rebate';
COMMENT ON COLUMN trades.fee_asset_id IS 'What the fee was paid in';
COMMENT ON COLUMN trades.executed_at IS 'When it was executed, by the clock of the venue or chain';
COMMENT ON COLUMN trades.sequence IS 'Order within one moment, given by the source';
COMMENT ON COLUMN trades.match_id IS 'The match that both sides share; none for a trade without a known counterparty';
COMMENT ON COLUMN trades.order_id IS 'The order that it fills';
COMMENT ON COLUMN trades.source IS 'Where it was imported from';
COMMENT ON COLUMN trades.source_trade_id IS 'Its id there';
COMMENT ON COLUMN trades.xid IS 'Transaction that wrote it: the table is its own log';
COMMENT ON COLUMN trades.recorded_at IS 'When it was written here';

CREATE TABLE idempotency_keys (
    user_id uuid NOT NULL,
    key text NOT NULL CONSTRAINT idempotency_keys_length CHECK (length(key) BETWEEN 1 AND 255),
    request_hash bytea NOT NULL CONSTRAINT idempotency_keys_hash_length CHECK (length(request_hash) = 16),
    trade_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, key)
);
CREATE INDEX idempotency_keys_age_idx ON idempotency_keys USING brin (created_at);
COMMENT ON TABLE idempotency_keys IS 'Names that callers gave to requests; written in the transaction of the trade, which holds the foreign keys';
COMMENT ON COLUMN idempotency_keys.user_id IS 'Whose key it is';
COMMENT ON COLUMN idempotency_keys.key IS 'The key';
COMMENT ON COLUMN idempotency_keys.request_hash IS 'Hash of the request: the same key with another request is a conflict';
COMMENT ON COLUMN idempotency_keys.trade_id IS 'The trade that the first request wrote';
COMMENT ON COLUMN idempotency_keys.created_at IS 'When it was written; keys are kept for seven days';

-- Liquidity, portfolios, notifications --------------------------------------------------------------------

CREATE TABLE liquidity_positions (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL CONSTRAINT liquidity_positions_user_fkey REFERENCES users (id),
    market_id integer NOT NULL CONSTRAINT liquidity_positions_market_fkey REFERENCES markets (id),
    pool text NOT NULL CONSTRAINT liquidity_positions_pool_length CHECK (length(pool) BETWEEN 1 AND 200),
    kind text NOT NULL CONSTRAINT liquidity_positions_kind_known CHECK (kind IN ('constant_product', 'concentrated')),
    tick_lower integer,
    tick_upper integer,
    liquidity uint256 NOT NULL,
    base_amount amount NOT NULL,
    quote_amount amount NOT NULL,
    base_fees amount NOT NULL DEFAULT 0,
    quote_fees amount NOT NULL DEFAULT 0,
    status text NOT NULL DEFAULT 'open' CONSTRAINT liquidity_positions_status_known CHECK (status IN ('open', 'closed')),
    version bigint NOT NULL DEFAULT 1 CONSTRAINT liquidity_positions_version_positive CHECK (version > 0),
    opened_at timestamptz NOT NULL DEFAULT now(),
    closed_at timestamptz,
    CONSTRAINT liquidity_positions_ticks CHECK (
        CASE kind
            WHEN 'concentrated' THEN tick_lower IS NOT NULL AND tick_upper IS NOT NULL AND tick_lower < tick_upper
            ELSE tick_lower IS NULL AND tick_upper IS NULL
        END
    ),
    CONSTRAINT liquidity_positions_closed_whole CHECK ((status = 'closed') = (closed_at IS NOT NULL)),
    CONSTRAINT liquidity_positions_closed_empty CHECK (status = 'open' OR liquidity = 0)
);
CREATE INDEX liquidity_positions_user_idx ON liquidity_positions (user_id, id);
COMMENT ON TABLE liquidity_positions IS 'Positions of liquidity providers in pools';
COMMENT ON COLUMN liquidity_positions.id IS 'UUIDv7';
COMMENT ON COLUMN liquidity_positions.user_id IS 'Whose position it is';
COMMENT ON COLUMN liquidity_positions.market_id IS 'The pair of the pool';
COMMENT ON COLUMN liquidity_positions.pool IS 'Address or name of the pool';
COMMENT ON COLUMN liquidity_positions.kind IS 'constant_product or concentrated';
COMMENT ON COLUMN liquidity_positions.tick_lower IS 'Lower tick of a concentrated position';
COMMENT ON COLUMN liquidity_positions.tick_upper IS 'Upper tick of a concentrated position';
COMMENT ON COLUMN liquidity_positions.liquidity IS 'Liquidity in the pool''s own unit';
COMMENT ON COLUMN liquidity_positions.base_amount IS 'Units of the base asset put in';
COMMENT ON COLUMN liquidity_positions.quote_amount IS 'Units of the quote asset put in';
COMMENT ON COLUMN liquidity_positions.base_fees IS 'Fees earned in the base asset';
COMMENT ON COLUMN liquidity_positions.quote_fees IS 'Fees earned in the quote asset';
COMMENT ON COLUMN liquidity_positions.status IS 'open or closed';
COMMENT ON COLUMN liquidity_positions.version IS 'Raised by every change';
COMMENT ON COLUMN liquidity_positions.opened_at IS 'When it was opened';
COMMENT ON COLUMN liquidity_positions.closed_at IS 'When it was closed';

CREATE TABLE portfolio_snapshots (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL CONSTRAINT portfolio_snapshots_user_fkey REFERENCES users (id),
    taken_at timestamptz NOT NULL,
    valuation_asset_id integer NOT NULL CONSTRAINT portfolio_snapshots_asset_fkey REFERENCES assets (id),
    total_value signed_amount NOT NULL,
    holdings jsonb NOT NULL CONSTRAINT portfolio_snapshots_holdings_array CHECK (jsonb_typeof(holdings) = 'array'),
    CONSTRAINT portfolio_snapshots_once UNIQUE (user_id, taken_at)
);
COMMENT ON TABLE portfolio_snapshots IS 'What users held at a moment, and its value';
COMMENT ON COLUMN portfolio_snapshots.id IS 'UUIDv7';
COMMENT ON COLUMN portfolio_snapshots.user_id IS 'Whose portfolio it is';
COMMENT ON COLUMN portfolio_snapshots.taken_at IS 'The moment that it describes';
COMMENT ON COLUMN portfolio_snapshots.valuation_asset_id IS 'What the value is counted in';
COMMENT ON COLUMN portfolio_snapshots.total_value IS 'Value of all holdings';
COMMENT ON COLUMN portfolio_snapshots.holdings IS 'Per asset: amount, price and value, as strings';

CREATE TABLE notifications (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL CONSTRAINT notifications_user_fkey REFERENCES users (id),
    kind text NOT NULL CONSTRAINT notifications_kind_form CHECK (kind ~ '^[a-z][a-z0-9_]{0,63}$'),
    channel text NOT NULL DEFAULT 'in_app' CONSTRAINT notifications_channel_known CHECK (channel IN ('in_app', 'email', 'webhook')),
    title text NOT NULL CONSTRAINT notifications_title_length CHECK (length(title) BETWEEN 1 AND 200),
    body text NOT NULL CONSTRAINT notifications_body_length CHECK (length(body) <= 10000),
    data jsonb NOT NULL DEFAULT '{}',
    status text NOT NULL DEFAULT 'pending' CONSTRAINT notifications_status_known CHECK (status IN ('pending', 'delivered', 'dead')),
    created_at timestamptz NOT NULL DEFAULT now(),
    read_at timestamptz
);
CREATE INDEX notifications_user_idx ON notifications (user_id, id);
COMMENT ON TABLE notifications IS 'What users are told';
COMMENT ON COLUMN notifications.id IS 'UUIDv7';
COMMENT ON COLUMN notifications.user_id IS 'Who is told';
COMMENT ON COLUMN notifications.kind IS 'What it is about, such as order_filled';
COMMENT ON COLUMN notifications.channel IS 'in_app, email or webhook';
COMMENT ON COLUMN notifications.title IS 'First line';
COMMENT ON COLUMN notifications.body IS 'Text';
COMMENT ON COLUMN notifications.data IS 'What a program needs of it';
COMMENT ON COLUMN notifications.status IS 'pending, delivered or dead';
COMMENT ON COLUMN notifications.created_at IS 'When it was made';
COMMENT ON COLUMN notifications.read_at IS 'When the user read it';

-- Audit ---------------------------------------------------------------------------------------------------

CREATE TABLE audit_log (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    occurred_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor text NOT NULL CONSTRAINT audit_log_actor_length CHECK (length(actor) BETWEEN 1 AND 200),
    action text NOT NULL CONSTRAINT audit_log_action_form CHECK (action ~ '^[a-z][a-z0-9_.]{0,99}$'),
    subject text NOT NULL CONSTRAINT audit_log_subject_length CHECK (length(subject) BETWEEN 1 AND 300),
    detail jsonb NOT NULL DEFAULT '{}',
    database_role text NOT NULL DEFAULT session_user,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE ON audit_log FOR EACH ROW EXECUTE FUNCTION refuse_change();
COMMENT ON TABLE audit_log IS 'Who did what, append-only';
COMMENT ON COLUMN audit_log.id IS 'Key';
COMMENT ON COLUMN audit_log.occurred_at IS 'When';
COMMENT ON COLUMN audit_log.actor IS 'Who';
COMMENT ON COLUMN audit_log.action IS 'What, such as market.created';
COMMENT ON COLUMN audit_log.subject IS 'To what, such as market:BTC/USDT';
COMMENT ON COLUMN audit_log.detail IS 'The change itself, without secrets';
COMMENT ON COLUMN audit_log.database_role IS 'Database role of the session';
COMMENT ON COLUMN audit_log.xid IS 'Transaction that wrote it';

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
                -- CREATE, then ATTACH: readers and writers of the parent are not kept waiting. Writers of what its foreign
                -- keys refer to are, for that moment.
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
    FOREACH parent IN ARRAY ARRAY['trades', 'order_events'] LOOP
        PERFORM ensure_partitions(parent::regclass, now(), now() + interval '3 months');
    END LOOP;
END
$$;

CREATE FUNCTION schema_step() RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT '0002_records' $$;
COMMENT ON FUNCTION schema_step() IS 'The last migration that this schema contains';

-- Who may do what -----------------------------------------------------------------------------------------

GRANT SELECT ON recovery_epoch, assets, markets, users, wallets, user_sessions, orders, order_events, trades,
    idempotency_keys, liquidity_positions, portfolio_snapshots, notifications, audit_log TO novadex_app, novadex_worker;
GRANT SELECT ON recovery_epoch, assets, markets, orders, order_events, trades, liquidity_positions, portfolio_snapshots
    TO novadex_readonly;
GRANT SELECT (id, kind, username, role, status, created_at, updated_at) ON users TO novadex_readonly;
GRANT INSERT ON assets, markets, users, wallets, user_sessions, orders, idempotency_keys, liquidity_positions,
    portfolio_snapshots, notifications, audit_log TO novadex_app;
-- All columns but xid: the log's order is the server's to say.
GRANT INSERT (id, user_id, market_id, base_decimals, quote_decimals, type, side, liquidity, base_amount, quote_amount,
    price, fee_amount, fee_asset_id, executed_at, sequence, match_id, order_id, source, source_trade_id)
    ON trades TO novadex_app;
GRANT INSERT (id, order_id, version, market_id, market_sequence, type, status, quantity, filled_quantity, price, reason,
    actor, occurred_at)
    ON order_events TO novadex_app, novadex_worker;
GRANT UPDATE (status) ON markets TO novadex_app;
GRANT UPDATE ON users, wallets, user_sessions, orders, liquidity_positions, notifications TO novadex_app;
GRANT DELETE ON wallets TO novadex_app;
GRANT INSERT ON portfolio_snapshots, notifications, audit_log TO novadex_worker;
GRANT UPDATE ON orders, user_sessions, notifications TO novadex_worker;
GRANT DELETE ON idempotency_keys TO novadex_worker;

RESET ROLE;
COMMIT;
