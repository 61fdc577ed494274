-- One audited change in one transaction: a role, which the triggers write down.
\set user random(1, 1000)
UPDATE users SET role = CASE role WHEN 'user' THEN 'trader' ELSE 'user' END
WHERE id = ('019b0000-0000-7000-8000-' || lpad(to_hex(:user::integer), 12, '0'))::uuid;
