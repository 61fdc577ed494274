-- The audit log: triggers write it, from services and from plain SQL; what is in it is sealed into a hash chain.

SET ROLE novadex_owner;

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

-- Rows that were written before there was a chain.
INSERT INTO audit_pending (audit_id, row_hash) SELECT id, audit_row_hash(audit_log) FROM audit_log;

-- squawk-ignore require-concurrent-index-creation
CREATE INDEX audit_log_actor_idx ON audit_log (actor, id);
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX audit_log_subject_idx ON audit_log (subject, id);
-- squawk-ignore require-concurrent-index-creation
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
    EXECUTE FUNCTION audit_change('market', 'symbol', 'status', 'base_decimals', 'quote_decimals');

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

REVOKE INSERT ON audit_log FROM novadex_app, novadex_worker;
GRANT INSERT (actor, action, subject, detail) ON audit_log TO novadex_app, novadex_worker;
GRANT SELECT ON audit_chain, audit_pending TO novadex_app, novadex_worker;

CREATE OR REPLACE FUNCTION schema_step() RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT '0004_audit' $$;

RESET ROLE;
