"""The anchors beside the chain: were history and its end what was written down?

The file is read as a stream, twice: once to find its lives, then all lives side by side in the order of the chain. A
life begins with the file, with every restore, and where the chain went back.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from novadex.audit.anchors import TABLES, TOUCHED, Acknowledgement, Anchor, cut_off, parse, read_lines
from novadex.audit.chain import GENESIS

if TYPE_CHECKING:
    from novadex.audit.report import AuditReport, FindingKind
    from novadex.storage.rows import Row

LIVES_MAX = 1_000
LINES_NAMED_MAX = 20
CLOCK_S_MAX = 60
"""How far two times of the server's clock may be from their order."""
XID_MAX = (1 << 64) - 1
HINT = "if it was you, say so: novadex audit verify --acknowledge 'why'"


@dataclass(slots=True)
class _Life:
    """Lines that follow each other, and what was found of them."""

    start: int
    end: int
    first: Anchor
    last: Anchor
    wrong: list[Anchor] = field(default_factory=list)
    """Those that do not agree with the chain since the last that did, up to ``LINES_NAMED_MAX``."""
    wrong_count: int = 0
    missing: int = 0
    """Links that were anchored behind the end of the chain."""
    missing_from: Anchor | None = None
    lost: list[Anchor] = field(default_factory=list)
    """The first two that do not agree, or are missing, since the last that did."""
    acknowledged: Acknowledgement | None = None
    next: Anchor | None = None
    """The first of the next life."""

    @property
    def is_lost(self) -> bool:
        return bool(self.wrong_count or self.missing)


@dataclass(slots=True)
class _Rewrite:
    """Tables whose files were exchanged between two anchors."""

    tables: str
    before: Anchor
    after: Anchor
    acknowledged: Acknowledgement | None = None


@dataclass(frozen=True, slots=True)
class Restored:
    """What must hold where a life ended with a restore: nothing that was there before it is later than this."""

    epoch: int
    """The one that the restore began."""
    xid: int
    not_after: datetime


class AnchoredChain:
    """Compares the anchors with the chain, link by link; ``judge`` says what is wrong."""

    def __init__(self, path: Path, report: AuditReport) -> None:
        self._path = path
        self._report = report
        self._lives: list[_Life] = []
        self._rewrites: list[_Rewrite] = []
        self.last: Anchor | None = None
        """The last line."""
        self.touched = [0] * len(TOUCHED)
        self._find_lives()
        streams = [self._read(life) for life in self._lives]
        self._lines = heapq.merge(*streams, key=itemgetter(0))
        self.next_position = -1
        """Where the next anchor is; beyond every link where there is none."""
        self._next: tuple[int, _Life, Anchor] | None = None
        self.missing = 0
        """Links that were anchored, and are not there at the end of the chain."""
        self.passed: Anchor | None = None
        """The last anchor that agreed."""
        self._advance()
        self.compare(0, GENESIS)

    def compare(self, position: int, chain_hash: bytes) -> None:
        """Every anchor up to this link; the chain has no link between the one before and this."""
        while self._next is not None and self._next[0] <= position:
            _, life, anchor = self._next
            if anchor.position == position and anchor.chain_hash == chain_hash.hex():
                self._agreed(life, anchor)
            else:
                self._disagreed(life, anchor)
            self._advance()

    def end(self, end: int) -> None:
        """The chain ends here: what was anchored behind it is missing."""
        while self._next is not None:
            _, life, anchor = self._next
            if life.missing_from is None:
                life.missing_from = anchor
            life.missing = max(life.missing, anchor.position - end)
            _lose(life, anchor)
            self._advance()

    def compare_with_now(self, moment: Row) -> None:
        """The database as it is, where nobody writes that to the file before it is verified."""
        last = self.last
        if last is None:
            return
        now = msgspec.structs.replace(
            last, at=moment.at.isoformat(), system=moment.system, epoch=moment.epoch, files=tuple(moment.files)
        )
        self._lives[-1].next = now
        self._compare_files(last, now)

    def restores(self, epoch: int) -> list[Restored]:
        """Where lives that lost something may have ended with a restore."""
        return [_restored(life) for life in self._lives if life.is_lost and life.last.epoch < epoch]

    def judge(self, end: int, epoch: int, plausible: set[Restored]) -> None:
        """Judge what was anchored and is not in the chain. ``plausible``: restores that the log itself tells of, and
        nothing in it contradicts."""
        for life in self._lives:
            if not life.is_lost:
                self._judge_end(life)
                continue
            if life.last.epoch < epoch and _restored(life) in plausible:
                self._judge_restore(life, epoch)
                continue
            if life.wrong:
                first = life.wrong[0]
                self._report.add(
                    "fork",
                    f"the chain up to link {first.position} is not the one that was anchored at {first.at}: history"
                    f" was written anew{_epoch_beside(life, epoch)}",
                    position=first.position,
                )
            self.missing = max(self.missing, life.missing)
        if self.missing:
            self._report.add(
                "truncation",
                f"the chain ends at link {end}, and link {end + self.missing} was anchored: {self.missing} links are"
                " missing at its end",
                position=end + 1,
            )
        for rewrite in self._rewrites:
            self._say(
                "rewrite",
                f"{rewrite.tables}: emptied or written anew between {rewrite.before.at} and {rewrite.after.at}"
                " (TRUNCATE does it; VACUUM FULL, CLUSTER and a restore too): rows that were not sealed then may be"
                " others now",
                rewrite.acknowledged,
            )

    def _judge_end(self, life: _Life) -> None:
        """Nothing of it is lost; but with another epoch, less can be told of rows that came then."""
        last, first = life.last, life.next
        if first is not None and (last.epoch, last.system) != (first.epoch, first.system):
            what = f"epoch {last.epoch} to {first.epoch}"
            if last.system != first.system:
                what += f", cluster {last.system} to {first.system}"
            self._say(
                "restore",
                f"the database was restored or moved ({what}) between {last.at} and {first.at}; nothing that was"
                " anchored is lost",
                life.acknowledged,
                first.position,
            )

    def _judge_restore(self, life: _Life, epoch: int) -> None:
        self._say(
            "restore",
            f"the database was restored (epoch {life.last.epoch} to {epoch}): what was anchored in epoch"
            f" {life.last.epoch} from {life.lost[0].at} on, up to link {life.last.position}, is not in it",
            life.acknowledged,
            life.lost[0].position,
        )

    def _say(
        self,
        kind: FindingKind,
        explanation: str,
        acknowledged: Acknowledgement | None,
        position: int | None = None,
    ) -> None:
        if acknowledged is None:
            self._report.add(kind, f"{explanation}; {HINT}", position=position)
        else:
            by = f"acknowledged by {acknowledged.by} at {acknowledged.at}: {acknowledged.why}"
            self._report.notes.append(f"{explanation} ({by})")

    def _agreed(self, life: _Life, anchor: Anchor) -> None:
        # The chain does not come back to what was anchored: those before were changed in the file.
        for wrong in life.wrong:
            self._report.add(
                "anchors",
                f"the anchor of link {wrong.position} was changed: later ones agree",
                position=wrong.position,
            )
        self._report.more_findings += life.wrong_count - len(life.wrong)
        life.wrong, life.wrong_count, life.lost = [], 0, []
        self.passed = anchor

    @staticmethod
    def _disagreed(life: _Life, anchor: Anchor) -> None:
        life.wrong_count += 1
        _lose(life, anchor)
        if len(life.wrong) < LINES_NAMED_MAX:
            life.wrong.append(anchor)

    def _advance(self) -> None:
        found = next(self._lines, None)
        self._next = found
        self.next_position = found[0] if found else 1 << 63

    def _read(self, life: _Life) -> Iterator[tuple[int, _Life, Anchor]]:
        for _, line in read_lines(self._path, life.start, life.end):
            anchor = parse(line)
            if anchor is not None:
                yield anchor.position, life, anchor

    def _find_lives(self) -> None:
        before: Anchor | None = None
        doubtful: int | None = None  # the number of a line that may have been cut off by a crash
        number = 0
        for number, (place, line) in enumerate(read_lines(self._path), 1):
            if not line:
                continue
            anchor = parse(line)
            if anchor is None:
                if cut_off(line) and doubtful is None:
                    doubtful = number
                else:
                    self._report.add("anchors", f"line {number} of the anchors cannot be read")
                    doubtful = None
                    before = None
                continue
            if self._follows(number, doubtful, before, anchor) and doubtful is not None:
                self._report.notes.append(f"line {doubtful} of the anchors was cut off by a crash; nothing is lost")
            doubtful = None
            self._take(place, len(line), anchor, before)
            before = anchor
            self._report.anchors += anchor.position > 0 and anchor.acknowledged is None
        self.last = before
        if doubtful is not None:
            self._report.notes.append(f"line {doubtful} of the anchors, the last, was cut off by a crash")

    def _follows(self, number: int, doubtful: int | None, before: Anchor | None, anchor: Anchor) -> bool:
        """Whether no line is missing before this one; that after an unreadable one is not known."""
        if before is None and self._lives:
            return False
        if before is None and anchor.position:
            self._report.add(
                "anchors",
                f"the anchors in {self._path} begin at link {anchor.position}; those before are lost, and whether the"
                " chain was rewritten or cut before that cannot be told. Were they kept elsewhere"
                " (NOVADEX_AUDIT_ANCHOR_FILE)?",
                position=anchor.position,
            )
            return False
        if before is not None and anchor.since != before.position:
            what = f"line {doubtful} cannot be read" if doubtful else "lines are missing"
            self._report.add(
                "anchors",
                f"before line {number} of the anchors (link {anchor.position}) {what}: the one before should be of"
                f" link {anchor.since}",
                position=anchor.since,
            )
            return False
        return True

    def _take(self, place: int, length: int, anchor: Anchor, before: Anchor | None) -> None:
        for index, count in enumerate(anchor.touched[: len(TOUCHED)]):
            self.touched[index] = max(self.touched[index], count)
        life = self._lives[-1] if self._lives else None
        if (
            life is None
            or before is None
            or anchor.position < before.position
            or (anchor.position == before.position and anchor.chain_hash != before.chain_hash)
            or (anchor.epoch, anchor.system) != (before.epoch, before.system)
        ):
            if len(self._lives) == LIVES_MAX:
                self._report.add("anchors", f"the anchors go back more than {LIVES_MAX} times; the rest is not read")
            if len(self._lives) >= LIVES_MAX:
                return
            if life is not None:
                life.next = anchor
            self._lives.append(_Life(place, place + length, anchor, anchor))
        else:
            life.end, life.last = place + length, anchor
        self._compare_files(before, anchor)
        if anchor.acknowledged is not None:
            for each in (*self._lives[:-1], *self._rewrites):
                each.acknowledged = each.acknowledged or anchor.acknowledged

    def _compare_files(self, before: Anchor | None, anchor: Anchor) -> None:
        """Also from life to life: whoever empties a table can raise the epoch too."""
        if before is None or not (before.files and anchor.files) or before.files == anchor.files:
            return
        exchanged = [
            table
            for number, table in enumerate(TABLES)
            if before.files[2 * number : 2 * number + 2] != anchor.files[2 * number : 2 * number + 2]
        ]
        if len(self._rewrites) < LIVES_MAX:
            self._rewrites.append(_Rewrite(", ".join(exchanged), before, anchor))
        else:
            self._report.more_findings += 1


def _lose(life: _Life, anchor: Anchor) -> None:
    if len(life.lost) < 2:
        life.lost.append(anchor)


def _restored(life: _Life) -> Restored:
    """The copy that came back is from before the first anchor that is lost, so that nothing in it is later than the
    anchor after that one. Where there is none, the clock must do: while the first was made, others wrote."""
    bound = life.lost[-1]
    try:
        at = datetime.fromisoformat(bound.at)
        xid = min(int(bound.snapshot.split(":")[1]), XID_MAX) if bound.snapshot else 0
    except (ValueError, IndexError):
        return Restored(life.last.epoch + 1, 0, datetime.min.replace(tzinfo=UTC))
    if len(life.lost) > 1 and xid:
        return Restored(life.last.epoch + 1, xid, datetime.min.replace(tzinfo=UTC))
    return Restored(life.last.epoch + 1, xid, at + timedelta(seconds=CLOCK_S_MAX))


def _epoch_beside(life: _Life, epoch: int) -> str:
    if life.last.epoch < epoch:
        return (
            f" (epoch {life.last.epoch} became {epoch}; but the log does not say so, or holds rows from before that"
            " which no copy of that time can have)"
        )
    return ""
