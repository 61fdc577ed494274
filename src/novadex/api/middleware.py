"""What happens to every request: it is timed, what nobody foresaw is logged and answered, and its answer
carries the headers of a careful server."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import structlog
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from novadex import metrics
from novadex.api.access import rate_limit_headers
from novadex.api.answers import answer_unknown_error

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_BYTES_MAX = 65_536
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
SECURITY_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
]
NOTHING_MAY_LOAD = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
DOCS_PATH = "/api/docs"
"""The page of the documentation loads its script and style from elsewhere."""

log = structlog.get_logger("novadex.http")


class WatchRequests:
    """Times each request by its route, answers unforeseen failures, adds the headers of security and rate limits,
    and reads no more than ``BODY_BYTES_MAX``."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 0
        verdicts = scope.setdefault("state", {}).setdefault("verdicts", [])

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                extra = SECURITY_HEADERS if scope["path"] == DOCS_PATH else [*SECURITY_HEADERS, NOTHING_MAY_LOAD]
                extra = [*extra, *rate_limit_headers(verdicts)]
                message = {**message, "headers": [*message.get("headers", []), *extra]}
            await send(message)

        try:
            await self.app(scope, _bounded(scope, receive), send_with_headers)
        except Exception:
            log.exception("request failed", method=scope["method"], route=_route_of(scope))
            if status:
                raise  # the answer is under way already: the connection must end
            await answer_unknown_error()(scope, receive, send_with_headers)
        finally:
            method = scope["method"] if scope["method"] in METHODS else "other"
            route = _route_of(scope)
            metrics.http_request_seconds.labels(method, route).observe(time.perf_counter() - started)
            metrics.http_responses.labels(method, route, str(status)).inc()


def _bounded(scope: Scope, receive: Receive) -> Receive:
    """What is received, until it is too much: by the length that was named, and by what comes."""
    named = Headers(scope=scope).get("content-length", "0")
    too_long = named.isdecimal() and (len(named) > 9 or int(named) > BODY_BYTES_MAX)
    received = 0

    async def receive_some() -> Message:
        nonlocal received
        message = await receive() if not too_long else {}
        received += len(message.get("body", b""))
        if too_long or received > BODY_BYTES_MAX:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        return message

    return receive_some


def _route_of(scope: Any) -> str:
    """The template of the path, so that there are as many names as routes."""
    route = scope.get("route")
    return getattr(route, "path", "unknown")
