"""Which format a file has, by its content."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from novadex.errors import ValidationError
from novadex.trading.importing import binance
from novadex.trading.importing.csv_lines import split_line
from novadex.trading.importing.records import FormatName, ImportFailedError
from novadex.trading.importing.text_lines import BOM, SHOWN_CHARACTERS

UTF_16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class Layout:
    """How a file is to be read."""

    format: Literal["binance", "ccxt", "novadex"]
    shape: Literal["header", "no header", "array", "lines"]
    header: tuple[str, ...] = ()


def layout_of(name: str, head: bytes, wanted: FormatName) -> Layout:
    """From the first bytes of a file. ``wanted`` other than ``auto`` is taken, and only its variant is looked for.

    Raises ``ImportFailedError`` where it is no text, or none of the formats.
    """
    if head.startswith(UTF_16) or b"\0" in head[:SHOWN_CHARACTERS]:
        raise ImportFailedError(
            f"{name} is no UTF-8 text.", hint="Is it the right file? Save it as UTF-8, or plain, gzip or zip."
        )
    text = head.removeprefix(BOM).decode("utf-8", "surrogateescape")
    names = _first_line(text)
    found = _by_content(text.lstrip(), names)
    if wanted == "auto":
        if found is None:
            raise ImportFailedError(
                f"{name} is in none of the known formats; it begins with {text[:80]!r}.",
                hint="Name the format with --format binance, ccxt or novadex; they are described in"
                " docs/reference/imports.md.",
            )
        return found
    if found is not None and found.format == wanted:
        return found
    return _as_wanted(wanted, names)


def _by_content(text: str, names: list[str]) -> Layout | None:
    if text.startswith("["):
        return Layout("ccxt", "array")
    if text.startswith("{"):
        return Layout("ccxt", "lines")
    if binance.is_header(names):
        return Layout("binance", "header")
    if binance.looks_like(names):
        return Layout("binance", "no header")
    if "base_amount" in names:
        return Layout("novadex", "header", tuple(names))
    return None


def _as_wanted(wanted: Literal["binance", "ccxt", "novadex"], names: list[str]) -> Layout:
    if wanted == "binance":
        return Layout("binance", "no header")
    if wanted == "ccxt":
        return Layout("ccxt", "lines")
    return Layout("novadex", "header", tuple(names))


def _first_line(text: str) -> list[str]:
    try:
        return [name.strip() for name in split_line(text.partition("\n")[0].rstrip("\r"))]
    except ValidationError:
        return []
