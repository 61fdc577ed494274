"""The servers that benchmarks run on: those of ``novadex up``, with or without the API and the worker."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from novadex.instance import read_instance
from novadex.settings import load_settings

SERVERS = ("main", "analytics", "cache", "sessions")
STARTED_WITHIN_S = 60.0


@contextlib.contextmanager
def instance(*, programs: bool) -> Iterator[Path]:
    """A new instance; yields its data folder. ``programs``: with the API and the worker."""
    folder = Path(tempfile.mkdtemp(prefix="novadex-bench-"))
    folder.chmod(0o711)  # as root, the servers' user has to pass
    data_dir = folder / "instance"
    command = [sys.executable, "-m", "benchmarks.servers", str(data_dir), *(["--programs"] if programs else [])]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wanted = (*SERVERS, "api", "worker")
        ends = time.monotonic() + STARTED_WITHIN_S
        while not _healthy(data_dir, wanted):
            if process.poll() is not None or time.monotonic() > ends:
                raise RuntimeError(f"the servers in {data_dir} did not start; see its logs")
            time.sleep(0.05)
        yield data_dir
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=120)
        shutil.rmtree(folder)


def _healthy(data_dir: Path, names: tuple[str, ...]) -> bool:
    found = read_instance(data_dir) if data_dir.is_dir() else None
    return found is not None and all(
        name in found.services and found.services[name].status == "healthy" for name in names
    )


def main() -> None:
    from novadex.local import supervisor
    from novadex.local.commands import run_in_foreground
    from novadex.local.display import PlainDisplay

    parser = argparse.ArgumentParser()
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--programs", action="store_true")
    arguments = parser.parse_args()
    if not arguments.programs:  # servers alone: not for users, so it is no option
        idle = (sys.executable, str(Path(__file__).with_name("idle.py")))
        supervisor.API, supervisor.WORKER = (
            replace(supervisor.API, command=idle),
            replace(supervisor.WORKER, command=idle),
        )
    run_in_foreground(arguments.data_dir, load_settings(), PlainDisplay(arguments.data_dir))


if __name__ == "__main__":
    main()
