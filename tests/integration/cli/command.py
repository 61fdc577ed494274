"""``novadex`` as a child process that finds this test's databases by the URLs in its environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import DatabasePair
from tests.forked import command_line

TIMEOUT_S = 120


@dataclass(frozen=True, slots=True)
class Command:
    """Runs commands in a folder of their own, which has no ``.env``."""

    databases: DatabasePair
    folder: Path

    def start(self, *arguments: str, under: Sequence[str] = (), **kwargs: Any) -> subprocess.Popen[str]:
        """A Python of its own. ``under`` are the arguments of a Python program that runs the command that follows
        them."""
        begin = [*((sys.executable, *under) if under else ()), sys.executable, "-m", "novadex.cli"]
        return self._start([*begin, *arguments], **kwargs)

    def _start(self, command: list[str], **kwargs: Any) -> subprocess.Popen[str]:
        environment = {
            **os.environ,
            "DATABASE_URL": self.databases.main_url("app"),
            "ANALYTICS_DATABASE_URL": self.databases.analytics_url("app"),
            "REDIS_URL": "redis://127.0.0.1:1",
            "REDIS_SESSION_URL": "redis://127.0.0.1:1",
            "HOME": str(self.folder),
            "TERM": "xterm",  # a dumb one gets no progress bar
        }
        return subprocess.Popen(
            command,
            env=environment,
            cwd=self.folder,
            text=True,
            **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **kwargs},
        )

    def run(
        self, *arguments: str, code: int = 0, stdin: str | None = None, under: Sequence[str] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end, and expect its exit code."""
        streams = {} if stdin is None else {"stdin": subprocess.PIPE}
        if under:
            process = self.start(*arguments, under=under, **streams)
        else:
            process = self._start([*command_line(), *arguments], **streams)
        try:
            output, errors = process.communicate(stdin, timeout=TIMEOUT_S)
        finally:
            process.kill()
            process.wait()
        assert process.returncode == code, f"{arguments}: {process.returncode}\n{output}\n{errors}"
        assert "Traceback" not in errors
        return subprocess.CompletedProcess(arguments, process.returncode, output, errors)

    def json(self, *arguments: str, code: int = 0) -> Any:
        """The one document that it prints."""
        return json.loads(self.run(*arguments, "--json", code=code).stdout)
