"""A process that prints the name of the user whose id it is given, line by line, from its caches."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from novadex.instance import Endpoints
from novadex.settings import load_settings
from novadex.storage.connection import DatabaseConnection
from tests.integration.cache.process import CachingProcess


async def main() -> None:
    place = json.loads(os.environ["CACHE_PLACE"])
    endpoints = Endpoints(
        place["main"],
        place["analytics"],
        place["cache"],
        "",
        listen=place["listen"],
        data_dir=Path(place["data_dir"]),
    )
    async with DatabaseConnection(endpoints, load_settings()) as db:
        process = CachingProcess(db)
        while user := (await asyncio.to_thread(sys.stdin.readline)).strip():
            before = process.counts.l1
            name = await process.read(user)
            print(json.dumps({"name": name, "from_the_process": process.counts.l1 > before}), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
