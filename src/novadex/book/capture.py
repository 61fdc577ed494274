"""Messages of an exchange's captured stream: one on each line, after the time it was received (ns), if that is given.

Understood are Binance's ``depthUpdate`` (spot, and perpetual with ``pu``), ``bookTicker``, and the answer of its REST
depth request (``lastUpdateId``), each alone or inside of ``{"stream": ..., "data": ...}``. Other messages are passed
over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from novadex.trading.importing.records import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LINE_BYTES_MAX = 8 * 1024 * 1024
SHOWN_CHARACTERS = 120


class BadMessageError(ValueError):
    """A line that cannot be understood, and why."""


class DepthSnapshot(msgspec.Struct, frozen=True):
    """The whole book after update ``sequence``."""

    sequence: int = msgspec.field(name="lastUpdateId")
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]


class DepthUpdate(msgspec.Struct, frozen=True):
    """The levels that the updates ``first`` to ``last`` changed; 0: the level is gone."""

    first: int = msgspec.field(name="U")
    last: int = msgspec.field(name="u")
    bids: list[tuple[str, str]] = msgspec.field(name="b")
    asks: list[tuple[str, str]] = msgspec.field(name="a")
    before: int | None = msgspec.field(default=None, name="pu")
    """``last`` of the one before it: perpetual markets say so."""


class Ticker(msgspec.Struct, frozen=True):
    """The exchange's own best bid and ask after update ``last``."""

    last: int = msgspec.field(name="u")
    bid: str = msgspec.field(name="b")
    bid_quantity: str = msgspec.field(name="B")
    ask: str = msgspec.field(name="a")
    ask_quantity: str = msgspec.field(name="A")


NOTHING = msgspec.Raw(b"")


class _Head(msgspec.Struct):
    """Enough to know what a message is."""

    kind: str | None = msgspec.field(default=None, name="e")
    last_update_id: msgspec.Raw = msgspec.field(default=NOTHING, name="lastUpdateId")
    data: msgspec.Raw = NOTHING
    best_bid_quantity: msgspec.Raw = msgspec.field(default=NOTHING, name="B")
    u: msgspec.Raw = NOTHING


@dataclass(frozen=True, slots=True)
class Line:
    """A line with its number and, where it is given, the time it was received."""

    number: int
    received_ns: int | None
    message: DepthSnapshot | DepthUpdate | Ticker | None
    """None: another kind of message."""


_head = msgspec.json.Decoder(_Head).decode
_snapshot = msgspec.json.Decoder(DepthSnapshot).decode
_update = msgspec.json.Decoder(DepthUpdate).decode
_ticker = msgspec.json.Decoder(Ticker).decode
KINDS: dict[str, Any] = {"depthUpdate": _update, "bookTicker": _ticker}


def lines(pieces: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """The lines of a file and their numbers, in memory for one line; empty ones are left out."""
    number, rest = 0, b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            number += 1
            if line.strip():
                yield number, line
        if len(rest) > LINE_BYTES_MAX:
            raise BadMessageError(f"line {number + 1} is longer than {LINE_BYTES_MAX:,} bytes")
    if rest.strip():
        yield number + 1, rest


def parse(number: int, line: bytes) -> Line:
    """The message of a line. Raises ``BadMessageError``."""
    text = line.strip()
    received_ns: int | None = None
    first, space, rest = text.partition(b" ")
    if space and first.isdigit():
        received_ns, text = int(first), rest
    try:
        head = _head(text)
        if bytes(head.data).startswith(b"{"):
            text = bytes(head.data)
            head = _head(text)
        return Line(number, received_ns, _message(head, text))
    except msgspec.ValidationError as error:
        raise BadMessageError(f"{error} in {_shown(text)}") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BadMessageError(f"it is no JSON message: {_shown(text)}") from None


def _message(head: _Head, text: bytes) -> DepthSnapshot | DepthUpdate | Ticker | None:
    if head.last_update_id:
        return _snapshot(text)
    decode = KINDS.get(head.kind or "")
    if decode is not None:
        return decode(text)
    # The spot market's bookTicker does not say what it is.
    return _ticker(text) if head.kind is None and head.best_bid_quantity and head.u else None


def _shown(text: bytes) -> str:
    return printable(text[:SHOWN_CHARACTERS].decode("utf-8", "replace"))
