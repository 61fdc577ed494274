"""Named queries from ``.sql`` files, and rows."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from novadex.storage.queries import Query, load_queries
from novadex.storage.replicas import position_number
from novadex.storage.rows import Row

SOURCE = Path(__file__).parents[3] / "src" / "novadex"
FILES = [path for path in SOURCE.rglob("*.sql") if "-- name: " in path.read_text()]


def written(folder: Path, text: str) -> Path:
    path = folder / "queries.sql"
    path.write_text(text)
    return path


def test_a_file_gives_its_queries_by_name(tmp_path: Path) -> None:
    queries = load_queries(
        written(
            tmp_path,
            "-- Queries of a test.\n\n-- name: first\n-- One\n-- and more.\nSELECT 1; -- why\n\n"
            "-- name: second\n-- Two.\nSELECT 2\n-- a comment inside\nFROM users;\n",
        )
    )
    assert list(queries) == ["first", "second"]
    assert queries.first == Query("first", "One and more.", "SELECT 1; -- why")
    assert queries["second"].sql == "SELECT 2\n-- a comment inside\nFROM users"


def test_a_missing_name_says_which_there_are(tmp_path: Path) -> None:
    queries = load_queries(written(tmp_path, "-- name: one\n-- One.\nSELECT 1;\n-- name: two\n-- Two.\nSELECT 2;\n"))
    with pytest.raises(AttributeError, match="no query named 'three'; there are: one, two"):
        _ = queries.three


@pytest.mark.parametrize(
    "text",
    [
        "-- name: one\nSELECT 1;\n",
        "-- name: one\n-- One.\nSELECT 1;\n-- name: one\n-- Again.\nSELECT 2;\n",
        "-- name: one\n-- Nothing follows.\n",
    ],
)
def test_a_query_without_a_purpose_or_a_name_of_its_own_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match="the query one"):
        load_queries(written(tmp_path, text))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_every_file_of_the_package_loads(path: Path) -> None:
    queries = load_queries(path)
    assert queries
    assert len(queries) == path.read_text().count("-- name: ")
    for query in queries.values():
        assert query.purpose.endswith((".", ":", "?", ".)")), query.name
        assert " OFFSET " not in query.sql.upper(), query.name


def test_a_row_is_a_mapping_with_attributes() -> None:
    row = Row(id=7, symbol="BTC")
    assert (row.id, row["symbol"], dict(row)) == (7, "BTC", {"id": 7, "symbol": "BTC"})
    with pytest.raises(AttributeError, match="no column 'price'; it has id, symbol"):
        _ = row.price
    with pytest.raises(KeyError):
        _ = row["price"]
    assert copy.deepcopy(row) == row
    assert isinstance(copy.copy(row), Row)
    assert not hasattr(row, "price")


@pytest.mark.parametrize(
    ("lower", "higher"), [("0/9", "0/A"), ("0/FFFFFFFF", "1/0"), ("9/0", "10/0"), ("A/1", "A/2")]
)
def test_log_positions_are_compared_as_numbers(lower: str, higher: str) -> None:
    assert position_number(lower) < position_number(higher)
