"""What a benchmark gives: a figure, its peer in the same run, and the ratio of both."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table."""

    what: str
    value: float
    unit: str
    peer: str = ""
    peer_value: float | None = None
    ratio: float | None = None
    """Ours to the peer's."""
    wanted: float | None = None
    """The ratio that we want, or without a peer the value."""
    note: str = ""
    smaller_is_better: bool = False

    def reached(self) -> bool | None:
        if self.wanted is None:
            return None
        reached = self.ratio if self.ratio is not None else self.value
        return reached <= self.wanted if self.smaller_is_better else reached >= self.wanted


def quantile(values: Iterable[float], share: float) -> float:
    """The value below which this share lies.

    >>> quantile([1, 2, 3, 4], 0.5)
    3
    """
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def table(figures: Iterable[Figure]) -> str:
    """All figures as a Markdown table."""
    lines = ["| what | figure | peer in the same run | ratio | wanted | |", "|---|---|---|---|---|---|"]
    for figure in figures:
        peer = f"{figure.peer}: {_number(figure.peer_value)}" if figure.peer_value is not None else figure.peer
        ratio = f"{figure.ratio:.2f}" if figure.ratio is not None else ""
        sign = "at most" if figure.smaller_is_better else "at least"
        wanted = f"{sign} {figure.wanted:g}" if figure.wanted is not None else ""
        verdict = {True: "", False: " **missed**", None: ""}[figure.reached()]
        value = f"{_number(figure.value)} {figure.unit}"
        lines.append(f"| {figure.what} | {value} | {peer} | {ratio} | {wanted}{verdict} | {figure.note} |")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
