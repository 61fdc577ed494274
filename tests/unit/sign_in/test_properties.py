"""For any message: what is rendered is read again as it was, and no changed character is accepted."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from novadex.errors import NotAuthenticatedError, ValidationError
from novadex.instance import Endpoints
from novadex.settings import Settings
from novadex.sign_in.message import CHAINS, Chain, SignInMessage, text_of
from novadex.sign_in.parsing import parse_message
from novadex.sign_in.service import SignInService
from novadex.storage.connection import DatabaseConnection
from tests.unit.sign_in.negatives import DOMAIN, NOW, good_message
from tests.unit.sign_in.wallets import wallet

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
UNRESERVED = LETTERS + "-._~"
SUB_DELIMS = "!$&'()*+,;="
STATEMENT = UNRESERVED + SUB_DELIMS + ":/?#[]@ "

LABELS = st.text(LETTERS + "-", min_size=1, max_size=10).filter(lambda text: text.strip("-") == text)
DOMAINS = st.one_of(
    st.lists(LABELS, min_size=1, max_size=4).map(".".join),
    st.tuples(st.lists(LABELS, min_size=1, max_size=3).map(".".join), st.integers(1, 65_535)).map(
        lambda parts: f"{parts[0]}:{parts[1]}"
    ),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(lambda address: f"[{address}]"),
)
PATHS = st.text(UNRESERVED + SUB_DELIMS + ":@/", max_size=30)
URIS = st.one_of(
    st.builds("https://{}/{}".format, DOMAINS, PATHS),
    st.builds("ipfs://{}".format, st.text(LETTERS, min_size=1, max_size=50)),
    st.builds("urn:{}?{}#{}".format, st.text(LETTERS, min_size=1, max_size=20), PATHS, PATHS),
)
TIMES = st.datetimes(datetime(1970, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC)).map(text_of)  # noqa: DTZ001 - hypothesis wants naive bounds
NONCES = st.text(LETTERS, min_size=8, max_size=64)


@st.composite
def messages(draw: st.DrawFn, chain: Chain) -> SignInMessage:
    evm = chain == "evm"
    return SignInMessage(
        chain=chain,
        domain=draw(DOMAINS),
        address=wallet(chain, draw(st.sampled_from(["alice", "bob", "carol"]))).address,
        uri=draw(URIS),
        chain_id=str(draw(st.integers(1, 10**20 - 1)))
        if evm
        else draw(st.sampled_from(["mainnet", "testnet", "devnet", "localnet", "solana:mainnet", "solana:devnet"])),
        nonce=draw(NONCES),
        issued_at=draw(TIMES),
        expiration_time=draw(st.none() | TIMES),
        not_before=draw(st.none() | TIMES),
        statement=draw(
            st.none()
            | st.text(STATEMENT, min_size=1, max_size=100).filter(lambda text: evm or not text.startswith("URI: "))
        ),
        request_id=draw(st.none() | st.text(UNRESERVED + SUB_DELIMS + ":@", max_size=30)),
        resources=draw(st.none() | st.lists(URIS, max_size=5).map(tuple)),
        scheme=draw(st.none() | st.sampled_from(["https", "http", "app+x"])) if evm else None,
    )


@pytest.mark.parametrize("chain", CHAINS)
@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_what_is_rendered_is_read_again_as_it_was(chain: Chain, data: st.DataObject):
    message = data.draw(messages(chain))
    text = message.render()
    assert parse_message(text) == message


@given(text=st.text(max_size=600))
@settings(max_examples=200, deadline=None)
def test_any_text_is_read_or_refused(text: str):
    try:
        message = parse_message(text)
    except ValidationError:
        return
    assert message.render() == text


@pytest.fixture(scope="module")
def service() -> SignInService:
    url = "postgresql://nobody@localhost:1/none"
    settings = Settings(NOVADEX_SIGN_IN_DOMAIN=DOMAIN)  # pyright: ignore[reportCallIssue] - by alias
    return SignInService(DatabaseConnection(Endpoints(url, url, "", ""), settings), clock=lambda: NOW)


@pytest.mark.parametrize("chain", CHAINS)
@given(
    at=st.integers(0, 10_000),
    other=st.one_of(st.characters(), st.sampled_from(LETTERS + " \n\r\t:.-/")),
    how=st.sampled_from(["replace", "insert", "remove"]),
)
@settings(max_examples=400, deadline=None)
def test_no_changed_character_is_accepted(service: SignInService, chain: Chain, at: int, other: str, how: str):
    text = good_message(chain).render()
    signature = wallet(chain).sign(text)
    at %= len(text)
    end = at if how == "insert" else at + 1
    changed = text[:at] + ("" if how == "remove" else other) + text[end:]
    assume(changed != text)
    with pytest.raises((ValidationError, NotAuthenticatedError)):
        service.verify(changed, signature)


@pytest.mark.parametrize("chain", CHAINS)
def test_no_changed_character_of_a_signature_is_accepted(service: SignInService, chain: Chain):
    text = good_message(chain).render()
    signature = wallet(chain).sign(text)
    for at, sign in enumerate(signature):
        for other in ("0", "1", "f", "z", "A", " "):
            if other.lower() == sign.lower():
                continue
            with pytest.raises((ValidationError, NotAuthenticatedError)):
                service.verify(text, signature[:at] + other + signature[at + 1 :])


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_signing_other_fields_changes_nothing_about_the_rules(data: st.DataObject):
    """Whoever signs whatever fields: what is accepted has a domain, an origin, a chain and times of ours."""
    url = "postgresql://nobody@localhost:1/none"
    service = SignInService(
        DatabaseConnection(Endpoints(url, url, "", ""), Settings(NOVADEX_SIGN_IN_DOMAIN=DOMAIN)),  # pyright: ignore[reportCallIssue]
        clock=lambda: NOW,
    )
    good, drawn = good_message("evm"), data.draw(messages("evm"))
    changes: dict[str, Any] = {
        field.name: getattr(drawn if data.draw(st.booleans()) else good, field.name)
        for field in fields(SignInMessage)
        if field.name not in ("chain", "address")
    }
    message = SignInMessage(chain="evm", address=good.address, **changes)
    text = message.render()
    try:
        accepted = service.verify(text, wallet("evm").sign(text))
    except (ValidationError, NotAuthenticatedError):
        return
    assert accepted == message
    assert (message.domain, message.chain_id, message.scheme in (None, "https")) == (DOMAIN, "1", True)
    assert message.uri.startswith(f"https://{DOMAIN}")
    assert abs(message.issued - NOW) <= timedelta(minutes=5)
    assert message.expires is not None
    assert NOW < message.expires <= message.issued + timedelta(minutes=15)
