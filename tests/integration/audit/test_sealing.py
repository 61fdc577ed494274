"""Sealing goes on whatever happens, and an untouched log is intact whatever goes on beside it."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from novadex import metrics
from novadex.audit import sealing
from novadex.audit import verify as verifying
from novadex.audit.anchors import last_anchor, parse
from novadex.audit.report import AuditReport
from novadex.audit.sealing import BATCH_ROWS, seal
from novadex.audit.service import AuditService
from novadex.audit.verify import verify
from novadex.errors import ConfigurationError, ConflictError, UsageError, ValidationError
from novadex.ids import uuid7
from novadex.roles.actor import Actor
from novadex.storage.connection import DatabaseConnection
from tests.conftest import DatabasePair, add_users
from tests.integration.audit.attacks import RAISE_EPOCH, REWRITE_CHAIN
from tests.integration.audit.conftest import Attacker

Write = Callable[[int], Any]
ADD = "INSERT INTO users (id) VALUES (uuidv7())"
PROGRAM_S_MAX = 60
AUDITOR = Actor("user:ada", uuid7(), "auditor", frozenset({"audit.verify"}))


async def counts(db: DatabaseConnection) -> tuple[int, int, int]:
    """Rows of the log, of the chain, and what waits."""
    [row] = await db.query(
        "SELECT (SELECT count(*) FROM audit_log) AS log, (SELECT count(*) FROM audit_chain) AS chain,"
        " (SELECT count(*) FROM audit_pending) AS waiting"
    )
    return row.log, row.chain, row.waiting


async def test_an_empty_log_is_intact(db: DatabaseConnection, anchors: Path):
    report = await verify(db)
    assert report.intact
    assert (report.rows, report.anchors, report.head_position) == (0, 0, 0)
    assert last_anchor(anchors) is None


async def test_what_waits_is_sealed_once_and_anchored(db: DatabaseConnection, write: Write, anchors: Path):
    write(3)
    assert (await seal(db)).rows == 3
    assert (await seal(db)).rows == 0
    write(2)
    sealed = await seal(db)
    assert (sealed.rows, sealed.position) == (2, 5)
    anchor = last_anchor(anchors)
    assert anchor is not None
    assert (anchor.position, anchor.since, anchor.chain_hash) == (5, 3, sealed.chain_hash.hex())
    assert (await verify(db)).intact
    assert await counts(db) == (5, 5, 0)


async def test_the_beginning_is_anchored_though_the_first_row_appears_while_sealing_begins(
    db: DatabaseConnection, write: Write, anchors: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sealing.metrics.audit_oldest_waiting_seconds, "set", lambda _: monkeypatch.undo() or write(1))
    await seal(db)
    lines = (await asyncio.to_thread(anchors.read_bytes)).splitlines()
    assert [anchor.position for line in lines if (anchor := parse(line))] == [0, 1]
    assert (await verify(db)).intact


async def test_many_rows_are_sealed_in_batches(db: DatabaseConnection, write: Write):
    rows = 2 * BATCH_ROWS + 7
    write(rows)
    assert (await seal(db)).rows == rows
    report = await verify(db)
    assert report.intact
    assert report.rows == rows


async def test_sealers_at_once_seal_every_row_once(
    db: DatabaseConnection, worker_db: DatabaseConnection, write: Write
):
    for _ in range(5):
        write(20)
        async with asyncio.TaskGroup() as group:
            for each in (db, worker_db) * 3:
                group.create_task(seal(each))
            reports = [group.create_task(verify(each)) for each in (db, worker_db)]
        assert all(report.result().intact for report in reports)
    assert await counts(db) == (100, 100, 0)


async def test_an_untouched_log_is_intact_while_many_write_roll_back_and_seal(
    db: DatabaseConnection, worker_db: DatabaseConnection, fresh_databases: DatabasePair
):
    """Long transactions, savepoints and rolled back ones leave rows late, gaps, and transactions within others."""
    done = asyncio.Event()

    async def writer(number: int) -> None:
        chance = random.Random(number)  # noqa: S311 - a seed is the point
        url = fresh_databases.main_url("owner")
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            while not done.is_set():
                async with connection.transaction():
                    await connection.execute(ADD)
                    if chance.random() < 0.2:
                        async with connection.transaction():
                            await connection.execute(ADD)
                            if chance.random() < 0.5:
                                raise psycopg.Rollback
                    if chance.random() < 0.3:
                        with suppress(TimeoutError):
                            await asyncio.wait_for(done.wait(), chance.random() / 5)
                    if chance.random() < 0.2:
                        raise psycopg.Rollback

    async def sealer() -> None:
        while not done.is_set():
            await seal(worker_db)

    async with asyncio.TaskGroup() as group:
        for work in (*(writer(number) for number in range(6)), sealer(), sealer()):
            group.create_task(work)
        try:
            async with asyncio.timeout(PROGRAM_S_MAX):
                verified, report = 0, await verify(db)
                while verified < 15 or report.rows < 200:
                    assert report.intact, report
                    assert report.notes == []
                    verified, report = verified + 1, await verify(db)
        finally:
            done.set()
    report = await verify(db)
    assert report.intact, report
    log, chain, waiting = await counts(db)
    assert log == chain == report.rows
    assert waiting == 0


@pytest.mark.parametrize("role", ["app", "worker"])
@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO audit_chain VALUES (9223372036854775807, 99999, sha256('x'), sha256('y'))",
        "INSERT INTO audit_pending VALUES (99999, sha256('x'))",
        "DELETE FROM audit_pending",
        "UPDATE audit_pending SET row_hash = sha256('x')",
    ],
)
async def test_services_write_the_chain_by_sealing_only(
    db: DatabaseConnection, write: Write, fresh_databases: DatabasePair, statement: str, role: Any
):
    write(3)
    with (
        psycopg.connect(fresh_databases.main_url(role), autocommit=True) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement.encode())
    assert (await seal(db)).rows == 3
    assert (await verify(db)).intact


# What goes wrong -------------------------------------------------------------------------------------------


def run_sealer(pair: DatabasePair, point: str) -> int:
    place = {
        "main": pair.main_url("worker"),
        "analytics": pair.analytics_url("worker"),
        "data_dir": str(pair.data_dir),
    }
    return subprocess.run(
        [sys.executable, "-m", "tests.integration.audit.sealer", point],
        env={**os.environ, "SEALER_PLACE": json.dumps(place)},
        check=False,
        timeout=PROGRAM_S_MAX,
    ).returncode


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    ("point", "sealed"),
    [("before the commit", 0), ("after the commit", 7), ("in the middle of the line", 7), ("after the anchor", 7)],
)
async def test_a_sealer_that_is_killed_loses_nothing(  # noqa: PLR0917
    db: DatabaseConnection,
    fresh_databases: DatabasePair,
    write: Write,
    anchors: Path,
    point: str,
    sealed: int,
    first: bool,
):
    before = 0
    if not first:
        if point == "before the commit":
            return  # only the first one writes anything before it
        write(5)
        await seal(db)
        before = 5
    write(7)
    assert await asyncio.to_thread(run_sealer, fresh_databases, point) == -9
    log, chain, waiting = await counts(db)
    assert (chain, waiting) == (before + sealed, 7 - sealed)
    await seal(db)
    anchor = last_anchor(anchors)
    assert anchor is not None
    assert anchor.position == log == before + 7
    report = await verify(db)
    assert report.intact, report
    assert bool(report.notes) == (point == "in the middle of the line")


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


def put_a_folder_there(path: Path) -> None:
    path.rename(path.with_suffix(".kept"))
    path.mkdir()


def put_the_file_back(path: Path) -> None:
    path.rmdir()
    path.with_suffix(".kept").rename(path)


async def test_anchors_that_cannot_be_written_fail_sealing_until_they_can(
    db: DatabaseConnection, write: Write, anchors: Path
):
    write(1)
    await seal(db)
    write(1)
    put_a_folder_there(anchors)
    with pytest.raises(ConfigurationError, match="anchor"):
        await seal(db)
    put_the_file_back(anchors)
    assert (await verify(db)).intact
    anchor = last_anchor(anchors)
    assert anchor is not None
    assert anchor.position == 2


async def test_the_metrics_say_what_waited_and_for_how_long(db: DatabaseConnection, write: Write, monkeypatch: Any):
    write(3)
    seen: list[tuple[float, float]] = []
    end_of = sealing._end_of

    async def then(session: Any) -> Any:
        seen.append((metrics.audit_rows_waiting._value.get(), metrics.audit_oldest_waiting_seconds._value.get()))
        return await end_of(session)

    monkeypatch.setattr(sealing, "_end_of", then)
    await seal(db)
    waiting, oldest_s = seen[0]
    assert waiting == 3
    assert oldest_s > 0
    assert metrics.audit_rows_waiting._value.get() == metrics.audit_oldest_waiting_seconds._value.get() == 0


async def test_verifying_keeps_no_more_than_a_few_pages(db: DatabaseConnection, write: Write, monkeypatch: Any):
    monkeypatch.setattr(verifying, "PAGE_ROWS", 200)

    async def peak() -> int:
        tracemalloc.start()
        assert (await verify(db)).intact
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    write(1_000)
    await seal(db)
    few = await peak()
    write(9_000)
    await seal(db)
    assert await peak() < 1.5 * few


# Restores --------------------------------------------------------------------------------------------------


@pytest.fixture
def restored(db: DatabaseConnection, fresh_databases: DatabasePair, write: Write) -> Callable[..., Awaitable[None]]:
    """A copy of the database with 10 sealed rows comes back when it had 20."""
    server, backup = fresh_databases.server, f"{fresh_databases.main}_backup"

    async def restore(*statements: str, options: str = "") -> None:
        write(10)
        await seal(db)
        await db.close()
        server.make_database(backup, owner="novadex_owner", template=fresh_databases.main)
        add_users(fresh_databases.main_url("owner"), 10)
        await seal(db)
        await db.close()
        server.drop_database(fresh_databases.main)
        server.make_database(fresh_databases.main, owner="novadex_owner", template=backup)
        server.drop_database(backup)
        with psycopg.connect(fresh_databases.main_url(None), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    return restore


RAISE = "UPDATE recovery_epoch SET epoch = epoch + 1, reason = 'restored'"


def kinds(report: AuditReport) -> set[str]:
    return {finding.kind for finding in report.findings}


async def test_a_restore_is_found_until_somebody_says_that_it_was_theirs(
    db: DatabaseConnection, restored: Callable[..., Awaitable[None]], fresh_databases: DatabasePair, anchors: Path
):
    await restored(RAISE)
    for rows in (0, 5, 30):
        add_users(fresh_databases.main_url("owner"), rows)
        report = await verify(db)
        [finding] = report.findings
        assert finding.kind == "restore"
        assert "restored (epoch 1 to 2)" in finding.explanation
        assert "up to link 20" in finding.explanation
    report = await AuditService(db, actor=AUDITOR).verify(acknowledge="disk of Tuesday")
    for _ in range(2):
        assert report.intact, report
        [note] = report.notes
        assert "up to link 20" in note
        assert "acknowledged by user:ada at" in note
        assert "disk of Tuesday" in note
        report = await verify(db)
    [said] = [anchor.acknowledged for line in lines_of(anchors) if (anchor := parse(line)) and anchor.acknowledged]
    assert (said.why, said.by) == ("disk of Tuesday", "user:ada")
    [entry] = await db.query("SELECT actor, detail FROM audit_log WHERE action = 'audit.acknowledged'")
    assert (entry.actor, entry.detail["why"]) == ("user:ada", "disk of Tuesday")


async def test_each_restore_must_be_acknowledged(
    db: DatabaseConnection, restored: Callable[..., Awaitable[None]], fresh_databases: DatabasePair
):
    await restored(RAISE)
    service = AuditService(db, actor=AUDITOR)
    assert (await service.verify(acknowledge="the first")).intact
    with psycopg.connect(fresh_databases.main_url(None), autocommit=True) as connection:
        connection.execute(RAISE)
    [finding] = (await verify(db)).findings
    assert (finding.kind, "epoch 2 to 3" in finding.explanation) == ("restore", True)
    report = await service.verify(acknowledge="the second")
    assert report.intact, report
    assert ["the first" in note for note in report.notes] == [True, False]


async def test_where_nothing_was_found_nothing_is_acknowledged(
    db: DatabaseConnection, write: Write, attack: Attacker, anchors: Path
):
    service = AuditService(db, actor=AUDITOR)
    write(3)
    assert (await service.verify(acknowledge="in advance")).notes == ["there was nothing to acknowledge"]
    attack("UPDATE audit_log SET actor = 'user:evil' WHERE id = 2")
    assert kinds(await service.verify(acknowledge="an edit")) == {"edit"}
    assert not [line for line in lines_of(anchors) if b"acknowledged" in line]


async def test_what_came_after_it_was_seen_is_not_acknowledged(
    db: DatabaseConnection, write: Write, attack: Attacker
):
    write(3)
    await seal(db)
    attack("ALTER TABLE audit_log SET UNLOGGED; ALTER TABLE audit_log SET LOGGED")
    seen = (await verify(db)).last_anchor
    assert seen is not None
    attack("ALTER TABLE audit_log SET UNLOGGED; ALTER TABLE audit_log SET LOGGED")
    await seal(db)
    with pytest.raises(ConflictError, match="since this was verified"):
        await sealing.acknowledge_up_to(db, seen, "the first time", "user:ada")


async def test_a_table_of_the_log_that_was_compacted_is_found_until_acknowledged(
    db: DatabaseConnection, write: Write, fresh_databases: DatabasePair
):
    write(3)
    await seal(db)
    with psycopg.connect(fresh_databases.main_url(None), autocommit=True) as connection:
        connection.execute("VACUUM audit_log, audit_pending")
        assert (await verify(db)).intact, "a plain VACUUM rewrites nothing"
        connection.execute("VACUUM FULL audit_log")
    [finding] = (await verify(db)).findings
    assert (finding.kind, finding.explanation.partition(":")[0]) == ("rewrite", "audit_log")
    assert (await AuditService(db, actor=AUDITOR).verify(acknowledge="disk full")).intact
    write(3)
    assert (await verify(db)).intact


async def test_history_written_anew_under_a_raised_epoch_is_a_fork(
    db: DatabaseConnection, write: Write, attack: Attacker
):
    """What no copy from before the first anchor that is lost can hold, no restore brought."""
    for _ in range(5):
        write(10)
        await seal(db)
    attack("SET LOCAL track_counts = off", f"DELETE FROM audit_log WHERE id = 6; {REWRITE_CHAIN}; {RAISE_EPOCH}")
    service = AuditService(db, actor=AUDITOR)
    assert "fork" in kinds(await verify(db))
    assert "fork" in kinds(await service.verify(acknowledge="it was me"))


async def test_what_goes_back_without_a_restore_is_found(
    db: DatabaseConnection, restored: Callable[..., Awaitable[None]], fresh_databases: DatabasePair
):
    await restored()
    assert {finding.kind for finding in (await verify(db)).findings} == {"truncation"}
    add_users(fresh_databases.main_url("owner"), 30)
    await seal(db)
    assert {finding.kind for finding in (await verify(db)).findings} == {"fork"}


async def test_an_epoch_that_was_raised_beside_the_triggers_excuses_nothing(
    db: DatabaseConnection, restored: Callable[..., Awaitable[None]]
):
    await restored("SET session_replication_role = replica", RAISE)
    assert "truncation" in kinds(await AuditService(db, actor=AUDITOR).verify(acknowledge="a restore"))


async def test_a_restore_does_not_excuse_what_was_changed_before_it(
    db: DatabaseConnection, restored: Callable[..., Awaitable[None]], attack: Attacker
):
    await restored(RAISE)
    await seal(db)
    attack("UPDATE audit_log SET actor = 'user:evil' WHERE id = 4")
    report = await AuditService(db, actor=AUDITOR).verify(acknowledge="disk of Tuesday")
    assert [(finding.kind, finding.audit_id) for finding in report.findings] == [("edit", 4)]


# Another machine -------------------------------------------------------------------------------------------


async def test_a_copy_of_the_anchors_verifies_elsewhere_and_stays_as_it_is(  # noqa: PLR0917
    db: DatabaseConnection,
    write: Write,
    attack: Attacker,
    fresh_databases: DatabasePair,
    anchors: Path,
    tmp_path: Path,
):
    for _ in range(3):
        write(3)
        await seal(db)
    copy = tmp_path / "copy.jsonl"
    shutil.copy(anchors, copy)
    write(3)
    await seal(db)
    write(2)
    own = tmp_path / "own.jsonl"
    async with fresh_databases.connection("app", audit_anchor_file=own) as elsewhere:
        for _ in range(2):
            report = await AuditService(elsewhere, actor=AUDITOR).verify(anchors=copy)
            assert report.intact, report
            assert (report.rows, report.anchors) == (12, 3)
            assert "wait to be sealed" in report.notes[0]
        assert not own.exists()
        assert len(lines_of(copy)) == 4
        with pytest.raises(UsageError, match="a copy is not written to"):
            await AuditService(elsewhere).verify(anchors=copy, acknowledge="a restore")
        with pytest.raises(ValidationError, match="no anchors"):
            await AuditService(elsewhere).verify(anchors=own)
        attack("TRUNCATE audit_pending", RAISE_EPOCH)
        assert kinds(await verify(elsewhere, anchors=copy)) >= {"rewrite", "restore"}
        attack(f"UPDATE audit_log SET actor = 'user:evil' WHERE id = 5; {REWRITE_CHAIN}")
        assert kinds(await verify(elsewhere, anchors=copy)) & {"fork", "restore"}
