"""The projection of portfolios: whatever the order of arrival, and whoever is killed, the sums and lots are exact."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest

from novadex.analytics.projector import Outcome, Step
from novadex.ids import id_at
from novadex.portfolio import applying
from novadex.portfolio.projection import PortfolioProjection
from tests.integration.analytics.records import NOON, TradeRow, add_trades, drain, made_final
from tests.integration.portfolio.naive import (
    Records,
    everything_stored,
    holdings,
    positions,
    stored_holdings,
    stored_positions,
)


def undoing(trade: TradeRow) -> TradeRow:
    other = "sell" if trade.side == "buy" else "buy"
    return replace(trade, id=UUID(int=trade.id.int ^ 1), side=other, fee_amount=-trade.fee_amount)


def undo(connection: psycopg.Connection[Any], trade: TradeRow) -> None:
    row = undoing(trade)
    connection.execute(
        "INSERT INTO trades (id, user_id, market_id, base_decimals, quote_decimals, side, base_amount, quote_amount,"
        " price, fee_amount, fee_asset_id, executed_at, sequence, reverses) SELECT %s, %s, %s, 18, 18, %s, %s, %s,"
        " %s, -fee_amount, fee_asset_id, %s, %s, id FROM trades WHERE id = %s",
        (
            row.id,
            row.user_id,
            row.market.id,
            row.side,
            row.base_amount,
            row.quote_amount,
            row.price,
            row.executed_at,
            row.sequence,
            trade.id,
        ),
    )


def agrees(url: str, *users: UUID) -> None:
    records = Records.read(url, list(users))
    assert stored_holdings(url, list(users)) == holdings(records)
    assert stored_positions(url, list(users)) == positions(records)


@pytest.fixture
def url(main_url: Any) -> str:
    return main_url("owner")


async def test_a_trade_that_comes_late_into_its_moment_takes_its_place_by_sequence(projection, url, market, user):
    first = TradeRow(user, market, NOON, base_amount=Decimal(1), price=Decimal(100), sequence=2)
    add_trades(url, first)
    add_trades(url, TradeRow(user, market, NOON + timedelta(seconds=1), side="sell", price=Decimal(130)))
    await drain(projection)
    assert [c[2:] for c in stored_positions(url, [user])[user, market.id].closings] == [(1, 100, 130)]
    add_trades(url, TradeRow(user, market, NOON, base_amount=Decimal(1), price=Decimal(110), sequence=1))
    await drain(projection)
    assert [c[2:] for c in stored_positions(url, [user])[user, market.id].closings] == [(1, 110, 130)]
    agrees(url, user)


async def test_a_trade_of_the_same_moment_as_the_last_one_and_before_it_counts_as_late(projection, url, market, user):
    add_trades(url, TradeRow(user, market, NOON, price=Decimal(100), sequence=2))
    await drain(projection)
    add_trades(url, TradeRow(user, market, NOON, side="sell", base_amount=Decimal(2), price=Decimal(90), sequence=1))
    await drain(projection)
    agrees(url, user)


async def test_what_undoes_may_stand_in_the_log_before_what_it_undoes(projection, url, market, user):
    """Transaction ids are no causal order: whoever undoes may have begun to write first."""
    bought = TradeRow(user, market, NOON, price=Decimal(100), id=UUID(int=id_at(NOON).int | 1))
    with psycopg.connect(url) as early:
        early.execute("SELECT pg_current_xact_id()")
        add_trades(url, bought)
        undo(early, bought)
    position = await projection.load_state()
    while position is None or not position.applied:
        await PortfolioProjection(
            projection.main, projection.settings.model_copy(update={"projection_batch_max": 1})
        ).step()
        position = await projection.load_state()
    await drain(projection)
    agrees(url, user)
    stored = stored_positions(url, [user])[user, market.id]
    assert (stored.quantity, stored.trades, stored.lots) == (0, 0, [])


async def test_a_trade_that_is_undone_long_after_leaves_no_trace_in_lots(projection, url, market, user):
    trades = add_trades(
        url,
        *(
            TradeRow(
                user,
                market,
                NOON + timedelta(minutes=20 * n),
                side="buy" if n % 3 else "sell",
                price=Decimal(100 + n),
            )
            for n in range(12)
        ),
    )
    await drain(projection)
    for trade in (trades[1], trades[6]):
        with psycopg.connect(url) as connection:
            undo(connection, trade)
        await drain(projection)
        agrees(url, user)
    assert stored_positions(url, [user])[user, market.id].trades == 10


async def test_a_late_trade_of_many_is_put_in_in_chunks(projection, url, market, user, monkeypatch):
    monkeypatch.setattr(applying, "CHUNK_TRADES", 7)
    moments = [NOON + timedelta(seconds=n // 3) for n in range(100)]
    sides = ["sell" if n % 7 > 4 else "buy" for n in range(100)]
    rows = [
        TradeRow(user, market, m, side=s, sequence=n) for n, (m, s) in enumerate(zip(moments, sides, strict=True))
    ]
    add_trades(url, *rows[1:])
    await drain(projection)
    add_trades(url, rows[0])
    await drain(projection)
    agrees(url, user)
    before = everything_stored(url, [user])
    await projection.rebuild_whole()
    assert everything_stored(url, [user]) == before


async def test_amounts_at_their_bounds_are_exact(projection, url, make_market, user):
    atoms = make_market("ATOM/UNIT", 0, 18)
    most = Decimal(2**256 - 1)
    add_trades(url, *(TradeRow(user, atoms, NOON, base_amount=most, price=Decimal(1), sequence=n) for n in range(3)))
    add_trades(
        url,
        TradeRow(
            user, atoms, NOON, side="sell", base_amount=Decimal(7), price=Decimal("0.000000000000000001"), sequence=3
        ),
    )
    await drain(projection)
    agrees(url, user)
    assert stored_positions(url, [user])[user, atoms.id].quantity == 3 * (2**256 - 1) - 7


async def test_accounts_of_the_system_have_no_portfolio(projection, url, market, user):
    add_trades(url, TradeRow(user, market, NOON))
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE users SET kind = 'system', username = 'source:test' WHERE id = %s", (user,))
    await drain(projection)
    assert everything_stored(url, [user]) == {t: [] for t in ("holdings", "flows", "positions", "lots", "closings")}
    state = await projection.load_state()
    assert state is not None
    assert state.applied == 1


async def test_a_projector_that_is_stopped_anywhere_leaves_position_and_effect_together(
    projection, url, market, user, monkeypatch
):
    add_trades(url, *(TradeRow(user, market, NOON, sequence=n) for n in range(5)))
    await made_final(projection.main)
    await projection.step()

    async def killed(*_: Any) -> None:
        raise ConnectionError("killed")

    with monkeypatch.context() as patch:
        patch.setattr("novadex.portfolio.projection.apply_trades", killed)
        with pytest.raises(ConnectionError):
            await projection.step()
    assert everything_stored(url, [user])["holdings"] == []
    await drain(PortfolioProjection(projection.main, projection.settings))
    agrees(url, user)


async def test_a_second_projector_stands_by(projection, url, market, user, worker_db):
    add_trades(url, TradeRow(user, market, NOON))
    await projection.step()
    async with worker_db.main.transaction() as session:
        await session.query(PortfolioProjection.queries.lock_state)
        assert (await projection.step()).outcome is Outcome.NOT_OWNER


async def test_positions_that_somebody_spoiled_are_derived_anew_when_trades_do_not_fit(projection, url, market, user):
    add_trades(url, TradeRow(user, market, NOON, base_amount=Decimal(3)))
    await drain(projection)
    with psycopg.connect(url) as connection:
        connection.execute("DELETE FROM portfolio_lots")
    add_trades(url, TradeRow(user, market, NOON + timedelta(hours=1), side="sell", base_amount=Decimal(2)))
    await drain(projection)
    agrees(url, user)


@pytest.mark.parametrize(
    "change", ["epoch = epoch + 1", "system_identifier = 7", "timeline = 99", "xid = '4611686018427387904'"]
)
async def test_after_another_life_of_main_everyone_is_derived_anew(  # noqa: PLR0917 - fixtures
    projection, url, market, users, user, change
):
    others = users(3)
    for one in (user, *others):
        add_trades(url, TradeRow(one, market, NOON), TradeRow(one, market, NOON, side="sell", price=Decimal(90)))
    await drain(projection)
    with psycopg.connect(url) as connection:
        connection.execute(f"UPDATE main_projections SET {change}".encode())
        connection.execute("UPDATE portfolio_holdings SET amount = amount + 1")
        connection.execute("INSERT INTO portfolio_holdings VALUES (%s, 1, 0, 'deposit', 5)", (id_at(NOON),))
    fresh = PortfolioProjection(projection.main, projection.settings)
    await drain(fresh)
    agrees(url, user, *others)
    add_trades(url, TradeRow(user, market, NOON + timedelta(hours=1)))
    await drain(fresh)
    agrees(url, user, *others)
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(DISTINCT user_id) FROM portfolio_holdings").fetchone()
    assert row == (4,)


async def test_a_rebuild_that_is_killed_goes_on(  # noqa: PLR0917 - fixtures
    projection, url, market, users, user, monkeypatch
):
    monkeypatch.setattr("novadex.portfolio.projection.USERS_OF_A_PAGE", 2)
    everyone = [user, *users(4)]
    for one in everyone:
        add_trades(url, TradeRow(one, market, NOON))
    await drain(projection)
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE portfolio_holdings SET amount = amount + 1")
    await projection.begin_rebuild()
    await projection.step()
    add_trades(url, TradeRow(everyone[0], market, NOON, price=Decimal(7)), TradeRow(everyone[4], market, NOON))
    await drain(PortfolioProjection(projection.main, projection.settings))
    agrees(url, *everyone)


async def test_a_projector_at_work_goes_on_with_a_rebuild_that_another_began(  # noqa: PLR0917 - fixtures
    projection, url, market, users, user, monkeypatch
):
    monkeypatch.setattr("novadex.portfolio.projection.USERS_OF_A_PAGE", 2)
    everyone = [user, *users(4)]
    for one in everyone:
        add_trades(url, TradeRow(one, market, NOON))
    await drain(projection)
    assert projection.state is not None
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE portfolio_holdings SET amount = amount + 1")
    killed = PortfolioProjection(projection.main, projection.settings)
    await killed.begin_rebuild()
    await killed.step()
    for more in ((), (TradeRow(everyone[0], market, NOON, price=Decimal(7)),)):
        add_trades(url, *more)
        while (await projection.step(store_now=True)).outcome is not Outcome.CAUGHT_UP:
            pass
        assert (
            await projection.store.value("SELECT rebuilt_to FROM main_projections WHERE name = 'portfolio'") is None
        )
    await drain(projection)
    agrees(url, *everyone)


async def test_a_rebuild_that_a_worker_takes_part_in_counts_all_users(projection, url, market, users, monkeypatch):
    monkeypatch.setattr("novadex.portfolio.projection.USERS_OF_A_PAGE", 2)
    users(5)
    await projection.step()
    worker = PortfolioProjection(projection.main, projection.settings)
    taken = projection._rebuild_page

    async def after_the_worker() -> Step:
        await worker.step()
        return await taken()

    monkeypatch.setattr(projection, "_rebuild_page", after_the_worker)
    assert await projection.rebuild_whole() == 5
