"""A revoked session is refused everywhere at once, whatever is stopped, flushed or killed."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import pytest

from novadex.errors import SessionEndedError
from novadex.sessions.service import SessionService
from novadex.sessions.store import SessionStore
from tests.conftest import DatabasePair
from tests.faults.revocation_campaign import MS_MAX, P99_MS_MAX, TROUBLE, run
from tests.servers import ValkeyServer
from tests.waiting import until

pytestmark = pytest.mark.alone


@pytest.mark.parametrize("seed", [1])
def test_four_processes_refuse_what_was_revoked_within_50_ms_and_at_most_250(seed: int):
    result = run(120, seed)
    assert result.accepted_at_the_end == 0
    assert result.accepted_again == 0
    assert result.refused_wrongly == 0
    assert result.delay_p99_ms <= P99_MS_MAX
    assert result.delay_max_ms <= MS_MAX
    assert result.validations > 10_000
    assert set(result.trouble) == set(TROUBLE), "each happened"


async def test_a_session_server_that_was_killed_and_lost_everything_loses_no_revocation(
    fresh_databases: DatabasePair,
    users: Callable[[int], list[UUID]],
    make_valkey: Callable[[], ValkeyServer],
):
    server = make_valkey()
    [user] = users(1)
    async with (
        fresh_databases.connection(sessions=server.url) as one,
        fresh_databases.connection(sessions=server.url) as two,
    ):
        services = [SessionService(one), SessionService(two)]
        revoked, kept = [await services[0].create(user) for _ in range(2)]
        for service in services:
            for session in (revoked, kept):
                await service.validate(session.token)
        server.kill()  # it keeps nothing on the disk
        await services[0].revoke(revoked.session.id)  # with the server away
        for service in services:
            await until(lambda service=service: _refused(service, revoked.token))
            assert (await service.validate(kept.token)).user_id == user
        server.start()
        caches = [db.companion(SessionStore).cache for db in (one, two)]
        await until(lambda: caches[0]._server.usable)  # it is left alone for a moment
        for cache in caches:
            cache._l1.clear()
        for service in services:
            with pytest.raises(SessionEndedError):
                await service.validate(revoked.token)
            assert (await service.validate(kept.token)).user_id == user
        found = await caches[0]._server.client().dbsize()
        assert found >= 1, "the server was filled again"


async def _refused(service: SessionService, token: str) -> bool:
    try:
        await service.validate(token)
    except SessionEndedError:
        return True
    return False
