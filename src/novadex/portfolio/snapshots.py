"""Portfolios at a moment: everything with ``executed_at`` before it that was recorded, valued at its prices.

All sums are exact. With ``rate(a)`` for one unit of asset a in the valuation asset (0 where no price says it):

* ``total_value``: the sum of ``holding(a) * rate(a)`` over all assets, and ``pool_value``
* ``net_transfers``: the sum of ``(deposits(a) - withdrawals(a)) * rate(a)``
* ``realized``: the sum of ``realized * rate(quote)`` over all markets
* ``unrealized``: the sum of ``quantity * rate(base) - cost * rate(quote)``
* ``fees``, ``funding``: the sums of fees and funding payments times the rates of their assets
* ``pool_value``: what the open liquidity positions hold, times the rates
* ``pool_profit``: that, and what came out of pools less what was put in, times the rates

A trade moves ``quantity`` of the base and ``realized - cost`` of the quote asset, so that the parts add up to the
total whatever the rates are; the database checks it for every row.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import msgspec

from novadex.analytics.position import ProjectionState
from novadex.errors import UnavailableError
from novadex.ids import EPOCH, id_of_source, milliseconds_of, time_of_ms
from novadex.liquidity.records import Pool
from novadex.liquidity.service import SQL as LIQUIDITY
from novadex.liquidity.service import ticks_of
from novadex.liquidity.valuation import PoolState, amounts_in_pool
from novadex.money import EXACT, plain, trimmed
from novadex.portfolio.applying import CHUNK_TRADES, lot_trade, open_lot, standing_of
from novadex.portfolio.lots import Ledger, Standing, amount_of
from novadex.portfolio.projection import PortfolioProjection
from novadex.portfolio.records import HoldingValue, PositionValue, Snapshot
from novadex.portfolio.valuation import ValuationAsset, prices_at
from novadex.storage.queries import load_queries

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from novadex.portfolio.valuation import Prices
    from novadex.storage.rows import Row
    from novadex.storage.session import Session

SQL = load_queries(Path(__file__).with_name("snapshots.sql"))
PROJECTION = PortfolioProjection.queries
HOUR = timedelta(hours=1)
ZERO = Decimal(0)


def hour_of(moment: datetime) -> datetime:
    """The beginning of its hour, UTC.

    >>> hour_of(datetime(2024, 8, 8, 23, 54, 15, tzinfo=UTC)).isoformat()
    '2024-08-08T23:00:00+00:00'
    """
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def whole_milliseconds(moment: datetime) -> datetime:
    return time_of_ms(milliseconds_of(moment))


@dataclass(slots=True)
class Portfolio:
    """One user's sums and positions at a moment."""

    sums: dict[tuple[int, int, str], Decimal] = field(default_factory=dict)
    """By asset, market and kind, as in ``portfolio_movements``."""
    standings: dict[int, Standing] = field(default_factory=dict)
    """By market."""
    in_pools: dict[int, Decimal] = field(default_factory=dict)
    """What open liquidity positions hold, by asset."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What one transaction took."""

    snapshots: list[Snapshot]
    state: ProjectionState


async def portfolios_at(
    session: Session, users: Sequence[UUID], moment: datetime
) -> tuple[dict[UUID, Portfolio], ProjectionState]:
    """The portfolios of users just before a moment. Until the transaction ends, the projection stays where it is."""
    await session.query(PROJECTION.hold_sums)
    await session.execute(PROJECTION.read_by_index)
    row = await session.one(PROJECTION.state)
    if row is None or row.rebuilt_to is not None:
        raise UnavailableError(
            "Portfolios are about to be derived anew." if row else "The projection of portfolios has not begun.",
            hint="Try again later. Is the worker running?",
        )
    state = ProjectionState.of(row)
    end = [str(state.position.xid), state.position.id]
    rest_of_hour = moment if moment == hour_of(moment) else hour_of(moment) + HOUR
    found: dict[UUID, Portfolio] = {user: Portfolio() for user in users}
    for sums in await session.query(SQL.sums_at, [list(users), moment, rest_of_hour, *end]):
        found[sums.user_id].sums[sums.asset_id, sums.market_id, sums.kind] = sums.amount
    for at_hour in await session.query(SQL.positions_at, [list(users), moment]):
        standing = await _within_hour(session, at_hour, moment, end) if at_hour.too_late else standing_of(at_hour)
        found[at_hour.user_id].standings[at_hour.market_id] = standing
    for row in await session.query(LIQUIDITY.open_positions_at, [list(users), moment, *end]):
        base, quote = _in_pool(row)
        in_pools = found[row.user_id].in_pools
        for asset_id, amount in ((row.base_asset_id, base), (row.quote_asset_id, quote)):
            in_pools[asset_id] = EXACT.add(in_pools.get(asset_id, ZERO), amount)
    return found, state


def _in_pool(row: Row) -> tuple[Decimal, Decimal]:
    """What a position holds in its pool, or what is left of what was put in, where nothing is known of the pool."""
    if row.pool_liquidity is None:
        return row.base_left, row.quote_left
    pool = Pool(
        row.pool_id,
        row.market,
        row.kind,
        row.address,
        row.fee_ppm,
        row.tick_spacing,
        row.base_is_token0,
        row.base_decimals,
        row.quote_decimals,
    )
    pool_state = PoolState(int(row.pool_liquidity), row.close_tick, row.base_reserve, row.quote_reserve)
    return amounts_in_pool(pool, int(row.liquidity), ticks_of(row), pool_state)


async def _within_hour(session: Session, row: Row, moment: datetime, end: list[Any]) -> Standing:
    """How a position stood in the middle of an hour: as at its beginning, and the trades from there on."""
    place = [row.user_id, row.market_id, row.hour]
    before = await session.one(SQL.standing_before, place)
    lots = await session.query(SQL.lots_before, place)
    ledger = Ledger(standing_of(before) if before else Standing(), deque(open_lot(lot) for lot in lots))
    keys = [[row.user_id], [row.market_id], [row.hour]]
    trades = cast("AsyncGenerator[Row]", session.stream(PROJECTION.trades_since, [*keys, *end], CHUNK_TRADES))
    async with aclosing(trades) as rows:
        async for trade in rows:
            if trade.executed_at >= moment:
                break
            ledger.add(lot_trade(trade))
    return ledger.standing


async def take(session: Session, users: Sequence[UUID], moment: datetime, asset: ValuationAsset) -> Taken:
    """Snapshots of users, not written yet."""
    portfolios, state = await portfolios_at(session, users, moment)
    prices = await prices_at(session, moment)
    names = await _names(session, portfolios.values())
    rates = prices.rates(asset.id)
    return Taken(
        [_snapshot(user, portfolio, moment, asset, rates, prices, names) for user, portfolio in portfolios.items()],
        state,
    )


@dataclass(frozen=True, slots=True)
class Names:
    """Assets by id, and markets: symbol, base and quote asset."""

    assets: dict[int, str]
    markets: dict[int, tuple[str, int, int]]


async def _names(session: Session, portfolios: Iterable[Portfolio]) -> Names:
    all_of_them = list(portfolios)
    market_ids = {market for portfolio in all_of_them for market in portfolio.standings}
    rows = await session.query(SQL.markets_of, [sorted(market_ids)])
    asset_ids = {asset for portfolio in all_of_them for asset, _, _ in portfolio.sums}
    asset_ids |= {asset for portfolio in all_of_them for asset in portfolio.in_pools}
    assets = await session.query(SQL.assets_of, [sorted(asset_ids)])
    return Names(
        {row.id: row.symbol for row in assets},
        {row.id: (row.symbol, row.base_asset_id, row.quote_asset_id) for row in rows},
    )


def _snapshot(  # noqa: PLR0917 - what a valuation needs
    user: UUID,
    portfolio: Portfolio,
    moment: datetime,
    asset: ValuationAsset,
    rates: dict[int, Decimal],
    prices: Prices,
    names: Names,
) -> Snapshot:
    held: dict[int, Decimal] = defaultdict(Decimal)
    by_kind: dict[str, Decimal] = defaultdict(Decimal)
    for (asset_id, _, kind), amount in portfolio.sums.items():
        held[asset_id] = EXACT.add(held[asset_id], amount)
        by_kind[kind] = EXACT.add(by_kind[kind], EXACT.multiply(amount, rates.get(asset_id, ZERO)))
    in_pools = _total(EXACT.multiply(amount, rates.get(id, ZERO)) for id, amount in portfolio.in_pools.items())
    holdings = [
        HoldingValue(
            names.assets[id],
            trimmed(amount),
            rates.get(id),
            trimmed(EXACT.multiply(amount, rates.get(id, ZERO))),
        )
        for id, amount in sorted(held.items(), key=lambda item: names.assets[item[0]])
        if amount
    ]
    realized, unrealized = ZERO, ZERO
    for market_id, standing in portfolio.standings.items():
        _, base, quote = names.markets[market_id]
        realized = EXACT.add(realized, EXACT.multiply(amount_of(standing.realized), rates.get(quote, ZERO)))
        value = EXACT.multiply(amount_of(standing.quantity), rates.get(base, ZERO))
        cost = EXACT.multiply(amount_of(standing.cost), rates.get(quote, ZERO))
        unrealized = EXACT.add(unrealized, EXACT.subtract(value, cost))
    positions = sorted(
        (
            position_value(names.markets[market_id][0], standing, prices.of_market.get(market_id))
            for market_id, standing in portfolio.standings.items()
        ),
        key=lambda position: position.market,
    )
    through_pools = _total(by_kind[kind] for kind in ("pool_in", "pool_out", "pool_fee"))
    return Snapshot(
        user_id=user,
        taken_at=moment,
        valuation_asset=asset.symbol,
        total_value=trimmed(EXACT.add(_total(holding.value for holding in holdings), in_pools)),
        net_transfers=trimmed(EXACT.add(by_kind["deposit"], by_kind["withdrawal"])),
        realized=trimmed(realized),
        unrealized=trimmed(unrealized),
        fees=trimmed(EXACT.minus(by_kind["fee"])),
        funding=trimmed(by_kind["funding"]),
        pool_value=trimmed(in_pools),
        pool_profit=trimmed(EXACT.add(in_pools, through_pools)),
        holdings=holdings,
        positions=positions,
    )


def position_value(market: str, standing: Standing, price: Decimal | None) -> PositionValue:
    quantity, cost = amount_of(standing.quantity), amount_of(standing.cost)
    return PositionValue(
        market,
        quantity,
        cost,
        amount_of(standing.realized),
        amount_of(standing.fifo_cost),
        amount_of(standing.fifo_realized),
        price,
        None if price is None else trimmed(EXACT.subtract(EXACT.multiply(quantity, price), cost)),
    )


def _total(amounts: Iterable[Decimal]) -> Decimal:
    total = ZERO
    for amount in amounts:
        total = EXACT.add(total, amount)
    return total


async def write(session: Session, taken: Taken, asset: ValuationAsset, *, anew: bool = False) -> None:
    """Write snapshots; those that are there already stay, or with ``anew`` are replaced."""
    if not taken.snapshots:
        return
    rows = [
        (
            id_of_source(milliseconds_of(s.taken_at), "snapshot", s.valuation_asset, str(s.user_id)),
            s.user_id,
            s.taken_at,
            asset.id,
            s.total_value,
            _document(s.holdings),
            s.net_transfers,
            s.realized,
            s.unrealized,
            s.fees,
            s.funding,
            s.pool_value,
            s.pool_profit,
            _document(s.positions),
        )
        for s in taken.snapshots
    ]
    position = taken.state.position
    columns = [list(column) for column in zip(*rows, strict=True)]
    await session.execute(
        SQL.replace_snapshots if anew else SQL.add_snapshots, [*columns, str(position.xid), position.id]
    )


def _document(items: Sequence[HoldingValue] | Sequence[PositionValue]) -> str:
    """Amounts as plain strings: a JSON number would be read as a float."""
    documents = [
        {name: plain(value) if isinstance(value, Decimal) else value for name, value in asdict(item).items()}
        for item in items
    ]
    return msgspec.json.encode(documents).decode()


def snapshot_of(row: Row) -> Snapshot:
    """A stored snapshot."""
    fields = dict(row)
    fields["holdings"] = msgspec.convert(row.holdings, list[HoldingValue], strict=False)
    fields["positions"] = msgspec.convert(row.positions, list[PositionValue], strict=False)
    fields["taken_at"] = row.taken_at.astimezone(EPOCH.tzinfo)
    return Snapshot(**fields)
