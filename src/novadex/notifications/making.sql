-- Making notifications: who is told, in which words, by which ways.

-- name: recipients
-- For pairs of a user and a kind: locale, channels that the user wants and can be reached by; erased users and system
-- accounts are left out. The users are held until the commit, so that nobody is erased meanwhile.
SELECT u.id, k.name AS kind, u.preferences ->> 'locale' AS locale,
    ARRAY(
        SELECT c.channel
        FROM unnest(ARRAY['in_app', 'email', 'webhook']) AS c (channel)
        LEFT JOIN notification_preferences p ON p.user_id = u.id AND p.kind = k.name AND p.channel = c.channel
        WHERE (c.channel = ANY (k.required_channels) OR coalesce(p.enabled, c.channel = ANY (k.default_channels)))
            AND CASE c.channel
                WHEN 'email' THEN u.status = 'active' AND u.email_ciphertext IS NOT NULL
                WHEN 'webhook' THEN u.status = 'active' AND EXISTS (SELECT FROM notification_webhooks w WHERE w.user_id = u.id)
                ELSE true
            END
    ) AS channels
FROM unnest($1::uuid[], $2::text[]) AS wanted (user_id, kind)
JOIN users u ON u.id = wanted.user_id
JOIN notification_kinds k ON k.name = wanted.kind
WHERE u.status <> 'erased' AND u.kind <> 'system'
ORDER BY u.id
FOR KEY SHARE OF u;

-- name: templates_of
-- The words of kinds.
SELECT kind, channel, locale, subject, body, html FROM notification_templates WHERE kind = ANY ($1::text[]);

-- name: insert_notifications
-- New notifications; those whose cause was told already are left out.
INSERT INTO notifications (id, user_id, kind, cause_id, title, body, data, in_app)
SELECT n.id, n.user_id, n.kind, n.cause_id, n.title, n.body, n.data::jsonb, n.in_app
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::boolean[])
    AS n (id, user_id, kind, cause_id, title, body, data, in_app)
ORDER BY n.user_id, n.kind, n.cause_id
ON CONFLICT (user_id, kind, cause_id) DO NOTHING
RETURNING id, kind;

-- name: insert_deliveries
-- Ways out of the house.
INSERT INTO notification_deliveries (notification_id, channel) SELECT * FROM unnest($1::uuid[], $2::text[]);
