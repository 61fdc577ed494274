"""What a person sees of a supervisor: lines of text, or on a terminal a table that changes in place."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from novadex.instance import Service
from novadex.local.status import COLUMNS, row, table, where_urls

_COLOURS = {"healthy": "green", "external": "green", "starting": "yellow", "unhealthy": "red", "failed": "red"}


class _FirstWords:
    """What is said when everything is up."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._begun = time.monotonic()

    def say(self, event: Callable[[str], None]) -> None:
        event(f"Everything is up after {time.monotonic() - self._begun:.1f} s. Ctrl-C stops it.")
        event(where_urls(self._data_dir))


class PlainDisplay:
    """Lines on standard error, each with its time."""

    def __init__(self, data_dir: Path) -> None:
        self._first = _FirstWords(data_dir)

    def event(self, text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)

    def changed(self, services: dict[str, Service]) -> None:
        """Not shown: what matters comes as an event."""

    def up(self, services: dict[str, Service]) -> None:
        print("\n".join(["", *table(services), ""]), file=sys.stderr, flush=True)
        self._first.say(self.event)

    def __enter__(self) -> PlainDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        return


class TerminalDisplay:
    """A table at the foot of the terminal; what happens scrolls by above it."""

    def __init__(self, data_dir: Path) -> None:
        self._first = _FirstWords(data_dir)
        self._console = Console(stderr=True, highlight=False)
        self._live = Live(console=self._console, auto_refresh=False)

    def event(self, text: str) -> None:
        self._console.print(Text(f"{time.strftime('%H:%M:%S')}  {text}"))

    def changed(self, services: dict[str, Service]) -> None:
        grid = Table(*COLUMNS, box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
        for name, service in services.items():
            cells = row(name, service)
            grid.add_row(cells[0], Text(cells[1], style=_COLOURS.get(cells[1], "")), *map(Text, cells[2:]))
        self._live.update(grid, refresh=True)

    def up(self, services: dict[str, Service]) -> None:
        self.changed(services)
        self._first.say(self.event)

    def __enter__(self) -> TerminalDisplay:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()
