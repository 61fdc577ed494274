"""Verification names every derived row that does not follow from the records, and no other; a rebuild mends it."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from novadex.errors import UnavailableError
from novadex.portfolio import verify
from novadex.portfolio.projection import PortfolioProjection
from novadex.portfolio.transfers import TransferService
from novadex.portfolio.verify import verify_portfolios
from tests.conftest import add_users
from tests.integration.analytics.records import NOON, TradeRow, add_trades, drain

CORRUPTIONS = [
    ("portfolio_holdings", "UPDATE portfolio_holdings SET amount = amount + 1 WHERE kind = 'bought'"),
    ("portfolio_holdings", "DELETE FROM portfolio_holdings WHERE kind = 'fee'"),
    (
        "portfolio_holdings",
        "INSERT INTO portfolio_holdings SELECT user_id, asset_id, 0, 'withdrawal', 1 FROM portfolio_holdings LIMIT 1",
    ),
    (
        "portfolio_holdings",
        "INSERT INTO portfolio_holdings VALUES ('01913469-e23b-7000-8000-00000000ffff', 1, 0, 'deposit', 5)",
    ),
    ("portfolio_flows", "UPDATE portfolio_flows SET amount = -amount WHERE kind = 'deposit'"),
    ("portfolio_flows", "UPDATE portfolio_flows SET hour = hour - interval '1 hour' WHERE kind = 'deposit'"),
    (
        "portfolio_positions",
        "UPDATE portfolio_positions SET realized = realized + 1, fifo_realized = fifo_realized + 1",
    ),
    (
        "portfolio_positions",
        "DELETE FROM portfolio_positions WHERE hour = (SELECT min(hour) FROM portfolio_positions)",
    ),
    ("portfolio_positions", "UPDATE portfolio_positions SET hour = hour + interval '1 day'"),
    ("portfolio_lots", "UPDATE portfolio_lots SET cost = cost / 2 WHERE quantity <> 0"),
    ("portfolio_lots", "DELETE FROM portfolio_lots WHERE quantity = 0"),
    ("portfolio_lots", "UPDATE portfolio_lots SET opened_cost = opened_cost + 1 WHERE quantity = 0"),
    ("portfolio_closings", "UPDATE portfolio_closings SET proceeds = proceeds + 1"),
    (
        "portfolio_closings",
        "DELETE FROM portfolio_closings WHERE lot_id = (SELECT min(lot_id::text)::uuid FROM portfolio_closings)",
    ),
    (
        "portfolio_closings",
        (
            "INSERT INTO portfolio_closings SELECT user_id, market_id, closed_at + interval '1 day', 1, trade_id,"
            " lot_id, 1, 1, 1 FROM portfolio_closings LIMIT 1"
        ),
    ),
]


@pytest.fixture
async def filled(worker_db: Any, db: Any, main_url: Any, market: Any, user: Any) -> PortfolioProjection:
    url = main_url("owner")
    for one in (user, *add_users(url, 2)):
        await TransferService(db).record(user_id=one, kind="deposit", asset="USDT", amount="1000", executed_at=NOON)
        add_trades(
            url,
            *(
                TradeRow(
                    one,
                    market,
                    NOON + timedelta(minutes=7 * n),
                    side="sell" if n % 3 == 2 else "buy",
                    base_amount=Decimal(3 if n % 3 == 2 else 2),
                    price=Decimal(100 + n),
                    fee_amount=Decimal("0.1"),
                    fee_asset=(market.quote_asset_id, "USDT"),
                )
                for n in range(20)
            ),
        )
    projection = PortfolioProjection(worker_db.main, worker_db.settings)
    await drain(projection)
    return projection


async def found_by(worker_db: Any) -> tuple[list[Any], Any]:
    found: list[Any] = []
    report = await verify_portfolios(worker_db.main, found.append)
    assert report.differences == len(found)
    return found, report


async def test_what_follows_from_the_records_is_not_named(filled, worker_db, monkeypatch):
    monkeypatch.setattr(verify, "CHUNK_TRADES", 7)
    monkeypatch.setattr(verify, "USERS_OF_A_PAGE", 2)
    found, report = await found_by(worker_db)
    assert found == []
    assert report.compared["portfolio_lots"] == 3 * 14
    assert all(report.compared.values())


@pytest.mark.parametrize(("table", "corruption"), CORRUPTIONS, ids=range(len(CORRUPTIONS)))
async def test_every_kind_of_corruption_is_named_and_mended_by_a_rebuild(  # noqa: PLR0917 - fixtures
    filled, worker_db, main_url, monkeypatch, table, corruption
):
    monkeypatch.setattr(verify, "CHUNK_TRADES", 7)
    with psycopg.connect(main_url("owner")) as connection:
        assert connection.execute(corruption.encode()).rowcount
    found, _ = await found_by(worker_db)
    assert {difference.what for difference in found} == {table}
    await filled.rebuild_whole()
    found, _ = await found_by(worker_db)
    assert found == []


async def test_without_a_projection_there_is_nothing_to_compare(worker_db):
    with pytest.raises(UnavailableError, match="not begun"):
        await found_by(worker_db)
