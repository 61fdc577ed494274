"""The example of the description is a doctest on real servers, and notices where the service is broken."""

from __future__ import annotations

import doctest
import os
import subprocess
import sys
from pathlib import Path

import pytest

from novadex.users.service import UserService

ROOT = Path(__file__).parents[3]
PLUGIN = "tests.integration.users.broken_service"


def run_example(*arguments: str, broken: str = "nothing") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", PLUGIN, *arguments, "src/novadex/users/service.py"],
        cwd=ROOT,
        env={**os.environ, "BREAK": broken, "CI": "true"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_example_is_not_skipped():
    [example] = [test for test in doctest.DocTestFinder().find(UserService, "UserService") if test.examples]
    assert not any(line.options for line in example.examples)
    assert "create_user" in example.examples[2].source
    assert "create_session" in example.examples[2].source


@pytest.mark.parametrize(
    ("broken", "answer"),
    [
        ("nothing", "1 passed"),
        ("create_session", "AttributeError: 'NoneType' object has no attribute 'token'"),
        ("checksum", "('trader123', '0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed', 'nds_')"),
    ],
)
def test_the_example_passes_as_long_as_nothing_is_broken(broken: str, answer: str):
    done = run_example(broken=broken)
    assert answer in done.stdout
    assert done.returncode == (0 if broken == "nothing" else 1), done.stdout
