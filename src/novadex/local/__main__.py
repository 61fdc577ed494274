"""``python -m novadex.local DATA_DIR PIPE [demo]`` is the supervisor that ``novadex up --detach`` starts."""

from __future__ import annotations

import sys
from pathlib import Path

from novadex.errors import NovaDexError
from novadex.local.commands import run_in_foreground
from novadex.local.detached import AlreadyUp, NotUp, PipeDisplay
from novadex.settings import load_settings


def main(data_dir: Path, pipe: int, *, demo: bool = False) -> int:
    """Returns the exit code."""
    display = PipeDisplay(pipe)
    try:
        if run_in_foreground(data_dir, load_settings(), display, demo=demo):
            display.last_word(AlreadyUp())
    except NovaDexError as error:
        display.log(str(error))
        display.last_word(NotUp(type(error).__name__, error.message, error.hint))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), demo="demo" in sys.argv[3:]))
