"""``novadex candles``: what a market did, by interval."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from novadex.cli.manners import AsJson, DataDir, moment_of, run_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

    from novadex.analytics.candles import Candle
    from novadex.analytics.service import AnalyticsService

COLUMNS = ("start", "open", "high", "low", "close", "base_volume", "quote_volume", "taker_buy_base_volume", "trades")
HEADINGS = ("start (UTC)", "open", "high", "low", "close", "base volume", "quote volume", "taker bought", "trades")
WIDTHS = (20, 14, 14, 14, 14, 18, 20, 18, 9)


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def candles(
        *,
        market: Annotated[str, typer.Option(help="Market, such as BTC/USDT.")],
        interval: Annotated[str, typer.Option(help="1m, 5m, 15m, 1h, 4h, 1d or 1w (from Monday); UTC.")] = "1m",
        start: Annotated[
            str | None,
            typer.Option("--from", metavar="TIME", help="First start, inclusive, such as 2024-08-08T23:54:00Z."),
        ] = None,
        end: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Last start, exclusive.")] = None,
        limit: Annotated[int | None, typer.Option(help="Only the newest, at most 10000. Default: all.")] = None,
        as_json: AsJson = False,
        data_dir: DataDir = None,
    ) -> None:
        """Candles of a market, oldest first. Intervals without trades are left out."""
        from novadex.analytics.service import AnalyticsService
        from novadex.storage.connection import DatabaseConnection

        begin, stop = moment_of(start, "--from"), moment_of(end, "--to")

        async def run() -> None:
            async with DatabaseConnection.connect(data_dir=data_dir) as database:
                rows = _candles(AnalyticsService(database), market, interval, start=begin, end=stop, limit=limit)
                await (_print_json(rows) if as_json else _print_table(rows))

        run_async(run())


async def _candles(
    analytics: AnalyticsService,
    market: str,
    interval: str,
    *,
    start: datetime | None,
    end: datetime | None,
    limit: int | None,
) -> AsyncIterator[Candle]:
    if limit is None:
        async for candle in analytics.stream_candles(market, interval, start=start, end=end):
            yield candle
    else:
        for candle in await analytics.get_candles(market, interval, start=start, end=end, limit=limit):
            yield candle


async def _print_json(candles: AsyncIterator[Candle]) -> None:
    from novadex.cli.json_list import JsonList

    with JsonList() as document:
        async for candle in candles:
            document.add(candle.as_dict())
        document.print()


async def _print_table(candles: AsyncIterator[Candle]) -> None:
    headed = False
    async for candle in candles:
        if not headed:
            headed = True
            print(_line(HEADINGS))
        row = candle.as_dict()
        line = _line([str(row[name]) for name in COLUMNS])
        print(line if candle.complete else f"{line}  not complete")
    if not headed:
        print("No candles: no trades in this range of time.")


def _line(cells: tuple[str, ...] | list[str]) -> str:
    first, *rest = cells
    return " ".join(
        [first.ljust(WIDTHS[0]), *(cell.rjust(width) for cell, width in zip(rest, WIDTHS[1:], strict=True))]
    )
