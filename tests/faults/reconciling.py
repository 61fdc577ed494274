"""No false alarm: an instance is reconciled again and again while simulated traffic runs as fast as the machine can.

``make campaign``, or ``python -m tests.faults.reconciling --duration 1h --seed 7``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.campaign import novadex
from tests.servers import server_folder

RECONCILE_S_MAX = 600.0


@dataclass
class Quiet:
    """What came of it."""

    looks: int = 0
    compared: dict[str, int] = field(default_factory=dict)
    """By invariant, in the look that compared most: what is cached is gone by the last one, which comes after the
    traffic."""
    commands: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    def note(self, report: dict[str, Any]) -> None:
        """What a look has compared."""
        for check in report["checks"]:
            self.compared[check["name"]] = max(check["checked"], self.compared.get(check["name"], 0))


def look(data_dir: Path) -> dict[str, Any]:
    """Reconcile once; nothing may differ."""
    done = novadex("reconcile", "--json", data_dir=data_dir, timeout_s=RECONCILE_S_MAX)
    assert done.returncode == 0, f"a false alarm: {done.stdout[:5000]} {done.stderr}"
    return json.loads(done.stdout)


def run(duration: str, seed: int, rate: float = 20.0) -> Quiet:
    """Simulate on a new instance, and reconcile it meanwhile."""
    folder = server_folder("novadex-reconciling-")
    data_dir = folder / "instance"
    began, quiet = time.monotonic(), Quiet()
    try:
        up = novadex("up", "--detach", data_dir=data_dir)
        assert up.returncode == 0, up.stderr
        command = [sys.executable, "-m", "novadex.cli", "simulate", "--simulated-time", "--json"]
        command += ["--duration", duration, "--seed", str(seed), "--rate", str(rate), "--data-dir", str(data_dir)]
        traffic = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env=dict(os.environ)
        )
        try:
            while traffic.poll() is None:
                quiet.note(look(data_dir))
                quiet.looks += 1
        finally:
            if traffic.poll() is None:
                traffic.terminate()
            output, _ = traffic.communicate(timeout=60)
        assert traffic.returncode == 0
        report = json.loads(output)
        quiet.commands, quiet.refused = report["commands"], report["refused"]
        last = look(data_dir)
        assert not last["skipped"], last
        quiet.note(last)
    finally:
        down = novadex("down", data_dir=data_dir)
        shutil.rmtree(folder, ignore_errors=True)
        assert down.returncode == 0, down.stderr
    quiet.seconds = time.monotonic() - began
    return quiet


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Reconcile while traffic runs, and see that there is no false alarm."
    )
    parser.add_argument("--duration", default="1h")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    quiet = run(arguments.duration, arguments.seed)
    print(f"{arguments.duration} simulated with seed {arguments.seed} in {quiet.seconds:.0f} s: {quiet.commands}")
    print(f"refused: {quiet.refused}; {quiet.looks} looks meanwhile, no false alarm; compared: {quiet.compared}")


if __name__ == "__main__":
    main()
