"""A writer and readers over connections of their own, and what they found: no read is older than it may be."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from novadex.storage.connection import DatabaseConnection
from novadex.users.service import UserService

STALE_AFTER_S = 0.050
PAUSE_S = 0.002
"""In which others run: reads from the process never wait."""


@dataclass
class Findings:
    """What was written and read."""

    acknowledged: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    reads: int = 0
    stale: int = 0

    @property
    def writes(self) -> int:
        return sum(map(len, self.acknowledged.values()))

    def judge(self, user: str, began: float, version: int) -> None:
        self.reads += 1
        known = [v for at, v in self.acknowledged.get(user, ()) if at < began - STALE_AFTER_S]
        self.stale += bool(known) and version < known[-1]


@asynccontextmanager
async def reading_and_writing(
    writer: DatabaseConnection, readers: Sequence[DatabaseConnection], users: Sequence[str]
) -> AsyncIterator[Findings]:
    """Write and read the users in turn until the block ends. What fails in them fails the block."""
    findings, stopping = Findings(), asyncio.Event()

    async def write() -> None:
        service, number = UserService(writer), 0
        while not stopping.is_set():
            user, number = users[number % len(users)], number + 1
            updated = await service.update_user(user, preferences={"number": number})
            findings.acknowledged.setdefault(user, []).append((time.monotonic(), updated.version))

    async def read(db: DatabaseConnection) -> None:
        service = UserService(db)
        while not stopping.is_set():
            for user in users:
                began = time.monotonic()
                findings.judge(user, began, (await service.get_user(user)).version)
            await asyncio.sleep(PAUSE_S)

    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        for db in readers:
            group.create_task(read(db))
        try:
            yield findings
        finally:
            stopping.set()
