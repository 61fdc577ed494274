"""Writes books into the cache server, each batch whole, and notices where something was lost there."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import RedisClusterException, RedisError

from novadex.book.documents import (
    CHANGES_MAX,
    KEY_TTL_MS,
    LEASE_MS,
    Difference,
    MarketKeys,
    encode,
    top_of,
)
from novadex.cache.servers import close_client, open_client
from novadex.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from novadex.book.levels import Levels
    from novadex.book.orders import OrderBook, RestingOrder
    from novadex.book.records import Source

COMMAND_S_MAX = 2.0
PIECE_FIELDS = 2_000
"""Fields of a hash in one command, where a whole book is written."""
BESIDE_TTL_MS = 60_000
pack = msgspec.msgpack.Encoder().encode
SERVER_GONE = (RedisError, RedisClusterException, OSError, TimeoutError)


def _script(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="ascii")


PUBLISH, RESTORE, LOOK, LEASE = (_script(f"{name}.lua") for name in ("publish", "restore", "look", "lease"))


@dataclass(slots=True)
class _Published:
    """A market as this publisher left it."""

    keys: MarketKeys
    epoch: str
    sequence: int
    bids: int
    asks: int
    orders: int
    source: Source

    def counts(self) -> tuple[int, int, int]:
        return self.bids, self.asks, self.orders


class Publisher:
    """One publisher, known by its token. Every method raises ``UnavailableError`` where the server is away."""

    def __init__(self, url: str, life: str, token: str) -> None:
        self.token = token
        self._life = life
        self._client = open_client(url, command_s_max=COMMAND_S_MAX, name="novadex-book")
        self._scripts: dict[str, Any] = {
            text: self._client.register_script(text) for text in (PUBLISH, RESTORE, LOOK, LEASE)
        }
        self._published: dict[int, _Published] = {}
        self._epochs = 0
        self._runs: frozenset[str] | None = None

    async def close(self) -> None:
        await close_client(self._client)

    def has(self, market_id: int) -> bool:
        """Whether this publisher published it."""
        return market_id in self._published

    def markets(self) -> list[int]:
        """The markets that it published."""
        return list(self._published)

    def forget(self, market_id: int) -> None:
        """It is another's from now on."""
        self._published.pop(market_id, None)

    # Leases

    async def take(self, lease_key: str) -> None:
        """Take a lease, whoever has it."""
        await self._run(LEASE, _lease(lease_key), [self.token, self.token, LEASE_MS, KEY_TTL_MS, 1])
        self._runs = await self._running()

    async def keep(self, lease_key: str, *, behind: bool = False) -> bool:
        """Renew it; ``behind``: nobody is to believe what is published meanwhile. False where it is lost, or where
        the server is not the one it was: it may have lost the rest too, or have an old state of it back."""
        says = f"{self.token} behind" if behind else self.token
        if not await self._run(LEASE, _lease(lease_key), [self.token, says, LEASE_MS, KEY_TTL_MS, 0]):
            return False
        return await self._running() == self._runs

    async def leave(self, lease_key: str) -> None:
        """Let others have it at once."""
        if (await self._try(self._client.get(lease_key)) or b"").startswith(self.token.encode()):
            await self._try(self._client.delete(lease_key))

    async def is_held(self, lease_key: str) -> bool:
        """Whether anybody has it."""
        return bool(await self._try(self._client.exists(lease_key)))

    async def take_requests(self, key: str, most: int) -> list[str]:
        """Take out what stands in a set, so many at most."""
        return [text.decode() for text in await self._try(self._client.spop(key, most)) or ()]

    async def _running(self) -> frozenset[str]:
        """Which runs of which servers these are: a restarted one has another name."""
        if isinstance(self._client, RedisCluster):
            infos = await self._try(self._client.info("server", target_nodes=RedisCluster.PRIMARIES))
            found = [infos] if "run_id" in infos else infos.values()
        else:
            found = [await self._try(self._client.info("server"))]
        return frozenset(info["run_id"] for info in found)

    # Books

    async def restore(self, market_id: int, book: OrderBook) -> None:
        """Publish a whole book of orders, in the place of whatever is there."""
        orders = {order_id: _order_text(order) for order_id, order in book.orders.items()}
        await self._restore(market_id, book.sequence, book.levels, orders, "orders")
        book.take_changes()

    async def restore_levels(self, market_id: int, sequence: int, levels: Levels) -> None:
        """The same for a book of which only the levels are known."""
        await self._restore(market_id, sequence, levels, {}, "external")

    async def publish(self, market_id: int, book: OrderBook) -> bool:
        """Publish what changed in a book since it was last published. False where the server does not have what it
        follows: then it must be restored."""
        orders = [(order_id, _order_text(order) if order else "") for order_id, order in book.take_changes()]
        return await self._publish(market_id, book.sequence, book.levels, orders, len(book.orders))

    async def publish_levels(self, market_id: int, sequence: int, levels: Levels) -> bool:
        """The same for a book of which only the levels are known."""
        return await self._publish(market_id, sequence, levels, [], 0)

    async def look(self, market_id: int) -> bool:
        """Whether a book is there as it was left."""
        left = self._published[market_id]
        arguments = [left.epoch, left.sequence, *left.counts(), KEY_TTL_MS]
        return bool(await self._run(LOOK, left.keys[:6], arguments))

    async def _restore(
        self, market_id: int, sequence: int, levels: Levels, orders: dict[str, str], source: Source
    ) -> None:
        self._epochs += 1
        keys = MarketKeys.of(self._life, market_id)
        epoch = f"{self.token}.{self._epochs}"
        beside = [f"{key}:{self.token}" for key in keys[1:4]]
        for key, fields in zip(beside, (levels.bids.items(), levels.asks.items(), list(orders.items())), strict=True):
            await self._try(self._client.delete(key))
            for piece in _pieces(fields):
                await self._try(self._client.hset(key, mapping=piece))
            if fields:
                await self._try(self._client.pexpire(key, BESIDE_TTL_MS))
        for side in (levels.bids, levels.asks):
            side.take_changes()
        left = _Published(keys, epoch, sequence, len(levels.bids), len(levels.asks), len(orders), source)
        top = top_of(epoch, sequence, source, levels)
        begun = Difference(epoch, sequence, sequence, top.checksum, [], [], _now_ms())
        state = {
            "epoch": epoch,
            "sequence": sequence,
            "checksum": top.checksum,
            "bids": left.bids,
            "asks": left.asks,
            "orders": left.orders,
            "price_decimals": levels.price_decimals,
            "lot_decimals": levels.lot_decimals,
            "source": source,
        }
        arguments = [encode(top), encode(begun), KEY_TTL_MS, CHANGES_MAX]
        await self._run(
            RESTORE, [*keys[:6], *beside], [*arguments, *(part for pair in state.items() for part in pair)]
        )
        self._published[market_id] = left

    async def _publish(
        self, market_id: int, sequence: int, levels: Levels, orders: list[tuple[str, str]], orders_after: int
    ) -> bool:
        left = self._published[market_id]
        bids, asks = levels.bids.take_changes(), levels.asks.take_changes()
        top = top_of(left.epoch, sequence, left.source, levels)
        difference = Difference(
            left.epoch,
            left.sequence,
            sequence,
            top.checksum,
            [levels.bids.row(price) for price, _ in bids],
            [levels.asks.row(price) for price, _ in asks],
            _now_ms(),
        )
        after = (len(levels.bids), len(levels.asks), orders_after)
        arguments: list[Any] = [left.epoch, left.sequence, *left.counts(), sequence, top.checksum, *after]
        # In one argument: thousands of them would cost the client more than all the rest.
        changes = pack([_put_and_gone(bids), _put_and_gone(asks), _put_and_gone(orders)])
        arguments += [encode(top), encode(difference), CHANGES_MAX, KEY_TTL_MS, changes]
        if not await self._run(PUBLISH, left.keys[:6], arguments):
            return False
        left.sequence = sequence
        left.bids, left.asks, left.orders = after
        return True

    async def _run(self, script: str, keys: Iterable[str], arguments: list[Any]) -> Any:
        return await self._try(self._scripts[script](keys=list(keys), args=arguments))

    async def _try(self, command: Any) -> Any:
        try:
            return await command
        except SERVER_GONE as error:
            raise UnavailableError(
                f"The cache server took no book: {type(error).__name__}: {str(error)[:200]}.",
                hint="Is it running? See novadex status.",
            ) from error


def _lease(key: str) -> list[str]:
    return [key, f"{key}:witness"]


def _put_and_gone(changes: Iterable[tuple[int | str, int | str]]) -> tuple[list[str], list[str]]:
    """What is put into a hash, field and value in turn, and the fields that go: those without a value. Numbers go as
    text, for the server's scripts know them only as floats."""
    put: list[str] = []
    gone: list[str] = []
    for field, value in changes:
        if value:
            put += (str(field), str(value))
        else:
            gone.append(str(field))
    return put, gone


def _order_text(order: RestingOrder) -> str:
    return f"{order.side} {order.price} {order.lots} {order.priority}"


def _pieces(fields: list[tuple[Any, Any]]) -> Iterator[dict[Any, Any]]:
    for start in range(0, len(fields), PIECE_FIELDS):
        yield dict(fields[start : start + PIECE_FIELDS])


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
