"""With ``CI=true`` a skipped test fails: a green run has run everything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SPECIMEN = """
import pytest

@pytest.mark.skipif(True, reason="no such package")
def test_by_mark(): ...

def test_by_call():
    pytest.skip("no such folder")

@pytest.mark.xfail(reason="known", strict=True)
def test_expected_failure():
    raise AssertionError

def test_good(): ...
"""
WHOLE_FILE = "import pytest\npytest.skip('no such system', allow_module_level=True)\n"


@pytest.mark.parametrize(
    ("ci", "outcome"),
    [
        ("true", {"failed": 1, "passed": 1, "xfailed": 1, "errors": 2}),
        ("", {"skipped": 3, "passed": 1, "xfailed": 1}),
    ],
)
def test_a_skip_is_a_failure_in_ci_only(tmp_path: Path, ci: str, outcome: dict[str, int]) -> None:
    (tmp_path / "test_specimen.py").write_text(SPECIMEN)
    (tmp_path / "test_whole_file.py").write_text(WHOLE_FILE)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "tests.conftest",
            "--continue-on-collection-errors",
            "-q",
            str(tmp_path),
        ],
        cwd=ROOT,
        env={**os.environ, "CI": ci},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    summary = done.stdout.strip().splitlines()[-1]
    for word, count in outcome.items():
        assert f"{count} {word}" in summary, done.stdout
    assert (done.returncode == 0) is (ci == "")
    if ci:
        for reason in ("no such package", "no such folder", "no such system"):
            assert reason in done.stdout
