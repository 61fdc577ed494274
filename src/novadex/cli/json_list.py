"""A long JSON array that is printed whole or not at all, in constant memory."""

from __future__ import annotations

import sys
import tempfile
from shutil import copyfileobj
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from types import TracebackType

MEMORY_BYTES_MAX = 4 * 2**20
"""What is longer waits in a temporary file."""


class JsonList:
    """Collects the items; ``print`` writes the document when all are there."""

    def __init__(self) -> None:
        self._spool = tempfile.SpooledTemporaryFile(max_size=MEMORY_BYTES_MAX)  # noqa: SIM115 - closed in __exit__
        self.items = 0

    def __enter__(self) -> JsonList:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._spool.close()

    def add(self, item: Any) -> None:
        self._spool.write(b",\n  " if self.items else b"\n  ")
        self._spool.write(msgspec.json.encode(item))
        self.items += 1

    def print(self, *, before: bytes = b"", after: bytes = b"") -> None:
        """Write ``before``, the array and ``after`` to standard output."""
        output = sys.stdout.buffer
        output.write(before + b"[")
        self._spool.seek(0)
        copyfileobj(self._spool, output)
        output.write((b"\n]" if self.items else b"]") + after + b"\n")
        output.flush()
