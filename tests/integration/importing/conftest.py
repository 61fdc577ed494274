"""Files to import, and the counts of an import."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from novadex.storage.connection import DatabaseConnection
from novadex.trading.importing import ImportReport, import_trades
from tests.conftest import DatabasePair
from tests.integration.cli.command import Command
from tests.integration.importing.dumps import MARKET

Load = Callable[..., Awaitable[ImportReport]]


@pytest.fixture
def file(tmp_path: Path) -> Callable[[bytes], str]:
    """``file(content)``: the path of a file with it."""

    def write(content: bytes, name: str = "trades.csv") -> str:
        path = tmp_path / name
        path.write_bytes(content)
        return str(path)

    return write


@pytest.fixture
def load(db: DatabaseConnection, market: Any, file: Callable[..., str]) -> Load:
    """``await load(content)``: import it into the market."""

    async def run(content: bytes, *, into: str = MARKET, **options: Any) -> ImportReport:
        return await import_trades(db, file(content), into, **options)

    return run


@pytest.fixture
def novadex(fresh_databases: DatabasePair, tmp_path: Path) -> Command:
    folder = tmp_path / "working folder"
    folder.mkdir()
    return Command(fresh_databases, folder)


def counts(report: ImportReport) -> tuple[int, int, int, int]:
    """Read, added, duplicates, rejected."""
    assert report.read == report.added + report.duplicates + report.rejected
    return report.read, report.added, report.duplicates, report.rejected
