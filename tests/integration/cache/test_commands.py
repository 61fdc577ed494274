"""``novadex cache``: stats, flush and rebuild on real servers."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from novadex.cache.cache import Caches
from novadex.keys.master_key_file import FILE_NAME
from novadex.sessions.service import SessionService
from novadex.users.service import UserService
from tests.forked import command_line
from tests.servers import PASSWORD
from tests.waiting import until

PEOPLE = 5
Run = Callable[..., Any]


@pytest.fixture
def run(fresh_databases, cache_url, sessions_url, tmp_path: Path) -> Run:
    """``run("stats")``: the JSON of a command; ``code`` is its exit code, ``environment`` what is other."""

    def run(*arguments: str, code: int = 0, as_json: bool = True, **environment: str) -> Any:
        done = subprocess.run(
            [*command_line(), "cache", *arguments, *(["--json"] if as_json else [])],
            env={
                **os.environ,
                "HOME": str(tmp_path),
                "DATABASE_URL": fresh_databases.main_url(),
                "ANALYTICS_DATABASE_URL": fresh_databases.analytics_url(),
                "REDIS_URL": cache_url,
                "REDIS_SESSION_URL": sessions_url,
                "NOVADEX_MASTER_KEY_FILE": str(fresh_databases.data_dir / FILE_NAME),
                **environment,
            },
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, f"{done.returncode}: {done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        assert PASSWORD not in done.stdout + done.stderr
        return json.loads(done.stdout) if as_json else done.stdout + done.stderr

    return run


@pytest.fixture
async def tokens(fresh_databases, cache_url, sessions_url) -> list[str]:
    """The tokens of five people who have signed in, and were read."""
    tokens = []
    async with fresh_databases.connection(cache=cache_url, sessions=sessions_url) as db:
        for number in range(PEOPLE):
            user = await UserService(db).create_user(username=f"user{number}", email=f"user{number}@example.com")
            tokens.append((await SessionService(db).create(user.id)).token)
        for token in tokens:
            await SessionService(db).validate(token)
    return tokens


def keys(url: str) -> int:
    with redis.Redis.from_url(url) as client:
        return int(str(client.dbsize()))


def test_stats_count_keys_by_namespace_and_say_how_the_servers_are(run, tokens, cache_url):
    with redis.Redis.from_url(cache_url) as client:
        client.set("somebody:else", "x")
        client.set("novadex:rate:address:x", "x")
        client.set("novadex:another-life:user:x", "x")
    found = run("stats")
    cache, sessions = found["servers"]
    assert cache["keys"] == {"user": PEOPLE, "roles": 1, "rate": 1, "(others)": 2}
    assert sessions["keys"] == {"session": PEOPLE}
    for server in (cache, sessions):
        assert server["memory_bytes"] > 100_000
        assert server["memory_bytes_max"] == 256 * 1024**2
        assert server["hits"] >= 0
        assert server["misses"] > 0
        assert server["evicted_keys"] == 0
        assert server["uptime_s"] >= 0
        assert server["all_keys_counted"]
        assert server["warning"] is None
    assert "novadex_cache_reads_total" in found["hit_rates_by_namespace"]
    text = run("stats", as_json=False)
    assert "5  session" in text
    assert "novadex_cache_reads_total" in text


def test_stats_of_a_server_that_is_away_name_it_and_fail(run, tokens):
    found = run("stats", code=1, REDIS_URL="redis://:pw@127.0.0.1:1/0")
    assert found["servers"][0]["address"] == "127.0.0.1:1"
    assert found["servers"][0]["error"]["code"] == "UNAVAILABLE"
    assert found["servers"][1]["keys"] == {"session": PEOPLE}


def test_flush_takes_out_what_is_ours_and_nothing_else(run, tokens, cache_url, sessions_url):
    with redis.Redis.from_url(cache_url) as client:
        client.set("somebody:else", "x")
        client.set("novadex:rate:address:x", "x")
    assert run("flush") == {"removed": {"cache": PEOPLE + 1}}
    assert keys(cache_url) == 2
    assert keys(sessions_url) == PEOPLE
    assert run("flush") == {"removed": {"cache": 0}}


async def test_flush_of_sessions_wants_a_yes_and_signs_nobody_out(
    run, tokens, cache_url, sessions_url, fresh_databases
):
    assert run("flush", "--sessions", code=2)["error"]["code"] == "USAGE"
    assert keys(sessions_url) == PEOPLE
    assert run("flush", "--sessions", "--yes") == {"removed": {"cache": PEOPLE + 1, "sessions": PEOPLE}}
    assert keys(sessions_url) == 0
    async with fresh_databases.connection(cache=cache_url, sessions=sessions_url) as db:
        for token in tokens:
            await SessionService(db).validate(token)
        [entry] = await db.query("SELECT actor, detail FROM audit_log WHERE action = 'cache.flushed'")
        assert (entry.actor, entry.detail["servers"]) == ("program:cli", ["cache", "sessions"])


async def test_rebuild_fills_what_processes_that_are_connected_then_find(
    run, tokens, cache_url, sessions_url, fresh_databases
):
    async with fresh_databases.connection(cache=cache_url, sessions=sessions_url) as db:
        service = SessionService(db)
        await service.revoke_token(tokens[4])
        await service.validate(tokens[0])  # it is connected
        for url in (cache_url, sessions_url):
            with redis.Redis.from_url(url) as client:
                client.flushall()
        report = await asyncio.to_thread(run, "rebuild")  # this process listens meanwhile
        assert report["sessions"]["read"] == PEOPLE - 1
        assert report["users"]["read"] == PEOPLE - 1
        assert (report["sessions"]["kept"], report["users"]["kept"]) == (PEOPLE - 1, PEOPLE - 1)
        assert keys(sessions_url) == PEOPLE - 1
        counts = service._store.cache.counts
        before = counts.l2, counts.loaded
        await until(db.companion(Caches).feed.confirm)
        for token in tokens[1:4]:
            await service.validate(token)
        assert (counts.l2 - before[0], counts.loaded - before[1]) == (3, 0)


def test_rebuild_reads_no_more_than_it_is_told(run, tokens, cache_url, sessions_url):
    run("flush", "--sessions", "--yes")
    report = run("rebuild", "--sessions-max", "2", "--users-max", "0")
    assert (report["sessions"]["read"], report["users"]["read"]) == (2, 0)
    assert keys(sessions_url) == 2
    assert "2 read and 2 kept in" in run("rebuild", "--sessions-max", "2", as_json=False)


def test_rebuild_says_how_much_a_full_server_kept(run, tokens, make_valkey):
    server = make_valkey()
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", 1)
        client.config_set("maxmemory-policy", "noeviction")
    report = run("rebuild", "--users-max", "0", REDIS_SESSION_URL=server.url)
    assert (report["sessions"]["read"], report["sessions"]["kept"]) == (PEOPLE, 0)


def test_rebuild_without_the_server_says_so(run, tokens):
    answer = run("rebuild", code=1, REDIS_SESSION_URL="redis://:pw@127.0.0.1:1/0")
    assert answer["error"]["code"] == "UNAVAILABLE"
    assert "sessions server does not answer" in answer["error"]["message"]
    answer = run("rebuild", code=1, NOVADEX_PGBOUNCER="true")
    assert "DATABASE_LISTEN_URL" in answer["error"]["message"]


def test_without_urls_each_command_names_the_missing_setting(run):
    assert "REDIS_URL" in run("flush", code=1, REDIS_URL="")["error"]["hint"]
