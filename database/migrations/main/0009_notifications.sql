-- Notifications: what users are told, once for each cause; how they want to hear of it; deliveries that are attempted in
-- one series each; price alerts, devices and notices that cause them.

-- squawk-ignore-file prefer-bigint-over-int, ban-drop-column, adding-not-nullable-field, require-concurrent-index-creation
-- squawk-ignore-file constraint-missing-not-valid, adding-foreign-key-constraint, disallowed-unique-constraint

SET ROLE novadex_owner;

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

ALTER TABLE notifications DROP COLUMN channel;
ALTER TABLE notifications DROP COLUMN status;
ALTER TABLE notifications ADD COLUMN cause_id text CONSTRAINT notifications_cause_length CHECK (length(cause_id) BETWEEN 1 AND 200);
ALTER TABLE notifications ADD COLUMN in_app boolean NOT NULL DEFAULT true;
UPDATE notifications SET cause_id = id::text;
ALTER TABLE notifications ALTER COLUMN cause_id SET NOT NULL;
ALTER TABLE notifications ADD CONSTRAINT notifications_once UNIQUE (user_id, kind, cause_id);
ALTER TABLE notifications ADD CONSTRAINT notifications_kind_fkey FOREIGN KEY (kind) REFERENCES notification_kinds (name);
ALTER TABLE notifications ADD CONSTRAINT notifications_data_size CHECK (length(data::text) <= 16384);
CREATE INDEX notifications_unread_idx ON notifications (user_id, id) WHERE in_app AND read_at IS NULL;
COMMENT ON COLUMN notifications.cause_id IS 'What caused it, such as an event: the same cause is told once';
COMMENT ON COLUMN notifications.in_app IS 'Whether the user sees it in the app; else it is there for its deliveries';

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
-- What happened before there were notifications is not told now.
INSERT INTO notification_positions (market_id, market_sequence) SELECT market_id, sequence FROM market_sequences;

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
INSERT INTO known_devices (user_id, device_hash, last_seen_at)
SELECT s.user_id, device_hash(s.user_id, s.device), max(s.created_at)
FROM user_sessions s JOIN users u ON u.id = s.user_id WHERE u.status <> 'erased' GROUP BY 1, 2;

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

-- Who may do what -----------------------------------------------------------------------------------------

REVOKE UPDATE ON notifications FROM novadex_app, novadex_worker;
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

CREATE OR REPLACE FUNCTION schema_step() RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT '0009_notifications' $$;

RESET ROLE;
