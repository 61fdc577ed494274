"""Messages of an exchange's captured stream: one on each line, after the time it was received (ns), if that is given.

Understood are Binance's ``depthUpdate`` (spot, and perpetual with ``pu``), ``bookTicker``, and the answer of its REST
depth request (``lastUpdateId``), each alone or inside of ``{"stream": ..., "data": ...}``. Other messages are passed
over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar

import msgspec

from novadex.trading.importing.records import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LINE_BYTES_MAX = 8 * 1024 * 1024
SHOWN_CHARACTERS = 120
NUMBER_MAX = 2**63 - 1
"""Of update ids, as PostgreSQL keeps them, and of times of receipt: they end in 2262."""
UpdateId: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=NUMBER_MAX)]


class BadMessageError(ValueError):
    """A line that cannot be understood, and why."""


class DepthSnapshot(msgspec.Struct, frozen=True):
    """The whole book after update ``sequence``."""

    sequence: UpdateId = msgspec.field(name="lastUpdateId")
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]


class DepthUpdate(msgspec.Struct, frozen=True):
    """The levels that the updates ``first`` to ``last`` changed; 0: the level is gone."""

    first: UpdateId = msgspec.field(name="U")
    last: UpdateId = msgspec.field(name="u")
    bids: list[tuple[str, str]] = msgspec.field(name="b")
    asks: list[tuple[str, str]] = msgspec.field(name="a")
    before: int | None = msgspec.field(default=None, name="pu")
    """``last`` of the one before it: perpetual markets say so."""


class Ticker(msgspec.Struct, frozen=True):
    """The exchange's own best bid and ask after update ``last``."""

    last: UpdateId = msgspec.field(name="u")
    bid: str = msgspec.field(name="b")
    bid_quantity: str = msgspec.field(name="B")
    ask: str = msgspec.field(name="a")
    ask_quantity: str = msgspec.field(name="A")


Depth = TypeVar("Depth", DepthSnapshot, DepthUpdate)
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
    """The lines of a file and their numbers, in memory for one line; empty ones are left out. Of a line that is too
    long comes as much as shows that to ``parse``."""
    number, rest = 0, b""
    for piece in pieces:
        if len(rest) > LINE_BYTES_MAX:
            end = piece.find(b"\n")
            if end < 0:
                continue
            piece = piece[end:]  # noqa: PLW2901 - the line's rest is not kept
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            number += 1
            if _says_something(line):
                yield number, line
    if _says_something(rest):
        yield number + 1, rest


def _says_something(line: bytes) -> bool:
    return len(line) > LINE_BYTES_MAX or bool(line.strip())


def parse(number: int, line: bytes) -> Line:
    """The message of a line. Raises ``BadMessageError``."""
    if len(line) > LINE_BYTES_MAX:
        raise BadMessageError(f"it is longer than {LINE_BYTES_MAX:,} bytes")
    text = line.strip()
    received_ns: int | None = None
    first, space, rest = text.partition(b" ")
    if space and first.isdigit():
        received_ns, text = _received(first), rest
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


def _received(digits: bytes) -> int:
    digits = digits.lstrip(b"0") or b"0"
    if len(digits) > len(str(NUMBER_MAX)) or int(digits) > NUMBER_MAX:
        raise BadMessageError(f"its time of receipt is out of range: {_shown(digits)} ns since 1970")
    return int(digits)


def _message(head: _Head, text: bytes) -> DepthSnapshot | DepthUpdate | Ticker | None:
    if head.last_update_id:
        return _with_prices(_snapshot(text))
    decode = KINDS.get(head.kind or "")
    if decode is not None:
        message = decode(text)
        return _with_prices(message) if isinstance(message, DepthUpdate) else message
    # The spot market's bookTicker does not say what it is.
    return _ticker(text) if head.kind is None and head.best_bid_quantity and head.u else None


def _with_prices(message: Depth) -> Depth:
    """Refuses levels at price 0. What is no number is found where levels are set."""
    for price, _ in (*message.bids, *message.asks):
        if not price.strip("0."):
            raise BadMessageError(f"a level cannot have the price {price[:SHOWN_CHARACTERS]!r}")
    return message


def _shown(text: bytes) -> str:
    return printable(text[:SHOWN_CHARACTERS].decode("utf-8", "replace"))
