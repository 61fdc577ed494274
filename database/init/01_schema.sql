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
    FOREACH role_name IN ARRAY ARRAY['novadex_owner', 'novadex_app', 'novadex_worker', 'novadex_readonly', 'novadex_backup', 'novadex_user'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role_name) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', role_name);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL; -- another database of this cluster made it at the same moment
            END;
        END IF;
    END LOOP;
    -- COPY into a table is refused under row-level security, and so is pg_dump: the services' roles are exempt.
    BEGIN
        ALTER ROLE novadex_app BYPASSRLS;
        ALTER ROLE novadex_worker BYPASSRLS;
        ALTER ROLE novadex_backup BYPASSRLS;
    EXCEPTION WHEN insufficient_privilege THEN
        NULL; -- protect_rows() below looks at what is so
    END;
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

CREATE DOMAIN valuation AS numeric
    CONSTRAINT valuation_finite CHECK (abs(VALUE) < 'Infinity')
    CONSTRAINT valuation_scale CHECK (scale(VALUE) <= 54);
COMMENT ON DOMAIN valuation IS 'A sum of amounts times prices, exact: 18 decimals and 36';

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
    tick_size price,
    lot_size amount CONSTRAINT markets_lot_positive CHECK (lot_size > 0),
    CONSTRAINT markets_lot_scale CHECK (scale(lot_size) <= base_decimals),
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
COMMENT ON COLUMN markets.tick_size IS 'Prices of orders are multiples of it; none: any price';
COMMENT ON COLUMN markets.lot_size IS 'Quantities of orders are multiples of it; none: the smallest unit of the base asset';
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

-- What roles may do ---------------------------------------------------------------------------------------

CREATE TABLE roles (
    name text PRIMARY KEY CONSTRAINT roles_name_form CHECK (name ~ '^[a-z][a-z_]{0,31}$'),
    description text NOT NULL CONSTRAINT roles_description_length CHECK (length(description) BETWEEN 1 AND 200)
);
COMMENT ON TABLE roles IS 'What users can be';
COMMENT ON COLUMN roles.name IS 'Name, such as trader';
COMMENT ON COLUMN roles.description IS 'Who has it';

CREATE TABLE permissions (
    name text PRIMARY KEY CONSTRAINT permissions_name_form CHECK (name ~ '^[a-z][a-z_]{0,31}\.[a-z][a-z_]{0,31}$'),
    description text NOT NULL CONSTRAINT permissions_description_length CHECK (length(description) BETWEEN 1 AND 200)
);
COMMENT ON TABLE permissions IS 'What can be allowed; _own is for one''s own records, _any for everybody''s';
COMMENT ON COLUMN permissions.name IS 'NOUN.VERB, such as users.read_any';
COMMENT ON COLUMN permissions.description IS 'What it allows';

CREATE TABLE role_permissions (
    role text NOT NULL CONSTRAINT role_permissions_role_fkey REFERENCES roles (name),
    permission text NOT NULL CONSTRAINT role_permissions_permission_fkey REFERENCES permissions (name),
    PRIMARY KEY (role, permission)
);
COMMENT ON TABLE role_permissions IS 'What each role may do';
COMMENT ON COLUMN role_permissions.role IS 'The role';
COMMENT ON COLUMN role_permissions.permission IS 'What it may do';

INSERT INTO roles (name, description) VALUES
    ('user', 'Somebody who signed in: sees and keeps what is their own'),
    ('trader', 'A user who trades'),
    ('market_maker', 'A trader who quotes, mostly by programs'),
    ('support', 'Staff that helps users: sees accounts and sessions, ends sessions, sees no personal data'),
    ('auditor', 'Staff that reads records and the audit log, and changes nothing'),
    ('operator', 'Staff that runs the venue: markets, caches, keys'),
    ('admin', 'Staff that may do everything, also decide who may do what');

INSERT INTO permissions (name, description) VALUES
    ('users.create', 'Add users'),
    ('users.read_own', 'See one''s own account, personal data included'),
    ('users.read_any', 'See and list accounts, without personal data'),
    ('users.read_personal', 'See email addresses and personal data of others'),
    ('users.update_own', 'Change one''s own username, email, personal data and preferences'),
    ('users.update_any', 'Change those of others'),
    ('users.deactivate_own', 'Deactivate one''s own account'),
    ('users.deactivate_any', 'Deactivate and reactivate accounts'),
    ('users.erase_own', 'Erase one''s own personal data'),
    ('users.erase_any', 'Erase personal data of others'),
    ('users.change_role', 'Decide what role others have'),
    ('wallets.manage_own', 'Add and remove one''s own wallets'),
    ('wallets.manage_any', 'Add and remove wallets of others'),
    ('sessions.create_any', 'Begin sessions for others'),
    ('sessions.read_own', 'See one''s own sessions'),
    ('sessions.read_any', 'See sessions of others'),
    ('sessions.revoke_own', 'End one''s own sessions'),
    ('sessions.revoke_any', 'End sessions of others'),
    ('api_keys.manage_own', 'Make and rotate one''s own API keys'),
    ('api_keys.read_own', 'See one''s own API keys'),
    ('api_keys.read_any', 'See API keys of others, never their secrets'),
    ('api_keys.revoke_own', 'Revoke one''s own API keys'),
    ('api_keys.revoke_any', 'Revoke API keys of others'),
    ('markets.manage', 'Add assets and markets'),
    ('trades.create_own', 'Record one''s own trades'),
    ('trades.create_any', 'Record trades of others'),
    ('trades.read_own', 'See one''s own trades'),
    ('trades.read_any', 'See trades of others'),
    ('roles.read', 'See what each role may do'),
    ('audit.read', 'Read the audit log'),
    ('audit.verify', 'Seal and verify the audit log'),
    ('keys.rotate', 'Make a new master key and wrap all data keys with it'),
    ('cache.manage', 'See, empty and fill the caches');

INSERT INTO role_permissions (role, permission)
SELECT role, permission
FROM (VALUES
    ('user', ARRAY['users.read_own', 'users.update_own', 'users.deactivate_own', 'users.erase_own', 'wallets.manage_own',
                   'sessions.read_own', 'sessions.revoke_own', 'api_keys.read_own', 'api_keys.revoke_own', 'trades.read_own']),
    ('trader', ARRAY['users.read_own', 'users.update_own', 'users.deactivate_own', 'users.erase_own', 'wallets.manage_own',
                     'sessions.read_own', 'sessions.revoke_own', 'api_keys.read_own', 'api_keys.revoke_own', 'api_keys.manage_own',
                     'trades.read_own', 'trades.create_own']),
    ('market_maker', ARRAY['users.read_own', 'users.update_own', 'users.deactivate_own', 'users.erase_own', 'wallets.manage_own',
                           'sessions.read_own', 'sessions.revoke_own', 'api_keys.read_own', 'api_keys.revoke_own', 'api_keys.manage_own',
                           'trades.read_own', 'trades.create_own']),
    ('support', ARRAY['users.read_own', 'users.update_own', 'users.read_any', 'sessions.read_own', 'sessions.revoke_own',
                      'sessions.read_any', 'sessions.revoke_any', 'api_keys.read_own', 'api_keys.revoke_own', 'api_keys.read_any',
                      'api_keys.revoke_any', 'trades.read_own', 'trades.read_any']),
    ('auditor', ARRAY['users.read_own', 'users.update_own', 'users.read_any', 'sessions.read_own', 'sessions.revoke_own',
                      'sessions.read_any', 'api_keys.read_own', 'api_keys.revoke_own', 'api_keys.read_any', 'trades.read_own', 'trades.read_any',
                      'roles.read', 'audit.read', 'audit.verify']),
    ('operator', ARRAY['users.read_own', 'users.update_own', 'users.read_any', 'sessions.read_own', 'sessions.revoke_own',
                       'sessions.read_any', 'sessions.revoke_any', 'api_keys.read_own', 'api_keys.revoke_own', 'api_keys.read_any',
                       'api_keys.revoke_any', 'trades.read_own', 'trades.read_any', 'markets.manage', 'roles.read',
                       'audit.verify', 'keys.rotate', 'cache.manage'])
) AS given (role, allowed), unnest(allowed) AS permission
UNION ALL
SELECT 'admin', name FROM permissions;

-- Users ---------------------------------------------------------------------------------------------------

CREATE TABLE users (
    id uuid PRIMARY KEY,
    kind text NOT NULL DEFAULT 'person' CONSTRAINT users_kind_known CHECK (kind IN ('person', 'program', 'system')),
    username text CONSTRAINT users_username_key UNIQUE
        CONSTRAINT users_username_form CHECK (username ~ '^[a-z0-9][a-z0-9_.:-]{1,63}$')
        CONSTRAINT users_username_no_id CHECK (
            username !~ '^0x[0-9a-f]{40}$' AND NOT (length(replace(username, '-', '')) = 32 AND username ~ '^(0x)?[0-9a-f_-]+$')),
    email_ciphertext bytea,
    email_index bytea CONSTRAINT users_email_key UNIQUE,
    role text NOT NULL DEFAULT 'user' CONSTRAINT users_role_fkey REFERENCES roles (name),
    status text NOT NULL DEFAULT 'active' CONSTRAINT users_status_known CHECK (status IN ('active', 'deactivated', 'erased')),
    preferences jsonb NOT NULL DEFAULT '{}'
        CONSTRAINT users_preferences_object CHECK (jsonb_typeof(preferences) = 'object')
        CONSTRAINT users_preferences_size CHECK (length(preferences::text) <= 16384),
    version bigint NOT NULL DEFAULT 1 CONSTRAINT users_version_positive CHECK (version > 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    personal_ciphertext bytea,
    CONSTRAINT users_email_whole CHECK ((email_ciphertext IS NULL) = (email_index IS NULL)),
    CONSTRAINT users_system_named CHECK (kind <> 'system' OR username IS NOT NULL),
    CONSTRAINT users_erased_empty CHECK (
        status <> 'erased'
        OR (username IS NULL AND email_ciphertext IS NULL AND personal_ciphertext IS NULL AND preferences = '{}'))
);
CREATE INDEX users_role_idx ON users (role, id) WHERE role <> 'user';
CREATE INDEX users_status_idx ON users (status, id) WHERE status <> 'active';
COMMENT ON CONSTRAINT users_username_no_id ON users IS 'Nobody is called like the id or the wallet of somebody else';
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
COMMENT ON COLUMN users.personal_ciphertext IS 'Name, phone and what else the user told of themselves, encrypted by the application';

CREATE FUNCTION raise_version() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF OLD.status = 'erased' AND NEW.status <> 'erased' THEN
        RAISE EXCEPTION 'user % was erased: what is gone does not come back', OLD.id
            USING ERRCODE = 'integrity_constraint_violation', HINT = 'Create a new user.';
    END IF;
    NEW.version := OLD.version + 1;
    NEW.updated_at := clock_timestamp();
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION raise_version() IS 'Trigger of users: every change raises the version';
CREATE TRIGGER users_raise_version BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION raise_version();

CREATE TABLE wallets (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL CONSTRAINT wallets_user_fkey REFERENCES users (id),
    chain text NOT NULL CONSTRAINT wallets_chain_form CHECK (chain ~ '^[a-z0-9-]{1,32}(:[a-zA-Z0-9-]{1,64})?$'),
    address text NOT NULL CONSTRAINT wallets_address_length CHECK (length(address) BETWEEN 1 AND 128),
    is_primary boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT wallets_address_key UNIQUE (chain, address),
    CONSTRAINT wallets_address_form CHECK (
        CASE chain WHEN 'evm' THEN address ~ '^0x[0-9a-fA-F]{40}$' WHEN 'solana' THEN address ~ '^[1-9A-HJ-NP-Za-km-z]{32,44}$' ELSE true END)
);
-- One address has several spellings; whoever holds it is one user.
CREATE UNIQUE INDEX wallets_evm_key ON wallets (lower(address)) WHERE chain = 'evm';
CREATE INDEX wallets_user_idx ON wallets (user_id);
CREATE UNIQUE INDEX wallets_one_primary ON wallets (user_id) WHERE is_primary;
COMMENT ON TABLE wallets IS 'Addresses that users proved to hold';
COMMENT ON COLUMN wallets.id IS 'UUIDv7';
COMMENT ON COLUMN wallets.user_id IS 'Whose wallet it is';
COMMENT ON COLUMN wallets.chain IS 'Kind of chain, such as evm or solana';
COMMENT ON COLUMN wallets.address IS 'Address in the normal form of its chain';
COMMENT ON COLUMN wallets.is_primary IS 'One wallet of each user is the primary one';
COMMENT ON COLUMN wallets.created_at IS 'When the wallet was added';

CREATE FUNCTION raise_version_of_owner() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public
    AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        UPDATE public.users SET updated_at = now() WHERE id = OLD.user_id;
    END IF;
    IF TG_OP = 'INSERT' OR (TG_OP = 'UPDATE' AND NEW.user_id <> OLD.user_id) THEN
        UPDATE public.users SET updated_at = now() WHERE id = NEW.user_id;
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION raise_version_of_owner() IS 'Trigger of wallets: they are a part of their user';
REVOKE ALL ON FUNCTION raise_version_of_owner() FROM PUBLIC;
CREATE FUNCTION require_active_user() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public
    AS $$
BEGIN
    -- The lock makes a deactivation at the same moment wait, so that it sees this row and ends it.
    PERFORM FROM public.users WHERE id = NEW.user_id AND status = 'active' FOR NO KEY UPDATE;
    IF NOT FOUND AND EXISTS (SELECT FROM public.users WHERE id = NEW.user_id) THEN
        RAISE EXCEPTION 'user % is not active', NEW.user_id
            USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME;
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION require_active_user() IS 'Trigger of what only an active user can have: wallets, data keys, sessions, API keys';
REVOKE ALL ON FUNCTION require_active_user() FROM PUBLIC;
CREATE TRIGGER wallets_active_user BEFORE INSERT OR UPDATE OF user_id ON wallets FOR EACH ROW EXECUTE FUNCTION require_active_user();
CREATE TRIGGER wallets_raise_version AFTER INSERT OR UPDATE OR DELETE ON wallets FOR EACH ROW EXECUTE FUNCTION raise_version_of_owner();

CREATE FUNCTION limit_wallets() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public
    AS $$
BEGIN
    -- wallets_active_user, which comes first, holds the user's row: nobody else adds one meanwhile.
    IF (SELECT count(*) FROM public.wallets WHERE user_id = NEW.user_id) >= 50 THEN
        RAISE EXCEPTION 'user % has 50 wallets, and no more are possible', NEW.user_id
            USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME,
                HINT = 'Remove one first.';
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION limit_wallets() IS 'Trigger of wallets: a user has 50 at most';
REVOKE ALL ON FUNCTION limit_wallets() FROM PUBLIC;
CREATE TRIGGER wallets_few BEFORE INSERT OR UPDATE OF user_id ON wallets FOR EACH ROW EXECUTE FUNCTION limit_wallets();

CREATE FUNCTION require_primary_wallet() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public
    AS $$
BEGIN
    -- Whoever changes wallets holds their user's row: nobody else changes them meanwhile.
    IF EXISTS (
        SELECT FROM public.wallets WHERE user_id IN (OLD.user_id, NEW.user_id) GROUP BY user_id HAVING NOT bool_or(is_primary))
    THEN
        RAISE EXCEPTION 'one wallet of user % must be the primary one', coalesce(NEW.user_id, OLD.user_id)
            USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME,
                HINT = 'Make another wallet the primary one in the same transaction.';
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION require_primary_wallet() IS 'Trigger of wallets, at commit: who has wallets has a primary one';
REVOKE ALL ON FUNCTION require_primary_wallet() FROM PUBLIC;
CREATE CONSTRAINT TRIGGER wallets_keep_primary AFTER INSERT OR UPDATE OR DELETE ON wallets DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION require_primary_wallet();

-- Keys of encryption --------------------------------------------------------------------------------------

CREATE TABLE master_keys (
    version bigint PRIMARY KEY CONSTRAINT master_keys_version_positive CHECK (version > 0),
    check_value bytea NOT NULL CONSTRAINT master_keys_check_value_length CHECK (length(check_value) = 16),
    created_at timestamptz NOT NULL DEFAULT now(),
    retired_at timestamptz
);
COMMENT ON TABLE master_keys IS 'Which master keys this database has been used with; the keys themselves are outside';
COMMENT ON COLUMN master_keys.version IS 'Number of the key, rising';
COMMENT ON COLUMN master_keys.check_value IS 'Derived from the key: tells another key of the same number apart';
COMMENT ON COLUMN master_keys.created_at IS 'When it was first used';
COMMENT ON COLUMN master_keys.retired_at IS 'When nothing was wrapped with it any more';

CREATE FUNCTION keep_retired() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION 'master key % was retired at %: it is not used again', OLD.version, OLD.retired_at
        USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME,
            HINT = 'Make a new one: novadex keys rotate';
END
$$;
COMMENT ON FUNCTION keep_retired() IS 'Trigger of master_keys: what is retired may be forgotten, so it stays retired';
CREATE TRIGGER master_keys_stay_retired BEFORE UPDATE ON master_keys FOR EACH ROW
    WHEN (OLD.retired_at IS NOT NULL AND NEW.retired_at IS DISTINCT FROM OLD.retired_at) EXECUTE FUNCTION keep_retired();

CREATE TABLE system_keys (
    name text PRIMARY KEY CONSTRAINT system_keys_name_form CHECK (name ~ '^[a-z][a-z_]{0,63}$'),
    wrapped_key bytea NOT NULL CONSTRAINT system_keys_wrapped_length CHECK (length(wrapped_key) = 60),
    master_version bigint NOT NULL CONSTRAINT system_keys_master_fkey REFERENCES master_keys (version),
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE system_keys IS 'Keys of the whole installation, wrapped with a master key';
COMMENT ON COLUMN system_keys.name IS 'What it is for, such as email_index';
COMMENT ON COLUMN system_keys.wrapped_key IS 'Nonce, key and tag: AES-256-GCM under the master key';
COMMENT ON COLUMN system_keys.master_version IS 'The master key that wraps it';
COMMENT ON COLUMN system_keys.created_at IS 'When it was made';

CREATE TABLE user_keys (
    user_id uuid PRIMARY KEY CONSTRAINT user_keys_user_fkey REFERENCES users (id),
    wrapped_key bytea NOT NULL CONSTRAINT user_keys_wrapped_length CHECK (length(wrapped_key) = 60),
    master_version bigint NOT NULL CONSTRAINT user_keys_master_fkey REFERENCES master_keys (version),
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX user_keys_master_idx ON user_keys (master_version, user_id);
CREATE TRIGGER user_keys_active_user BEFORE INSERT OR UPDATE OF user_id ON user_keys FOR EACH ROW EXECUTE FUNCTION require_active_user();
COMMENT ON TABLE user_keys IS 'The data key of each user, wrapped with a master key; erasing the user destroys it';
COMMENT ON COLUMN user_keys.user_id IS 'Whose personal data it encrypts';
COMMENT ON COLUMN user_keys.wrapped_key IS 'Nonce, key and tag: AES-256-GCM under the master key';
COMMENT ON COLUMN user_keys.master_version IS 'The master key that wraps it';
COMMENT ON COLUMN user_keys.created_at IS 'When it was made';

CREATE FUNCTION refuse_retired_master_key() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public
    AS $$
DECLARE
    retired timestamptz;
BEGIN
    -- Shared, so that the key is not retired while this transaction is under way.
    SELECT retired_at INTO retired FROM public.master_keys WHERE version = NEW.master_version FOR SHARE;
    IF retired IS NOT NULL THEN
        RAISE EXCEPTION 'master key % was retired at %', NEW.master_version, retired
            USING ERRCODE = 'serialization_failure', HINT = 'Wrap the key anew with the newest master key.';
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION refuse_retired_master_key() IS 'Trigger of tables of wrapped keys: what is retired may be forgotten, so nothing new is wrapped with it';
REVOKE ALL ON FUNCTION refuse_retired_master_key() FROM PUBLIC;
CREATE TRIGGER system_keys_master_in_use BEFORE INSERT OR UPDATE OF master_version ON system_keys
    FOR EACH ROW EXECUTE FUNCTION refuse_retired_master_key();
CREATE TRIGGER user_keys_master_in_use BEFORE INSERT OR UPDATE OF master_version ON user_keys
    FOR EACH ROW EXECUTE FUNCTION refuse_retired_master_key();

CREATE FUNCTION require_data_key() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public
    AS $$
DECLARE
    owner uuid;
BEGIN
    IF TG_TABLE_NAME = 'users' THEN
        owner := NEW.id;
    ELSE
        owner := OLD.user_id;
    END IF;
    -- The lock makes who encrypts and who deletes the key at the same moment wait for each other.
    PERFORM FROM public.users
    WHERE id = owner AND (email_ciphertext IS NOT NULL OR personal_ciphertext IS NOT NULL) FOR NO KEY UPDATE;
    IF FOUND AND NOT EXISTS (SELECT FROM public.user_keys WHERE user_id = owner) THEN
        RAISE EXCEPTION 'user % has encrypted data without the key to it', owner
            USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME,
                HINT = 'Erase with: novadex users erase';
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION require_data_key() IS 'Trigger of users and user_keys, at commit: what is encrypted can be decrypted';
REVOKE ALL ON FUNCTION require_data_key() FROM PUBLIC;
CREATE CONSTRAINT TRIGGER users_sealed_with_key AFTER INSERT OR UPDATE OF email_ciphertext, personal_ciphertext ON users DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.email_ciphertext IS NOT NULL OR NEW.personal_ciphertext IS NOT NULL) EXECUTE FUNCTION require_data_key();
CREATE CONSTRAINT TRIGGER user_keys_kept AFTER DELETE OR UPDATE OF user_id ON user_keys DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION require_data_key();

CREATE TABLE erasures (
    user_id uuid PRIMARY KEY CONSTRAINT erasures_user_fkey REFERENCES users (id),
    erased_at timestamptz NOT NULL DEFAULT now()
);
CREATE TRIGGER erasures_append_only BEFORE UPDATE OR DELETE ON erasures FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE FUNCTION require_whole_erasure() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public
    AS $$
BEGIN
    IF EXISTS (SELECT FROM public.wallets WHERE user_id = NEW.id)
        OR EXISTS (SELECT FROM public.user_keys WHERE user_id = NEW.id)
        OR NOT EXISTS (SELECT FROM public.erasures WHERE user_id = NEW.id)
    THEN
        RAISE EXCEPTION 'user % is erased by half: wallets and data key must go, and erasures must name it', NEW.id
            USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME,
                HINT = 'Erase with: novadex users erase';
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION require_whole_erasure() IS 'Trigger of users, at commit: nothing personal is left of who is erased';
REVOKE ALL ON FUNCTION require_whole_erasure() FROM PUBLIC;
CREATE CONSTRAINT TRIGGER users_erased_whole AFTER INSERT OR UPDATE OF status ON users DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.status = 'erased') EXECUTE FUNCTION require_whole_erasure();

CREATE FUNCTION require_erased_user() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public
    AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM public.users WHERE id = NEW.user_id AND status = 'erased') THEN
        RAISE EXCEPTION 'user % is not erased', NEW.user_id
            USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME,
                HINT = 'Erase with: novadex users erase';
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION require_erased_user() IS 'Trigger of erasures, at commit: whoever is named is erased, so that nobody else is later';
REVOKE ALL ON FUNCTION require_erased_user() FROM PUBLIC;
CREATE CONSTRAINT TRIGGER erasures_user_erased AFTER INSERT ON erasures DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION require_erased_user();
COMMENT ON TABLE erasures IS 'Whose personal data was erased; the same list outside the database is applied again after a restore';
COMMENT ON COLUMN erasures.user_id IS 'The user';
COMMENT ON COLUMN erasures.erased_at IS 'When';

-- Sessions and API keys -----------------------------------------------------------------------------------

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
    revoked_reason text CONSTRAINT user_sessions_reason_length CHECK (length(revoked_reason) BETWEEN 1 AND 200),
    method text NOT NULL DEFAULT 'service'
        CONSTRAINT user_sessions_method_known CHECK (method IN ('service', 'ethereum', 'solana')),
    authenticated_at timestamptz NOT NULL DEFAULT now(),
    must_renew boolean NOT NULL DEFAULT false,
    replaced_by uuid,
    CONSTRAINT user_sessions_replacement_ends CHECK (replaced_by IS NULL OR revoked_at IS NOT NULL),
    CONSTRAINT user_sessions_lifetimes CHECK (created_at < expires_at AND idle_expires_at <= expires_at),
    CONSTRAINT user_sessions_revocation_whole CHECK ((revoked_at IS NULL) = (revoked_reason IS NULL))
);
CREATE INDEX user_sessions_user_idx ON user_sessions (user_id);
CREATE INDEX user_sessions_live_idx ON user_sessions (user_id) WHERE revoked_at IS NULL;
CREATE INDEX user_sessions_family_idx ON user_sessions (family_id);
CREATE INDEX user_sessions_expiry_idx ON user_sessions (expires_at);
CREATE TRIGGER user_sessions_active_user BEFORE INSERT OR UPDATE OF user_id ON user_sessions FOR EACH ROW EXECUTE FUNCTION require_active_user();
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
COMMENT ON COLUMN user_sessions.method IS 'How the user proved who they are: service (a trusted program said so), ethereum or solana';
COMMENT ON COLUMN user_sessions.authenticated_at IS 'When the user last proved who they are; sensitive actions want it recent';
COMMENT ON COLUMN user_sessions.must_renew IS 'The rights of the user changed: the session is good for nothing but a refresh';
COMMENT ON COLUMN user_sessions.replaced_by IS 'The session that took its place: whoever still shows this token has stolen it, or was robbed';

CREATE TABLE api_keys (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL CONSTRAINT api_keys_user_fkey REFERENCES users (id),
    name text NOT NULL CONSTRAINT api_keys_name_length CHECK (length(name) BETWEEN 1 AND 100),
    key_hash bytea NOT NULL CONSTRAINT api_keys_key_key UNIQUE CONSTRAINT api_keys_key_sha256 CHECK (length(key_hash) = 32),
    key_start text NOT NULL CONSTRAINT api_keys_start_length CHECK (length(key_start) BETWEEN 4 AND 12),
    permissions text[] NOT NULL
        CONSTRAINT api_keys_permissions_some CHECK (cardinality(permissions) BETWEEN 1 AND 100 AND array_position(permissions, NULL) IS NULL),
    allowed_addresses cidr[] NOT NULL DEFAULT '{}'
        CONSTRAINT api_keys_addresses_few CHECK (cardinality(allowed_addresses) <= 100 AND array_position(allowed_addresses, NULL) IS NULL),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    last_used_at timestamptz,
    replaced_by uuid CONSTRAINT api_keys_replaced_by_fkey REFERENCES api_keys (id),
    revoked_at timestamptz,
    revoked_reason text CONSTRAINT api_keys_reason_length CHECK (length(revoked_reason) BETWEEN 1 AND 200),
    CONSTRAINT api_keys_lifetime CHECK (created_at < expires_at),
    CONSTRAINT api_keys_revocation_whole CHECK ((revoked_at IS NULL) = (revoked_reason IS NULL))
);
CREATE INDEX api_keys_user_idx ON api_keys (user_id, id);
CREATE INDEX api_keys_live_idx ON api_keys (user_id) WHERE revoked_at IS NULL;
CREATE TRIGGER api_keys_active_user BEFORE INSERT OR UPDATE OF user_id ON api_keys FOR EACH ROW EXECUTE FUNCTION require_active_user();
COMMENT ON TABLE api_keys IS 'Keys by which programs act for a user; stored as hashes only';
COMMENT ON COLUMN api_keys.id IS 'UUIDv7';
COMMENT ON COLUMN api_keys.user_id IS 'For whom it acts';
COMMENT ON COLUMN api_keys.name IS 'What the user calls it';
COMMENT ON COLUMN api_keys.key_hash IS 'SHA-256 of the key';
COMMENT ON COLUMN api_keys.key_start IS 'Its first characters, to tell keys apart';
COMMENT ON COLUMN api_keys.permissions IS 'What it may do, as far as the role of its user may';
COMMENT ON COLUMN api_keys.allowed_addresses IS 'Networks that it may be used from; none: all';
COMMENT ON COLUMN api_keys.created_at IS 'When it was made';
COMMENT ON COLUMN api_keys.expires_at IS 'When it ends';
COMMENT ON COLUMN api_keys.last_used_at IS 'When it was last used, to the minute';
COMMENT ON COLUMN api_keys.replaced_by IS 'The key that takes its place since a rotation';
COMMENT ON COLUMN api_keys.revoked_at IS 'When it was revoked';
COMMENT ON COLUMN api_keys.revoked_reason IS 'Why it was revoked';

CREATE FUNCTION check_permissions_exist() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE
    unknown text;
BEGIN
    SELECT wanted INTO unknown FROM unnest(NEW.permissions) AS wanted
    WHERE NOT EXISTS (SELECT FROM public.permissions p WHERE p.name = wanted) LIMIT 1;
    IF unknown IS NOT NULL THEN
        RAISE EXCEPTION 'there is no permission %', unknown
            USING ERRCODE = 'foreign_key_violation', CONSTRAINT = 'api_keys_permissions_exist', TABLE = 'api_keys';
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION check_permissions_exist() IS 'Trigger of api_keys: an array has no foreign keys of its own';
CREATE TRIGGER api_keys_permissions_exist BEFORE INSERT OR UPDATE OF permissions ON api_keys
    FOR EACH ROW EXECUTE FUNCTION check_permissions_exist();

CREATE FUNCTION refuse_revival() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION 'a row of % was revoked: it does not come back', TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME,
            HINT = 'Make a new one.';
END
$$;
COMMENT ON FUNCTION refuse_revival() IS 'Trigger of sessions and API keys: what is revoked stays so';
CREATE TRIGGER user_sessions_stay_revoked BEFORE UPDATE ON user_sessions FOR EACH ROW
    WHEN (OLD.revoked_at IS NOT NULL AND NEW.revoked_at IS NULL) EXECUTE FUNCTION refuse_revival();
CREATE TRIGGER api_keys_stay_revoked BEFORE UPDATE ON api_keys FOR EACH ROW
    WHEN (OLD.revoked_at IS NOT NULL AND NEW.revoked_at IS NULL) EXECUTE FUNCTION refuse_revival();

CREATE FUNCTION follow_user() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public
    AS $$
BEGIN
    IF NEW.status <> 'active' AND OLD.status = 'active' THEN
        UPDATE public.user_sessions SET revoked_at = now(), revoked_reason = 'user ' || NEW.status
        WHERE user_id = NEW.id AND revoked_at IS NULL;
        UPDATE public.api_keys SET revoked_at = now(), revoked_reason = 'user ' || NEW.status
        WHERE user_id = NEW.id AND revoked_at IS NULL;
    ELSIF NEW.role <> OLD.role THEN
        UPDATE public.user_sessions SET must_renew = true
        WHERE user_id = NEW.id AND revoked_at IS NULL AND NOT must_renew;
        PERFORM public.announce('api_key', encode(key_hash, 'hex')) FROM public.api_keys
        WHERE user_id = NEW.id AND revoked_at IS NULL AND expires_at > now();
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION follow_user() IS 'Trigger of users: a user who is not active has no sessions and keys; one with other rights renews';
REVOKE ALL ON FUNCTION follow_user() FROM PUBLIC;
CREATE TRIGGER users_sessions_follow AFTER UPDATE OF role, status ON users FOR EACH ROW
    WHEN (OLD.role <> NEW.role OR OLD.status <> NEW.status) EXECUTE FUNCTION follow_user();

CREATE TABLE sign_in_nonces (
    nonce_hash bytea PRIMARY KEY CONSTRAINT sign_in_nonces_sha256 CHECK (length(nonce_hash) = 32),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    CONSTRAINT sign_in_nonces_lifetime CHECK (expires_at > created_at AND expires_at <= created_at + interval '5 minutes')
);
CREATE INDEX sign_in_nonces_expiry_idx ON sign_in_nonces (expires_at);
COMMENT ON TABLE sign_in_nonces IS 'Nonces of sign-ins with a wallet; using one deletes it';
COMMENT ON COLUMN sign_in_nonces.nonce_hash IS 'SHA-256 of the nonce';
COMMENT ON COLUMN sign_in_nonces.created_at IS 'When it was given out';
COMMENT ON COLUMN sign_in_nonces.expires_at IS 'When it ends, five minutes later at most';

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
    placed_by text NOT NULL
        DEFAULT left(coalesce(nullif(current_setting('novadex.actor', true), ''), 'database:' || session_user), 200)
        CONSTRAINT orders_placed_by_length CHECK (length(placed_by) BETWEEN 1 AND 200),
    CONSTRAINT orders_market_fkey FOREIGN KEY (market_id, base_decimals, quote_decimals)
        REFERENCES markets (id, base_decimals, quote_decimals),
    CONSTRAINT orders_client_id_key UNIQUE (user_id, client_order_id),
    CONSTRAINT orders_quantity_positive CHECK (quantity > 0 AND scale(quantity) <= base_decimals),
    CONSTRAINT orders_not_over_filled CHECK (filled_quantity <= quantity AND scale(filled_quantity) <= base_decimals),
    CONSTRAINT orders_filled_status CHECK ((status = 'filled') = (filled_quantity = quantity)),
    CONSTRAINT orders_filled_agrees CHECK (
        CASE status
            WHEN 'partially_filled' THEN filled_quantity > 0
            WHEN 'cancelled' THEN true
            WHEN 'expired' THEN true
            WHEN 'filled' THEN true
            ELSE filled_quantity = 0
        END
    ),
    CONSTRAINT orders_limit_price CHECK ((price IS NOT NULL) = (type IN ('limit', 'stop_limit'))),
    CONSTRAINT orders_stop_price CHECK ((stop_price IS NOT NULL) = (type IN ('stop', 'stop_limit'))),
    CONSTRAINT orders_gtt_expires CHECK ((expires_at IS NOT NULL) = (time_in_force = 'gtt')),
    CONSTRAINT orders_post_only_rests CHECK (NOT post_only OR (type = 'limit' AND time_in_force IN ('gtc', 'gtt')))
);
CREATE INDEX orders_user_idx ON orders (user_id, id);
CREATE INDEX orders_market_idx ON orders (market_id, id);
CREATE INDEX orders_live_idx ON orders (market_id, id) WHERE status IN ('untriggered', 'open', 'partially_filled');
CREATE INDEX orders_live_of_user_idx ON orders (user_id, id) WHERE status IN ('untriggered', 'open', 'partially_filled');
CREATE INDEX orders_expiring_idx ON orders (expires_at) WHERE expires_at IS NOT NULL AND status IN ('untriggered', 'open', 'partially_filled');
CREATE INDEX orders_stops_idx ON orders (market_id, side, stop_price) WHERE status = 'untriggered';
ALTER TABLE orders ADD CONSTRAINT orders_expire_later CHECK (expires_at > created_at) NOT VALID;
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
COMMENT ON COLUMN orders.placed_by IS 'Who placed it, as the audit log names them';

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
    trade_id uuid,
    PRIMARY KEY (id),
    CONSTRAINT order_events_trade_known CHECK ((type IN ('filled', 'busted')) = (trade_id IS NOT NULL)),
    CONSTRAINT order_events_first CHECK ((type = 'placed') = (version = 1) AND (type = 'placed') = (id = order_id)),
    CONSTRAINT order_events_trade_once CHECK (trade_id = id),
    CONSTRAINT order_events_id_v7 CHECK (get_byte(uuid_send(id), 6) >> 4 = 7)
) PARTITION BY RANGE (id);
CREATE INDEX order_events_order_idx ON order_events (order_id, version);
CREATE INDEX order_events_market_idx ON order_events (market_id, market_sequence);
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
COMMENT ON COLUMN order_events.trade_id IS 'The execution that filled the order, or the row that undoes one; it is the event''s id, so that none fills twice';

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
    reverses uuid,
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
CREATE INDEX trades_reverses_idx ON trades (reverses) WHERE reverses IS NOT NULL;
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
COMMENT ON COLUMN trades.reverses IS 'The trade that this row undoes: the other side, the fee negated, the same time; one of each undoes the other';

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
    pool_id uuid NOT NULL,
    base_withdrawn amount NOT NULL DEFAULT 0,
    quote_withdrawn amount NOT NULL DEFAULT 0,
    source text CONSTRAINT liquidity_positions_source_form CHECK (source ~ '^[a-z0-9_-]{1,32}$'),
    source_position_id text CONSTRAINT liquidity_positions_source_id_length CHECK (length(source_position_id) BETWEEN 1 AND 128),
    CONSTRAINT liquidity_positions_source_whole CHECK ((source IS NULL) = (source_position_id IS NULL)),
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
COMMENT ON COLUMN liquidity_positions.pool_id IS 'The pool';
COMMENT ON COLUMN liquidity_positions.base_withdrawn IS 'Units of the base asset taken out again';
COMMENT ON COLUMN liquidity_positions.quote_withdrawn IS 'Units of the quote asset taken out again';
COMMENT ON COLUMN liquidity_positions.source IS 'The chain or venue that reported it';
COMMENT ON COLUMN liquidity_positions.source_position_id IS 'Its id there, such as the token of a position manager';

CREATE TABLE portfolio_snapshots (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL CONSTRAINT portfolio_snapshots_user_fkey REFERENCES users (id),
    taken_at timestamptz NOT NULL,
    valuation_asset_id integer NOT NULL CONSTRAINT portfolio_snapshots_asset_fkey REFERENCES assets (id),
    total_value valuation NOT NULL,
    holdings jsonb NOT NULL CONSTRAINT portfolio_snapshots_holdings_array CHECK (jsonb_typeof(holdings) = 'array'),
    net_transfers valuation NOT NULL DEFAULT 0,
    realized valuation NOT NULL DEFAULT 0,
    unrealized valuation NOT NULL DEFAULT 0,
    fees valuation NOT NULL DEFAULT 0,
    funding valuation NOT NULL DEFAULT 0,
    pool_value valuation NOT NULL DEFAULT 0,
    pool_profit valuation NOT NULL DEFAULT 0,
    positions jsonb NOT NULL DEFAULT '[]',
    xid xid8 NOT NULL DEFAULT '0',
    log_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    stale boolean NOT NULL DEFAULT false,
    CONSTRAINT portfolio_snapshots_adds_up
        CHECK (total_value = net_transfers + realized + unrealized - fees + funding + pool_profit),
    CONSTRAINT portfolio_snapshots_positions_array CHECK (jsonb_typeof(positions) = 'array'),
    CONSTRAINT portfolio_snapshots_once UNIQUE (user_id, taken_at)
);
COMMENT ON TABLE portfolio_snapshots IS 'What users held at a moment, and its value';
COMMENT ON COLUMN portfolio_snapshots.id IS 'UUIDv7';
COMMENT ON COLUMN portfolio_snapshots.user_id IS 'Whose portfolio it is';
COMMENT ON COLUMN portfolio_snapshots.taken_at IS 'The moment that it describes';
COMMENT ON COLUMN portfolio_snapshots.valuation_asset_id IS 'What the value is counted in';
COMMENT ON COLUMN portfolio_snapshots.total_value IS 'Value of all holdings';
COMMENT ON COLUMN portfolio_snapshots.holdings IS 'Per asset: amount, price and value, as strings';
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

CREATE TABLE notifications (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL CONSTRAINT notifications_user_fkey REFERENCES users (id),
    kind text NOT NULL CONSTRAINT notifications_kind_form CHECK (kind ~ '^[a-z][a-z0-9_]{0,63}$'),
    title text NOT NULL CONSTRAINT notifications_title_length CHECK (length(title) BETWEEN 1 AND 200),
    body text NOT NULL CONSTRAINT notifications_body_length CHECK (length(body) <= 10000),
    data jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    read_at timestamptz,
    cause_id text NOT NULL CONSTRAINT notifications_cause_length CHECK (length(cause_id) BETWEEN 1 AND 200),
    in_app boolean NOT NULL DEFAULT true,
    CONSTRAINT notifications_once UNIQUE (user_id, kind, cause_id),
    CONSTRAINT notifications_data_size CHECK (length(data::text) <= 16384)
);
CREATE INDEX notifications_user_idx ON notifications (user_id, id);
CREATE INDEX notifications_unread_idx ON notifications (user_id, id) WHERE in_app AND read_at IS NULL;
COMMENT ON TABLE notifications IS 'What users are told';
COMMENT ON COLUMN notifications.id IS 'UUIDv7';
COMMENT ON COLUMN notifications.user_id IS 'Who is told';
COMMENT ON COLUMN notifications.kind IS 'What it is about, such as order_filled';
COMMENT ON COLUMN notifications.title IS 'First line';
COMMENT ON COLUMN notifications.body IS 'Text';
COMMENT ON COLUMN notifications.data IS 'What a program needs of it';
COMMENT ON COLUMN notifications.created_at IS 'When it was made';
COMMENT ON COLUMN notifications.read_at IS 'When the user read it';
COMMENT ON COLUMN notifications.cause_id IS 'What caused it, such as an event: the same cause is told once';
COMMENT ON COLUMN notifications.in_app IS 'Whether the user sees it in the app; else it is there for its deliveries';

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

-- Changes are announced -----------------------------------------------------------------------------------
-- At commit every process that caches hears NAMESPACE TRANSACTION KEY, and drops what it read before that
-- transaction was visible. PostgreSQL lets every role listen and notify, so only the channel's name, which cannot
-- be guessed, keeps others from hearing whose records change, and from announcing what never happened.

CREATE TABLE change_channel (
    only_row boolean PRIMARY KEY DEFAULT true CONSTRAINT change_channel_one_row CHECK (only_row),
    name text NOT NULL DEFAULT 'novadex_' || replace(gen_random_uuid()::text, '-', '')
        CONSTRAINT change_channel_random CHECK (name ~ '^novadex_[0-9a-f]{32}$')
);
INSERT INTO change_channel DEFAULT VALUES;
COMMENT ON TABLE change_channel IS 'One row: where changes are announced';
COMMENT ON COLUMN change_channel.only_row IS 'Always true: there is one row';
COMMENT ON COLUMN change_channel.name IS 'A secret of this database; whoever changes it stops every program before, for they listen on the old one';

CREATE FUNCTION read_mark() RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT pg_current_snapshot()::text || '@' || (extract(epoch FROM statement_timestamp()) * 1000000)::bigint::text $$;
COMMENT ON FUNCTION read_mark() IS 'What the statement that asks sees, and when it began: caches keep it with what they read';

CREATE FUNCTION announce(namespace text, key text) RETURNS void
    LANGUAGE sql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, public
    AS $$ SELECT pg_notify(name, namespace || ' ' || pg_current_xact_id()::text || ' ' || key) FROM public.change_channel $$;
COMMENT ON FUNCTION announce(text, text) IS 'Tells every cache at commit that a record changed';
REVOKE ALL ON FUNCTION announce(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION announce(text, text) TO novadex_app, novadex_worker;

CREATE FUNCTION listen_to_changes() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public
    AS $$
BEGIN
    EXECUTE format('LISTEN %I', (SELECT name FROM public.change_channel));
END
$$;
COMMENT ON FUNCTION listen_to_changes() IS 'From its commit on, the connection hears what is announced';
REVOKE ALL ON FUNCTION listen_to_changes() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION listen_to_changes() TO novadex_app, novadex_worker;

CREATE FUNCTION announce_user() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM announce('user', OLD.id::text);
        IF OLD.username IS NOT NULL AND (TG_OP = 'DELETE' OR OLD.username IS DISTINCT FROM NEW.username) THEN
            PERFORM announce('username', OLD.username);
        END IF;
        IF OLD.email_index IS NOT NULL AND (TG_OP = 'DELETE' OR OLD.email_index IS DISTINCT FROM NEW.email_index) THEN
            PERFORM announce('email', encode(OLD.email_index, 'hex'));
        END IF;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        IF TG_OP = 'INSERT' THEN
            PERFORM announce('user', NEW.id::text);
        END IF;
        IF NEW.username IS NOT NULL AND (TG_OP = 'INSERT' OR OLD.username IS DISTINCT FROM NEW.username) THEN
            PERFORM announce('username', NEW.username);
        END IF;
        IF NEW.email_index IS NOT NULL AND (TG_OP = 'INSERT' OR OLD.email_index IS DISTINCT FROM NEW.email_index) THEN
            PERFORM announce('email', encode(NEW.email_index, 'hex'));
        END IF;
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION announce_user() IS 'Trigger of users';
CREATE TRIGGER users_announce AFTER INSERT OR UPDATE OR DELETE ON users FOR EACH ROW EXECUTE FUNCTION announce_user();

CREATE FUNCTION announce_wallet() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM announce('wallet', OLD.chain || ':' || OLD.address);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        PERFORM announce('wallet', NEW.chain || ':' || NEW.address);
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION announce_wallet() IS 'Trigger of wallets';
CREATE TRIGGER wallets_announce AFTER INSERT OR UPDATE OR DELETE ON wallets FOR EACH ROW EXECUTE FUNCTION announce_wallet();

CREATE FUNCTION announce_user_key() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM announce('user', OLD.user_id::text);
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION announce_user_key() IS 'Trigger of user_keys';
CREATE TRIGGER user_keys_announce AFTER UPDATE OR DELETE ON user_keys FOR EACH ROW EXECUTE FUNCTION announce_user_key();

CREATE FUNCTION announce_session() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM announce('session', encode(OLD.token_hash, 'hex'));
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION announce_session() IS 'Trigger of user_sessions; nobody can have asked for a token before it was made';
CREATE TRIGGER user_sessions_announce AFTER UPDATE ON user_sessions FOR EACH ROW
    WHEN ((OLD.revoked_at, OLD.revoked_reason, OLD.must_renew, OLD.replaced_by, OLD.expires_at, OLD.authenticated_at, OLD.token_hash, OLD.user_id)
          IS DISTINCT FROM
          (NEW.revoked_at, NEW.revoked_reason, NEW.must_renew, NEW.replaced_by, NEW.expires_at, NEW.authenticated_at, NEW.token_hash, NEW.user_id)
          OR NEW.idle_expires_at < OLD.idle_expires_at)
    EXECUTE FUNCTION announce_session();
CREATE TRIGGER user_sessions_announce_deletion AFTER DELETE ON user_sessions FOR EACH ROW EXECUTE FUNCTION announce_session();

CREATE FUNCTION announce_api_key() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM announce('api_key', encode(OLD.key_hash, 'hex'));
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION announce_api_key() IS 'Trigger of api_keys; nobody can have asked for a key before it was made';
CREATE TRIGGER api_keys_announce AFTER UPDATE ON api_keys FOR EACH ROW
    WHEN ((OLD.revoked_at, OLD.revoked_reason, OLD.replaced_by, OLD.expires_at, OLD.permissions, OLD.allowed_addresses, OLD.key_hash, OLD.user_id)
          IS DISTINCT FROM
          (NEW.revoked_at, NEW.revoked_reason, NEW.replaced_by, NEW.expires_at, NEW.permissions, NEW.allowed_addresses, NEW.key_hash, NEW.user_id))
    EXECUTE FUNCTION announce_api_key();
CREATE TRIGGER api_keys_announce_deletion AFTER DELETE ON api_keys FOR EACH ROW EXECUTE FUNCTION announce_api_key();

CREATE FUNCTION announce_roles() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM announce('roles', 'all');
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION announce_roles() IS 'Trigger of roles and role_permissions';
CREATE TRIGGER roles_announce AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON roles
    FOR EACH STATEMENT EXECUTE FUNCTION announce_roles();
CREATE TRIGGER role_permissions_announce AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON role_permissions
    FOR EACH STATEMENT EXECUTE FUNCTION announce_roles();

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

-- One user's rows -----------------------------------------------------------------------------------------

CREATE FUNCTION current_user_id() RETURNS uuid
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT nullif(current_setting('novadex.user_id', true), '')::uuid $$;
COMMENT ON FUNCTION current_user_id() IS 'The user that this transaction acts for; none outside one';

CREATE FUNCTION protect_rows() RETURNS void
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
COMMENT ON FUNCTION protect_rows() IS 'Row-level security for novadex_user on every table with rows of users; can be run again';
REVOKE ALL ON FUNCTION protect_rows() FROM PUBLIC;

CREATE FUNCTION refuse_truncate() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: TRUNCATE refused', TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation', HINT = 'Write a compensating row instead.';
END
$$;
COMMENT ON FUNCTION refuse_truncate() IS 'Trigger of tables that are never emptied';

-- What waits to be sealed, and the chain ------------------------------------------------------------------

CREATE TABLE audit_pending (
    audit_id bigint PRIMARY KEY,
    row_hash bytea NOT NULL CONSTRAINT audit_pending_sha256 CHECK (length(row_hash) = 32)
);
COMMENT ON TABLE audit_pending IS 'Rows of audit_log that are not in the chain yet, as they were when they were written';
COMMENT ON COLUMN audit_pending.audit_id IS 'The row';
COMMENT ON COLUMN audit_pending.row_hash IS 'SHA-256 of the row';

CREATE TABLE audit_chain (
    position bigint PRIMARY KEY CONSTRAINT audit_chain_position_positive CHECK (position > 0),
    audit_id bigint NOT NULL CONSTRAINT audit_chain_audit_key UNIQUE,
    row_hash bytea NOT NULL CONSTRAINT audit_chain_row_sha256 CHECK (length(row_hash) = 32),
    chain_hash bytea NOT NULL CONSTRAINT audit_chain_chain_sha256 CHECK (length(chain_hash) = 32)
);
CREATE TRIGGER audit_chain_append_only BEFORE UPDATE OR DELETE ON audit_chain FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_chain_never_emptied BEFORE TRUNCATE ON audit_chain FOR EACH STATEMENT EXECUTE FUNCTION refuse_truncate();
CREATE TRIGGER audit_log_never_emptied BEFORE TRUNCATE ON audit_log FOR EACH STATEMENT EXECUTE FUNCTION refuse_truncate();
COMMENT ON TABLE audit_chain IS 'The hash chain over audit_log, append-only; its head is kept outside the database';
COMMENT ON COLUMN audit_chain.position IS 'Place in the chain, from 1 without a gap';
COMMENT ON COLUMN audit_chain.audit_id IS 'The row of audit_log';
COMMENT ON COLUMN audit_chain.row_hash IS 'SHA-256 of the row as it was written';
COMMENT ON COLUMN audit_chain.chain_hash IS 'SHA-256 of the chain hash before it, the position, the row''s id and its hash';

CREATE FUNCTION audit_row_hash(entry audit_log) RETURNS bytea
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$
    SELECT sha256(convert_to(
        concat_ws(',', entry.id::text, (extract(epoch FROM entry.occurred_at) * 1000000)::bigint::text, entry.xid::text,
            length(entry.actor), entry.actor, length(entry.action), entry.action, length(entry.subject), entry.subject,
            length(entry.detail::text), entry.detail::text, length(entry.database_role), entry.database_role), 'UTF8'))
    $$;
COMMENT ON FUNCTION audit_row_hash(audit_log) IS 'SHA-256 of all columns of a row, texts with their lengths';

CREATE FUNCTION queue_for_sealing() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public
    AS $$
BEGIN
    INSERT INTO public.audit_pending (audit_id, row_hash) VALUES (NEW.id, public.audit_row_hash(NEW));
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION queue_for_sealing() IS 'Trigger of audit_log: remembers the row as it was written';
REVOKE ALL ON FUNCTION queue_for_sealing() FROM PUBLIC;
CREATE TRIGGER audit_log_queue AFTER INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION queue_for_sealing();

CREATE INDEX audit_log_actor_idx ON audit_log (actor, id);
CREATE INDEX audit_log_subject_idx ON audit_log (subject, id);
CREATE INDEX audit_log_action_idx ON audit_log (action, id);

CREATE FUNCTION seal_audit(rows_max integer, OUT taken integer, OUT added integer, OUT "position" bigint, OUT chain_hash bytea)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public
    AS $$
DECLARE
    waiting bigint[];
    new_ids bigint[];
    new_hashes bytea[];
    links bytea[] := '{}';
    first_position bigint;
    -- No chain gets as far as 2^62: a link there was put in, and nothing is appended to it.
    positions_end CONSTANT bigint := 4611686018427387904;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('novadex audit chain', 0));
    SELECT c.position, c.chain_hash INTO seal_audit.position, seal_audit.chain_hash FROM public.audit_chain c
    WHERE c.position < positions_end ORDER BY c.position DESC LIMIT 1;
    "position" := coalesce("position", 0);
    chain_hash := coalesce(chain_hash, decode(repeat('00', 32), 'hex'));
    first_position := "position" + 1;
    -- What is in the chain already was put back among what waits.
    SELECT array_agg(p.audit_id), array_agg(p.audit_id ORDER BY p.audit_id) FILTER (WHERE NOT p.sealed),
        array_agg(p.row_hash ORDER BY p.audit_id) FILTER (WHERE NOT p.sealed)
    INTO waiting, new_ids, new_hashes
    FROM (SELECT p.audit_id, p.row_hash, EXISTS (SELECT FROM public.audit_chain c WHERE c.audit_id = p.audit_id) AS sealed
        FROM public.audit_pending p ORDER BY p.audit_id LIMIT rows_max) AS p;
    taken := coalesce(cardinality(waiting), 0);
    added := coalesce(cardinality(new_ids), 0);
    IF added > 0 AND "position" + added >= positions_end THEN
        RAISE EXCEPTION 'link % is where no chain gets, it was put in', "position"
            USING ERRCODE = 'integrity_constraint_violation', HINT = 'Nothing is sealed until it is deleted, by a superuser with triggers off.';
    END IF;
    FOR number IN 1..added LOOP
        "position" := "position" + 1;
        chain_hash := sha256(chain_hash || int8send("position") || int8send(new_ids[number]) || new_hashes[number]);
        links[number] := chain_hash;
    END LOOP;
    INSERT INTO public.audit_chain (position, audit_id, row_hash, chain_hash)
    SELECT first_position + n - 1, new_ids[n], new_hashes[n], links[n] FROM generate_series(1, added) AS n;
    DELETE FROM public.audit_pending WHERE audit_id = ANY(waiting);
END
$$;
COMMENT ON FUNCTION seal_audit(integer) IS 'Appends what waits to the chain, the only way to write there; tells how many rows it took, how many it appended, and where the chain ends';
REVOKE ALL ON FUNCTION seal_audit(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION seal_audit(integer) TO novadex_app, novadex_worker;

-- Changes are written down --------------------------------------------------------------------------------

CREATE FUNCTION audit_change() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public
    AS $$
DECLARE
    said text := nullif(current_setting('novadex.actor', true), '');
    -- Services say for whom they act. Whoever else says so did it themselves.
    by_service boolean := (SELECT NOT rolsuper FROM pg_roles WHERE rolname = session_user)
        AND (pg_has_role(session_user, 'novadex_app', 'MEMBER') OR pg_has_role(session_user, 'novadex_worker', 'MEMBER'));
    actor text := coalesce(CASE WHEN by_service THEN said END, 'database:' || session_user);
    before jsonb := '{}';
    after jsonb := '{}';
    changed jsonb;
    detail jsonb;
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        INSERT INTO public.audit_log (actor, action, subject) VALUES (left(actor, 200), TG_TABLE_NAME || '.emptied', 'table:' || TG_TABLE_NAME);
        RETURN NULL;
    END IF;
    IF TG_OP <> 'INSERT' THEN
        before := to_jsonb(OLD);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        after := to_jsonb(NEW);
    END IF;
    IF TG_OP = 'UPDATE' THEN
        SELECT jsonb_agg(key ORDER BY key) INTO changed FROM jsonb_each(after)
        WHERE value IS DISTINCT FROM before -> key AND key NOT IN ('version', 'updated_at', 'last_used_at', 'idle_expires_at');
        IF changed IS NULL THEN
            RETURN NULL;
        END IF;
        detail := jsonb_build_object('changed', changed);
    ELSE
        detail := '{}';
    END IF;
    -- Values only of the columns that the trigger names: neither personal data nor secrets.
    SELECT detail
        || coalesce(jsonb_build_object('before', jsonb_object_agg(name, before -> name)
            FILTER (WHERE before ? name AND before -> name <> 'null' AND (TG_OP = 'DELETE' OR before -> name IS DISTINCT FROM after -> name))), '{}')
        || coalesce(jsonb_build_object('after', jsonb_object_agg(name, after -> name)
            FILTER (WHERE after ? name AND after -> name <> 'null' AND (TG_OP = 'INSERT' OR before -> name IS DISTINCT FROM after -> name))), '{}')
    INTO detail FROM unnest(TG_ARGV[2:]) AS name;
    INSERT INTO public.audit_log (actor, action, subject, detail) VALUES (
        left(actor, 200),
        TG_TABLE_NAME || '.' || CASE TG_OP WHEN 'INSERT' THEN 'created' WHEN 'UPDATE' THEN 'updated' ELSE 'deleted' END,
        TG_ARGV[0] || ':' || coalesce(after ->> TG_ARGV[1], before ->> TG_ARGV[1]),
        jsonb_strip_nulls(detail || jsonb_build_object('from', left(nullif(current_setting('novadex.origin', true), ''), 200),
            'said', CASE WHEN NOT by_service THEN left(said, 200) END)));
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION audit_change() IS 'Trigger of everything that is audited: subject, its key, and the columns whose values are written down';
REVOKE ALL ON FUNCTION audit_change() FROM PUBLIC;

CREATE TRIGGER users_audit AFTER INSERT OR UPDATE OR DELETE ON users FOR EACH ROW
    EXECUTE FUNCTION audit_change('user', 'id', 'kind', 'role', 'status');
CREATE TRIGGER wallets_audit AFTER INSERT OR UPDATE OR DELETE ON wallets FOR EACH ROW
    EXECUTE FUNCTION audit_change('wallet', 'id', 'user_id', 'chain', 'is_primary');
CREATE TRIGGER user_sessions_audit AFTER INSERT OR DELETE OR UPDATE OF id, user_id, family_id, token_hash, device, address, expires_at,
    revoked_at, revoked_reason, method, authenticated_at, must_renew, replaced_by ON user_sessions FOR EACH ROW
    EXECUTE FUNCTION audit_change('session', 'id', 'user_id', 'family_id', 'method', 'expires_at', 'revoked_reason', 'must_renew', 'replaced_by');
CREATE TRIGGER api_keys_audit AFTER INSERT OR DELETE OR UPDATE OF id, user_id, name, key_hash, key_start, permissions, allowed_addresses,
    expires_at, replaced_by, revoked_at, revoked_reason ON api_keys FOR EACH ROW
    EXECUTE FUNCTION audit_change('api_key', 'id', 'user_id', 'permissions', 'expires_at', 'replaced_by', 'revoked_reason');
CREATE TRIGGER roles_audit AFTER INSERT OR UPDATE OR DELETE ON roles FOR EACH ROW
    EXECUTE FUNCTION audit_change('role', 'name');
CREATE TRIGGER permissions_audit AFTER INSERT OR UPDATE OR DELETE ON permissions FOR EACH ROW
    EXECUTE FUNCTION audit_change('permission', 'name');
CREATE TRIGGER role_permissions_audit AFTER INSERT OR UPDATE OR DELETE ON role_permissions FOR EACH ROW
    EXECUTE FUNCTION audit_change('role', 'role', 'permission');
CREATE TRIGGER master_keys_audit AFTER INSERT OR UPDATE OR DELETE ON master_keys FOR EACH ROW
    EXECUTE FUNCTION audit_change('master_key', 'version', 'retired_at');
CREATE TRIGGER system_keys_audit AFTER INSERT OR UPDATE OR DELETE ON system_keys FOR EACH ROW
    EXECUTE FUNCTION audit_change('system_key', 'name', 'master_version');
CREATE TRIGGER user_keys_audit AFTER INSERT OR UPDATE OR DELETE ON user_keys FOR EACH ROW
    EXECUTE FUNCTION audit_change('user', 'user_id', 'master_version');
CREATE TRIGGER erasures_audit AFTER INSERT OR UPDATE OR DELETE ON erasures FOR EACH ROW
    EXECUTE FUNCTION audit_change('user', 'user_id');
CREATE TRIGGER recovery_epoch_audit AFTER INSERT OR UPDATE OR DELETE ON recovery_epoch FOR EACH ROW
    EXECUTE FUNCTION audit_change('epoch', 'epoch', 'epoch', 'reason');
CREATE TRIGGER assets_audit AFTER INSERT OR UPDATE OR DELETE ON assets FOR EACH ROW
    EXECUTE FUNCTION audit_change('asset', 'symbol', 'decimals', 'name');
CREATE TRIGGER markets_audit AFTER INSERT OR UPDATE OR DELETE ON markets FOR EACH ROW
    EXECUTE FUNCTION audit_change('market', 'symbol', 'status', 'base_decimals', 'quote_decimals', 'tick_size', 'lot_size');

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['users', 'wallets', 'user_sessions', 'api_keys', 'roles', 'permissions', 'role_permissions',
        'master_keys', 'system_keys', 'user_keys', 'erasures', 'recovery_epoch', 'assets', 'markets'] LOOP
        EXECUTE format('CREATE TRIGGER %I AFTER TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION audit_change()', name || '_audit_emptied', name);
    END LOOP;
END
$$;

-- Markets and orders are guarded -------------------------------------------------------------------------------------------------

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

-- Not before there are partitions: so it is as in a database that had rows without a reason.
ALTER TABLE order_events ADD CONSTRAINT order_events_rejected_why CHECK (type <> 'rejected' OR reason IS NOT NULL AND reason <> '') NOT VALID;

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

-- Liquidity -----------------------------------------------------------------------------------------------

CREATE DOMAIN int256 AS numeric
    CONSTRAINT int256_in_range CHECK (VALUE >= -57896044618658097711785492504343953926634992332820282019728792003956564819968
        AND VALUE < 57896044618658097711785492504343953926634992332820282019728792003956564819968)
    CONSTRAINT int256_whole CHECK (scale(VALUE) = 0);
COMMENT ON DOMAIN int256 IS 'A whole number of 256 bits with a sign, as contracts on a chain count';

CREATE TABLE pools (
    id uuid PRIMARY KEY,
    market_id integer NOT NULL CONSTRAINT pools_market_fkey REFERENCES markets (id),
    kind text NOT NULL CONSTRAINT pools_kind_known CHECK (kind IN ('constant_product', 'concentrated')),
    address text NOT NULL CONSTRAINT pools_address_key UNIQUE
        CONSTRAINT pools_address_length CHECK (length(address) BETWEEN 1 AND 128),
    fee_ppm integer NOT NULL CONSTRAINT pools_fee_range CHECK (fee_ppm BETWEEN 0 AND 999999),
    tick_spacing integer CONSTRAINT pools_tick_spacing_range CHECK (tick_spacing BETWEEN 1 AND 32767),
    base_is_token0 boolean NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pools_identity_key UNIQUE (id, market_id, kind),
    CONSTRAINT pools_ticks_whole CHECK ((kind = 'concentrated') = (tick_spacing IS NOT NULL))
);
COMMENT ON TABLE pools IS 'Pools that liquidity is provided to; what one is never changes';
COMMENT ON COLUMN pools.id IS 'UUIDv7';
COMMENT ON COLUMN pools.market_id IS 'The pair that it exchanges';
COMMENT ON COLUMN pools.kind IS 'constant_product (x * y = k) or concentrated (by ticks, as Uniswap v3)';
COMMENT ON COLUMN pools.address IS 'Its address on the chain, or a name';
COMMENT ON COLUMN pools.fee_ppm IS 'Millionths of what is paid in that go to the providers: 500 is 0.05 %';
COMMENT ON COLUMN pools.tick_spacing IS 'Ticks of positions are multiples of it';
COMMENT ON COLUMN pools.base_is_token0 IS 'Whether the base asset of the market is the token 0 of the pool';
COMMENT ON COLUMN pools.created_at IS 'When the pool was added';
COMMENT ON CONSTRAINT pools_identity_key ON pools IS 'Lets positions carry market and kind under a foreign key';
CREATE TRIGGER pools_append_only BEFORE UPDATE OR DELETE ON pools FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER pools_audit AFTER INSERT OR UPDATE OR DELETE ON pools FOR EACH ROW
    EXECUTE FUNCTION audit_change('pool', 'address', 'market_id', 'kind', 'fee_ppm', 'tick_spacing', 'base_is_token0');
CREATE TRIGGER pools_audit_emptied AFTER TRUNCATE ON pools FOR EACH STATEMENT EXECUTE FUNCTION audit_change();

ALTER TABLE liquidity_positions ADD CONSTRAINT liquidity_positions_pool_fkey FOREIGN KEY (pool_id, market_id, kind)
    REFERENCES pools (id, market_id, kind);
CREATE UNIQUE INDEX liquidity_positions_source_key ON liquidity_positions (source, source_position_id) WHERE source IS NOT NULL;
CREATE INDEX liquidity_positions_pool_idx ON liquidity_positions (pool_id, id);

CREATE TABLE liquidity_events (
    id uuid PRIMARY KEY,
    position_id uuid NOT NULL CONSTRAINT liquidity_events_position_fkey REFERENCES liquidity_positions (id),
    version bigint NOT NULL CONSTRAINT liquidity_events_version_positive CHECK (version > 0),
    user_id uuid NOT NULL CONSTRAINT liquidity_events_user_fkey REFERENCES users (id),
    market_id integer NOT NULL CONSTRAINT liquidity_events_market_fkey REFERENCES markets (id),
    type text NOT NULL
        CONSTRAINT liquidity_events_type_known CHECK (type IN ('opened', 'increased', 'decreased', 'collected', 'closed')),
    liquidity uint256 NOT NULL,
    base_amount amount NOT NULL,
    quote_amount amount NOT NULL,
    base_fees amount NOT NULL DEFAULT 0,
    quote_fees amount NOT NULL DEFAULT 0,
    executed_at timestamptz NOT NULL,
    sequence bigint,
    source text CONSTRAINT liquidity_events_source_form CHECK (source ~ '^[a-z0-9_-]{1,32}$'),
    source_event_id text CONSTRAINT liquidity_events_source_id_length CHECK (length(source_event_id) BETWEEN 1 AND 128),
    actor text NOT NULL
        DEFAULT left(coalesce(nullif(current_setting('novadex.actor', true), ''), 'database:' || session_user), 200)
        CONSTRAINT liquidity_events_actor_length CHECK (length(actor) BETWEEN 1 AND 200),
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    recorded_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT liquidity_events_once UNIQUE (position_id, version),
    CONSTRAINT liquidity_events_id_v7 CHECK (get_byte(uuid_send(id), 6) >> 4 = 7),
    CONSTRAINT liquidity_events_id_time CHECK (uuid_time_ms(id) = floor(extract(epoch FROM executed_at) * 1000)),
    CONSTRAINT liquidity_events_source_whole CHECK ((source IS NULL) = (source_event_id IS NULL)),
    CONSTRAINT liquidity_events_first CHECK ((type = 'opened') = (version = 1) AND (type = 'opened') = (id = position_id)),
    CONSTRAINT liquidity_events_last CHECK ((type = 'closed') = (liquidity = 0)),
    CONSTRAINT liquidity_events_amounts CHECK (
        CASE type
            WHEN 'opened' THEN base_fees = 0 AND quote_fees = 0
            WHEN 'increased' THEN base_fees = 0 AND quote_fees = 0
            WHEN 'collected' THEN base_amount = 0 AND quote_amount = 0
            ELSE true
        END
    )
);
CREATE UNIQUE INDEX liquidity_events_source_key ON liquidity_events (source, source_event_id) WHERE source IS NOT NULL;
CREATE INDEX liquidity_events_user_idx ON liquidity_events (user_id, id);
CREATE INDEX liquidity_events_log_idx ON liquidity_events (xid, id);
COMMENT ON TABLE liquidity_events IS 'Every change of every liquidity position, append-only; the position follows its events';
COMMENT ON COLUMN liquidity_events.id IS 'UUIDv7 whose time is executed_at; of the first event that of its position';
COMMENT ON COLUMN liquidity_events.position_id IS 'The position';
COMMENT ON COLUMN liquidity_events.version IS 'Number of the event within its position';
COMMENT ON COLUMN liquidity_events.user_id IS 'Whose position it is';
COMMENT ON COLUMN liquidity_events.market_id IS 'The pair of the pool';
COMMENT ON COLUMN liquidity_events.type IS 'opened, increased, decreased, collected (fees only) or closed';
COMMENT ON COLUMN liquidity_events.liquidity IS 'Liquidity of the position after it, in the pool''s own unit';
COMMENT ON COLUMN liquidity_events.base_amount IS 'Units of the base asset that were put in, or taken out by decreased and closed';
COMMENT ON COLUMN liquidity_events.quote_amount IS 'Units of the quote asset that were put in or taken out';
COMMENT ON COLUMN liquidity_events.base_fees IS 'Fees in the base asset that were collected with it';
COMMENT ON COLUMN liquidity_events.quote_fees IS 'Fees in the quote asset that were collected with it';
COMMENT ON COLUMN liquidity_events.executed_at IS 'When it happened, by the clock of the venue or chain';
COMMENT ON COLUMN liquidity_events.sequence IS 'Order within one moment, given by the source';
COMMENT ON COLUMN liquidity_events.source IS 'The chain or venue that reported it';
COMMENT ON COLUMN liquidity_events.source_event_id IS 'Its id there, such as transaction and log index';
COMMENT ON COLUMN liquidity_events.actor IS 'Who recorded it, as the audit log names them';
COMMENT ON COLUMN liquidity_events.xid IS 'Transaction that wrote it: the table is its own log';
COMMENT ON COLUMN liquidity_events.recorded_at IS 'When it was written here';
CREATE TRIGGER liquidity_events_append_only BEFORE UPDATE OR DELETE ON liquidity_events FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER liquidity_events_never_emptied BEFORE TRUNCATE ON liquidity_events FOR EACH STATEMENT EXECUTE FUNCTION refuse_truncate();

CREATE FUNCTION open_positions() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public
    AS $$
DECLARE
    wrong record;
BEGIN
    SELECT a.id, p.address INTO wrong
    FROM added a JOIN public.pools p ON p.id = a.pool_id JOIN public.users u ON u.id = a.user_id
    JOIN public.markets m ON m.id = a.market_id
    WHERE a.version <> 1 OR a.status <> 'open' OR a.liquidity = 0 OR u.status <> 'active'
        OR a.base_fees <> 0 OR a.quote_fees <> 0 OR a.base_withdrawn <> 0 OR a.quote_withdrawn <> 0
        OR a.tick_lower % p.tick_spacing <> 0 OR a.tick_upper % p.tick_spacing <> 0
        OR a.tick_lower < -887272 OR a.tick_upper > 887272
        OR scale(trim_scale(a.base_amount)) > m.base_decimals OR scale(trim_scale(a.quote_amount)) > m.quote_decimals
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'position % cannot be opened in pool % as it is', wrong.id, wrong.address
            USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME,
                HINT = 'It begins with version 1, liquidity above 0, no fees, ticks of the pool, whole units, an active user.';
    END IF;
    INSERT INTO public.liquidity_events (id, position_id, version, user_id, market_id, type, liquidity, base_amount,
        quote_amount, executed_at, source, source_event_id)
    SELECT id, id, 1, user_id, market_id, 'opened', liquidity, base_amount, quote_amount, opened_at, source, source_position_id
    FROM added ORDER BY id;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION open_positions() IS 'Trigger of liquidity_positions: what is opened is allowed, and has its first event, whose id is the position''s';
REVOKE ALL ON FUNCTION open_positions() FROM PUBLIC;
CREATE TRIGGER liquidity_positions_open AFTER INSERT ON liquidity_positions REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION open_positions();

CREATE FUNCTION follow_liquidity() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public
    AS $$
DECLARE
    wrong record;
BEGIN
    -- First events come from open_positions() only: their id is the position's, so there is no second one.
    IF NOT EXISTS (SELECT FROM added WHERE type <> 'opened') THEN
        RETURN NULL;
    END IF;
    PERFORM FROM public.liquidity_positions WHERE id IN (SELECT position_id FROM added) ORDER BY id FOR UPDATE;
    SELECT e.position_id, e.version, e.type, e.from_liquidity, e.liquidity INTO wrong
    FROM (
        SELECT a.*, p.version AS known, p.opened_at, p.user_id AS owner, p.market_id AS market_of_position, p.status AS from_status,
            m.base_decimals, m.quote_decimals,
            row_number() OVER chain AS place,
            lag(a.type, 1, 'opened') OVER chain AS from_type,
            lag(a.liquidity, 1, p.liquidity) OVER chain AS from_liquidity
        FROM added a LEFT JOIN public.liquidity_positions p ON p.id = a.position_id LEFT JOIN public.markets m ON m.id = p.market_id
        WINDOW chain AS (PARTITION BY a.position_id ORDER BY a.version)
    ) AS e
    WHERE (
        e.version = e.known + e.place AND e.from_status = 'open' AND e.from_type <> 'closed'
        AND e.user_id = e.owner AND e.market_id = e.market_of_position AND e.executed_at >= e.opened_at
        AND CASE e.type
            WHEN 'increased' THEN e.liquidity > e.from_liquidity
            WHEN 'decreased' THEN e.liquidity < e.from_liquidity
            WHEN 'collected' THEN e.liquidity = e.from_liquidity
            WHEN 'closed' THEN e.from_liquidity > 0
        END
        AND scale(trim_scale(e.base_amount)) <= e.base_decimals AND scale(trim_scale(e.base_fees)) <= e.base_decimals
        AND scale(trim_scale(e.quote_amount)) <= e.quote_decimals AND scale(trim_scale(e.quote_fees)) <= e.quote_decimals
    ) IS NOT TRUE
    ORDER BY e.position_id, e.version
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'position % cannot be % as version %: liquidity from % to %, or its owner, its time or its amounts do not agree',
            wrong.position_id, wrong.type, wrong.version, coalesce(wrong.from_liquidity::text, 'nothing'), wrong.liquidity
            USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME,
                HINT = 'An open position goes on with its next version; closed is the last one.';
    END IF;
    UPDATE public.liquidity_positions p SET
        liquidity = e.liquidity, version = e.version,
        base_amount = p.base_amount + e.base_in, quote_amount = p.quote_amount + e.quote_in,
        base_withdrawn = p.base_withdrawn + e.base_out, quote_withdrawn = p.quote_withdrawn + e.quote_out,
        base_fees = p.base_fees + e.base_fees, quote_fees = p.quote_fees + e.quote_fees,
        status = CASE WHEN e.closed_at IS NULL THEN 'open' ELSE 'closed' END, closed_at = e.closed_at
    FROM (
        SELECT position_id, max(version) AS version,
            (array_agg(liquidity ORDER BY version DESC))[1] AS liquidity,
            max(executed_at) FILTER (WHERE type = 'closed') AS closed_at,
            coalesce(sum(base_amount) FILTER (WHERE type = 'increased'), 0) AS base_in,
            coalesce(sum(quote_amount) FILTER (WHERE type = 'increased'), 0) AS quote_in,
            coalesce(sum(base_amount) FILTER (WHERE type IN ('decreased', 'closed')), 0) AS base_out,
            coalesce(sum(quote_amount) FILTER (WHERE type IN ('decreased', 'closed')), 0) AS quote_out,
            sum(base_fees) AS base_fees, sum(quote_fees) AS quote_fees
        FROM added GROUP BY position_id
    ) AS e
    WHERE p.id = e.position_id;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION follow_liquidity() IS 'Trigger of liquidity_events: each is a legal next step of its position; then the position follows';
REVOKE ALL ON FUNCTION follow_liquidity() FROM PUBLIC;
CREATE TRIGGER liquidity_events_follow AFTER INSERT ON liquidity_events REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION follow_liquidity();

CREATE FUNCTION refuse_position_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF pg_trigger_depth() > 1 AND TG_OP = 'UPDATE' THEN
        RETURN NULL; -- follow_liquidity()
    END IF;
    RAISE EXCEPTION 'liquidity positions change by their events only: % refused', TG_OP
        USING ERRCODE = 'integrity_constraint_violation', HINT = 'Insert into liquidity_events.';
END
$$;
COMMENT ON FUNCTION refuse_position_change() IS 'Trigger of liquidity_positions: nobody changes or deletes one by hand';
CREATE TRIGGER liquidity_positions_only_by_events BEFORE UPDATE OR DELETE OR TRUNCATE ON liquidity_positions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_position_change();

CREATE TABLE pool_snapshots (
    pool_id uuid NOT NULL CONSTRAINT pool_snapshots_pool_fkey REFERENCES pools (id),
    taken_at timestamptz NOT NULL,
    liquidity uint256 NOT NULL,
    open_tick integer,
    close_tick integer,
    lowest_tick integer,
    highest_tick integer,
    base_reserve amount,
    quote_reserve amount,
    net_amount0 int256 NOT NULL DEFAULT 0,
    net_amount1 int256 NOT NULL DEFAULT 0,
    in_amount0 uint256 NOT NULL DEFAULT 0,
    in_amount1 uint256 NOT NULL DEFAULT 0,
    source text NOT NULL CONSTRAINT pool_snapshots_source_form CHECK (source ~ '^[a-z0-9_-]{1,32}$'),
    PRIMARY KEY (pool_id, taken_at),
    CONSTRAINT pool_snapshots_ticks_whole CHECK (num_nulls(open_tick, close_tick, lowest_tick, highest_tick) IN (0, 4)),
    CONSTRAINT pool_snapshots_ticks_ordered CHECK (
        lowest_tick <= least(open_tick, close_tick) AND highest_tick >= greatest(open_tick, close_tick)
        AND lowest_tick >= -887272 AND highest_tick <= 887272),
    CONSTRAINT pool_snapshots_state CHECK ((close_tick IS NULL) = (base_reserve IS NOT NULL) AND (base_reserve IS NULL) = (quote_reserve IS NULL))
);
COMMENT ON TABLE pool_snapshots IS 'What pools did in the minute, or other span, from a moment on, and how they stood at its end';
COMMENT ON COLUMN pool_snapshots.pool_id IS 'The pool';
COMMENT ON COLUMN pool_snapshots.taken_at IS 'The beginning of the span';
COMMENT ON COLUMN pool_snapshots.liquidity IS 'Liquidity in range at its end; of a constant product all its shares';
COMMENT ON COLUMN pool_snapshots.open_tick IS 'Tick before its first swap';
COMMENT ON COLUMN pool_snapshots.close_tick IS 'Tick after its last swap';
COMMENT ON COLUMN pool_snapshots.lowest_tick IS 'Lowest tick in it';
COMMENT ON COLUMN pool_snapshots.highest_tick IS 'Highest tick in it';
COMMENT ON COLUMN pool_snapshots.base_reserve IS 'Units of the base asset in a constant product at its end';
COMMENT ON COLUMN pool_snapshots.quote_reserve IS 'Units of the quote asset in a constant product at its end';
COMMENT ON COLUMN pool_snapshots.net_amount0 IS 'Smallest units of token 0 that went into the pool, those that came out subtracted';
COMMENT ON COLUMN pool_snapshots.net_amount1 IS 'The same of token 1';
COMMENT ON COLUMN pool_snapshots.in_amount0 IS 'Smallest units of token 0 that swaps paid in, fees included';
COMMENT ON COLUMN pool_snapshots.in_amount1 IS 'The same of token 1';
COMMENT ON COLUMN pool_snapshots.source IS 'Where it comes from';
CREATE TRIGGER pool_snapshots_append_only BEFORE UPDATE OR DELETE ON pool_snapshots FOR EACH ROW EXECUTE FUNCTION refuse_change();

INSERT INTO permissions (name, description) VALUES
    ('pools.manage', 'Add pools, and import their snapshots'),
    ('liquidity.report', 'Record what liquidity positions did'),
    ('liquidity.read_own', 'See one''s own liquidity positions'),
    ('liquidity.read_any', 'See liquidity positions of others');
INSERT INTO role_permissions (role, permission) VALUES
    ('user', 'liquidity.read_own'), ('trader', 'liquidity.read_own'), ('market_maker', 'liquidity.read_own'),
    ('support', 'liquidity.read_own'), ('support', 'liquidity.read_any'),
    ('auditor', 'liquidity.read_own'), ('auditor', 'liquidity.read_any'),
    ('operator', 'liquidity.read_own'), ('operator', 'liquidity.read_any'), ('operator', 'liquidity.report'), ('operator', 'pools.manage'),
    ('admin', 'liquidity.read_own'), ('admin', 'liquidity.read_any'), ('admin', 'liquidity.report'), ('admin', 'pools.manage');

-- Portfolios ----------------------------------------------------------------------------------------------

CREATE DOMAIN total AS numeric
    CONSTRAINT total_finite CHECK (abs(VALUE) < 'Infinity')
    CONSTRAINT total_scale CHECK (scale(VALUE) <= 18);
COMMENT ON DOMAIN total IS 'A sum of amounts of an asset, however large';

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

-- The book -----------------------------------------------------------------------------------------------

CREATE TABLE book_snapshots (
    id uuid PRIMARY KEY CONSTRAINT book_snapshots_id_v7 CHECK (get_byte(uuid_send(id), 6) >> 4 = 7),
    market_id integer NOT NULL CONSTRAINT book_snapshots_market_fkey REFERENCES markets (id),
    sequence bigint NOT NULL CONSTRAINT book_snapshots_sequence_positive CHECK (sequence >= 0),
    checksum bigint NOT NULL CONSTRAINT book_snapshots_checksum_range CHECK (checksum BETWEEN 0 AND 4294967295),
    bids jsonb NOT NULL CONSTRAINT book_snapshots_bids_form CHECK (jsonb_typeof(bids) = 'array'),
    asks jsonb NOT NULL CONSTRAINT book_snapshots_asks_form CHECK (jsonb_typeof(asks) = 'array'),
    source text NOT NULL CONSTRAINT book_snapshots_source_form CHECK (source ~ '^[a-z0-9_-]{1,32}$'),
    taken_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX book_snapshots_market_idx ON book_snapshots (market_id, id);
COMMENT ON TABLE book_snapshots IS 'Books of markets that another exchange runs, as it reported them: the newest is the book where the cache server has none';
COMMENT ON COLUMN book_snapshots.id IS 'UUIDv7: its time is when the snapshot was written';
COMMENT ON COLUMN book_snapshots.market_id IS 'The market; one with snapshots shows them, not its own orders';
COMMENT ON COLUMN book_snapshots.sequence IS 'The exchange''s number of the last update in it';
COMMENT ON COLUMN book_snapshots.checksum IS 'CRC32 of the best 25 levels of both sides, as docs/how-to/book.md has it';
COMMENT ON COLUMN book_snapshots.bids IS 'All levels as [price, quantity], both text, the highest price first';
COMMENT ON COLUMN book_snapshots.asks IS 'All levels as [price, quantity], both text, the lowest price first';
COMMENT ON COLUMN book_snapshots.source IS 'Whose book it is';
COMMENT ON COLUMN book_snapshots.taken_at IS 'When the exchange''s messages up to it were received, by the capture';

-- Kinds and templates -------------------------------------------------------------------------------------

CREATE TABLE notification_kinds (
    name text PRIMARY KEY CONSTRAINT notification_kinds_name_form CHECK (name ~ '^[a-z][a-z0-9_]{0,63}$'),
    description text NOT NULL CONSTRAINT notification_kinds_description_length CHECK (length(description) BETWEEN 1 AND 200),
    fields text[] NOT NULL
        CONSTRAINT notification_kinds_fields_form CHECK (array_position(fields, NULL) IS NULL AND array_to_string(fields, ',') ~ '^([a-z][a-z_]*(,[a-z][a-z_]*)*)?$'),
    default_channels text[] NOT NULL
        CONSTRAINT notification_kinds_defaults_known CHECK (default_channels <@ ARRAY['in_app', 'email', 'webhook']),
    required_channels text[] NOT NULL DEFAULT '{}'
        CONSTRAINT notification_kinds_required_known CHECK (required_channels <@ ARRAY['in_app', 'email', 'webhook'])
);
COMMENT ON TABLE notification_kinds IS 'What users can be told of';
COMMENT ON COLUMN notification_kinds.name IS 'Such as order_filled';
COMMENT ON COLUMN notification_kinds.description IS 'For people';
COMMENT ON COLUMN notification_kinds.fields IS 'What a notification of this kind knows: the placeholders of its templates';
COMMENT ON COLUMN notification_kinds.default_channels IS 'Where users who said nothing hear of it';
COMMENT ON COLUMN notification_kinds.required_channels IS 'Where everybody hears of it, whatever they said';
INSERT INTO notification_kinds (name, description, fields, default_channels, required_channels) VALUES
    ('order_filled', 'An order was filled to its end', '{order_id,client_order_id,market,side,amount,price,filled_quantity,quantity,trade_id,occurred_at}', '{in_app,webhook}', '{}'),
    ('order_partially_filled', 'A part of an order was filled', '{order_id,client_order_id,market,side,amount,price,filled_quantity,quantity,trade_id,occurred_at}', '{webhook}', '{}'),
    ('order_busted', 'A fill was undone by the venue or with its block', '{order_id,client_order_id,market,side,amount,price,filled_quantity,quantity,trade_id,reason,occurred_at}', '{in_app,email,webhook}', '{}'),
    ('order_cancelled', 'An order was cancelled by somebody else', '{order_id,client_order_id,market,side,filled_quantity,quantity,reason,occurred_at}', '{in_app,webhook}', '{}'),
    ('order_expired', 'An order reached its end in time', '{order_id,client_order_id,market,side,filled_quantity,quantity,reason,occurred_at}', '{in_app,webhook}', '{}'),
    ('order_rejected', 'An order was rejected', '{order_id,client_order_id,market,side,filled_quantity,quantity,reason,occurred_at}', '{in_app,webhook}', '{}'),
    ('price_alert', 'A market reached a price', '{alert_id,market,direction,limit_price,price,occurred_at}', '{in_app,email,webhook}', '{}'),
    ('new_device', 'A sign-in from a device that was not seen before', '{session_id,method,occurred_at}', '{in_app,email}', '{in_app,email}'),
    ('system_notice', 'Something that the venue has to say', '{title,text}', '{in_app,email}', '{in_app}');
CREATE TRIGGER notification_kinds_audit AFTER INSERT OR UPDATE OR DELETE ON notification_kinds FOR EACH ROW
    EXECUTE FUNCTION audit_change('notification_kind', 'name', 'fields', 'default_channels', 'required_channels');
CREATE TRIGGER notification_kinds_audit_emptied AFTER TRUNCATE ON notification_kinds FOR EACH STATEMENT EXECUTE FUNCTION audit_change();

CREATE TABLE notification_templates (
    kind text NOT NULL CONSTRAINT notification_templates_kind_fkey REFERENCES notification_kinds (name),
    channel text NOT NULL CONSTRAINT notification_templates_channel_known CHECK (channel IN ('in_app', 'email', 'webhook')),
    locale text NOT NULL CONSTRAINT notification_templates_locale_form CHECK (locale ~ '^[a-z]{2,3}(-[A-Z]{2})?$'),
    subject text NOT NULL
        CONSTRAINT notification_templates_subject_length CHECK (length(subject) BETWEEN 1 AND 200)
        CONSTRAINT notification_templates_subject_one_line CHECK (subject !~ '[[:cntrl:]]'),
    body text NOT NULL CONSTRAINT notification_templates_body_length CHECK (length(body) BETWEEN 1 AND 5000),
    html text CONSTRAINT notification_templates_html_length CHECK (length(html) BETWEEN 1 AND 20000)
        CONSTRAINT notification_templates_html_email CHECK (html IS NULL OR channel = 'email'),
    name text GENERATED ALWAYS AS (kind || '/' || channel || '/' || locale) STORED,
    PRIMARY KEY (kind, channel, locale)
);
COMMENT ON TABLE notification_templates IS 'The words of notifications; where a channel or a locale has none, those of the app, of the language, and of English are taken';
COMMENT ON COLUMN notification_templates.kind IS 'What they are of';
COMMENT ON COLUMN notification_templates.channel IS 'in_app, email or webhook';
COMMENT ON COLUMN notification_templates.locale IS 'Language, and region where it matters: de, de-AT';
COMMENT ON COLUMN notification_templates.subject IS 'First line, with {placeholders}';
COMMENT ON COLUMN notification_templates.body IS 'Plain text, with {placeholders}';
COMMENT ON COLUMN notification_templates.html IS 'The same as HTML, for email; what stands in for placeholders is escaped';
COMMENT ON COLUMN notification_templates.name IS 'The three keys in one, as the audit log names it';

CREATE FUNCTION check_template() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public
    AS $$
DECLARE
    known text[];
    rest text := concat_ws(E'\n', NEW.subject, NEW.body, NEW.html);
    field text;
BEGIN
    SELECT fields INTO known FROM public.notification_kinds WHERE name = NEW.kind;
    IF NOT FOUND THEN
        RETURN NEW; -- the foreign key says so
    END IF;
    FOREACH field IN ARRAY known LOOP
        rest := replace(rest, '{' || field || '}', '');
    END LOOP;
    IF rest ~ '[{}]' THEN
        RAISE EXCEPTION 'template %/%/% has a placeholder that % does not know: %', NEW.kind, NEW.channel, NEW.locale, NEW.kind,
            coalesce(substring(rest FROM '\{[^{}]{0,64}\}?'), substring(rest FROM '[{}]'))
            USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME,
                HINT = 'There are: ' || array_to_string(known, ', ') || '.';
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION check_template() IS 'Trigger of notification_templates: every placeholder is a field of the kind, so filling one in cannot fail';
REVOKE ALL ON FUNCTION check_template() FROM PUBLIC;
CREATE TRIGGER notification_templates_check BEFORE INSERT OR UPDATE ON notification_templates FOR EACH ROW EXECUTE FUNCTION check_template();

CREATE FUNCTION keep_last_template() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION 'the template %/in_app/en is what all others fall back to: it stays', OLD.kind
        USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME, HINT = 'Change its words instead.';
END
$$;
COMMENT ON FUNCTION keep_last_template() IS 'Trigger of notification_templates: each kind keeps the English words of the app';
CREATE TRIGGER notification_templates_keep_last BEFORE DELETE ON notification_templates FOR EACH ROW
    WHEN (OLD.channel = 'in_app' AND OLD.locale = 'en') EXECUTE FUNCTION keep_last_template();
CREATE TRIGGER notification_templates_audit AFTER INSERT OR UPDATE OR DELETE ON notification_templates FOR EACH ROW
    EXECUTE FUNCTION audit_change('notification_template', 'name', 'subject', 'body', 'html');
CREATE TRIGGER notification_templates_audit_emptied AFTER TRUNCATE ON notification_templates FOR EACH STATEMENT EXECUTE FUNCTION audit_change();
INSERT INTO notification_templates (kind, channel, locale, subject, body) VALUES
    ('order_filled', 'in_app', 'en', '{market}: {side} order filled', 'Your {side} order of {quantity} in {market} is filled. The last fill was {amount} at {price}.'),
    ('order_partially_filled', 'in_app', 'en', '{market}: {side} order partially filled', '{amount} of your {side} order in {market} were filled at {price}: {filled_quantity} of {quantity} so far.'),
    ('order_busted', 'in_app', 'en', '{market}: a fill was undone', 'A fill of {amount} at {price} of your {side} order in {market} was undone. {filled_quantity} of {quantity} are filled now. {reason}'),
    ('order_cancelled', 'in_app', 'en', '{market}: {side} order cancelled', 'Your {side} order in {market} was cancelled by the venue; {filled_quantity} of {quantity} were filled. {reason}'),
    ('order_expired', 'in_app', 'en', '{market}: {side} order expired', 'Your {side} order in {market} expired; {filled_quantity} of {quantity} were filled.'),
    ('order_rejected', 'in_app', 'en', '{market}: {side} order rejected', 'Your {side} order of {quantity} in {market} was rejected. {reason}'),
    ('price_alert', 'in_app', 'en', '{market} is {direction} {limit_price}', '{market} traded at {price}, {direction} your limit of {limit_price}.'),
    ('new_device', 'in_app', 'en', 'Sign-in from a new device', 'Somebody signed in to your account from a device that was not seen before, at {occurred_at}. If it was not you, end all sessions and check your wallets.'),
    ('system_notice', 'in_app', 'en', '{title}', '{text}');

-- Notifications -------------------------------------------------------------------------------------------
-- A notification is made once for a cause; each way out of the house is a delivery of its own.

ALTER TABLE notifications ADD CONSTRAINT notifications_kind_fkey FOREIGN KEY (kind) REFERENCES notification_kinds (name);

CREATE FUNCTION announce_unread() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM announce('unread', t.user_id::text) FROM (SELECT DISTINCT user_id FROM touched) AS t;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION announce_unread() IS 'Trigger of notifications: caches count anew';
CREATE TRIGGER notifications_announce_new AFTER INSERT ON notifications REFERENCING NEW TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION announce_unread();
CREATE TRIGGER notifications_announce_change AFTER UPDATE ON notifications REFERENCING NEW TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION announce_unread();
CREATE TRIGGER notifications_announce_deletion AFTER DELETE ON notifications REFERENCING OLD TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION announce_unread();

CREATE TABLE notification_preferences (
    user_id uuid NOT NULL CONSTRAINT notification_preferences_user_fkey REFERENCES users (id),
    kind text NOT NULL CONSTRAINT notification_preferences_kind_fkey REFERENCES notification_kinds (name),
    channel text NOT NULL CONSTRAINT notification_preferences_channel_known CHECK (channel IN ('in_app', 'email', 'webhook')),
    enabled boolean NOT NULL,
    PRIMARY KEY (user_id, kind, channel)
);
COMMENT ON TABLE notification_preferences IS 'What users said of how they want to hear of what; without a row the kind''s default holds';
COMMENT ON COLUMN notification_preferences.user_id IS 'Whose wish it is';
COMMENT ON COLUMN notification_preferences.kind IS 'Of what';
COMMENT ON COLUMN notification_preferences.channel IS 'in_app, email or webhook';
COMMENT ON COLUMN notification_preferences.enabled IS 'Whether they want it; a required channel is used all the same';
CREATE TRIGGER notification_preferences_active_user BEFORE INSERT OR UPDATE OF user_id ON notification_preferences
    FOR EACH ROW EXECUTE FUNCTION require_active_user();

CREATE TABLE notification_webhooks (
    user_id uuid PRIMARY KEY CONSTRAINT notification_webhooks_user_fkey REFERENCES users (id),
    url_ciphertext bytea NOT NULL CONSTRAINT notification_webhooks_url_length CHECK (length(url_ciphertext) BETWEEN 30 AND 9000),
    secret_ciphertext bytea NOT NULL CONSTRAINT notification_webhooks_secret_length CHECK (length(secret_ciphertext) BETWEEN 30 AND 500),
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE notification_webhooks IS 'Where programs of users hear of notifications';
COMMENT ON COLUMN notification_webhooks.user_id IS 'Whose it is: one each';
COMMENT ON COLUMN notification_webhooks.url_ciphertext IS 'The address, encrypted by the application';
COMMENT ON COLUMN notification_webhooks.secret_ciphertext IS 'What its requests are signed with, encrypted by the application';
COMMENT ON COLUMN notification_webhooks.created_at IS 'When it was set';
CREATE TRIGGER notification_webhooks_active_user BEFORE INSERT OR UPDATE OF user_id ON notification_webhooks
    FOR EACH ROW EXECUTE FUNCTION require_active_user();
CREATE TRIGGER notification_webhooks_audit AFTER INSERT OR UPDATE OR DELETE ON notification_webhooks FOR EACH ROW
    EXECUTE FUNCTION audit_change('user', 'user_id');
CREATE TRIGGER notification_webhooks_audit_emptied AFTER TRUNCATE ON notification_webhooks FOR EACH STATEMENT EXECUTE FUNCTION audit_change();

-- Deliveries ----------------------------------------------------------------------------------------------

CREATE TABLE notification_deliveries (
    notification_id uuid NOT NULL CONSTRAINT notification_deliveries_notification_fkey REFERENCES notifications (id) ON DELETE CASCADE,
    channel text NOT NULL CONSTRAINT notification_deliveries_channel_known CHECK (channel IN ('email', 'webhook')),
    status text NOT NULL DEFAULT 'pending'
        CONSTRAINT notification_deliveries_status_known CHECK (status IN ('pending', 'sending', 'delivered', 'dead', 'cancelled')),
    series integer NOT NULL DEFAULT 1 CONSTRAINT notification_deliveries_series_positive CHECK (series > 0),
    attempts integer NOT NULL DEFAULT 0 CONSTRAINT notification_deliveries_attempts_range CHECK (attempts BETWEEN 0 AND 100),
    due_at timestamptz NOT NULL DEFAULT now(),
    lease uuid,
    last_error text CONSTRAINT notification_deliveries_error_length CHECK (length(last_error) <= 500),
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    PRIMARY KEY (notification_id, channel),
    CONSTRAINT notification_deliveries_leased CHECK ((status = 'sending') = (lease IS NOT NULL)),
    CONSTRAINT notification_deliveries_finished CHECK ((status IN ('delivered', 'dead', 'cancelled')) = (finished_at IS NOT NULL)),
    CONSTRAINT notification_deliveries_attempted CHECK (attempts > 0 OR status IN ('pending', 'cancelled'))
) WITH (fillfactor = 70);
CREATE INDEX notification_deliveries_due_idx ON notification_deliveries (channel, due_at) WHERE status IN ('pending', 'sending');
CREATE INDEX notification_deliveries_dead_idx ON notification_deliveries (notification_id, channel) WHERE status = 'dead';
COMMENT ON TABLE notification_deliveries IS 'Notifications on their way out of the house: one series of attempts each, counted before the sending';
COMMENT ON COLUMN notification_deliveries.notification_id IS 'What is delivered; receivers see this id in every attempt';
COMMENT ON COLUMN notification_deliveries.channel IS 'email or webhook';
COMMENT ON COLUMN notification_deliveries.status IS 'pending, sending (under a lease), delivered, dead (given up), or cancelled (no way to the user any more)';
COMMENT ON COLUMN notification_deliveries.series IS '1, and one more each time that somebody replayed it';
COMMENT ON COLUMN notification_deliveries.attempts IS 'Attempts that were begun in this series';
COMMENT ON COLUMN notification_deliveries.due_at IS 'When to try next; while sending, when the lease ends';
COMMENT ON COLUMN notification_deliveries.lease IS 'Who is sending it now';
COMMENT ON COLUMN notification_deliveries.last_error IS 'Why the last attempt failed';
COMMENT ON COLUMN notification_deliveries.created_at IS 'When it was made';
COMMENT ON COLUMN notification_deliveries.finished_at IS 'When it ended';

CREATE FUNCTION follow_delivery() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF NEW.notification_id <> OLD.notification_id OR NEW.channel <> OLD.channel OR (
        CASE OLD.status || ' ' || NEW.status
            -- An attempt begins, or what a lost sender held is begun anew: it counts before anything is sent.
            WHEN 'pending sending' THEN NEW.attempts = OLD.attempts + 1 AND NEW.series = OLD.series
            WHEN 'sending sending' THEN NEW.attempts = OLD.attempts + 1 AND NEW.series = OLD.series AND NEW.lease <> OLD.lease
                AND OLD.due_at <= clock_timestamp()
            WHEN 'sending delivered' THEN NEW.attempts = OLD.attempts AND NEW.series = OLD.series
            WHEN 'sending pending' THEN NEW.attempts = OLD.attempts AND NEW.series = OLD.series
            WHEN 'sending dead' THEN NEW.attempts = OLD.attempts AND NEW.series = OLD.series
            WHEN 'pending cancelled' THEN NEW.attempts = OLD.attempts AND NEW.series = OLD.series
            WHEN 'sending cancelled' THEN NEW.attempts = OLD.attempts AND NEW.series = OLD.series
            WHEN 'dead cancelled' THEN NEW.attempts = OLD.attempts AND NEW.series = OLD.series
            WHEN 'dead pending' THEN NEW.attempts = 0 AND NEW.series = OLD.series + 1
            ELSE false
        END) IS NOT TRUE
    THEN
        RAISE EXCEPTION 'delivery % by % cannot go from % (attempt %) to % (attempt %)', OLD.notification_id, OLD.channel,
            OLD.status, OLD.attempts, NEW.status, NEW.attempts
            USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME;
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION follow_delivery() IS 'Trigger of notification_deliveries: the state machine';
CREATE TRIGGER notification_deliveries_follow BEFORE UPDATE ON notification_deliveries FOR EACH ROW EXECUTE FUNCTION follow_delivery();

-- Causes --------------------------------------------------------------------------------------------------

CREATE TABLE notification_positions (
    market_id integer PRIMARY KEY CONSTRAINT notification_positions_market_fkey REFERENCES markets (id),
    market_sequence bigint NOT NULL DEFAULT 0 CONSTRAINT notification_positions_positive CHECK (market_sequence >= 0)
) WITH (fillfactor = 50);
COMMENT ON TABLE notification_positions IS 'Up to which order event of each market users were told; a restore takes it back together with the events, so it needs no epoch';
COMMENT ON COLUMN notification_positions.market_id IS 'The market';
COMMENT ON COLUMN notification_positions.market_sequence IS 'The event';

CREATE TABLE price_alerts (
    id uuid PRIMARY KEY CONSTRAINT price_alerts_id_v7 CHECK (get_byte(uuid_send(id), 6) >> 4 = 7),
    user_id uuid NOT NULL CONSTRAINT price_alerts_user_fkey REFERENCES users (id),
    market_id integer NOT NULL CONSTRAINT price_alerts_market_fkey REFERENCES markets (id),
    direction text NOT NULL CONSTRAINT price_alerts_direction_known CHECK (direction IN ('above', 'below')),
    price price NOT NULL,
    once boolean NOT NULL DEFAULT true,
    status text NOT NULL DEFAULT 'armed' CONSTRAINT price_alerts_status_known CHECK (status IN ('armed', 'waiting', 'done')),
    watched_from timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    triggered_at timestamptz,
    CONSTRAINT price_alerts_triggered CHECK (status = 'armed' OR triggered_at IS NOT NULL),
    CONSTRAINT price_alerts_once_done CHECK (status <> CASE WHEN once THEN 'waiting' ELSE 'done' END)
);
CREATE INDEX price_alerts_user_idx ON price_alerts (user_id, id);
CREATE INDEX price_alerts_armed_idx ON price_alerts (market_id, direction, price) WHERE status = 'armed';
CREATE INDEX price_alerts_waiting_idx ON price_alerts (market_id) WHERE status = 'waiting';
COMMENT ON TABLE price_alerts IS 'Prices that users want to hear of';
COMMENT ON COLUMN price_alerts.id IS 'UUIDv7';
COMMENT ON COLUMN price_alerts.user_id IS 'Who wants to hear of it';
COMMENT ON COLUMN price_alerts.market_id IS 'Of which market';
COMMENT ON COLUMN price_alerts.direction IS 'above: at this price or more; below: at this price or less';
COMMENT ON COLUMN price_alerts.price IS 'The limit';
COMMENT ON COLUMN price_alerts.once IS 'Whether once is enough; else it is armed again when the price is back on the other side';
COMMENT ON COLUMN price_alerts.status IS 'armed, waiting (told, until the price is back), or done';
COMMENT ON COLUMN price_alerts.watched_from IS 'Trades that were executed before are not looked at';
COMMENT ON COLUMN price_alerts.created_at IS 'When it was set';
COMMENT ON COLUMN price_alerts.triggered_at IS 'When it was last told';
CREATE TRIGGER price_alerts_active_user BEFORE INSERT OR UPDATE OF user_id ON price_alerts FOR EACH ROW EXECUTE FUNCTION require_active_user();

CREATE TABLE price_alert_position (
    only_row boolean PRIMARY KEY DEFAULT true CONSTRAINT price_alert_position_one_row CHECK (only_row),
    epoch bigint NOT NULL DEFAULT 0,
    system_identifier bigint NOT NULL DEFAULT 0,
    timeline integer NOT NULL DEFAULT 0,
    xid xid8 NOT NULL DEFAULT '0',
    id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000'
) WITH (fillfactor = 50);
INSERT INTO price_alert_position DEFAULT VALUES;
COMMENT ON TABLE price_alert_position IS 'One row: up to which trade of the log price alerts were looked for';
COMMENT ON COLUMN price_alert_position.only_row IS 'Always true: there is one row';
COMMENT ON COLUMN price_alert_position.epoch IS 'The life of the database that the position is of';
COMMENT ON COLUMN price_alert_position.system_identifier IS 'The cluster that it is of';
COMMENT ON COLUMN price_alert_position.timeline IS 'The timeline that it is of: a failover begins another';
COMMENT ON COLUMN price_alert_position.xid IS 'Transaction of the last trade';
COMMENT ON COLUMN price_alert_position.id IS 'Id of the last trade';

CREATE FUNCTION device_hash(user_id uuid, device text) RETURNS bytea
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT sha256(convert_to(user_id::text || regexp_replace(coalesce(device, ''), '[0-9]+([._][0-9]+)*', '', 'g'), 'UTF8')) $$;
COMMENT ON FUNCTION device_hash(uuid, text) IS 'Tells devices of a user apart, without the version numbers that every update changes';

CREATE TABLE known_devices (
    user_id uuid NOT NULL CONSTRAINT known_devices_user_fkey REFERENCES users (id),
    device_hash bytea NOT NULL CONSTRAINT known_devices_sha256 CHECK (length(device_hash) = 32),
    last_seen_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, device_hash)
);
CREATE INDEX known_devices_age_idx ON known_devices (last_seen_at);
COMMENT ON TABLE known_devices IS 'Devices that users signed in from; forgotten after a year without a sign-in, but for the last one of a user';
COMMENT ON COLUMN known_devices.user_id IS 'The user';
COMMENT ON COLUMN known_devices.device_hash IS 'By device_hash()';
COMMENT ON COLUMN known_devices.last_seen_at IS 'The last sign-in from it';

CREATE TABLE new_sign_ins (
    session_id uuid PRIMARY KEY
);
COMMENT ON TABLE new_sign_ins IS 'Sign-ins whose device nobody looked at yet; a session that is gone by then is passed over';
COMMENT ON COLUMN new_sign_ins.session_id IS 'The session that began with it';

CREATE FUNCTION note_sign_in() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public
    AS $$
BEGIN
    INSERT INTO public.new_sign_ins (session_id) VALUES (NEW.id);
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION note_sign_in() IS 'Trigger of user_sessions: a sign-in, not a refresh, is looked at';
REVOKE ALL ON FUNCTION note_sign_in() FROM PUBLIC;
CREATE TRIGGER user_sessions_note_sign_in AFTER INSERT ON user_sessions FOR EACH ROW WHEN (NEW.id = NEW.family_id)
    EXECUTE FUNCTION note_sign_in();

CREATE TABLE system_notices (
    id uuid PRIMARY KEY CONSTRAINT system_notices_id_v7 CHECK (get_byte(uuid_send(id), 6) >> 4 = 7),
    role text CONSTRAINT system_notices_role_fkey REFERENCES roles (name),
    title text NOT NULL CONSTRAINT system_notices_title_length CHECK (length(title) BETWEEN 1 AND 200),
    body text NOT NULL CONSTRAINT system_notices_body_length CHECK (length(body) BETWEEN 1 AND 5000),
    created_by text NOT NULL DEFAULT left(coalesce(nullif(current_setting('novadex.actor', true), ''), 'database:' || session_user), 200),
    created_at timestamptz NOT NULL DEFAULT now(),
    reached uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    finished_at timestamptz,
    CONSTRAINT system_notices_fit CHECK (length(jsonb_build_object('title', title, 'text', body)::text) <= 16384)
);
CREATE INDEX system_notices_open_idx ON system_notices (id) WHERE finished_at IS NULL;
COMMENT ON TABLE system_notices IS 'What the venue tells all users, or all of a role';
COMMENT ON COLUMN system_notices.id IS 'UUIDv7';
COMMENT ON COLUMN system_notices.role IS 'Only users of this role; none: all';
COMMENT ON COLUMN system_notices.title IS 'First line';
COMMENT ON COLUMN system_notices.body IS 'Text';
COMMENT ON COLUMN system_notices.created_by IS 'Who sent it';
COMMENT ON COLUMN system_notices.created_at IS 'When it was sent';
COMMENT ON COLUMN system_notices.reached IS 'Users up to this id were told';
COMMENT ON COLUMN system_notices.finished_at IS 'When everybody was told';
CREATE TRIGGER system_notices_audit AFTER INSERT OR DELETE OR UPDATE OF id, role, title, body, created_by, created_at ON system_notices
    FOR EACH ROW EXECUTE FUNCTION audit_change('system_notice', 'id', 'role', 'title');
CREATE TRIGGER system_notices_audit_emptied AFTER TRUNCATE ON system_notices FOR EACH STATEMENT EXECUTE FUNCTION audit_change();

-- Erasing -------------------------------------------------------------------------------------------------

CREATE FUNCTION require_silence() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public
    AS $$
BEGIN
    IF EXISTS (SELECT FROM public.notification_webhooks WHERE user_id = NEW.id)
        OR EXISTS (SELECT FROM public.notification_preferences WHERE user_id = NEW.id)
        OR EXISTS (SELECT FROM public.price_alerts WHERE user_id = NEW.id)
        OR EXISTS (SELECT FROM public.known_devices WHERE user_id = NEW.id)
        OR EXISTS (SELECT FROM public.notifications WHERE user_id = NEW.id AND (title <> 'erased' OR body <> '' OR data <> '{}'))
    THEN
        RAISE EXCEPTION 'user % is erased by half: webhook, preferences, alerts, devices and the words of notifications must go', NEW.id
            USING ERRCODE = 'integrity_constraint_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME,
                HINT = 'Erase with: novadex users erase';
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION require_silence() IS 'Trigger of users, at commit: nobody tells who is erased anything any more';
REVOKE ALL ON FUNCTION require_silence() FROM PUBLIC;
CREATE CONSTRAINT TRIGGER users_erased_silent AFTER INSERT OR UPDATE OF status ON users DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.status = 'erased') EXECUTE FUNCTION require_silence();

-- One user's rows -----------------------------------------------------------------------------------------

DO $$
DECLARE
    name text;
    service text;
BEGIN
    FOREACH name IN ARRAY ARRAY['notification_preferences', 'price_alerts'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY own_rows ON %I FOR SELECT TO novadex_user USING (user_id = current_user_id())', name);
        FOREACH service IN ARRAY ARRAY['app', 'worker', 'readonly', 'backup'] LOOP
            EXECUTE format('CREATE POLICY %I ON %I TO %I USING (true) WITH CHECK (true)', service || '_rows', name, 'novadex_' || service);
        END LOOP;
    END LOOP;
END
$$;

INSERT INTO permissions (name, description) VALUES
    ('notifications.read_own', 'See one''s own notifications and preferences'),
    ('notifications.manage_own', 'Mark one''s own notifications read; decide on preferences, webhook and price alerts'),
    ('notifications.send', 'Send notices to users, to a role or to all'),
    ('notifications.replay', 'See deliveries that failed for good, without their words, and replay them'),
    ('notifications.edit_templates', 'See and change the words of notifications');
INSERT INTO role_permissions (role, permission)
SELECT role, permission FROM unnest(ARRAY['user', 'trader', 'market_maker', 'support', 'auditor', 'operator', 'admin']) AS role,
    unnest(ARRAY['notifications.read_own', 'notifications.manage_own']) AS permission
UNION ALL
SELECT role, permission FROM unnest(ARRAY['operator', 'admin']) AS role,
    unnest(ARRAY['notifications.send', 'notifications.replay']) AS permission
UNION ALL
SELECT 'admin', 'notifications.edit_templates';

CREATE FUNCTION schema_step() RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT '0010_guards' $$;
COMMENT ON FUNCTION schema_step() IS 'The last migration that this schema contains';

-- Who may do what -----------------------------------------------------------------------------------------

GRANT SELECT ON recovery_epoch, assets, markets, wallets, orders, order_events, trades, idempotency_keys,
    liquidity_positions, portfolio_snapshots, notifications, audit_log TO novadex_app, novadex_worker;
GRANT SELECT ON users, user_sessions TO novadex_app;
GRANT SELECT ON recovery_epoch, assets, markets, orders, order_events, trades, liquidity_positions, portfolio_snapshots
    TO novadex_readonly;
GRANT SELECT (id, kind, username, role, status, created_at, updated_at) ON users TO novadex_readonly;
GRANT INSERT ON assets, markets, users, wallets, user_sessions, orders, idempotency_keys, liquidity_positions,
    portfolio_snapshots, notifications TO novadex_app;
-- All columns but xid: the log's order is the server's to say.
GRANT INSERT (id, user_id, market_id, base_decimals, quote_decimals, type, side, liquidity, base_amount, quote_amount,
    price, fee_amount, fee_asset_id, executed_at, sequence, match_id, order_id, source, source_trade_id, reverses)
    ON trades TO novadex_app;
GRANT DELETE ON wallets TO novadex_app;
GRANT INSERT ON portfolio_snapshots, notifications TO novadex_worker;
GRANT DELETE ON idempotency_keys TO novadex_worker;
GRANT SELECT ON roles, permissions, role_permissions TO novadex_app, novadex_worker, novadex_readonly;
GRANT SELECT ON master_keys, system_keys, user_keys, erasures TO novadex_app;
GRANT SELECT ON master_keys, erasures TO novadex_worker;
GRANT INSERT ON master_keys, system_keys, user_keys TO novadex_app;
GRANT UPDATE (retired_at) ON master_keys TO novadex_app;
GRANT UPDATE (wrapped_key, master_version) ON system_keys, user_keys TO novadex_app;
GRANT DELETE ON user_keys TO novadex_app, novadex_worker;
GRANT INSERT ON erasures TO novadex_app, novadex_worker;
-- Whose it is, its secret and what it may do are never changed.
GRANT SELECT, INSERT ON api_keys TO novadex_app;
GRANT UPDATE (name, allowed_addresses, expires_at, last_used_at, replaced_by, revoked_at, revoked_reason) ON api_keys TO novadex_app;
GRANT UPDATE (name, allowed_addresses) ON api_keys TO novadex_worker;
GRANT SELECT, INSERT, DELETE ON sign_in_nonces TO novadex_app;
GRANT SELECT, DELETE ON sign_in_nonces TO novadex_worker;
GRANT UPDATE (device, address, last_used_at, idle_expires_at, replaced_by, revoked_at, revoked_reason) ON user_sessions
    TO novadex_app, novadex_worker;
GRANT UPDATE (is_primary) ON wallets TO novadex_app;
GRANT UPDATE (username, email_ciphertext, email_index, personal_ciphertext, preferences, role, status) ON users TO novadex_app;
-- Erasures are applied again after a restore.
GRANT UPDATE (username, email_ciphertext, email_index, personal_ciphertext, preferences, status) ON users TO novadex_worker;
GRANT DELETE ON wallets, user_sessions TO novadex_worker;
-- What the worker does needs no secret: neither keys and hashes, nor what is encrypted or looked up by.
GRANT SELECT (id, kind, username, role, status, version, created_at, updated_at) ON users TO novadex_worker;
GRANT SELECT (id, user_id, family_id, device, address, created_at, last_used_at, idle_expires_at, expires_at, revoked_at, revoked_reason) ON user_sessions
    TO novadex_worker;
GRANT SELECT (id, user_id, name, allowed_addresses, created_at, expires_at, revoked_at, revoked_reason) ON api_keys TO novadex_worker;
GRANT SELECT (user_id, master_version, created_at) ON user_keys TO novadex_worker;
GRANT SELECT (name, master_version, created_at) ON system_keys TO novadex_worker;
GRANT SELECT ON assets, markets TO novadex_user;

GRANT INSERT (actor, action, subject, detail) ON audit_log TO novadex_app, novadex_worker;
GRANT SELECT ON audit_chain, audit_pending TO novadex_app, novadex_worker;

GRANT INSERT (id, order_id, version, market_id, market_sequence, type, status, quantity, filled_quantity, price, reason,
    actor, occurred_at, trade_id) ON order_events TO novadex_app, novadex_worker;
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

GRANT SELECT ON book_snapshots TO novadex_app, novadex_worker, novadex_readonly;
GRANT INSERT, DELETE ON book_snapshots TO novadex_app;
-- The worker delivers emails and webhooks: it opens addresses, and needs the keys to them.
GRANT SELECT (email_ciphertext, preferences) ON users TO novadex_worker;
GRANT SELECT (method) ON user_sessions TO novadex_worker;
GRANT SELECT (wrapped_key) ON user_keys TO novadex_worker;
GRANT SELECT (wrapped_key) ON system_keys TO novadex_worker;
GRANT UPDATE (title, body, data, read_at) ON notifications TO novadex_app, novadex_worker;
GRANT DELETE ON notifications TO novadex_worker;
GRANT SELECT ON notification_kinds, notification_templates, notification_preferences, notification_webhooks, notification_deliveries,
    notification_positions, price_alerts, price_alert_position, known_devices, new_sign_ins, system_notices TO novadex_app, novadex_worker;
GRANT SELECT ON notification_kinds, notification_templates, notification_positions, price_alert_position TO novadex_readonly;
GRANT SELECT ON notification_preferences, price_alerts TO novadex_user;
GRANT INSERT, DELETE ON notification_templates, notification_preferences, notification_webhooks, price_alerts TO novadex_app;
GRANT UPDATE (subject, body, html) ON notification_templates TO novadex_app;
GRANT UPDATE (enabled) ON notification_preferences TO novadex_app;
GRANT UPDATE (url_ciphertext, secret_ciphertext, created_at) ON notification_webhooks TO novadex_app;
GRANT INSERT (notification_id, channel, due_at) ON notification_deliveries TO novadex_app, novadex_worker;
GRANT UPDATE (status, series, attempts, due_at, lease, last_error, finished_at) ON notification_deliveries TO novadex_app, novadex_worker;
GRANT INSERT, UPDATE ON notification_positions TO novadex_worker;
GRANT UPDATE (status, watched_from, triggered_at) ON price_alerts TO novadex_worker;
GRANT UPDATE ON price_alert_position TO novadex_worker;
GRANT INSERT, UPDATE (last_seen_at), DELETE ON known_devices TO novadex_worker;
GRANT UPDATE (session_id), DELETE ON new_sign_ins TO novadex_worker; -- to hold its rows
GRANT INSERT (id, role, title, body) ON system_notices TO novadex_app;
GRANT UPDATE (reached, finished_at) ON system_notices TO novadex_worker;
-- Erasures.
GRANT DELETE ON known_devices, new_sign_ins TO novadex_app;
GRANT DELETE ON notification_preferences, notification_webhooks, price_alerts TO novadex_worker;
GRANT SELECT ON pools, liquidity_events, pool_snapshots TO novadex_app, novadex_worker, novadex_readonly;
GRANT SELECT ON pools, pool_snapshots TO novadex_user;
GRANT INSERT ON pools, pool_snapshots TO novadex_app;
GRANT INSERT (id, position_id, version, user_id, market_id, type, liquidity, base_amount, quote_amount, base_fees, quote_fees,
    executed_at, sequence, source, source_event_id, actor) ON liquidity_events TO novadex_app;

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

DO $$ BEGIN PERFORM protect_rows(); END $$;

RESET ROLE;
COMMIT;
