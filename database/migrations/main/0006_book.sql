-- Books of other exchanges: snapshots that outlive the cache server.

-- squawk-ignore-file prefer-bigint-over-int

SET ROLE novadex_owner;

-- The book -----------------------------------------------------------------------------------------------

CREATE TABLE book_snapshots (
    id uuid PRIMARY KEY CONSTRAINT book_snapshots_id_v7 CHECK (get_byte(uuid_send(id), 6) >> 4 = 7),
    market_id integer NOT NULL CONSTRAINT book_snapshots_market_fkey REFERENCES markets (id),
    sequence bigint NOT NULL CONSTRAINT book_snapshots_sequence_positive CHECK (sequence >= 0),
    checksum bigint NOT NULL CONSTRAINT book_snapshots_checksum_range CHECK (checksum BETWEEN 0 AND 4294967295),
    bids jsonb NOT NULL CONSTRAINT book_snapshots_bids_form CHECK (jsonb_typeof(bids) = 'array'),
    asks jsonb NOT NULL CONSTRAINT book_snapshots_asks_form CHECK (jsonb_typeof(asks) = 'array'),
    source text NOT NULL CONSTRAINT book_snapshots_source_form CHECK (source ~ '^[a-z0-9_-]{1,32}$'),
    taken_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX book_snapshots_market_idx ON book_snapshots (market_id, id);
COMMENT ON TABLE book_snapshots IS 'Books of markets that another exchange runs, as it reported them: the newest is the book where the cache server has none';
COMMENT ON COLUMN book_snapshots.id IS 'UUIDv7: its time is when the snapshot was written';
COMMENT ON COLUMN book_snapshots.market_id IS 'The market; one with snapshots shows them, not its own orders';
COMMENT ON COLUMN book_snapshots.sequence IS 'The exchange''s number of the last update in it';
COMMENT ON COLUMN book_snapshots.checksum IS 'CRC32 of the best 25 levels of both sides, as docs/how-to/book.md has it';
COMMENT ON COLUMN book_snapshots.bids IS 'All levels as [price, quantity], both text, the highest price first';
COMMENT ON COLUMN book_snapshots.asks IS 'All levels as [price, quantity], both text, the lowest price first';
COMMENT ON COLUMN book_snapshots.source IS 'Whose book it is';
COMMENT ON COLUMN book_snapshots.taken_at IS 'When the exchange''s messages up to it were received, by the capture';

-- Who may do what -----------------------------------------------------------------------------------------

GRANT SELECT ON book_snapshots TO novadex_app, novadex_worker, novadex_readonly;
GRANT INSERT, DELETE ON book_snapshots TO novadex_app;

CREATE OR REPLACE FUNCTION schema_step() RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT '0006_book' $$;

RESET ROLE;
