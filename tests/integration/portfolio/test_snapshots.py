"""Snapshots: exactly on the hour, from what was executed before it, and they add up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import errors

from novadex.errors import PermissionDeniedError, UnavailableError, ValidationError
from novadex.liquidity.service import LiquidityService
from novadex.portfolio import keeping
from novadex.portfolio.keeping import DELAY, SnapshotKeeper
from novadex.portfolio.projection import PortfolioProjection
from novadex.portfolio.service import PortfolioService
from novadex.portfolio.transfers import TransferService
from novadex.roles.actor import Actor
from tests.integration.analytics.records import NOON, TradeRow, add_trades, drain, make_partitions
from tests.integration.portfolio.naive import Records, holdings, positions

HOUR = timedelta(hours=1)


class Clock:
    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def url(main_url: Any) -> str:
    return main_url("owner")


@pytest.fixture
def transfers(db: Any) -> TransferService:
    return TransferService(db)


@pytest.fixture
def portfolios(db: Any) -> PortfolioService:
    return PortfolioService(db)


async def caught_up(worker_db: Any) -> None:
    await drain(PortfolioProjection(worker_db.main, worker_db.settings))


async def test_the_first_deposit_is_counted_once(transfers, portfolios, worker_db, market, user):
    """Equity is what was brought in; a deposit is no profit, not in the hour of the first one either."""
    await transfers.record(user_id=user, kind="deposit", asset="USDT", amount="1000", executed_at=NOON)
    await caught_up(worker_db)
    for at in (NOON, NOON + timedelta(milliseconds=1), NOON + HOUR):
        value = await portfolios.pnl(user, at=at)
        brought = 0 if at == NOON else 1000
        assert (value.total_value, value.net_transfers, value.profit) == (brought, brought, 0)


async def test_equity_is_net_transfers_and_profit_at_every_snapshot(  # noqa: PLR0917 - fixtures
    transfers, portfolios, worker_db, market, make_market, url, user
):
    """Two markets, one of them quoted in another asset; deposits of several assets; fees, rebates and funding."""
    crossed = make_market("ETH/BTC", 18, 18)
    prices = [Decimal(60_000), Decimal(61_000), Decimal("58000.5"), Decimal(64_000), Decimal("63999.123456")]
    for n, price in enumerate(prices):
        moment = NOON + n * HOUR + timedelta(minutes=17)
        await transfers.record(user_id=user, kind="deposit", asset="BTC", amount=f"0.{n + 1}", executed_at=moment)
        await transfers.record(user_id=user, kind="withdrawal", asset="USDT", amount=n + 1, executed_at=moment)
        await transfers.record(
            user_id=user,
            kind="funding",
            asset="USDT",
            market="BTC/USDT",
            amount=f"{-1 if n % 2 else 2}.5",
            executed_at=moment,
        )
        add_trades(
            url,
            TradeRow(
                user,
                market,
                moment,
                side="sell" if n == 3 else "buy",
                base_amount=Decimal("1.234567890123456789"),
                price=Decimal(price),
                quote_amount=(Decimal("1.234567890123456789") * price).quantize(Decimal("1e-18")),
                fee_amount=Decimal("0.001") * (n - 1),
                fee_asset=(market.base_asset_id, "BTC"),
            ),
            TradeRow(
                user,
                crossed,
                moment,
                side="buy" if n % 2 else "sell",
                base_amount=Decimal(n + 1),
                price=Decimal("0.0500000000000007"),
                fee_amount=Decimal("0.01"),
                fee_asset=(market.quote_asset_id, "USDT"),
            ),
        )
    clock = Clock(NOON + 5 * HOUR + DELAY)
    keeper = SnapshotKeeper(worker_db, clock=clock)
    for n in range(6):
        clock.now = NOON + n * HOUR + DELAY
        await keeper.keep()
    found = (await portfolios.snapshots(user)).items
    assert [s.taken_at for s in found] == [NOON + n * HOUR for n in range(5, -1, -1)]
    records = Records.read(url, [user])
    for snapshot in found:
        rates = {h.asset: Fraction(h.price or 0) for h in snapshot.holdings}
        held = {h.asset: Fraction(h.amount) for h in snapshot.holdings}
        names = {market.base_asset_id: "BTC", market.quote_asset_id: "USDT", crossed.base_asset_id: "ETH"}
        expected = holdings(records, before=snapshot.taken_at)
        assert held == {names[asset]: amount for (_, asset), amount in expected.items()}
        assert Fraction(snapshot.total_value) == sum(held[asset] * rates[asset] for asset in held)
        of_market = {p.market: p for p in snapshot.positions}
        for (_, market_id), position in positions(records, before=snapshot.taken_at).items():
            stored = of_market["BTC/USDT" if market_id == market.id else "ETH/BTC"]
            assert [Fraction(v) for v in (stored.quantity, stored.cost, stored.realized, stored.fifo_realized)] == [
                position.quantity,
                position.cost,
                position.realized,
                position.fifo_realized,
            ]
        earned = (
            snapshot.realized,
            snapshot.unrealized,
            snapshot.fees.copy_negate(),
            snapshot.funding,
            snapshot.pool_profit,
        )
        profit = sum(map(Fraction, earned))
        assert Fraction(snapshot.total_value) == Fraction(snapshot.net_transfers) + profit
        assert Fraction(snapshot.profit) == profit
        assert bool(profit) == (snapshot.taken_at > NOON)


async def test_what_is_in_a_pool_counts_at_its_price(db, transfers, portfolios, worker_db, market, user, url):  # noqa: PLR0917
    """Equity is net transfers and profit while liquidity is in a pool, while it moves, and after it came out."""
    liquidity = LiquidityService(db)
    pool = await liquidity.pools.add("0xpool", market="BTC/USDT", kind="constant_product", fee="0.003")
    for asset, amount in (("BTC", 3), ("USDT", 300)):
        await transfers.record(user_id=user, kind="deposit", asset=asset, amount=amount, executed_at=NOON)
    add_trades(url, TradeRow(user, market, NOON + timedelta(minutes=1), price=Decimal(100)))
    position = await liquidity.open(
        user, pool="0xpool", liquidity=10, base_amount=2, quote_amount=200, executed_at=NOON + timedelta(minutes=2)
    )
    reserves = ((3, 20, 2000), (70, 10, 4000))
    with psycopg.connect(url) as connection:
        for minute, base, quote in reserves:
            connection.execute(
                "INSERT INTO pool_snapshots (pool_id, taken_at, liquidity, base_reserve, quote_reserve, source)"
                " VALUES (%s, %s, 100, %s, %s, 'x')",
                (pool.id, NOON + timedelta(minutes=minute), base, quote),
            )
    await liquidity.collect(position.id, quote_fees="1.5", executed_at=NOON + timedelta(minutes=80))
    await liquidity.close_position(
        position.id, base_amount=1, quote_amount=400, executed_at=NOON + timedelta(minutes=130)
    )
    await caught_up(worker_db)
    found = [await portfolios.pnl(user, at=NOON + n * HOUR, asset="USDT") for n in (1, 2, 3)]
    # Before the first state of the pool: what was put in.
    before = await portfolios.pnl(user, at=NOON + timedelta(minutes=2.5), asset="USDT")
    assert (before.pool_value, before.pool_profit) == (400, 0)
    assert [(s.pool_value, s.pool_profit) for s in found] == [
        (2 * 100 + 200, 0),
        (1 * 100 + 400, 1 * 100 + 400 + Decimal("1.5") - 400),
        (0, 1 * 100 + 400 + Decimal("1.5") - 400),
    ]
    assert [s.total_value for s in found] == [600, Decimal("701.5"), Decimal("701.5")]
    for snapshot in (before, *found):
        assert snapshot.total_value == snapshot.net_transfers + snapshot.profit
        earned = (snapshot.realized, snapshot.unrealized, -snapshot.fees, snapshot.funding, snapshot.pool_profit)
        assert snapshot.profit == sum(earned)
    held = {h.asset: Fraction(h.amount) for h in found[-1].holdings}
    records = Records.read(url, [user])
    names = {market.base_asset_id: "BTC", market.quote_asset_id: "USDT"}
    assert held == {names[asset]: amount for (_, asset), amount in holdings(records).items()}


async def test_what_is_in_a_pool_counts_from_when_it_was_put_in_however_late_that_was_reported(
    db, portfolios, worker_db, market, user
):
    liquidity = LiquidityService(db)
    await liquidity.pools.add("0xpool", market="BTC/USDT", kind="constant_product", fee="0.003")
    await liquidity.record_snapshot("0xpool", liquidity=100, base_reserve=20, quote_reserve=2000, taken_at=NOON)
    position = await liquidity.open(
        user, pool="0xpool", liquidity=10, base_amount=2, quote_amount=200, executed_at=NOON
    )
    for hours, shares in ((3, 4), (2, 5), (1, 6)):
        await liquidity.increase(
            position.id, liquidity=shares, base_amount=0, quote_amount=0, executed_at=NOON + hours * HOUR
        )
    await caught_up(worker_db)
    found = [await portfolios.pnl(user, at=NOON + (n + 0.5) * HOUR, asset="USDT") for n in range(4)]
    # Of 100 shares of 2,000 USDT; nothing prices BTC.
    assert [s.pool_value for s in found] == [200, 320, 420, 500]


async def test_the_database_refuses_a_snapshot_that_does_not_add_up(  # noqa: PLR0917 - fixtures
    portfolios, transfers, worker_db, market, user, url
):
    await transfers.record(user_id=user, kind="deposit", asset="USDT", amount="10", executed_at=NOON)
    await caught_up(worker_db)
    await portfolios.take_snapshot(user, at=NOON + HOUR)
    with psycopg.connect(url) as connection, pytest.raises(errors.CheckViolation, match="adds_up"):
        connection.execute("UPDATE portfolio_snapshots SET realized = realized + 1")


@pytest.mark.parametrize("minutes", [0, 1, 29.5, 30, 59.99999, 60, 61, 119])
async def test_any_moment_is_as_the_records_of_before_say(  # noqa: PLR0917 - fixtures
    portfolios, worker_db, market, user, url, minutes
):
    """Also in the middle of an hour that goes on after it, with lots from before and some of it undone."""
    rows = [
        TradeRow(
            user,
            market,
            NOON + timedelta(minutes=10 * n),
            side="sell" if n in {4, 5, 8} else "buy",
            price=Decimal(90 + 7 * n % 13),
            sequence=n,
        )
        for n in range(12)
    ]
    add_trades(url, *rows)
    await caught_up(worker_db)
    at = NOON + timedelta(minutes=minutes)
    snapshot = await portfolios.pnl(user, at=at)
    at = snapshot.taken_at
    records = Records.read(url, [user])
    expected = positions(records, before=at)
    for position in snapshot.positions:
        wanted = expected[user, market.id]
        assert [
            Fraction(v) for v in (position.quantity, position.cost, position.realized, position.fifo_realized)
        ] == [
            wanted.quantity,
            wanted.cost,
            wanted.realized,
            wanted.fifo_realized,
        ]
    assert bool(snapshot.positions) == bool(expected)
    amounts = {h.asset: Fraction(h.amount) for h in snapshot.holdings}
    names = {market.base_asset_id: "BTC", market.quote_asset_id: "USDT"}
    assert amounts == {names[asset]: amount for (_, asset), amount in holdings(records, before=at).items()}


async def test_a_record_that_comes_late_has_the_snapshots_after_it_taken_anew(
    transfers, portfolios, worker_db, market, user
):
    clock = Clock(NOON + DELAY)
    keeper = SnapshotKeeper(worker_db, clock=clock)
    await transfers.record(user_id=user, kind="deposit", asset="USDT", amount="100", executed_at=NOON - HOUR / 2)
    for n in range(3):
        clock.now = NOON + n * HOUR + DELAY
        assert await keeper.keep() == 1
    assert await keeper.keep() == 0
    late = NOON + HOUR / 2
    await transfers.record(user_id=user, kind="deposit", asset="USDT", amount="7", executed_at=late)
    await caught_up(worker_db)
    assert await keeper.keep() == 2
    found = (await portfolios.snapshots(user)).items
    assert [(s.taken_at, s.total_value) for s in found] == [
        (NOON + 2 * HOUR, 107),
        (NOON + HOUR, 107),
        (NOON, 100),
    ]


async def test_each_stale_moment_is_taken_in_a_transaction_of_its_own_that_may_last(  # noqa: PLR0917 - fixtures
    transfers, portfolios, worker_db, market, user, monkeypatch
):
    clock = Clock(NOON + DELAY)
    keeper = SnapshotKeeper(worker_db, clock=clock)
    await transfers.record(user_id=user, kind="deposit", asset="USDT", amount="100", executed_at=NOON - HOUR)
    for n in range(3):
        clock.now = NOON + n * HOUR + DELAY
        await keeper.keep()
    await transfers.record(user_id=user, kind="deposit", asset="USDT", amount="7", executed_at=NOON - HOUR / 2)
    await caught_up(worker_db)
    timeouts = []

    async def killed(session: Any, users: Any, moment: datetime, asset: Any) -> Any:
        timeouts.append(await session.value("SELECT current_setting('statement_timeout')"))
        if moment == NOON + 2 * HOUR:
            raise ConnectionError("killed")
        return await take(session, users, moment, asset)

    take = keeping.take
    with monkeypatch.context() as patch:
        patch.setattr(keeping, "take", killed)
        with pytest.raises(ConnectionError):
            await keeper.keep()
    assert timeouts == ["1d", "1d", "1d"]
    assert [s.total_value for s in (await portfolios.snapshots(user)).items] == [100, 107, 107]
    assert await keeper.keep() == 1


async def test_hours_of_an_interruption_are_made_up_for(transfers, portfolios, worker_db, market, user):
    clock = Clock(NOON + DELAY)
    keeper = SnapshotKeeper(worker_db, clock=clock)
    await transfers.record(user_id=user, kind="deposit", asset="USDT", amount="100", executed_at=NOON - HOUR)
    await keeper.keep()
    clock.now = NOON + 30 * HOUR
    await keeper.keep()
    taken = [s.taken_at for s in (await portfolios.snapshots(user)).items]
    assert taken == [NOON + n * HOUR for n in range(29, 5, -1)] + [NOON]
    page = await portfolios.snapshots(user, limit=20)
    rest = await portfolios.snapshots(user, limit=20, cursor=page.next)
    assert [s.taken_at for s in page.items + rest.items] == taken
    assert rest.next is None


async def test_a_feed_comes_before_last_trades_until_it_is_an_hour_old(portfolios, worker_db, market, user, url):
    add_trades(url, TradeRow(user, market, NOON, price=Decimal(100)))
    await caught_up(worker_db)
    await portfolios.record_price("BTC/USDT", "120.5", observed_at=NOON - timedelta(minutes=30))
    await portfolios.record_price("BTC/USDT", "120.5", observed_at=NOON - timedelta(minutes=30))

    async def price(at: datetime) -> Any:
        (position,) = (await portfolios.pnl(user, at=at)).positions
        return position.price

    assert await price(NOON + timedelta(minutes=1)) == Decimal("120.5")
    assert await price(NOON + timedelta(minutes=31)) == 100
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO trades SELECT (t).* FROM (SELECT jsonb_populate_record(t, jsonb_build_object('id',"
            " left(t.id::text, 35) || '0', 'side', 'sell', 'reverses', t.id)) AS t FROM trades t) AS r"
        )
    await caught_up(worker_db)
    assert await price(NOON + timedelta(minutes=31)) == Decimal("120.5")


async def test_of_trades_of_one_moment_the_last_by_sequence_is_the_price(portfolios, worker_db, market, user, url):
    add_trades(url, *(TradeRow(user, market, NOON, price=Decimal(100 + n), sequence=n) for n in (3, 9, 4, 8)))
    await caught_up(worker_db)
    (position,) = (await portfolios.pnl(user, at=NOON + HOUR)).positions
    assert position.price == 109


async def test_what_nothing_prices_counts_as_nothing_and_says_so(  # noqa: PLR0917 - fixtures
    transfers, portfolios, worker_db, market, make_market, user
):
    make_market("DOGE/EUR", 8, 2)
    await transfers.record(user_id=user, kind="deposit", asset="DOGE", amount="5", executed_at=NOON)
    await caught_up(worker_db)
    value = await portfolios.pnl(user, at=NOON + HOUR, asset="USDT")
    assert [(h.asset, h.amount, h.price, h.value) for h in value.holdings] == [("DOGE", 5, None, 0)]
    assert (value.total_value, value.net_transfers) == (0, 0)
    assert (await portfolios.pnl(user, at=NOON + HOUR, asset="DOGE")).total_value == 5


async def test_during_a_rebuild_no_snapshot_is_taken(portfolios, worker_db, market, user, url):
    add_trades(url, TradeRow(user, market, NOON))
    projection = PortfolioProjection(worker_db.main, worker_db.settings)
    with pytest.raises(UnavailableError, match="not begun"):
        await portfolios.pnl(user)
    await drain(projection)
    await projection.begin_rebuild()
    with pytest.raises(UnavailableError, match="anew"):
        await portfolios.take_snapshot(user)


async def test_a_moment_is_taken_once(transfers, portfolios, worker_db, market, user):
    await transfers.record(user_id=user, kind="deposit", asset="USDT", amount="100", executed_at=NOON)
    await caught_up(worker_db)
    first = await portfolios.take_snapshot(user, at=NOON + HOUR)
    assert await portfolios.take_snapshot(user, at=NOON + HOUR) == first
    assert (await portfolios.snapshots(user)).items == [first]


async def test_what_is_not_over_is_not_kept(portfolios, worker_db, market, user, url):
    add_trades(url, TradeRow(user, market, NOON))
    await caught_up(worker_db)
    with pytest.raises(ValidationError, match="future") as caught:
        await portfolios.take_snapshot(user, at=datetime.now(UTC) + HOUR)
    assert caught.value.field == "at"
    assert (await portfolios.snapshots(user)).items == []


async def test_full_hours_are_all_valued_as_the_worker_values_them(portfolios, transfers, worker_db, market, user):
    await transfers.record(user_id=user, kind="deposit", asset="USDT", amount="10", executed_at=NOON)
    await caught_up(worker_db)
    with pytest.raises(ValidationError, match="all in USDT") as caught:
        await portfolios.take_snapshot(user, at=NOON + HOUR, asset="BTC")
    assert caught.value.field == "asset"
    other = await portfolios.take_snapshot(user, at=NOON + HOUR / 2, asset="BTC")
    usual = await portfolios.take_snapshot(user, at=NOON + HOUR, asset="USDT")
    await SnapshotKeeper(worker_db, clock=Clock(NOON + HOUR + DELAY)).keep()
    assert (await portfolios.snapshots(user)).items == [usual, other]


async def test_to_read_is_not_to_keep(  # noqa: PLR0917 - fixtures
    portfolios, transfers, worker_db, market, users, user
):
    mine, other = user, users(1)[0]
    for one in (mine, other):
        await transfers.record(user_id=one, kind="deposit", asset="USDT", amount="10", executed_at=NOON)
    await caught_up(worker_db)
    permissions = frozenset({"portfolio.read_own", "portfolio.read_any"})
    for may, owner in ((), mine), (("portfolio.snapshot_own",), other), (("portfolio.snapshot_any",), None):
        acting = portfolios.acting_as(Actor("user:me", mine, "support", permissions.union(may)))
        if owner is not None:
            with pytest.raises(PermissionDeniedError, match="snapshot"):
                await acting.take_snapshot(owner, at=NOON + HOUR)
            assert (await portfolios.snapshots(owner)).items == []
        else:
            assert await acting.take_snapshot(other, at=NOON + HOUR)
    own = portfolios.acting_as(
        Actor("user:me", mine, "user", frozenset({"portfolio.read_own", "portfolio.snapshot_own"}))
    )
    assert (await own.take_snapshot(at=NOON + HOUR)).user_id == mine


async def test_holdings_and_positions_say_where_they_come_from(  # noqa: PLR0917 - fixtures
    transfers, portfolios, worker_db, market, user, url
):
    make_partitions(url, NOON)
    await transfers.record(user_id=user, kind="deposit", asset="USDT", amount="1000", executed_at=NOON)
    mistaken = await transfers.record(user_id=user, kind="withdrawal", asset="USDT", amount="77", executed_at=NOON)
    await transfers.reverse(mistaken.id, note="never left")
    await transfers.record(user_id=user, kind="withdrawal", asset="USDT", amount="50", executed_at=NOON)
    await transfers.record(
        user_id=user, kind="funding", asset="USDT", market="BTC/USDT", amount="-2", executed_at=NOON
    )
    fee = {"fee_amount": Decimal("0.5"), "fee_asset": (market.quote_asset_id, "USDT")}
    add_trades(
        url,
        TradeRow(user, market, NOON, base_amount=Decimal(2), price=Decimal(100), sequence=1, **fee),
        TradeRow(user, market, NOON, base_amount=Decimal(1), price=Decimal(130), sequence=2, **fee),
        TradeRow(user, market, NOON, base_amount=Decimal(1), price=Decimal(150), side="sell", sequence=3),
    )
    await caught_up(worker_db)
    btc, usdt = await portfolios.holdings(user)
    assert (btc.asset, btc.amount, btc.traded) == ("BTC", 2, 2)
    assert (usdt.asset, usdt.amount) == ("USDT", 1000 - 50 - 2 - 200 - 130 + 150 - 1)
    assert (usdt.deposits, usdt.withdrawals, usdt.traded, usdt.fees, usdt.funding) == (1000, 50, -180, 1, -2)
    (position,) = await portfolios.positions(user)
    assert (position.quantity, position.cost, position.realized) == (2, 220, 40)
    assert (position.fifo_cost, position.fifo_realized) == (230, 50)
    assert (position.price, position.unrealized) == (150, 80)
    assert (position.fees, position.funding) == ({"USDT": Decimal(1)}, {"USDT": Decimal(-2)})
    first = await portfolios.lots(user, market="BTC/USDT", limit=1)
    second = await portfolios.lots(user, market="BTC/USDT", limit=1, cursor=first.next)
    assert [(lot.quantity, lot.cost) for lot in first.items + second.items] == [(1, 100), (1, 130)]
    assert second.next is None
    (closing,) = (await portfolios.closings(user, market="BTC/USDT")).items
    assert (closing.quantity, closing.cost, closing.proceeds, closing.realized) == (1, 100, 150, 50)


async def test_closings_page_by_key(portfolios, worker_db, market, user, url):
    sells = [TradeRow(user, market, NOON, side="sell", base_amount=Decimal(2), sequence=n + 9) for n in range(3)]
    add_trades(url, *(TradeRow(user, market, NOON, price=Decimal(100 + n), sequence=n) for n in range(6)), *sells)
    await caught_up(worker_db)
    everything = (await portfolios.closings(user, market="BTC/USDT")).items
    paged, cursor = [], None
    while True:
        page = await portfolios.closings(user, market="BTC/USDT", limit=1, cursor=cursor)
        paged += page.items
        if (cursor := page.next) is None:
            break
    assert paged == everything
    assert len(paged) == 6
    assert isinstance(paged[0].trade_id, UUID)


@pytest.mark.parametrize("table", ["portfolio_lots", "portfolio_closings"])
async def test_a_page_goes_on_where_the_last_row_of_the_one_before_is_gone(  # noqa: PLR0917 - fixtures
    portfolios, worker_db, market, user, url, table
):
    buys = [TradeRow(user, market, NOON, price=Decimal(100 + n), sequence=n) for n in range(8)]
    sells = [TradeRow(user, market, NOON, side="sell", sequence=n + 9) for n in range(4)]
    add_trades(url, *buys, *sells)
    await caught_up(worker_db)
    read = portfolios.lots if table == "portfolio_lots" else portfolios.closings
    everything = (await read(user, market="BTC/USDT")).items
    assert len(everything) == 4
    first = await read(user, market="BTC/USDT", limit=2)
    with psycopg.connect(url) as connection:
        connection.execute(f"DELETE FROM {table} WHERE trade_id = %s".encode(), (first.items[-1].trade_id,))
    assert (await read(user, market="BTC/USDT", cursor=first.next)).items == everything[2:]


@pytest.mark.parametrize(
    "cursor",
    ["", "x", "_", NOON.isoformat(), "2024-08-08_1_x_y", f"{NOON.isoformat()}_{1 << 63}_{UUID(int=7)}_{UUID(int=7)}"],
    ids=["empty", "letter", "separator", "moment", "no ids", "sequence"],
)
async def test_a_cursor_that_is_none_is_refused(portfolios, user, cursor):
    for read in (portfolios.lots, portfolios.closings):
        for text in (cursor, cursor.rpartition("_")[0]):
            with pytest.raises(ValidationError) as caught:
                await read(user, market="BTC/USDT", cursor=text)
            assert caught.value.field == "cursor"
