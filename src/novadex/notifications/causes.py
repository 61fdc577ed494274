"""What users are told of besides their orders: prices that were reached, sign-ins from new devices, notices.

Each takes what nobody was told of and makes the notifications in the same transaction, in bounded batches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import structlog

from novadex.analytics.log import SQL as LOG
from novadex.notifications.making import Maker, count_made
from novadex.notifications.records import Draft
from novadex.storage.queries import load_queries

if TYPE_CHECKING:
    from novadex.storage.connection import DatabaseConnection
    from novadex.storage.rows import Row
    from novadex.storage.session import Session

QUERIES = load_queries(Path(__file__).with_suffix(".sql"))
BATCH_TRADES = 2_000
BATCH_ALERTS = 500
BATCH_SIGN_INS = 200
BATCH_READERS = 1_000
BATCHES_MAX = 500
"""Of one run; what is left is for the next."""
NO_ID = UUID(int=0)

log = structlog.get_logger("novadex.notifications")


class PriceAlertWatch:
    """Looks for alerts in the log of trades: each committed trade is looked at once, in whatever order it came.

    After a restore or a failover the position means nothing: it is set to the end of the log, for alerts are about
    what happens now. A jump of a price reaches many alerts: so many are told in a transaction, and the position moves
    with the last of them.
    """

    def __init__(
        self, db: DatabaseConnection, *, batch_trades: int = BATCH_TRADES, batch_alerts: int = BATCH_ALERTS
    ) -> None:
        self._db = db
        self._maker = Maker(db.settings)
        self._batch_trades = batch_trades
        self._batch_alerts = batch_alerts

    async def look(self) -> int:
        """Look at every trade that is final; returns how many alerts were reached."""
        reached = 0
        for _ in range(BATCHES_MAX):
            count, more = await self._next_batch()
            reached += count
            if not more:
                break
        return reached

    async def _next_batch(self) -> tuple[int, bool]:
        made: Counter[str] = Counter()
        async with self._db.transaction() as session:
            at = await session.one(QUERIES.lock_alert_position)
            if at is None:
                return 0, False
            life = (at.epoch_now, at.system_identifier_now, at.timeline_now)
            known = (at.epoch, at.system_identifier, at.timeline) == life and at.xid <= at.horizon
            if not known or not at.wanted:
                if at.epoch and not known:
                    log.warning("price alerts begin anew: this is another life of the database", epoch=at.epoch_now)
                await session.execute(QUERIES.move_alert_position, (*life, str(at.horizon), NO_ID))
                return 0, False
            await session.execute(LOG.read_in_order)
            batch = await session.one(QUERIES.alert_batch, (str(at.xid), at.id, str(at.horizon), self._batch_trades))
            if batch is None:
                return 0, False
            span = (str(at.xid), at.id, str(batch.xid), batch.id)
            reached = await session.query(QUERIES.trigger_alerts, (*span, self._batch_alerts))
            told = [row for row in reached if row.id is not None]
            made = await self._maker.make(session, [_alert_draft(row) for row in told])
            # An alert is armed again only for what is executed after the batch: where not everything was told and the
            # batch is looked at once more, it is not reached a second time.
            ended = len(reached) < self._batch_alerts and (
                await session.value(QUERIES.rearm_alerts, (*span, self._batch_alerts)) < self._batch_alerts
            )
            if ended:
                await session.execute(QUERIES.move_alert_position, (*life, str(batch.xid), batch.id))
        count_made(made)
        return len(told), not ended or batch.trades >= self._batch_trades


def _alert_draft(row: Row) -> Draft:
    data = {
        "alert_id": str(row.id),
        "market": row.market,
        "direction": row.direction,
        "limit_price": row.limit_price,
        "price": row.price,
        "occurred_at": _moment(row.executed_at),
    }
    return Draft(row.user_id, "price_alert", f"{row.id}:{row.trade_id}", data)


class SignInWatch:
    """Tells users of sign-ins from devices that they were not known by. The first device of a user is no news."""

    def __init__(self, db: DatabaseConnection, *, batch_sign_ins: int = BATCH_SIGN_INS) -> None:
        self._db = db
        self._maker = Maker(db.settings)
        self._batch_sign_ins = batch_sign_ins

    async def look(self) -> int:
        """Look at every sign-in that nobody looked at; returns how many users were told."""
        told = 0
        for _ in range(BATCHES_MAX):
            made, taken = await self._next_batch()
            count_made(made)
            told += made.total()
            if taken < self._batch_sign_ins:
                break
        return told

    async def _next_batch(self) -> tuple[Counter[str], int]:
        async with self._db.transaction() as session:
            taken = await session.query(QUERIES.take_sign_ins, (self._batch_sign_ins,))
            if not taken:
                return Counter(), 0
            found = await session.query(QUERIES.new_devices, ([row.session_id for row in taken],))
            drafts = [
                Draft(
                    row.user_id,
                    "new_device",
                    str(row.id),
                    {"session_id": str(row.id), "method": row.method, "occurred_at": _moment(row.created_at)},
                )
                for row in found
            ]
            return await self._maker.make(session, drafts), len(taken)


class NoticeSpreader:
    """Tells everybody whom a notice is for, so many in a transaction."""

    def __init__(self, db: DatabaseConnection, *, batch_readers: int = BATCH_READERS) -> None:
        self._db = db
        self._maker = Maker(db.settings)
        self._batch_readers = batch_readers

    async def spread(self) -> int:
        """Tell those who were not told; returns how many were."""
        told = 0
        for _ in range(BATCHES_MAX):
            async with self._db.transaction() as session:
                notice = await session.one(QUERIES.take_notice)
                made = Counter() if notice is None else await self._next_batch(session, notice)
            if notice is None:
                break
            count_made(made)
            told += made.total()
        return told

    async def _next_batch(self, session: Session, notice: Row) -> Counter[str]:
        readers = await session.query(QUERIES.next_readers, (notice.reached, notice.role, self._batch_readers))
        data = notice_data(notice.title, notice.body)
        made = await self._maker.make(
            session, [Draft(row.id, "system_notice", str(notice.id), data) for row in readers]
        )
        reached = readers[-1].id if readers else notice.reached
        await session.execute(QUERIES.move_notice, (notice.id, reached, len(readers) < self._batch_readers))
        return made


def notice_data(title: str, text: str) -> Mapping[str, str]:
    """The fields of a notice."""
    return {"title": title, "text": text}


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")
