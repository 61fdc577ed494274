"""SIGKILL in the middle of rotations and erasures: no read fails, no erasure that was acknowledged is lost."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from uuid import UUID

import psycopg
import pytest

from novadex.ids import uuid7
from novadex.keys.encryption import EMAIL
from novadex.keys.erasure_list import FILE_NAME as ERASURES
from novadex.keys.erasure_list import read_erasures
from novadex.keys.erasures import reapply_erasures
from novadex.keys.keyring import Keyring
from novadex.keys.master_key_file import FILE_NAME, read_key_file
from novadex.storage.connection import DatabaseConnection
from tests.conftest import DatabasePair
from tests.faults.keys_programs import BATCH_KEYS
from tests.integration.keys.people import ERASED, add_person, left_of
from tests.integration.monitoring.venue import value_of

USERS = 400
WAIT_S_MAX = 60
KILL_POINTS = [  # in their order; each rotation continues where the one before was killed
    "key in the file",
    "key in use",
    "done 0",
    f"done {BATCH_KEYS}",
    f"done {10 * BATCH_KEYS}",
    f"done {5 * BATCH_KEYS}",
    "all wrapped anew",
    "retired",
]
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(fresh_databases: DatabasePair) -> Iterator[Start]:
    """``start("rotate", kill="key in use")``."""
    started: list[subprocess.Popen[str]] = []

    def start(program: str, *arguments: str, kill: str = "") -> subprocess.Popen[str]:
        place = {
            "main": fresh_databases.main_url("app"),
            "analytics": fresh_databases.analytics_url("app"),
            "data_dir": str(fresh_databases.data_dir),
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.keys_programs", program, *arguments],
            env={**os.environ, "KEYS_PLACE": json.dumps(place), "KEYS_KILL": kill},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
async def sealed(db: DatabaseConnection, fresh_databases: DatabasePair) -> list[UUID]:
    """Users with a data key and an email address each."""
    keyring = db.companion(Keyring)
    await keyring.ready()
    ids = [uuid7() for _ in range(USERS)]
    users, keys = [], []
    for user_id in ids:
        key, wrapped, version = await keyring.new_data_key(user_id)
        address = f"{user_id}@example.com"
        users.append((user_id, keyring.seal(EMAIL, user_id, key, address), keyring.email_index(address)))
        keys.append((user_id, wrapped, version))
    with psycopg.connect(fresh_databases.main_url("app")) as connection, connection.cursor() as cursor:
        cursor.executemany("INSERT INTO users (id, email_ciphertext, email_index) VALUES (%s, %s, %s)", users)
        cursor.executemany("INSERT INTO user_keys (user_id, wrapped_key, master_version) VALUES (%s, %s, %s)", keys)
    return ids


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_no_read_fails_while_rotations_are_killed_at_every_step_and_finished(
    sealed: list[UUID], fresh_databases: DatabasePair, start: Start
):
    readers = [start("read") for _ in range(2)]
    assert [first_line(reader) for reader in readers] == ["ready", "ready"]
    for point in KILL_POINTS:
        killed = start("rotate", kill=point)
        killed.communicate(timeout=WAIT_S_MAX)
        assert killed.returncode == -9, point
    finished = start("rotate")
    output, _ = finished.communicate(timeout=WAIT_S_MAX)
    assert finished.returncode == 0, output
    version = int(output.splitlines()[-1].removeprefix("version "))
    # Only "retired" ended a rotation: all other kills left one that the next continued.
    assert version == 3
    assert set(read_key_file(fresh_databases.data_dir / FILE_NAME)) == {1, 2, 3}
    url = fresh_databases.main_url(None)
    assert value_of(url, "SELECT count(*) FROM user_keys WHERE master_version = 3") == USERS
    assert value_of(url, "SELECT array_agg(version) FROM master_keys WHERE retired_at IS NULL") == [3]
    for reader in readers:
        report = json.loads(reader.communicate(timeout=WAIT_S_MAX)[0])
        assert report["failed"] == 0, report
        assert report["reads"] >= USERS
        assert set(report["versions"]) >= {1, 2}, "it read before, while and after"


@pytest.mark.parametrize("point", ["before the list", "before the commit", "before the acknowledgement"])
async def test_an_erasure_that_was_killed_is_whole_or_has_not_begun(
    db: DatabaseConnection,
    worker_db: DatabaseConnection,
    fresh_databases: DatabasePair,
    start: Start,
    point: str,
):
    person = await add_person(db, fresh_databases)
    before = left_of(fresh_databases, person.user_id)
    killed = start("erase", str(person.user_id), kill=point)
    output, _ = killed.communicate(timeout=WAIT_S_MAX)
    assert (killed.returncode, output) == (-9, "")
    now = left_of(fresh_databases, person.user_id)
    assert now == (ERASED if point == "before the acknowledgement" else before)
    await reapply_erasures(worker_db)
    asked = point != "before the list"
    assert left_of(fresh_databases, person.user_id) == (ERASED if asked else before)
    assert [line.user_id for line in read_erasures(fresh_databases.data_dir / ERASURES).lines] == (
        [person.user_id] if asked else []
    )


@pytest.mark.parametrize("seed", [1])
async def test_kills_at_random_moments_and_a_restore_lose_no_erasure_that_was_acknowledged(  # noqa: PLR0917
    sealed: list[UUID],
    db: DatabaseConnection,
    worker_db: DatabaseConnection,
    fresh_databases: DatabasePair,
    start: Start,
    seed: int,
):
    chance = random.Random(seed)  # noqa: S311 - a seed is the point
    await db.close()
    server, backup = fresh_databases.server, f"{fresh_databases.main}_backup"
    server.make_database(backup, owner="novadex_owner", template=fresh_databases.main)
    waiting, acknowledged = [str(user_id) for user_id in sealed[:200]], set[str]()
    kills = 0
    while waiting:
        eraser = start("erase", *waiting)
        goal = chance.randint(1, 40)
        told = [line for line in (first_line(eraser) for _ in range(goal)) if line]
        eraser.kill()  # somewhere in the next one
        rest, _ = eraser.communicate(timeout=WAIT_S_MAX)
        kills += eraser.returncode == -9
        acknowledged |= {*told, *rest.split()}
        waiting = [user_id for user_id in waiting if user_id not in acknowledged]
    assert kills >= 3
    assert len(acknowledged) == 200
    server.drop_database(fresh_databases.main)
    server.make_database(fresh_databases.main, owner="novadex_owner", template=backup)
    server.drop_database(backup)
    url = fresh_databases.main_url(None)
    assert value_of(url, "SELECT count(*) FROM users WHERE status = 'erased'") == 0
    report = await reapply_erasures(worker_db)
    assert {str(user_id) for user_id in report.erased_again} >= acknowledged
    assert value_of(url, "SELECT count(*) FROM users WHERE status = 'erased'") == report.listed == 200
    assert value_of(url, "SELECT count(*) FROM user_keys") == USERS - 200
