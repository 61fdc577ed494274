"""NovaDex's own CSV: a header with the names of ``TradeInput``, then one trade on each line.

Every line must carry what makes its id: ``id``, or ``executed_at``, ``source`` and ``source_trade_id``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from novadex.errors import ValidationError
from novadex.trading.importing.csv_lines import split_line
from novadex.trading.importing.market_trades import WHOLE
from novadex.trading.importing.records import ImportFailedError
from novadex.trading.prepare import FIELDS, prepare

if TYPE_CHECKING:
    from collections.abc import Mapping

    from novadex.trading.importing.chunks import Chunk
    from novadex.trading.importing.text_lines import Block
    from novadex.trading.records import Asset, Market

COLUMNS = FIELDS - {"base_asset", "quote_asset", "idempotency_key"}
REQUIRED = ("user_id", "side", "base_amount", "quote_amount", "price")
ID_FROM = ("executed_at", "source", "source_trade_id")


class NovaDexLines:
    """Parses blocks of lines into a chunk."""

    def __init__(self, name: str, header: list[str], market: Market, assets: Mapping[str, Asset]) -> None:
        self._columns = check_header(name, header)
        self._market = market
        self._assets = assets

    def parse(self, block: Block, chunk: Chunk) -> None:
        if block.overlong is not None:
            chunk.reject_overlong(block.first, block.overlong)
            return
        for number, raw in enumerate(block.lines, block.first):
            chunk.bytes_read += len(raw)
            if number == 1 or not raw.strip():
                continue
            fields: dict[str, Any] = {}
            try:
                self._add(raw, number, fields, chunk)
            except ValidationError as error:
                chunk.reject(number, error, fields.get(error.field, raw), raw)

    def _add(self, raw: str, number: int, fields: dict[str, Any], chunk: Chunk) -> None:
        values = split_line(raw)
        if len(values) != len(self._columns):
            raise ValidationError(
                f"the line has {len(values)} columns, the header has {len(self._columns)}.", field="line"
            )
        # An empty field is one that is not given.
        fields.update((name, value) for name, value in zip(self._columns, values, strict=True) if value)
        market = fields.get("market", self._market.symbol)
        if market != self._market.symbol:
            raise ValidationError(
                f"market is {market[:80]}, but the import is into {self._market.symbol}.", field="market"
            )
        if "id" not in fields and not all(name in fields for name in ID_FROM):
            raise ValidationError(
                "id is missing: give it, or executed_at, source and source_trade_id, from which it is made.",
                field="id",
            )
        if "sequence" in fields:
            fields["sequence"] = _sequence(fields["sequence"])
        prepared = prepare(fields, self._market, self._fee_asset_id(fields.get("fee_asset")))
        executed_at = prepared.trade.executed_at
        chunk.months.add((executed_at.year, executed_at.month))
        chunk.lines.append(prepared.line)
        chunk.places.append(number)
        chunk.raws.append(raw)

    def _fee_asset_id(self, symbol: str | None) -> int | None:
        if symbol is None:
            return None
        asset = self._assets.get(symbol)
        if asset is None:
            raise ValidationError(
                f"there is no asset {symbol[:40]!r}.", field="fee_asset", hint="Add it: novadex assets add SYMBOL"
            )
        return asset.id


def check_header(name: str, header: list[str]) -> list[str]:
    """The columns; raises ``ImportFailedError`` where one is unknown, missing or there twice."""
    known = ", ".join(sorted(COLUMNS))
    unknown = [column[:40] for column in header if column not in COLUMNS]
    if unknown:
        raise ImportFailedError(
            f"{name}: the header has unknown columns: {', '.join(map(repr, unknown[:5]))}.",
            hint=f"There can be: {known}.",
        )
    if len(set(header)) < len(header):
        raise ImportFailedError(f"{name}: the header has a column twice.", hint="Remove one of both.")
    missing = [column for column in REQUIRED if column not in header]
    if missing:
        raise ImportFailedError(f"{name}: the header lacks {', '.join(missing)}.", hint=f"There can be: {known}.")
    if "id" not in header and not all(column in header for column in ID_FROM):
        raise ImportFailedError(
            f"{name}: the header lacks id.",
            hint="Give id, or executed_at, source and source_trade_id, which make it.",
        )
    return header


def _sequence(text: str) -> int:
    if WHOLE.fullmatch(text.removeprefix("-")) is None:
        raise ValidationError(f"sequence must be an integer of 64 bits, got {text[:80]!r}.", field="sequence")
    return int(text)
