"""The master keys as an operator sees them: what there is, rotate, forget."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from novadex.audit.acts import record_act
from novadex.errors import ConflictError, NotFoundError
from novadex.keys.master_key_file import check_removal, remove_key
from novadex.keys.master_keys import MasterKeys, compare_with_database, load_master_keys
from novadex.keys.rotation import SQL, Rotation, RotationProgress, RotationReport
from novadex.roles.actor import SERVICE, Actor, act_as
from novadex.storage.connection import DatabaseConnection

if TYPE_CHECKING:
    from collections.abc import Callable

Status = Literal["in use", "being replaced", "retired", "not used yet"]


@dataclass(frozen=True, slots=True)
class MasterKeyView:
    """One master key, without the key."""

    version: int
    status: Status
    here: bool
    """Whether the setting or file of this machine has it."""
    keys: int
    """How many keys are wrapped with it."""
    created_at: datetime | None
    """When this database first used it."""
    retired_at: datetime | None


@dataclass(frozen=True, slots=True)
class Forgotten:
    """A master key that is not needed by the database any more."""

    version: int
    retired_at: datetime
    removed_from: str | None
    """The file it was taken out of; None where the keys come from NOVADEX_MASTER_KEYS, which a person changes."""


class KeyService:
    """The master keys of an instance. Every call needs the permission ``keys.rotate``."""

    def __init__(self, db: DatabaseConnection | None = None, *, actor: Actor = SERVICE) -> None:
        self._db = db or DatabaseConnection.get_instance()
        self._actor = actor

    def acting_as(self, actor: Actor) -> KeyService:
        """The same service for another actor."""
        return KeyService(self._db, actor=actor)

    async def list(self) -> list[MasterKeyView]:
        """Every master key that is here or was ever used, by version."""
        self._actor.require("keys.rotate")
        masters = await self._load()
        rows = {row.version: row for row in await self._db.main.query(SQL.master_keys, read_only=True)}
        uses = {row.master_version: row["keys"] for row in await self._db.main.query(SQL.uses, read_only=True)}
        newest = max((version for version, row in rows.items() if row.retired_at is None), default=0)
        return [
            MasterKeyView(
                version,
                _status(version in rows, rows[version].retired_at if version in rows else None, version == newest),
                version in masters.versions,
                uses.get(version, 0),
                rows[version].created_at if version in rows else None,
                rows[version].retired_at if version in rows else None,
            )
            for version in sorted({*rows, *masters.versions})
        ]

    async def rotate(self, progress: Callable[[RotationProgress], None] = lambda _: None) -> RotationReport:
        """Take the newest master key into use, or a new one where the file has none, and wrap every other key with
        it; finish a rotation that was interrupted. Nothing stops meanwhile.

        Raises ``ConfigurationError`` where NOVADEX_MASTER_KEYS has no newer key, ``IntegrityFaultError`` where
        wrapped keys do not open.
        """
        return await Rotation(self._db, self._actor, progress=progress).run()

    async def forget(self, version: int) -> Forgotten:
        """Take a retired master key out of the file. Backups made before it was retired cannot be decrypted with
        what is left: keep a copy for as long as you keep them.

        Raises ``ConflictError`` where the key is in use, ``NotFoundError`` where this database never used it.
        """
        self._actor.require("keys.rotate")
        masters = await self._load()
        rows = {row.version: row for row in await self._db.main.query(SQL.master_keys, read_only=True)}
        row = rows.get(version)
        if row is None:
            raise NotFoundError(
                f"This database never used a master key {version}, so nobody knows here what it is for.",
                hint="See novadex keys list.",
            )
        uses = {use.master_version: use["keys"] for use in await self._db.main.query(SQL.uses, read_only=True)}
        if row.retired_at is None or uses.get(version):
            raise ConflictError(
                f"Master key {version} is in use: {uses.get(version, 0)} keys are wrapped with it.",
                hint="Rotate first: novadex keys rotate",
            )
        if masters.from_file is None:
            return Forgotten(version, row.retired_at, None)
        # Written down before it is done, and what is refused is not written down as done.
        await asyncio.to_thread(check_removal, masters.from_file, version)
        await self._record("keys.forgotten", version)
        await asyncio.to_thread(remove_key, masters.from_file, version)
        return Forgotten(version, row.retired_at, str(masters.from_file))

    async def record_created(self, version: int) -> None:
        """Write down that a master key was put into the file, which needs no database."""
        self._actor.require("keys.rotate")
        await self._record("keys.created", version)

    async def _record(self, action: str, version: int) -> None:
        async with self._db.transaction() as session:
            await act_as(session, self._actor)
            await record_act(session, self._actor, action, f"master_key:{version}", {})

    async def _load(self) -> MasterKeys:
        masters = await asyncio.to_thread(load_master_keys, self._db.settings, self._db.endpoints.data_dir)
        compare_with_database(masters, await self._db.main.query(SQL.master_keys, read_only=True))
        return masters


def _status(used: bool, retired_at: datetime | None, newest: bool) -> Status:
    if not used:
        return "not used yet"
    if retired_at is not None:
        return "retired"
    return "in use" if newest else "being replaced"
