"""Whatever is written, sealed and changed, in whatever order: the log is found changed just where it was."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from novadex.audit.anchors import FILE_NAME
from novadex.audit.sealing import seal
from novadex.audit.verify import verify
from tests.conftest import DatabasePair

WRITE = (
    "INSERT INTO audit_log (actor, action, subject, detail)"
    " SELECT 'user:' || n, 'users.updated', 'user:' || n, jsonb_build_object('n', n) FROM generate_series(1, %s) AS n"
)
RECORDED = [
    "UPDATE audit_log SET {column} = {value} WHERE id = {id} AND {column}::text <> ({value})::text",
    "DELETE FROM audit_log WHERE id = {id}",
    "DELETE FROM audit_chain WHERE audit_id = {id}",
    "UPDATE audit_chain SET chain_hash = sha256(chain_hash) WHERE audit_id = {id}",
    "UPDATE audit_chain SET row_hash = sha256(row_hash) WHERE audit_id = {id}",
    "UPDATE audit_chain SET audit_id = audit_id + 1000000 WHERE audit_id = {id}",
    "UPDATE audit_chain SET position = position + 1000000 WHERE audit_id = {id}",
    "UPDATE audit_pending SET row_hash = sha256(row_hash) WHERE audit_id = {id}",
    "DELETE FROM audit_pending WHERE audit_id = {id}",
    "WITH gone AS (DELETE FROM audit_pending WHERE audit_id = {id}) DELETE FROM audit_log WHERE id = {id}",
    "WITH gone AS (DELETE FROM audit_chain WHERE audit_id >= {id}) DELETE FROM audit_log WHERE id >= {id}",
    "INSERT INTO audit_log (actor, action, subject) VALUES ('user:evil', 'users.updated', 'user:1')",
    "INSERT INTO audit_pending VALUES ({id} + 2000000, sha256('x')) ON CONFLICT DO NOTHING",
    "UPDATE audit_log l SET xid = o.xid FROM audit_log o WHERE l.id = {id} AND o.id = {other} AND l.xid <> o.xid",
]
"""Each changes one thing where there is something to change, and tells how many rows it changed."""
COLUMNS = {
    "actor": "'user:evil'",
    "action": "'users.erased'",
    "subject": "subject || '.'",
    "detail": "'{\"n\": 0}'",
    "database_role": "'nobody'",
    "occurred_at": "occurred_at - interval '1 hour'",
    "xid": "'3'",
}

writes = st.tuples(st.just("write"), st.integers(1, 8))
seals = st.tuples(st.just("seal"), st.just(0))
verifications = st.tuples(st.just("verify"), st.just(0))
undone = st.tuples(st.just("roll back"), st.integers(1, 4))
changes = st.tuples(
    st.just("change"),
    st.tuples(st.sampled_from(RECORDED), st.sampled_from(sorted(COLUMNS)), st.integers(1, 30), st.integers(1, 30)),
)
cut_anchors = st.tuples(st.just("lose anchors"), st.integers(1, 3))
quiet = st.one_of(writes, writes, seals, undone, verifications)
loud = st.one_of(changes, changes, cut_anchors)


@dataclass
class World:
    """A log, and whether somebody changed it."""

    pair: DatabasePair
    changed: bool = False
    done: list[Any] = field(default_factory=list)

    async def play(self, steps: list[tuple[str, Any]]) -> None:
        async with self.pair.connection("app") as db:
            for what, argument in steps:
                if what == "seal":
                    await seal(db)
                elif what == "verify":
                    await self.check(db)
                else:
                    await asyncio.to_thread(self.by_plain_sql, what, argument)
                self.done.append((what, argument))
            await self.check(db)

    async def check(self, db: Any) -> None:
        report = await verify(db)
        assert report.intact != self.changed, (self.done, report)

    def by_plain_sql(self, what: str, argument: Any) -> None:
        if what == "lose anchors":
            self.lose_anchors(argument)
            return
        with psycopg.connect(self.pair.main_url(None)) as connection:
            session = connection.info.backend_pid
            if what == "change":
                statement, column, id, other = argument
                connection.execute("SET session_replication_role = replica")
                text = statement.format(column=column, value=COLUMNS[column], id=id, other=other)
                try:
                    self.changed |= connection.execute(text.encode()).rowcount > 0
                except psycopg.errors.UniqueViolation:
                    connection.rollback()
            else:
                connection.execute(WRITE, (argument,))
                if what == "roll back":
                    connection.rollback()
        self.pair.server.wait_gone(session)  # only then the server surely counts what it changed

    def lose_anchors(self, line: int) -> None:
        """A line before the last, which the next one misses."""
        path = self.pair.data_dir / FILE_NAME
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        if line < len(lines):
            path.write_bytes(b"".join([*lines[: line - 1], *lines[line:]]))
            self.changed = True


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    before=st.lists(quiet, min_size=1, max_size=8),
    attacks=st.lists(loud, max_size=2),
    rest=st.lists(quiet, max_size=5),
)
def test_the_log_is_found_changed_just_where_it_was(
    make_databases: Callable[[], DatabasePair], before: list[Any], attacks: list[Any], rest: list[Any]
):
    pair = make_databases()
    try:
        asyncio.run(World(pair).play([*before, *attacks, *rest]))
    finally:
        (pair.data_dir / FILE_NAME).unlink(missing_ok=True)
        pair.server.drop_database(pair.main)
        pair.server.drop_database(pair.analytics)
