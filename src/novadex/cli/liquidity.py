"""``novadex liquidity``: pools, and positions in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from novadex.cli.manners import AsJson, DataDir, moment_of, new_app, on_instance, print_json, say
from novadex.cli.users import WHO, user_id_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from novadex.liquidity.records import LiquidityPosition, Pool
    from novadex.liquidity.service import LiquidityService
    from novadex.roles.actor import Actor
    from novadex.storage.connection import DatabaseConnection

Position = Annotated[str, typer.Argument(metavar="POSITION", help="Id of the position.")]
Base = Annotated[str, typer.Option("--base", help="Units of the base asset.")]
Quote = Annotated[str, typer.Option("--quote", help="Units of the quote asset.")]
BaseFees = Annotated[str, typer.Option("--base-fees", help="Fees collected with it, in the base asset.")]
QuoteFees = Annotated[str, typer.Option("--quote-fees", help="Fees collected with it, in the quote asset.")]
Liquidity = Annotated[str, typer.Option("--liquidity", help="In the pool's own unit, a whole number.")]
At = Annotated[str | None, typer.Option("--at", metavar="TIME", help="When it happened. Default: now.")]
Source = Annotated[str | None, typer.Option("--source", help="Who reported it, such as a chain.")]
SourceId = Annotated[str | None, typer.Option("--source-id", help="Its id there: a retry records nothing.")]


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    group = new_app("Pools, and what is provided to them.")
    for name, command in {
        "pools": list_pools,
        "add-pool": add_pool,
        "snapshot": record_snapshot,
        "open": open_position,
        "increase": increase,
        "decrease": decrease,
        "collect": collect,
        "close": close,
        "show": show,
        "list": list_positions,
        "value": value,
    }.items():
        group.command(name)(command)
    app.add_typer(group, name="liquidity")


def list_pools(
    market: Annotated[str | None, typer.Option(help="Only pools of this market.")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """The pools, by address; at most 1,000."""
    page = _with_service(data_dir, lambda service: service.pools.list(market=market, limit=1_000))
    if as_json:
        print_json(page)
        return
    for pool in page.items:
        print(_pool_line(pool))


def add_pool(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Its address on the chain, or a name.")],
    *,
    market: Annotated[str, typer.Option(help="The pair, such as WETH/USDC.")],
    fee: Annotated[str, typer.Option(help="Share of what is paid in, such as 0.0005.")],
    kind: Annotated[str, typer.Option(help="concentrated or constant_product.")] = "concentrated",
    tick_spacing: Annotated[
        int | None, typer.Option(help="Of a concentrated pool: ticks of positions are multiples of it.")
    ] = None,
    base_is_token0: Annotated[
        bool, typer.Option("--base-is-token0/--base-is-token1", help="Which token of the pool the base asset is.")
    ] = True,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Add a pool. What one is never changes."""
    options: Any = {"market": market, "fee": fee, "kind": kind, "tick_spacing": tick_spacing}
    pool = _with_service(
        data_dir, lambda service: service.pools.add(address, **options, base_is_token0=base_is_token0)
    )
    if as_json:
        print_json(pool)
    else:
        print(_pool_line(pool))


def record_snapshot(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Address of a constant product.")],
    *,
    liquidity: Annotated[str, typer.Option("--liquidity", help="All its shares, a whole number.")],
    base_reserve: Annotated[str, typer.Option(help="Units of the base asset in it.")],
    quote_reserve: Annotated[str, typer.Option(help="Units of the quote asset in it.")],
    base_paid_in: Annotated[
        str, typer.Option(help="What swaps paid in since the snapshot before, in the base asset.")
    ] = "0",
    quote_paid_in: Annotated[str, typer.Option(help="The same in the quote asset.")] = "0",
    at: Annotated[str | None, typer.Option("--at", metavar="TIME", help="When it stood so. Default: now.")] = None,
    source: Annotated[str, typer.Option(help="Who says so.")] = "feed",
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Record how a constant product stands: its positions are valued with it."""
    values: Any = {
        "liquidity": _whole(liquidity),
        "base_reserve": base_reserve,
        "quote_reserve": quote_reserve,
        "base_paid_in": base_paid_in,
        "quote_paid_in": quote_paid_in,
        "taken_at": moment_of(at, "--at"),
        "source": source,
    }
    taken = _with_service(data_dir, lambda service: service.record_snapshot(address, **values))
    if as_json:
        print_json(taken)
    else:
        reserves = f"{_n(taken.base_reserve)} and {_n(taken.quote_reserve)}"
        print(f"{taken.pool}: {reserves} at {taken.taken_at:%Y-%m-%d %H:%M:%S} UTC, liquidity {taken.liquidity}.")


def open_position(
    user: Annotated[str, typer.Argument(metavar="USER", help=WHO)],
    *,
    pool: Annotated[str, typer.Option(metavar="ADDRESS", help="Address of the pool.")],
    liquidity: Liquidity,
    base: Base,
    quote: Quote,
    tick_lower: Annotated[int | None, typer.Option(help="Of a concentrated position.")] = None,
    tick_upper: Annotated[int | None, typer.Option(help="Of a concentrated position.")] = None,
    at: At = None,
    source: Source = None,
    source_id: SourceId = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Open a position: what a user put into a pool, and the liquidity that it gave."""
    moment = moment_of(at, "--at")

    async def work(db: DatabaseConnection, actor: Actor) -> LiquidityPosition:
        from novadex.liquidity.service import LiquidityService

        return await LiquidityService(db, actor=actor).open(
            await user_id_of(db, actor, user),
            pool=pool,
            liquidity=_whole(liquidity),
            base_amount=base,
            quote_amount=quote,
            tick_lower=tick_lower,
            tick_upper=tick_upper,
            executed_at=moment,
            source=source,
            source_position_id=source_id,
        )

    _print(on_instance(data_dir, work), as_json)


def increase(
    position: Position,
    *,
    liquidity: Liquidity,
    base: Base,
    quote: Quote,
    at: At = None,
    source: Source = None,
    source_id: SourceId = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Put more into a position."""
    event = _event(at, source, source_id)
    amounts: Any = {"liquidity": _whole(liquidity), "base_amount": base, "quote_amount": quote}
    _print(_with_service(data_dir, lambda service: service.increase(position, **amounts, **event)), as_json)


def decrease(
    position: Position,
    *,
    liquidity: Liquidity,
    base: Base,
    quote: Quote,
    base_fees: BaseFees = "0",
    quote_fees: QuoteFees = "0",
    at: At = None,
    source: Source = None,
    source_id: SourceId = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Take a part of a position out."""
    event = _event(at, source, source_id)
    amounts: Any = {"liquidity": _whole(liquidity), "base_amount": base, "quote_amount": quote}
    fees: Any = {"base_fees": base_fees, "quote_fees": quote_fees}
    _print(_with_service(data_dir, lambda service: service.decrease(position, **amounts, **fees, **event)), as_json)


def collect(
    position: Position,
    *,
    base_fees: BaseFees = "0",
    quote_fees: QuoteFees = "0",
    at: At = None,
    source: Source = None,
    source_id: SourceId = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Take fees out of a position."""
    event = _event(at, source, source_id)
    fees: Any = {"base_fees": base_fees, "quote_fees": quote_fees}
    _print(_with_service(data_dir, lambda service: service.collect(position, **fees, **event)), as_json)


def close(
    position: Position,
    *,
    base: Base,
    quote: Quote,
    base_fees: BaseFees = "0",
    quote_fees: QuoteFees = "0",
    at: At = None,
    source: Source = None,
    source_id: SourceId = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Take everything out of a position. What is closed stays closed."""
    event = _event(at, source, source_id)
    amounts: Any = {"base_amount": base, "quote_amount": quote, "base_fees": base_fees, "quote_fees": quote_fees}
    _print(_with_service(data_dir, lambda service: service.close_position(position, **amounts, **event)), as_json)


def show(position: Position, as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """A position, and its first 1,000 events."""

    async def read(service: LiquidityService) -> Any:
        return {"position": await service.get(position), "events": await service.events(position, limit=1_000)}

    found = _with_service(data_dir, read)
    if as_json:
        print_json(found)
        return
    print(_line(found["position"]))
    for event in found["events"].items:
        base, quote = _n(event.base_amount), _n(event.quote_amount)
        fees = f", fees {_n(event.base_fees)} and {_n(event.quote_fees)}"
        print(f"  {event.executed_at:%Y-%m-%d %H:%M:%S}  {event.type:<9} {base} and {quote}{fees}")


def list_positions(
    user: Annotated[str, typer.Argument(metavar="USER", help=WHO)],
    status: Annotated[str | None, typer.Option(help="Only open or closed ones.")] = None,
    limit: Annotated[int, typer.Option(help="How many at most.", min=1, max=1_000)] = 100,
    cursor: Annotated[str | None, typer.Option(metavar="CURSOR", help="The next of the page before.")] = None,
    *,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """A page of a user's positions, the newest first."""

    async def work(db: DatabaseConnection, actor: Actor) -> Any:
        from novadex.liquidity.service import LiquidityService

        owner = await user_id_of(db, actor, user)
        return await LiquidityService(db, actor=actor).list(owner, status=status, limit=limit, cursor=cursor)

    page = on_instance(data_dir, work)
    if as_json:
        print_json(page)
        return
    for position in page.items:
        print(_line(position))
    if page.next is not None:
        say(f"There are more: --cursor {page.next}")


def value(
    position: Position,
    at: Annotated[str | None, typer.Option("--at", metavar="TIME", help="As it was then. Default: now.")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """What a position is worth, what it earned, and what holding would have been worth."""
    moment = moment_of(at, "--at")
    found = _with_service(data_dir, lambda service: service.value(position, at=moment))
    if as_json:
        print_json(found)
        return
    print(f"{_n(found.base_amount)} and {_n(found.quote_amount)}, worth {_n(found.value)} at {_n(found.price)}")
    print(f"  held instead      {_n(found.held_value)}")
    print(f"  impermanent loss  {_n(found.impermanent_loss)}")
    print(f"  fees collected    {_n(found.fees_value)}")
    print(f"  fees accrued      {_n(found.accrued_value)}")


def _event(at: str | None, source: str | None, source_id: str | None) -> dict[str, Any]:
    return {"executed_at": moment_of(at, "--at"), "source": source, "source_event_id": source_id}


def _whole(text: str) -> int:
    from novadex.errors import ValidationError

    if not text.isascii() or not text.isdecimal() or len(text) > 78:
        raise ValidationError(f"--liquidity is not a whole number: {text[:80]!r}.", field="liquidity")
    return int(text)


def _with_service(data_dir: Path | None, call: Callable[[LiquidityService], Awaitable[Any]]) -> Any:
    async def work(db: DatabaseConnection, actor: Actor) -> Any:
        from novadex.liquidity.service import LiquidityService

        return await call(LiquidityService(db, actor=actor))

    return on_instance(data_dir, work)


def _print(position: LiquidityPosition, as_json: bool) -> None:
    if as_json:
        print_json(position)
    else:
        print(_line(position))


def _line(position: LiquidityPosition) -> str:
    ticks = "" if position.tick_lower is None else f" from {position.tick_lower} to {position.tick_upper}"
    return f"{position.id}  {position.market:<14} {position.status:<6} liquidity {position.liquidity}{ticks}"


def _pool_line(pool: Pool) -> str:
    return f"{pool.address}  {pool.market:<14} {pool.kind}, fee {pool.fee_ppm / 10_000:g} %"


def _n(amount: Any) -> str:
    from novadex.money import plain

    return plain(amount)
