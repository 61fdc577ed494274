"""``python -m novadex.cli`` is ``novadex``."""

from novadex.cli import main

main()
