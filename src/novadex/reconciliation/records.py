"""What the reconciler finds."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

Values = dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it must be."""

    invariant: str
    what: str
    """The table, the book or the kind of cached entries."""
    key: dict[str, str]
    stored: Values
    """The values that are wrong, as they stand there; None where something is missing."""
    expected: Values
    """The values as they must be; None where there should be nothing."""


Found = "Callable[[Finding], None]"


class Slice(NamedTuple):
    """A bounded part of a check."""

    checked: int
    """Orders, events, trades, candles, levels, entries."""
    after: Any = None
    """Where the next part begins; None: all was looked at."""
    skipped: str | None = None
    """Why this part could not be compared at the moment, though those after it can."""


class Check(Protocol):
    """An invariant that can be asked in parts. Nothing is kept from part to part but where the next one begins."""

    @property
    def name(self) -> str: ...
    @property
    def invariant(self) -> str:
        """What must hold, in a sentence."""
        ...

    async def slice(self, after: Any, found: Callable[[Finding], None]) -> Slice:
        """Look at the part behind ``after`` (None: the first one). Raises ``UnavailableError`` where neither it nor
        those after it can be compared at the moment."""
        ...

    async def repair(self, findings: list[Finding]) -> bool:
        """Derive anew what was found wrong; False where these are records, which nobody repairs but a person."""
        ...


@dataclass(slots=True)
class CheckReport:
    """What came of one invariant."""

    name: str
    invariant: str
    checked: int = 0
    differences: int = 0
    repaired: bool | None = None
    """Whether what was wrong was derived anew; None where nothing was wrong or nobody asked."""
    left: int | None = None
    """Differences after the repair; None where it is not known."""
    skipped: str | None = None
    """Why it, or a part of it, could not be asked."""
    seconds: float = 0.0


@dataclass(slots=True)
class ReconcileReport:
    """What came of all of them."""

    checks: list[CheckReport] = field(default_factory=list)
    checked_at: datetime | None = None

    @property
    def differences(self) -> int:
        """What is wrong at the end."""
        return sum(check.differences if check.left is None else check.left for check in self.checks)

    @property
    def asked(self) -> list[str]:
        """What was looked at, wholly or in part."""
        return [check.name for check in self.checks if not check.skipped or check.checked or check.differences]

    @property
    def skipped(self) -> list[str]:
        return [check.name for check in self.checks if check.skipped]


def differing(stored: dict[str, Any], expected: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Only the values that differ.

    >>> differing({"a": 1, "b": 2}, {"a": 1, "b": 3})
    ({'b': 2}, {'b': 3})
    """
    names = [name for name in expected if stored.get(name) != expected[name]]
    return {name: stored.get(name) for name in names}, {name: expected[name] for name in names}
