"""The routes of books."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from starlette.responses import Response

from novadex.api.access import CountedRoute, Db
from novadex.api.answers import json_answer
from novadex.book.service import DEPTH_DEFAULT, DEPTH_MAX, BookService

router = APIRouter(prefix="/api", default_response_class=Response, route_class=CountedRoute)


@dataclass(frozen=True, slots=True)
class BookShown:
    """A book: levels as [price, quantity], best first."""

    market: str
    sequence: int
    checksum: int
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]
    source: Literal["orders", "external"]


@router.get("/markets/{symbol:path}/book", tags=["markets"], responses={200: {"model": BookShown}})
async def show_book(
    symbol: str, db: Db, depth: Annotated[int, Query(ge=0, le=DEPTH_MAX)] = DEPTH_DEFAULT
) -> Response:
    """The best levels of a market, such as BTC/USDT; depth 0: all of them. Anybody may see them."""
    book = await BookService(db).get_book(symbol, depth)
    return json_answer(book.as_dict())
