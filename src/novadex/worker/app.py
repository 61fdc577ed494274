"""What the worker shows over HTTP: its health and metrics, by the endpoints of the API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from novadex.api import endpoints
from novadex.api.answers import ERROR_HANDLERS
from novadex.api.middleware import WatchRequests

if TYPE_CHECKING:
    from novadex.monitoring.monitor import Monitor


def create_app(monitor: Monitor) -> Starlette:
    """The endpoints over a monitor, which the program runs."""
    app = Starlette(
        routes=[Route(path, endpoint) for path, endpoint in endpoints.PATHS.items()],
        middleware=[Middleware(WatchRequests)],
        exception_handlers=ERROR_HANDLERS,
    )
    app.state.monitor = monitor
    return app
