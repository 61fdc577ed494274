"""What stands in the cache server, and under which keys.

All keys of a market share the hash tag ``{market_id}``, so that one script can change them together on a Cluster too.

================  ==========  =====================================================================
``:state``        hash        epoch, sequence, checksum, decimals, source; how many bids, asks, orders there are
``:bids, :asks``  hash        price to lots, whole numbers
``:orders``       hash        order id to "side price lots priority"
``:top``          string      ``Top`` as JSON: the best 100 levels of each side; one GET answers most reads
``:changes``      stream      ``Difference`` as JSON, at most ``CHANGES_MAX`` of them
``:seen``         string      ``Seen`` as JSON: what a reader found in PostgreSQL while nobody published
``:lease``        string      who publishes this market alone: an import
================  ==========  =====================================================================

Beside them ``book:lease:SHARD`` says who publishes all other markets. What stands under an epoch is believed only
while a lease names that epoch's publisher: what a dead publisher left, or what an old dump of the server brings back,
is nobody's.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import msgspec

from novadex.book.levels import Levels, Row
from novadex.book.records import Source
from novadex.cache.cache import KEY_START

TOP_LEVELS = 100
CHANGES_MAX = 1_000
KEY_TTL_MS = 3_600_000
"""Of everything that is published; publishers look at their markets more often and renew it."""
LEASE_MS = 1_000
SEEN_MS = 60_000
"""How long what a reader found in PostgreSQL is kept for others, who check its mark there."""


class Top(msgspec.Struct, array_like=True, frozen=True):
    """The best levels of a market."""

    epoch: str
    """``TOKEN.NUMBER``: who published it, and which of their beginnings it belongs to. Sequences of different epochs
    do not follow each other."""
    sequence: int
    checksum: int
    bid_levels: int
    """How many there are in all."""
    ask_levels: int
    source: Source
    bids: tuple[Row, ...]
    asks: tuple[Row, ...]

    @property
    def publisher(self) -> str:
        return self.epoch.partition(".")[0]


class Seen(msgspec.Struct, array_like=True, frozen=True):
    """The best levels as PostgreSQL had them, good for as long as its mark is the same."""

    mark: str
    top: Top


class Difference(msgspec.Struct, array_like=True, frozen=True):
    """What changed from one sequence to another. Quantities are what rests now; 0: the level is gone."""

    epoch: str
    from_sequence: int
    to_sequence: int
    checksum: int
    """Of the book after it."""
    bids: list[Row]
    asks: list[Row]
    published_ms: int
    """By the publisher's clock, milliseconds since 1970."""


class MarketKeys(NamedTuple):
    """The keys of a market."""

    state: str
    bids: str
    asks: str
    orders: str
    top: str
    changes: str
    seen: str
    lease: str

    @classmethod
    def of(cls, life: str, market_id: int) -> MarketKeys:
        """``life`` says which life of the database it is: after a restore other keys are used."""
        start = f"{KEY_START}{life}:book:{{{market_id}}}"
        return cls(*(f"{start}:{name}" for name in cls._fields))


def shard_lease_key(life: str, shard: int) -> str:
    """Who publishes the markets of a shard."""
    return f"{KEY_START}{life}:book:lease:{{shard-{shard}}}"


def requests_key(life: str, shard: int) -> str:
    """Markets that somebody wants to be rebuilt."""
    return f"{KEY_START}{life}:book:requests:{shard}"


def top_of(epoch: str, sequence: int, source: Source, levels: Levels) -> Top:
    """The best levels of a book."""
    return Top(
        epoch,
        sequence,
        levels.checksum(),
        len(levels.bids),
        len(levels.asks),
        source,
        tuple(levels.bids.rows(TOP_LEVELS)),
        tuple(levels.asks.rows(TOP_LEVELS)),
    )


encode = msgspec.json.Encoder().encode
# A book is read more often than it moves.
decode_top = lru_cache(maxsize=128)(msgspec.json.Decoder(Top).decode)
decode_seen = msgspec.json.Decoder(Seen).decode
decode_difference = msgspec.json.Decoder(Difference).decode
