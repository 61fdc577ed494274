"""The HTTP API."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from novadex.api import books, endpoints, liquidity, notifications, orders, people, portfolio
from novadex.api.access import Access
from novadex.api.answers import ERROR_HANDLERS, error_answer
from novadex.api.middleware import DOCS_PATH, WatchRequests
from novadex.monitoring.monitor import HealthReport, Readiness
from novadex.monitoring.process import VERSION

if TYPE_CHECKING:
    from novadex.monitoring.monitor import Monitor
    from novadex.storage.connection import DatabaseConnection

PROBLEMS_MAX = 10
DESCRIPTION = "The data backend of a trading venue: exact records, and analytics that always agree with them."


async def answer_invalid_request(_: Request, error: RequestValidationError) -> Response:
    """A request whose values are wrong: which, and why, without repeating them."""
    problems = error.errors()[:PROBLEMS_MAX]
    texts = [f"{'.'.join(str(part)[:40] for part in problem['loc'])}: {problem['msg'][:200]}" for problem in problems]
    field = problems[0]["loc"][-1]
    hint = "/api/docs says what is taken."
    if any(problem["type"] == "string_type" for problem in problems):
        hint = 'Amounts and prices are texts, so that they are exact: "0.5".'
    return error_answer(
        HTTPStatus.BAD_REQUEST,
        "INVALID_VALUE",
        "; ".join(texts) + ".",
        hint=hint,
        details={"field": field[:40]} if isinstance(field, str) else None,
    )


def create_app(monitor: Monitor, db: DatabaseConnection | None = None) -> FastAPI:
    """The API over a monitor, which the program runs; without ``db`` there is nothing but monitoring."""
    app = FastAPI(
        title="NovaDex",
        version=VERSION,
        description=DESCRIPTION,
        docs_url=DOCS_PATH,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        middleware=[Middleware(WatchRequests)],
        exception_handlers=ERROR_HANDLERS | {RequestValidationError: answer_invalid_request},
    )
    app.state.monitor = monitor
    _add_monitoring(app)
    if db is not None:
        app.state.db = db
        app.state.access = Access(db)
        for routes in (people, orders, books, portfolio, liquidity, notifications):
            app.include_router(routes.router)
    return app


def _add_monitoring(app: FastAPI) -> None:
    documented: dict[str, dict[int | str, dict[str, Any]]] = {
        "/api/health": {
            200: {"model": HealthReport, "description": "healthy or degraded"},
            503: {"model": HealthReport, "description": "unhealthy"},
        },
        "/api/health/live": {200: {"content": {"application/json": {"example": {"status": "live"}}}}},
        "/api/health/ready": {
            200: {"model": Readiness, "description": "ready"},
            503: {"model": Readiness, "description": "not ready"},
        },
        "/api/metrics": {200: {"content": {"text/plain": {}}, "description": "Prometheus text format"}},
    }
    for path, endpoint in endpoints.PATHS.items():
        app.add_api_route(
            path,
            endpoint,
            methods=["GET"],
            tags=["monitoring"],
            responses=documented[path],
            response_class=Response,
        )
        app.add_route(path, endpoint, methods=["HEAD"], include_in_schema=False)
