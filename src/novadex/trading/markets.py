"""Assets and markets: made once, looked up by symbol, remembered because they never change."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from novadex.errors import ConflictError, NotFoundError, ValidationError
from novadex.storage.queries import load_queries
from novadex.trading.records import Asset, Market, Page

if TYPE_CHECKING:
    from novadex.storage.connection import DatabaseConnection
    from novadex.storage.session import Session

QUERIES = load_queries(Path(__file__).with_name("queries.sql"))
_MARKET = re.compile(r"(?P<base>[A-Z0-9][A-Z0-9._]{0,31})/(?P<quote>[A-Z0-9][A-Z0-9._]{0,31})(?:-[A-Z0-9]{1,16})?")
_ASSET = re.compile(r"[A-Z0-9][A-Z0-9._]{0,31}")
REMEMBERED_MAX = 10_000
PAGE_MAX = 1_000


def split_market(symbol: str) -> tuple[str, str]:
    """The base and quote assets of a market's symbol.

    >>> split_market("ETH/USDT-PERP")
    ('ETH', 'USDT')
    """
    match = _MARKET.fullmatch(symbol)
    if match is None:
        raise ValidationError(
            f"market is not BASE/QUOTE in capitals: {symbol[:80]!r}.",
            field="market",
            hint="Write it like BTC/USDT or ETH/USDT-PERP.",
        )
    return match["base"], match["quote"]


class Markets:
    """Assets and markets of an instance."""

    def __init__(self, db: DatabaseConnection) -> None:
        self._db = db
        self._assets: dict[str, Asset] = {}
        self._markets: dict[str, Market] = {}

    def remembered(self, symbol: str) -> Market | None:
        """The market if it was looked up before; its status may have changed since."""
        return self._markets.get(symbol)

    async def get(self, symbol: str) -> Market:
        """A market by its symbol; ``NotFoundError`` where there is none."""
        split_market(symbol)
        found = await self._db.main.made(Market, QUERIES.market_by_symbol, [symbol], read_only=True)
        if not found:
            raise NotFoundError(
                f"There is no market {symbol}.", hint=f"Add it: novadex markets add {symbol}", market=symbol
            )
        if len(self._markets) < REMEMBERED_MAX:
            self._markets[symbol] = found[0]
        return found[0]

    async def asset(self, symbol: str) -> Asset:
        """An asset by its symbol; ``NotFoundError`` where there is none."""
        known = self._assets.get(symbol)
        if known is not None:
            return known
        found = await self._db.main.made(Asset, QUERIES.asset_by_symbol, [symbol], read_only=True)
        if not found:
            raise NotFoundError(
                f"There is no asset {symbol[:40]!r}.", hint="Add it: novadex assets add SYMBOL", asset=symbol[:40]
            )
        if len(self._assets) < REMEMBERED_MAX:
            self._assets[symbol] = found[0]
        return found[0]

    async def list_assets(self) -> list[Asset]:
        """All assets by symbol, at most 10,000."""
        return await self._db.main.made(Asset, QUERIES.all_assets, [REMEMBERED_MAX], read_only=True)

    async def list(self, *, after: str | None = None, limit: int = 100) -> Page[Market]:
        """A page of markets by symbol."""
        limit = check_limit(limit)
        rows = await self._db.main.made(Market, QUERIES.all_markets, [after or "", limit + 1], read_only=True)
        return Page(rows[:limit], rows[limit - 1].symbol if len(rows) > limit else None)

    async def add_asset(
        self, symbol: str, *, decimals: int, name: str | None = None, actor: str = "service"
    ) -> Asset:
        """Add an asset; the same again gives the one that is there. Other decimals are a ``ConflictError``."""
        check_asset(symbol, decimals)
        async with self._db.transaction() as session:
            await self._add_asset(session, symbol, decimals, name, actor)
        asset = await self.asset(symbol)
        if asset.decimals != decimals:
            raise ConflictError(
                f"The asset {symbol} has {asset.decimals} decimals, not {decimals}; decimals never change.",
                hint="Use the asset as it is, or another symbol.",
            )
        return asset

    async def add(
        self, symbol: str, *, base_decimals: int = 18, quote_decimals: int = 18, actor: str = "service"
    ) -> Market:
        """Add a market, and its assets where they are unknown; known ones keep their decimals.

        A market that is there already is given back.
        """
        base, quote = split_market(symbol)
        check_asset(base, base_decimals)
        check_asset(quote, quote_decimals)
        if base == quote:
            raise ValidationError(f"market has twice the same asset: {symbol}.", field="market")
        async with self._db.transaction() as session:
            # In order of the symbols, so that two calls cannot wait for each other.
            for asset, decimals in sorted({base: base_decimals, quote: quote_decimals}.items()):
                await self._add_asset(session, asset, decimals, None, actor)
            if await session.query(QUERIES.add_market, [symbol, base, quote]):
                await _audit(session, actor, "market.created", f"market:{symbol}", {})
        return await self.get(symbol)

    async def _add_asset(self, session: Session, symbol: str, decimals: int, name: str | None, actor: str) -> None:
        if await session.query(QUERIES.add_asset, [symbol, name or symbol, decimals]):
            await _audit(session, actor, "asset.created", f"asset:{symbol}", {"decimals": decimals})


async def _audit(session: Session, actor: str, action: str, subject: str, detail: dict[str, object]) -> None:
    await session.execute(QUERIES.write_audit, [actor, action, subject, msgspec.json.encode(detail).decode()])


def check_asset(symbol: str, decimals: int) -> None:
    if not _ASSET.fullmatch(symbol):
        raise ValidationError(
            f"asset is not a symbol in capitals: {symbol[:80]!r}.", field="asset", hint="Write it like BTC."
        )
    if type(decimals) is not int or not 0 <= decimals <= 18:
        raise ValidationError(f"decimals of {symbol} must be 0 to 18, got {decimals!r}.", field="decimals")


def check_limit(limit: int) -> int:
    """The size of a page, 1 to 1,000."""
    if type(limit) is not int or not 1 <= limit <= PAGE_MAX:
        raise ValidationError(f"limit must be 1 to {PAGE_MAX}, got {limit!r}.", field="limit")
    return limit
