"""``novadex markets`` and ``novadex assets``: what can be traded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from novadex.cli.manners import AsJson, DataDir, new_app, print_json, run_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from novadex.trading.markets import Markets
    from novadex.trading.records import Market

ACTOR = "cli"
PAGE_MARKETS = 1_000

Decimals = Annotated[int, typer.Option(min=0, max=18, help="Digits after the point of the smallest unit.")]


def register(app: typer.Typer) -> None:
    """Add both groups of commands."""
    markets = new_app("The markets of this instance.")
    markets.command("list")(list_markets)
    markets.command("add")(add_market)
    app.add_typer(markets, name="markets")
    assets = new_app("The assets of this instance.")
    assets.command("list")(list_assets)
    assets.command("add")(add_asset)
    app.add_typer(assets, name="assets")


def list_markets(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """All markets, by symbol."""
    from novadex.cli.json_list import JsonList
    from novadex.storage.connection import DatabaseConnection
    from novadex.trading.markets import Markets

    async def run() -> None:
        async with DatabaseConnection.connect(data_dir=data_dir) as db:
            found = _all_markets(Markets(db))
            if as_json:
                with JsonList() as document:
                    async for market in found:
                        document.add(market)
                    document.print()
                return
            empty = True
            async for market in found:
                empty = False
                print(_market_line(market))
            if empty:
                print("No markets. Add one: novadex markets add BTC/USDT")

    run_async(run())


def add_market(
    symbol: Annotated[str, typer.Argument(metavar="SYMBOL", help="BASE/QUOTE, such as BTC/USDT or ETH/USDT-PERP.")],
    base_decimals: Decimals = 18,
    quote_decimals: Decimals = 18,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Add a market, and its assets where they are unknown; known assets keep their decimals."""
    from novadex.storage.connection import DatabaseConnection
    from novadex.trading.markets import Markets

    async def run() -> Market:
        async with DatabaseConnection.connect(data_dir=data_dir) as db:
            return await Markets(db).add(
                symbol, base_decimals=base_decimals, quote_decimals=quote_decimals, actor=ACTOR
            )

    market = run_async(run())
    if as_json:
        print_json(market)
    else:
        print(_market_line(market))


def list_assets(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """All assets, by symbol."""
    from novadex.storage.connection import DatabaseConnection
    from novadex.trading.markets import Markets
    from novadex.trading.records import Asset

    async def run() -> list[Asset]:
        async with DatabaseConnection.connect(data_dir=data_dir) as db:
            return await Markets(db).list_assets()

    assets = run_async(run())
    if as_json:
        print_json(assets)
        return
    for asset in assets:
        print(f"{asset.symbol:<20} {asset.decimals:>2} decimals  {asset.name}")
    if not assets:
        print("No assets. Add one: novadex assets add BTC --decimals 8")


def add_asset(
    symbol: Annotated[str, typer.Argument(metavar="SYMBOL", help="Ticker in capitals, such as BTC.")],
    decimals: Decimals,
    name: Annotated[str | None, typer.Option(help="Name for people. Default: the symbol.")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Add an asset. Its decimals never change."""
    from novadex.storage.connection import DatabaseConnection
    from novadex.trading.markets import Markets
    from novadex.trading.records import Asset

    async def run() -> Asset:
        async with DatabaseConnection.connect(data_dir=data_dir) as db:
            return await Markets(db).add_asset(symbol, decimals=decimals, name=name, actor=ACTOR)

    asset = run_async(run())
    if as_json:
        print_json(asset)
    else:
        print(f"{asset.symbol:<20} {asset.decimals:>2} decimals  {asset.name}")


async def _all_markets(markets: Markets) -> AsyncIterator[Market]:
    after: str | None = None
    while True:
        page = await markets.list(after=after, limit=PAGE_MARKETS)
        for market in page.items:
            yield market
        if page.next is None:
            return
        after = page.next


def _market_line(market: Market) -> str:
    return (
        f"{market.symbol:<20} {market.status:<12} {market.base_asset} {market.base_decimals} decimals,"
        f" {market.quote_asset} {market.quote_decimals} decimals"
    )
