-- Simulations: who simulates a market, and whether another one followed.

-- name: taken
-- Own these markets, for as long as the connection lives; which of them another simulation owns.
SELECT m.symbol
FROM unnest($1::integer[]) AS wanted (id)
JOIN markets m ON m.id = wanted.id
WHERE NOT pg_try_advisory_lock(1936289141, m.id)
ORDER BY m.id;

-- name: another_began
-- Whether another simulation began in the market of an order after it was placed.
SELECT EXISTS (
    SELECT FROM order_events placed
    JOIN order_events later ON later.market_id = placed.market_id AND later.market_sequence > placed.market_sequence
    WHERE placed.id = $1 AND later.reason = $2
);
