"""``PriceAlerts``: prices that users want to hear of."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from uuid_utils.compat import uuid7

from novadex.errors import ConflictError, NotFoundError, ValidationError
from novadex.ids import parse_id
from novadex.money import PRICE_DECIMALS_MAX, parse_amount
from novadex.notifications.access import writing
from novadex.notifications.checks import LIMIT, check_cursor, check_direction, check_limit, check_new_id
from novadex.notifications.records import PriceAlert
from novadex.notifications.store import QUERIES
from novadex.trading.markets import Markets
from novadex.trading.records import Page

if TYPE_CHECKING:
    from decimal import Decimal

    from novadex.notifications.access import Own
    from novadex.roles.actor import Actor
    from novadex.storage.connection import DatabaseConnection

ALERTS_MAX = 100
"""Of a user, at once."""


class PriceAlerts:
    """The price alerts of users: their own."""

    def __init__(self, db: DatabaseConnection, actor: Actor, own: Own) -> None:
        self._db = db
        self._actor = actor
        self._own = own
        self._markets = Markets(db, actor=actor)

    async def create(
        self,
        user_id: UUID | str,
        *,
        market: str,
        direction: str,
        price: Decimal | str | int,
        once: bool = True,
        id: UUID | str | None = None,
    ) -> PriceAlert:
        """Tell the user when a market trades at a price or beyond it: ``above`` or ``below``. Trades that were
        executed before are not looked at. With the caller's own ``id`` (UUIDv7) a retry adds nothing.

        Raises ``ConflictError`` past ``ALERTS_MAX`` alerts that wait.
        """
        user = self._own(user_id, "notifications.manage_own")
        wanted = check_direction(direction)
        number, text = parse_amount(price, "price", decimals_max=PRICE_DECIMALS_MAX)
        if not number:
            raise ValidationError("price must be above 0.", field="price", hint="Nothing trades at 0.")
        alert_id = check_new_id(id) if id is not None else uuid7()
        known = await self._markets.get(market)
        async with writing(self._db, self._actor, user) as session:
            if await session.value(QUERIES.alert_count, (user,)) >= ALERTS_MAX and not await session.query(
                QUERIES.alert, (alert_id, user)
            ):
                raise ConflictError(
                    f"User {user} waits for {ALERTS_MAX} prices already.", hint="Delete one first.", field="id"
                )
            await session.execute(QUERIES.insert_alert, (alert_id, user, known.id, wanted, text, bool(once)))
            found = await session.made(PriceAlert, QUERIES.alert, (alert_id, user))
        if not found or (found[0].market, found[0].direction, found[0].price, found[0].once) != (
            known.symbol,
            wanted,
            number,
            bool(once),
        ):
            raise ConflictError(f"The id {alert_id} is that of another alert.", hint="Use another id.", field="id")
        return found[0]

    async def list(
        self, user_id: UUID | str, *, limit: int = LIMIT, cursor: UUID | str | None = None
    ) -> Page[PriceAlert]:
        """A page of a user's alerts, the newest first."""
        user = self._own(user_id, "notifications.read_own")
        below, count = check_cursor(cursor), check_limit(limit)
        found = await self._db.main.made(PriceAlert, QUERIES.alerts, (user, below, count + 1), read_only=True)
        return Page(found[:count], str(found[count - 1].id) if len(found) > count else None)

    async def delete(self, user_id: UUID | str, alert_id: UUID | str) -> None:
        """Do not wait for it any more."""
        user, alert = self._own(user_id, "notifications.manage_own"), parse_id(alert_id, "alert_id")
        async with writing(self._db, self._actor, user) as session:
            deleted = await session.execute(QUERIES.delete_alert, (alert, user))
        if not deleted:
            raise NotFoundError(f"There is no alert {alert}.", hint="List them to see which there are.")
