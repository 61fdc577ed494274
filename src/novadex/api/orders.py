"""The routes of orders: one's own, or for staff anybody's."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from novadex.api import bodies
from novadex.api.access import Caller, Calling, CountedRoute, Db
from novadex.api.answers import documented, json_answer
from novadex.trading.orders.records import Order, OrderEvent
from novadex.trading.records import Page
from novadex.trading.service import TradingService

router = APIRouter(prefix="/api/orders", default_response_class=Response, tags=["orders"], route_class=CountedRoute)


def _trading(db: Any, caller: Caller) -> TradingService:
    """The service that all requests share, on the caller's behalf."""
    return db.companion(TradingService).acting_as(caller.actor)


@router.post("", **documented(Order, HTTPStatus.CREATED))
async def place_order(body: bodies.OrderWanted, db: Db, caller: Calling) -> Response:
    """Place an order. With an `id` or a `client_order_id` of the client's own a retry gives the first one."""
    given: Any = body.model_dump(exclude_none=True)
    return json_answer(await _trading(db, caller).place_order(given), HTTPStatus.CREATED)


@router.get("", **documented(Page[Order]))
async def list_orders(
    db: Db,
    caller: Calling,
    *,
    user_id: str | None = None,
    market: str | None = None,
    live: bool = False,
    limit: int = 100,
    cursor: str | None = None,
) -> Response:
    """A page of orders, newest first; `live`: only those that can still be filled."""
    page = await _trading(db, caller).list_orders(
        user_id=user_id, market=market, live=live, limit=limit, cursor=cursor
    )
    return json_answer(page)


@router.delete("")
async def cancel_all_orders(
    db: Db, caller: Calling, user_id: str | None = None, market: str | None = None, reason: str | None = None
) -> Response:
    """Cancel the caller's live orders, in one market where it is named; for staff, a user's. Answers how many."""
    own = caller.actor.user_id
    whose = user_id if user_id is not None or own is None else str(own)
    cancelled = await _trading(db, caller).cancel_all_orders(user_id=whose, market=market, reason=reason)
    return json_answer({"cancelled": cancelled})


@router.get("/{order_id}", **documented(Order))
async def show_order(order_id: str, db: Db, caller: Calling) -> Response:
    """An order as it stands."""
    return json_answer(await _trading(db, caller).get_order(order_id))


@router.get("/{order_id}/events", **documented(Page[OrderEvent]))
async def list_order_events(
    order_id: str, db: Db, caller: Calling, limit: int = 100, cursor: str | None = None
) -> Response:
    """A page of what happened to an order, oldest first."""
    return json_answer(await _trading(db, caller).list_order_events(order_id, limit=limit, cursor=cursor))


@router.patch("/{order_id}", **documented(Order))
async def amend_order(order_id: str, body: bodies.OrderChange, db: Db, caller: Calling) -> Response:
    """Change the quantity or the limit price of a live order."""
    amended = await _trading(db, caller).amend_order(
        order_id, quantity=body.quantity, price=body.price, reason=body.reason
    )
    return json_answer(amended)


@router.delete("/{order_id}", **documented(Order))
async def cancel_order(order_id: str, db: Db, caller: Calling, reason: str | None = None) -> Response:
    """Cancel a live order; one that is cancelled already is answered as it is."""
    return json_answer(await _trading(db, caller).cancel_order(order_id, reason=reason))
