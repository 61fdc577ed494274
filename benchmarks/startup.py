"""How long a person waits: for the help, and for a new instance."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.figures import Figure

HELP_WANTED_S = 0.3
COLD_WANTED_S, WARM_WANTED_S = 10.0, 4.0


def run(rounds: int = 5) -> list[Figure]:
    """The help, a cold start, a warm start."""
    command = [str(Path(sys.executable).with_name("novadex"))]
    helps = [_seconds([*command, "--help"]) for _ in range(rounds + 1)][1:]
    figures = [Figure("novadex --help", statistics.median(helps), "s", wanted=HELP_WANTED_S, smaller_is_better=True)]
    colds, warms = [], []
    for _ in range(3):
        folder = Path(tempfile.mkdtemp(prefix="novadex-bench-"))
        folder.chmod(0o711)
        at = ["--data-dir", str(folder / "instance")]
        try:
            colds.append(_seconds([*command, "up", "--detach", *at]))
            _seconds([*command, "down", *at])
            warms.append(_seconds([*command, "up", "--detach", *at]))
        finally:
            _seconds([*command, "down", *at])
            shutil.rmtree(folder)
    for what, times, wanted in (("cold", colds, COLD_WANTED_S), ("warm", warms, WARM_WANTED_S)):
        figures.append(
            Figure(
                f"novadex up --detach, {what}", statistics.median(times), "s", wanted=wanted, smaller_is_better=True
            )
        )
    return figures


def _seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began
