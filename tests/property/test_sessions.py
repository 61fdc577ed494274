"""Any sequence of sign-ins, refreshes, revocations and changes of users, in two processes, ends as a model says.

The model: a session is good, good for a refresh alone, or ended for good. Who shows a replaced token to refresh it,
or later than a moment after its replacement, ends everything that descends from the same sign-in. So does whoever
revokes a session, or signs out with its token, though it was replaced meanwhile.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from novadex.errors import AccessError, RenewalNeededError, SessionEndedError
from novadex.sessions.records import NewSession
from novadex.sessions.service import SessionService
from novadex.users.service import UserService
from tests.conftest import DatabasePair
from tests.waiting import until

SESSIONS_MAX = 3
ROLES = ("user", "trader", "market_maker")
HEARD_WITHIN_S = 5.0
"""How soon is what campaigns measure; here it only has to come."""

steps = st.lists(
    st.fixed_dictionaries(
        {
            "do": st.sampled_from(
                ["create"] * 4
                + ["refresh"] * 4
                + ["steal", "steal", "revoke", "revoke_all", "revoke_all_but", "sign_out", "change_role"]
                + ["deactivate", "reactivate", "plain_sql"]
            ),
            "process": st.integers(0, 1),
            "user": st.integers(0, 1),
            "session": st.integers(0, 30),
            "role": st.integers(0, len(ROLES) - 1),
        }
    ),
    min_size=10,
    max_size=40,
)


@dataclass(eq=False)
class Held:
    """A token that was given out."""

    made: NewSession
    family: UUID
    state: str = "good"
    replaced: bool = False


@dataclass(eq=False)
class Person:
    id: UUID
    role: str = ROLES[0]
    active: bool = True
    held: list[Held] = field(default_factory=list)

    def alive(self) -> list[Held]:
        return [one for one in self.held if one.state != "ended"]


class Model:
    def __init__(self, services: list[SessionService], people: list[Person], url: str) -> None:
        self.services, self.people, self.url = services, people, url

    async def take(self, step: dict[str, Any]) -> None:
        service, person = self.services[step["process"]], self.people[step["user"]]
        users = UserService(service._db)
        match step["do"]:
            case "create" if not person.active:
                with pytest.raises(AccessError):
                    await service.create(person.id)
            case "create":
                for surplus in person.alive()[: -(SESSIONS_MAX - 1)]:
                    surplus.state = "ended"
                made = await service.create(person.id)
                person.held.append(Held(made, made.session.id))
            case "change_role" if person.active:
                role = ROLES[step["role"]]
                await users.change_role(person.id, role)
                if role != person.role:
                    person.role = role
                    for one in person.alive():
                        one.state = "to renew"
            case "deactivate" if person.active:
                await users.deactivate_user(person.id)
                person.active = False
                self._end(person.held)
            case "reactivate" if not person.active:
                await users.reactivate_user(person.id)
                person.active = True
            case "revoke_all":
                ended = await service.revoke_all(person.id)
                assert ended == len(person.alive())
                self._end(person.held)
            case _ if person.held:
                # A stolen token is one that was replaced, where there is one.
                replaced = [one for one in person.held if one.replaced] if step["do"] == "steal" else []
                possible = replaced or person.held
                await self._take_with(service, person, possible[step["session"] % len(possible)], step["do"])
            case _:
                pass

    async def _take_with(self, service: SessionService, person: Person, held: Held, do: str) -> None:
        family = [one for one in person.held if one.family == held.family]
        match do:
            case "refresh" if held.state == "ended":
                with pytest.raises(SessionEndedError):
                    await service.refresh(held.made.token)
                if held.replaced:
                    self._end(family)
            case "refresh":
                renewed = await service.refresh(held.made.token)
                held.state, held.replaced = "ended", True
                person.held.append(Held(renewed, held.family))
            case "revoke":
                await service.revoke(held.made.session.id)
                self._end(family)
            case "sign_out" if held.state != "ended" or (
                held.replaced and any(one in family for one in person.alive())
            ):
                await service.revoke_token(held.made.token)
                self._end(family)
            case "sign_out":
                with pytest.raises(SessionEndedError):
                    await service.revoke_token(held.made.token)
            case "revoke_all_but":
                await service.revoke_all(person.id, but=held.made.session.id)
                self._end([one for one in person.held if one is not held])
            case "plain_sql":
                self._sql(
                    "UPDATE user_sessions SET revoked_at = now(), revoked_reason = 'by hand'"
                    " WHERE id = %s AND revoked_at IS NULL",
                    held,
                )
                self._end([held])
            case "steal" if held.replaced:
                self._sql(
                    "UPDATE user_sessions SET revoked_at = revoked_at - interval '11 seconds' WHERE id = %s", held
                )
                self._end(family)
                for one in family:

                    async def ended(one: Held = one) -> bool:
                        await answer(service, held)  # shows the replaced token
                        return await answer(service, one) == "ended"

                    await until(ended, HEARD_WITHIN_S)
            case _:
                pass

    @staticmethod
    def _end(held: list[Held]) -> None:
        for one in held:
            one.state = "ended"

    def _sql(self, statement: Any, held: Held) -> None:
        with psycopg.connect(self.url) as connection:
            connection.execute(statement, (held.made.session.id,))

    @staticmethod
    async def _heard(service: SessionService, held: Held) -> None:
        async def agrees() -> bool:
            return await answer(service, held) == held.state

        await until(agrees, HEARD_WITHIN_S)

    async def check(self) -> None:
        """Both processes say of every token what the model says, and list what is alive, the newest first."""
        for service in self.services:
            for person in self.people:
                for held in person.held:
                    await self._heard(service, held)
                listed = [session.id for session in await service.list(person.id)]
                assert listed == [held.made.session.id for held in person.alive()][::-1]


async def answer(service: SessionService, held: Held) -> str:
    try:
        view = await service.validate(held.made.token)
    except SessionEndedError:
        return "ended"
    except RenewalNeededError:
        return "to renew"
    assert view.family_id == held.family
    return "good"


@pytest.fixture
async def services(
    fresh_databases: DatabasePair, cache_url: str, sessions_url: str
) -> AsyncIterator[list[SessionService]]:
    """The same as two processes have it."""
    servers = {"cache": cache_url, "sessions": sessions_url, "sessions_per_user_max": SESSIONS_MAX}
    async with fresh_databases.connection(**servers) as one, fresh_databases.connection(**servers) as two:
        yield [SessionService(one), SessionService(two)]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(steps=steps)
async def test_any_sequence_ends_as_the_model_says(
    steps: list[dict[str, Any]], services: list[SessionService], fresh_databases: DatabasePair
):
    people = [Person((await UserService(services[0]._db).create_user()).id) for _ in range(2)]
    model = Model(services, people, fresh_databases.main_url(None))
    for step in steps:
        await model.take(step)
        for person in people:  # what is asked now is in the caches when the next step comes
            for held in person.held[-2:]:
                await answer(services[1 - step["process"]], held)
    await model.check()
