"""The importer's memory does not grow with the file."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.cli.command import Command
from tests.integration.importing import dumps
from tests.integration.importing.dumps import MARKET, dumped

PEAK_MB_MAX = 300
GROWTH_MB_MAX = 60


MEASURED = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""
"""Runs a command and adds its peak of memory to its errors. A small program of its own: a child's peak begins at the
size of its parent, and that of a test run is no matter of the importer."""


def peak_mb(novadex: Command, path: Path, *options: str) -> tuple[float, dict[str, object]]:
    finished = novadex.run(
        "import", "trades", str(path), "--market", MARKET, "--no-wait", "--json", *options, under=("-c", MEASURED)
    )
    return int(finished.stderr.split()[-1]) / 1024, json.loads(finished.stdout)


@pytest.mark.parametrize("write", [dumps.binance, dumps.ccxt_array], ids=["csv", "json array on one line"])
def test_the_memory_of_a_large_file_is_that_of_a_small_one(
    novadex: Command, market: object, tmp_path: Path, write: Callable[..., bytes]
):
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(write(dumped(2_000)))
    large.write_bytes(write(dumped(80_000)))
    small_mb, report = peak_mb(novadex, small)
    assert report["read"] == 2_000
    large_mb, report = peak_mb(novadex, large)
    assert report["read"] == 80_000
    assert large_mb < PEAK_MB_MAX
    assert large_mb - small_mb < GROWTH_MB_MAX


def test_a_gigabyte_on_one_line_fits_in_the_memory(novadex: Command, market: object, tmp_path: Path):
    path = tmp_path / "bomb.csv.gz"
    piece = b"9" * 2**20
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(dumps.binance(dumped(5)))
        for _ in range(1024):
            file.write(piece)
        file.write(b"\n" + dumps.binance(dumped(7)))
    mb, report = peak_mb(novadex, path, "--on-error", "skip")
    assert (report["read"], report["added"], report["duplicates"], report["rejected"]) == (13, 7, 5, 1)
    assert mb < PEAK_MB_MAX
