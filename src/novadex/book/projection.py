"""The projection of order events to books, by their number in the market.

A projector owns a shard of the markets by an advisory lock, holds their books in memory, and publishes differences
into the cache server. It looks 50 times a second whether any market moved, with one small query; only those that did
are asked for, and while they move their events come with the look itself. What is published is only ever put onto
what it follows: where the server lost something, was restarted with an old state, or somebody else published, the
book is read anew from PostgreSQL.
"""

from __future__ import annotations

import asyncio
import math
import random
import secrets
import time
from collections import deque
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

import psycopg
import structlog
from psycopg import IsolationLevel

from novadex.book import metrics
from novadex.book.documents import LEASE_MS, MarketKeys, requests_key, shard_lease_key
from novadex.book.orders import GapError
from novadex.book.publisher import Publisher
from novadex.book.store import QUERIES, Pulse, read_levels, read_news, read_orders
from novadex.book.units import FinerValueError
from novadex.errors import ConfigurationError, NovaDexError, UnavailableError
from novadex.storage.database import Database
from novadex.storage.session import Session

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from novadex.book.orders import OrderBook, OrderChange
    from novadex.storage.connection import DatabaseConnection

POLL_S = 0.02
"""Between two looks: a difference is published at most this and the time of one round after its commit."""
POLL_MOVING_S = 0.01
"""The same while a book moves, and for ``MOVING_S`` after it."""
MOVING_S = 1.0
EVENTS_MAX = 1_000
"""Of one market in one difference."""
BATCHES_MAX = 10
"""Of one market in one round: a busy market does not keep the others waiting."""
MARKETS_MAX = 50
"""Markets whose events are read at once, and that are read anew in one round at the start: readers of the others ask
PostgreSQL meanwhile."""
BEAT_S = LEASE_MS / 4_000
BEHIND_S_MAX = 5.0
"""A projector that is this far behind is not believed: readers ask PostgreSQL."""
LOOK_INTERVAL_S = 30.0
"""In which every published market is looked at once, so that an evicted key is found."""
EXTERNAL_INTERVAL_S = 2.0
"""How soon after an import ended its book is kept published from here."""
STANDBY_S = 1.0
BACKOFF_S_MAX = 2.0
REQUESTS_MAX = 100
ALL = "all"
"""In the set of requests: every market."""

log = structlog.get_logger("novadex.book")


class SessionOverError(Exception):
    """What was published can no longer be relied on; all of it is published anew."""


class BookProjection:
    """Keeps the books of one shard; ``run`` does it until it is stopped."""

    def __init__(self, db: DatabaseConnection, shard: int = 0, shards: int = 1) -> None:
        endpoints, settings = db.endpoints, db.settings
        self.shard, self.shards = shard, shards
        self._url = endpoints.cache
        self._possible = bool(endpoints.listen) or not settings.pgbouncer
        # A session of its own: the lock that says who owns the shard lives in it.
        self._database = Database(
            "main", endpoints.listen or endpoints.main, settings.model_copy(update={"pgbouncer": False})
        )
        self._books: dict[int, OrderBook] = {}
        self._external: dict[int, str] = {}
        """Markets that show another exchange's book, and the snapshot that is published of each; empty: none is."""
        self._pulse: Pulse | None = None
        """How the shard stood when everything was followed for the last time."""
        self._moving: list[int] = []
        """Markets that moved lately, the latest first: their next events are asked for with the look itself."""
        self._moving_until = 0.0
        self._looked: deque[int] = deque()
        self._look_at = self._external_at = 0.0
        self._complete_at = math.inf
        """Up to which moment of monotonic time everything is published."""
        self.drained = True
        """Whether the last round left nothing to do."""
        self._crossed: set[int] = set()
        self._lease_lost = self._over = False
        self._requests: set[str] = set()
        self.life = ""

    @property
    def lag_s(self) -> float | None:
        """Seconds since the moment up to which everything is published; None while this projector does not own."""
        return None if self._complete_at == math.inf else max(0.0, time.monotonic() - self._complete_at)

    # The loop

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the books until ``stop``. Lost servers are waited for; a second projector stands by."""
        if not self._url:
            raise ConfigurationError("There is no cache server for books.", hint="Set REDIS_URL.")
        if not self._possible:
            raise ConfigurationError(
                "Behind a PgBouncer in transaction mode no projector can own the books.",
                hint="Set DATABASE_LISTEN_URL to main PostgreSQL without the PgBouncer.",
            )
        failures = 0
        metrics.book_lag_seconds.labels(str(self.shard)).set_function(lambda: self.lag_s or 0.0)
        while not stop.is_set():
            pause_s, reason = STANDBY_S, ""
            try:
                async with aclosing(self.rounds()) as rounds:
                    async for _ in rounds:
                        failures = 0
                        if stop.is_set():
                            return
                        await self._pause(
                            stop, 0.0 if not self.drained else POLL_MOVING_S if self._moving else POLL_S
                        )
            except SessionOverError as error:
                pause_s, reason = 0.0, "cache"
                log.warning("books are published anew", shard=self.shard, reason=str(error))
            except (NovaDexError, psycopg.Error) as error:
                failures += 1
                pause_s = min(BACKOFF_S_MAX, 0.05 * 2 ** min(failures, 10)) * random.uniform(0.5, 1)  # noqa: S311
                reason = "error"
                if failures == 1:
                    log.warning("the books cannot be kept", shard=self.shard, error=str(error).strip()[:300])
            if reason:
                metrics.book_sessions.labels(reason).inc()
            await self._pause(stop, pause_s)

    async def rounds(self) -> AsyncGenerator[None]:
        """Own the shard, publish everything, and then one round after the other: each yields once it is done. Ends
        at once where another projector owns the shard."""
        connection = await self._database.dedicated()
        try:
            session = Session(connection, "main")
            if not await session.value(QUERIES.own, [self.shard]):
                return
            await session.execute(QUERIES.read_by_index)
            self.life = await session.value(QUERIES.life)
            publisher = Publisher(self._url, self.life, secrets.token_hex(8))
            lease = shard_lease_key(self.life, self.shard)
            beating: asyncio.Task[None] | None = None
            try:
                self._begin()
                await publisher.take(lease)
                beating = asyncio.get_running_loop().create_task(
                    self._beat(publisher, lease), name="novadex book beat"
                )
                while True:
                    await self._round(session, publisher)
                    yield
            finally:
                if beating is not None:
                    self._over = True  # a call that is done as it is cancelled may forget the cancellation
                    beating.cancel()
                    await asyncio.wait([beating])
                with suppress(UnavailableError):
                    await publisher.leave(lease)
                await publisher.close()
                self._complete_at = math.inf
        finally:
            await connection.close()

    def _begin(self) -> None:
        self._books, self._external, self._pulse, self._crossed = {}, {}, None, set()
        self._moving = []
        self._looked.clear()
        self._look_at = self._external_at = 0.0
        self._lease_lost, self._over, self.drained = False, False, False
        self._complete_at = time.monotonic()
        self._requests = set()

    async def _pause(self, stop: asyncio.Event, seconds: float) -> None:
        if not seconds:
            await asyncio.sleep(0)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await stop.wait()

    async def _beat(self, publisher: Publisher, lease: str) -> None:
        """Keep the lease; it says so while the books are not kept up."""
        requests = requests_key(self.life, self.shard)
        while not (self._lease_lost or self._over):
            await asyncio.sleep(BEAT_S)
            try:
                self._lease_lost = not await publisher.keep(lease, behind=(self.lag_s or 0.0) > BEHIND_S_MAX)
                asked = await publisher.take_requests(requests, REQUESTS_MAX)
                self._requests.update(asked)  # not in one line: a round may put another set there while this waits
            except UnavailableError:
                self._lease_lost = True

    # One round

    async def _round(self, session: Session, publisher: Publisher) -> None:
        began = time.monotonic()
        if self._lease_lost:
            raise SessionOverError("the cache server lost what was published, or it is another's")
        await self._serve_requests(session, publisher)
        known = {id: self._books[id].sequence for id in self._moving if id in self._books}
        pulse, changes = await self._read(session, known)
        if self._pulse is not None and pulse.epoch != self._pulse.epoch:
            raise SessionOverError("the database was restored")
        if began >= self._external_at:
            await self._follow_external(session, publisher)
            self._external_at = time.monotonic() + EXTERNAL_INTERVAL_S
        if pulse != self._pulse:
            self._moving_until = began + MOVING_S
            followed = begun = await self._follow_moving(session, publisher, pulse, changes, began)
            if not followed:
                followed, begun = await self._follow_all(session, publisher, began)
            self.drained = followed and begun
            if self.drained:
                self._pulse = pulse
            if followed:
                self._complete_at = began
        else:
            self._complete_at = began
            if began > self._moving_until:
                self._moving = []
        await self._look_at_some(session, publisher, began)
        metrics.book_markets.labels(str(self.shard)).set(len(publisher.markets()))
        metrics.book_crossed.labels(str(self.shard)).set(len(self._crossed))

    async def _follow_moving(
        self, session: Session, publisher: Publisher, pulse: Pulse, changes: list[list[OrderChange]], began: float
    ) -> bool:
        """Apply and publish events of the markets that moved lately; returns whether that were all in the shard."""
        if self._pulse is None:
            return False
        new = sum(len(part) for part in changes)
        changes = [part for part in changes if part[0].market_id in self._books]
        drained = not changes or await self._follow_part(session, publisher, changes, began)
        return drained and pulse == self._pulse._replace(events=self._pulse.events + new)

    async def _follow_all(self, session: Session, publisher: Publisher, began: float) -> tuple[bool, bool]:
        """Apply and publish whatever is new; returns whether that was all, and whether every book has been begun."""
        known = {market_id: book.sequence for market_id, book in self._books.items()}
        moved = {
            row.market_id: row.sequence
            for row in await session.query(
                QUERIES.moved, [self.shard, self.shards, list(known), list(known.values())]
            )
            if row.market_id not in self._external
        }
        drained = True
        following: list[int] = []
        to_begin = [market_id for market_id in moved if market_id not in self._books]
        for market_id, sequence in moved.items():
            if market_id not in known:
                continue
            if sequence < known[market_id]:
                await self._rebuild(session, publisher, market_id, "restored")
            else:
                following.append(market_id)
        self._moving = list(dict.fromkeys((*following, *self._moving)))[:MARKETS_MAX]
        for start in range(0, len(following), MARKETS_MAX):
            part = {market_id: known[market_id] for market_id in following[start : start + MARKETS_MAX]}
            _, changes = await self._read(session, part)
            drained &= await self._follow_part(session, publisher, changes, began)
        for market_id in to_begin[:MARKETS_MAX]:
            await self._rebuild(session, publisher, market_id, "start")
        return drained, len(to_begin) <= MARKETS_MAX

    async def _follow_part(
        self, session: Session, publisher: Publisher, changes: list[list[OrderChange]], began: float
    ) -> bool:
        """Apply and publish the next events of some markets and what comes behind them, batch by batch, each read
        while the one before it is applied; returns whether that were all."""
        for _ in range(BATCHES_MAX):
            more = {part[-1].market_id: part[-1].sequence for part in changes if len(part) >= EVENTS_MAX}
            ahead = asyncio.create_task(self._read(session, more), name="novadex book events") if more else None
            try:
                to_rebuild = {
                    part[0].market_id: why for part in changes if (why := await self._apply(publisher, part))
                }
            finally:
                changes = (await ahead)[1] if ahead is not None else []
            for market_id, why in to_rebuild.items():
                await self._rebuild(session, publisher, market_id, why)
            metrics.book_publish_seconds.observe(time.monotonic() - began)
            changes = [part for part in changes if part[0].market_id not in to_rebuild]
            if not changes:
                return not more
        return False

    async def _read(self, session: Session, known: dict[int, int]) -> tuple[Pulse, list[list[OrderChange]]]:
        return await read_news(session, known, EVENTS_MAX, self.shard, self.shards)

    async def _apply(self, publisher: Publisher, changes: list[OrderChange]) -> str:
        """Apply and publish events of a market; returns why its book has to be read anew, if it has."""
        market_id = changes[0].market_id
        book = self._books[market_id]
        try:
            for change in changes:
                book.apply(change)
        except GapError as error:
            metrics.book_gaps.labels("projection").inc()
            log.error("an order event is missing", market_id=market_id, why=str(error))  # noqa: TRY400 - no stack
            return "gap"
        except FinerValueError:
            return "finer price"
        metrics.book_events.labels(str(self.shard)).inc(len(changes))
        if not await publisher.publish(market_id, book):
            return "cache"
        metrics.book_batches.labels(str(self.shard)).inc()
        self._note_crossed(market_id, crossed=book.levels.crossed)
        return ""

    def _note_crossed(self, market_id: int, *, crossed: bool) -> None:
        if crossed:
            self._crossed.add(market_id)
        else:
            self._crossed.discard(market_id)

    async def _rebuild(self, session: Session, publisher: Publisher, market_id: int, reason: str) -> None:
        """Read a market's book anew and publish it whole."""
        connection = session.connection
        await connection.set_isolation_level(IsolationLevel.REPEATABLE_READ)
        await connection.set_read_only(True)
        try:
            async with connection.transaction():
                market = await session.one(QUERIES.market, [market_id])
                if market is None:
                    return
                book = None if market.external else await read_orders(session, market)
                found = await read_levels(session, market) if book is None else None
        finally:
            if not connection.closed:
                await connection.set_isolation_level(None)
                await connection.set_read_only(None)
        if book is not None:
            self._books[market_id] = book
            self._external.pop(market_id, None)
            await publisher.restore(market_id, book)
            self._note_crossed(market_id, crossed=book.levels.crossed)
        elif found is not None:
            # What an import publishes itself is left alone.
            self._books.pop(market_id, None)
            self._external.setdefault(market_id, "")
            self._note_crossed(market_id, crossed=False)
            if await publisher.is_held(MarketKeys.of(self.life, market_id).lease):
                publisher.forget(market_id)
                self._external[market_id] = ""
                return
            await publisher.restore_levels(market_id, found.sequence, found.levels)
        if market_id not in self._looked:
            self._looked.append(market_id)
        metrics.book_rebuilds.labels(reason).inc()

    # Beside the events

    async def _follow_external(self, session: Session, publisher: Publisher) -> None:
        """Books of other exchanges: the newest snapshot of each is published, unless an import is at work."""
        newest = {
            row.market_id: row.id for row in await session.query(QUERIES.newest_snapshots, [self.shard, self.shards])
        }
        for market_id in self._external.keys() - newest.keys():
            del self._external[market_id]
            await self._rebuild(session, publisher, market_id, "own again")
        for market_id, snapshot in newest.items():
            if self._external.get(market_id) == snapshot:
                continue
            if await publisher.is_held(MarketKeys.of(self.life, market_id).lease):
                continue
            await self._rebuild(session, publisher, market_id, "external")
            if publisher.has(market_id) and market_id in self._external:
                self._external[market_id] = snapshot

    async def _look_at_some(self, session: Session, publisher: Publisher, now: float) -> None:
        """A few of the markets each time, all of them in ``LOOK_INTERVAL_S``."""
        if not self._looked or now < self._look_at:
            return
        self._look_at = now + LOOK_INTERVAL_S / len(self._looked)
        market_id = self._looked[0]
        self._looked.rotate(-1)
        if not publisher.has(market_id):
            self._looked.pop()
        elif not await publisher.look(market_id):
            await self._rebuild(session, publisher, market_id, "cache")

    async def _serve_requests(self, session: Session, publisher: Publisher) -> None:
        requests, self._requests = self._requests, set()
        if ALL in requests:
            requests |= {str(market_id) for market_id in publisher.markets()}
        for text in sorted(requests - {ALL}):
            if text.isdecimal() and int(text) % self.shards == self.shard:
                await self._rebuild(session, publisher, int(text), "asked")
