"""Wallets: several of each user, one of them primary, each of one user only."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import psycopg
import pytest

from novadex.errors import ConflictError, NotFoundError, PermissionDeniedError, ValidationError
from novadex.ids import uuid7
from novadex.storage.connection import DatabaseConnection
from novadex.users.records import User
from novadex.users.service import WALLETS_MAX, UserService
from tests.conftest import DatabasePair
from tests.integration.users.people import EVM, SOLANA, as_role, evm_address, outcome, solana_address
from tests.payloads import PAYLOADS
from tests.waiting import until


def addresses(user: User) -> list[str]:
    return [wallet.address for wallet in user.wallets]


def one_primary(databases: DatabasePair) -> bool:
    """Whether each user who has wallets has exactly one primary one."""
    with psycopg.connect(databases.main_url(None)) as connection:
        rows = connection.execute(
            "SELECT count(*) FILTER (WHERE is_primary) FROM wallets GROUP BY user_id"
        ).fetchall()
    return all(row == (1,) for row in rows)


async def test_the_first_wallet_is_the_primary_one_and_comes_first(service: UserService, elsewhere: UserService):
    user = await service.create_user()
    assert user.wallet_address is None
    user = await service.add_wallet(user.id, EVM[0].lower())
    user = await service.add_wallet(user.id, SOLANA)
    user = await service.add_wallet(user.id, EVM[1], primary=True)
    assert addresses(user) == [EVM[1], EVM[0], SOLANA]
    assert [wallet.is_primary for wallet in user.wallets] == [True, False, False]
    assert [wallet.chain for wallet in user.wallets] == ["evm", "evm", "solana"]
    assert user.wallet_address == EVM[1]
    for address in (*EVM[:2], SOLANA):
        assert await elsewhere.get_user_by_wallet(address) == user


async def test_a_wallet_is_added_once(service: UserService):
    user = await service.create_user(wallet_address=EVM[0])
    again = await service.add_wallet(user.id, EVM[0].lower())
    assert again == user
    moved = await service.add_wallet(user.id, EVM[1])
    assert addresses(await service.add_wallet(user.id, EVM[1], primary=True)) == [EVM[1], EVM[0]]
    assert {wallet.id for wallet in moved.wallets} == {
        wallet.id for wallet in (await service.get_user(user.id)).wallets
    }


async def test_the_primary_wallet_moves(service: UserService, elsewhere: UserService, fresh_databases: DatabasePair):
    user = await service.create_user(wallet_address=EVM[0])
    for address in (EVM[1], EVM[2]):
        user = await service.add_wallet(user.id, address)
    for address in (EVM[2], EVM[2].lower(), EVM[1], EVM[0], EVM[0]):
        user = await service.set_primary_wallet(user.id, address)
        assert user.wallet_address is not None
        assert user.wallet_address.lower() == address.lower()
        assert sum(wallet.is_primary for wallet in user.wallets) == 1
        assert one_primary(fresh_databases)
    for address in (EVM[3], SOLANA):
        with pytest.raises(NotFoundError, match="no such wallet"):
            await service.set_primary_wallet(user.id, address)
    assert await elsewhere.get_user(user.id) == user


async def test_without_the_primary_wallet_the_oldest_takes_its_place(
    service: UserService, fresh_databases: DatabasePair
):
    user = await service.create_user(wallet_address=EVM[0])
    for address in (EVM[1], EVM[2]):
        await service.add_wallet(user.id, address)
    user = await service.remove_wallet(user.id, EVM[0].lower())
    assert addresses(user) == [EVM[1], EVM[2]]
    user = await service.remove_wallet(user.id, EVM[2])
    assert addresses(user) == [EVM[1]]
    assert one_primary(fresh_databases)
    with pytest.raises(NotFoundError, match="no such wallet"):
        await service.remove_wallet(user.id, EVM[0])


async def test_a_wallet_that_was_removed_is_free(service: UserService, elsewhere: UserService):
    ada = await service.create_user(wallet_address=EVM[0])
    bea = await elsewhere.create_user()
    assert (await elsewhere.get_user_by_wallet(EVM[0])).id == ada.id
    with pytest.raises(ConflictError):
        await elsewhere.add_wallet(bea.id, EVM[0])
    await service.remove_wallet(ada.id, EVM[0])
    with pytest.raises(NotFoundError):
        await service.get_user_by_wallet(EVM[0])
    await elsewhere.add_wallet(bea.id, EVM[0])
    assert (await elsewhere.get_user_by_wallet(EVM[0])).id == bea.id
    await until(lambda: _holds(service, bea))


async def _holds(service: UserService, user: User) -> bool:
    found = await outcome(service.get_user_by_wallet(EVM[0]))
    return isinstance(found, User) and found.id == user.id


async def test_users_keep_their_last_wallet_and_staff_may_take_it(service: UserService, here: DatabaseConnection):
    user, as_user = await as_role(service, here, "trader")
    await service.add_wallet(user.id, EVM[0])
    await service.add_wallet(user.id, EVM[1])
    await as_user.set_primary_wallet(user.id, EVM[1])
    await as_user.remove_wallet(user.id, EVM[0])
    with pytest.raises(ConflictError, match="only wallet") as refused:
        await as_user.remove_wallet(user.id, EVM[1])
    assert refused.value.details["field"] == "wallet_address"
    with pytest.raises(PermissionDeniedError):
        await as_user.add_wallet(user.id, EVM[2])  # without a signature
    assert addresses(await service.remove_wallet(user.id, EVM[1])) == []


async def test_nobody_can_take_a_wallet_of_somebody_else_by_naming_it(service: UserService, here: DatabaseConnection):
    owner = await service.create_user(wallet_address=EVM[0])
    me, as_me = await as_role(service, here, "trader")
    await service.add_wallet(me.id, EVM[1])
    await service.add_wallet(me.id, EVM[2])
    for call in (as_me.remove_wallet(me.id, EVM[0]), as_me.set_primary_wallet(me.id, EVM[0])):
        with pytest.raises(NotFoundError):
            await call
    for call in (as_me.remove_wallet(owner.id, EVM[0]), as_me.set_primary_wallet(owner.id, EVM[0])):
        with pytest.raises(PermissionDeniedError):
            await call
    assert await service.get_user(owner.id) == owner


@pytest.mark.parametrize("method", ["add_wallet", "remove_wallet", "set_primary_wallet"])
async def test_what_is_no_address_is_refused_everywhere(service: UserService, method: str):
    user = await service.create_user(wallet_address=EVM[0])
    wrong: list[Any] = [*PAYLOADS, None, 1, 10**5000, [], {}, b"", EVM[0].swapcase(), EVM[0][:-1], ""]
    for address in wrong:
        for call in (getattr(service, method)(user.id, address), service.get_user_by_wallet(address)):
            refused = await outcome(call)
            assert isinstance(refused, ValidationError), address
            assert refused.field == "wallet_address"
    for chain in ("bitcoin", "EVM", "", "evm:1", 1, *PAYLOADS[:50]):
        refused = await outcome(getattr(service, method)(user.id, EVM[0], chain=chain))
        assert isinstance(refused, ValidationError)
        assert refused.field == "chain"
    assert await service.get_user(user.id) == user


async def test_many_at_once_leave_one_primary_wallet(
    service: UserService, elsewhere: UserService, fresh_databases: DatabasePair
):
    """Two processes add, remove and set the same few wallets of two users, all at once."""
    users = [(await service.create_user()).id for _ in range(2)]
    pool = [*(evm_address(number) for number in range(1, 5)), *(solana_address(number) for number in range(1, 3))]
    chance = random.Random(5)  # noqa: S311 - the same every time

    def step() -> Any:
        process = chance.choice((service, elsewhere))
        user, address = chance.choice(users), chance.choice(pool)
        return chance.choice(
            (
                lambda: process.add_wallet(user, address, primary=chance.random() < 0.5),
                lambda: process.set_primary_wallet(user, address),
                lambda: process.remove_wallet(user, address),
            )
        )()

    done = 0
    for _ in range(15):
        for answer in await asyncio.gather(*(outcome(step()) for _ in range(20))):
            assert isinstance(answer, User | NotFoundError | ConflictError), answer
            done += isinstance(answer, User)
        assert one_primary(fresh_databases)
    assert done > 50
    for user in users:
        await until(lambda user=user: _agree(service, elsewhere, user))


async def _agree(service: UserService, elsewhere: UserService, user: Any) -> bool:
    return await service.get_user(user) == await elsewhere.get_user(user)


async def test_a_user_has_so_many_wallets_and_no_more_also_where_several_add_at_once(
    service: UserService, elsewhere: UserService
):
    user = await service.create_user(wallet_address=evm_address(1))
    for number in range(2, WALLETS_MAX):
        await service.add_wallet(user.id, evm_address(number))
    answers = await asyncio.gather(
        *(
            outcome((service, elsewhere)[number % 2].add_wallet(user.id, evm_address(number)))
            for number in range(WALLETS_MAX, WALLETS_MAX + 6)
        )
    )
    refused = [answer for answer in answers if isinstance(answer, ConflictError)]
    assert len(refused) == 5
    assert {error.details["field"] for error in refused} == {"wallet_address"}
    found = await service.get_user(user.id)
    assert len(found.wallets) == WALLETS_MAX
    assert await service.add_wallet(user.id, found.wallets[-1].address) == found, "what is there is added again"
    await service.remove_wallet(user.id, found.wallets[-1].address)
    assert len((await service.add_wallet(user.id, SOLANA)).wallets) == WALLETS_MAX


async def test_a_wallet_that_plain_sql_wrote_otherwise_is_taken_all_the_same(
    service: UserService, fresh_databases: DatabasePair
):
    holder = await service.create_user()
    with psycopg.connect(fresh_databases.main_url("app"), autocommit=True) as connection:
        connection.execute(
            "INSERT INTO wallets (id, user_id, chain, address, is_primary) VALUES (%s, %s, 'evm', %s, true)",
            (uuid7(), holder.id, EVM[0].lower()),
        )
    with pytest.raises(ConflictError) as taken:
        await service.create_user(wallet_address=EVM[0])
    assert taken.value.details["field"] == "wallet_address"
