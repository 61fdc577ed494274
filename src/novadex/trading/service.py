"""``TradingService``: trades are recorded exactly once and durably, and listed by key."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Unpack
from uuid import UUID

from novadex import metrics
from novadex.errors import NotFoundError, NovaDexError, UsageError, ValidationError
from novadex.ids import milliseconds_of, parse_id
from novadex.storage.connection import DatabaseConnection
from novadex.storage.group_commit import GroupCommitter
from novadex.trading.markets import QUERIES, Markets, check_limit
from novadex.trading.prepare import PreparedTrade, TradeInput, market_symbol, parse_moment, prepare
from novadex.trading.records import Page, Trade
from novadex.trading.writing import TradeWriter

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

BULK_BATCH_TRADES = 5_000
LIST_LIMIT = 100
_LAST_ID = UUID(int=(1 << 128) - 1)
_FIRST_ID = UUID(int=0)


class TradingService:
    """Trades of an instance.

    ``create_trade`` may be called by thousands of tasks at once: they share transactions (group commit), and
    each returns only after its trade is on disk.
    """

    def __init__(self, db: DatabaseConnection | None = None) -> None:
        self._db = db or DatabaseConnection.get_instance()
        settings = self._db.settings
        self.markets = Markets(self._db)
        self._committer: GroupCommitter[PreparedTrade, Trade] = GroupCommitter(
            lambda: TradeWriter(self._db.main),
            batch_max=settings.group_commit_batch_max,
            queue_max=settings.group_commit_queue_max,
            wait_s_max=settings.group_commit_wait_s_max,
        )
        metrics.group_commit_waiting.set_function(self._committer.waiting)

    async def create_trade(self, trade: TradeInput | None = None, /, **fields: Unpack[TradeInput]) -> Trade:
        """Record one trade; returns it once it is committed.

        Amounts are ``Decimal``, ``str`` or ``int`` in units of the asset (``"1.5"`` SOL), never a float.
        With the caller's own ``id`` (UUIDv7) or ``idempotency_key`` a retry returns the first trade; the same
        id or key with another trade raises ``ConflictError``.

        Raises ``ValidationError`` (names the field), ``NotFoundError`` (market, user, order),
        ``OverloadedError`` and ``UnavailableError``: try again with the same id, which ``details["trade_id"]``
        names where NovaDex made it.
        """
        prepared = await self._prepare({**trade, **fields} if trade is not None else fields)
        return await self._committer.submit(prepared)

    async def create_trades(self, trades: Iterable[TradeInput]) -> list[Trade | NovaDexError]:
        """Record many; one outcome for each, in order: the trade, or the error that it alone has.

        They are written in transactions of at most 5,000 trades.
        """
        outcomes: list[Any] = []
        waiting: list[tuple[int, PreparedTrade]] = []
        writer = TradeWriter(self._db.main)
        try:
            for index, fields in enumerate(trades):
                try:
                    waiting.append((index, await self._prepare(fields)))
                    outcomes.append(None)
                except UsageError as error:
                    outcomes.append(error)
                if len(waiting) >= BULK_BATCH_TRADES:
                    await self._write_bulk(writer, waiting, outcomes)
            await self._write_bulk(writer, waiting, outcomes)
        finally:
            await writer.close()
        return outcomes

    async def get_trade(self, id: UUID | str) -> Trade:
        """A trade by its id; ``NotFoundError`` where there is none."""
        wanted = parse_id(id, "id")
        found = await self._db.main.made(Trade, QUERIES.trades_by_ids, [[wanted]], read_only=True)
        if not found:
            raise NotFoundError(f"There is no trade {wanted}.", hint="Is it the id of this instance?", id=wanted)
        return found[0]

    async def list_trades(
        self,
        *,
        user_id: UUID | str | None = None,
        market: str | None = None,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        limit: int = LIST_LIMIT,
        cursor: str | None = None,
    ) -> Page[Trade]:
        """A page of trades, newest first, of a user, a market, or both, executed in [``start``, ``end``).

        ``cursor`` is the ``next`` of the page before. Page 10,000 costs what page 1 costs.
        """
        limit = check_limit(limit)
        above = _bound(end) if end is not None else _LAST_ID
        if cursor is not None:
            above = min(above, parse_id(cursor, "cursor"))
        below = _bound(start) if start is not None else _FIRST_ID
        market_id = (await self._market(market)).id if market is not None else None
        page: list[Any] = [above, below, limit + 1]
        if user_id is not None:
            query, page = QUERIES.trades_of_user, [*page, market_id, parse_id(user_id, "user_id")]
        elif market_id is not None:
            query, page = QUERIES.trades_of_market, [*page, market_id]
        else:
            query = QUERIES.trades_newest
        trades = await self._db.main.made(Trade, query, page, read_only=True)
        return Page(trades[:limit], str(trades[limit - 1].id) if len(trades) > limit else None)

    async def close(self) -> None:
        """Write what waits and end; a later call raises ``UnavailableError``."""
        await self._committer.close()

    async def __aenter__(self) -> TradingService:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _market(self, symbol: str) -> Any:
        return self.markets.remembered(symbol) or await self.markets.get(symbol)

    async def _prepare(self, fields: Mapping[str, Any]) -> PreparedTrade:
        try:
            market = await self._market(market_symbol(fields))
            fee_asset = fields.get("fee_asset")
            fee_asset_id = None
            if fee_asset is not None:
                if type(fee_asset) is not str:
                    raise ValidationError(f"fee_asset must be a symbol, got {fee_asset!r}.", field="fee_asset")
                fee_asset_id = (await self.markets.asset(fee_asset)).id
            return prepare(fields, market, fee_asset_id)
        except UsageError as error:
            metrics.trades_refused.labels(error.code).inc()
            raise

    @staticmethod
    async def _write_bulk(writer: TradeWriter, waiting: list[tuple[int, PreparedTrade]], outcomes: list[Any]) -> None:
        if waiting:
            written: Sequence[Any] = await writer.write([prepared for _, prepared in waiting])
            for (index, _), outcome in zip(waiting, written, strict=True):
                outcomes[index] = outcome
            waiting.clear()


def _bound(moment: datetime | str) -> UUID:
    """The lowest id at or after a moment. Ids carry whole milliseconds."""
    return UUID(int=milliseconds_of(parse_moment(moment)) << 80)
