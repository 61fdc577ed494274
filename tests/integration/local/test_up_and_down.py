"""`novadex up`, `down` and `status`: what they start, say, and leave."""

import itertools
import json
import os
import signal
import socket
import stat
from contextlib import ExitStack, closing

import httpx
import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from novadex.local.ports import is_free
from tests.integration.local.running import SERVERS, SERVICES, Local, wait_for

WELL_KNOWN_PORTS = (5432, 5433, 6379, 6380, 3000, 3002)


def test_what_was_stopped_starts_again(shared_local):
    """How fast, cold and warm, is measured by ``make bench``."""
    shared_local.down()
    assert shared_local.processes() == []
    shared_local.up()
    found = shared_local.status()
    assert found["running"]
    assert {name: s["status"] for name, s in found["services"].items()} == dict.fromkeys(SERVICES, "healthy")


def test_every_url_of_status_can_be_used(shared):
    with psycopg.connect(shared.url("main")) as connection:
        assert connection.execute("SELECT count(*) FROM trades").fetchone() == (0,)
    with psycopg.connect(shared.url("analytics")) as connection:
        assert connection.execute("SELECT count(*) FROM trading_analytics").fetchone() == (0,)
    for name in ("cache", "sessions"):
        with closing(redis.Redis.from_url(shared.url(name))) as client:
            assert client.ping()
    assert httpx.get(shared.url("api") + "/api/health/live", timeout=5).status_code == 200


def test_status_names_every_service_with_its_process_and_url(shared):
    found = json.loads(shared.run("status", "--json").stdout)
    assert set(found) >= {"services", "data_dir", "supervisor", "running"}
    for name in SERVICES:
        service = found["services"][name]
        assert set(service) >= {"status", "pid", "url", "port", "detail"}
        assert os.kill(service["pid"], 0) is None
        assert str(service["port"]) in service["url"]


def test_status_for_people_shows_no_password(shared):
    secrets = shared.state()["passwords"].values()
    shown = shared.run("status").stdout
    assert all(name in shown for name in SERVICES)
    assert not any(secret in shown for secret in secrets)


def test_the_state_file_and_the_servers_files_are_private(shared):
    state = shared.data_dir / "instance.json"
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    for name in (*SERVERS, "logs", "run"):
        assert stat.S_IMODE((shared.data_dir / name).stat().st_mode) == 0o700


def test_passwords_stand_in_no_command_line_and_in_no_log(shared):
    secrets = shared.state()["passwords"].values()
    lines = [" ".join(process.cmdline()) for process in shared.processes()]
    lines += [log.read_text() for log in (shared.data_dir / "logs").glob("*.log")]
    lines += [(shared.data_dir / "supervisor.log").read_text()]
    assert len(lines) > len(SERVICES)
    assert not any(secret in line for line in lines for secret in secrets)


@pytest.mark.parametrize("name", ["main", "analytics"])
def test_the_databases_are_durable_and_ready_for_backups(shared, name):
    port, password = shared.status()["services"][name]["port"], shared.state()["passwords"]["superuser"]
    with psycopg.connect(host="127.0.0.1", port=port, user="postgres", password=password) as connection:

        def shown(setting):
            row = connection.execute("SELECT current_setting(%s)", (setting,)).fetchone()
            return row and row[0]

        for setting in ("fsync", "full_page_writes", "synchronous_commit", "data_checksums", "summarize_wal"):
            assert shown(setting) == "on", setting
        assert shown("wal_level") == "replica"
        assert shown("max_wal_senders") == "10"
        assert shown("listen_addresses") == "127.0.0.1"
        assert shown("unix_socket_directories") == ""
        assert shown("password_encryption") == "scram-sha-256"
        assert shown("TimeZone") == "UTC"
        roles = "SELECT bool_or(rolsuper), bool_or(rolcreaterole) FROM pg_roles WHERE rolname LIKE 'novadex%'"
        assert connection.execute(roles).fetchone() == (False, False)


@pytest.mark.parametrize("password", ["", "wrong"])
@pytest.mark.parametrize("user", ["postgres", "novadex_owner", "novadex_app"])
def test_a_database_lets_nobody_in_without_the_password(shared, user, password):
    port = shared.status()["services"]["main"]["port"]
    with pytest.raises(psycopg.OperationalError, match=r"no password supplied|password authentication failed"):
        psycopg.connect(host="127.0.0.1", port=port, user=user, dbname="novadex_db", password=password or None)


@pytest.mark.parametrize("name", ["cache", "sessions"])
def test_a_valkey_lets_nobody_in_without_the_password(shared, name):
    port = shared.status()["services"][name]["port"]
    with (
        closing(redis.Redis(port=port, retry=Retry(NoBackoff(), 0))) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()


def test_the_session_server_forgets_nothing_and_the_cache_may(shared):
    wanted = {"sessions": ("yes", "noeviction"), "cache": ("no", "allkeys-lru")}
    for name, (appendonly, policy) in wanted.items():
        with closing(redis.Redis.from_url(shared.url(name), decode_responses=True)) as client:
            shown = client.config_get("appendonly", "maxmemory-policy", "maxmemory")
        assert (shown["appendonly"], shown["maxmemory-policy"]) == (appendonly, policy)
        assert int(shown["maxmemory"] or 0) > 0


def test_every_role_can_log_in(shared):
    service = shared.status()["services"]["main"]
    passwords = shared.state()["passwords"]
    for role in ("owner", "app", "worker", "readonly", "backup"):
        with psycopg.connect(
            host="127.0.0.1",
            port=service["port"],
            user=f"novadex_{role}",
            password=passwords[role],
            dbname="novadex_db",
        ) as connection:
            assert connection.execute("SELECT current_user").fetchone() == (f"novadex_{role}",)


def test_health_may_see_the_sessions_of_every_role(shared):
    service, passwords = shared.status()["services"]["main"], shared.state()["passwords"]
    with psycopg.connect(
        host="127.0.0.1", port=service["port"], user="novadex_app", password=passwords["app"], dbname="novadex_db"
    ) as connection:
        hidden = "SELECT count(*) FROM pg_stat_activity WHERE query = '<insufficient privilege>'"
        assert connection.execute(hidden).fetchone() == (0,)


@pytest.mark.parametrize("arguments", [("up",), ("up", "--detach")])
def test_a_second_up_says_what_runs_already(shared, arguments):
    before = shared.pids()
    said = shared.run(*arguments).stderr
    assert "NovaDex runs in" in said
    assert str(shared.status()["supervisor"]) in said
    assert all(name in said for name in SERVICES)
    assert shared.pids() == before


def test_two_ups_at_the_same_moment_start_one_instance(local):
    both = [local.start("up", "--detach") for _ in range(2)]
    outputs = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    supervisors = [p for p in local.processes() if "novadex.local" in p.cmdline()]
    assert [p.pid for p in supervisors] == [local.status()["supervisor"]]
    assert sum("NovaDex is up after" in errors for _, errors in outputs) == 1


def test_with_all_ports_taken_up_uses_others_says_which_and_ends_with_ctrl_c(local):
    taken = set()
    with ExitStack() as stack:
        for port in WELL_KNOWN_PORTS:
            if is_free(port):  # else another instance has it, for now
                listener = stack.enter_context(socket.socket())
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(("127.0.0.1", port))
                listener.listen()
                taken.add(port)
        command = local.start("up")
        assert command.stderr is not None
        said = list(itertools.takewhile(lambda line: "Everything is up" not in line, command.stderr))
        found = local.status()["services"]
        assert {service["status"] for service in found.values()} == {"healthy"}
        used = {service["port"] for service in found.values()}
        assert used.isdisjoint(taken)
        assert len(used) == len(SERVICES)
        assert all(any(str(port) in line for line in said) for port in used)
        command.send_signal(signal.SIGINT)
        _, errors = command.communicate(timeout=60)
    assert command.returncode == 0, errors
    assert "NovaDex is stopped" in errors
    assert local.processes() == []


def _a_cluster_is_being_made(local: Local) -> bool:
    return any(process.name() == "initdb" for process in local.processes())


def _the_databases_start(local: Local) -> bool:
    return {"main", "analytics"} <= set(local.pids())


def _the_api_starts(local: Local) -> bool:
    return "api" in local.pids()


@pytest.mark.parametrize(
    ("arguments", "moment"),
    [
        (("up",), _a_cluster_is_being_made),
        (("up",), _the_databases_start),
        (("up",), _the_api_starts),
        (("up", "--detach"), _the_databases_start),
    ],
)
def test_ctrl_c_during_the_start_leaves_nothing(local, arguments, moment):
    command = local.start(*arguments)
    wait_for(lambda: moment(local), moment.__name__, 60)
    command.send_signal(signal.SIGINT)
    _, errors = command.communicate(timeout=60)
    assert command.returncode in (0, 130), errors
    assert local.processes() == []
    assert {s["status"] for s in local.status()["services"].values()} == {"stopped"}


def test_down_where_nothing_runs_says_so(local):
    assert "Nothing of NovaDex was running" in local.down()
    assert not local.data_dir.exists(), "looking at a folder does not make it"


def test_status_where_there_is_no_instance_says_how_to_start_one(local):
    assert "novadex up --data-dir" in local.run("status").stdout
    assert json.loads(local.run("status", "--json").stdout)["running"] is False


def test_after_down_the_instance_is_known_to_be_stopped(shared):
    shared.down()
    found = shared.status()
    assert {s["status"] for s in found["services"].values()} == {"stopped"}
    assert {s["pid"] for s in found["services"].values()} == {None}
    assert {s["url"] for s in found["services"].values()} == {None}


def test_a_start_that_fails_shows_the_log_and_leaves_nothing(shared):
    shared.down()
    settings = shared.data_dir / "main" / "postgresql.conf"
    before = settings.read_text()
    settings.write_text(before + "no_such_setting = 1\n")
    try:
        failed = shared.run("up", "--detach", code=1)
        assert "no_such_setting" in failed.stderr, "the last lines of the log"
        assert str(shared.data_dir / "logs" / "main.log") in failed.stderr
        shared.wait_until_nothing_is_left()
        assert shared.status()["services"]["main"]["status"] == "failed"
    finally:
        settings.write_text(before)
    shared.up()


def test_the_supervisor_says_on_a_pipe_what_it_did_and_json_is_alone_on_standard_output(shared):
    done = shared.run("status", "--json")
    assert json.loads(done.stdout)["running"]
    assert done.stderr == ""
    assert shared.run("up", "--detach").stdout == ""
