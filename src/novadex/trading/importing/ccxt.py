"""ccxt's unified trades: a JSON array, or one trade on each line.

The trade's ``cost`` is a rounded float in most lists: it is computed anew from price and amount, and only has to
be near.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from novadex.errors import ValidationError
from novadex.money import EXACT, decimals_of, parse_amount, smallest_unit
from novadex.trading.importing.json_elements import DECODER, Element
from novadex.trading.importing.market_trades import MarketTrades, Sequences
from novadex.trading.importing.records import BadLine, Place

if TYPE_CHECKING:
    from novadex.trading.importing.chunks import Chunk
    from novadex.trading.importing.text_lines import Block

FIELDS = {"base_amount": "amount", "quote_amount": "cost", "executed_at": "timestamp"}
COST_ERROR_MAX = Decimal("1e-9")
"""Of the product: far above a float's error, far below a contract's size."""
COST_DECIMALS_MAX = 400
"""A float may be written with all its digits."""


class CcxtTrades:
    """Parses lines, or elements of an array, into a chunk."""

    def __init__(self, trades: MarketTrades) -> None:
        self._trades = trades
        self._pair = trades.market.symbol.partition("-")[0]
        self._sequences = Sequences()

    def parse_lines(self, block: Block, chunk: Chunk) -> None:
        if block.overlong is not None:
            chunk.reject_overlong(block.first, block.overlong)
            return
        for number, raw in enumerate(block.lines, block.first):
            chunk.bytes_read += len(raw)
            if not raw.strip():
                continue
            try:
                value = DECODER.decode(raw)
            except (json.JSONDecodeError, RecursionError) as error:
                reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
                chunk.rejects.append(BadLine.of(number, "line", raw, f"the line is no JSON: {reason}.", raw))
                continue
            self._add(number, raw, value, chunk)

    def parse_elements(self, elements: list[Element], chunk: Chunk) -> None:
        for element in elements:
            chunk.bytes_read += len(element.raw)
            self._add((element.line, element.number), element.raw, element.value, chunk)

    def _add(self, place: Place, raw: str, value: Any, chunk: Chunk) -> None:
        try:
            line = self._line(value, chunk)
        except ValidationError as error:
            shown = value.get(error.field) if isinstance(value, dict) else raw
            chunk.reject(place, error, shown, raw)
            return
        chunk.lines.append(line)
        chunk.places.append(place)
        chunk.raws.append(raw)

    def _line(self, trade: Any, chunk: Chunk) -> str:
        if not isinstance(trade, dict):
            raise ValidationError("the element is not a trade: it must be an object.", field="trade")
        self._check_symbol(trade.get("symbol"))
        id = _text(trade, "id", hint="Without the exchange's id a second import could not be told from a new trade.")
        base, price, moment = _text(trade, "amount"), _text(trade, "price"), _text(trade, "timestamp")
        quote = self._trades.quote_of(base, price)
        self._check_cost(trade.get("cost"), base, price)
        return self._trades.line(
            source_trade_id=id,
            side=_taker_side(trade),
            base=base,
            quote=quote,
            price=price,
            moment=moment,
            sequence=self._sequences.of(id, moment),
            months=chunk.months,
        )

    def _check_symbol(self, symbol: object) -> None:
        """ccxt writes BASE/QUOTE, and BASE/QUOTE:SETTLE for derivatives."""
        if symbol is not None and (not isinstance(symbol, str) or symbol.partition(":")[0] != self._pair):
            raise ValidationError(
                f"symbol is {str(symbol)[:80]}, but the import is into {self._trades.market.symbol}.", field="symbol"
            )

    def _check_cost(self, cost: object, base: str, price: str) -> None:
        """Off by more than rounding, it means something else: contracts, or another quote asset."""
        if cost is None:
            return
        if not isinstance(cost, str):
            raise ValidationError(f"cost must be a number, got {str(cost)[:80]}.", field="cost")
        given, text = parse_amount(cost, "cost", decimals_max=COST_DECIMALS_MAX)
        product = EXACT.multiply(Decimal(base), Decimal(price))
        allowed = max(smallest_unit(decimals_of(text)), product * COST_ERROR_MAX)
        if abs(given - product) > allowed:
            raise ValidationError(
                f"cost {text[:80]} is not near amount {base[:80]} * price {price[:80]}.",
                field="cost",
                hint="Is the amount in contracts? It must be in units of the base asset.",
            )


def _text(trade: dict[str, Any], field: str, *, hint: str | None = None) -> str:
    value = trade.get(field)
    if value is None or value == "":
        raise ValidationError(f"{field} is missing.", field=field, hint=hint)
    if not isinstance(value, str):  # numbers stay the text that they are in the file
        raise ValidationError(f"{field} must be a number or a text, got {str(value)[:80]}.", field=field)
    return value


def _taker_side(trade: dict[str, Any]) -> str:
    """``side`` is the taker's in public lists; a maker's own trade says ``takerOrMaker``, and the taker did the
    opposite."""
    side = trade.get("side")
    if side not in ("buy", "sell"):
        raise ValidationError(f"side must be buy or sell, got {str(side)[:80]!r}.", field="side")
    if trade.get("takerOrMaker") != "maker":
        return side
    return "sell" if side == "buy" else "buy"
