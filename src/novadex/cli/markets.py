"""``novadex markets`` and ``novadex assets``: what can be traded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from novadex.cli.manners import AsJson, DataDir, command_line, new_app, on_instance, print_json, run_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from novadex.trading.markets import Markets
    from novadex.trading.records import Market

PAGE_MARKETS = 1_000

Decimals = Annotated[int, typer.Option(min=0, max=18, help="Digits after the point of the smallest unit.")]


def register(app: typer.Typer) -> None:
    """Add both groups of commands."""
    markets = new_app("The markets of this instance.")
    markets.command("list")(list_markets)
    markets.command("add")(add_market)
    markets.command("status")(set_status)
    markets.command("halt-all")(halt_all)
    markets.command("resume-all")(resume_all)
    markets.command("sizes")(set_sizes)
    markets.command("fees")(fees)
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
            markets = Markets(db, actor=command_line())
            return await markets.add(symbol, base_decimals=base_decimals, quote_decimals=quote_decimals)

    market = run_async(run())
    if as_json:
        print_json(market)
    else:
        print(_market_line(market))


Symbol = Annotated[str, typer.Argument(metavar="SYMBOL", help="BASE/QUOTE, such as BTC/USDT.")]


def set_status(
    symbol: Symbol,
    status: Annotated[str, typer.Argument(metavar="STATUS", help="active, post_only, cancel_only or halted.")],
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Open, restrict or halt a market. Whatever the venue reports of it is recorded in any state."""
    market: Market = _with_markets(data_dir, lambda markets: markets.set_status(symbol, _status(status)))
    _print_market(market, as_json=as_json)


def halt_all(
    status: Annotated[str, typer.Option(help="halted, cancel_only or post_only.")] = "halted",
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """The kill switch: no market takes an order until resume-all."""
    _set_venue_status(status, as_json=as_json, data_dir=data_dir)


def resume_all(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Turn the kill switch off: each market is again as its own status says."""
    _set_venue_status("active", as_json=as_json, data_dir=data_dir)


def set_sizes(
    symbol: Symbol,
    tick: Annotated[str | None, typer.Option(help="Prices of orders are multiples of it. Left out: any.")] = None,
    lot: Annotated[str | None, typer.Option(help="Quantities of orders are multiples of it. Left out: any.")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Set the tick and lot size of a market, both; orders that are there keep theirs."""
    market: Market = _with_markets(data_dir, lambda markets: markets.set_sizes(symbol, tick, lot))
    _print_market(market, as_json=as_json)


def fees(
    symbol: Symbol,
    *,
    tier: Annotated[int | None, typer.Option(min=0, max=100, help="The tier to set; 0 is everybody's.")] = None,
    maker: Annotated[str | None, typer.Option(help="Share of the quote amount, such as 0.001; -: a rebate.")] = None,
    taker: Annotated[str | None, typer.Option(help="Share of the quote amount, such as 0.002.")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Show the fees of a market; with --tier, --maker and --taker set those of a tier first."""
    from novadex.errors import UsageError

    if (tier is None) != (maker is None) or (maker is None) != (taker is None):
        raise UsageError("--tier, --maker and --taker go together.", hint="Leave all of them out to see the fees.")

    async def work(markets: Markets) -> Any:
        if tier is not None and maker is not None and taker is not None:
            await markets.set_fees(symbol, tier, maker, taker)
        return await markets.fees(symbol)

    found = _with_markets(data_dir, work)
    if as_json:
        print_json(found)
        return
    for rates in found:
        print(f"{rates.market:<20} tier {rates.tier:>3}  maker {rates.maker_rate:f}  taker {rates.taker_rate:f}")
    if not found:
        print(f"{symbol} has no fees. Set them: novadex markets fees {symbol} --tier 0 --maker 0.001 --taker 0.002")


def _set_venue_status(status: str, *, as_json: bool, data_dir: Path | None) -> None:
    now: str = _with_markets(data_dir, lambda markets: markets.set_venue_status(_status(status)))
    if as_json:
        print_json({"venue": now})
    else:
        print(f"All markets: {now}")


def _status(text: str) -> Any:
    return text.replace("-", "_")


def _with_markets(data_dir: Path | None, call: Callable[[Markets], Awaitable[Any]]) -> Any:
    from novadex.trading.markets import Markets

    return on_instance(data_dir, lambda db, actor: call(Markets(db, actor=actor)))


def _print_market(market: Market, *, as_json: bool) -> None:
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
            return await Markets(db, actor=command_line()).add_asset(symbol, decimals=decimals, name=name)

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
        + (f", tick {market.tick_size:f}" if market.tick_size is not None else "")
        + (f", lot {market.lot_size:f}" if market.lot_size is not None else "")
    )
