"""The file as bytes: plain, gzip or zip by its first bytes, in pieces, with its position for a progress bar."""

from __future__ import annotations

import gzip
import io
import os
import struct
import sys
import zipfile
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeAlias, cast

from novadex.errors import UsageError
from novadex.trading.importing.records import ImportFailedError, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

Content: TypeAlias = IO[bytes] | gzip.GzipFile
STDIN = "-"
PIECE_BYTES = 65_536
BUFFER_BYTES = 262_144
GZIP, ZIP = b"\x1f\x8b", b"PK\x03\x04"
EMPTY_ZIP = b"PK\x05\x06"
OTHER_COMPRESSIONS = {b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"7z\xbc\xaf": "7-zip"}
BROKEN = (EOFError, OSError, ValueError, RuntimeError, struct.error, zlib.error, zipfile.BadZipFile)
"""What the standard library raises for a compressed file that is cut off, damaged or encrypted."""
NAMED_MEMBERS_MAX = 3


class SourceFile:
    """An opened file. ``head`` is its first piece, unpacked."""

    def __init__(self, name: str, disk: io.BufferedReader, content: Content, compression: str | None) -> None:
        self.name = name
        self.compression = compression
        self._disk = disk
        self._content = content
        self._seekable = disk.seekable()
        self._unpacked_bytes = 0
        self.bytes_total = os.fstat(disk.fileno()).st_size if self._seekable else None
        self.head = self._read_head()
        if not self.head:
            raise ImportFailedError(f"{name} is empty.", hint="Was it fetched completely?")

    def position(self) -> int:
        """Bytes done, of ``bytes_total``."""
        return self._disk.tell() if self._seekable else self._unpacked_bytes

    def pieces(self) -> Iterator[bytes]:
        """The content, unpacked. A compressed file that is not whole raises ``ImportFailedError``."""
        piece = self.head
        while piece:
            yield piece
            piece = self._read(PIECE_BYTES)

    def close(self) -> None:
        for opened in (self._content, self._disk):
            if opened is not sys.stdin.buffer:
                opened.close()

    def _read_head(self) -> bytes:
        """A whole piece: packed files may come in smaller ones, and the format must be seen."""
        head = b""
        while len(head) < PIECE_BYTES and (piece := self._read(PIECE_BYTES - len(head))):
            head += piece
        return head

    def _read(self, bytes_max: int) -> bytes:
        try:
            piece = self._content.read(bytes_max)
        except BROKEN as error:
            raise _broken(self.name, self.compression, error) from error
        self._unpacked_bytes += len(piece)
        return piece


def open_source(file: str) -> SourceFile:
    """Open a file, or standard input for ``-``.

    Raises ``UsageError`` where it cannot be opened, ``ImportFailedError`` where it is empty or cannot be unpacked.
    """
    name, disk = _open_on_disk(file)
    try:
        content, compression = _unpack(name, disk)
        return SourceFile(name, disk, content, compression)
    except BaseException:
        if file != STDIN:
            disk.close()
        raise


def _open_on_disk(file: str) -> tuple[str, io.BufferedReader]:
    if file == STDIN:
        return "standard input", cast("io.BufferedReader", sys.stdin.buffer)
    try:
        return printable(Path(file).name), cast("io.BufferedReader", Path(file).open("rb", buffering=BUFFER_BYTES))
    except FileNotFoundError:
        raise UsageError(f"There is no file {printable(file)}.", hint="Check the name.") from None
    except IsADirectoryError:
        raise UsageError(
            f"{printable(file)} is a folder.", hint="Name one file; import several one after another."
        ) from None
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{printable(file)} cannot be opened: {getattr(error, 'strerror', None) or error}."
        ) from None


def _unpack(name: str, disk: io.BufferedReader) -> tuple[Content, str | None]:
    try:
        start = disk.peek(8)[:8]
        if start.startswith(GZIP):
            return gzip.GzipFile(fileobj=disk), "gzip"
        if start.startswith((ZIP, EMPTY_ZIP)):
            return _only_member(name, disk), "zip"
    except BROKEN as error:
        raise _broken(name, None, error) from error
    for magic, kind in OTHER_COMPRESSIONS.items():
        if start.startswith(magic):
            raise ImportFailedError(f"{name} is packed with {kind}.", hint="Unpack it, or pack it with gzip or zip.")
    return disk, None


def _only_member(name: str, disk: io.BufferedReader) -> IO[bytes]:
    if not disk.seekable():
        raise ImportFailedError(f"{name} is a zip, which cannot be read from a pipe.", hint="Name the file itself.")
    archive = zipfile.ZipFile(disk)
    members = [member for member in archive.infolist() if not member.is_dir()]
    if len(members) != 1:
        names = ", ".join(printable(member.filename[:80]) for member in members[:NAMED_MEMBERS_MAX])
        more = ", ..." if len(members) > NAMED_MEMBERS_MAX else ""
        raise ImportFailedError(
            f"{name} holds {len(members)} files{': ' if names else ''}{names}{more}; it must hold exactly one.",
            hint="Unpack it and import each file.",
        )
    return archive.open(members[0])


def _broken(name: str, compression: str | None, error: Exception) -> ImportFailedError:
    if isinstance(error, EOFError):
        reason = f"the {compression or 'file'} ends too early"
    else:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return ImportFailedError(
        f"{name} cannot be read to its end: {reason}.",
        hint="Is the file whole? Fetch it again and run the same command.",
    )
