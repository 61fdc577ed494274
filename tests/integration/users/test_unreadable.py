"""Users whose personal data cannot be read: they are changed all the same, and what is committed is not reported as
failed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest

from novadex.errors import ConfigurationError, IntegrityFaultError, NovaDexError
from novadex.keys.master_key_file import FILE_NAME
from novadex.sessions.service import SessionService
from novadex.sign_in.service import SignInService
from novadex.storage.connection import DatabaseConnection
from novadex.users.records import User
from novadex.users.service import UserService
from tests.conftest import DatabasePair
from tests.integration.users.people import EVM, SOLANA
from tests.unit.sign_in.negatives import DOMAIN
from tests.unit.sign_in.wallets import wallet

PERSON: dict[str, Any] = {"email": "ada@example.com", "personal": {"full_name": "Ada"}, "username": "ada"}


@pytest.fixture(params=["damaged", "no master keys"])
async def unreadable(
    request: pytest.FixtureRequest, fresh_databases: DatabasePair, cache_url: str, sessions_url: str
) -> AsyncIterator[tuple[DatabaseConnection, User]]:
    """A user whose personal data cannot be read, and a process that cannot."""
    holder = wallet("evm").address
    async with fresh_databases.connection() as db:
        user = await UserService(db).create_user(PERSON, wallet_address=holder)
    there: dict[str, Any] = {"cache": cache_url, "sessions": sessions_url, "sign_in_domain": DOMAIN}
    connection = fresh_databases.connection(**there)
    if request.param == "damaged":
        with psycopg.connect(fresh_databases.main_url(None), autocommit=True) as superuser:
            superuser.execute("UPDATE users SET personal_ciphertext = '\\x0102' WHERE id = %s", (user.id,))
    else:
        (fresh_databases.data_dir / FILE_NAME).unlink()
        connection = fresh_databases.connection(**there)
        (fresh_databases.data_dir / FILE_NAME).unlink()  # asking for the folder made it again
    async with connection as db:
        with pytest.raises((ConfigurationError, IntegrityFaultError)):
            await UserService(db).get_user(user.id)
        yield db, user


async def test_a_committed_change_of_a_user_who_cannot_be_read_is_not_reported_as_failed(
    unreadable: tuple[DatabaseConnection, User],
):
    db, user = unreadable
    users = UserService(db)
    changed = await users.update_user(user.id, username="grace", preferences={"theme": "dark"})
    assert (changed.username, changed.preferences) == ("grace", {"theme": "dark"})
    assert (changed.email, changed.personal) == (None, None)
    assert (await users.change_role(user.id, "trader")).role == "trader"
    assert (await users.add_wallet(user.id, SOLANA)).wallet_address == user.wallet_address
    assert (await users.set_primary_wallet(user.id, SOLANA)).wallet_address == SOLANA
    assert len((await users.add_wallet(user.id, EVM[1])).wallets) == 3
    assert len((await users.remove_wallet(user.id, EVM[1])).wallets) == 2
    assert (await users.deactivate_user(user.id)).status == "deactivated"
    assert (await users.reactivate_user(user.id)).status == "active"
    with pytest.raises(NovaDexError):
        await users.get_user(user.id)


async def test_who_cannot_be_read_signs_in_and_renews_the_proof(unreadable: tuple[DatabaseConnection, User]):
    db, user = unreadable
    service, holder = SignInService(db), wallet("evm")
    challenge = await service.message("evm", holder.address)
    signed_in = await service.sign_in(challenge.message, holder.sign(challenge.message))
    assert (signed_in.user.id, signed_in.user_is_new) == (user.id, False)
    assert (signed_in.user.email, signed_in.user.personal) == (None, None)
    challenge = await service.message("evm", holder.address)
    renewed = await service.reauthenticate(signed_in.session.token, challenge.message, holder.sign(challenge.message))
    assert (await SessionService(db).validate(renewed.token)).user_id == user.id
