"""A server that somebody else runs, named by a URL in the settings: it is migrated and watched, not started."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from threading import Event
from urllib.parse import urlsplit

from novadex.errors import NovaDexError, UnavailableError
from novadex.instance import ServiceName
from novadex.local import postgres, valkey
from novadex.settings import host_of

LOOK_S_MAX = 2.0
REACH_S_MAX = 5.0
"""How long `up` waits for a server that was perhaps started at the same moment."""


@dataclass(slots=True)
class ExternalServer:
    """A database or Redis server behind a URL of the settings."""

    name: ServiceName
    variable: str
    url: str = field(repr=False)
    owner_url: str | None = field(default=None, repr=False)

    @property
    def address(self) -> str:
        hosts = host_of(self.url)
        if self.is_many or "," in hosts:
            return hosts
        parts = urlsplit(self.url)
        port = parts.port or (5432 if self.name in ("main", "analytics") else 6379)
        return f"{parts.hostname}:{port}" if parts.hostname else parts.path or "its default address"

    @property
    def is_many(self) -> bool:
        """Sentinels, or a Cluster."""
        return "+" in self.url.partition("://")[0]

    def complaint(self) -> str | None:
        if self.name in ("main", "analytics"):
            from psycopg.conninfo import make_conninfo

            return postgres.ping(make_conninfo(self.url, connect_timeout=3))
        return self._complaint_of_many() if self.is_many else valkey.ping(self.url)

    def _complaint_of_many(self) -> str | None:
        import asyncio

        from novadex.monitoring.cache_probe import CacheProbe

        async def look() -> None:
            probe = CacheProbe(self.name, self.url)
            try:
                await probe.look(LOOK_S_MAX)
            finally:
                await probe.close()

        try:
            asyncio.run(look())
        except NovaDexError as error:
            return error.message.removesuffix(".")
        return None

    def reach(self, stopping: Event) -> None:
        """Wait until it answers.

        Raises ``UnavailableError`` where it does not within ``REACH_S_MAX``.
        """
        end = time.monotonic() + REACH_S_MAX
        while (problem := self.complaint()) is not None:
            if time.monotonic() > end or stopping.wait(0.5):
                raise UnavailableError(
                    f"The server of {self.variable} at {self.address} cannot be used: {problem}.",
                    hint=f"Start it or correct {self.variable}; unset, NovaDex starts a server of its own.",
                )

    def migrate(self) -> None:
        from novadex.storage.migrations import migrate

        match self.name:
            case "main" | "analytics":
                migrate(self.owner_url or self.url, self.name)
            case _:
                return
