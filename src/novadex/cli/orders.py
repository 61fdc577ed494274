"""``novadex orders``: placing, cancelling and looking at orders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from novadex.cli.manners import AsJson, DataDir, new_app, on_instance, print_json

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from novadex.trading.orders.records import Order, OrderEvent
    from novadex.trading.records import Page
    from novadex.trading.service import TradingService

T = TypeVar("T")
LISTED = 100

OrderId = Annotated[str, typer.Argument(metavar="ID", help="The order's id.")]
Reason = Annotated[str | None, typer.Option(metavar="TEXT", help="Why; it stands in the order's events.")]
UserId = Annotated[str | None, typer.Option("--user", metavar="ID", help="Whose orders.")]
MarketSymbol = Annotated[str | None, typer.Option("--market", metavar="SYMBOL", help="Orders of this market only.")]
Cursor = Annotated[str | None, typer.Option(metavar="CURSOR", help="Go on after the page before: its `next`.")]
Limit = Annotated[int, typer.Option(min=1, max=1_000, help="At most so many.")]


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    group = new_app("Orders: placing, cancelling, looking.")
    group.command("place")(place)
    group.command("cancel")(cancel)
    group.command("cancel-all")(cancel_all)
    group.command("list")(list_orders)
    group.command("show")(show)
    group.command("events")(events)
    app.add_typer(group, name="orders")


def place(
    *,
    market: Annotated[str, typer.Option(metavar="SYMBOL", help="BASE/QUOTE, such as BTC/USDT.")],
    side: Annotated[str, typer.Option(help="buy or sell.")],
    quantity: Annotated[str, typer.Option(help="Units of the base asset.")],
    user: Annotated[str, typer.Option("--user", metavar="ID", help="Who places it.")],
    kind: Annotated[str, typer.Option("--type", help="limit, market, stop or stop_limit.")] = "limit",
    price: Annotated[str | None, typer.Option(help="Limit price.")] = None,
    stop_price: Annotated[str | None, typer.Option(help="Price that triggers a stop.")] = None,
    time_in_force: Annotated[str | None, typer.Option(help="gtc, ioc, fok, or gtt with --expires-at.")] = None,
    expires_at: Annotated[str | None, typer.Option(metavar="TIME", help="When a gtt order ends, ISO 8601.")] = None,
    post_only: Annotated[bool, typer.Option("--post-only", help="It may only add liquidity.")] = False,
    reduce_only: Annotated[bool, typer.Option("--reduce-only", help="It may only reduce the holding.")] = False,
    client_order_id: Annotated[str | None, typer.Option(metavar="NAME", help="Makes a retry harmless.")] = None,
    id: Annotated[str | None, typer.Option("--id", metavar="UUID", help="A UUIDv7; makes a retry harmless.")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Place an order."""
    fields: dict[str, Any] = {
        "market": market,
        "side": side,
        "quantity": quantity,
        "user_id": user,
        "type": kind,
        "price": price,
        "stop_price": stop_price,
        "time_in_force": time_in_force,
        "expires_at": expires_at,
        "post_only": post_only,
        "reduce_only": reduce_only,
        "client_order_id": client_order_id,
        "id": id,
    }
    given: Any = {name: value for name, value in fields.items() if value is not None}
    _print_order(_with_service(data_dir, lambda service: service.place_order(given)), as_json=as_json)


def cancel(
    id: OrderId,
    reason: Reason = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Cancel a live order; one that is cancelled already is shown as it is."""
    _print_order(_with_service(data_dir, lambda service: service.cancel_order(id, reason=reason)), as_json=as_json)


def cancel_all(
    *,
    user: UserId = None,
    market: MarketSymbol = None,
    everything: Annotated[bool, typer.Option("--everything", help="All live orders of all users.")] = False,
    reason: Reason = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Cancel the live orders of a user, of a market, or of both."""
    from novadex.errors import UsageError

    if user is None and market is None and not everything:
        raise UsageError("Whose orders? Name --user, --market or both.", hint="All there are: --everything.")
    cancelled = _with_service(
        data_dir, lambda service: service.cancel_all_orders(user_id=user, market=market, reason=reason)
    )
    if as_json:
        print_json({"cancelled": cancelled})
    else:
        print(f"{cancelled} orders cancelled.")


def list_orders(
    *,
    user: UserId = None,
    market: MarketSymbol = None,
    live: Annotated[bool, typer.Option("--live", help="Only those that can still be filled.")] = False,
    limit: Limit = LISTED,
    cursor: Cursor = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """A page of orders, newest first."""
    page: Page[Order] = _with_service(
        data_dir,
        lambda service: service.list_orders(user_id=user, market=market, live=live, limit=limit, cursor=cursor),
    )
    _print_page(page, _order_line, as_json=as_json, none="No orders.")


def show(id: OrderId, as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """An order as it stands."""
    _print_order(_with_service(data_dir, lambda service: service.get_order(id)), as_json=as_json)


def events(
    id: OrderId,
    limit: Limit = LISTED,
    cursor: Cursor = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """What happened to an order, oldest first."""
    page: Page[OrderEvent] = _with_service(
        data_dir, lambda service: service.list_order_events(id, limit=limit, cursor=cursor)
    )
    _print_page(page, _event_line, as_json=as_json, none="No further events.")


def _with_service(data_dir: Any, call: Callable[[TradingService], Awaitable[T]]) -> T:
    from novadex.trading.service import TradingService

    async def work(db: Any, actor: Any) -> T:
        async with TradingService(db, actor=actor) as service:
            return await call(service)

    return on_instance(data_dir, work)


def _print_order(order: Order, *, as_json: bool) -> None:
    if as_json:
        print_json(order)
    else:
        print(_order_line(order))


def _print_page(page: Page[T], line: Callable[[T], str], *, as_json: bool, none: str) -> None:
    if as_json:
        print_json(page)
        return
    for item in page.items:
        print(line(item))
    if not page.items:
        print(none)
    if page.next is not None:
        print(f"More: --cursor {page.next}")


def _order_line(order: Order) -> str:
    price = f" at {order.price:f}" if order.price is not None else ""
    stop = f" from {order.stop_price:f}" if order.stop_price is not None else ""
    return (
        f"{order.id}  {order.status:<16} {order.market} {order.side} {order.quantity:f} {order.type}{price}{stop}"
        f" {order.time_in_force}, filled {order.filled_quantity:f}, user {order.user_id}"
    )


def _event_line(event: OrderEvent) -> str:
    reason = f": {event.reason}" if event.reason else ""
    return (
        f"{event.version:>4}  {event.occurred_at:%Y-%m-%d %H:%M:%S}  {event.type:<10} {event.status:<16}"
        f" {event.filled_quantity:f} of {event.quantity:f}  {event.actor}{reason}"
    )
