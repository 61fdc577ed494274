"""The lines that an import skipped, in a CSV file to look at, correct and import again."""

from __future__ import annotations

import csv
import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from novadex.errors import NovaDexError
from novadex.trading.importing.records import ImportFailedError
from novadex.trading.importing.source_file import STDIN

if TYPE_CHECKING:
    from collections.abc import Iterable

    from novadex.trading.importing.records import BadLine

HEADER = ("line", "element", "field", "value", "reason", "raw")


class RejectsFile:
    """``<file>.rejects.csv`` beside the file, or in the working folder where that cannot be written.

    Made with the first bad line, in place of the one of an earlier import. Where another import is writing it now,
    the name gets the process's number.
    """

    def __init__(self, file: str) -> None:
        self._file = file
        self._opened: TextIO | None = None
        self.path: Path | None = None

    def write(self, lines: Iterable[BadLine]) -> None:
        for bad in lines:
            if self._opened is None:
                self.path, self._opened = self._open()
                csv.writer(self._opened).writerow(HEADER)
            element = "" if bad.element is None else bad.element
            csv.writer(self._opened).writerow((bad.line, element, bad.field, bad.value, bad.reason, bad.raw))
        if self._opened is not None:
            try:
                self._opened.flush()
            except OSError as error:
                raise _failed(self.path, error) from error

    def close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    def _open(self) -> tuple[Path, TextIO]:
        name = "stdin" if self._file == STDIN else Path(self._file).name
        folders = [Path.cwd()] if self._file == STDIN else [Path(self._file).absolute().parent, Path.cwd()]
        problem: OSError | None = None
        for folder in folders:
            for path in (folder / f"{name}.rejects.csv", folder / f"{name}.rejects.{os.getpid()}.csv"):
                try:
                    return path, _open_alone(path)
                except BlockingIOError:
                    continue
                except OSError as error:
                    problem = error
                    break
        raise _failed(folders[-1] / f"{name}.rejects.csv", problem or OSError("it is in use"))


def _open_alone(path: Path) -> TextIO:
    """Empty, and locked against a second import of the same file. A link is not followed."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
    except BaseException:
        with suppress(OSError):
            os.close(descriptor)
        raise
    return os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace", newline="")


def _failed(path: Path | None, error: OSError) -> NovaDexError:
    return ImportFailedError(
        f"The rejected lines cannot be written to {path}: {error.strerror or error}.",
        hint="Run it in a folder that can be written, or with --on-error stop.",
    )
