"""Whatever asks which server it speaks with works on one that does not say, as managed ones may not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from novadex.analytics.projection import TradeProjection
from novadex.audit.sealing import seal
from novadex.book.store import QUERIES as BOOK
from novadex.cache.cache import Caches
from novadex.keys.erasures import SQL as ERASURES
from novadex.notifications.causes import QUERIES as CAUSES
from novadex.portfolio.projection import PortfolioProjection
from novadex.storage.connection import DatabaseConnection
from tests.conftest import DatabasePair
from tests.integration.analytics.records import drain
from tests.waiting import until


@pytest.fixture
def _silent(fresh_databases: DatabasePair) -> None:
    with psycopg.connect(fresh_databases.main_url(None), autocommit=True) as superuser:
        superuser.execute("REVOKE EXECUTE ON FUNCTION pg_control_system(), pg_control_checkpoint() FROM PUBLIC")


@pytest.mark.usefixtures("_silent")
async def test_a_server_that_keeps_its_identity_to_itself_is_served(
    db: DatabaseConnection, worker_db: DatabaseConnection, users: Callable[[int], Any]
) -> None:
    for database in (db, worker_db):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await database.main.query("SELECT system_identifier FROM pg_control_system()")
        assert await database.main.value("SELECT system_identifier()") == 0
    users(2)  # that they were made waits to be sealed
    assert (await seal(db)).rows > 0
    await until(db.companion(Caches).feed.confirm)
    await drain(TradeProjection(worker_db.main, worker_db.analytics, worker_db.settings))
    await drain(PortfolioProjection(worker_db.main, worker_db.settings))
    assert (await worker_db.main.value(BOOK.life)).startswith("main_")  # the database's name stands for the cluster's
    (life,) = await worker_db.main.query(ERASURES.life)
    assert (life.system_identifier, life.timeline) == (0, 1)
    (position,) = await worker_db.main.query(CAUSES.lock_alert_position)
    assert position.system_identifier_now == 0


async def test_a_server_that_says_who_it_is_is_known_by_that(db: DatabaseConnection) -> None:
    said = await db.main.value("SELECT system_identifier FROM pg_control_system()")
    assert await db.main.value("SELECT system_identifier()") == said != 0
