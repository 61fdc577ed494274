"""Whatever a superuser with triggers off does to the log, ``verify`` finds it, says what it was and names the row."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from novadex.audit.chain import POSITIONS_END
from novadex.audit.report import AuditReport
from novadex.audit.sealing import seal
from novadex.audit.service import AuditService
from novadex.audit.verify import verify
from novadex.storage.connection import DatabaseConnection
from tests.integration.audit.attacks import ATTACKS, LAST, NEW_ROW, ROW, Attack
from tests.integration.audit.conftest import Attacker

Write = Callable[[int], Any]


def found(report: AuditReport) -> set[tuple[str, int | None]]:
    return {(finding.kind, finding.audit_id) for finding in report.findings}


@pytest.mark.parametrize("attack_", ATTACKS, ids=str)
async def test_every_attack_is_found_and_named(
    db: DatabaseConnection, write: Write, attack: Attacker, attack_: Attack
):
    write(4)
    await seal(db)
    write(LAST - 4)
    if attack_.on == "sealed":
        await seal(db)
    attack(attack_.sql)
    report = await verify(db)
    assert attack_.kind in {finding.kind for finding in report.findings}, report
    if attack_.named is not None:
        assert (attack_.kind, attack_.named) in found(report), report
    assert not (await verify(db)).intact, "it stays found"


async def test_a_link_that_leaves_no_place_behind_it_is_found_again_and_again_and_no_other_is_accused(
    db: DatabaseConnection, write: Write, attack: Attacker
):
    write(LAST)
    await seal(db)
    attack(f"INSERT INTO audit_chain VALUES ({POSITIONS_END - 1}, 1000000, sha256('x'), sha256('y'))")
    for _ in range(2):
        write(3)
        report = await verify(db)
        assert ("delete", 1_000_000) in found(report)
        assert [finding.explanation for finding in report.findings if finding.kind == "insert"] == [
            f"what waits cannot be sealed: link {POSITIONS_END - 1} is where no chain gets, it was put in"
        ]
    attack("DELETE FROM audit_chain WHERE audit_id = 1000000")
    assert (await seal(db)).position == LAST + 6


@pytest.mark.parametrize("time", ["'294270-01-01'", "'20000-01-01'", "'infinity'", "'-infinity'", "'4000-01-01 BC'"])
async def test_a_row_of_a_time_that_no_clock_says_is_found_and_exported(
    db: DatabaseConnection, write: Write, attack: Attacker, time: str
):
    write(LAST)
    await seal(db)
    attack(f"UPDATE audit_log SET occurred_at = {time} WHERE id = {ROW}")
    assert ("edit", ROW) in found(await verify(db))
    assert len([entry async for entry in AuditService(db).export()]) == LAST


@pytest.mark.parametrize("time", ["infinity", "-infinity"])
@pytest.mark.parametrize("position", [1, LAST + 1])
async def test_a_row_of_no_time_that_was_put_in_with_its_hash_is_found(
    db: DatabaseConnection, write: Write, attack: Attacker, time: str, position: int
):
    if position > 1:
        write(LAST)
        await seal(db)
    attack(
        NEW_ROW.replace("now()", f"'{time}'"),
        "INSERT INTO audit_pending SELECT id, sha256(convert_to(concat_ws(',', id,"
        f" '{time.title()}', xid, length(actor), actor, length(action), action, length(subject), subject,"
        " length(detail::text), detail::text, length(database_role), database_role), 'UTF8')) FROM audit_log"
        " WHERE actor = 'user:evil'",
    )
    [(kind, id)] = found(await verify(db))
    assert (kind, id) == ("insert", position)


@pytest.mark.parametrize("on", ["sealed", "unsealed"])
@pytest.mark.parametrize("name", ["edit actor", "delete a row", "insert a row", "reorder contents"])
async def test_triggers_that_were_switched_off_by_table_change_nothing(
    db: DatabaseConnection, write: Write, attack: Attacker, name: str, on: str
):
    [chosen] = [attack for attack in ATTACKS if (attack.name, attack.on) == (name, on)]
    write(LAST)
    if on == "sealed":
        await seal(db)
    attack(chosen.sql, by="table")
    assert (chosen.kind, chosen.named) in found(await verify(db))


async def test_a_named_row_is_not_told_twice(db: DatabaseConnection, write: Write, attack: Attacker):
    write(LAST)
    await seal(db)
    attack("UPDATE audit_log SET actor = 'user:evil' WHERE id = 3", "DELETE FROM audit_log WHERE id = 7")
    assert [(finding.kind, finding.audit_id) for finding in (await verify(db)).findings] == [
        ("delete", 7),
        ("edit", 3),
    ]


async def test_what_the_statistics_counted_is_kept_outside_before_they_are_reset(
    db: DatabaseConnection, write: Write, attack: Attacker
):
    write(LAST)
    attack("DELETE FROM audit_log WHERE id = 7", "DELETE FROM audit_pending WHERE audit_id = 7")
    await seal(db)
    attack("SELECT pg_stat_reset()")
    assert found(await verify(db)) == {("delete", 7)}


async def test_triggers_that_are_still_off_are_told(db: DatabaseConnection, write: Write, attack: Attacker):
    write(1)
    attack("ALTER TABLE users DISABLE TRIGGER users_audit", "ALTER TABLE audit_log DISABLE TRIGGER audit_log_queue")
    report = await verify(db)
    assert {finding.kind for finding in report.findings} == {"triggers"}
    assert "users_audit of users" in report.findings[1].explanation


async def test_many_findings_are_named_up_to_a_limit_and_counted(
    db: DatabaseConnection, write: Write, attack: Attacker
):
    write(1_500)
    await seal(db)
    attack("DELETE FROM audit_log WHERE id > 100")
    report = await verify(db)
    assert len(report.findings) == 1_000
    assert report.more_findings >= 400


# Anchors ---------------------------------------------------------------------------------------------------


async def sealed_thrice(db: DatabaseConnection, write: Write) -> None:
    for _ in range(3):
        write(4)
        await seal(db)


def changed(line: bytes, **fields: Any) -> bytes:
    return json.dumps({**json.loads(line), **fields}, separators=(",", ":")).encode() + b"\n"


def edit_lines(path: Path, edit: Callable[[list[bytes]], list[bytes]]) -> None:
    path.write_bytes(b"".join(edit(path.read_bytes().splitlines(keepends=True))))


def read(path: Path) -> bytes:
    return path.read_bytes()


def put(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def remove(path: Path) -> None:
    path.unlink()


OTHER_HASH = "ab" * 32
FILE_ATTACKS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "first line lost": lambda lines: lines[1:],
    "all but the last lost": lambda lines: lines[-1:],
    "line in the middle lost": lambda lines: [*lines[:2], *lines[3:]],
    "hash changed": lambda lines: [*lines[:2], changed(lines[2], chain_hash=OTHER_HASH), *lines[3:]],
    "position changed": lambda lines: [*lines[:2], changed(lines[2], position=7), *lines[3:]],
    "line damaged": lambda lines: [*lines[:2], b"\0" * len(lines[2]) + b"\n", *lines[3:]],
    "line no UTF-8": lambda lines: [*lines[:2], b'{"position":\xff}\n', *lines[3:]],
    "line cut off": lambda lines: [*lines[:2], lines[2][:40] + b"\n", *lines[3:]],
    "lines exchanged": lambda lines: [lines[0], lines[2], lines[1], lines[3]],
    "snapshot changed": lambda lines: [*lines[:2], changed(lines[2], snapshot="x:y:z"), *lines[3:]],
    "everything lost": lambda _: [],
}


@pytest.mark.parametrize("name", FILE_ATTACKS)
async def test_anchors_that_were_lost_changed_or_damaged_are_found(
    db: DatabaseConnection, write: Write, anchors: Path, name: str
):
    await sealed_thrice(db, write)
    edit_lines(anchors, FILE_ATTACKS[name])
    assert "anchors" in {finding.kind for finding in (await verify(db)).findings}


async def test_a_lost_file_is_found_though_sealing_went_on(db: DatabaseConnection, write: Write, anchors: Path):
    await sealed_thrice(db, write)
    remove(anchors)
    write(1)
    await seal(db)
    [finding] = (await verify(db)).findings
    assert (finding.kind, finding.position) == ("anchors", 13)
    assert "NOVADEX_AUDIT_ANCHOR_FILE" in finding.explanation


async def test_a_last_anchor_that_was_changed_is_found_as_a_fork_or_a_truncation(
    db: DatabaseConnection, write: Write, anchors: Path
):
    await sealed_thrice(db, write)
    whole = read(anchors)
    changes: list[tuple[dict[str, Any], str]] = [
        ({"chain_hash": OTHER_HASH}, "fork"),
        ({"position": 99}, "truncation"),
        ({"position": 99, "epoch": -(10**18)}, "truncation"),
        ({"position": 99, "epoch": -(10**30)}, "truncation"),
    ]
    for fields, kind in changes:
        put(anchors, whole)
        edit_lines(anchors, lambda lines, fields=fields: [*lines[:-1], changed(lines[-1], **fields)])
        assert kind in {finding.kind for finding in (await verify(db)).findings}


@pytest.mark.parametrize("length", [1, 5, 12, 60, 150])
async def test_a_line_that_a_crash_cut_off_is_no_finding(
    db: DatabaseConnection, write: Write, anchors: Path, length: int
):
    await sealed_thrice(db, write)
    whole = read(anchors)
    last = whole.splitlines(keepends=True)[-1]
    put(anchors, whole[: -len(last)] + last[:length])
    report = await verify(db)
    assert report.intact, report
    assert "cut off by a crash" in report.notes[0]
    write(1)
    assert (await verify(db)).intact


async def test_a_cut_chain_that_grew_again_is_found_too(db: DatabaseConnection, write: Write, attack: Attacker):
    await sealed_thrice(db, write)
    attack("DELETE FROM audit_log WHERE id > 6", "DELETE FROM audit_chain WHERE audit_id > 6")
    await seal(db)
    write(20)
    await seal(db)
    kinds = {finding.kind for finding in (await verify(db)).findings}
    assert "fork" in kinds
