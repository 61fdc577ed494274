"""``novadex audit verify``: recomputes everything, and names what does not agree.

Hashes are recomputed here from the columns. Memory is bounded: log, chain and anchors come in order, in pages, and
findings are named up to a limit. Writing goes on meanwhile: each page is a transaction of its own, and what is sealed
later is verified too, or next time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import psycopg

from novadex.audit.anchored import CLOCK_S_MAX, AnchoredChain, Restored
from novadex.audit.anchors import TOUCHED, Anchor, anchor_path, last_anchor
from novadex.audit.chain import GENESIS, POSITIONS_END, link_hash, row_hash
from novadex.audit.guards import differences, expected_guards, guards_of
from novadex.audit.report import FINDINGS_MAX, AuditReport
from novadex.audit.sealing import QUERIES, seal
from novadex.errors import ValidationError

if TYPE_CHECKING:
    from pathlib import Path

    from novadex.storage.connection import DatabaseConnection
    from novadex.storage.rows import Row

PAGE_ROWS = 10_000
BEFORE_ALL = -(1 << 63)
SUSPECT_ROWS_MAX = 200
SUSPECT_LINKS_MAX = 50
"""Rows and links that do not agree are compared with each other, to tell exchanged ones, up to so many."""
GAP_NAMED_MAX = 100
"""Rows whose links are gone are named where there are so many at most."""
CANDIDATE_IDS = 10_000
CANDIDATES_NAMED_MAX = 10

Link = tuple[int, int, bytes, bytes, str | None]
"""Position, row, hash of the row, hash of the chain, and what is hashed of the row or None."""
Progress = Callable[[int, int], None]
"""Told how many rows are verified, and of how many."""


async def verify(
    db: DatabaseConnection, progress: Progress = lambda _done, _all: None, *, anchors: Path | None = None
) -> AuditReport:
    """Seal what waits, then compare log, chain and anchors.

    With ``anchors``, a copy of their file, nothing is sealed and the file is not written to.
    """
    report = AuditReport()
    path = anchors or anchor_path(db.settings, db.endpoints.data_dir)
    rows = 0
    if anchors is None:
        rows = await _seal(db, report)
    elif await asyncio.to_thread(last_anchor, anchors) is None:
        raise ValidationError(
            f"There are no anchors in {anchors}.", field="anchors", hint="Name a copy of audit-anchors.jsonl."
        )
    anchored = await asyncio.to_thread(AnchoredChain, path, report)
    report.last_anchor = anchored.last
    walk = _Walk(report, anchored)
    page = await _page(db, BEFORE_ALL)
    while page:
        next_page = asyncio.create_task(_page(db, page[-1][0]))
        try:
            await asyncio.to_thread(walk.take, page)
            progress(report.rows, max(rows, report.rows))
        finally:
            page = await next_page
    walk.judge()
    moment = await db.main.one(QUERIES.moment)
    assert moment is not None  # noqa: S101 - it selects functions
    if anchors is not None:
        anchored.compare_with_now(moment)
        if moment.waiting:
            report.notes.append(f"{moment.waiting:,} rows wait to be sealed, and were not verified")
    anchored.end(walk.position)
    anchored.judge(walk.position, moment.epoch, await _plausible(db, anchored.restores(moment.epoch), moment.epoch))
    await _look_around(db, report, anchored, moment)
    report.head_position, report.head_hash = walk.position, walk.head.hex()
    return report


async def _seal(db: DatabaseConnection, report: AuditReport) -> int:
    """Seal what waits; returns where the chain ends. Where a link was put in to which nothing can be appended, all
    else is verified nevertheless."""
    try:
        sealed = await seal(db)
    except psycopg.IntegrityError as error:
        report.add("insert", f"what waits cannot be sealed: {error.diag.message_primary}")
        return 0
    report.sealed_now = sealed.rows
    return sealed.position


async def _plausible(db: DatabaseConnection, restores: Sequence[Restored], epoch: int) -> set[Restored]:
    """Restores that the log tells of, every epoch since; and what was there before is not later than the copy can
    be."""
    if not restores:
        return set()
    plausible: set[Restored] = set()
    async with db.main.transaction(read_only=True) as session:
        await session.execute(QUERIES.unbounded)
        for restored in restores:
            said = await session.one(QUERIES.epochs_written_down, (restored.epoch, epoch))
            if said is None or said.epochs != epoch - restored.epoch + 1:
                continue
            bound = (said.id, str(restored.xid), restored.not_after)
            if await session.value(QUERIES.too_late, bound) is None:
                plausible.add(restored)
    return plausible


async def _page(db: DatabaseConnection, after: int) -> list[Link]:
    async with db.main.transaction(read_only=True) as session:
        return await session.made(_link, QUERIES.links, (after, PAGE_ROWS))


def _link(*columns: Any) -> Link:
    return columns  # pyright: ignore[reportReturnType]


async def _look_around(db: DatabaseConnection, report: AuditReport, anchored: AnchoredChain, moment: Row) -> None:
    """What the chain does not tell: rows beside it, changes of rows that were not sealed yet, triggers."""
    async with db.main.transaction(read_only=True) as session:
        await session.execute(QUERIES.unbounded)
        for row in await session.query(QUERIES.strangers, (FINDINGS_MAX,)):
            report.add(
                "insert",
                f"row {row.id} is not in the chain and did not wait for it: it was put in beside the triggers",
                audit_id=row.id,
            )
        expected = await asyncio.to_thread(expected_guards)
        wrong = [*differences(expected, await guards_of(session))]
        for what in [*wrong, *(row.off for row in await session.query(QUERIES.switches))]:
            report.add(
                "triggers",
                f"{what}: what is done meanwhile may not be written down (or the database is of another version of"
                " NovaDex)",
            )
        touched = [max(pair) for pair in zip(moment.touched, anchored.touched, strict=True)]
        if any(touched) and not report.more_findings:
            newest = await session.value(QUERIES.newest_id)
            missing = await session.query(
                QUERIES.missing_ids, (newest, max(1, newest - CANDIDATE_IDS), CANDIDATES_NAMED_MAX)
            )
            _add_touched(report, touched, anchored.missing, [row.id for row in missing])


def _add_touched(report: AuditReport, touched: Sequence[int], cut_off: int, missing_ids: Sequence[int]) -> None:
    """Nothing changes these rows, and triggers refuse it. Whoever switched them off is in the server's statistics,
    also where row, hash and what waited agree. What is named already is not told again."""
    kinds = [finding.kind for finding in report.findings]
    changed = kinds.count("edit") + kinds.count("reorder")
    named = {"edit": changed, "delete": kinds.count("delete") + cut_off}
    for (table, kind), count in zip(TOUCHED, touched, strict=True):
        if count <= named[kind]:
            continue
        missing = missing_ids if (table, kind) == ("audit_log", "delete") else []
        only = missing[0] if len(missing) == count == 1 else None
        which = f"; of the newest ids these are not there: {', '.join(map(str, missing))}" if missing else ""
        done = "deleted" if kind == "delete" else "changed"
        explanation = f"the server counts {count} rows of {table} that were {done} beside the triggers{which}"
        report.add(kind, explanation, audit_id=only)


class _Walk:
    """Along the chain, link by link."""

    def __init__(self, report: AuditReport, anchored: AnchoredChain) -> None:
        self.position = 0
        self.head = GENESIS
        self._report = report
        self._anchored = anchored
        self._audit_id = 0
        self._before_known = True
        self._rows: list[Link] = []
        """Rows that are not what they were."""
        self._links: list[tuple[bytes, Link]] = []
        """Links that do not follow from the one before, with its hash."""
        self._anchor: Anchor | None = None
        """The last that agreed, and what it says of the rows behind it."""
        self._snapshot: tuple[int, int, frozenset[int]] | None = None
        self._not_before_us = 0
        self._untimely: list[tuple[Link, str]] = []
        """Rows behind it that claim to have been there before; the next anchor says whether it is the same life."""

    def take(self, page: Sequence[Link]) -> None:
        for link in page:
            position, audit_id, hash_of_row, chain_hash, content = link
            self._report.rows += 1
            if position >= POSITIONS_END:
                explanation = f"there is a link {position}, where no chain gets: it was put in"
                self._report.add("insert", explanation, audit_id=audit_id, position=position)
                continue
            if position <= self.position:
                what = f"a second row with the id {audit_id}" if position == self.position else f"a link {position}"
                self._report.add("insert", f"there is {what}", audit_id=audit_id, position=position)
                self._row(link)
                continue
            if position != self.position + 1:
                self._gap(link)
            elif self._before_known and link_hash(self.head, position, audit_id, hash_of_row) != chain_hash:
                self._broken(link)
            self._before_known = True
            if content is not None and row_hash(content) == hash_of_row:
                self._judge_time(link, content)
            else:
                self._row(link)
            self.position, self.head, self._audit_id = position, chain_hash, audit_id
            if self._anchored.next_position <= position:
                self._anchored.compare(position, chain_hash)
                if self._anchored.passed is not self._anchor:
                    self._pass(self._anchored.passed)

    def judge(self) -> None:
        """Tell exchanged rows and links from changed ones."""
        for row in self._rows:
            other = next((o for o in self._rows if o is not row and _exchanged(row, o)), None)
            if other is None:
                self._add_edit(row)
            else:
                explanation = f"rows {row[1]} and {other[1]} were exchanged"
                self._report.add("reorder", explanation, audit_id=row[1], position=row[0])
        before = {link[3] for _, link in self._links}
        follow = [
            link for own, link in self._links if any(_follows(b, link[0], link, link[3]) for b in before - {own})
        ]
        if len(follow) == len(self._links):
            follow = []
        for own, link in self._links:
            if link in follow:
                continue  # it follows from a link that was exchanged
            others = [other for _, other in self._links if other is not link]
            if any(_follows(b, link[0], o, h) for b in before | {own} for o in others for h in (link[3], o[3])):
                self._report.add(
                    "reorder", f"link {link[0]} was exchanged with another", audit_id=link[1], position=link[0]
                )
            else:
                self._add_broken(link)

    def _row(self, link: Link) -> None:
        position, audit_id, _, _, content = link
        if content is None:
            self._report.add("delete", f"row {audit_id} was deleted", audit_id=audit_id, position=position)
        elif len(self._rows) < SUSPECT_ROWS_MAX:
            self._rows.append(link)
        else:
            self._add_edit(link)

    def _broken(self, link: Link) -> None:
        if len(self._links) < SUSPECT_LINKS_MAX:
            self._links.append((self.head, link))
        else:
            self._add_broken(link)

    def _gap(self, link: Link) -> None:
        """Links are missing before this one; what it follows from is not known."""
        position, audit_id = link[0], link[1]
        missing = position - self.position - 1
        if audit_id - self._audit_id - 1 == missing <= GAP_NAMED_MAX:
            for number in range(1, missing + 1):
                self._report.add(
                    "delete",
                    f"row {self._audit_id + number} was deleted with its link {self.position + number}",
                    audit_id=self._audit_id + number,
                    position=self.position + number,
                )
        else:
            links = f"links {self.position + 1} to {position - 1}" if missing > 1 else f"link {position - 1}"
            self._report.add(
                "delete",
                f"the chain has lost {links}, of rows between {self._audit_id} and {audit_id}",
                position=self.position + 1,
            )

    def _judge_time(self, link: Link, content: str) -> None:
        """Where a row claims to have been there before the last anchor, it should have been sealed by it."""
        _, at_us, xid_text, _ = content.split(",", 3)
        if at_us.endswith("Infinity"):
            explanation = f"row {link[1]} says that it was written at no time: it was put in beside the triggers"
            self._report.add("insert", explanation, audit_id=link[1], position=link[0])
            return
        if self._snapshot is None:
            return
        began, ended, running = self._snapshot
        xid = int(xid_text)
        if xid < began or (xid < ended and xid not in running):
            explanation = f"says that transaction {xid} wrote it, which had ended then, and the row was not there"
        elif xid >= ended and int(at_us) < self._not_before_us:
            explanation = (
                f"says that it was written more than {CLOCK_S_MAX} s before that; its transaction began later (or the"
                " server's clock was set back)"
            )
        else:
            return
        if len(self._untimely) < FINDINGS_MAX:
            self._untimely.append((link, explanation))

    def _pass(self, anchor: Anchor | None) -> None:
        """An anchor agreed. Transaction numbers are comparable within one life of one cluster."""
        before, self._anchor = self._anchor, anchor
        if (
            before is not None
            and anchor is not None
            and (before.system, before.epoch) == (anchor.system, anchor.epoch)
        ):
            for link, explanation in self._untimely:
                self._report.add(
                    "insert",
                    f"row {link[1]} was sealed after {before.at}, and {explanation}",
                    audit_id=link[1],
                    position=link[0],
                )
        self._untimely = []
        self._snapshot = None
        if anchor is not None and anchor.snapshot:
            try:
                began, ended, running = anchor.snapshot.split(":")
                self._snapshot = (int(began), int(ended), frozenset(map(int, running.split(",") if running else ())))
                self._not_before_us = int((datetime.fromisoformat(anchor.at).timestamp() - CLOCK_S_MAX) * 1_000_000)
            except ValueError:
                self._report.add(
                    "anchors", f"the anchor of link {anchor.position} was changed", position=anchor.position
                )

    def _add_edit(self, link: Link) -> None:
        self._report.add(
            "edit", f"row {link[1]} was changed after it was written", audit_id=link[1], position=link[0]
        )

    def _add_broken(self, link: Link) -> None:
        self._report.add(
            "edit",
            f"link {link[0]} (row {link[1]}) does not follow from the one before it: the chain was changed",
            audit_id=link[1],
            position=link[0],
        )


def _exchanged(row: Link, other: Link) -> bool:
    """Whether this row's hash is that of the other's content under this id, or the other's hash is this row's."""
    _, _, rest = (other[4] or "").partition(",")
    return row_hash(f"{row[1]},{rest}") == row[2] or row_hash(row[4] or "") == other[2]


def _follows(before: bytes, position: int, link: Link, chain_hash: bytes) -> bool:
    return link_hash(before, position, link[1], link[2]) == chain_hash
