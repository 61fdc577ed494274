"""Users whose names are cached."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.integration.cache.process import Venue, open_venue


@pytest.fixture
async def venue(fresh_databases, cache_url) -> AsyncIterator[Venue]:
    async with open_venue(fresh_databases, cache_url) as venue:
        yield venue


@pytest.fixture
def alice(users, venue) -> str:
    """The id of a user named alice."""
    user = str(users(1)[0])
    venue.rename(user, "alice")
    return user
