"""Examples in docstrings that need servers run against the real ones of the tests, found by the environment."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from novadex.keys.master_key_file import FILE_NAME
from novadex.settings import Settings
from novadex.storage.connection import DatabaseConnection
from tests.conftest import (
    DatabasePair,
    binaries_folder,
    cache_server,
    cache_url,
    database_pairs,
    fresh_databases,
    make_postgres,
    make_valkey,
    postgres,
    postgres_binaries,
    servers_folder,
    sessions_server,
    sessions_url,
    template_databases,
)

EXAMPLES = frozenset({"novadex.users.service.UserService"})
"""They run against servers; all others need none."""

__all__ = [
    "binaries_folder",
    "cache_server",
    "cache_url",
    "database_pairs",
    "fresh_databases",
    "make_postgres",
    "make_valkey",
    "postgres",
    "postgres_binaries",
    "servers_folder",
    "sessions_server",
    "sessions_url",
    "template_databases",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.DoctestItem) and item.name in EXAMPLES:
            item.fixturenames.append("_instance_in_the_environment")


@pytest.fixture
def _instance_in_the_environment(
    fresh_databases: DatabasePair,
    cache_url: str,
    sessions_url: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[None]:
    """What a program of the venue finds: the URLs of its servers, the file of the master keys, nothing else."""
    for field in Settings.model_fields.values():
        monkeypatch.delenv(str(field.alias), raising=False)
    monkeypatch.setitem(Settings.model_config, "env_file", None)
    # The default folder of this machine may hold an instance that runs.
    nowhere = tmp_path_factory.mktemp("data")
    monkeypatch.setattr("novadex.instance.default_data_dir", lambda: nowhere)
    for name, value in {
        "DATABASE_URL": fresh_databases.main_url(),
        "ANALYTICS_DATABASE_URL": fresh_databases.analytics_url(),
        "REDIS_URL": cache_url,
        "REDIS_SESSION_URL": sessions_url,
        "NOVADEX_MASTER_KEY_FILE": str(fresh_databases.data_dir / FILE_NAME),
        "NOVADEX_ERASURE_FILE": str(fresh_databases.data_dir / "erasures.jsonl"),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(DatabaseConnection, "_instance", None)
    yield
    asyncio.run(DatabaseConnection.get_instance().close())  # where the example failed before it did this
