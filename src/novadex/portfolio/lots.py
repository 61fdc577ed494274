"""What a user's trades in one market come to: position, average cost, lots first in first out, realized profit.

Everything is counted in whole 10^-18 of a unit, by integers. Where a part of a cost leaves with a part of a
quantity, the part is rounded to that unit, half to even, and what was rounded off stays with the rest: nothing is
lost, and a position that closes has realized exactly what came in less what went out. Quantities, costs and proceeds
of a position that was sold first are negative, so that ``value - cost`` and ``proceeds - cost`` are profits in both
directions.

Average cost and first in, first out are the two formulas of IAS 2 (Inventories), paragraphs 25 and 27.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

from novadex.errors import IntegrityFaultError
from novadex.money import EXACT, trimmed

DECIMALS = 18
LAST_SEQUENCE = 2**63 - 1
LAST_ID = UUID(int=(1 << 128) - 1)
BEFORE_ALL = datetime(1970, 1, 1, tzinfo=UTC)

Key = tuple[datetime, int, UUID]
"""The order of lots: (executed_at, sequence or 0, id)."""


def units_of(amount: Decimal) -> int:
    """An amount in 10^-18 of a unit.

    >>> units_of(Decimal("1.5"))
    1500000000000000000
    """
    return int(amount.scaleb(DECIMALS, EXACT))


def amount_of(units: int) -> Decimal:
    """The amount of so many 10^-18 of a unit."""
    return trimmed(Decimal(units).scaleb(-DECIMALS, EXACT))


def share(total: int, part: int, whole: int) -> int:
    """``total * part / whole``, rounded half to even; ``part`` and ``whole`` are above 0.

    >>> share(10, 1, 4), share(14, 1, 4), share(-10, 1, 4)
    (2, 4, -2)
    """
    quotient, rest = divmod(total * part, whole)
    if 2 * rest > whole or (2 * rest == whole and quotient % 2):
        return quotient + 1
    return quotient


@dataclass(frozen=True, slots=True)
class LotTrade:
    """A trade as lots see it. Of one that was undone, and of the row that undoes it, nothing counts but its place."""

    user_id: UUID
    market_id: int
    id: UUID
    executed_at: datetime
    sequence: int
    side: str
    base_amount: Decimal
    quote_amount: Decimal
    undone: bool
    undoes: bool

    @property
    def key(self) -> Key:
        """Its place. What undoes is behind everything of its moment, so that whatever comes later of that moment, the
        trade that is undone first of all, counts as late."""
        if self.undoes:
            return self.executed_at, LAST_SEQUENCE, LAST_ID
        return self.executed_at, self.sequence, self.id

    @property
    def hour(self) -> datetime:
        return self.executed_at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a position stands after a trade."""

    quantity: int = 0
    cost: int = 0
    realized: int = 0
    fifo_cost: int = 0
    fifo_realized: int = 0
    trades: int = 0
    last: Key = (BEFORE_ALL, -LAST_SEQUENCE - 1, UUID(int=0))


@dataclass(slots=True)
class OpenLot:
    """What a trade opened, and what is left of it."""

    trade_id: UUID
    opened_at: datetime
    sequence: int
    opened_quantity: int
    opened_cost: int
    quantity: int
    cost: int


@dataclass(frozen=True, slots=True)
class LotClosing:
    """How much of a lot a trade closed."""

    trade: LotTrade
    lot_id: UUID
    quantity: int
    cost: int
    proceeds: int


@dataclass(slots=True)
class Ledger:
    """One user's position in one market, trade by trade in the order of lots.

    ``lots`` are the open ones, oldest first: at least as many as the trades to come will close.
    """

    standing: Standing = field(default_factory=Standing)
    lots: deque[OpenLot] = field(default_factory=deque)
    hours: dict[datetime, Standing] = field(default_factory=dict)
    """How it stood after the last trade of each hour that was worked on."""
    touched: dict[UUID, OpenLot] = field(default_factory=dict)
    """The lots that were opened or changed."""
    closings: list[LotClosing] = field(default_factory=list)

    def add_all(self, trades: Iterable[LotTrade]) -> Ledger:
        """All of these trades, in order."""
        for trade in trades:
            self.add(trade)
        return self

    def add(self, trade: LotTrade) -> None:
        """The next trade in the order of lots."""
        standing = self.standing
        if not trade.undone and not trade.undoes:
            standing = self._traded(standing, trade)
        standing = replace(standing, last=max(standing.last, trade.key))
        self.standing = self.hours[trade.hour] = standing

    def _traded(self, standing: Standing, trade: LotTrade) -> Standing:
        bought = 1 if trade.side == "buy" else -1
        size, cost = units_of(trade.base_amount), bought * units_of(trade.quote_amount)
        held = abs(standing.quantity)
        closes = min(size, held) if standing.quantity * bought < 0 else 0
        standing = replace(standing, trades=standing.trades + 1)
        if closes:
            proceeds = share(-cost, closes, size)
            standing = self._closed(standing, trade, closes, proceeds)
            size, cost = size - closes, cost + proceeds
        if size:
            standing = self._opened(standing, trade, bought * size, cost)
        return standing

    def _opened(self, standing: Standing, trade: LotTrade, quantity: int, cost: int) -> Standing:
        lot = OpenLot(trade.id, trade.executed_at, trade.sequence, quantity, cost, quantity, cost)
        self.lots.append(lot)
        self.touched[lot.trade_id] = lot
        return replace(
            standing,
            quantity=standing.quantity + quantity,
            cost=standing.cost + cost,
            fifo_cost=standing.fifo_cost + cost,
        )

    def _closed(self, standing: Standing, trade: LotTrade, closes: int, proceeds: int) -> Standing:
        held = abs(standing.quantity)
        direction = 1 if standing.quantity > 0 else -1
        cost = standing.cost if closes == held else share(standing.cost, closes, held)
        lots_cost = self._closed_lots(trade, direction, closes, proceeds)
        return replace(
            standing,
            quantity=standing.quantity - direction * closes,
            cost=standing.cost - cost,
            realized=standing.realized + proceeds - cost,
            fifo_cost=standing.fifo_cost - lots_cost,
            fifo_realized=standing.fifo_realized + proceeds - lots_cost,
        )

    def _closed_lots(self, trade: LotTrade, direction: int, closes: int, proceeds: int) -> int:
        """Take it from the oldest lots; returns what they had cost."""
        total = 0
        while closes:
            if not self.lots:
                raise IntegrityFaultError(
                    f"The lots of user {trade.user_id} hold less than their position.",
                    hint="novadex portfolio verify names what differs, novadex portfolio rebuild derives it anew.",
                )
            lot = self.lots[0]
            left = abs(lot.quantity)
            takes = min(closes, left)
            cost = lot.cost if takes == left else share(lot.cost, takes, left)
            received = proceeds if takes == closes else share(proceeds, takes, closes)
            self.closings.append(LotClosing(trade, lot.trade_id, direction * takes, cost, received))
            self.touched[lot.trade_id] = lot
            lot.quantity -= direction * takes
            lot.cost -= cost
            if not lot.quantity:
                self.lots.popleft()
            closes, proceeds, total = closes - takes, proceeds - received, total + cost
        return total
