"""``novadex transfers``: deposits, withdrawals and funding payments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from novadex.cli.manners import AsJson, DataDir, moment_of, new_app, on_instance, print_json, say
from novadex.cli.users import WHO, user_id_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from novadex.portfolio.records import Transfer
    from novadex.portfolio.transfers import TransferService
    from novadex.roles.actor import Actor
    from novadex.storage.connection import DatabaseConnection


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    group = new_app("Deposits, withdrawals and funding payments, as the venue reports them.")
    group.command("record")(record)
    group.command("reverse")(reverse)
    group.command("list")(list_transfers)
    app.add_typer(group, name="transfers")


def record(  # noqa: PLR0917 - typer takes arguments and options as they stand
    user: Annotated[str, typer.Option("--user", metavar="USER", help=WHO)],
    kind: Annotated[str, typer.Option("--kind", metavar="KIND", help="deposit, withdrawal or funding.")],
    asset: Annotated[str, typer.Option("--asset", metavar="ASSET", help="What was moved, such as USDT.")],
    amount: Annotated[
        str, typer.Option("--amount", help="Units; of a funding payment negative where the user paid.")
    ],
    market: Annotated[str | None, typer.Option("--market", help="The market of a funding payment.")] = None,
    at: Annotated[str | None, typer.Option("--at", metavar="TIME", help="When it happened. Default: now.")] = None,
    source: Annotated[str | None, typer.Option("--source", help="Who reported it, such as a chain.")] = None,
    source_id: Annotated[
        str | None, typer.Option("--source-id", help="Its id there: a retry with the same one records nothing.")
    ] = None,
    id: Annotated[str | None, typer.Option("--id", metavar="ID", help="A UUIDv7 of your own, for the same.")] = None,
    note: Annotated[str | None, typer.Option("--note", help="What is to be remembered of it.")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Record a transfer. The same one again is given back and changes nothing."""
    moment = moment_of(at, "--at")
    fields: Any = {
        "kind": kind,
        "asset": asset,
        "amount": amount,
        "market": market,
        "executed_at": moment,
        "source": source,
        "source_transfer_id": source_id,
        "id": id,
        "note": note,
    }

    async def work(db: DatabaseConnection, actor: Actor) -> Transfer:
        from novadex.portfolio.transfers import TransferService

        owner = await user_id_of(db, actor, user)
        return await TransferService(db, actor=actor).record(fields, user_id=owner)

    _print(on_instance(data_dir, work), as_json)


def reverse(
    transfer: Annotated[str, typer.Argument(metavar="TRANSFER", help="Id of the transfer.")],
    note: Annotated[str | None, typer.Option("--note", help="Why.")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """Undo a transfer, by a row with the amount negated."""
    _print(_with_service(data_dir, lambda service: service.reverse(transfer, note=note)), as_json)


def list_transfers(  # noqa: PLR0917 - typer takes arguments and options as they stand
    user: Annotated[str, typer.Argument(metavar="USER", help=WHO)],
    kind: Annotated[str | None, typer.Option("--kind", help="Only deposit, withdrawal or funding.")] = None,
    limit: Annotated[int, typer.Option("--limit", help="How many at most.", min=1, max=1_000)] = 100,
    cursor: Annotated[str | None, typer.Option("--cursor", help="The next of the page before this one.")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> None:
    """A page of a user's transfers, the newest first."""

    async def work(db: DatabaseConnection, actor: Actor) -> Any:
        from novadex.portfolio.transfers import TransferService

        owner = await user_id_of(db, actor, user)
        return await TransferService(db, actor=actor).list(owner, kind=kind, limit=limit, cursor=cursor)

    page = on_instance(data_dir, work)
    if as_json:
        print_json(page)
        return
    for transfer in page.items:
        print(_line(transfer))
    if page.next is not None:
        say(f"There are more: --cursor {page.next}")


def _with_service(data_dir: Path | None, call: Callable[[TransferService], Awaitable[Any]]) -> Any:
    async def work(db: DatabaseConnection, actor: Actor) -> Any:
        from novadex.portfolio.transfers import TransferService

        return await call(TransferService(db, actor=actor))

    return on_instance(data_dir, work)


def _print(transfer: Transfer, as_json: bool) -> None:
    if as_json:
        print_json(transfer)
    else:
        print(_line(transfer))


def _line(transfer: Transfer) -> str:
    from novadex.money import plain

    undoes = f", undoes {transfer.reverses}" if transfer.reverses else ""
    return (
        f"{transfer.id}  {transfer.executed_at:%Y-%m-%d %H:%M:%S}  {transfer.kind:<10}"
        f" {plain(transfer.amount)} {transfer.asset}{undoes}"
    )
