"""Reads books: from the cache server while somebody publishes them there, else from PostgreSQL."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import structlog

from novadex.book import metrics
from novadex.book.documents import (
    SEEN_MS,
    MarketKeys,
    Seen,
    Top,
    decode_seen,
    decode_top,
    encode,
    requests_key,
    shard_lease_key,
    top_of,
)
from novadex.book.levels import Levels
from novadex.book.orders import OrderBook, RestingOrder
from novadex.book.publisher import SERVER_GONE
from novadex.book.store import QUERIES, LevelsAt, read_levels, read_orders
from novadex.cache.cache import Caches
from novadex.cache.servers import close_client, open_client
from novadex.errors import NotFoundError
from novadex.trading.markets import Markets

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from novadex.book.records import Source
    from novadex.storage.connection import DatabaseConnection

READ = Path(__file__).with_name("read.lua").read_text(encoding="ascii")
COMMAND_S_MAX = 2.0
"""For whole books; those who want the best levels wait less."""
AWAY_S = 1.0
"""How long a server that failed is left alone."""

RECENT_S = 0.010
"""How old an answer of the cache server may be that is given to those who ask a little later."""
RECENT_MAX = 1_000
"""Markets of which one is remembered."""

log = structlog.get_logger("novadex.book")


class WholeBook(NamedTuple):
    """All levels as they were published, and the last difference that is in them."""

    epoch: str
    sequence: int
    checksum: int
    levels: Levels
    orders: dict[str, RestingOrder]
    source: Source
    last_change: str


class BookLook(NamedTuple):
    """What stands in the cache server for a market, believed or not."""

    book: WholeBook | None
    """None: nothing, or nothing that can be read."""
    whole: bool
    """Whether the state, the levels, the orders and the checksum agree with each other."""
    believed: bool
    """Whether readers take it: somebody who publishes it has a lease."""
    top: Top | None


@dataclass(slots=True)
class _Recent:
    """What the cache server answered lately."""

    top: Top
    asked_at: float
    renewed: bool = False
    """Whether somebody who got it asked anew, for whoever comes next."""


class BookReader:
    """``db.companion(BookReader)`` gives the one of a connection."""

    def __init__(self, db: DatabaseConnection) -> None:
        self._db = db
        self._shards = db.settings.book_shards
        self._server = db.companion(Caches).servers["cache"]
        self._markets = Markets(db)
        self._life = ""
        self._client: Any = None
        self._read: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._away_until = 0.0
        self._loading: dict[int, asyncio.Task[tuple[LevelsAt, str]]] = {}
        self._recent: dict[int, _Recent] = {}
        self._renewing: set[asyncio.Task[Top | None]] = set()

    async def close(self) -> None:
        for renewing in list(self._renewing):
            renewing.cancel()
        client, self._client = self._client, None
        if client is not None and self._loop is asyncio.get_running_loop():
            await close_client(client)

    # Where it stands

    async def life(self) -> str:
        """Which life of the database the keys belong to."""
        if not self._life:
            self._life = await self._db.main.value(QUERIES.life, read_only=True)
        return self._life

    async def market_id(self, symbol: str) -> int:
        """The key of a market; ``NotFoundError`` where there is none."""
        return (self._markets.remembered(symbol) or await self._markets.get(symbol)).id

    async def keys(self, market_id: int) -> MarketKeys:
        return MarketKeys.of(await self.life(), market_id)

    def client(self) -> Any:
        """A client that waits longer than readers of the best levels do; None without a cache server."""
        loop = asyncio.get_running_loop()
        if not self._db.endpoints.cache:
            return None
        if self._client is None or self._loop is not loop:
            self._client = open_client(self._db.endpoints.cache, command_s_max=COMMAND_S_MAX, name="novadex-book")
            self._read, self._loop = self._client.register_script(READ), loop
        return self._client

    async def leases(self, market_id: int) -> set[str]:
        """Who publishes the market now: tokens that are believed."""
        life, keys = await self.life(), await self.keys(market_id)
        found = await self._server.get_many(shard_lease_key(life, market_id % self._shards), keys.lease)
        return {token.decode() for token in found if token is not None}

    async def lease_of(self, shard: int) -> str | None:
        """Who publishes the markets of a shard; behind a space, why they are not to be believed."""
        token = await self._server.get(shard_lease_key(await self.life(), shard))
        return None if token is None else token.decode()

    async def imported(self, market_id: int) -> bool:
        """Whether an import publishes the market now."""
        return await self._server.get((await self.keys(market_id)).lease) is not None

    async def ask_to_rebuild(self, shard: int, what: str) -> bool:
        """Ask the projector of a shard, if there is one, to read a market's book, or ``all``, anew."""
        life = await self.life()
        if await self.lease_of(shard) is None:
            return False
        return await self._long(lambda client: client.sadd(requests_key(life, shard), what)) is not None

    # The best levels

    async def recent_top(self, market_id: int) -> Top | None:
        """As ``top``, or what that gave at most ``RECENT_S`` ago. A book that is asked for all the time is then read
        ahead of its readers, who wait for nobody."""
        recent = self._recent.get(market_id)
        if recent is None or time.monotonic() - recent.asked_at > RECENT_S:
            return await self.top(market_id)
        if not recent.renewed:
            recent.renewed = True
            renewal = self._published_top(market_id)
            task = asyncio.get_running_loop().create_task(renewal, name="novadex book renewal")
            self._renewing.add(task)
            task.add_done_callback(self._renewing.discard)
        metrics.book_reads.labels("recent").inc()
        return recent.top

    async def top(self, market_id: int) -> Top | None:
        """The best levels by one read of the cache server; None where nobody is at hand who keeps them right."""
        found = await self._published_top(market_id)
        if found is not None:
            metrics.book_reads.labels("cache").inc()
            return found
        seen = await self._server.get((await self.keys(market_id)).seen)
        kept = _decoded(decode_seen, seen) if seen is not None else None
        if kept is not None and kept.mark == await self._db.main.value(QUERIES.mark, [market_id], read_only=True):
            metrics.book_reads.labels("seen").inc()
            return kept.top
        return None

    async def _published_top(self, market_id: int) -> Top | None:
        """What stands in the cache server, if a publisher is there who keeps it right."""
        asked_at = time.monotonic()
        life, keys = await self.life(), await self.keys(market_id)
        top, *leases = await self._server.get_many(
            keys.top, shard_lease_key(life, market_id % self._shards), keys.lease
        )
        found = _decoded(decode_top, top) if top is not None else None
        if found is None or found.publisher.encode() not in leases:
            self._recent.pop(market_id, None)
            return None
        before = self._recent.get(market_id)
        if before is None or before.asked_at < asked_at:
            if len(self._recent) >= RECENT_MAX:
                self._recent.clear()
            self._recent[market_id] = _Recent(found, asked_at)
        return found

    # Whole books

    async def published(self, market_id: int, *, levels: bool = True, orders: bool = False) -> WholeBook | None:
        """A whole book at one moment from the cache server; None as with ``top``, and where a part of it is gone."""
        keys = await self.keys(market_id)
        self.client()
        answer = await self._long(
            lambda _: self._read(
                keys=[keys.state, keys.bids, keys.asks, keys.orders, keys.changes], args=[int(levels), int(orders)]
            )
        )
        if answer is None or not answer[0]:
            return None
        try:
            book, whole = _whole_book(answer, levels=levels, orders=orders)
        except (KeyError, ValueError) as error:
            log.warning("published book unreadable", market_id=market_id, error=str(error)[:200])
            return None
        if not whole or book.epoch.partition(".")[0] not in await self.leases(market_id):
            return None
        metrics.book_reads.labels("cache").inc()
        return book

    async def look(self, market_id: int) -> BookLook | None:
        """Everything that stands there, for who compares it with the records; None where the server cannot say."""
        keys = await self.keys(market_id)
        self.client()
        answer = await self._long(
            lambda _: self._read(keys=[keys.state, keys.bids, keys.asks, keys.orders, keys.changes], args=[1, 1])
        )
        if answer is None:
            return None
        others = (keys.top, shard_lease_key(await self.life(), market_id % self._shards), keys.lease)
        # By the client that waits longer: whoever looks must not take a slow answer for none.
        found = await self._long(lambda client: asyncio.gather(*(client.get(key) for key in others)))
        if found is None:
            return None
        top, *tokens = found
        leases = {token.decode() for token in tokens if token is not None}
        if not answer[0]:
            return BookLook(None, whole=False, believed=False, top=None)
        epoch = dict(_pairs(answer[0])).get("epoch", "")
        believed = epoch.partition(".")[0] in leases
        try:
            book, whole = _whole_book(answer, levels=True, orders=True)
        except (KeyError, ValueError):
            return BookLook(None, whole=False, believed=believed, top=None)
        return BookLook(book, whole, believed, _decoded(decode_top, top) if top is not None else None)

    async def recorded(self, market_id: int) -> LevelsAt:
        """The levels from PostgreSQL, for all who ask at once; what others may need is left in the cache server."""
        loading = self._loading.get(market_id)
        if loading is None:
            loading = asyncio.get_running_loop().create_task(self._load(market_id), name="novadex book read")
            self._loading[market_id] = loading
            loading.add_done_callback(lambda _: self._loading.pop(market_id, None))
        found, mark = await asyncio.shield(loading)
        metrics.book_reads.labels("postgresql").inc()
        keys = await self.keys(market_id)
        seen = Seen(mark, top_of(".0", found.sequence, found.source, found.levels))
        await self._long(lambda client: client.set(keys.seen, encode(seen), px=SEEN_MS))
        return found

    async def recorded_orders(self, market_id: int) -> OrderBook:
        """The orders from PostgreSQL; none where the market shows another exchange's book."""
        async with self._db.main.transaction("repeatable read", read_only=True) as session:
            market = await session.one(QUERIES.market, [market_id])
            if market is None:
                raise NotFoundError(f"There is no market {market_id}.", market=market_id)
            self._life = await session.value(QUERIES.life)
            if market.external:
                return OrderBook(market.sequence, market.price_decimals, market.base_decimals)
            return await read_orders(session, market)

    async def _load(self, market_id: int) -> tuple[LevelsAt, str]:
        async with self._db.main.transaction("repeatable read", read_only=True) as session:
            market = await session.one(QUERIES.market, [market_id])
            if market is None:
                raise NotFoundError(f"There is no market {market_id}.", market=market_id)
            mark = await session.value(QUERIES.mark, [market_id])
            found = await read_levels(session, market)
            self._life = await session.value(QUERIES.life)
        return found, mark

    async def _long(self, command: Callable[[Any], Awaitable[Any]]) -> Any:
        """A command that may take its time; None where the server cannot say."""
        client = self.client()
        if client is None or time.monotonic() < self._away_until:
            return None
        try:
            return await command(client)
        except SERVER_GONE as error:
            self._away_until = time.monotonic() + AWAY_S
            log.warning("cache server failed", server="cache", error=type(error).__name__)
            return None


def _decoded(decode: Callable[[bytes], Any], text: bytes) -> Any:
    with suppress(msgspec.DecodeError):
        return decode(text)
    return None


def _pairs(flat: list[bytes]) -> list[tuple[str, str]]:
    return [(flat[i].decode(), flat[i + 1].decode()) for i in range(0, len(flat), 2)]


def _whole_book(answer: list[Any], *, levels: bool, orders: bool) -> tuple[WholeBook, bool]:
    """A book as the script found it, and whether all of it was there."""
    state = dict(_pairs(answer[0]))
    found = Levels(int(state["price_decimals"]), int(state["lot_decimals"]))
    for side, pairs in ((found.bids, answer[1]), (found.asks, answer[2])):
        for price, lots in _pairs(pairs):
            side.set(int(price), int(lots))
    resting: dict[str, RestingOrder] = {}
    for order_id, text in _pairs(answer[3]):
        side_name, price, lots, priority = text.split(" ")
        resting[order_id] = RestingOrder(side_name, int(price), int(lots), int(priority))
    checksum = int(state["checksum"])
    whole = (
        not levels
        or (
            (len(found.bids), len(found.asks)) == (int(state["bids"]), int(state["asks"]))
            and found.checksum() == checksum
        )
    ) and (not orders or len(resting) == int(state["orders"]))
    for side in (found.bids, found.asks):
        side.take_changes()
    source: Any = state["source"]
    book = WholeBook(state["epoch"], int(state["sequence"]), checksum, found, resting, source, answer[4].decode())
    return book, whole
