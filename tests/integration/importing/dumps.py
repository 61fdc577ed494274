"""Market trades by seed, in each format that can be imported, and as they must stand in the database."""

from __future__ import annotations

import csv
import gzip
import io
import random
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from uuid import UUID

import psycopg

from novadex.ids import id_of_source

MARKET = "BTC/USDT"
START_MS = 1_723_161_255_342
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Dumped:
    """A trade as a source's feed gives it."""

    number: int
    price: Decimal
    base: Decimal
    moment_us: int
    buyer_is_maker: bool

    @property
    def quote(self) -> Decimal:
        with localcontext() as context:
            context.prec = 200
            return self.price * self.base

    @property
    def side(self) -> str:
        return "sell" if self.buyer_is_maker else "buy"


def dumped(count: int, seed: int = 1, start_ms: int = START_MS) -> list[Dumped]:
    """Trades whose moments stand still now and then."""
    draw = random.Random(seed)  # noqa: S311 - no secret
    moment, cents = start_ms * 1000, 6_183_763
    trades: list[Dumped] = []
    for number in range(count):
        moment += draw.choice((0, 0, 1_000, 45_000, 300_000))
        cents = max(1, cents + draw.randint(-90, 90))
        price, base = Decimal(cents) / 100, Decimal(draw.randint(1, 300_000)) / 100_000
        trades.append(Dumped(5_000_000_000 + number, price, base, moment, draw.random() < 0.5))
    return trades


# Formats ---------------------------------------------------------------------------------------------------

OWN_COLUMNS = (
    "executed_at", "source", "source_trade_id", "user_id", "side", "base_amount", "quote_amount", "price", "sequence"
)  # fmt: skip
BINANCE_HEADER = "id,price,qty,quote_qty,time,is_buyer_maker,is_best_match\n"


def binance_line(trade: Dumped, *, micros: bool = False) -> str:
    moment = trade.moment_us if micros else trade.moment_us // 1000
    return (
        f"{trade.number},{trade.price:.8f},{trade.base:.8f},{trade.quote:.16f},{moment},{trade.buyer_is_maker},True\n"
    )


def binance(trades: Iterable[Dumped], *, header: bool = False, micros: bool = False) -> bytes:
    lines = [binance_line(trade, micros=micros) for trade in trades]
    return ((BINANCE_HEADER if header else "") + "".join(lines)).encode()


def ccxt_trade(trade: Dumped) -> str:
    """With the float noise of ccxt's own arithmetic in its cost."""
    cost = float(trade.price) * float(trade.base)
    return (
        f'{{"info": {{"id": {trade.number}}}, "id": "{trade.number}", "timestamp": {trade.moment_us // 1000},'
        f' "symbol": "{MARKET}", "side": "{trade.side}", "takerOrMaker": null, "price": {trade.price}, "amount":'
        f' {trade.base}, "cost": {cost}, "fee": null}}'
    )


def ccxt_array(trades: Iterable[Dumped], between: str = "") -> bytes:
    return f"[{between}{f',{between}'.join(ccxt_trade(trade) for trade in trades)}{between}]".encode()


def ccxt_lines(trades: Iterable[Dumped]) -> bytes:
    return "".join(f"{ccxt_trade(trade)}\n" for trade in trades).encode()


def novadex(trades: Iterable[Dumped], user_id: UUID, source: str = "binance") -> bytes:
    """The same trades as they stand in NovaDex, each with its account and its time to the microsecond."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(OWN_COLUMNS)
    for trade in trades:
        moment = (EPOCH + timedelta(microseconds=trade.moment_us)).isoformat()
        amounts = (f"{trade.base:f}", f"{trade.quote:f}", f"{trade.price:f}")
        writer.writerow((moment, source, trade.number, user_id, trade.side, *amounts, trade.number))
    return text.getvalue().encode()


def zipped(content: bytes, name: str = "trades.csv") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


PACKINGS: dict[str, Callable[[bytes], bytes]] = {"plain": bytes, "gzip": gzip.compress, "zip": zipped}


# What must stand in the database ---------------------------------------------------------------------------

Recorded = tuple[UUID, str, str, str, Decimal, Decimal, Decimal, datetime, int, str, str]


def expected(trades: Iterable[Dumped], *, source: str = "binance", micros: bool = False) -> set[Recorded]:
    """All that is in a row besides its user."""
    rows: set[Recorded] = set()
    for trade in trades:
        moment_us = trade.moment_us if micros else trade.moment_us // 1000 * 1000
        rows.add(
            (
                id_of_source(moment_us // 1000, source, MARKET, str(trade.number)),
                "spot",
                trade.side,
                "taker",
                trade.base,
                trade.quote,
                trade.price,
                EPOCH + timedelta(microseconds=moment_us),
                trade.number,
                source,
                str(trade.number),
            )
        )
    return rows


def recorded(url: str) -> set[Recorded]:
    """All rows; a row that stands there twice would be a broken primary key."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT id, type, side, liquidity, base_amount, quote_amount, price, executed_at, sequence, source,"
            " source_trade_id FROM trades WHERE match_id IS NULL AND order_id IS NULL AND fee_amount = 0"
        ).fetchall()
    return set(rows)


def count(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM trades").fetchone()
    assert row is not None
    return row[0]
