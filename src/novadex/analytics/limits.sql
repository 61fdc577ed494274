-- Bounds of work that lasts longer than a request: still bounds.

-- name: allow_long_work
-- Raises the bounds of this transaction, where the server knows them; cursors are planned to be read to the end.
SELECT set_config(s.name, v.value, true)
FROM (
    VALUES
    ('statement_timeout', '24h'), ('transaction_timeout', '24h'), ('lock_timeout', '60s'),
    ('idle_in_transaction_session_timeout', '10min'), ('cursor_tuple_fraction', '1')
) AS v (name, value)
JOIN pg_settings AS s USING (name);
