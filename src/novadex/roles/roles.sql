-- What roles may do.

-- name: permissions_by_role
-- Every role with its permissions, as one document.
SELECT read_mark() AS mark, coalesce(jsonb_object_agg(role, allowed), '{}') AS permissions
FROM (
    SELECT r.name AS role, coalesce(jsonb_agg(p.permission) FILTER (WHERE p.permission IS NOT NULL), '[]') AS allowed
    FROM roles r LEFT JOIN role_permissions p ON p.role = r.name GROUP BY r.name
) AS of_role;

-- name: roles
-- Every role with its description and permissions, the lowest first.
SELECT r.name, r.description, coalesce(array_agg(p.permission ORDER BY p.permission) FILTER (WHERE p.permission IS NOT NULL), '{}')
FROM roles r LEFT JOIN role_permissions p ON p.role = r.name
GROUP BY r.name, r.description
ORDER BY count(p.permission), r.name;
