"""Fixtures of the projection."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import pytest

from novadex.analytics.projection import TradeProjection
from novadex.storage.connection import DatabaseConnection
from tests.conftest import MarketRow
from tests.integration.analytics.records import NOON, Venue, make_partitions


@pytest.fixture
def projection(worker_db: DatabaseConnection) -> TradeProjection:
    """A projector of this test's databases, with the worker's rights."""
    return TradeProjection(worker_db.main, worker_db.analytics, worker_db.settings)


@pytest.fixture
def venue(main_url: Callable[..., str], market: MarketRow, users: Callable[[int], list[UUID]]) -> Venue:
    """BTC/USDT with one user, and a partition for trades at NOON."""
    make_partitions(main_url("owner"), NOON)
    return Venue(main_url("owner"), market, users(1)[0])
