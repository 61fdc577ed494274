"""The feed of changes: what every process hears at commit, and the lease under which it may use its caches.

Triggers announce each change with the id of its transaction, by ``NOTIFY`` at its commit. The feed listens on a
connection of its own to the primary and pings there. PostgreSQL sends what was announced before it answers a
ping that began later. So a ping that *began* at a moment and was answered proves that everything committed
before that moment was heard: until ``LEASE_S`` after it, the caches may be used. A process that was stopped and
continued, or whose link is cut or stalled, has no lease, whatever it believes.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg
import structlog

from novadex import metrics
from novadex.cache.snapshots import Snapshot
from novadex.storage.database import Database
from novadex.storage.queries import load_queries
from novadex.storage.session import Session
from novadex.storage.watched import WatchedConnection, hang_up

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg import Notify

    from novadex.storage.connection import DatabaseConnection

LEASE_S = 0.040
"""How long after a ping began the caches may be used: the bound on how old a value can be."""
PING_INTERVAL_S = 0.012
"""Between pings while the caches are read."""
IDLE_PING_INTERVAL_S = 5.0
"""While nobody reads: so that the server's queue of announcements is emptied."""
WANTED_S = 1.0
"""How long after a reader asked for a lease it is kept fresh."""
CONFIRM_S_MAX = 0.1
"""How long a reader waits for a lease before it asks PostgreSQL itself."""
SILENCE_S_MAX = 2.0
"""A ping without an answer for this long ends the link."""
RECONNECT_S, RECONNECT_S_MAX = 0.05, 2.0
CHANGES_MAX = 100_000
"""Last changes that are remembered; past it, what other processes read before is not used."""
CHANGES_S_MAX = 3_600.0
"""How long a change is remembered."""
READ_S_MAX = 3_000.0
"""What was read longer ago is not believed: whoever put it there, the change since may be forgotten. Well below, for
two clocks are compared."""
OWN_MAX = 16
"""Changes of one record by this process that are remembered beside what was heard."""

QUERIES = load_queries(Path(__file__).with_name("feed.sql"))
log = structlog.get_logger("novadex.cache")


class _Change(NamedTuple):
    """The last changes of a record."""

    heard: int | None
    """PostgreSQL tells of commits in their order: who sees this one sees those before it."""
    own: tuple[int, ...]
    """Committed by this process. It tells of them at any time after: before they are heard, or long after what
    others committed since was heard. So they stand beside it, and never in its place."""
    noted_at: float

    def seen_in(self, snapshot: Snapshot) -> bool:
        return (self.heard is None or snapshot.sees(self.heard)) and all(map(snapshot.sees, self.own))


class ChangeFeed:
    """Hears changes. ``trusted_until`` is read by hot paths: while ``time.monotonic()`` is below it, every
    change that was committed more than ``LEASE_S`` ago was heard."""

    def __init__(self, db: DatabaseConnection) -> None:
        endpoints, settings = db.endpoints, db.settings
        self.possible = bool(endpoints.listen) or not settings.pgbouncer
        """A PgBouncer in transaction mode swallows announcements."""
        self._database = Database(
            "main", endpoints.listen or endpoints.main, settings.model_copy(update={"pgbouncer": False})
        )
        self.trusted_until = 0.0
        self.floor: Snapshot | None = None
        """What was read before it is not used: changes before it may not have been heard."""
        self._floor_at = 0.0
        """When it was asked for: a moment before the clock of the primary said ``floor.read_at_us``."""
        self.life = ""
        """Which life of the database: a restore or a failover begins another."""
        self._changes: OrderedDict[tuple[str, str], _Change] = OrderedDict()
        self._times_forgotten = 0
        """How often all of them were forgotten, for there were too many."""
        self._lease_from = 0.0
        """A ping that began before it gives no lease."""
        self._on_change: dict[str, Callable[[str, int], None]] = {}
        self._on_loss: list[Callable[[], None]] = []
        self._wanted_until = 0.0
        self._wake = asyncio.Event()
        self._confirmed: asyncio.Future[bool] | None = None
        """Of the ping that begins next."""
        self._down = False
        """The link failed, and no ping was answered since: nobody waits for it."""
        self._unanswered_since = math.inf
        """When the ping under way began."""
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connection: psycopg.AsyncConnection[Any] | None = None

    def listen(self, namespace: str, on_change: Callable[[str, int], None], on_loss: Callable[[], None]) -> None:
        """Call ``on_change(key, xid)`` for changes of a namespace, ``on_loss()`` where the link is lost."""
        self._on_change[namespace] = on_change
        self._on_loss.append(on_loss)

    def fresh(self, namespace: str, key: str, snapshot: Snapshot) -> bool:
        """Whether what was read in this snapshot is still so, as far as was heard."""
        if self.floor is None or not snapshot.covers(self.floor):
            return False
        since_floor_us = (time.monotonic() - self._floor_at) * 1e6
        if snapshot.read_at_us < self.floor.read_at_us + since_floor_us - READ_S_MAX * 1e6:
            return False
        change = self._changes.get((namespace, key))
        return change is None or change.seen_in(snapshot)

    def note(self, namespace: str, key: str, xid: int) -> None:
        """A change that was heard."""
        before = self._changes.get((namespace, key))
        own = tuple(other for other in before.own if other != xid) if before else ()
        self._remember(namespace, key, _Change(xid, own, time.monotonic()), xid)

    def note_own(self, namespace: str, key: str, xid: int) -> None:
        """A change that this process made itself."""
        before = self._changes.get((namespace, key))
        heard, own = (before.heard, before.own) if before else (None, ())
        # Whoever must leave was heard, or is going to be: within the lease nothing is lost with it.
        self._remember(namespace, key, _Change(heard, (*own, xid)[-OWN_MAX:], time.monotonic()), xid)

    def _remember(self, namespace: str, key: str, change: _Change, xid: int) -> None:
        self._changes[namespace, key] = change
        self._changes.move_to_end((namespace, key))
        if len(self._changes) > CHANGES_MAX:
            # The next ping sets the floor above all of them: none of them needs to be known any more.
            self._changes.clear()
            self.floor = None
            self._times_forgotten += 1
        while self._changes and next(iter(self._changes.values())).noted_at < change.noted_at - CHANGES_S_MAX:
            self._changes.popitem(last=False)
        on_change = self._on_change.get(namespace)
        if on_change is not None:
            on_change(key, xid)

    async def confirm(self) -> bool:
        """Wait for a lease, at most ``CONFIRM_S_MAX``: True where everything that was committed before this call
        was heard. All who wait share one ping."""
        if not self.possible:
            return False
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._start(loop)
        now = time.monotonic()
        self._wanted_until = now + WANTED_S
        if self._down or now - self._unanswered_since > CONFIRM_S_MAX:
            return False
        if self._confirmed is None:
            self._confirmed = loop.create_future()
        waiting = self._confirmed
        self._wake.set()
        try:
            async with asyncio.timeout(CONFIRM_S_MAX):
                return await asyncio.shield(waiting)
        except TimeoutError:
            return False

    async def catch_up(self) -> None:
        """After a commit of this process: it serves nothing older from now on, whether the feed answers or not."""
        committed = time.monotonic()
        if not await self.confirm():
            self.trusted_until, self._lease_from = 0.0, committed

    async def close(self) -> None:
        task, self._task = self._task, None
        if task is not None and self._loop is asyncio.get_running_loop():
            task.cancel()
            if self._connection is not None:
                hang_up(self._connection)
            await asyncio.wait([task])
        self._loop = None

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._lose()
        self._loop, self._wake, self._confirmed, self._down = loop, asyncio.Event(), None, False
        self._task = loop.create_task(self._run(), name="novadex feed of changes")

    async def _run(self) -> None:
        pause_s = RECONNECT_S
        while True:
            try:
                await self._follow()
            except Exception as error:  # noqa: BLE001 - if this ended, the caches would stay unused for good
                if self.trusted_until:
                    log.warning("feed of changes lost", error=str(error).strip(), kind=type(error).__name__)
                    metrics.cache_feed_losses.inc()
                    pause_s = RECONNECT_S
                self._down = True
            finally:
                self._lose()
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, RECONNECT_S_MAX)

    async def _follow(self) -> None:
        connection = self._connection = await self._database.dedicated()
        try:
            connection.add_notify_handler(self._hear)
            session = Session(connection, "main")
            with _answering(connection):
                await session.execute(QUERIES.listen)
            while True:
                waiting, self._confirmed = self._confirmed, None
                self._wake.clear()
                began = self._unanswered_since = time.monotonic()
                with _answering(connection):
                    if self.floor is None:
                        await self._set_floor(session)
                        self._floor_at = began
                    else:
                        await connection.execute("")  # the least that a server answers to
                self._unanswered_since, self._down = math.inf, False
                if began >= self._lease_from:
                    self.trusted_until = began + LEASE_S
                if waiting is not None and not waiting.done():
                    waiting.set_result(True)
                metrics.cache_feed_connected.set(1)
                now = time.monotonic()
                if self._confirmed is not None:
                    continue
                pause_s = PING_INTERVAL_S if now < self._wanted_until else IDLE_PING_INTERVAL_S
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause_s):
                        await self._wake.wait()
        finally:
            self._connection = None
            await connection.close()

    async def _set_floor(self, session: Session) -> None:
        forgotten = self._times_forgotten
        row = await session.one(QUERIES.floor)
        assert row is not None  # noqa: S101 - it selects functions
        self.life = row.life
        if forgotten == self._times_forgotten:  # else what was forgotten meanwhile may be later than it
            self.floor = Snapshot.parse(row.mark)

    def _hear(self, notification: Notify) -> None:
        # What does not read so ends the link, and all is read anew: it may say that something changed.
        namespace, xid, key = notification.payload.split(" ", 2)
        self.note(namespace, key, int(xid))

    def _lose(self) -> None:
        """Nothing that was read is known to be so any more."""
        self.trusted_until, self.floor, self._unanswered_since = 0.0, None, math.inf
        self._changes.clear()
        metrics.cache_feed_connected.set(0)
        if self._confirmed is not None and not self._confirmed.done():
            self._confirmed.set_result(False)
        self._confirmed = None
        for on_loss in self._on_loss:
            on_loss()


def _answering(connection: psycopg.AsyncConnection[Any]) -> Any:
    """The link ends where the server is silent."""
    assert isinstance(connection, WatchedConnection)  # noqa: S101 - as Database makes them
    return connection.answering_within(SILENCE_S_MAX)
