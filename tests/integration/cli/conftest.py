"""The command line on this test's databases."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import DatabasePair
from tests.integration.cli.command import Command


@pytest.fixture
def novadex(fresh_databases: DatabasePair, tmp_path: Path) -> Command:
    """``novadex.run("markets", "list")``."""
    folder = tmp_path / "working folder"
    folder.mkdir()
    return Command(fresh_databases, folder)
