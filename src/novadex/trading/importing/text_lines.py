"""Text in blocks of lines: constant memory whatever the file is, and every line keeps its number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LINE_BYTES_MAX = 262_144
SHOWN_CHARACTERS = 1_000
"""How much of a line that is too long is kept to show it."""
BOM = b"\xef\xbb\xbf"


@dataclass(slots=True)
class Block:
    """Some lines, the first of which has the number ``first``."""

    first: int
    lines: list[str]
    overlong: str | None = None
    """The beginning of a line that is longer than ``LINE_BYTES_MAX``; the block is then this line."""


def blocks(pieces: Iterable[bytes]) -> Iterator[Block]:
    r"""The lines of a text, without their ends.

    Bytes that are no UTF-8 become lone surrogates: no field takes them, so the line is refused where it stands.

    >>> [(block.first, block.lines) for block in blocks([b"a\r\nb", b"c\n", b"d"])]
    [(1, ['a']), (2, ['bc']), (3, ['d'])]
    """
    number = 1
    rest = b""
    skipping = False
    for piece in _without_bom(pieces):
        begin = 0
        if skipping:
            begin = piece.find(b"\n") + 1
            if begin == 0:
                continue
            skipping = False
        end = piece.rfind(b"\n") + 1
        if end > begin:
            lines = _split(rest + piece[begin:end])
            yield Block(number, lines)
            number += len(lines)
            rest = piece[end:]
        else:
            rest += piece[begin:]
        if len(rest) > LINE_BYTES_MAX:
            yield Block(number, [], rest[:SHOWN_CHARACTERS].decode("utf-8", "surrogateescape"))
            number += 1
            rest = b""
            skipping = True
    if rest:
        yield Block(number, _split(rest + b"\n"))


def _without_bom(pieces: Iterable[bytes]) -> Iterator[bytes]:
    first = True
    for piece in pieces:
        yield piece.removeprefix(BOM) if first else piece
        first = False


def _split(data: bytes) -> list[str]:
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n")
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    lines.pop()
    return lines
