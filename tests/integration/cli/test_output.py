"""What a command prints arrives whole."""

from __future__ import annotations

import subprocess
import sys

import pytest

LINES = 20_000
PROGRAM = f"""
import asyncio
from novadex.cli import write_whole
from novadex.cli.manners import print_json, run_async
write_whole()
run_async(asyncio.sleep(0.01))
print_json([number for number in range({LINES})])
"""


@pytest.mark.parametrize("options", [(), ("-u",)], ids=["buffered", "unbuffered"])
def test_a_long_document_reaches_a_slow_reader_whole(options: tuple[str, ...]):
    """Much longer than what a pipe holds; the reader begins when the pipe is full, or the writer has ended."""
    with subprocess.Popen([sys.executable, *options, "-c", PROGRAM], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=3)  # it waits for its reader: nothing is thrown away
        written = process.stdout.read()
    assert process.returncode == 0
    assert written.count(b"\n") == LINES + 2
