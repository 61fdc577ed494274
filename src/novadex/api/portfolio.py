"""The routes of portfolios: holdings, positions, lots, profits, snapshots, transfers, prices of a feed."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter
from starlette.responses import Response

from novadex.api import bodies
from novadex.api.access import Calling, CountedRoute, Db, whose
from novadex.api.answers import documented, json_answer
from novadex.portfolio.records import Closing, Holding, Lot, Position, Snapshot, Transfer
from novadex.portfolio.service import PortfolioService
from novadex.portfolio.transfers import TransferService
from novadex.trading.records import Page

router = APIRouter(prefix="/api", default_response_class=Response, route_class=CountedRoute)


@router.get("/portfolio", tags=["portfolio"], **documented(Snapshot))
async def show_portfolio(
    db: Db, caller: Calling, user_id: str | None = None, at: str | None = None, asset: str | None = None
) -> Response:
    """What the caller, or for staff a user, has and earned, now or at a moment, valued in an asset."""
    portfolios = PortfolioService(db, actor=caller.actor)
    return json_answer(await portfolios.pnl(whose(caller, user_id), at=at, asset=asset))


@router.get("/portfolio/holdings", tags=["portfolio"], **documented(list[Holding]))
async def list_holdings(db: Db, caller: Calling, user_id: str | None = None) -> Response:
    """What is held, by asset, and where it came from."""
    return json_answer(await PortfolioService(db, actor=caller.actor).holdings(whose(caller, user_id)))


@router.get("/portfolio/positions", tags=["portfolio"], **documented(list[Position]))
async def list_positions(db: Db, caller: Calling, user_id: str | None = None) -> Response:
    """What trades come to, by market: quantity, cost, profits, fees and funding."""
    return json_answer(await PortfolioService(db, actor=caller.actor).positions(whose(caller, user_id)))


@router.get("/portfolio/lots", tags=["portfolio"], **documented(Page[Lot]))
async def list_lots(
    market: str,
    db: Db,
    caller: Calling,
    *,
    user_id: str | None = None,
    limit: int = 100,
    cursor: str | None = None,
) -> Response:
    """A page of open lots in a market, in the order in which they will be closed."""
    portfolios = PortfolioService(db, actor=caller.actor)
    return json_answer(await portfolios.lots(whose(caller, user_id), market=market, limit=limit, cursor=cursor))


@router.get("/portfolio/closings", tags=["portfolio"], **documented(Page[Closing]))
async def list_closings(
    market: str,
    db: Db,
    caller: Calling,
    *,
    user_id: str | None = None,
    limit: int = 100,
    cursor: str | None = None,
) -> Response:
    """A page of what was closed in a market, the newest first: which lot, by which trade, what it earned."""
    portfolios = PortfolioService(db, actor=caller.actor)
    return json_answer(await portfolios.closings(whose(caller, user_id), market=market, limit=limit, cursor=cursor))


@router.get("/portfolio/snapshots", tags=["portfolio"], **documented(Page[Snapshot]))
async def list_snapshots(
    db: Db,
    caller: Calling,
    *,
    user_id: str | None = None,
    start: str | None = None,
    end: str | None = None,
    limit: int = 100,
    cursor: str | None = None,
) -> Response:
    """A page of snapshots, the newest first, taken in [start, end)."""
    portfolios = PortfolioService(db, actor=caller.actor)
    return json_answer(
        await portfolios.snapshots(whose(caller, user_id), start=start, end=end, limit=limit, cursor=cursor)
    )


@router.post("/portfolio/snapshots", tags=["portfolio"], **documented(Snapshot, HTTPStatus.CREATED))
async def take_snapshot(body: bodies.SnapshotWanted, db: Db, caller: Calling, user_id: str | None = None) -> Response:
    """Take and keep a snapshot. A moment is taken once: what is there is given back."""
    portfolios = PortfolioService(db, actor=caller.actor)
    taken = await portfolios.take_snapshot(whose(caller, user_id), at=body.at, asset=body.asset)
    return json_answer(taken, HTTPStatus.CREATED)


@router.post("/prices", tags=["portfolio"], status_code=HTTPStatus.NO_CONTENT)
async def record_price(body: bodies.PriceToRecord, db: Db, caller: Calling) -> Response:
    """Record the price of a feed: for operators."""
    await PortfolioService(db, actor=caller.actor).record_price(
        body.market, body.price, observed_at=body.observed_at, source=body.source
    )
    return Response(status_code=HTTPStatus.NO_CONTENT, headers={"Cache-Control": "no-store"})


# Transfers


@router.post("/transfers", tags=["transfers"], **documented(Transfer, HTTPStatus.CREATED))
async def record_transfer(body: bodies.TransferToRecord, db: Db, caller: Calling) -> Response:
    """Record a deposit, a withdrawal or a funding payment: for operators. A retry gives what is there."""
    given = {name: value for name, value in body.model_dump().items() if value is not None}
    transfer = await TransferService(db, actor=caller.actor).record(given)  # pyright: ignore[reportArgumentType]
    return json_answer(transfer, HTTPStatus.CREATED)


@router.get("/transfers", tags=["transfers"], **documented(Page[Transfer]))
async def list_transfers(
    db: Db,
    caller: Calling,
    *,
    user_id: str | None = None,
    kind: str | None = None,
    start: str | None = None,
    end: str | None = None,
    limit: int = 100,
    cursor: str | None = None,
) -> Response:
    """A page of the transfers of the caller, or for staff of a user, the newest first."""
    page = await TransferService(db, actor=caller.actor).list(
        whose(caller, user_id), kind=kind, start=start, end=end, limit=limit, cursor=cursor
    )
    return json_answer(page)


@router.get("/transfers/{transfer_id}", tags=["transfers"], **documented(Transfer))
async def show_transfer(transfer_id: str, db: Db, caller: Calling) -> Response:
    """One transfer."""
    return json_answer(await TransferService(db, actor=caller.actor).get(transfer_id))


@router.post("/transfers/{transfer_id}/reverse", tags=["transfers"], **documented(Transfer, HTTPStatus.CREATED))
async def reverse_transfer(transfer_id: str, body: bodies.Reversal, db: Db, caller: Calling) -> Response:
    """Undo a transfer, by a row with the amount negated: for operators."""
    undone = await TransferService(db, actor=caller.actor).reverse(transfer_id, note=body.note)
    return json_answer(undone, HTTPStatus.CREATED)
