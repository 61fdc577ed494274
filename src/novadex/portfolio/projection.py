"""The projection "portfolio": trades, transfers and liquidity events become holdings, positions and lots.

It lives in the main database, beside the records. Sums are added up by the database; positions and lots are worked
out here, in the order (executed_at, sequence, id), whatever the order of arrival.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar
from uuid import UUID

from novadex.analytics import log
from novadex.analytics.batch import BatchResult
from novadex.analytics.limits import allow_long_work
from novadex.analytics.position import START, Position, ProjectionState
from novadex.analytics.projector import Outcome, Projector, Step
from novadex.portfolio.applying import apply_trades, fold_users, lot_trade
from novadex.storage.queries import Queries, load_queries

if TYPE_CHECKING:
    from collections.abc import Callable

    from novadex.analytics.log import LogSample
    from novadex.portfolio.lots import LotTrade
    from novadex.settings import Settings
    from novadex.storage.database import Database
    from novadex.storage.rows import Row
    from novadex.storage.session import Session

LOG = load_queries(Path(__file__).with_name("log.sql"))
USERS_OF_A_PAGE = 100
"""Users that are derived anew in one transaction."""
NOBODY = UUID(int=0)


@dataclass(frozen=True, slots=True)
class MovementPage:
    """Some rows of the logs: those behind ``after`` up to ``end``."""

    after: Position
    end: Position
    rows: int
    trades: list[LotTrade]
    """Those of users, in the order of lots."""


@dataclass(frozen=True, slots=True)
class RebuildProgress:
    """How far a rebuild is."""

    users_done: int
    """By this program."""


class PortfolioProjection(Projector[MovementPage | None]):
    """Reads the logs of the main database, and applies them there."""

    name: ClassVar[str] = "portfolio"
    queries: ClassVar[Queries] = load_queries(Path(__file__).with_name("projection.sql"))

    def __init__(self, main: Database, settings: Settings) -> None:
        super().__init__(main, main, settings)
        self._rebuilt_to: UUID | None = None
        """During a rebuild: the last user who is derived anew."""

    async def take_sample(self, session: Session, position: Position) -> LogSample:
        return await log.take_sample(session, position, LOG.sample)

    async def count_rows(self, session: Session, after: Position, below: int, count_max: int) -> int:
        return await session.value(LOG.count_rows, [str(after.xid), after.id, str(below), count_max])

    async def read_rows(self, session: Session, after: Position, horizon: int, rows_max: int) -> MovementPage | None:
        (page,) = await session.query(LOG.page, [str(after.xid), after.id, str(horizon), rows_max])
        if not page.rows:
            return None
        end = Position(page.xid, page.id)
        rows = await session.query(LOG.trades_of_page, [str(after.xid), after.id, str(end.xid), end.id])
        return MovementPage(after, end, page.rows, [lot_trade(row) for row in rows])

    async def apply_rows(self, session: Session, rows: MovementPage | None) -> BatchResult:
        if rows is None:
            return BatchResult(START)
        bounds = [str(rows.after.xid), rows.after.id, str(rows.end.xid), rows.end.id]
        await session.query(self.queries.move_sums)
        await session.execute(self.queries.read_by_index)
        await session.execute(self.queries.add_sums, bounds)
        await session.execute(self.queries.mark_snapshots, bounds)
        await apply_trades(session, rows.trades, rows.end)
        return BatchResult(rows.end, rows.rows)

    # Deriving everything anew, user by user

    async def load_state(self) -> ProjectionState | None:
        row = await self.store.one(self.queries.state, read_only=True)
        self._rebuilt_to = row.rebuilt_to if row else None
        return ProjectionState.of(row) if row else None

    async def step(self, *, store_now: bool = False) -> Step:
        if self._state is None and self._rebuilt_to is None:
            self._state = await self.load_state()
        if self._rebuilt_to is not None:
            return await self._rebuild_page()
        return await super().step(store_now=store_now)

    def _goes_on_from(self, row: Row, state: ProjectionState) -> bool:
        # A rebuild that another program began leaves the position where it is: its next step continues it.
        return row.rebuilt_to is None and super()._goes_on_from(row, state)

    async def rebuild(self) -> BatchResult:
        await self.begin_rebuild()
        return BatchResult(START)

    async def begin_rebuild(self) -> None:
        """From now on every step derives some users anew, until all are; then it goes on with the log."""
        async with self.main.transaction(read_only=True) as session:
            sample = await self.take_sample(session, START)
            last = await session.one(LOG.last_row, [str(sample.horizon)])
        await self._begin(sample.identity)
        await self.store.run(_mark_for_rebuild, sample, Position(last.xid, last.id) if last else START)
        self._state, self._rebuilt_to = None, NOBODY

    async def rebuild_whole(self, progress: Callable[[RebuildProgress], None] | None = None) -> int:
        """Derive all users anew, and return how many there are. Each is whole at any moment: readers see the old
        rows of a user, or the new ones. A worker takes part in it, and goes on with it where this is killed midway.
        """
        await self.begin_rebuild()
        users = 0
        while self._rebuilt_to is not None:
            users += (await self._rebuild_page()).applied
            if progress is not None:
                progress(RebuildProgress(users))
        return await self.main.value(self.queries.count_users, read_only=True)

    async def _rebuild_page(self) -> Step:
        async with self.store.transaction() as session:
            await allow_long_work(session)
            (row,) = await session.query(self.queries.wait_for_state)
            self._state = None
            if row.rebuilt_to is None:
                self._rebuilt_to = None
                return Step(Outcome.APPLIED)
            await session.query(self.queries.move_sums)
            page = await session.query(self.queries.users_behind, [row.rebuilt_to, USERS_OF_A_PAGE])
            await derive_users(session, [user.id for user in page if user.has_portfolio], ProjectionState.of(row))
            await session.execute(self.queries.forget_users, [[user.id for user in page if not user.has_portfolio]])
            rebuilt_to = page[-1].id if len(page) == USERS_OF_A_PAGE else None
            if rebuilt_to is None:
                await session.execute(self.queries.forget_nobody)
            await session.execute(self.queries.store_rebuilt, [rebuilt_to])
        self._rebuilt_to = rebuilt_to
        return Step(Outcome.APPLIED, len(page))


async def derive_users(session: Session, users: list[UUID], state: ProjectionState) -> None:
    """Forget what is derived of users, and derive it from all their records, up to the projection's position."""
    queries = PortfolioProjection.queries
    end = state.position
    await session.execute(queries.forget_users, [users])
    await session.execute(queries.sum_users, [users, str(end.xid), end.id])
    await fold_users(session, users, end)


async def _mark_for_rebuild(session: Session, sample: LogSample, last: Position) -> None:
    """In the same life the position stays, and the log goes on from there; in another one it begins at the end."""
    (row,) = await session.query(PortfolioProjection.queries.wait_for_state)
    state, identity = ProjectionState.of(row), sample.identity
    stays = state.identity == identity and state.position.xid <= sample.next_xid
    position = state.position if stays else last
    life = [identity.epoch, identity.system_identifier, identity.timeline]
    await session.execute(PortfolioProjection.queries.begin_rebuild, [*life, str(position.xid), position.id])
