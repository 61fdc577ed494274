"""Snapshots on the hour, by the worker; those that a late record made stale are taken anew."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import structlog

from novadex.analytics.catch_up import catch_up
from novadex.analytics.limits import allow_long_work
from novadex.errors import NotFoundError
from novadex.portfolio.projection import PortfolioProjection
from novadex.portfolio.snapshots import HOUR, SQL, hour_of, take, write
from novadex.portfolio.valuation import ValuationAsset, valuation_asset

if TYPE_CHECKING:
    from novadex.storage.connection import DatabaseConnection
    from novadex.storage.session import Session

DELAY = timedelta(seconds=30)
"""How long after the hour its snapshots are taken: what the venue reports by then is in them at once."""
HOURS_MAX = 24
"""Hours that are made up for after an interruption, at most."""
USERS_OF_A_PAGE = 100
"""Snapshots that are taken in one transaction; the projection waits meanwhile."""
MOMENTS_OF_A_PAGE = 100
"""Moments with stale snapshots that are looked up at once; each is a transaction of its own."""
STALE_PAGES_MAX = 100
"""Such pages that one run takes anew; what is left is for the next."""
NOBODY = UUID(int=0)

log = structlog.get_logger("novadex.portfolio")


class SnapshotKeeper:
    """Takes what is due. Killed anywhere, the next run takes the hour again: what is there stays."""

    def __init__(self, db: DatabaseConnection, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._db = db
        self._clock = clock

    async def keep(self) -> int:
        """Take the snapshots of the hours that are over, and stale ones anew; returns how many."""
        try:
            asset = await self._asset()
        except NotFoundError as error:
            log.debug("no snapshots", reason=error.message)
            return 0
        taken = 0
        for hour in await self._due():
            taken += await self._take_hour(hour, asset)
        return taken + await self._take_stale()

    async def _asset(self) -> ValuationAsset:
        async with self._db.main.transaction(read_only=True) as session:
            return await valuation_asset(session, self._db.settings.valuation_asset)

    async def _due(self) -> list[datetime]:
        newest = hour_of(self._clock() - DELAY)
        last: datetime | None = await self._db.main.value(SQL.last_hour, read_only=True)
        if last is None:
            return [newest]
        first = max(last + HOUR, newest - (HOURS_MAX - 1) * HOUR)
        return [first + n * HOUR for n in range((newest - first) // HOUR + 1)]

    async def _take_hour(self, hour: datetime, asset: ValuationAsset) -> int:
        """All users, after the projection has what was committed."""
        await catch_up(PortfolioProjection(self._db.main, self._db.settings))
        taken, after = 0, NOBODY
        while True:
            async with self._db.main.transaction() as session:
                await allow_long_work(session)
                rows = await session.query(SQL.users_with_portfolios, [after, USERS_OF_A_PAGE])
                users = [row.user_id for row in rows]
                if users:
                    await _take(session, users, hour, asset)
                if len(users) < USERS_OF_A_PAGE:
                    await session.execute(SQL.store_hour, [hour])
            taken += len(users)
            if len(users) < USERS_OF_A_PAGE:
                return taken
            after = users[-1]

    async def _take_stale(self) -> int:
        taken = 0
        for _ in range(STALE_PAGES_MAX):
            moments = await self._db.main.query(SQL.stale_moments, [MOMENTS_OF_A_PAGE], read_only=True)
            for row in moments:
                taken += await self._take_moment(row.taken_at, ValuationAsset(row.asset_id, row.symbol))
            if not moments:
                break
        return taken

    async def _take_moment(self, moment: datetime, asset: ValuationAsset) -> int:
        async with self._db.main.transaction() as session:
            await allow_long_work(session)
            rows = await session.query(SQL.stale_users, [moment, asset.id, USERS_OF_A_PAGE])
            await _take(session, [row.user_id for row in rows], moment, asset, anew=True)
        return len(rows)


async def _take(
    session: Session, users: list[UUID], moment: datetime, asset: ValuationAsset, *, anew: bool = False
) -> None:
    await write(session, await take(session, users, moment, asset), asset, anew=anew)
