"""Two processes' worth of connections to this test's databases, with caches."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from novadex.storage.connection import DatabaseConnection
from novadex.users.service import UserService
from tests.conftest import DatabasePair


@pytest.fixture
async def here(fresh_databases: DatabasePair, cache_url: str, sessions_url: str) -> AsyncIterator[DatabaseConnection]:
    async with fresh_databases.connection("app", cache=cache_url, sessions=sessions_url) as db:
        yield db


@pytest.fixture
async def there(
    fresh_databases: DatabasePair, cache_url: str, sessions_url: str
) -> AsyncIterator[DatabaseConnection]:
    """As another process has it: caches of its own, the same cache server."""
    async with fresh_databases.connection("app", cache=cache_url, sessions=sessions_url) as db:
        yield db


@pytest.fixture
def service(here: DatabaseConnection) -> UserService:
    return UserService(here)


@pytest.fixture
def elsewhere(there: DatabaseConnection) -> UserService:
    return UserService(there)
