"""Answers over HTTP: JSON as msgspec writes it, and errors in the form that the CLI prints too."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec
import structlog
from starlette.exceptions import HTTPException
from starlette.responses import Response

from novadex.errors import (
    AccessError,
    ConflictError,
    NotAuthenticatedError,
    NotFoundError,
    NovaDexError,
    OverloadedError,
    RateLimitedError,
    ReauthenticationNeededError,
    TimeoutExceededError,
    UnavailableError,
    UsageError,
)
from novadex.monitoring.logs import mask_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from starlette.requests import Request

    Handlers = dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]]

RETRY_AFTER_S = 1
STATUS_OF: tuple[tuple[type[NovaDexError], HTTPStatus], ...] = (
    (NotFoundError, HTTPStatus.NOT_FOUND),
    (ConflictError, HTTPStatus.CONFLICT),
    (NotAuthenticatedError, HTTPStatus.UNAUTHORIZED),
    (ReauthenticationNeededError, HTTPStatus.UNAUTHORIZED),
    (AccessError, HTTPStatus.FORBIDDEN),
    (UsageError, HTTPStatus.BAD_REQUEST),
    (OverloadedError, HTTPStatus.TOO_MANY_REQUESTS),
    (RateLimitedError, HTTPStatus.TOO_MANY_REQUESTS),
    (TimeoutExceededError, HTTPStatus.GATEWAY_TIMEOUT),
    (UnavailableError, HTTPStatus.SERVICE_UNAVAILABLE),
)

OF_SERVERS = (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)
FAILED = "The request failed for a reason that is in the server's log."
NO_ANSWER = "A server that this needs does not answer in time."
TRY_AGAIN = (
    "What was sent may or may not have been carried out. Try again; what was sent with an id, with the same id."
)

log = structlog.get_logger("novadex.http")


def json_answer(document: Any, status: int = HTTPStatus.OK, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer that nobody keeps."""
    return Response(
        msgspec.json.encode(document),
        status_code=status,
        media_type="application/json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def documented(model: Any, status: int = HTTPStatus.OK) -> dict[str, Any]:
    """What is documented of an answer; it is written by msgspec."""
    return {"responses": {int(status): {"model": model}}, "status_code": int(status)}


def error_answer(
    status: int,
    code: str,
    message: str,
    *,
    hint: str | None = None,
    retryable: bool = False,
    details: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """``{"error": {code, message, hint, retryable, details}}``."""
    error = {"code": code, "message": message, "hint": hint, "retryable": retryable, "details": details or {}}
    return json_answer({"error": error}, status, headers)


async def answer_known_error(_: Request, error: NovaDexError) -> Response:
    """An error of NovaDex: its code, message and hint. What is of the machines behind it (paths, hosts, roles) is for
    the log alone."""
    status = next((status for kind, status in STATUS_OF if isinstance(error, kind)), HTTPStatus.INTERNAL_SERVER_ERROR)
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("request failed", code=error.code, error=mask_secrets(str(error)))
        return error_answer(status, error.code, FAILED)
    if status in OF_SERVERS and error.__cause__ is not None:  # it says what the server or its driver said
        log.warning("request failed", code=error.code, error=mask_secrets(str(error)))
        return error_answer(
            status, error.code, NO_ANSWER, hint=TRY_AGAIN, retryable=error.retryable, headers=_headers_of(error)
        )
    document = error.as_dict()
    document["message"] = mask_secrets(document["message"])
    document["details"] = {name: mask_secrets(value) for name, value in document["details"].items()}
    return json_answer({"error": document}, status, _headers_of(error))


def _headers_of(error: NovaDexError) -> dict[str, str]:
    if isinstance(error, RateLimitedError):
        return {"Retry-After": str(math.ceil(float(error.details["retry_after_s"])))}
    if error.retryable:
        return {"Retry-After": str(RETRY_AFTER_S)}
    if isinstance(error, ReauthenticationNeededError):  # RFC 9470
        return {"WWW-Authenticate": 'Bearer error="insufficient_user_authentication"'}
    if isinstance(error, NotAuthenticatedError):  # RFC 6750
        return {"WWW-Authenticate": 'Bearer error="invalid_token"'}
    return {}


async def answer_http_error(request: Request, error: HTTPException) -> Response:
    """What routing refuses: an unknown path, another method."""
    hint = "The paths are listed at /api/docs." if error.status_code == HTTPStatus.NOT_FOUND else None
    phrase = HTTPStatus(error.status_code)
    return error_answer(
        error.status_code,
        phrase.name,
        f"{phrase.phrase}: {request.method} {request.url.path[:200]}",
        hint=hint,
        headers=error.headers,
    )


def answer_unknown_error() -> Response:
    """For what nobody foresaw: the answer tells nothing of it."""
    return error_answer(HTTPStatus.INTERNAL_SERVER_ERROR, "INTERNAL", FAILED)


ERROR_HANDLERS: Handlers = {
    NovaDexError: answer_known_error,
    HTTPException: answer_http_error,
}
