"""Where an instance lives: folders below private homes, of other users, moved, copied, of other versions."""

import json
import os
import pwd
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import psycopg
import pytest

from tests.integration.local.running import SERVERS, SERVICES, Local, as_normal_user, is_root

needs_root = pytest.mark.skipif(not is_root(), reason="only root can run servers as another user")


def _modes_above(folder: Path) -> dict[Path, tuple[int, int, int]]:
    return {p: (p.stat().st_mode, p.stat().st_uid, p.stat().st_gid) for p in folder.parents}


@needs_root
def test_root_runs_the_servers_as_an_unprivileged_user_also_below_a_private_folder(make_local):
    local = make_local()
    local.data_dir.parent.chmod(0o700)
    before = _modes_above(local.data_dir)
    system = Path("/var/lib")
    system_before = (system.stat().st_mode, system.stat().st_uid)
    local.up()
    state = local.state()
    home = Path(state["home"])
    assert home == Path("/var/lib/novadex/instances") / state["instance_id"]
    nobody = pwd.getpwnam(state["server_user"])
    for name in SERVERS:
        assert psutil.Process(local.pids()[name]).uids().real == nobody.pw_uid
        assert psutil.Process(local.pids()[name]).gids().real == nobody.pw_gid
        found = (home / name).stat()
        assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (nobody.pw_uid, 0o700)
    assert _modes_above(local.data_dir) == before
    assert (system.stat().st_mode, system.stat().st_uid) == system_before
    assert f"the servers' files are in {home}" in local.run("status").stdout
    with psycopg.connect(local.url("main")) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    local.remove()


@needs_root
def test_root_keeps_the_files_in_the_data_folder_where_the_servers_can_reach_it(shared):
    assert shared.state()["home"] == str(shared.data_dir)
    assert shared.data_dir.stat().st_uid == 0


@needs_root
def test_root_refuses_a_folder_of_another_user(local):
    local.data_dir.mkdir()
    os.chown(local.data_dir, pwd.getpwnam("nobody").pw_uid, -1)
    said = local.run("up", "--detach", code=1).stderr
    assert "belongs to user" in said
    assert list(local.data_dir.iterdir()) == []


@needs_root
def test_another_user_cannot_read_the_passwords(shared):
    state = shared.data_dir / "instance.json"
    command = [sys.executable, "-c", f"import os; os.setuid({pwd.getpwnam('nobody').pw_uid}); open({str(state)!r})"]
    tried = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "PermissionError" in tried.stderr


@needs_root
def test_a_normal_user_runs_everything_as_itself(make_local):
    prefix = as_normal_user()
    if isinstance(prefix, str):
        pytest.skip(prefix)
    made = make_local()
    nobody = pwd.getpwnam("nobody")
    os.chown(made.data_dir.parent, nobody.pw_uid, nobody.pw_gid)
    local = Local(made.data_dir, {"HOME": str(made.data_dir.parent)}, prefix)
    local.up()
    try:
        state = local.state()
        assert state["home"] == str(local.data_dir)
        assert state["server_user"] is None
        assert stat.S_IMODE(local.data_dir.stat().st_mode) == 0o700
        for name in SERVICES:
            assert psutil.Process(local.pids()[name]).uids().real == nobody.pw_uid
        pid = local.pids()["main"]
        psutil.Process(pid).kill()
        local.await_recovery({"main": pid})
    finally:
        local.down()
    assert local.processes() == []


def _made_by(local: Local, *, state_major: int, cluster_major: str) -> None:
    shutil.rmtree(local.data_dir, ignore_errors=True)
    local.data_dir.mkdir()
    (local.data_dir / "main").mkdir(mode=0o700)
    (local.data_dir / "main" / "PG_VERSION").write_text(f"{cluster_major}\n")
    names = ("owner", "app", "worker", "readonly", "backup", "superuser", "cache", "sessions")
    state = {
        "instance_id": "0123456789abcdef",
        "home": str(local.data_dir),
        "data_dir": str(local.data_dir),
        "postgres_major": state_major,
        "passwords": dict.fromkeys(names, "not-a-secret"),
    }
    (local.data_dir / "instance.json").write_text(json.dumps(state))
    (local.data_dir / "instance.json").chmod(0o600)


@pytest.mark.parametrize(("state_major", "cluster_major"), [(17, "17"), (18, "17")])
def test_a_folder_of_another_major_version_is_refused_with_what_to_do(local, state_major, cluster_major):
    _made_by(local, state_major=state_major, cluster_major=cluster_major)
    said = local.run("up", "--detach", code=1).stderr
    assert "was made by PostgreSQL 17" in said
    assert "runs PostgreSQL 18" in said
    assert "pg_dump" in said
    assert (local.data_dir / "main" / "PG_VERSION").read_text() == "17\n"
    local.wait_until_nothing_is_left()


def test_a_folder_with_something_else_in_it_is_left_alone(local):
    (local.data_dir / "main").mkdir(parents=True)
    said = local.run("up", "--detach", code=1).stderr
    assert "that NovaDex did not make" in said
    assert not (local.data_dir / "instance.json").exists()


def test_a_file_in_the_folders_place_is_refused(local):
    local.data_dir.write_text("something")
    assert "cannot be used" in local.run("up", "--detach", code=1).stderr
