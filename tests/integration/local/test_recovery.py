"""SIGKILL of anything: the supervisor, or the next command, recovers, and nothing is left behind."""

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import psycopg
import pytest
import redis

from novadex.local.ports import is_free
from tests.integration.local.running import SERVERS, SERVICES, Local, is_root, kill, lives, wait_for


@pytest.mark.parametrize("name", SERVICES)
def test_a_killed_service_is_started_again_at_its_address(shared, name):
    before = shared.state()
    kill(shared.pids()[name])
    shared.await_recovery({name: before["services"][name]["process"]["pid"]})
    after = shared.state()
    assert after["supervisor"] == before["supervisor"]
    assert after["services"][name]["url"] == before["services"][name]["url"]
    others = [other for other in SERVICES if other != name]
    assert all(after["services"][o]["process"] == before["services"][o]["process"] for o in others)


def test_everything_killed_at_once_comes_back_with_its_data(shared):
    with psycopg.connect(shared.url("main"), autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (n int)")
        connection.execute("INSERT INTO kept VALUES (1)")
    pids = shared.pids()
    for pid in pids.values():
        kill(pid)
    shared.await_recovery(pids)
    with psycopg.connect(shared.url("main"), autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (1,)
        connection.execute("DROP TABLE kept")


@contextmanager
def _busy_session(url: str) -> Iterator[int]:
    """A statement that does not notice when its server dies, and the process that computes it."""
    with suppress(psycopg.OperationalError), psycopg.connect(url, autocommit=True) as connection:

        def compute() -> None:
            with suppress(psycopg.Error):
                connection.execute("SELECT count(*) FROM generate_series(1, 1000000000000)")

        thread = threading.Thread(target=compute)
        thread.start()
        yield connection.info.backend_pid
        thread.join(30)


def test_a_busy_session_of_a_killed_postgresql_is_gone_before_it_starts_again(shared):
    pid = shared.pids()["main"]
    with _busy_session(shared.url("main")) as backend:
        kill(pid)
        shared.await_recovery({"main": pid})
        assert not lives(backend)


def test_a_killed_session_does_not_end_the_server(shared):
    pid = shared.pids()["main"]
    with psycopg.connect(shared.url("main"), autocommit=True) as connection:
        kill(connection.info.backend_pid)

    def answers() -> bool:
        with suppress(psycopg.OperationalError), psycopg.connect(shared.url("main")) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)
        return False

    wait_for(answers, "answer after the crash of a session")
    assert shared.pids()["main"] == pid


def test_after_a_killed_supervisor_status_tells_the_truth_and_up_recovers(shared):
    before = shared.state()
    kill(before["supervisor"]["pid"])
    wait_for(lambda: not shared.running(), "the supervisor's end")
    cache = before["services"]["cache"]["process"]["pid"]
    kill(cache)
    wait_for(lambda: not lives(cache), "the cache's end")
    found = shared.status()
    assert found["running"] is False
    assert found["services"]["main"]["detail"] == "runs without a supervisor"
    assert found["services"]["cache"]["status"] == "stopped"
    assert found["services"]["cache"]["pid"] is None
    shared.up()
    after = shared.state()
    assert {s["status"] for s in after["services"].values()} == {"healthy"}
    old = {s["process"]["pid"] for s in before["services"].values()}
    assert not [pid for pid in old if lives(pid)]
    moved = [s["port"] for name, s in before["services"].items() if s["port"] != after["services"][name]["port"]]
    assert not [port for port in moved if is_free(port)], "another instance may have taken one meanwhile, nobody else"


def test_down_after_a_killed_supervisor_leaves_nothing(shared):
    with _busy_session(shared.url("analytics")):
        kill(shared.state()["supervisor"]["pid"])
        kill(shared.pids()["analytics"])
        shared.down()
    assert shared.processes() == []
    assert {s["status"] for s in shared.status()["services"].values()} == {"stopped"}


def test_down_ends_what_was_started_and_never_written_down(shared):
    before = shared.state()
    kill(before["supervisor"]["pid"])
    for service in before["services"].values():
        service["process"] = None  # as if the supervisor was killed before it could write
    (shared.data_dir / "instance.json").write_text(json.dumps(before))
    shared.down()
    assert shared.processes() == []


def test_sessions_survive_sigkill_of_everything(shared):
    with closing(redis.Redis.from_url(shared.url("sessions"))) as client:
        client.set("token", "value")
        # The append-only file is synced every second; waiting for it is what a login would do.
        assert client.execute_command("WAITAOF", 1, 0, 5000) == [1, 0]
    pids = {**shared.pids(), "supervisor": shared.state()["supervisor"]["pid"]}
    for pid in pids.values():
        kill(pid)
    shared.up()
    with closing(redis.Redis.from_url(shared.url("sessions"))) as client:
        assert client.get("token") == b"value"


def _kill_when(local: Local, condition, what: str) -> None:
    command = local.start("up", "--detach")
    wait_for(condition, what, 20)
    supervisor = next(p for p in local.processes() if "novadex.local" in p.cmdline())
    kill(supervisor.pid)
    command.communicate(timeout=30)
    assert command.returncode == 1


def test_a_supervisor_killed_while_the_clusters_are_made_starts_afresh(local):
    _kill_when(local, lambda: any(p.name() == "initdb" for p in local.processes()), "initdb")
    local.up()
    # A port may have been taken by another instance meanwhile: then a service starts once more, at another one.
    wait_for(lambda: {s["status"] for s in local.state()["services"].values()} == {"healthy"}, "all is healthy")
    assert {p.name for p in local.data_dir.iterdir() if p.is_dir()} == {*SERVERS, "logs", "run"}


def test_a_supervisor_killed_while_the_databases_start_starts_afresh(local):
    _kill_when(local, lambda: {"main", "analytics"} <= set(local.pids()), "the databases' start")
    local.up()
    # A port may have been taken by another instance meanwhile: then a service starts once more, at another one.
    wait_for(lambda: {s["status"] for s in local.state()["services"].values()} == {"healthy"}, "all is healthy")


def test_a_lock_whose_number_another_process_has_by_now_does_not_stop_the_start(shared):
    shared.down()
    owner = (shared.data_dir / "main").stat()
    user = owner.st_uid if is_root() else None
    # As after a crash of the machine, where numbers begin anew.
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, cwd="/", user=user) as other:
        lock = shared.data_dir / "main" / "postmaster.pid"
        lock.write_text(f"{other.pid}\n{lock.parent}\n1700000000\n5432\n\n127.0.0.1\n  1 1\nready   \n")
        os.chown(lock, owner.st_uid, owner.st_gid)
        lock.chmod(0o600)
        shared.up()
        assert other.poll() is None
        other.communicate(b"")


def test_a_worker_that_ignores_sigterm_is_ended_by_force(shared):
    worker = shared.pids()["worker"]
    os.kill(worker, signal.SIGSTOP)
    supervisor = shared.state()["supervisor"]["pid"]
    process = shared.start("down")
    # A second signal to the supervisor shortens its patience.
    wait_for(lambda: not lives(shared.pids().get("api", -1)), "the API's end")
    os.kill(supervisor, signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert shared.processes() == []
