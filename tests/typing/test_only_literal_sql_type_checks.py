"""Type checking is the injection test: only literal SQL reaches a database."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent


@pytest.fixture(scope="module")
def errors() -> dict[str, list[dict[str, Any]]]:
    """What basedpyright says, by file."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name("basedpyright")), "--outputjson", "--project", str(FOLDER)],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
    )
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] == 2, done.stdout
    found: dict[str, list[dict[str, Any]]] = {}
    for problem in report["generalDiagnostics"]:
        if problem["severity"] == "error":
            found.setdefault(Path(problem["file"]).name, []).append(problem)
    return found


def test_literal_sql_and_queries_of_files_are_accepted(errors: dict[str, list[dict[str, Any]]]) -> None:
    assert errors.get("accepted.py", []) == []


def test_everything_else_is_rejected(errors: dict[str, list[dict[str, Any]]]) -> None:
    lines = (FOLDER / "rejected.py").read_text().splitlines()
    marked = {number for number, line in enumerate(lines, 1) if line.endswith("# rejected")}
    assert len(marked) > 25
    assert {problem["range"]["start"]["line"] + 1 for problem in errors["rejected.py"]} == marked
