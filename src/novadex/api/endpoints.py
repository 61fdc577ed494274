"""The endpoints of health and metrics: what the monitor found, at once; no server is asked."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from starlette.requests import Request
from starlette.responses import Response

from novadex.api.answers import json_answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from novadex.monitoring.monitor import Monitor

    Endpoint = Callable[[Request], Awaitable[Response]]

LIVE = b'{"status":"live"}'


def _monitor(request: Request) -> Monitor:
    return request.app.state.monitor


async def health(request: Request) -> Response:
    """The health of every service and of this process. 200 while the main database does its work, even
    where something else does not (`degraded`); 503 without it (`unhealthy`)."""
    report = _monitor(request).report()
    return json_answer(report, HTTPStatus.SERVICE_UNAVAILABLE if report.status == "unhealthy" else HTTPStatus.OK)


async def health_live(_: Request) -> Response:
    """Whether this process runs. It touches nothing else."""
    return Response(LIVE, media_type="application/json", headers={"Cache-Control": "no-store"})


async def health_ready(request: Request) -> Response:
    """Whether requests can be served: the main database answers, takes writes and has the schema of this
    version. 200 or 503."""
    readiness = _monitor(request).readiness()
    return json_answer(readiness, HTTPStatus.OK if readiness.ready else HTTPStatus.SERVICE_UNAVAILABLE)


async def metrics(request: Request) -> Response:
    """The metrics of this process and of the platform, in the text format of Prometheus."""
    return Response(
        _monitor(request).metrics_text(),
        headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4, "Cache-Control": "no-store"},
    )


PATHS: dict[str, Endpoint] = {
    "/api/health": health,
    "/api/health/live": health_live,
    "/api/health/ready": health_ready,
    "/api/metrics": metrics,
}
