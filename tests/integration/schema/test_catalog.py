"""What the catalogs say about both schemas: no float for money, everything explained, no idle index."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.conftest import DatabasePair

ROOT = Path(__file__).parents[3]
ERASING = ROOT / "src/novadex/keys/erasures.sql"
KEYS_PAGE = ROOT / "docs/how-to/keys.md"
TABLES = {
    "main": {
        "users",
        "trades",
        "orders",
        "liquidity_positions",
        "portfolio_snapshots",
        "notifications",
        "user_sessions",
    },
    "analytics": {"user_events", "trading_analytics", "page_views", "performance_metrics"},
}
PARTITIONED = {
    "main": {"trades", "order_events"},
    "analytics": {"trade_facts", "user_events", "page_views", "performance_metrics"},
}
INDEX_FREE_FOREIGN_KEYS = {
    # Rows of these tables are never deleted and their keys never change, so nothing ever looks from them back.
    "assets",
    "markets",
    "orders",
    "pools",
    "liquidity_positions",
    "transfers",
    "roles",
    "permissions",
    "master_keys",
    "api_keys",
    "notification_kinds",
}


@pytest.fixture(params=["main", "analytics"])
def database(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def catalog(shared_databases: DatabasePair, database: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection to the database whose catalogs are read."""
    with psycopg.connect(getattr(shared_databases, f"{database}_url")("owner")) as connection:
        yield connection


def test_the_eleven_tables_exist(catalog: psycopg.Connection[Any], database: str) -> None:
    assert sum(len(names) for names in TABLES.values()) == 11
    rows = catalog.execute(
        "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace"
    )
    assert {row[0] for row in rows} >= TABLES[database]


def test_no_float_column_outside_performance_metrics(catalog: psycopg.Connection[Any]) -> None:
    """Also none that hides in a domain, an array or a composite type."""
    rows = catalog.execute("""
        WITH RECURSIVE parts AS (
            SELECT a.attrelid::regclass::text AS place, a.attname, a.atttypid AS type FROM pg_attribute a
            JOIN pg_class c ON c.oid = a.attrelid
            WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'c', 'f')
                AND a.attnum > 0 AND NOT a.attisdropped
            UNION
            SELECT place, attname, CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.typelem END
            FROM parts JOIN pg_type t ON t.oid = type WHERE t.typtype = 'd' OR t.typelem <> 0
        )
        SELECT place, attname, type::regtype::text FROM parts
        WHERE type IN ('real'::regtype, 'double precision'::regtype, 'money'::regtype)
    """).fetchall()
    assert {(column, kind) for place, column, kind in rows if place.startswith("performance_metrics")} <= {
        ("value", "double precision")
    }
    assert [place for place, *_ in rows if not place.startswith("performance_metrics")] == []


def test_no_function_takes_or_returns_a_float(catalog: psycopg.Connection[Any]) -> None:
    rows = catalog.execute("""
        SELECT proname FROM pg_proc, unnest(proargtypes::oid[] || prorettype) AS type
        WHERE pronamespace = 'public'::regnamespace
            AND type IN ('real'::regtype, 'double precision'::regtype, 'money'::regtype)
    """).fetchall()
    assert rows == []


def test_numeric_columns_never_round(catalog: psycopg.Connection[Any]) -> None:
    """A numeric with a precision would round what it is given; the checks refuse instead."""
    rows = catalog.execute("""
        SELECT attrelid::regclass::text, attname FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid
        WHERE c.relnamespace = 'public'::regnamespace AND atttypid = 'numeric'::regtype AND atttypmod <> -1
        UNION SELECT typname, '' FROM pg_type
        WHERE typnamespace = 'public'::regnamespace AND typbasetype = 'numeric'::regtype AND typtypmod <> -1
    """).fetchall()
    assert rows == []


def test_everything_has_a_comment(catalog: psycopg.Connection[Any]) -> None:
    """Tables, columns, functions and domains; a partition has those of its parent."""
    rows = catalog.execute("""
        SELECT 'table ' || c.oid::regclass FROM pg_class c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm') AND NOT c.relispartition
            AND c.relname NOT LIKE '%yoyo%' AND obj_description(c.oid, 'pg_class') IS NULL
        UNION ALL
        SELECT 'column ' || c.oid::regclass || '.' || a.attname
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm') AND a.attnum > 0
            AND NOT a.attisdropped AND c.relname NOT LIKE '%yoyo%' AND col_description(c.oid, a.attnum) IS NULL
        UNION ALL
        SELECT 'function ' || p.oid::regprocedure FROM pg_proc p
        WHERE p.pronamespace = 'public'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL
        UNION ALL
        SELECT 'domain ' || t.typname FROM pg_type t
        WHERE t.typnamespace = 'public'::regnamespace AND t.typtype = 'd'
            AND obj_description(t.oid, 'pg_type') IS NULL
    """).fetchall()
    assert rows == []


def test_comments_say_something(catalog: psycopg.Connection[Any]) -> None:
    """A comment that repeats the name, or stands at many columns, explains nothing."""
    rows = catalog.execute("""
        SELECT a.attname, col_description(c.oid, a.attnum) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
            AND a.attnum > 0 AND NOT a.attisdropped AND c.relname NOT LIKE '%yoyo%'
    """).fetchall()
    assert len(rows) > 40
    assert [name for name, comment in rows if comment.lower().replace(" ", "_") == name] == []


def test_what_grows_is_partitioned_and_has_no_default_partition(
    catalog: psycopg.Connection[Any], database: str
) -> None:
    rows = catalog.execute(
        "SELECT partrelid::regclass::text, partdefid, partstrat FROM pg_partitioned_table"
    ).fetchall()
    assert {name for name, *_ in rows} == PARTITIONED[database]
    assert {(default, strategy) for _, default, strategy in rows} == {(0, "r")}


def test_partitions_are_made_three_months_ahead(catalog: psycopg.Connection[Any], database: str) -> None:
    rows = catalog.execute(
        "SELECT inhparent::regclass::text FROM pg_inherits WHERE inhrelid IN "
        "(SELECT oid FROM pg_class WHERE relkind = 'r')"
    ).fetchall()
    assert Counter(row[0] for row in rows) == dict.fromkeys(PARTITIONED[database], 4)


def test_every_foreign_key_is_valid_and_its_target_is_found_by_index(catalog: psycopg.Connection[Any]) -> None:
    """Where a referenced row can be deleted or get another key, the referencing columns need an index."""
    keys = catalog.execute("""
        SELECT conname, conrelid::regclass::text, confrelid::regclass::text, convalidated,
            EXISTS (
                SELECT FROM pg_index i WHERE i.indrelid = conrelid AND i.indisvalid AND i.indpred IS NULL
                AND (i.indkey::smallint[])[0:cardinality(conkey) - 1] @> conkey
            )
        FROM pg_constraint WHERE contype = 'f' AND conparentid = 0 AND connamespace = 'public'::regnamespace
    """).fetchall()
    assert [name for name, _, _, valid, _ in keys if not valid] == []
    without = {name for name, _, target, _, indexed in keys if not indexed and target not in INDEX_FREE_FOREIGN_KEYS}
    assert without == set()


def test_what_foreign_keys_look_at_without_an_index_cannot_be_deleted(shared_databases: DatabasePair) -> None:
    with psycopg.connect(shared_databases.main_url("owner")) as connection:
        rows = connection.execute(
            "SELECT role, name FROM unnest(%s::text[]) AS name,"
            " unnest(ARRAY['novadex_app', 'novadex_worker']) AS role WHERE has_table_privilege(role, name, 'DELETE')",
            (sorted(INDEX_FREE_FOREIGN_KEYS),),
        ).fetchall()
    assert rows == []


def test_no_index_repeats_another(catalog: psycopg.Connection[Any]) -> None:
    """An index whose columns begin another one of the same kind is never needed, unless it is unique."""
    rows = catalog.execute("""
        WITH indexes AS (
            SELECT i.indexrelid::regclass::text AS name, i.indrelid, c.relam, i.indisunique,
                i.indkey::text || ' ' AS columns, i.indclass::text || ' ' AS classes, i.indoption::text AS options,
                coalesce(pg_get_expr(i.indpred, i.indrelid), '') AS predicate,
                coalesce(pg_get_expr(i.indexprs, i.indrelid), '') AS expressions
            FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
            WHERE c.relnamespace = 'public'::regnamespace AND c.relname NOT LIKE '%yoyo%'
        )
        SELECT a.name, b.name FROM indexes a JOIN indexes b
            ON a.indrelid = b.indrelid AND a.name <> b.name AND a.relam = b.relam AND a.predicate = b.predicate
            AND a.expressions = b.expressions AND starts_with(b.columns, a.columns)
        WHERE NOT a.indisunique OR (b.indisunique AND a.columns = b.columns)
    """).fetchall()
    assert rows == []


def test_every_index_is_valid(catalog: psycopg.Connection[Any]) -> None:
    assert catalog.execute("SELECT indexrelid::regclass FROM pg_index WHERE NOT indisvalid").fetchall() == []


def test_every_constraint_has_a_name_of_its_own(catalog: psycopg.Connection[Any]) -> None:
    """A message that names the constraint says what was wrong; a generated name does not."""
    rows = catalog.execute("""
        SELECT conname FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace AND contype IN ('c', 'f') AND conparentid = 0
            AND conname ~ '_check[0-9]*$|_fkey[0-9]+$'
    """).fetchall()
    assert rows == []


def test_the_owner_owns_everything(catalog: psycopg.Connection[Any]) -> None:
    rows = catalog.execute("""
        SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'public'::regnamespace
            AND relowner <> 'novadex_owner'::regrole
        UNION ALL SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace
            AND proowner <> 'novadex_owner'::regrole
        UNION ALL SELECT typname FROM pg_type WHERE typnamespace = 'public'::regnamespace
            AND typowner <> 'novadex_owner'::regrole
    """).fetchall()
    assert rows == []


def test_what_runs_with_the_owners_rights_fixes_its_surroundings(catalog: psycopg.Connection[Any]) -> None:
    """A SECURITY DEFINER function that trusts the caller's search_path can be made to run the caller's code."""
    rows = catalog.execute("""
        SELECT proname, coalesce(proconfig, '{}')
        FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosecdef
    """).fetchall()
    assert rows
    for name, configuration in rows:
        assert any(line.startswith("search_path=pg_catalog") for line in configuration), name
    public = catalog.execute("""
        SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosecdef
            AND has_function_privilege('novadex_readonly', oid, 'EXECUTE')
    """).fetchall()
    assert public == []


EMPTIED = {
    "main": {
        "api_keys",
        "known_devices",
        "notification_preferences",
        "notification_webhooks",
        "notifications",
        "price_alerts",
        "user_keys",
        "user_sessions",
        "wallets",
    },
    "analytics": set[str](),
}
"""Tables with rows of users from which an erasure takes what is personal."""
RECORDS = {
    "main": {
        "erasures",
        "idempotency_keys",
        "liquidity_events",
        "liquidity_positions",
        "orders",
        "portfolio_closings",
        "portfolio_flows",
        "portfolio_holdings",
        "portfolio_lots",
        "portfolio_positions",
        "portfolio_snapshots",
        "trades",
        "transfers",
        "user_fee_tiers",
    },
    "analytics": {"page_views", "trade_facts", "trading_analytics", "trading_other_fees", "user_events"},
}
"""Those that it leaves as they are: docs/how-to/keys.md says so of each."""


def test_every_table_with_rows_of_users_is_emptied_by_an_erasure_or_said_to_stay(
    catalog: psycopg.Connection[Any], database: str
) -> None:
    rows = catalog.execute(
        "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
        " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
        " AND a.attname = 'user_id' AND NOT a.attisdropped"
    )
    assert {row[0] for row in rows} == EMPTIED[database] | RECORDS[database]
    assert not EMPTIED[database] & RECORDS[database]


def test_what_an_erasure_empties_and_leaves_is_in_its_statements_and_in_the_docs() -> None:
    written = set(re.findall(r"^(?:UPDATE|DELETE FROM) public\.(\w+)", ERASING.read_text(), re.MULTILINE))
    by_other_keys = {"new_sign_ins", "notification_deliveries"}
    assert written == {"users"} | by_other_keys | EMPTIED["main"] | EMPTIED["analytics"]
    said = KEYS_PAGE.read_text().partition("## Erasing users")[2].partition("\n## ")[0]
    assert {name for name in RECORDS["main"] | RECORDS["analytics"] if f"`{name}`" not in said} == set()
