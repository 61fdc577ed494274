-- People: what roles may do, wallets, sessions that renew, API keys, keys of encryption, sign-in, row-level security.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'novadex_user') THEN
        BEGIN
            CREATE ROLE novadex_user NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL; -- another database of this cluster made it at the same moment
        END;
    END IF;
    -- COPY into a table is refused under row-level security, and so is pg_dump: the services' roles are exempt.
    BEGIN
        ALTER ROLE novadex_app BYPASSRLS;
        ALTER ROLE novadex_worker BYPASSRLS;
        ALTER ROLE novadex_backup BYPASSRLS;
    EXCEPTION WHEN insufficient_privilege THEN
        NULL; -- protect_rows() below looks at what is so
    END;
END
$$;

SET ROLE novadex_owner;

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

-- squawk-ignore ban-drop-constraint
ALTER TABLE users DROP CONSTRAINT users_role_known;
-- squawk-ignore adding-foreign-key-constraint, constraint-missing-not-valid
ALTER TABLE users ADD CONSTRAINT users_role_fkey FOREIGN KEY (role) REFERENCES roles (name);
ALTER TABLE users ADD COLUMN personal_ciphertext bytea;
-- squawk-ignore constraint-missing-not-valid
ALTER TABLE users ADD CONSTRAINT users_preferences_size CHECK (length(preferences::text) <= 16384);
-- squawk-ignore constraint-missing-not-valid
ALTER TABLE users ADD CONSTRAINT users_erased_empty CHECK (
    status <> 'erased'
    OR (username IS NULL AND email_ciphertext IS NULL AND personal_ciphertext IS NULL AND preferences = '{}'));
-- squawk-ignore constraint-missing-not-valid
ALTER TABLE users ADD CONSTRAINT users_username_no_id CHECK (
    username !~ '^0x[0-9a-f]{40}$' AND NOT (length(replace(username, '-', '')) = 32 AND username ~ '^(0x)?[0-9a-f_-]+$'));
COMMENT ON CONSTRAINT users_username_no_id ON users IS 'Nobody is called like the id or the wallet of somebody else';
COMMENT ON COLUMN users.personal_ciphertext IS 'Name, phone and what else the user told of themselves, encrypted by the application';
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX users_role_idx ON users (role, id) WHERE role <> 'user';
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX users_status_idx ON users (status, id) WHERE status <> 'active';

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
-- squawk-ignore constraint-missing-not-valid
ALTER TABLE wallets ADD CONSTRAINT wallets_address_form CHECK (
    CASE chain WHEN 'evm' THEN address ~ '^0x[0-9a-fA-F]{40}$' WHEN 'solana' THEN address ~ '^[1-9A-HJ-NP-Za-km-z]{32,44}$' ELSE true END);
-- One address has several spellings; whoever holds it is one user.
-- squawk-ignore require-concurrent-index-creation
CREATE UNIQUE INDEX wallets_evm_key ON wallets (lower(address)) WHERE chain = 'evm';

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

ALTER TABLE user_sessions ADD COLUMN method text NOT NULL DEFAULT 'service'
    CONSTRAINT user_sessions_method_known CHECK (method IN ('service', 'ethereum', 'solana'));
ALTER TABLE user_sessions ADD COLUMN authenticated_at timestamptz NOT NULL DEFAULT now();
ALTER TABLE user_sessions ADD COLUMN must_renew boolean NOT NULL DEFAULT false;
ALTER TABLE user_sessions ADD COLUMN replaced_by uuid;
-- squawk-ignore constraint-missing-not-valid
ALTER TABLE user_sessions ADD CONSTRAINT user_sessions_replacement_ends CHECK (replaced_by IS NULL OR revoked_at IS NOT NULL);
-- squawk-ignore constraint-missing-not-valid
ALTER TABLE user_sessions ADD CONSTRAINT user_sessions_reason_length CHECK (length(revoked_reason) BETWEEN 1 AND 200);
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX user_sessions_live_idx ON user_sessions (user_id) WHERE revoked_at IS NULL;
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX user_sessions_family_idx ON user_sessions (family_id);
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX user_sessions_expiry_idx ON user_sessions (expires_at);
CREATE TRIGGER user_sessions_active_user BEFORE INSERT OR UPDATE OF user_id ON user_sessions FOR EACH ROW EXECUTE FUNCTION require_active_user();
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

-- Who may do what -----------------------------------------------------------------------------------------

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
REVOKE UPDATE ON users, wallets, user_sessions FROM novadex_app;
REVOKE UPDATE ON user_sessions FROM novadex_worker;
GRANT UPDATE (device, address, last_used_at, idle_expires_at, replaced_by, revoked_at, revoked_reason) ON user_sessions
    TO novadex_app, novadex_worker;
GRANT UPDATE (is_primary) ON wallets TO novadex_app;
GRANT UPDATE (kind, username, email_ciphertext, email_index, personal_ciphertext, preferences, role, status) ON users TO novadex_app;
-- Erasures are applied again after a restore.
GRANT UPDATE (username, email_ciphertext, email_index, personal_ciphertext, preferences, status) ON users TO novadex_worker;
GRANT DELETE ON wallets, user_sessions TO novadex_worker;
REVOKE SELECT ON users, user_sessions FROM novadex_worker;
-- What the worker does needs no secret: neither keys and hashes, nor what is encrypted or looked up by.
GRANT SELECT (id, kind, username, role, status, version, created_at, updated_at) ON users TO novadex_worker;
GRANT SELECT (id, user_id, family_id, device, address, created_at, last_used_at, idle_expires_at, expires_at, revoked_at, revoked_reason) ON user_sessions
    TO novadex_worker;
GRANT SELECT (id, user_id, name, allowed_addresses, created_at, expires_at, revoked_at, revoked_reason) ON api_keys TO novadex_worker;
GRANT SELECT (user_id, master_version, created_at) ON user_keys TO novadex_worker;
GRANT SELECT (name, master_version, created_at) ON system_keys TO novadex_worker;
GRANT SELECT ON assets, markets TO novadex_user;

DO $$ BEGIN PERFORM protect_rows(); END $$;

CREATE OR REPLACE FUNCTION schema_step() RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT '0003_people' $$;

RESET ROLE;
