"""The routes of liquidity: pools, positions in them, what they are worth. Whole numbers of a chain are strings."""

from __future__ import annotations

from dataclasses import asdict
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from novadex.api import bodies
from novadex.api.access import Calling, CountedRoute, Db, whose
from novadex.api.answers import documented, json_answer
from novadex.liquidity.records import LiquidityEvent, LiquidityPosition, LiquidityValue, Pool, PoolSnapshot
from novadex.liquidity.service import LiquidityService
from novadex.trading.records import Page

router = APIRouter(prefix="/api", default_response_class=Response, route_class=CountedRoute)
COUNTED = frozenset({"liquidity", "net_amount0", "net_amount1", "in_amount0", "in_amount1"})
"""Fields of up to 256 bits, of which a JSON number keeps 53."""


def _shown(record: Any) -> dict[str, Any]:
    return {name: str(value) if name in COUNTED else value for name, value in asdict(record).items()}


def _page(page: Page[Any]) -> Page[dict[str, Any]]:
    return Page([_shown(item) for item in page.items], page.next)


@router.get("/pools", tags=["liquidity"], **documented(Page[Pool]))
async def list_pools(
    db: Db, caller: Calling, market: str | None = None, limit: int = 100, cursor: str | None = None
) -> Response:
    """A page of pools, by address."""
    pools = LiquidityService(db, actor=caller.actor).pools
    return json_answer(await pools.list(market=market, after=cursor, limit=limit))


@router.post("/pools", tags=["liquidity"], **documented(Pool, HTTPStatus.CREATED))
async def add_pool(body: bodies.PoolToAdd, db: Db, caller: Calling) -> Response:
    """Add a pool: for operators."""
    pools = LiquidityService(db, actor=caller.actor).pools
    return json_answer(await pools.add(**body.model_dump()), HTTPStatus.CREATED)


@router.post("/pools/{address}/snapshots", tags=["liquidity"], **documented(PoolSnapshot, HTTPStatus.CREATED))
async def record_pool_snapshot(address: str, body: bodies.PoolStateToRecord, db: Db, caller: Calling) -> Response:
    """Record how a constant product stands: for operators. A retry gives what is there."""
    fields: dict[str, Any] = body.model_dump() | {"liquidity": int(body.liquidity)}
    taken = await LiquidityService(db, actor=caller.actor).record_snapshot(address, **fields)
    return json_answer(_shown(taken), HTTPStatus.CREATED)


@router.get("/pools/{address}/snapshots", tags=["liquidity"], **documented(Page[PoolSnapshot]))
async def list_pool_snapshots(
    address: str,
    db: Db,
    caller: Calling,
    *,
    start: str | None = None,
    end: str | None = None,
    limit: int = 100,
    cursor: str | None = None,
) -> Response:
    """A page of what a pool did, the newest first, in [start, end)."""
    liquidity = LiquidityService(db, actor=caller.actor)
    return json_answer(_page(await liquidity.snapshots(address, start=start, end=end, limit=limit, cursor=cursor)))


@router.post("/liquidity/positions", tags=["liquidity"], **documented(LiquidityPosition, HTTPStatus.CREATED))
async def open_position(body: bodies.PositionToOpen, db: Db, caller: Calling) -> Response:
    """Record that a user opened a position: for operators. A retry gives what is there."""
    fields: dict[str, Any] = body.model_dump() | {"liquidity": int(body.liquidity)}
    position = await LiquidityService(db, actor=caller.actor).open(fields.pop("user_id"), **fields)
    return json_answer(_shown(position), HTTPStatus.CREATED)


@router.get("/liquidity/positions", tags=["liquidity"], **documented(Page[LiquidityPosition]))
async def list_positions(
    db: Db,
    caller: Calling,
    *,
    user_id: str | None = None,
    status: str | None = None,
    limit: int = 100,
    cursor: str | None = None,
) -> Response:
    """A page of the positions of the caller, or for staff of a user, the newest first."""
    liquidity = LiquidityService(db, actor=caller.actor)
    page = await liquidity.list(whose(caller, user_id), status=status, limit=limit, cursor=cursor)
    return json_answer(_page(page))


@router.get("/liquidity/positions/{position_id}", tags=["liquidity"], **documented(LiquidityPosition))
async def show_position(position_id: str, db: Db, caller: Calling) -> Response:
    """One position."""
    return json_answer(_shown(await LiquidityService(db, actor=caller.actor).get(position_id)))


@router.get("/liquidity/positions/{position_id}/value", tags=["liquidity"], **documented(LiquidityValue))
async def value_position(position_id: str, db: Db, caller: Calling, at: str | None = None) -> Response:
    """What a position is worth, what it earned, and what holding would have been worth."""
    return json_answer(await LiquidityService(db, actor=caller.actor).value(position_id, at=at))


@router.get("/liquidity/positions/{position_id}/events", tags=["liquidity"], **documented(Page[LiquidityEvent]))
async def list_events(
    position_id: str, db: Db, caller: Calling, limit: int = 100, cursor: str | None = None
) -> Response:
    """A page of what happened to a position, in order."""
    liquidity = LiquidityService(db, actor=caller.actor)
    return json_answer(_page(await liquidity.events(position_id, limit=limit, cursor=cursor)))


@router.post(
    "/liquidity/positions/{position_id}/events",
    tags=["liquidity"],
    **documented(LiquidityPosition, HTTPStatus.CREATED),
)
async def record_event(position_id: str, body: bodies.PositionEvent, db: Db, caller: Calling) -> Response:
    """Record what happened to a position: for operators. A retry gives what is there."""
    liquidity = LiquidityService(db, actor=caller.actor)
    fields = body.model_dump()
    amounts = {name: fields[name] for name in ("base_amount", "quote_amount")}
    fees = {name: fields[name] for name in ("base_fees", "quote_fees")}
    event = {name: fields[name] for name in ("id", "executed_at", "sequence", "source", "source_event_id")}
    if body.type == "increased":
        position = await liquidity.increase(position_id, liquidity=int(body.liquidity), **amounts, **event)
    elif body.type == "decreased":
        position = await liquidity.decrease(position_id, liquidity=int(body.liquidity), **amounts, **fees, **event)
    elif body.type == "collected":
        position = await liquidity.collect(position_id, **fees, **event)
    else:
        position = await liquidity.close_position(position_id, **amounts, **fees, **event)
    return json_answer(_shown(position), HTTPStatus.CREATED)
