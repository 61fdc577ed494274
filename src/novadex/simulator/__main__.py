"""``python -m novadex.simulator`` simulates until it is stopped."""

from __future__ import annotations

import sys

from novadex.errors import NovaDexError
from novadex.simulator.program import main

if __name__ == "__main__":
    try:
        main()
    except NovaDexError as error:
        sys.exit(f"novadex simulator: {error} [{error.code}]")
