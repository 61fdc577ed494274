"""Every error has one form, tells what to do, and gives nothing away."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import structlog
from fastapi import FastAPI

from novadex.api.app import create_app
from novadex.errors import (
    ConfigurationError,
    ConflictError,
    IntegrityFaultError,
    NotFoundError,
    NovaDexError,
    OverloadedError,
    SignInOffError,
    TimeoutExceededError,
    UnavailableError,
    ValidationError,
)
from novadex.metrics import REGISTRY
from novadex.monitoring.monitor import Monitor

SECRET = "very-secret-value"
URL_WITH_SECRET = f"postgresql://app:{SECRET}@db/novadex_db"

ERRORS: dict[str, tuple[Exception, int]] = {
    "invalid": (
        ValidationError("price must be above 0, got '-1'.", field="price", hint="Send a positive price."),
        400,
    ),
    "missing": (NotFoundError("There is no trade 7."), 404),
    "conflict": (ConflictError("The key is taken."), 409),
    "full": (OverloadedError("The queue is full."), 429),
    "away": (UnavailableError(f"No connection to {URL_WITH_SECRET}.", hint="Wait."), 503),
    "late": (TimeoutExceededError("Too late."), 504),
    "broken": (IntegrityFaultError("Records disagree."), 500),
    "off": (SignInOffError("Signing in is off."), 403),
    "bug": (RuntimeError(f"password={SECRET}"), 500),
}


def caused(error: NovaDexError) -> NovaDexError:
    """As it is raised where a driver said so."""
    error.__cause__ = OSError("refused")
    return error


BEHIND: dict[str, tuple[NovaDexError, int]] = {
    "keys": (ConfigurationError("/srv/keys.json is missing.", hint="Restore /srv/keys.json.", path="/srv"), 500),
    "damage": (IntegrityFaultError("/srv disagrees.", hint="Look at the machine.", host="machine"), 500),
    "refused": (caused(UnavailableError("No connection to main: machine:5432 as novadex_app.", hint="/srv")), 503),
    "slow": (caused(TimeoutExceededError("A lock of novadex_app was not free.", hint="/srv")), 504),
}


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    monitor: Monitor = None  # pyright: ignore[reportAssignmentType] - these routes ask no monitor
    app: FastAPI = create_app(monitor)

    @app.get("/fail/{name}")
    async def fail(name: str) -> Any:
        raise (ERRORS | BEHIND)[name][0]

    @app.get("/number/{value}")
    async def number(value: int) -> int:
        return value

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://novadex") as client:
        yield client


def check_form(answer: httpx.Response) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()) == {"error"}
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "hint", "retryable", "details"}
    assert error["message"]
    assert SECRET not in answer.text
    assert "Traceback" not in answer.text
    return error


@pytest.mark.parametrize("name", ERRORS)
async def test_an_error_has_its_status_and_form(client: httpx.AsyncClient, name: str):
    raised, status = ERRORS[name]
    answer = await client.get(f"/fail/{name}")
    assert answer.status_code == status
    error = check_form(answer)
    if isinstance(raised, NovaDexError):
        assert error["code"] == raised.code
        assert error["hint"] == (raised.hint if status < 500 or raised.retryable else None)
        assert error["retryable"] is raised.retryable
        assert ("retry-after" in answer.headers) is raised.retryable
    else:
        assert error["code"] == "INTERNAL"


@pytest.mark.parametrize("name", BEHIND)
async def test_what_is_of_the_machines_is_logged_and_not_answered(client: httpx.AsyncClient, name: str):
    raised, status = BEHIND[name]
    with structlog.testing.capture_logs() as logs:
        answer = await client.get(f"/fail/{name}")
    assert answer.status_code == status
    error = check_form(answer)
    assert (error["code"], error["retryable"], error["details"]) == (raised.code, raised.retryable, {})
    assert ("retry-after" in answer.headers) is raised.retryable
    assert not re.search("machine|/srv|novadex_app", answer.text)
    [entry] = [entry for entry in logs if entry["event"] == "request failed"]
    assert raised.message in entry["error"]


async def test_what_is_no_fault_is_not_logged_as_one(client: httpx.AsyncClient):
    with structlog.testing.capture_logs() as logs:
        assert (await client.get("/fail/off")).status_code == 403
    assert logs == []


async def test_an_unknown_path_is_not_found(client: httpx.AsyncClient):
    answer = await client.get("/api/nowhere")
    assert answer.status_code == 404
    error = check_form(answer)
    assert error["code"] == "NOT_FOUND"
    assert "/api/docs" in error["hint"]


async def test_another_method_is_not_allowed(client: httpx.AsyncClient):
    answer = await client.post("/api/health")
    assert answer.status_code == 405
    assert check_form(answer)["code"] == "METHOD_NOT_ALLOWED"
    assert "GET" in answer.headers["allow"]


async def test_a_value_of_the_wrong_type_is_named_and_not_repeated(client: httpx.AsyncClient):
    answer = await client.get(f"/number/{SECRET}")
    assert answer.status_code == 400
    error = check_form(answer)
    assert error["code"] == "INVALID_VALUE"
    assert "value" in error["message"]
    assert error["details"]["field"] == "value"
    assert "/api/docs" in error["hint"]


@pytest.mark.parametrize("path", ["/api/health/live", "/api/nowhere", "/fail/bug", "/api/openapi.json"])
async def test_every_answer_has_the_security_headers(client: httpx.AsyncClient, path: str):
    headers = (await client.get(path)).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert "default-src 'none'" in headers["content-security-policy"]


async def test_answers_are_counted_by_route(client: httpx.AsyncClient):
    def count() -> float:
        labels = {"method": "GET", "route": "/number/{value}", "status": "200"}
        return REGISTRY.get_sample_value("novadex_http_responses_total", labels) or 0

    before = count()
    for value in range(3):
        await client.get(f"/number/{value}")
    assert count() == before + 3


async def test_the_documentation_lists_the_endpoints(client: httpx.AsyncClient):
    document = (await client.get("/api/openapi.json")).json()
    assert document["info"]["title"] == "NovaDex"
    assert {"/api/health", "/api/health/live", "/api/health/ready", "/api/metrics"} <= document["paths"].keys()
    assert "HealthReport" in document["components"]["schemas"]
    assert (await client.get("/api/docs")).status_code == 200
