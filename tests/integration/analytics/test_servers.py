"""The same figures on every kind of server: PostgreSQL 15, mixed versions, and behind a PgBouncer's rules."""

import pytest

from novadex import AnalyticsService
from novadex.analytics.catch_up import catch_up
from novadex.analytics.projection import TradeProjection
from novadex.analytics.rebuild import rebuild_trades
from novadex.analytics.verify import verify_trades
from novadex.instance import Endpoints
from novadex.settings import load_settings
from novadex.storage.connection import DatabaseConnection
from novadex.storage.migrations import migrate
from tests.conftest import add_market, add_users
from tests.integration.analytics.records import (
    NOON,
    Venue,
    expected_figures,
    make_partitions,
    stored_figures,
)
from tests.servers import debian_binaries


@pytest.fixture(scope="module")
def postgres_15(make_postgres):
    binaries = debian_binaries(15)
    if binaries is None:
        pytest.skip("Debian's package postgresql-15 is not installed.")
    return make_postgres(binaries=binaries)


async def project_and_verify(venue, endpoints, **settings):
    trades = venue.record(*venue.random_trades(300, seed=1), *venue.random_trades(10, seed=2))
    async with DatabaseConnection(endpoints, load_settings(projection_batch_max=100, **settings)) as db:
        await catch_up(TradeProjection(db.main, db.analytics, db.settings))
        assert await stored_figures(db) == expected_figures(trades)
        found = []
        await verify_trades(db.main, db.analytics, found.append)
        assert not found
        await rebuild_trades(db.main, db.analytics, db.settings)
        await verify_trades(db.main, db.analytics, found.append)
        assert not found
        (day,) = await AnalyticsService(db).get_candles("BTC/USDT", "1d")
        assert day.trades == len(trades)
        assert await AnalyticsService(db).get_trading_analytics(venue.user)


@pytest.mark.parametrize(("main_on", "analytics_on"), [("15", "15"), ("15", "18"), ("18", "15")])
async def test_versions_may_be_old_and_may_differ(main_on, analytics_on, postgres, postgres_15):
    servers = {"15": postgres_15, "18": postgres}
    names = f"main_{main_on}_{analytics_on}", f"analytics_{main_on}_{analytics_on}"
    main, analytics = servers[main_on], servers[analytics_on]
    main.make_database(names[0], owner="novadex_owner")
    analytics.make_database(names[1], owner="novadex_owner")
    try:
        owner = main.url(names[0], "novadex_owner")
        migrate(owner, "main")
        migrate(analytics.url(names[1], "novadex_owner"), "analytics")
        make_partitions(owner, NOON)
        venue = Venue(owner, add_market(owner, "BTC/USDT", 18, 18), add_users(owner, 1)[0])
        urls = main.url(names[0], "novadex_worker"), analytics.url(names[1], "novadex_worker")
        await project_and_verify(venue, Endpoints(*urls, "", ""))
    finally:
        main.drop_database(names[0])
        analytics.drop_database(names[1])


async def test_no_session_state_is_needed(fresh_databases, venue):
    await project_and_verify(venue, fresh_databases.endpoints("worker"), pgbouncer=True)
