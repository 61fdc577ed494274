"""What the supervisor knows of a service that it keeps running."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from novadex.instance import ServiceName
from novadex.local.users import ServerUser

RunTool = Callable[[Sequence[str]], None]
"""Run a program of the server to its end; it is ended with the supervisor. Raises where it fails."""


@dataclass(frozen=True, slots=True)
class StopStep:
    """One signal, and how long to wait for the process to end before the next, harder one."""

    number: signal.Signals
    seconds_max: float


@dataclass(slots=True)
class Place:
    """What every service of one instance shares."""

    instance_id: str
    data_dir: Path
    home: Path
    user: ServerUser | None
    passwords: dict[str, str] = field(repr=False)

    def log(self, name: str) -> Path:
        return self.home / "logs" / f"{name}.log"


class LocalService(Protocol):
    """A server or program that runs as a process of this machine."""

    host: str
    port: int
    default_port: int
    stop_steps: Sequence[StopStep]
    start_s_max: float
    """How long it may take to answer; a server that recovers from a crash is given its time."""
    needs: Sequence[ServiceName]
    """What must be usable before it is started."""
    is_program: bool
    """A program of NovaDex: started again when it is stuck, or when the address of a server changed."""

    @property
    def name(self) -> ServiceName: ...
    @property
    def user(self) -> ServerUser | None: ...
    @property
    def folder(self) -> Path: ...
    def prepare(self, run_tool: RunTool) -> None:
        """Make its files; called before every start."""
        ...

    def command(self) -> list[str]: ...
    def environment(self) -> dict[str, str]: ...
    def url(self) -> str: ...
    def ready(self, pid: int) -> bool:
        """Whether the process has begun to serve."""
        ...

    def complaint(self) -> str | None:
        """What is wrong with it now, asked from outside; None where it answers."""
        ...

    def set_up(self) -> None:
        """What is done once in each ``up``, when it serves."""
        ...
