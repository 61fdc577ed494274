"""Fixtures of portfolios."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import pytest

from novadex.portfolio.projection import PortfolioProjection
from novadex.storage.connection import DatabaseConnection
from tests.conftest import MarketRow
from tests.integration.analytics.records import NOON, make_partitions


@pytest.fixture
def projection(worker_db: DatabaseConnection) -> PortfolioProjection:
    """A projector of this test's databases, with the worker's rights."""
    return PortfolioProjection(worker_db.main, worker_db.settings)


@pytest.fixture
def user(main_url: Callable[..., str], market: MarketRow, users: Callable[[int], list[UUID]]) -> UUID:
    """A user; BTC/USDT is there, and a partition for trades at NOON."""
    make_partitions(main_url("owner"), NOON)
    return users(1)[0]
