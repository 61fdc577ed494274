"""What the book's services give back: frozen records, amounts as ``Decimal``."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, NamedTuple
from uuid import UUID

from novadex.money import plain

Source = Literal["orders", "external"]
"""Whose orders a book shows: those of this venue, or what another exchange reported."""


class Level(NamedTuple):
    """How much rests at a price."""

    price: Decimal
    quantity: Decimal


@dataclass(frozen=True, slots=True)
class Book:
    """The levels of a market at one moment, best first.

    ``sequence`` is the number of the last event in it: of the market's ``order_events``, or the exchange's update id.
    ``checksum`` is of the best 25 levels, however many are asked for.
    """

    market: str
    sequence: int
    checksum: int
    bids: list[Level]
    asks: list[Level]
    source: Source

    @property
    def crossed(self) -> bool:
        """Whether the best bid is not below the best ask."""
        return bool(self.bids and self.asks) and self.bids[0].price >= self.asks[0].price

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON: levels as ``[price, quantity]`` texts."""
        return {
            "market": self.market,
            "sequence": self.sequence,
            "checksum": self.checksum,
            "bids": [[plain(level.price), plain(level.quantity)] for level in self.bids],
            "asks": [[plain(level.price), plain(level.quantity)] for level in self.asks],
            "source": self.source,
        }


@dataclass(frozen=True, slots=True)
class BookOrder:
    """An order in the book. ``place`` orders those of one price: the lowest is filled first."""

    id: UUID
    side: Literal["buy", "sell"]
    price: Decimal
    quantity: Decimal
    place: int
