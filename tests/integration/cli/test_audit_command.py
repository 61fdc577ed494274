"""``novadex audit``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from novadex.storage.connection import DatabaseConnection
from novadex.users.service import UserService
from tests.conftest import DatabasePair
from tests.integration.cli.command import Command


@pytest.fixture
def novadex(novadex: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("NOVADEX_AUDIT_ANCHOR_FILE", str(novadex.folder / "anchors.jsonl"))
    return novadex


def test_an_untouched_log_is_intact(novadex: Command, users: Callable[[int], list[UUID]]):
    users(3)
    report = novadex.json("audit", "verify")
    assert report["intact"]
    assert report["rows"] == report["sealed_now"] == 4, "verifying is an act too"
    assert report["head"]["position"] == 4
    assert novadex.run("audit", "verify").stdout == "5 rows, 2 anchors, 1 sealed now: intact.\n"


def test_a_log_that_was_changed_is_told_by_exit_code_3(
    novadex: Command, users: Callable[[int], list[UUID]], fresh_databases: DatabasePair
):
    users(3)
    with psycopg.connect(fresh_databases.main_url(None)) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("UPDATE audit_log SET actor = 'user:somebody' WHERE id = 2")
    report = novadex.json("audit", "verify", code=3)
    assert not report["intact"]
    [finding] = report["findings"]
    assert (finding["kind"], finding["audit_id"]) == ("edit", 2)
    assert "row 2 was changed" in novadex.run("audit", "verify", code=3).stdout


async def test_entries_are_found_and_shown(novadex: Command, db: DatabaseConnection):
    service = UserService(db)
    ada, bob = [await service.create_user(username=name) for name in ("ada", "bob")]
    await service.change_role(ada.id, "trader")
    lines = novadex.run("audit", "tail", "-n", "2").stdout.splitlines()
    assert len(lines) == 2
    assert "users.updated" in lines[0]
    assert "program:cli  audit.searched" in lines[1]
    newest = [json.loads(line) for line in novadex.run("audit", "tail", "--json").stdout.splitlines()]
    assert [entry["id"] for entry in newest] == sorted(entry["id"] for entry in newest)
    of_ada = novadex.json("audit", "search", "--subject", f"user:{ada.id}")["items"]
    assert [entry["action"] for entry in of_ada] == ["users.updated", "users.created"]
    assert of_ada[0]["detail"]["after"] == {"role": "trader"}
    page = novadex.json("audit", "search", "--actor", "program:service", "--action", "users.created", "--limit", "1")
    assert page["items"][0]["subject"] == f"user:{bob.id}"
    rest = novadex.json("audit", "search", "--action", "users.created", "--cursor", page["next"])
    assert [entry["subject"] for entry in rest["items"]] == [f"user:{ada.id}"]
    assert novadex.json("audit", "search", "--since", "2100-01-01")["items"] == []
    assert novadex.json("audit", "search", "--until", "2100-01-01")["items"]


def test_what_is_written_later_is_followed(novadex: Command, users: Callable[[int], list[UUID]]):
    users(1)
    process = novadex.start("audit", "tail", "--follow", "--json")
    try:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["id"] == 1
        assert json.loads(process.stdout.readline())["action"] == "audit.searched"
        [user] = users(1)
        assert json.loads(process.stdout.readline())["subject"] == f"user:{user}"
    finally:
        process.terminate()
        process.communicate(timeout=30)


def test_what_commits_late_is_followed_too(
    novadex: Command, users: Callable[[int], list[UUID]], fresh_databases: DatabasePair
):
    users(1)
    with psycopg.connect(fresh_databases.main_url("owner")) as late:
        late.execute("INSERT INTO users (id) VALUES (uuidv7())")
        process = novadex.start("audit", "tail", "--follow", "--json")
        try:
            assert process.stdout is not None
            assert [json.loads(process.stdout.readline())["id"] for _ in range(2)] == [1, 3]
            users(1)
            assert json.loads(process.stdout.readline())["id"] == 4
            late.commit()
            assert json.loads(process.stdout.readline())["id"] == 2
            users(1)
            assert json.loads(process.stdout.readline())["id"] == 5
        finally:
            process.terminate()
            process.communicate(timeout=30)


def verified(path: Path) -> int:
    """What somebody else does with an export, by the format that the documentation tells."""
    head, position = bytes(32), 0
    for line in path.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        texts = [entry[name] for name in ("actor", "action", "subject", "detail", "database_role")]
        parts = [entry["id"], entry["occurred_at_us"], entry["xid"], *(f"{len(text)},{text}" for text in texts)]
        row_hash = hashlib.sha256(",".join(parts).encode()).digest()
        assert row_hash.hex() == entry["row_hash"]
        position += 1
        assert entry["position"] == position
        numbers = position.to_bytes(8, "big") + entry["audit_id"].to_bytes(8, "big")
        head = hashlib.sha256(head + numbers + row_hash).digest()
        assert head.hex() == entry["chain_hash"]
    return position


async def test_an_export_can_be_verified_by_somebody_else(novadex: Command, db: DatabaseConnection):
    await UserService(db).create_user(username="ada", personal={"full_name": "Ada Lovelace, é ☃"})
    novadex.run("audit", "export", "--output", "audit.jsonl")
    file = novadex.folder / "audit.jsonl"
    assert verified(file) == (await db.query("SELECT count(*) AS rows FROM audit_log"))[0].rows
    assert novadex.run("audit", "export").stdout.startswith(file.read_text(encoding="utf-8"))
    assert not list(novadex.folder.glob("*.partial"))
    file.write_text(file.read_text(encoding="utf-8").replace("users.created", "users.updated"), encoding="utf-8")
    with pytest.raises(AssertionError):
        verified(file)


def test_wrong_values_are_wrong_usage(novadex: Command):
    for arguments in (
        ("search", "--since", "yesterday"),
        ("search", "--cursor", "x' OR 1=1 --"),
        ("search", "--limit", "0"),
        ("search", "--actor", "x" * 1_000),
        ("tail", "-n", "100000"),
    ):
        novadex.run("audit", *arguments, code=2)


def test_where_anchors_cannot_be_written_it_is_said(
    novadex: Command, users: Callable[[int], list[UUID]], monkeypatch
):
    users(1)
    monkeypatch.setenv("NOVADEX_AUDIT_ANCHOR_FILE", "/proc/no/such/anchors.jsonl")
    error = novadex.json("audit", "verify", code=1)["error"]
    assert error["code"] == "CONFIGURATION"
    assert "NOVADEX_AUDIT_ANCHOR_FILE" in error["hint"]
