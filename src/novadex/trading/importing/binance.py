"""Binance's public dumps of trades: CSV with or without a header, spot (7 columns) and futures (6).

A plain line, which is nearly every line, costs one pattern and one multiplication. Any other line takes the
strict way, which says what is wrong with it, or accepts what is merely written unusually (``1e-5``, quotes).
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING

from novadex.errors import ValidationError
from novadex.money import EXACT, PRICE_DECIMALS_MAX
from novadex.trading.importing.csv_lines import split_line
from novadex.trading.importing.market_trades import MS_DIGITS, SECONDS_DIGITS, MarketTrades, whole_number
from novadex.trading.lines import NULL

if TYPE_CHECKING:
    from novadex.trading.importing.chunks import Chunk
    from novadex.trading.importing.text_lines import Block
    from novadex.trading.records import Market

COLUMNS: tuple[str, ...] = ("id", "price", "qty", "quote_qty", "time", "is_buyer_maker", "is_best_match")
COLUMNS_MIN = 6
FIELDS = {"base_amount": "qty", "quote_amount": "quote_qty", "executed_at": "time"}
TRUE, FALSE = ("True", "true", "TRUE", "1"), ("False", "false", "FALSE", "0")


class BinanceLines:
    """Parses blocks of lines into a chunk."""

    def __init__(self, trades: MarketTrades, *, header: bool) -> None:
        self._trades = trades
        self._plain = _plain_line(trades.market)
        self._header_lines = 1 if header else 0

    def parse(self, block: Block, chunk: Chunk) -> None:
        if block.overlong is not None:
            chunk.reject_overlong(block.first, block.overlong)
            return
        trades = self._trades
        match_plain, id_of, multiply = self._plain.fullmatch, trades.id_of, EXACT.multiply
        add, add_place, add_raw = chunk.lines.append, chunk.places.append, chunk.raws.append
        head = (
            f"\t{trades.user_id}\t{trades.market.id}\t{trades.market.base_decimals}\t{trades.market.quote_decimals}"
            f"\t{trades.type}\t"
        )
        tail = f"\t{NULL}\t{NULL}\t{trades.source}\t"
        last_second = moment = ""
        for number, raw in enumerate(block.lines, block.first):
            found = match_plain(raw)
            try:
                if found is None:
                    line = self._strictly(raw, number, chunk)
                    if line is None:
                        continue
                else:
                    id, price, base, quote, time, sell = found.group(*PLAIN_GROUPS)
                    if time[:SECONDS_DIGITS] != last_second:
                        moment = trades.second(time[:SECONDS_DIGITS], chunk.months)
                        last_second = time[:SECONDS_DIGITS]
                    if base != "0" and price != "0" and multiply(Decimal(price), Decimal(base)) == Decimal(quote):
                        line = (
                            f"{id_of(time[:MS_DIGITS], id)}{head}{'sell' if sell else 'buy'}\ttaker\t{base}\t{quote}"
                            f"\t{price}\t0\t{NULL}\t{moment}{time[SECONDS_DIGITS:]}+00\t{id}{tail}{id}\n"
                        )
                    else:
                        line = self._strictly(raw, number, chunk) or ""
            except ValidationError as error:
                chunk.reject(number, error, _value_of(error.field, raw), raw)
                continue
            add(line)
            add_place(number)
            add_raw(raw)
        chunk.bytes_read += sum(map(len, block.lines))

    def _strictly(self, raw: str, number: int, chunk: Chunk) -> str | None:
        """The line of COPY; None for an empty line and for the header. Raises ``ValidationError``."""
        if number <= self._header_lines or not raw.strip():
            return None
        values = split_line(raw)
        if not COLUMNS_MIN <= len(values) <= len(COLUMNS):
            raise ValidationError(
                f"the line has {len(values)} columns instead of {COLUMNS_MIN} or {len(COLUMNS)}.", field="line"
            )
        for name, value in list(zip(COLUMNS, values, strict=False))[COLUMNS_MIN - 1 :]:
            if value not in TRUE and value not in FALSE:
                raise ValidationError(f"{name} must be True or False, got {value[:80]!r}.", field=name)
        id, price, base, quote, time, maker = values[:COLUMNS_MIN]
        sequence = whole_number(id)
        if sequence is None:
            raise ValidationError(f"id must be a whole number of 64 bits, got {id[:80]!r}.", field="id")
        return self._trades.line(
            source_trade_id=id,
            side="sell" if maker in TRUE else "buy",
            base=base,
            quote=quote,
            price=price,
            moment=time,
            sequence=sequence,
            months=chunk.months,
        )


def is_header(names: list[str]) -> bool:
    """Whether these are the names of the columns."""
    lowered = [name.strip().lower() for name in names]
    return len(lowered) >= COLUMNS_MIN and lowered == list(COLUMNS[: len(lowered)])


def looks_like(values: list[str]) -> bool:
    """Whether this is a line of trades without a header before it."""
    return (
        COLUMNS_MIN <= len(values) <= len(COLUMNS)
        and whole_number(values[0]) is not None
        and all(value in TRUE or value in FALSE for value in values[COLUMNS_MIN - 1 :])
    )


def _value_of(field: str, raw: str) -> str:
    try:
        return dict(zip(COLUMNS, split_line(raw), strict=False)).get(field, raw)
    except ValidationError:
        return raw


def _plain_line(market: Market) -> re.Pattern[str]:
    """Whole lines whose numbers are plain and within their decimals; see ``PLAIN_GROUPS``."""
    truths = "|".join(TRUE + FALSE)
    columns = (
        r"(0|[1-9][0-9]{0,17})",
        _plain_number(PRICE_DECIMALS_MAX, 3),
        _plain_number(market.base_decimals, 5),
        _plain_number(market.quote_decimals, 7),
        r"([0-9]{13}|[0-9]{16})",
        f"(?:({'|'.join(TRUE)})|{'|'.join(FALSE)})(?:,(?:{truths}))?",
    )
    return re.compile(",".join(columns))


PLAIN_GROUPS = (1, 2, 4, 6, 8, 9)
"""Id, price, base, quote, time, and whether the buyer was the maker; numbers without their trailing zeros."""


def _plain_number(decimals: int, fraction_group: int) -> str:
    """A group for the number, in it one for its fraction, and after them the zeros that say nothing."""
    fraction = rf"\.[0-9]{{0,{decimals - 1}}}[1-9]" if decimals else "(?!)"
    return rf"((?:0|[1-9][0-9]{{0,59}})({fraction})?)(?({fraction_group})0*|(?:\.0*)?)"
