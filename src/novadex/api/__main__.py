"""``python -m novadex.api`` serves the API."""

from __future__ import annotations

import sys

from novadex.api.program import main
from novadex.errors import NovaDexError

if __name__ == "__main__":
    try:
        main()
    except NovaDexError as error:
        sys.exit(f"novadex api: {error} [{error.code}]")
