"""Whatever two processes do to a few users, one after the other: each look-up says what a simple model says.

The process that changed something sees it at once, also what it looked up before; the other one within the lease of
the caches. The model: a username, an email address and a wallet are of one user who is not erased.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from novadex.errors import AccessError, ConflictError, NotFoundError
from novadex.users.records import User
from novadex.users.service import UserService
from tests.conftest import DatabasePair
from tests.waiting import until

NAMES = WALLETS = 3
"""Few, so that they meet."""
WITHIN_S = 2.0

choices = st.none() | st.integers(0, NAMES - 1)
creating = st.fixed_dictionaries(
    {
        "do": st.just("create"),
        "username": choices,
        "email": choices,
        "wallet": choices,
        "personal": st.none() | st.integers(0, 9),
    }
)
changing = st.fixed_dictionaries(
    {
        "do": st.sampled_from(
            [
                *("username", "email", "personal", "preferences", "role"),
                *("add_wallet", "add_primary", "remove_wallet", "set_primary"),
                *("deactivate", "reactivate", "erase"),
            ]
        ),
        "user": st.integers(0, 3),
        "value": choices,
    }
)
steps = st.lists(st.tuples(st.integers(0, 1), creating | changing), min_size=1, max_size=14)


@dataclass(eq=False)
class Person:
    """What the model knows of a user."""

    id: UUID
    username: str | None = None
    email: str | None = None
    personal: dict[str, str] | None = None
    preferences: dict[str, Any] = field(default_factory=dict)
    role: str = "user"
    status: str = "active"
    wallets: list[str] = field(default_factory=list)
    """In the order in which they were added."""
    primary: str | None = None

    def shown(self) -> tuple[Any, ...]:
        order = sorted(self.wallets, key=lambda wallet: (wallet != self.primary, self.wallets.index(wallet)))
        return (
            self.id,
            self.username,
            self.email,
            self.personal,
            self.preferences,
            self.role,
            self.status,
            [(wallet, wallet == self.primary) for wallet in order],
        )


def shown(user: User) -> tuple[Any, ...]:
    return (
        user.id,
        user.username,
        user.email,
        user.personal,
        user.preferences,
        user.role,
        user.status,
        [(wallet.address, wallet.is_primary) for wallet in user.wallets],
    )


class Model:
    """Users of one example, and names that no other example has."""

    def __init__(self, number: int) -> None:
        self.people: list[Person] = []
        self.usernames = [f"u{number}-{name}" for name in range(NAMES)]
        self.emails = [f"U{number}-{name}@example.com" for name in range(NAMES)]
        digits = f"{number:030d}"
        self.wallets = [f"0x{digits}{wallet:010d}" for wallet in range(WALLETS)]  # digits have no capitals

    def holder(self, kind: str, value: str) -> Person | None:
        for person in self.people:
            if value in person.wallets if kind == "wallet" else getattr(person, kind) == value:
                return person
        return None

    def taken(self, but: Person | None = None, **values: str | None) -> set[str]:
        """Which of these somebody else has, by the name of the field."""
        named = {"wallet": "wallet_address"}
        return {
            named.get(kind, kind)
            for kind, value in values.items()
            if value is not None and self.holder(kind, value) not in {None, but}
        }

    async def take(self, service: UserService, step: dict[str, Any]) -> None:
        """One step in both worlds; they must agree on whether it is possible."""
        if step["do"] == "create":
            await self._create(service, step)
        elif self.people:
            await self._change(service, step["do"], self.people[step["user"] % len(self.people)], step["value"])

    async def _create(self, service: UserService, step: dict[str, Any]) -> None:
        username, email, wallet = (
            pool[step[kind]] if step[kind] is not None else None
            for kind, pool in (("username", self.usernames), ("email", self.emails), ("wallet", self.wallets))
        )
        personal = {"note": str(step["personal"])} if step["personal"] is not None else None
        taken = self.taken(username=username, email=email, wallet=wallet)
        call = service.create_user(username=username, email=email, wallet_address=wallet, personal=personal)
        if taken:
            with pytest.raises(ConflictError) as refused:
                await call
            assert refused.value.details["field"] in taken
            return
        made = await call
        person = Person(made.id, username, email, personal, wallets=[wallet] if wallet else [], primary=wallet)
        self.people.append(person)
        assert shown(made) == person.shown()

    async def _change(self, service: UserService, do: str, person: Person, value: int | None) -> None:
        if do == "erase":
            await service.erase_user(person.id)
            erased = Person(person.id, role=person.role, status="erased")
            person.__dict__.update(erased.__dict__)
            return
        if do in {"deactivate", "reactivate"}:
            call = getattr(service, f"{do}_user")(person.id)
            if person.status == "erased":
                with pytest.raises(ConflictError):
                    await call
                return
            person.status = {"deactivate": "deactivated", "reactivate": "active"}[do]
            assert shown(await call) == person.shown()
            return
        if do == "role":
            person.role = ("user", "trader", "support")[value or 0]
            assert shown(await service.change_role(person.id, person.role)) == person.shown()
            return
        await self._change_active(service, do, person, value)

    async def _change_active(self, service: UserService, do: str, person: Person, value: int | None) -> None:
        """What only an active user can have changed."""
        wallet = self.wallets[value or 0]
        fields: dict[str, Any] = {
            "username": self.usernames[value] if value is not None else None,
            "email": self.emails[value] if value is not None else None,
            "personal": {"note": str(value)} if value is not None else None,
            "preferences": {"value": value},
        }
        error = self._expected_error(do, person, wallet, fields.get(do))
        if do in fields:
            call = service.update_user(person.id, **{do: fields[do]})
        elif do in {"add_wallet", "add_primary"}:
            call = service.add_wallet(person.id, wallet, primary=do == "add_primary")
        elif do == "remove_wallet":
            call = service.remove_wallet(person.id, wallet)
        else:
            call = service.set_primary_wallet(person.id, wallet)
        if error is not None:
            with pytest.raises(error):
                await call
            return
        if do in fields:
            setattr(person, do, fields[do])
        elif do == "remove_wallet":
            person.wallets.remove(wallet)
            if person.primary == wallet:
                person.primary = person.wallets[0] if person.wallets else None
        else:
            if wallet not in person.wallets:
                person.wallets.append(wallet)
            if do != "add_wallet" or person.primary is None:
                person.primary = wallet
        assert shown(await call) == person.shown()

    def _expected_error(self, do: str, person: Person, wallet: str, value: Any) -> type[Exception] | None:
        if person.status != "active":
            return AccessError
        if do in {"username", "email"} and self.taken(person, **{do: value}):
            return ConflictError
        if do in {"add_wallet", "add_primary"} and self.taken(person, wallet=wallet):
            return ConflictError
        if do in {"remove_wallet", "set_primary"} and wallet not in person.wallets:
            return NotFoundError
        return None

    async def differences(self, service: UserService) -> list[str]:
        """Look-ups that say something else than the model."""
        found = [
            f"{person.id}" for person in self.people if shown(await service.get_user(person.id)) != person.shown()
        ]
        for kind, pool, find in (
            ("username", self.usernames, service.get_user_by_username),
            ("email", self.emails, service.get_user_by_email),
            ("wallet", self.wallets, service.get_user_by_wallet),
        ):
            for value in pool:
                holder = self.holder(kind, value)
                try:
                    user = shown(await find(value))
                except NotFoundError:
                    user = None
                if user != (holder.shown() if holder is not None else None):
                    found.append(f"{kind} {value}")
        return found

    async def agrees(self, service: UserService) -> bool:
        return not await self.differences(service)


@pytest.fixture
async def processes(
    fresh_databases: DatabasePair, cache_url: str, sessions_url: str
) -> AsyncIterator[list[UserService]]:
    """Two, with caches of their own and one cache server."""
    here = fresh_databases.connection("app", cache=cache_url, sessions=sessions_url)
    there = fresh_databases.connection("app", cache=cache_url, sessions=sessions_url)
    async with here, there:
        yield [UserService(here), UserService(there)]


numbers = itertools.count(1)


@given(steps)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_look_ups_say_what_the_model_says(
    processes: list[UserService], taken: list[tuple[int, dict[str, Any]]]
):
    model = Model(next(numbers))
    for process, step in taken:
        await model.take(processes[process], step)
        assert await model.differences(processes[process]) == [], step
        other = processes[1 - process]
        await until(lambda other=other: model.agrees(other), WITHIN_S)
    listed = {user.id: user for user in (await processes[0].list_users(limit=1_000)).items}
    for person in model.people:
        assert shown(listed[person.id])[5:] == person.shown()[5:]
