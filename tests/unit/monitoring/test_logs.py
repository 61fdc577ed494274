"""Logs are one JSON object a line, and no secret gets into them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from novadex.monitoring.logs import mask_secrets

SECRET = "hunter2-very-secret"
LOGGING_PROGRAM = f"""
import logging, structlog
from novadex.monitoring.logs import configure_logs
configure_logs("api", "LEVEL")
log = structlog.get_logger("novadex.test")
log.debug("quiet")
log.info("told", number=7, url="postgresql://app:{SECRET}@db/x")
logging.getLogger("some.library").warning("cannot reach %s", "redis://:{SECRET}@cache:6379/0")
try:
    password = "{SECRET}"
    raise ValueError("no connection: password={SECRET} host=db")
except ValueError:
    log.exception("failed")
    logging.getLogger("some.library").exception("failed too")
"""


def lines_of(level: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-c", LOGGING_PROGRAM.replace("LEVEL", level)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == ""
    # The source line of a traceback is shown as it stands in the program; here that line holds the secret.
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_each_line_is_a_json_object_and_shows_no_secret():
    lines = lines_of("info")
    assert [line["event"] for line in lines] == [
        "told",
        "cannot reach redis://***@cache:6379/0",
        "failed",
        "failed too",
    ]
    assert lines[0]["number"] == 7
    assert lines[0]["url"] == "postgresql://***@db/x"
    for line in lines:
        assert line["program"] == "api"
        assert line["level"] in ("info", "warning", "error")
        assert line["timestamp"].endswith("Z")
        assert SECRET not in json.dumps(line)
    assert "ValueError" in lines[2]["exception"]
    assert "ValueError" in lines[3]["exception"]


def test_the_level_chooses_what_is_logged():
    assert lines_of("debug")[0]["event"] == "quiet"
    assert "told" not in [line["event"] for line in lines_of("error")]


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("nothing to hide", "nothing to hide"),
        ("http://127.0.0.1:3000/api/health", "http://127.0.0.1:3000/api/health"),
        (f"redis://:{SECRET}@cache:6379", "redis://***@cache:6379"),
        (f"a postgresql://u:{SECRET}@h/d b rediss://u:{SECRET}@h", "a postgresql://***@h/d b rediss://***@h"),
        (f"host=db password={SECRET} user=x", "host=db password=*** user=x"),
        (f"password = {SECRET}", "password = ***"),
        ("GET /api/users/nds_FFB1rDnekuo4zqMTdXT09PUHPBJ-GcAG-vFBw7NsqMQ?x=1", "GET /api/users/nds_***?x=1"),
        ('{"key":"ndk_3jrNGqhguKscBjVgNtfYwEFlkJs2zL0thAbtDA32Gi0"}', '{"key":"ndk_***"}'),
        ("nds_ and ndk_abcd of a key", "nds_ and ndk_abcd of a key"),
    ],
)
def test_secrets_are_masked_wherever_they_stand(text: str, masked: str):
    assert mask_secrets(text) == masked
