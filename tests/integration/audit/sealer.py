"""``python -m tests.integration.audit.sealer POINT``: seals once, and ends with SIGKILL when it gets to the point.

The place of the databases comes as JSON in ``SEALER_PLACE``.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from novadex.audit import sealing
from novadex.instance import Endpoints
from novadex.settings import load_settings
from novadex.storage.connection import DatabaseConnection


def reached(point: str) -> None:
    if sys.argv[1] == point:
        os.kill(os.getpid(), signal.SIGKILL)


async def main() -> None:
    anchor, append = sealing._anchor, sealing.append_anchor

    async def anchor_then(*arguments: Any) -> Any:
        reached("after the commit")
        return await anchor(*arguments)

    def append_then(path: Path, line: Any) -> None:
        if sys.argv[1] == "in the middle of the line" and line.position:
            with path.open("ab") as file:
                file.write(b'{"position":7,"chain_ha')
            reached("in the middle of the line")
        append(path, line)
        if line.position == 0:
            reached("before the commit")
        else:
            reached("after the anchor")

    sealing._anchor, sealing.append_anchor = anchor_then, append_then
    place = json.loads(os.environ["SEALER_PLACE"])
    endpoints = Endpoints(place["main"], place["analytics"], "", "", data_dir=Path(place["data_dir"]))
    async with DatabaseConnection(endpoints, load_settings()) as db:
        await sealing.seal(db)


if __name__ == "__main__":
    asyncio.run(main())
