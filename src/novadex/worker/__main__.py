"""``python -m novadex.worker`` runs the worker."""

from __future__ import annotations

import sys

from novadex.errors import NovaDexError
from novadex.worker.program import main

if __name__ == "__main__":
    try:
        main()
    except NovaDexError as error:
        sys.exit(f"novadex worker: {error} [{error.code}]")
