-- Bounds of work that lasts longer than a request: still bounds.

-- name: allow_long_work
-- Raises the bounds of this transaction; cursors are planned to be read to the end. The timer of
-- transaction_timeout (PostgreSQL 17 and later) runs already and takes a longer bound only after it was stopped.
SELECT
    set_config('statement_timeout', '24h', true),
    set_config('lock_timeout', '60s', true),
    set_config('idle_in_transaction_session_timeout', '10min', true),
    set_config('cursor_tuple_fraction', '1', true),
    CASE WHEN current_setting('transaction_timeout', true) <> '' THEN set_config('transaction_timeout', '0', true) END,
    CASE WHEN current_setting('transaction_timeout', true) <> '' THEN set_config('transaction_timeout', '24h', true) END;
