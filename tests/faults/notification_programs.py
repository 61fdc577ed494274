"""Programs of the faults of notifications: ``python -m tests.faults.notification_programs send|notify``, with the
place of the databases as JSON in ``NOTIFY_PLACE``. One can be killed at a point by name: ``NOTIFY_KILL=POINT`` ends
the program with SIGKILL when it gets there.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from novadex.instance import Endpoints
from novadex.notifications.projection import OrderNotifier
from novadex.notifications.sending import DeliverySender
from novadex.settings import load_settings
from novadex.storage.connection import DatabaseConnection


def connect() -> DatabaseConnection:
    place = json.loads(os.environ["NOTIFY_PLACE"])
    endpoints = Endpoints(place["main"], place["analytics"], "", "", data_dir=Path(place["data_dir"]))
    return DatabaseConnection(endpoints, load_settings(**place["settings"]))


def reached(point: str) -> None:
    if os.environ.get("NOTIFY_KILL") == point:
        os.kill(os.getpid(), signal.SIGKILL)


async def send(db: DatabaseConnection) -> None:
    """Deliver whatever is due by webhook."""
    sender = DeliverySender(db, "webhook")
    post, count = sender._webhooks.send, sender._count

    async def posting(*arguments: Any) -> None:
        reached("claimed")
        await post(*arguments)
        reached("sent")

    def counting(result: str) -> None:
        reached("recorded")
        count(result)

    sender._webhooks.send = posting  # type: ignore[method-assign]
    sender._count = counting  # type: ignore[method-assign]
    await sender.drain()


async def notify(db: DatabaseConnection) -> None:
    """Tell users what became of their orders, in small batches."""
    notifier = OrderNotifier(db, batch_events=5)
    make, batch = notifier._maker.make, notifier._next_batch

    async def making(*arguments: Any) -> Any:
        made = await make(*arguments)
        reached("made")
        return made

    async def next_batch(market_id: int) -> tuple[int, bool]:
        count = await batch(market_id)
        reached("committed")
        return count

    notifier._maker.make = making  # type: ignore[method-assign]
    notifier._next_batch = next_batch  # type: ignore[method-assign]
    await notifier.catch_up()


async def main() -> None:
    async with connect() as db:
        await {"send": send, "notify": notify}[sys.argv[1]](db)


if __name__ == "__main__":
    asyncio.run(main())
