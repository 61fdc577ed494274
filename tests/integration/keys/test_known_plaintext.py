"""What users tell of themselves is nowhere in plain text: database files, WAL, dumps, caches, logs, processes."""

from __future__ import annotations

import base64
import hashlib
import io
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import psutil
import psycopg
import pytest
import redis
from prometheus_client import generate_latest

from novadex import metrics
from novadex.errors import NovaDexError
from novadex.keys.keyring import Keyring
from novadex.keys.master_key_file import FILE_NAME, read_key_file
from novadex.roles.actor import SERVICE
from novadex.users.service import UserService
from tests.conftest import DatabasePair
from tests.integration.keys.test_rotation import quick
from tests.integration.monitoring.venue import RunningProgram, start_program
from tests.servers import PASSWORD

__all__ = ["start_program"]
ENCODINGS: tuple[Callable[[bytes], bytes], ...] = (
    bytes,
    lambda text: text.hex().encode(),
    base64.b64encode,
    bytes.upper,
    lambda text: text.decode().encode("utf-16-le"),
    lambda text: hashlib.sha256(text).digest(),
    lambda text: hashlib.sha256(text).hexdigest().encode(),
)
"""Also a hash without a key would give an email address away: there are few enough to try."""


class Secrets:
    """What must not be found, in every form that it could have."""

    def __init__(self) -> None:
        mark = uuid4().hex
        self.email = f"ada.{mark}@example.com"
        self.name = f"Ada Augusta {mark}"
        self.needles: set[bytes] = set()
        for text in (self.email, self.name):
            self.add(text.encode())

    def add(self, text: bytes, *, only_encoded: bool = False) -> None:
        self.needles |= {encode(text) for encode in ENCODINGS[1:3] if only_encoded}
        if not only_encoded:
            self.needles |= {encode(text) for encode in ENCODINGS}

    def found_in(self, content: bytes) -> list[bytes]:
        return [needle for needle in self.needles if needle in content]


@pytest.fixture
def own_log() -> Iterator[io.StringIO]:
    """What this process logs, down to the drivers' debugging."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(before)


def files_below(folder: Path) -> Iterator[tuple[Path, bytes]]:
    for file in folder.rglob("*"):
        if file.is_file():
            yield file, file.read_bytes()


async def test_it_is_nowhere(
    fresh_databases: DatabasePair,
    cache_url: str,
    sessions_url: str,
    start_program: Callable[..., RunningProgram],
    own_log: io.StringIO,
):
    secrets = Secrets()
    server = fresh_databases.server
    worker = start_program(
        "worker",
        {
            "DATABASE_URL": fresh_databases.main_url("worker"),
            "ANALYTICS_DATABASE_URL": fresh_databases.analytics_url("worker"),
            "REDIS_URL": cache_url,
            "REDIS_SESSION_URL": sessions_url,
            "NOVADEX_LOG_LEVEL": "debug",
            "NOVADEX_ERASURE_FILE": str(fresh_databases.data_dir / "erasures.jsonl"),
            "NOVADEX_MASTER_KEY_FILE": str(fresh_databases.data_dir / FILE_NAME),
        },
    )
    worker.wait_for("/api/health/live")
    told: list[str] = []
    async with fresh_databases.connection(cache=cache_url, sessions=sessions_url) as db:
        service = UserService(db)
        user = await service.create_user(email=secrets.email, personal={"full_name": secrets.name})
        await service.update_user(user.id, email=f"new.{secrets.email}")
        await service.update_user(user.id, email=secrets.email)
        assert (await service.get_user_by_email(secrets.email.upper())).id == user.id
        found = await service.get_user(user.id)
        assert (found.email, found.personal) == (secrets.email, {"full_name": secrets.name})
        for attempt in (
            service.create_user(email=secrets.email),
            service.create_user(email=secrets.email, username="no such name!"),
            service.update_user(uuid4(), email=secrets.email),
        ):
            with pytest.raises(NovaDexError) as refused:
                await attempt
            told.append(f"{refused.value!r} {refused.value.as_dict()}")
        await quick(db).run()
        assert (await service.get_user(user.id)).email == secrets.email
        told.append(f"{db.companion(Keyring)!r} {service!r} {found!r} {SERVICE!r}")
        for key in read_key_file(fresh_databases.data_dir / FILE_NAME).values():
            secrets.add(key, only_encoded=True)
            secrets.needles.add(key)
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute("CHECKPOINT")
        assert secrets.found_in(b"x" + secrets.email.encode()), "the search finds what is there"
        places: dict[str, bytes] = {
            "pg_dump": dump(fresh_databases),
            "errors and reprs": "\n".join(told).encode(),
            "metrics": generate_latest(metrics.REGISTRY) + worker.ask("/api/metrics").body,
            "own log": own_log.getvalue().encode(),
            "log of the worker": worker.log.encode(),
            "log of the server": server.log.read_bytes(),
            "list of processes": "\n".join(
                " ".join(process.info["cmdline"] or ())  # pyright: ignore[reportAttributeAccessIssue]
                for process in psutil.process_iter(["cmdline"])
            ).encode(),
        }
        for url in (cache_url, sessions_url):
            with redis.Redis.from_url(url) as client:
                places[f"server {url[-8:]}"] = b"".join(
                    f"{key}".encode() + (client.dump(key) or b"")
                    for key in keys_of(url)  # pyright: ignore[reportOperatorIssue]
                )
        assert str(user.id) in str(keys_of(cache_url)), "users are cached"
    wal = sum(1 for file, content in files_below(server.data / "pg_wal") if content)
    assert wal, "there is WAL to be searched"
    for file, content in files_below(server.data):
        places[str(file.relative_to(server.data))] = content
    assert user.id.bytes in b"".join(content for name, content in places.items() if name.startswith("base/"))
    leaks = {name: secrets.found_in(content) for name, content in places.items() if secrets.found_in(content)}
    assert not leaks
    worker.end()


def keys_of(url: str) -> list[bytes]:
    with redis.Redis.from_url(url) as client:
        return client.keys("*")  # pyright: ignore[reportReturnType]


def dump(databases: DatabasePair) -> bytes:
    """Everything that the role of backups can read, as plain SQL."""
    from psycopg.conninfo import make_conninfo

    target = make_conninfo(databases.main_url("backup"), password=PASSWORD)
    return databases.server.run("pg_dump", f"--dbname={target}", "--inserts").encode()


def test_keys_stay_out_of_arguments_and_of_what_commands_print(
    fresh_databases: DatabasePair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The setting is in the environment alone, which other users of the machine cannot read."""
    from tests.integration.cli.command import Command

    secret = base64.b64encode(uuid4().bytes * 2).decode()
    newer = base64.b64encode(uuid4().bytes * 2).decode()
    monkeypatch.setenv("NOVADEX_MASTER_KEYS", f"1:{secret}")
    command = Command(fresh_databases, tmp_path)
    printed = [command.run("keys", "list").stdout]
    monkeypatch.setenv("NOVADEX_MASTER_KEYS", f"2:{newer},1:{secret}")
    process = command.start("keys", "rotate")
    arguments = psutil.Process(process.pid).cmdline()
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    monkeypatch.setenv("NOVADEX_MASTER_KEYS", f"2:{newer},1:{secret}x")
    failed = command.run("keys", "list", "--json", code=1)
    assert "NOVADEX_MASTER_KEYS is wrong" in failed.stderr
    for text in (*printed, *arguments, output, errors, failed.stdout, failed.stderr):
        assert secret[:20] not in text
        assert newer[:20] not in text
