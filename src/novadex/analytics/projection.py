"""The projection "trades": committed trades of main become facts, candles and figures in analytics."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from novadex.analytics import log
from novadex.analytics.batch import BatchResult, apply_batch
from novadex.analytics.position import START
from novadex.analytics.projector import Outcome, Projector, Step
from novadex.analytics.rebuild import rebuild_trades
from novadex.storage.queries import Queries, load_queries

if TYPE_CHECKING:
    from novadex.analytics.log import LogSample
    from novadex.analytics.position import Position
    from novadex.storage.session import Session

__all__ = ["Outcome", "Step", "TradeProjection"]


class TradeProjection(Projector[bytes]):
    """Reads the trades of ``main`` and applies them to the analytics database."""

    name: ClassVar[str] = "trades"
    queries: ClassVar[Queries] = load_queries(Path(__file__).with_name("projection.sql"))

    async def take_sample(self, session: Session, position: Position) -> LogSample:
        return await log.take_sample(session, position)

    async def count_rows(self, session: Session, after: Position, below: int, count_max: int) -> int:
        return await log.count_rows(session, after, below, count_max)

    async def read_rows(self, session: Session, after: Position, horizon: int, rows_max: int) -> bytes:
        return await log.read_rows(session, after, horizon, rows_max)

    async def apply_rows(self, session: Session, rows: bytes) -> BatchResult:
        return await apply_batch(session, rows)

    async def rebuild(self) -> BatchResult:
        report = await rebuild_trades(self.main, self.store, self.settings)
        return BatchResult(START, report.applied, set_aside=Counter(rebuild=report.set_aside))
