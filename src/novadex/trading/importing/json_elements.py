"""The elements of a JSON array, one after another: an array of any length needs the memory of a few elements.

Numbers stay the text that they are, so that no amount ever passes through a float.
"""

from __future__ import annotations

import codecs
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from novadex.trading.importing.records import ImportFailedError
from novadex.trading.importing.text_lines import BOM, LINE_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BLANKS = " \t\n\r"
BLOCK_ELEMENTS = 500
DECODER = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=str)
NOT_JSON = (json.JSONDecodeError, RecursionError)


@dataclass(frozen=True, slots=True)
class Element:
    """One element: the line that it begins in, its number in the array, its text and what it holds."""

    line: int
    number: int
    raw: str
    value: Any


def elements(name: str, pieces: Iterable[bytes]) -> Iterator[list[Element]]:
    """The elements of the array, some at a time.

    Raises ``ImportFailedError`` where the text is no JSON array, or ends inside it: what follows cannot be told
    apart any more. The elements before that place come first.

    >>> [[element.value for element in some] for some in elements("f", [b'[{"price": 1.10},', b" 7]"])]
    [[{'price': '1.10'}, '7']]
    """
    text = _Text(name, pieces)
    text.take("[")
    found: list[Element] = []
    try:
        if text.next_is("]"):
            text.take("]")
        else:
            number = 0
            more = True
            while more:
                number += 1
                found.append(text.element(number))
                if len(found) >= BLOCK_ELEMENTS:
                    yield found
                    found = []
                more = text.next_is(",")
                text.take("," if more else "]")
        text.end()
    except ImportFailedError:
        if found:
            yield found
        raise
    if found:
        yield found


class _Text:
    """A window on the text that moves forward."""

    def __init__(self, name: str, pieces: Iterable[bytes]) -> None:
        self._name = name
        self._pieces = iter(pieces)
        self._decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
        self._window = ""
        self._at = 0
        self._line = 1
        self._ended = False
        self._read()
        self._window = self._window.removeprefix(BOM.decode())

    def _read(self) -> None:
        """Make the window longer, or find the end of the text."""
        piece = next(self._pieces, b"")
        self._ended = not piece
        self._window = self._window[self._at :] + self._decode(piece, final=self._ended)
        self._at = 0

    def _skip_blanks(self) -> str:
        """Go to the next character that is not blank, and return it; empty at the end."""
        while True:
            window, at, end = self._window, self._at, len(self._window)
            while at < end and window[at] in BLANKS:
                at += 1
            self._move(at)
            if at < end:
                return window[at]
            if self._ended:
                return ""
            self._read()

    def _move(self, at: int) -> None:
        self._line += self._window.count("\n", self._at, at)
        self._at = at

    def next_is(self, character: str) -> bool:
        return self._skip_blanks() == character

    def take(self, character: str) -> None:
        found = self._skip_blanks()
        if found != character:
            raise self._error(f"{found!r} stands where {character!r} is expected")
        self._move(self._at + 1)

    def element(self, number: int) -> Element:
        """The element that begins here; it may need more than the window has."""
        if self._skip_blanks() == "":
            raise self._error("nothing follows a comma")
        while True:
            try:
                value, end = DECODER.raw_decode(self._window, self._at)
            except NOT_JSON as error:
                reason = error.msg if isinstance(error, json.JSONDecodeError) else "it is nested too deeply"
            else:
                # A number at the end of the window may go on.
                if end < len(self._window) or self._ended:
                    element = Element(self._line, number, self._window[self._at : end], value)
                    self._move(end)
                    return element
                reason = "it does not end"
            if self._ended or len(self._window) - self._at > LINE_BYTES_MAX:
                raise self._error(
                    f"element {number} cannot be read ({LINE_BYTES_MAX:,} characters at most): {reason}"
                )
            self._read()

    def end(self) -> None:
        found = self._skip_blanks()
        if found:
            raise self._error(f"{found!r} follows the end of the array")

    def _error(self, reason: str) -> ImportFailedError:
        if self._ended and self._at >= len(self._window):
            reason = "the text ends inside the array"
        return ImportFailedError(
            f"{self._name} is not a whole JSON array: line {self._line}: {reason}.",
            hint="Is the file whole? Put one trade on each line instead of an array, and lines fail one by one.",
            line=self._line,
        )
