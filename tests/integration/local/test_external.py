"""Servers of somebody else, named by URLs: migrated and used, not started, and missed with a clear word."""

import threading
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest

from novadex.errors import UnavailableError
from novadex.local import external
from novadex.local.external import ExternalServer
from tests.integration.local.running import Local, wait_for


def _with(local: Local, **environment: str) -> Local:
    return Local(local.data_dir, environment)


def test_servers_with_a_url_are_used_and_the_others_started(make_local, postgres, cache_url):
    name = postgres.make_database("external_main", owner="novadex_owner")
    owner_url = postgres.url(name, "novadex_owner")
    local = make_local()
    set_so = _with(
        local,
        DATABASE_URL=postgres.url(name, "novadex_app"),
        DATABASE_OWNER_URL=owner_url,
        REDIS_URL=cache_url,
    )
    set_so.up()
    found = set_so.status()["services"]
    assert {name: service["status"] for name, service in found.items()} == {
        "main": "external",
        "cache": "external",
        "analytics": "healthy",
        "sessions": "healthy",
        "api": "healthy",
        "worker": "healthy",
    }
    assert found["main"]["pid"] is None
    assert found["main"]["url"] == postgres.url(name, "novadex_app")
    with psycopg.connect(owner_url) as connection:
        assert connection.execute("SELECT count(*) FROM trades").fetchone() == (0,)

    def health():
        return httpx.get(found["api"]["url"] + "/api/health", timeout=5).status_code == 200

    wait_for(health, "the API's health on the external servers")
    local.remove()
    postgres.drop_database(name)


def test_an_external_server_that_does_not_answer_is_named_without_its_password(local):
    url = "postgresql://somebody:hidden-password@127.0.0.1:1/novadex_db"
    said = _with(local, DATABASE_URL=url).run("up", "--detach", code=1).stderr
    assert "DATABASE_URL" in said
    assert "127.0.0.1:1" in said
    assert "hidden-password" not in said
    local.wait_until_nothing_is_left()


def test_an_external_redis_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.setattr(external, "REACH_S_MAX", 0.0)
    server = ExternalServer("sessions", "REDIS_SESSION_URL", "redis://:hidden-password@127.0.0.1:1/0")
    with pytest.raises(UnavailableError, match=r"REDIS_SESSION_URL at 127\.0\.0\.1:1") as raised:
        server.reach(threading.Event())
    assert "hidden-password" not in str(raised.value)
    assert "hidden-password" not in repr(server)


@pytest.mark.parametrize("scheme", ["redis", "valkey"])
def test_an_external_redis_is_reached_by_either_scheme(cache_url, scheme):
    server = ExternalServer("cache", "REDIS_URL", cache_url.replace("redis://", f"{scheme}://"))
    server.reach(threading.Event())


def test_an_external_redis_that_refuses_the_password_says_so(cache_url):
    parts = urlsplit(cache_url)
    server = ExternalServer("cache", "REDIS_URL", f"redis://:wrong@{parts.hostname}:{parts.port}/0")
    assert server.complaint() == "it refuses the password"
