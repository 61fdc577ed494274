"""A market and its trades, without a database."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import pytest

from novadex.trading.importing.binance import FIELDS as BINANCE_FIELDS
from novadex.trading.importing.binance import BinanceLines
from novadex.trading.importing.ccxt import FIELDS as CCXT_FIELDS
from novadex.trading.importing.ccxt import CcxtTrades
from novadex.trading.importing.chunks import Chunk
from novadex.trading.importing.market_trades import MarketTrades
from novadex.trading.importing.text_lines import Block
from novadex.trading.records import Market

ACCOUNT = UUID("019b0000-0000-7000-8000-000000000001")
NOW_S = 1_800_000_000.0


def make_market(base_decimals: int = 18, quote_decimals: int = 18, symbol: str = "BTC/USDT") -> Market:
    base, quote = symbol.partition("-")[0].split("/")
    return Market(7, symbol, base, quote, base_decimals, quote_decimals, "active")


@pytest.fixture
def binance() -> Callable[..., Chunk]:
    """``binance("line", ...)``: what a dump's lines become."""

    def parse(*lines: str, market: Market | None = None, header: bool = False) -> Chunk:
        trades = MarketTrades(market or make_market(), "binance", ACCOUNT, BINANCE_FIELDS, now=lambda: NOW_S)
        chunk = Chunk()
        BinanceLines(trades, header=header).parse(Block(1, list(lines)), chunk)
        return chunk

    return parse


@pytest.fixture
def ccxt() -> Callable[..., Chunk]:
    """``ccxt("line", ...)``: what JSON lines become."""

    def parse(*lines: str, market: Market | None = None) -> Chunk:
        trades = MarketTrades(market or make_market(), "ccxt", ACCOUNT, CCXT_FIELDS, now=lambda: NOW_S)
        chunk = Chunk()
        CcxtTrades(trades).parse_lines(Block(1, list(lines)), chunk)
        return chunk

    return parse
