-- What a keyring asks the main database.

-- name: master_keys
-- Every master key that this database has been used with.
SELECT version, check_value, retired_at IS NOT NULL AS retired FROM public.master_keys ORDER BY version;

-- name: add_master_key
-- Notes that a master key is in use from now on; one that is noted stays as it is.
INSERT INTO public.master_keys (version, check_value) VALUES ($1, $2) ON CONFLICT (version) DO NOTHING;

-- name: system_key
-- A key of the whole installation.
SELECT wrapped_key, master_version FROM public.system_keys WHERE name = $1;

-- name: add_system_key
-- Adds a key of the whole installation; of several that are made at the same moment the first stays.
INSERT INTO public.system_keys (name, wrapped_key, master_version) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING;
