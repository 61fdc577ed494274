"""What verifying found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from novadex.audit.anchors import Anchor

FindingKind = Literal[
    "edit", "delete", "insert", "reorder", "truncation", "fork", "anchors", "triggers", "restore", "rewrite"
]
ACKNOWLEDGEABLE: frozenset[FindingKind] = frozenset({"restore", "rewrite"})
"""What can be an operator's own doing: a note once somebody says that it was."""
FINDINGS_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not agree."""

    kind: FindingKind
    audit_id: int | None
    position: int | None
    explanation: str


@dataclass(slots=True)
class AuditReport:
    """What was verified, and what was found."""

    rows: int = 0
    sealed_now: int = 0
    anchors: int = 0
    head_position: int = 0
    head_hash: str = ""
    findings: list[Finding] = field(default_factory=list)
    more_findings: int = 0
    """Found, and not named any more."""
    notes: list[str] = field(default_factory=list)
    last_anchor: Anchor | None = None
    """The last line of the anchors."""

    @property
    def intact(self) -> bool:
        return not self.findings

    @property
    def can_be_acknowledged(self) -> bool:
        """Whether something was found that can be an operator's own doing."""
        return any(finding.kind in ACKNOWLEDGEABLE for finding in self.findings)

    def add(
        self, kind: FindingKind, explanation: str, *, audit_id: int | None = None, position: int | None = None
    ) -> None:
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(Finding(kind, audit_id, position, explanation))
        else:
            self.more_findings += 1
