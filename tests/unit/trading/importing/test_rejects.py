"""The rejects file: beside the file, else in the working folder, and never someone else's."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from novadex.trading.importing.records import BadLine, ImportFailedError
from novadex.trading.importing.rejects import RejectsFile

BAD = BadLine(3, "price", "x", "price is not a number: 'x'.", '1,x,"a,b"\udcff')


def rows(path: Path | None) -> list[dict[str, str]]:
    assert path is not None
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_it_is_made_with_the_first_bad_line_only(tmp_path: Path):
    rejects = RejectsFile(str(tmp_path / "trades.csv"))
    rejects.write([])
    assert (rejects.path, list(tmp_path.iterdir())) == (None, [])
    rejects.write([BAD])
    rejects.write([BadLine((4, 17), "id", "", "id is missing.", "{}")])
    rejects.close()
    assert rejects.path == tmp_path / "trades.csv.rejects.csv"
    assert rows(rejects.path) == [
        {"line": "3", "element": "", "field": "price", "value": "x", "reason": BAD.reason, "raw": '1,x,"a,b"\\udcff'},
        {"line": "4", "element": "17", "field": "id", "value": "", "reason": "id is missing.", "raw": "{}"},
    ]


def test_it_replaces_the_one_of_an_earlier_import(tmp_path: Path):
    for count in (5, 1):
        rejects = RejectsFile(str(tmp_path / "trades.csv"))
        rejects.write([BAD] * count)
        rejects.close()
        assert len(rows(rejects.path)) == count


def test_two_imports_of_one_file_do_not_write_into_each_other(tmp_path: Path):
    first, second = RejectsFile(str(tmp_path / "trades.csv")), RejectsFile(str(tmp_path / "trades.csv"))
    first.write([BAD])
    second.write([BAD, BAD])
    first.close()
    second.close()
    assert (len(rows(first.path)), len(rows(second.path))) == (1, 2)
    assert second.path == tmp_path / f"trades.csv.rejects.{os.getpid()}.csv"


def test_where_the_files_folder_cannot_be_written_it_is_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    rejects = RejectsFile("/proc/trades.csv")
    rejects.write([BAD])
    rejects.close()
    assert rejects.path == tmp_path / "trades.csv.rejects.csv"
    stdin = RejectsFile("-")
    stdin.write([BAD])
    stdin.close()
    assert stdin.path == tmp_path / "stdin.rejects.csv"


def test_a_link_in_its_place_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    precious = tmp_path / "precious"
    precious.write_text("keep")
    (tmp_path / "trades.csv.rejects.csv").symlink_to(precious)
    rejects = RejectsFile(str(tmp_path / "trades.csv"))
    rejects.write([BAD])
    rejects.close()
    assert precious.read_text() == "keep"
    assert rejects.path == tmp_path / "work" / "trades.csv.rejects.csv"


def test_where_nothing_can_be_written_the_import_fails(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir("/proc")
    with pytest.raises(ImportFailedError, match="cannot be written"):
        RejectsFile("/proc/trades.csv").write([BAD])
