"""The API as a program: it starts whatever the servers do, listens, and ends when told to."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.monitoring.venue import RunningProgram, Venue, eventually_now, run_cli
from tests.servers import PASSWORD, free_port

StartProgram = Callable[..., RunningProgram]
STOP_S_MAX = 8.0


def test_it_serves_until_it_is_told_to_stop(venue: Venue, start_program: StartProgram):
    api = start_program("api", venue.environment())
    api.wait_for("/api/health/ready")
    answer = api.ask("/api/health")
    assert answer.status == 200
    assert answer.json()["services"]["main"]["status"] == "healthy"
    assert answer.headers["cache-control"] == "no-store"
    assert "server" not in answer.headers
    assert api.ask("/api/health/live", "HEAD").status == 200
    assert api.ask("/api/health", "HEAD").body == b""
    metrics = api.ask("/api/metrics")
    assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert b'novadex_build_info{program="api"' in metrics.body
    assert api.end() == 0
    assert PASSWORD not in api.log
    for line in api.log.splitlines():
        assert json.loads(line)["program"] == "api"


def test_it_starts_without_its_servers_and_becomes_ready_with_them(venue: Venue, start_program: StartProgram):
    for service in ("main", "analytics", "cache", "sessions"):
        venue.kill(service)
    api = start_program("api", venue.environment())
    api.wait_for("/api/health/live")
    api.wait_for("/api/health", 503)
    api.wait_for("/api/metrics")
    assert api.ask("/api/health/ready").status == 503
    venue.restore()
    api.wait_for("/api/health/ready")
    eventually_now(
        lambda: api.ask("/api/health").json()["services"]["cache"]["status"] == "healthy", "the cache is back"
    )


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_in_time_while_a_database_hangs(venue: Venue, start_program: StartProgram, how: signal.Signals):
    api = start_program("api", venue.environment())
    api.wait_for("/api/health/ready")
    venue.pause("main")
    venue.pause("analytics")
    api.wait_for("/api/health", 503)
    begun = time.monotonic()
    assert api.end(how) == 0
    assert time.monotonic() - begun < STOP_S_MAX


def test_a_port_in_use_is_said(venue: Venue, start_program: StartProgram):
    first = start_program("api", venue.environment())
    first.wait_for("/api/health/live")
    environment = venue.environment() | {"NOVADEX_API_PORT": str(first.port)}
    done = run_cli("api", environment=environment, folder=first.log_file.parent)
    assert done.returncode == 1
    assert str(first.port) in done.stderr
    assert "NOVADEX_API_PORT" in done.stderr
    assert "Traceback" not in done.stderr
    assert PASSWORD not in done.stderr


def test_without_an_instance_it_says_what_to_do(tmp_path: Path):
    done = run_cli("api", environment={"NOVADEX_API_PORT": str(free_port())}, folder=tmp_path)
    assert done.returncode == 1
    assert "novadex up" in done.stderr
    assert "Traceback" not in done.stderr


def test_promtool_accepts_what_a_real_server_sends(venue: Venue, start_program: StartProgram):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    api = start_program("api", venue.environment())
    api.wait_for("/api/health/ready")
    eventually_now(lambda: b"novadex_active_users{" in api.ask("/api/metrics").body, "figures are shown")
    body = api.ask("/api/metrics").body
    checked = subprocess.run([promtool, "check", "metrics"], input=body, capture_output=True, check=False, timeout=60)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
