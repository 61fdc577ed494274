"""Assets and markets: made once, looked up by symbol, remembered, for what counts of them never changes.

A market's status, sizes and fees do: who needs those reads them under the market's lock.
"""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import TYPE_CHECKING

from psycopg.errors import ForeignKeyViolation

from novadex.errors import ConflictError, NotFoundError, ValidationError
from novadex.ids import parse_id
from novadex.money import PRICE_DECIMALS_MAX, parse_amount, parse_signed_amount
from novadex.roles.actor import SERVICE, Actor, act_as
from novadex.storage.queries import load_queries
from novadex.trading.records import Asset, FeeRates, Market, MarketStatus, Page

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal
    from uuid import UUID

    from novadex.storage.connection import DatabaseConnection

QUERIES = load_queries(Path(__file__).with_name("queries.sql"))
_MARKET = re.compile(r"(?P<base>[A-Z0-9][A-Z0-9._]{0,31})/(?P<quote>[A-Z0-9][A-Z0-9._]{0,31})(?:-[A-Z0-9]{1,16})?")
_ASSET = re.compile(r"[A-Z0-9][A-Z0-9._]{0,31}")
STATUSES = ("active", "post_only", "cancel_only", "halted")
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
    """Assets and markets of an instance. Everybody may see them; to add some needs ``markets.manage``."""

    def __init__(self, db: DatabaseConnection, *, actor: Actor = SERVICE) -> None:
        self._db = db
        self._actor = actor
        self._assets: dict[str, Asset] = {}
        self._markets: dict[str, Market] = {}

    def acting_as(self, actor: Actor) -> Markets:
        """These markets on behalf of somebody; what was looked up is shared."""
        markets = copy.copy(self)
        markets._actor = actor  # noqa: SLF001 - of the same class
        return markets

    def remembered(self, symbol: str) -> Market | None:
        """The market if it was looked up before; its status and its sizes may have changed since."""
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

    async def add_asset(self, symbol: str, *, decimals: int, name: str | None = None) -> Asset:
        """Add an asset; the same again gives the one that is there. Other decimals are a ``ConflictError``."""
        self._actor.require("markets.manage")
        check_asset(symbol, decimals)
        async with self._db.transaction() as session:
            await act_as(session, self._actor)
            await session.query(QUERIES.add_asset, [symbol, name or symbol, decimals])
        asset = await self.asset(symbol)
        if asset.decimals != decimals:
            raise ConflictError(
                f"The asset {symbol} has {asset.decimals} decimals, not {decimals}; decimals never change.",
                hint="Use the asset as it is, or another symbol.",
            )
        return asset

    async def add(self, symbol: str, *, base_decimals: int = 18, quote_decimals: int = 18) -> Market:
        """Add a market, and its assets where they are unknown; known ones keep their decimals.

        A market that is there already is given back.
        """
        self._actor.require("markets.manage")
        base, quote = split_market(symbol)
        check_asset(base, base_decimals)
        check_asset(quote, quote_decimals)
        if base == quote:
            raise ValidationError(f"market has twice the same asset: {symbol}.", field="market")
        async with self._db.transaction() as session:
            await act_as(session, self._actor)
            # In order of the symbols, so that two calls cannot wait for each other.
            for asset, decimals in sorted({base: base_decimals, quote: quote_decimals}.items()):
                await session.query(QUERIES.add_asset, [asset, asset, decimals])
            await session.query(QUERIES.add_market, [symbol, base, quote])
        return await self.get(symbol)

    # What orders they take, and at which fees

    async def set_status(self, symbol: str, status: MarketStatus) -> Market:
        """``active`` takes all orders, ``post_only`` those that only add liquidity, ``cancel_only`` none, and
        ``halted`` takes no cancels of users either. Whatever the venue reports is recorded in any state.

        Orders that are being placed come first; once this returns there are no more. Needs ``markets.halt``.
        """
        self._actor.require("markets.halt")
        _check_status(status)
        market = await self.get(symbol)
        async with self._db.transaction() as session:
            await act_as(session, self._actor)
            await session.execute(QUERIES.hold_market, [market.id])
            await session.execute(QUERIES.set_status, [market.id, status])
        return await self.get(symbol)

    async def set_venue_status(self, status: MarketStatus) -> MarketStatus:
        """The kill switch: of this and a market's own status the stricter one holds. Needs ``markets.halt``."""
        self._actor.require("markets.halt")
        _check_status(status)
        async with self._db.transaction() as session:
            await act_as(session, self._actor)
            await session.execute(QUERIES.hold_all_markets)
            await session.execute(QUERIES.set_venue_status, [status])
        return status

    async def venue_status(self) -> MarketStatus:
        """What the kill switch says."""
        return await self._db.main.value(QUERIES.venue_status, read_only=True)

    async def set_sizes(
        self, symbol: str, tick_size: Decimal | str | int | None, lot_size: Decimal | str | int | None
    ) -> Market:
        """Prices of orders are multiples of the tick size, quantities of the lot size; None: any. Orders that are
        there already keep theirs. Needs ``markets.manage``."""
        self._actor.require("markets.manage")
        market = await self.get(symbol)
        tick = _size(tick_size, "tick_size", PRICE_DECIMALS_MAX)
        lot = _size(lot_size, "lot_size", market.base_decimals)
        async with self._db.transaction() as session:
            await act_as(session, self._actor)
            await session.execute(QUERIES.hold_market, [market.id])
            await session.execute(QUERIES.set_sizes, [market.id, tick, lot])
        return await self.get(symbol)

    async def set_fees(
        self, symbol: str, tier: int, maker_rate: Decimal | str | int, taker_rate: Decimal | str | int
    ) -> FeeRates:
        """The fees of a tier, as a share of the quote amount (``"0.001"``: a tenth of a percent), negative for a
        rebate. A tier without fees of its own has those of the next lower one. Needs ``fees.manage``."""
        self._actor.require("fees.manage")
        check_tier(tier)
        maker, taker = _rate(maker_rate, "maker_rate"), _rate(taker_rate, "taker_rate")
        market = await self.get(symbol)
        async with self._db.transaction() as session:
            await act_as(session, self._actor)
            await session.execute(QUERIES.set_fees, [market.id, tier, maker, taker])
        return FeeRates(symbol, tier, maker, taker)

    async def fees(self, symbol: str) -> Sequence[FeeRates]:
        """The fees of a market by tier."""
        market = await self.get(symbol)
        return await self._db.main.made(FeeRates, QUERIES.fees_of_market, [market.id], read_only=True)

    async def set_fee_tier(self, user_id: UUID | str, tier: int) -> None:
        """The fee tier of a user, in all markets. Needs ``fees.manage``."""
        self._actor.require("fees.manage")
        check_tier(tier)
        user = parse_id(user_id, "user_id")
        try:
            async with self._db.transaction() as session:
                await act_as(session, self._actor)
                await session.execute(QUERIES.set_fee_tier, [user, tier])
        except ForeignKeyViolation:
            raise NotFoundError(f"There is no user {user}.", hint="Create the user first.", field="user_id") from None


def check_tier(tier: int) -> None:
    if type(tier) is not int or not 0 <= tier <= 100:
        raise ValidationError(f"tier must be 0 to 100, got {tier!r}.", field="tier")


def _check_status(status: str) -> None:
    if status not in STATUSES:
        raise ValidationError(
            f"status must be one of {', '.join(STATUSES)}, got {str(status)[:40]!r}.", field="status"
        )


def _size(value: Decimal | str | int | None, field: str, decimals_max: int) -> Decimal | None:
    if value is None:
        return None
    size, _ = parse_amount(value, field, decimals_max=decimals_max)
    if not size:
        raise ValidationError(f"{field} must be above 0.", field=field, hint="Leave it out for any.")
    return size


def _rate(value: Decimal | str | int, field: str) -> Decimal:
    rate, text = parse_signed_amount(value, field)
    if not -1 < rate < 1:
        raise ValidationError(
            f"{field} must be between -1 and 1, a share of the quote amount, got {text}.", field=field
        )
    return rate


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
