"""Programs of the faults of keys: ``python -m tests.faults.keys_programs read|rotate|erase``, with the place of the
databases as JSON in ``KEYS_PLACE``. They tell what they do line by line, and one can be killed at a point by name:
``KEYS_KILL=POINT`` ends the program with SIGKILL when it gets there.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from novadex.instance import Endpoints
from novadex.keys import erasures, rotation
from novadex.keys.encryption import EMAIL
from novadex.keys.keyring import Keyring
from novadex.roles.actor import SERVICE
from novadex.settings import load_settings
from novadex.storage.connection import DatabaseConnection
from novadex.storage.database import Database

READ = (
    "SELECT u.email_ciphertext, k.wrapped_key, k.master_version FROM users u JOIN user_keys k ON k.user_id = u.id"
    " WHERE u.id = $1"
)
BATCH_KEYS = 20


def connect() -> DatabaseConnection:
    place = json.loads(os.environ["KEYS_PLACE"])
    endpoints = Endpoints(place["main"], place["analytics"], "", "", data_dir=Path(place["data_dir"]))
    return DatabaseConnection(endpoints, load_settings())


def tell(word: str) -> None:
    print(word, flush=True)


def reached(point: str) -> None:
    if os.environ.get("KEYS_KILL") == point:
        os.kill(os.getpid(), signal.SIGKILL)


async def read(db: DatabaseConnection) -> None:
    """Read users at random until the input ends; every failure is counted with its words."""
    keyring = db.companion(Keyring)
    await keyring.ready()
    ids: list[UUID] = [row.id for row in await db.query("SELECT id FROM users WHERE email_ciphertext IS NOT NULL")]
    stop = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    reads, failures = 0, []
    versions: set[int] = set()
    tell("ready")
    while not stop.done():
        for user_id in random.sample(ids, len(ids)):
            try:
                row = await db.main.one(READ, (user_id,), read_only=True)
                assert row is not None
                key = await keyring.data_key(user_id, row.wrapped_key, row.master_version)
                assert keyring.open_(EMAIL, user_id, key, row.email_ciphertext) == f"{user_id}@example.com"
                versions.add(row.master_version)
            except Exception as error:  # noqa: BLE001 - told to the test
                failures.append(f"{type(error).__name__}: {error}")
            reads += 1
    tell(
        json.dumps({"reads": reads, "failures": failures[:5], "failed": len(failures), "versions": sorted(versions)})
    )


async def rotate(db: DatabaseConnection) -> None:
    """Rotate, and tell how far it is."""
    add_key = rotation.add_key

    def add(*arguments: Any, **more: Any) -> int:
        version = add_key(*arguments, **more)
        reached("key in the file")
        return version

    rotation.add_key = add
    choose, retire = rotation.Rotation._choose, rotation.Rotation._retire

    async def choose_then(self: rotation.Rotation) -> Any:
        chosen = await choose(self)
        reached("key in use")
        return chosen

    async def retire_then(self: rotation.Rotation, masters: Any, target: Any) -> Any:
        reached("all wrapped anew")
        retired = await retire(self, masters, target)
        reached("retired")
        return retired

    rotation.Rotation._choose, rotation.Rotation._retire = choose_then, retire_then

    def progress(now: rotation.RotationProgress) -> None:
        tell(f"done {now.done}")
        reached(f"done {now.done}")

    report = await rotation.Rotation(db, SERVICE, progress=progress, batch_keys=BATCH_KEYS, settle_s=0).run()
    tell(f"version {report.version}")


async def erase(db: DatabaseConnection) -> None:
    """Erase the users of the arguments, and tell each when it is acknowledged."""
    append = erasures.append_erasures

    def append_then(*arguments: Any) -> None:
        reached("before the list")
        append(*arguments)
        reached("before the commit")

    erasures.append_erasures = append_then
    transaction = Database.transaction

    @asynccontextmanager
    async def transaction_then(self: Database, *arguments: Any, **more: Any) -> AsyncIterator[Any]:
        async with transaction(self, *arguments, **more) as session:
            yield session
        reached("before the acknowledgement")

    Database.transaction = transaction_then  # pyright: ignore[reportAttributeAccessIssue]
    for user_id in sys.argv[2:]:
        await erasures.erase_user(db, SERVICE, UUID(user_id))
        tell(user_id)


PROGRAMS: dict[str, Callable[[DatabaseConnection], Awaitable[None]]] = {
    "read": read,
    "rotate": rotate,
    "erase": erase,
}


async def main() -> None:
    async with connect() as db:
        await PROGRAMS[sys.argv[1]](db)


if __name__ == "__main__":
    asyncio.run(main())
