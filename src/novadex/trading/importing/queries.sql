-- name: current_transaction
-- The id of this transaction, to ask later how it ended.
SELECT pg_current_xact_id()::text;

-- name: transaction_status
-- How a transaction ended: committed, aborted, in progress; null or an error where the server does not know it.
SELECT pg_xact_status($1::text::xid8);

-- name: make_lines
-- A place for a chunk of which some trades may be there already; it is empty at the end of every transaction.
CREATE TEMPORARY TABLE IF NOT EXISTS import_lines (
    ordinal integer, id uuid, user_id uuid, market_id integer, base_decimals smallint, quote_decimals smallint,
    type text, side text, liquidity text, base_amount numeric, quote_amount numeric, price numeric,
    fee_amount numeric, fee_asset_id integer, executed_at timestamptz, sequence bigint, match_id uuid, order_id uuid,
    source text, source_trade_id text
) ON COMMIT DELETE ROWS;

-- name: copy_lines
-- A chunk as text, each line with its ordinal.
COPY import_lines FROM STDIN;

-- name: lines_without_references
-- Lines whose user does not exist.
SELECT l.ordinal, 'user_id' AS field, l.user_id AS value
FROM import_lines l
LEFT JOIN users u ON u.id = l.user_id
WHERE u.id IS NULL
ORDER BY l.ordinal;

-- name: drop_lines
-- Takes lines out of the chunk.
DELETE FROM import_lines WHERE ordinal = ANY($1::integer[]);

-- name: add_lines
-- Writes the trades whose id is free; of an id that stands there twice the first.
INSERT INTO trades (id, user_id, market_id, base_decimals, quote_decimals, type, side, liquidity, base_amount,
    quote_amount, price, fee_amount, fee_asset_id, executed_at, sequence, match_id, order_id, source, source_trade_id)
SELECT DISTINCT ON (id) id, user_id, market_id, base_decimals, quote_decimals, type, side, liquidity, base_amount,
    quote_amount, price, fee_amount, fee_asset_id, executed_at, sequence, match_id, order_id, source, source_trade_id
FROM import_lines
ORDER BY id, ordinal
ON CONFLICT (id) DO NOTHING;

-- name: conflicting_lines
-- Lines whose id belongs to a trade with other content, and the first field that differs. $1 and $2 are the lowest
-- and the highest id of the chunk. Only where $3: time within the millisecond and sequence, which a source's feeds
-- give with more or less precision for the same trade.
SELECT l.ordinal, d.field, d.here, d.recorded
FROM import_lines l
JOIN trades t ON t.id = l.id
CROSS JOIN LATERAL (
    SELECT v.field, v.here, v.recorded
    FROM (VALUES
        ('user_id', l.user_id::text, t.user_id::text, l.user_id = t.user_id),
        ('market', l.market_id::text, t.market_id::text, l.market_id = t.market_id),
        ('type', l.type, t.type, l.type = t.type),
        ('side', l.side, t.side, l.side = t.side),
        ('liquidity', l.liquidity, t.liquidity, l.liquidity = t.liquidity),
        ('price', l.price::text, t.price::text, l.price = t.price),
        ('base_amount', l.base_amount::text, t.base_amount::text, l.base_amount = t.base_amount),
        ('quote_amount', l.quote_amount::text, t.quote_amount::text, l.quote_amount = t.quote_amount),
        ('fee_amount', l.fee_amount::text, t.fee_amount::text, l.fee_amount = t.fee_amount),
        ('fee_asset', l.fee_asset_id::text, t.fee_asset_id::text, l.fee_asset_id IS NOT DISTINCT FROM t.fee_asset_id),
        ('executed_at', l.executed_at::text, t.executed_at::text, l.executed_at = t.executed_at OR NOT $3),
        ('sequence', l.sequence::text, t.sequence::text, l.sequence IS NOT DISTINCT FROM t.sequence OR NOT $3),
        ('match_id', l.match_id::text, t.match_id::text, l.match_id IS NOT DISTINCT FROM t.match_id),
        ('order_id', l.order_id::text, t.order_id::text, l.order_id IS NOT DISTINCT FROM t.order_id),
        ('source', l.source, t.source, l.source IS NOT DISTINCT FROM t.source),
        ('source_trade_id', l.source_trade_id, t.source_trade_id,
            l.source_trade_id IS NOT DISTINCT FROM t.source_trade_id)
    ) AS v (field, here, recorded, same)
    WHERE NOT v.same
    LIMIT 1
) AS d
WHERE t.id BETWEEN $1 AND $2
    AND ((l.user_id, l.market_id, l.type, l.side, l.liquidity, l.price, l.base_amount, l.quote_amount, l.fee_amount,
            l.fee_asset_id, l.match_id, l.order_id, l.source, l.source_trade_id)
        IS DISTINCT FROM (t.user_id, t.market_id, t.type, t.side, t.liquidity, t.price, t.base_amount,
            t.quote_amount, t.fee_amount, t.fee_asset_id, t.match_id, t.order_id, t.source, t.source_trade_id)
        OR ($3 AND (l.executed_at, l.sequence) IS DISTINCT FROM (t.executed_at, t.sequence)))
ORDER BY l.ordinal;
