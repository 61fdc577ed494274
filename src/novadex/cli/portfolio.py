"""``novadex portfolio``: what users hold and earned, and whether it follows from their records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from novadex.cli.manners import (
    FOUND_A_DIFFERENCE,
    AsJson,
    DataDir,
    moment_of,
    new_app,
    on_instance,
    print_json,
    progress_bar,
    run_async,
    say,
)
from novadex.cli.users import WHO, user_id_of

if TYPE_CHECKING:
    from decimal import Decimal
    from pathlib import Path

    from novadex.portfolio.records import Snapshot
    from novadex.roles.actor import Actor
    from novadex.storage.connection import DatabaseConnection

LISTED_MAX = 100_000
"""Differences that are named; all are counted."""

User = Annotated[str, typer.Argument(metavar="USER", help=WHO)]
At = Annotated[
    str | None, typer.Option("--at", metavar="TIME", help="As it was at a moment, such as 2024-08-08T23:00:00Z.")
]
Asset = Annotated[
    str | None,
    typer.Option("--in", metavar="ASSET", help="What it is valued in. Default: NOVADEX_VALUATION_ASSET."),
]


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    group = new_app("What users hold, what it cost and what it earned.")
    group.command("show")(show)
    group.command("lots")(lots)
    group.command("snapshot")(snapshot)
    group.command("snapshots")(snapshots)
    group.command("price")(price)
    group.command("verify")(verify)
    group.command("rebuild")(rebuild)
    app.add_typer(group, name="portfolio")


def show(user: User, at: At = None, asset: Asset = None, as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Holdings, positions and profits of a user, valued at the prices of the moment. Nothing is written."""
    moment = moment_of(at, "--at")

    async def work(db: DatabaseConnection, actor: Actor) -> dict[str, Any]:
        from novadex.portfolio.service import PortfolioService

        portfolios = PortfolioService(db, actor=actor)
        owner = await user_id_of(db, actor, user)
        value = await portfolios.pnl(owner, at=moment, asset=asset)
        if moment is not None:
            return {"value": value}
        return {
            "value": value,
            "holdings": await portfolios.holdings(owner),
            "positions": await portfolios.positions(owner),
        }

    found = on_instance(data_dir, work)
    if as_json:
        print_json(found)
    else:
        _print_snapshot(found["value"])


def lots(  # noqa: PLR0917 - typer takes arguments and options as they stand
    user: User,
    market: Annotated[str, typer.Option(help="Market, such as BTC/USDT.")],
    closed: Annotated[
        bool, typer.Option("--closed", help="What was closed and what it earned, newest first.")
    ] = False,
    limit: Annotated[int, typer.Option(help="How many at most.", min=1, max=1_000)] = 100,
    cursor: Annotated[str | None, typer.Option(metavar="CURSOR", help="The next of the page before.")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """The open lots of a user in a market, in the order in which they will be closed."""

    async def work(db: DatabaseConnection, actor: Actor) -> Any:
        from novadex.portfolio.service import PortfolioService

        portfolios = PortfolioService(db, actor=actor)
        read = portfolios.closings if closed else portfolios.lots
        return await read(await user_id_of(db, actor, user), market=market, limit=limit, cursor=cursor)

    page = on_instance(data_dir, work)
    if as_json:
        print_json(page)
        return
    for item in page.items:
        if closed:
            print(f"{item.closed_at:%Y-%m-%d %H:%M:%S}  {_n(item.quantity)} earned {_n(item.realized)}")
        else:
            print(f"{item.opened_at:%Y-%m-%d %H:%M:%S}  {_n(item.quantity)} cost {_n(item.cost)}")
    if page.next is not None:
        say(f"There are more: --cursor {page.next}")


def snapshot(
    user: User, at: At = None, asset: Asset = None, as_json: AsJson = False, data_dir: DataDir = None
) -> None:
    """Take and keep a snapshot of a user's portfolio. A moment is taken once."""
    moment = moment_of(at, "--at")

    async def work(db: DatabaseConnection, actor: Actor) -> Snapshot:
        from novadex.portfolio.service import PortfolioService

        owner = await user_id_of(db, actor, user)
        return await PortfolioService(db, actor=actor).take_snapshot(owner, at=moment, asset=asset)

    taken = on_instance(data_dir, work)
    if as_json:
        print_json(taken)
    else:
        _print_snapshot(taken)


def snapshots(
    user: User,
    limit: Annotated[int, typer.Option(help="How many at most.", min=1, max=1_000)] = 24,
    cursor: Annotated[str | None, typer.Option(metavar="CURSOR", help="The next of the page before.")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """The snapshots of a user that were kept, the newest first."""

    async def work(db: DatabaseConnection, actor: Actor) -> Any:
        from novadex.portfolio.service import PortfolioService

        owner = await user_id_of(db, actor, user)
        return await PortfolioService(db, actor=actor).snapshots(owner, limit=limit, cursor=cursor)

    page = on_instance(data_dir, work)
    if as_json:
        print_json(page)
        return
    for item in page.items:
        value, profit = _n(item.total_value), _n(item.profit)
        print(f"{item.taken_at:%Y-%m-%d %H:%M:%S}  {value} {item.valuation_asset}, profit {profit}")
    if page.next is not None:
        say(f"There are more: --cursor {page.next}")
    elif not page.items:
        say("No snapshots yet. The worker takes one each full hour; or: novadex portfolio snapshot USER")


def price(
    market: Annotated[str, typer.Argument(metavar="MARKET", help="Market, such as BTC/USDT.")],
    amount: Annotated[str, typer.Argument(metavar="PRICE", help="Quote units for one base unit.")],
    source: Annotated[str, typer.Option(help="The feed that says it.")] = "feed",
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="When it was the price. Default: now.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Record the price of a feed: portfolios are valued with it before the last trades are asked."""
    moment = moment_of(at, "--at")

    async def work(db: DatabaseConnection, actor: Actor) -> None:
        from novadex.portfolio.service import PortfolioService

        await PortfolioService(db, actor=actor).record_price(market, amount, observed_at=moment, source=source)

    on_instance(data_dir, work)
    print(f"{market}: {amount} by {source}.")


def verify(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Recompute all portfolios from the records and name every difference. Exit code 3 where there is one.

    First waits until the projection has what was committed when the command was called. The projection goes on
    meanwhile.
    """
    if run_async(_verify(data_dir, as_json=as_json)):
        raise typer.Exit(FOUND_A_DIFFERENCE)


async def _verify(data_dir: Path | None, *, as_json: bool) -> int:
    from novadex.analytics.catch_up import catch_up
    from novadex.cli.analytics import print_report, sentence_of
    from novadex.cli.json_list import JsonList
    from novadex.portfolio.projection import PortfolioProjection
    from novadex.portfolio.verify import verify_portfolios
    from novadex.storage.connection import DatabaseConnection

    with JsonList() as document:

        def found(difference: Any) -> None:
            nonlocal named
            named += 1
            if named > LISTED_MAX:
                return
            if as_json:
                document.add(difference)
            else:
                print(sentence_of(difference))

        named = 0
        async with DatabaseConnection.connect(data_dir=data_dir, role="worker") as db:
            await catch_up(PortfolioProjection(db.main, db.settings))
            with progress_bar() as show_progress:
                report = await verify_portfolios(
                    db.main, found, lambda users: show_progress("Comparing users", users, 0)
                )
        if as_json:
            print_report(document, report)
        else:
            compared = ", ".join(f"{rows:,} {what}" for what, rows in report.compared.items() if rows)
            print(f"{report.differences:,} differences; compared: {compared or 'nothing'}; {report.seconds:.1f} s.")
        return report.differences


def rebuild(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Derive all portfolios anew from the records, user by user. Readers see the old rows of a user, or the new ones.

    Killed midway, the worker goes on with it.
    """
    import time

    async def run() -> int:
        from novadex.analytics.catch_up import catch_up
        from novadex.portfolio.projection import PortfolioProjection
        from novadex.storage.connection import DatabaseConnection

        async with DatabaseConnection.connect(data_dir=data_dir, role="worker") as db:
            projection = PortfolioProjection(db.main, db.settings)
            with progress_bar() as show_progress:
                users = await projection.rebuild_whole(lambda now: show_progress("Rebuilding", now.users_done, 0))
            await catch_up(projection)
            return users

    started = time.monotonic()
    users = run_async(run())
    seconds = round(time.monotonic() - started, 3)
    if as_json:
        print_json({"users": users, "seconds": seconds})
    else:
        print(f"Derived {users:,} users anew in {seconds:.1f} s.")


def _print_snapshot(value: Snapshot) -> None:
    unit = value.valuation_asset
    print(f"{value.taken_at:%Y-%m-%d %H:%M:%S} UTC: {_n(value.total_value)} {unit}")
    for name in ("net_transfers", "realized", "unrealized", "fees", "funding", "pool_profit"):
        print(f"  {name.replace('_', ' '):<14} {_n(getattr(value, name))}")
    for holding in value.holdings:
        worth = "no price" if holding.price is None else f"{_n(holding.value)} {unit}"
        print(f"{holding.asset:<10} {_n(holding.amount)}  {worth}")
    for position in value.positions:
        cost, realized = _n(position.cost), _n(position.realized)
        print(f"{position.market:<14} {_n(position.quantity)} cost {cost}, realized {realized}")


def _n(amount: Decimal) -> str:
    from novadex.money import plain

    return plain(amount)
