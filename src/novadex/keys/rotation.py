"""Rotation of the master key, online: every other key is wrapped anew, and nothing else is encrypted again.

The order makes it safe to be killed anywhere, and others need no restart:

1. the new master key is on the disk (or in the setting) before anything is wrapped with it;
2. the database says that it is in use: programs wrap new keys with it within ``VIEW_S_MAX``;
3. wrapped keys are replaced batch by batch, each only where it still is what it was made of;
4. older master keys that nothing is wrapped with are retired; the database refuses their use from then on.

Whoever starts a rotation while one is unfinished, by a kill or because another process is at it, continues that one.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from novadex import metrics
from novadex.errors import ConfigurationError, IntegrityFaultError, UnavailableError
from novadex.keys.encryption import MasterKey
from novadex.keys.keyring import SYSTEM_KEY, USER_KEY, VIEW_S_MAX
from novadex.keys.master_key_file import add_key
from novadex.keys.master_keys import MasterKeys, compare_with_database, load_master_keys
from novadex.roles.actor import act_as
from novadex.storage.queries import load_queries

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from novadex.roles.actor import Actor
    from novadex.storage.connection import DatabaseConnection
    from novadex.storage.rows import Row
    from novadex.storage.session import Session

SQL = load_queries(Path(__file__).with_suffix(".sql"))
BATCH_KEYS = 500
SETTLE_S = 2 * VIEW_S_MAX
"""Within this time every program knows which master key is in use."""
ROUNDS_MAX = 10
"""How often it is looked for keys that were wrapped with an older master key meanwhile."""
NAMED_MAX = 20
NO_ID = UUID(int=0)


@dataclass(frozen=True, slots=True)
class RotationProgress:
    """How far a rotation is, in data keys of users."""

    done: int
    keys: int


@dataclass(frozen=True, slots=True)
class RotationReport:
    """What a rotation did."""

    version: int
    """The master key that everything is wrapped with now."""
    continued: bool
    """Whether it finished a rotation that had begun before."""
    keys: int
    """How many keys it wrapped anew; another process may have done the others."""
    retired: tuple[int, ...]
    """Master keys that are not used any more."""
    seconds: float


class Rotation:
    """One rotation of the master key."""

    def __init__(
        self,
        db: DatabaseConnection,
        actor: Actor,
        *,
        progress: Callable[[RotationProgress], None] = lambda _: None,
        randomness: Callable[[int], bytes] = secrets.token_bytes,
        batch_keys: int = BATCH_KEYS,
        settle_s: float = SETTLE_S,
    ) -> None:
        self._db = db
        self._actor = actor
        self._progress = progress
        self._randomness = randomness
        self._batch_keys = batch_keys
        self._settle_s = settle_s
        self._damaged: list[str] = []
        self._rewrapped = 0

    async def run(self) -> RotationReport:
        """Rotate, or finish a rotation that was interrupted.

        Raises ``ConfigurationError`` where the setting has no newer key, ``IntegrityFaultError`` where a wrapped
        key does not open: the others are wrapped anew all the same, and the older master key stays in use.
        """
        self._actor.require("keys.rotate")
        started = time.monotonic()
        masters, target, continued = await self._choose()
        activated = time.monotonic()
        await self._rewrap_system_keys(masters, target)
        await self._rewrap_user_keys(masters, target)
        retired: tuple[int, ...] = ()
        if not self._damaged:
            await asyncio.sleep(max(0.0, activated + self._settle_s - time.monotonic()))
            retired = await self._retire(masters, target)
        if self._damaged:
            raise IntegrityFaultError(
                f"{len(self._damaged)} wrapped keys do not open; all others are wrapped with master key"
                f" {target.version}. Damaged: {', '.join(self._damaged[:NAMED_MAX])}.",
                hint="Restore these rows of user_keys or system_keys from a backup, then rotate again to finish.",
            )
        return RotationReport(
            target.version, continued, self._rewrapped, retired, round(time.monotonic() - started, 3)
        )

    # Which master key

    async def _choose(self) -> tuple[MasterKeys, MasterKey, bool]:
        """The master key to wrap with, noted as in use. One at a time does this, so that two rotations that begin
        together make one new key."""
        async with self._step() as session:
            masters = await self._load()  # now: another rotation may have made one while this one waited
            rows = await session.query(SQL.master_keys)
            compare_with_database(masters, rows)
            in_use = [row.version for row in rows if row.retired_at is None]
            newest = max((row.version for row in rows), default=0)
            if len(in_use) > 1:
                return masters, masters.known(max(in_use)), True
            if not rows and len(masters.versions) == 1:  # nothing was encrypted yet: the only key is replaced
                newest = masters.newest
                await session.execute(SQL.add_master_key, (newest, masters.known(newest).check_value))
            if masters.newest <= newest:
                masters = await self._make_newer(masters, newest)
            target = masters.known(masters.newest)
            await session.execute(SQL.add_master_key, (target.version, target.check_value))
        return masters, target, False

    async def _make_newer(self, masters: MasterKeys, newest: int) -> MasterKeys:
        if masters.from_file is None:
            raise ConfigurationError(
                f"{masters.source} has no master key newer than {newest}, which is in use.",
                hint=f"Put {newest + 1}:BASE64 before it (openssl rand -base64 32) for every program, start them"
                " again, then rotate.",
            )
        await asyncio.to_thread(add_key, masters.from_file, above=newest, randomness=self._randomness)
        return await self._load()

    async def _load(self) -> MasterKeys:
        return await asyncio.to_thread(load_master_keys, self._db.settings, self._db.endpoints.data_dir)

    # Wrapping anew

    async def _rewrap_system_keys(self, masters: MasterKeys, target: MasterKey) -> None:
        async with self._step() as session:
            for row in await session.query(SQL.system_keys_before, (target.version,)):
                wrapped = self._wrapped_anew(masters, target, SYSTEM_KEY, row.name, row)
                if wrapped is not None:
                    parameters = (row.name, row.wrapped_key, wrapped, target.version)
                    self._count(await session.execute(SQL.rewrap_system_key, parameters))

    async def _rewrap_user_keys(self, masters: MasterKeys, target: MasterKey) -> None:
        keys = await self._db.main.value(SQL.keys_of_users_before, (target.version,), read_only=True)
        self._progress(RotationProgress(0, keys))
        done, place = 0, (0, NO_ID)
        while True:
            # Read first, under no lock: whoever erases a user meanwhile waits for one short statement at most.
            rows = await self._db.main.query(
                SQL.user_keys_before, (target.version, *place, self._batch_keys), read_only=True
            )
            if not rows:
                return
            place = (rows[-1].master_version, rows[-1].user_id)
            await self._rewrap_batch(masters, target, rows)
            done += len(rows)
            self._progress(RotationProgress(done, max(keys, done)))

    async def _rewrap_batch(self, masters: MasterKeys, target: MasterKey, rows: Sequence[Row]) -> None:
        ids, before, after = [], [], []
        for row in rows:
            wrapped = self._wrapped_anew(masters, target, USER_KEY, str(row.user_id), row)
            if wrapped is not None:
                ids.append(row.user_id)
                before.append(row.wrapped_key)
                after.append(wrapped)
        async with self._step() as session:
            self._count(await session.execute(SQL.rewrap_user_keys, (ids, before, after, target.version)))

    def _wrapped_anew(self, masters: MasterKeys, target: MasterKey, place: str, owner: str, row: Row) -> bytes | None:
        """The key of the row wrapped with the target; None where it does not open."""
        try:
            key = masters.known(row.master_version).unwrap(place, owner, row.wrapped_key)
        except IntegrityFaultError:
            self._damaged.append(f"{place.partition('.')[0]} {owner}")
            return None
        return target.wrap(place, owner, key, self._randomness)

    def _count(self, keys: int) -> None:
        self._rewrapped += keys
        metrics.keys_rewrapped.inc(keys)

    # Retiring

    async def _retire(self, masters: MasterKeys, target: MasterKey) -> tuple[int, ...]:
        """Retire the older master keys; what was wrapped with one of them meanwhile is wrapped anew first."""
        retired: list[int] = []
        for _ in range(ROUNDS_MAX):
            async with self._step() as session:
                older = [row.version for row in await session.query(SQL.lock_master_keys_before, (target.version,))]
                now = [row.version for row in await session.query(SQL.retire_master_keys_before, (target.version,))]
            retired += now
            if set(now) == set(older):
                return tuple(sorted(retired))
            await self._rewrap_system_keys(masters, target)
            await self._rewrap_user_keys(masters, target)
            if self._damaged:
                return tuple(sorted(retired))
        raise UnavailableError(
            f"Keys are still wrapped with a master key older than {target.version}.",
            hint="A program does not see the newer one: is it stopped, or does it lack the key? Then rotate again.",
        )

    def _step(self) -> AbstractAsyncContextManager[Session]:
        return _one_step(self._db, self._actor)


@asynccontextmanager
async def _one_step(db: DatabaseConnection, actor: Actor) -> AsyncIterator[Session]:
    """A transaction of a rotation: of all processes one at a time."""
    async with db.main.transaction() as session:
        await act_as(session, actor)
        await session.execute(SQL.one_at_a_time)
        yield session
