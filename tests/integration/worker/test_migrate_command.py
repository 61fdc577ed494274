"""``novadex migrate``: the schemas come to the step of this version."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import DatabasePair
from tests.integration.monitoring.venue import run_cli, value_of
from tests.servers import PASSWORD, PostgresServer, free_port

STEPS = {
    "main": [
        "0001_roles",
        "0002_records",
        "0003_people",
        "0004_audit",
        "0005_orders",
        "0006_book",
        "0007_liquidity",
        "0008_portfolio",
        "0009_notifications",
        "0010_guards",
    ],
    "analytics": ["0001_roles", "0002_figures", "0003_reversals"],
}


@pytest.fixture
def empty(postgres: PostgresServer) -> Iterator[DatabasePair]:
    """Two databases without a schema."""
    pair = DatabasePair(postgres, "migrate_main", "migrate_analytics")
    for name in (pair.main, pair.analytics):
        postgres.make_database(name, owner="novadex_owner")
    yield pair
    for name in (pair.main, pair.analytics):
        postgres.drop_database(name)


def environment(pair: DatabasePair) -> dict[str, str]:
    return {
        "DATABASE_URL": pair.main_url("app"),
        "ANALYTICS_DATABASE_URL": pair.analytics_url("app"),
        "DATABASE_OWNER_URL": pair.main_url("owner"),
        "ANALYTICS_DATABASE_OWNER_URL": pair.analytics_url("owner"),
        "REDIS_URL": "redis://127.0.0.1:1",
        "REDIS_SESSION_URL": "redis://127.0.0.1:1",
    }


def test_both_databases_are_migrated_once(empty: DatabasePair, tmp_path: Path):
    done = run_cli("migrate", "--json", environment=environment(empty), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"applied": STEPS}
    assert value_of(empty.main_url("readonly"), "SELECT schema_step()") == STEPS["main"][-1]
    again = run_cli("migrate", "--json", environment=environment(empty), folder=tmp_path)
    assert json.loads(again.stdout) == {"applied": {"main": [], "analytics": []}}
    assert "nothing to do" in again.stderr


def test_one_database_can_be_chosen(empty: DatabasePair, tmp_path: Path):
    done = run_cli("migrate", "--database", "analytics", "--json", environment=environment(empty), folder=tmp_path)
    assert json.loads(done.stdout) == {"applied": {"analytics": STEPS["analytics"]}}
    assert value_of(empty.main_url("owner"), "SELECT to_regprocedure('schema_step()') IS NULL")


def test_a_server_that_is_away_is_an_error_without_its_password(empty: DatabasePair, tmp_path: Path):
    away = {"DATABASE_OWNER_URL": f"postgresql://novadex_owner:{PASSWORD}@127.0.0.1:{free_port()}/x"}
    done = run_cli("migrate", "--json", environment=environment(empty) | away, folder=tmp_path)
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["code"] == "UNAVAILABLE"
    assert PASSWORD not in done.stdout + done.stderr


def test_another_database_is_a_wrong_usage(tmp_path: Path):
    done = run_cli("migrate", "--database", "orders", environment={}, folder=tmp_path)
    assert done.returncode == 2
