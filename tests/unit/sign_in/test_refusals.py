"""Whatever is not exactly right is refused: every case by name."""

from __future__ import annotations

from typing import Any

import pytest

from novadex.errors import NotAuthenticatedError, ValidationError
from novadex.instance import Endpoints
from novadex.settings import Settings
from novadex.sign_in.message import CHAINS, Chain
from novadex.sign_in.service import SignInService
from novadex.storage.connection import DatabaseConnection
from tests.unit.sign_in.negatives import (
    CASES,
    DOMAIN,
    MESSAGE_CASES,
    NOW,
    SIGNATURE_CASES,
    good_message,
)
from tests.unit.sign_in.wallets import wallet


@pytest.fixture
def service() -> SignInService:
    """Verifies without a server: the databases are never opened."""
    settings = Settings(NOVADEX_SIGN_IN_DOMAIN=DOMAIN)  # pyright: ignore[reportCallIssue] - by alias
    url = "postgresql://nobody@localhost:1/none"
    return SignInService(DatabaseConnection(Endpoints(url, url, "", ""), settings), clock=lambda: NOW)


@pytest.mark.parametrize("chain", CHAINS)
def test_a_good_message_is_accepted(service: SignInService, chain: Chain):
    message = good_message(chain)
    text = message.render()
    assert service.verify(text, wallet(chain).sign(text)) == message


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused(service: SignInService, name: str):
    chain, change = CASES[name]
    attempt = change(good_message(chain))
    with pytest.raises((ValidationError, NotAuthenticatedError)) as refusal:
        service.verify(attempt.message, attempt.signature)
    assert refusal.value.hint or isinstance(refusal.value, ValidationError)
    # Of what was sent nothing is repeated.
    assert len(attempt.signature) < 8 or attempt.signature not in str(refusal.value)
    assert wallet(chain).address not in str(refusal.value)


@pytest.mark.parametrize("name", [name for name in MESSAGE_CASES if not name.startswith("address of another")])
def test_a_bad_message_is_refused_before_its_signature_is_looked_at(service: SignInService, name: str):
    chain, change = MESSAGE_CASES[name]
    with pytest.raises((ValidationError, NotAuthenticatedError)) as refusal:
        service.verify(change(good_message(chain)).message, "no signature")
    assert getattr(refusal.value, "field", "message") == "message"


def test_no_case_was_lost():
    assert len(MESSAGE_CASES) >= 120
    assert len(SIGNATURE_CASES) >= 50


def test_what_is_optional_can_be_left_out(service: SignInService):
    for chain in CHAINS:
        cases: list[dict[str, Any]] = [
            {},
            {"statement": None},
            {"not_before": None},
            {"request_id": None},
            {"request_id": ""},
            {"resources": None},
            {"resources": ()},
            {"statement": None, "not_before": None, "request_id": None, "resources": None},
            {"uri": f"https://{DOMAIN}"},
            {"uri": f"https://{DOMAIN}/a%20b?x=1#c"},
            {"issued_at": "2024-08-08T14:00:00.123456+02:00"},
        ]
        for fields in cases:
            text = good_message(chain, **fields).render()
            assert service.verify(text, wallet(chain).sign(text)).render() == text
    text = good_message("evm", scheme="https").render()
    assert service.verify(text, wallet("evm").sign(text)).scheme == "https"
